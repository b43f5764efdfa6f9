"""Finds the command, runs it, and turns every error into a line and an exit code: the one place for that.

Exit codes: 0 done, 1 failed, 2 usage, 3 nothing matched (with --fail-empty), 4 not permitted, 5 partly,
6 refused by a safety rule, 7 not reachable, 130 interrupted. No traceback for anything a user can cause.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from resubmit import __version__
from resubmit.cli.commands import MODULES, Command, overview
from resubmit.cli.table import clean, pairs, wrapped
from resubmit.errors import ConfigError, ResubmitError, UsageError

TRACEBACK = "RESUBMIT_TRACEBACK"
"""Set in the environment, an error we did not expect shows where it happened."""

_NO_CHOICE = re.compile(r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)", re.DOTALL)
_UNKNOWN = "unrecognized arguments: "
_MISSING = "the following arguments are required: "

_USAGE = "resubmit [--config FILE] COMMAND …"
_EXAMPLES = {
    "resubmit demo": "see it work, in a minute, without a config",
    "resubmit serve --config config.toml": "run it",
    "resubmit list --stuck": "what waits, and until when",
    "resubmit probe mail.contoso.com": "is TLS well there, and what to do",
    "resubmit replay --since 6h --dry-run": "what a replay would take",
}
_MORE = """`resubmit COMMAND --help` tells of each. The config is --config, else $RESUBMIT_CONFIG, else
./config.toml, else /etc/resubmit/config.toml."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are ours to tell."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(self._told(message), hint=f"see `{self.prog} --help`")

    def _told(self, message: str) -> str:
        """argparse's words as a person would say them; those it does not know stay."""
        if found := _NO_CHOICE.fullmatch(message):
            name, given, choices = found.groups()
            option = f"{name.split('/')[-1]} " if name.startswith("-") else ""
            return f"{option}{given}: it is one of {choices.replace(chr(39), '')}"
        if message.startswith(_UNKNOWN):
            word = message.removeprefix(_UNKNOWN).split()[0]
            if not word.startswith("-"):
                return f"{word}: one argument too many"
            from difflib import get_close_matches

            known = [flag for action in self._actions for flag in action.option_strings]
            near = get_close_matches(word.partition("=")[0], known, n=1)
            return f"there is no option {word}" + (f"; did you mean {near[0]}?" if near else "")
        if message.startswith(_MISSING):
            return f"{message.removeprefix(_MISSING)} is missing"
        return message.removeprefix("argument ")


def run(words: Sequence[str]) -> int:
    """Run a command line (without the program's name); its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started us (`>&-`): what is said goes nowhere
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _dispatch(list(words))
        sys.stdout.flush()
        return code
    except SystemExit as done:  # argparse's --help
        return done.code if isinstance(done.code, int) else 0
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): nothing is left to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ConfigError as error:
        for problem in error.problems:
            _say(problem, prefix="")
        return error.exit_code
    except ResubmitError as error:
        _say(error.message)
        if error.hint:
            _say(error.hint, prefix="  ")
        return error.exit_code
    except OSError as error:
        said = error.strerror or str(error)
        _say(f"{error.filename}: {said}" if error.filename else said)
        return 4 if isinstance(error, PermissionError) else 1
    except Exception as error:
        # A mistake of ours: one line for the person, the rest on demand.
        if os.environ.get(TRACEBACK):
            raise
        _say(f"an error nobody expected: {type(error).__name__}: {error}")
        _say(f"please report it; with {TRACEBACK}=1 in the environment it shows where it happened", "  ")
        return 1


def _dispatch(words: list[str]) -> int:
    before, name, after = _split(words)
    examples = ["examples:", *pairs(_EXAMPLES.items(), _columns()), "", *wrapped(_MORE, _columns())]
    top = Parser(
        prog="resubmit",
        usage=_USAGE,
        allow_abbrev=False,
        description=overview(_columns()),
        epilog="\n".join(examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _global_options(top)
    top.add_argument("--version", action="store_true", help="the version; with --verbose SQLite's too")
    top.add_argument("--verbose", action="store_true", help=argparse.SUPPRESS)
    given = top.parse_args(before, argparse.Namespace(config=None))
    if given.version:
        return _version(verbose=given.verbose)
    if name is None:
        top.print_help()
        return 0 if not words else UsageError.exit_code
    command = find(name)
    parser = parser_for(name, command)
    args = parser.parse_args(after, argparse.Namespace(config=given.config))
    return command.run(args)


def find(name: str) -> Command:
    """The command of that name; its module is imported now. UsageError names the nearest."""
    module = MODULES.get(name)
    if module is None:
        from difflib import get_close_matches

        near = get_close_matches(name, MODULES, n=1)
        raise UsageError(
            f"there is no command {name!r}",
            hint=f"did you mean `resubmit {near[0]}`?" if near else "see `resubmit --help`",
        )
    commands: dict[str, Command] = import_module(f"resubmit.cli.{module}").COMMANDS
    return commands[name]


def parser_for(name: str, command: Command) -> Parser:
    """The parser of one command, with its examples at the end of the help."""
    parser = Parser(
        prog=f"resubmit {name}",
        description="\n".join(wrapped(command.about, _columns())),
        epilog="\n".join(["examples:", *pairs(command.examples.items(), _columns(), at_most=44)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add(parser)
    _global_options(parser)
    return parser


def _columns() -> int:
    """How wide help may be: the terminal's width, within reason."""
    return max(40, min(100, shutil.get_terminal_size((80, 24)).columns))


def _global_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="the config file")


def _split(words: list[str]) -> tuple[list[str], str | None, list[str]]:
    """What stands before the command, the command, what stands after."""
    i = 0
    while i < len(words):
        if not words[i].startswith("-"):
            return words[:i], words[i], words[i + 1 :]
        i += 2 if words[i] == "--config" else 1
    return words, None, []


def _version(*, verbose: bool) -> int:
    print(f"resubmit {__version__}")
    if verbose:
        import platform

        from resubmit.journal.connection import is_sound, sqlite_version

        sound = "sound" if is_sound() else "has the WAL-reset bug; install pysqlite3 or SQLite 3.51.3"
        print(f"SQLite {sqlite_version()} ({sound})")
        print(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    return 0


def _say(text: str, prefix: str = "resubmit: ") -> None:
    print(prefix + clean(text), file=sys.stderr)
