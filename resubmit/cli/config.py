"""`config`: checked, or shown whole with every default."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from resubmit.cli.commands import Command
from resubmit.cli.output import Output
from resubmit.cli.reading import add_output
from resubmit.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from resubmit.config import Config


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("do", metavar="check|show", choices=("check", "show"), help="which of the two")
    parser.add_argument(
        "--online", action="store_true", help="check: go through the set-up of Graph's message trace, too"
    )
    add_output(parser)


def _run(args: argparse.Namespace) -> int:
    from resubmit.config import find_config, load

    out = Output(as_json=args.json)
    if args.online and args.do != "check":
        raise UsageError("--online is for config check")
    path = find_config(args.config)
    try:
        config = load(path)
    except ConfigError as error:
        if args.json:
            out.one({"file": str(path), "valid": False, "problems": error.problems, "warnings": []})
        raise
    for warning in config.warnings:
        out.note(f"warning: {warning}")
    if args.do == "check":
        if not args.json:
            out.line(f"{path}: valid")
        code, steps = _online(config, out) if args.online else (0, None)
        if args.json:
            told = {"file": str(path), "valid": True, "problems": [], "warnings": list(config.warnings)}
            out.one(told if steps is None else told | {"online": steps})
        return code
    plain = hidden(config.tables.model_dump(mode="json", exclude_none=True))
    if args.json:
        out.one(plain)
    else:
        out.lines(toml_lines(plain)[1:])  # an empty line stands before each table
    return 0


def _online(config: Config, out: Output) -> tuple[int, list[dict[str, Any]]]:
    if config.evidence.graph is None:
        out.note("there is no [evidence.graph]: nothing to ask online")
        return 0, []
    from resubmit.cli.online import check

    return check(config.evidence.graph, out)


_TABLES = ("route", "destination", "folder", "log")
"""Lists of tables: when there are none, nothing is shown. (`listen = []` says something.)"""


def hidden(value: Any, key: str = "") -> Any:
    """The same without the values of keys that may hold a secret."""
    from resubmit.configproblems import is_secret

    if isinstance(value, dict):
        return {name: hidden(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [hidden(inner, key) for inner in value]
    return "(hidden)" if is_secret(key) and value else value


def toml_lines(tables: dict[str, Any], prefix: str = "") -> list[str]:
    """Plain values as TOML; empty tables and lists of tables are left out."""
    lines: list[str] = []
    deeper: list[str] = []
    for name, value in tables.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            inner = toml_lines(value, f"{key}.")
            own = any(not isinstance(v, dict) and v != [] for v in value.values())
            deeper += ["", f"[{key}]", *inner] if own else inner
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                deeper += ["", f"[[{key}]]", *toml_lines(item, f"{key}.")]
        elif value or name not in _TABLES:
            lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return lines + deeper


COMMANDS = {
    "config": Command(
        _add,
        _run,
        "Checks the config: every problem, one a line, exit 2. Or shows it whole, with every default, paths\n"
        "absolute and secrets hidden.\n"
        "--online goes through the set-up of Graph's message trace, step by step: exit 1 a step is missing,\n"
        "2 a file can't be used, 7 nobody answered.",
        {
            "resubmit config check": "",
            "resubmit config check --online": "says which step is missing, and what to do",
            "resubmit --config /etc/resubmit/config.toml config show": "",
        },
    ),
}
