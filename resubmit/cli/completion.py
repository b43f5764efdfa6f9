"""`completion`: a script for the shell that completes commands, options and their values.

The script holds all it needs, so that pressing Tab starts nothing. It is written from the parsers themselves,
so that it can't name an option that is not there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from resubmit.cli.commands import GROUPS, MODULES, Command
from resubmit.model.evidence import Cause
from resubmit.model.recipient import State

_VALUES = {"--state": tuple(State), "--cause": (*Cause, "none")}
"""Values of options that are no `choices` of argparse, since they take globs too."""
_FILES = ("--config", "--ca-file")
_FOLDERS = ("--out",)


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a command. takes: "" nothing, "file", "folder", "word"; values: those it is one of."""

    flags: tuple[str, ...]
    about: str
    takes: str = ""
    values: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """The first of what its help says."""
        return self.about.split("; ")[0]


@dataclass(frozen=True, slots=True)
class Spoken:
    """A command as it can be typed. words: what its first argument may be, where that is a list; takes_files:
    its arguments are files."""

    name: str
    about: str
    options: tuple[Option, ...]
    words: tuple[str, ...] = ()
    takes_files: bool = False


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=tuple(_SHELLS), help="bash, zsh or fish")


def _run(args: argparse.Namespace) -> int:
    print(_SHELLS[args.shell](spoken()), end="")
    return 0


def spoken() -> list[Spoken]:
    """Every command with its options, in the order of the help."""
    from resubmit.cli.main import find, parser_for

    abouts = {name: about for _, commands in GROUPS for name, _, about in commands}
    return [_spoken(name, abouts[name], parser_for(name, find(name))) for name in MODULES]


def _spoken(name: str, about: str, parser: argparse.ArgumentParser) -> Spoken:
    options: list[Option] = []
    words: tuple[str, ...] = ()
    files = False
    for action in parser._actions:  # argparse has no other way to list what it was given
        if action.help == argparse.SUPPRESS:
            continue
        values = tuple(str(value) for value in action.choices or ())
        if not action.option_strings:
            words = words or values
            files = files or action.dest == "files"
            continue
        options.append(_option(action, values))
    return Spoken(name, about, tuple(options), words, files)


def _option(action: argparse.Action, values: tuple[str, ...]) -> Option:
    flags = tuple(action.option_strings)
    values = values or next((tuple(map(str, _VALUES[f])) for f in flags if f in _VALUES), ())
    takes = ""
    if action.nargs != 0:
        takes = "file" if flags[-1] in _FILES else "folder" if flags[-1] in _FOLDERS else "word"
    # The help of these lists the values, which are completed anyway.
    about = f"of that {flags[-1][2:]}" if flags[-1] in _VALUES else action.help or ""
    return Option(flags, about, takes, values)


# ── bash ──────────────────────────────────────────────────────────────────────────────────────────


def _bash(commands: list[Spoken]) -> str:
    cases = []
    for command in commands:
        flags = " ".join(flag for option in command.options for flag in option.flags)
        first = " ".join(command.words)
        cases.append(f"    {command.name}) options={_quoted(flags)} words={_quoted(first)}"
                     f" files={'yes' if command.takes_files else ''} ;;")  # fmt: skip
    values = []
    seen: set[tuple[str, str]] = set()
    for command in commands:
        for option in command.options:
            for flag in option.flags if option.takes else ():
                key = (command.name if option.values else "*", flag)
                if key in seen:
                    continue
                seen.add(key)
                what = {"file": "-f", "folder": "-d"}.get(
                    option.takes, f"-W {_quoted(' '.join(option.values))}"
                )
                values.append(f'    {key[0]}:{flag}) COMPREPLY=($(compgen {what} -- "$word")); return ;;')
    # The more special pattern has to stand first: case takes the first that fits.
    values.sort(key=lambda line: line.lstrip().startswith("*"))
    names = " ".join(command.name for command in commands)
    return "\n".join(
        [
            "# bash completion for resubmit: source it, or save it as",
            "# ~/.local/share/bash-completion/completions/resubmit",
            "_resubmit() {",
            '  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
            "  local command= options= words= files= i",
            "  for ((i = 1; i < COMP_CWORD; i++)); do",
            '    case "${COMP_WORDS[i]}" in',
            "      --config) i=$((i + 1)) ;;",
            "      -*) ;;",
            '      *) command="${COMP_WORDS[i]}"; break ;;',
            "    esac",
            "  done",
            '  case "$command:$before" in',
            *values,
            "  esac",
            '  case "$command" in',
            *cases,
            f"    *) options='--config --help --version' words={_quoted(names)} ;;",
            "  esac",
            '  if [[ "$word" == -* ]]; then',
            '    COMPREPLY=($(compgen -W "$options" -- "$word"))',
            '  elif [[ -n "$files" ]]; then',
            '    COMPREPLY=($(compgen -f -- "$word"))',
            '  elif [[ -z "$command" || $((COMP_CWORD)) -eq $((i + 1)) ]]; then',
            '    COMPREPLY=($(compgen -W "$words" -- "$word"))',
            "  fi",
            "}",
            "complete -o filenames -F _resubmit resubmit",
            "",
        ]
    )


