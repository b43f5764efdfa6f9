"""Writes the pages that are drawn from the code and its tables (PAGES names them).

`python -m docs.generate` writes; with `--check` it shows the difference to what it would write and exits 1
if there is one. The words stand in the code's own docstrings, so that they are written once.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from docs import causes, commands_page, findings, gates, states  # noqa: E402
from resubmit import logbook  # noqa: E402
from resubmit.config import LATER, Tables  # noqa: E402
from resubmit.settings import Table  # noqa: E402

HEAD = """<!-- Written by docs/generate.py from the settings' docstrings; change those. -->
# Configuration

One TOML file: `--config FILE`, else `$RESUBMIT_CONFIG`, else `./config.toml`, else
`/etc/resubmit/config.toml`.
`config.example.toml` is a whole one, valid as it stands; `resubmit config check` lists every mistake, and
`resubmit config show` prints what holds, with every default.

- A key that is left out takes its default. A key that is not known is refused, with the nearest known name.
- Every path is relative to the config file.
- Durations are texts like `90s`, `15m`, `24h` or `1d12h`; sizes like `500KiB` or `35MiB`; rates like `300/m`,
  `5/s`, `1000/h` or `unlimited`.
- Secrets stand in files of their own, which the config names.
- A recipient whose domain is in no destination gets `550 5.4.4` at RCPT.
- SQLite before 3.51.3 (but for 3.50.7 and later 3.50, 3.44.6 and later 3.44) can lose committed pages
  when two connections write; `resubmit --version --verbose` says whether the one in use is sound.
"""


def main(arguments: Sequence[str] | None = None, folder: Path = ROOT / "docs") -> int:
    """The exit code: 1 when `--check` finds a page out of date. `folder`: where the pages are."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description="Write the generated pages.")
    parser.add_argument(
        "--check", action="store_true", help="only show what would change; exit 1 if anything"
    )
    only_check = parser.parse_args(arguments).check
    stale = 0
    for name, page in PAGES.items():
        path, text = folder / name, page()
        before = path.read_text("utf-8") if path.exists() else ""
        if not only_check:
            path.write_text(text, "utf-8")
        elif before != text:
            stale += 1
            lines = difflib.unified_diff(
                before.splitlines(), text.splitlines(), name, "generated", lineterm=""
            )
            sys.stderr.write("\n".join(lines) + f"\n{name} is out of date: run python -m docs.generate\n")
    return int(stale > 0)


def configuration() -> str:
    """The whole page."""
    return "\n".join([HEAD, *sections(Tables, "")])


def sections(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """A section for each table of a model, tables within tables after it."""
    for name, field in model.model_fields.items():
        table = table_of(field.annotation)
        path = f"{prefix}{name}"
        later = path in LATER
        if table is None:
            if later:
                yield f"## `[{path}]`\n\nChecked to be a table, warned about and not read yet.\n"
            continue
        several = "list[" in str(field.annotation)
        values = [
            key
            for key, inner in table.model_fields.items()
            if table_of(inner.annotation) is None and f"{path}.{key}" not in LATER
        ]
        if values:
            yield f"## `{'[[' if several else '['}{path}{']]' if several else ']'}`\n"
            yield about(table) + ("\n\nChecked, warned about and not read yet.\n" if later else "\n")
            yield "| key | takes | default | meaning |\n|-|-|-|-|"
            words = docstrings(table)
            for key in values:
                one = table.model_fields[key]
                yield f"| `{key}` | {takes(one)} | {default(table, key)} | {words.get(key, '')} |"
            yield ""
        yield from sections(table, f"{path}.")


def table_of(annotation: Any) -> type[BaseModel] | None:
    """The table behind an annotation, None for a value."""
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return annotation
    return next((t for inner in get_args(annotation) if (t := table_of(inner))), None)


def about(table: type[BaseModel]) -> str:
    """The table's own docstring without the name it begins with."""
    text = inspect.getdoc(table) or ""
    _, colon, rest = text.partition("`: ")
    return (rest[:1].upper() + rest[1:]) if colon else text


def docstrings(table: type[BaseModel]) -> dict[str, str]:
    """What stands under each field in the source, on one line."""
    return states.docstrings(table)


def takes(field: FieldInfo) -> str:
    """What a key takes, in a word or two."""
    text = str(field.annotation)
    literals = [a for arg in (field.annotation, *get_args(field.annotation)) for a in get_args(arg)]
    choices = [a for a in literals if isinstance(a, str)]
    functions = {getattr(getattr(m, "func", None), "__name__", "") for m in field.metadata}
    functions |= {
        getattr(getattr(m, "func", None), "__name__", "")
        for arg in get_args(field.annotation)
        for m in getattr(arg, "__metadata__", ())
    }
    if choices:
        return " ".join(f"`{choice}`" for choice in choices)
    for name, word in (
        ("_span", "duration"),
        ("_wait", "duration, above zero"),
        ("_size", "size"),
        ("_rate", "rate"),
    ):
        if name in functions:
            return word
    if "Network" in text:
        return "networks"
    if "list[str]" in text:
        return "texts"
    if "Path" in text:
        return "path"
    low = next((m.ge for m in field.metadata if hasattr(m, "ge")), None)
    high = next((m.le for m in field.metadata if hasattr(m, "le")), None)
    if field.annotation is bool:
        return "`true` `false`"
    if field.annotation is int:
        return f"number, {low} to {high}" if high is not None else f"number, from {low}"
    return "text"


def default(table: type[BaseModel], key: str) -> str:
    """The default as a config would hold it."""
    field = table.model_fields[key]
    if field.is_required():
        return "**to be given**"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    bare = table.model_construct(**{key: value}).model_dump(mode="json", include={key}, warnings=False)
    shown = bare[key]
    if isinstance(shown, bool):
        return f"`{str(shown).lower()}`"
    if isinstance(shown, list):
        return "`[" + ", ".join(f'"{item}"' for item in shown) + "]`"
    return f"`{shown}`" if isinstance(shown, int) else f'`"{shown}"`'


LOGBOOK = """<!-- Written by docs/generate.py from resubmit/logbook.py; change that. -->
# The log

The service logs to stderr: on a terminal for people, else a JSON object a line (`[log]` in configuration.md).
These are all the events there are.
No line holds a body, a subject or a secret.
`info` means that a state changed, `warning` that a person may look, `error` that a person must.
"""


def log_page() -> str:
    """The whole page of log events, a table a group, as the source groups them."""
    source = inspect.getsource(logbook)
    words = states.words_of(ast.parse(source).body)
    page = [LOGBOOK]
    for line in source.splitlines():
        name = line.partition(" = ")[0]
        if line.startswith("# "):
            page.append(f"\n## {line[2:]}\n\n| event | meaning |\n|-|-|")
        elif name in words:
            page.append(f"| `{getattr(logbook, name)}` | {words[name]} |")
    return "\n".join(page).replace("\n\n\n", "\n\n") + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "causes.md": causes.page,
    "commands.md": commands_page.page,
    "configuration.md": configuration,
    "findings.md": findings.page,
    "gates.md": gates.page,
    "logbook.md": log_page,
    "states.md": states.page,
}
"""The generated pages, by file name."""


if __name__ == "__main__":
    sys.exit(main())
