"""The page of commands, drawn from the parsers: what each does, its options and its examples."""

from __future__ import annotations

from resubmit.cli.commands import GROUPS
from resubmit.cli.completion import Option, Spoken, spoken
from resubmit.cli.main import find

HEAD = """<!-- Written by docs/generate.py from the commands themselves; change those. -->
# Commands

`resubmit [--config FILE] COMMAND …`; the config is `--config`, else `$RESUBMIT_CONFIG`, else `./config.toml`,
else `/etc/resubmit/config.toml`.

- Reading commands open the journal read-only and work with the service down. Changing commands ask the
  running service, or, where none runs, take the journal's lock and do it themselves.
- `--json` prints one object a line for lists, else one object; fields are only ever added. `-q` prints ids
  only, and `-` reads ids from stdin: with nothing on it, nothing is chosen, whatever the filters say.
- Times are `90s`, `2h`, `1d12h` (ago), `today`, `yesterday`, `HH:MM`, `YYYY-MM-DD[THH:MM[:SS]]` or RFC 3339;
  without a zone they are local, and what they came to is said on stderr.
- Where a command acts on recipients the filters are the same everywhere: a repeated flag is OR, different
  flags are AND, `*` globs.

| exit code | means |
|---|---|
| 0 | done; what stands as asked already is done too |
| 1 | failed; so is an id or number that is not there |
| 2 | usage: the command line, or the config |
| 3 | nothing matched, with `--fail-empty` |
| 4 | not permitted |
| 5 | partly |
| 6 | refused by a safety rule, or it waits for a gate |
| 7 | not reachable |
| 130 | interrupted |

`health` has exit codes of its own (0 ok, 1 warning, 2 critical, 3 unknown).
"""

_EVERYWHERE = ("--help", "--config", "--json")
_FILTERS = (
    "--sender", "--recipient", "--domain", "--message-id", "--subject", "--cause", "--state", "--destination",
    "--incident", "--older-than", "--expiring-in", "--since", "--until",
)  # fmt: skip


def page() -> str:
    """The whole page."""
    said = {command.name: command for command in spoken()}
    lines = [HEAD]
    for title, commands in GROUPS:
        lines.append(f"## To {title}\n")
        for name, _, _ in commands:
            lines += _section(said[name])
    return "\n".join(lines)


def _section(command: Spoken) -> list[str]:
    known = find(command.name)
    lines = [f"### `{command.name}`", "", *known.about.split("\n"), ""]
    flags = {option.flags[-1] for option in command.options}
    filtered = set(_FILTERS) <= flags
    own = [
        o
        for o in command.options
        if o.flags[-1] not in _EVERYWHERE and not (filtered and o.flags[-1] in _FILTERS)
    ]
    lines += [f"- {_flags(option)}: {option.about}" for option in own]
    lines += ["- the filters"] if filtered else []
    lines += [""] if own or filtered else []
    examples = [f"{line}   # {about}" if about else line for line, about in known.examples.items()]
    return [*lines, "```sh", *examples, "```", ""]


def _flags(option: Option) -> str:
    return ", ".join(f"`{flag}`" for flag in option.flags)