# ── zsh ───────────────────────────────────────────────────────────────────────────────────────────


def _zsh(commands: list[Spoken]) -> str:
    lines = [
        "#compdef resubmit",
        "# zsh completion for resubmit: save it as _resubmit in a folder of $fpath",
        "_resubmit() {",
        "  local context state line",
        "  typeset -A opt_args",
        "  _arguments -C '--config[the config file]:file:_files' '--help[help]' '--version[the version]' \\",
        "    '1:command:->command' '*::argument:->argument'",
        "  case $state in",
        "    command)",
        "      local -a commands=(",
        *(f"        {_quoted(f'{c.name}:{c.about}')}" for c in commands),
        "      )",
        "      _describe command commands ;;",
        "    argument)",
        "      case $line[1] in",
    ]
    for command in commands:
        specs = [_zsh_option(option) for option in command.options]
        if command.words:
            specs.append(_quoted(f"1:what:({' '.join(command.words)})"))
        if command.takes_files:
            specs.append("'*:file:_files'")
        lines += [f"        {command.name}) _arguments {' '.join(specs)} ;;"]
    return "\n".join([*lines, "      esac ;;", "  esac", "}", '_resubmit "$@"', ""])


def _zsh_option(option: Option) -> str:
    about = option.short.translate(str.maketrans("[]:", "(),"))
    value = ""
    if option.takes:
        how = {"file": "_files", "folder": "_files -/"}.get(option.takes, f"({' '.join(option.values)})")
        value = f":value:{how if option.values or option.takes != 'word' else ' '}"
    specs = [_quoted(f"*{flag}[{about}]{value}") for flag in option.flags]
    return " ".join(specs)


# ── fish ──────────────────────────────────────────────────────────────────────────────────────────


def _fish(commands: list[Spoken]) -> str:
    names = " ".join(command.name for command in commands)
    first = f"complete -c resubmit -n 'not __fish_seen_subcommand_from {names}'"
    lines = [
        "# fish completion for resubmit: save it as ~/.config/fish/completions/resubmit.fish",
        "complete -c resubmit -f",
        "complete -c resubmit -l config -r -F -d 'the config file'",
        *(f"{first} -a {c.name} -d {_quoted(c.about, fish=True)}" for c in commands),
    ]
    for command in commands:
        where = f"complete -c resubmit -n '__fish_seen_subcommand_from {command.name}'"
        for option in command.options:
            flags = " ".join(f"-l {f[2:]}" if f.startswith("--") else f"-s {f[1:]}" for f in option.flags)
            takes = {"": "", "file": " -r -F", "folder": " -x -a '(__fish_complete_directories)'"}.get(
                option.takes, f" -x -a {_quoted(' '.join(option.values))}" if option.values else " -x"
            )
            lines.append(f"{where} {flags}{takes} -d {_quoted(option.short, fish=True)}")
        lines += [f"{where} -a {_quoted(' '.join(command.words))}"] if command.words else []
        lines += [f"{where} -F"] if command.takes_files else []
    return "\n".join([*lines, ""])


def _quoted(text: str, *, fish: bool = False) -> str:
    """In single quotes, for a shell of the Bourne kind or for fish, which escapes within them."""
    inner = text.replace("\\", "\\\\").replace("'", "\\'") if fish else text.replace("'", "'\\''")
    return f"'{inner}'"


_SHELLS: dict[str, Callable[[list[Spoken]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}

COMMANDS = {
    "completion": Command(
        _add,
        _run,
        "A script for the shell that completes commands, options and their values.",
        {
            "resubmit completion bash > ~/.local/share/bash-completion/completions/resubmit": "",
            "resubmit completion zsh > ~/.zfunc/_resubmit": "",
            "resubmit completion fish > ~/.config/fish/completions/resubmit.fish": "",
        },
    ),
}
