"""`config`: checked, or shown whole with every default."""

from __future__ import annotations

import argparse
import json
from typing import Any

from resubmit.cli.commands import Command
from resubmit.cli.output import Output
from resubmit.cli.reading import add_output
from resubmit.errors import ConfigError


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("do", metavar="check|show", choices=("check", "show"), help="which of the two")
    add_output(parser)


def _run(args: argparse.Namespace) -> int:
    from resubmit.config import find_config, load

    out = Output(as_json=args.json)
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
        if args.json:
            out.one({"file": str(path), "valid": True, "problems": [], "warnings": list(config.warnings)})
        else:
            out.line(f"{path}: valid")
        return 0
    plain = hidden(config.tables.model_dump(mode="json", exclude_none=True))
    if args.json:
        out.one(plain)
    else:
        out.lines(toml_lines(plain)[1:])  # an empty line stands before each table
    return 0


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
        "absolute and secrets hidden.",
        {
            "resubmit config check": "",
            "resubmit --config /etc/resubmit/config.toml config show": "",
        },
    ),
}
