"""Where the config is and what its TOML says, before anybody judges the values.

Imports nothing heavy: reading commands take the journal's folder from here alone, so that `list` starts
in milliseconds. What the values may be stands in `config.py`.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from resubmit.errors import ConfigError, UsageError

ENVIRONMENT = "RESUBMIT_CONFIG"
HERE = Path("config.toml")
SYSTEM = Path("/etc/resubmit/config.toml")
DEFAULT_JOURNAL = "journal"
"""`[journal] path` where it is left out; `journal/settings.py` says the same, a test compares them."""


def find_config(given: str | Path | None = None) -> Path:
    """The config file: the one given, else $RESUBMIT_CONFIG, else ./config.toml, else the system's.

    UsageError names the places looked at when there is none.
    """
    if given:
        return _existing(Path(given), "--config")
    if named := os.environ.get(ENVIRONMENT):
        return _existing(Path(named), ENVIRONMENT)
    for place in (HERE, SYSTEM):
        if place.is_file():
            return place
    raise UsageError(
        f"no config: neither --config nor {ENVIRONMENT} is given, and there is no ./{HERE} and no {SYSTEM}",
        hint="copy config.example.toml, or say --config FILE",
    )


def read_tables(path: Path) -> dict[str, Any]:
    """The TOML of a config as plain values. ConfigError names the line that is no TOML."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}: line {line}: not UTF-8; save the file as UTF-8"]) from None
    except OSError as error:
        raise UsageError(
            f"{path}: can't be read: {error.strerror}", hint="check the path and its permissions"
        ) from None
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        place = re.search(r"\(at (?:line (\d+), column (\d+)|end of document)\)$", said)
        what = said[: place.start()].strip() if place else said
        line = int(place[1]) if place and place[1] else len(text.splitlines())
        shown = f"line {line}" + (f", column {place[2]}" if place and place[2] else "")
        raise ConfigError([f"{path}: {shown}: not TOML: {what}"]) from None


def journal_folder(path: Path) -> Path:
    """The journal's folder as the config says it, by its TOML alone; nothing else is checked."""
    journal = read_tables(path).get("journal", {})
    said = journal.get("path", DEFAULT_JOURNAL) if isinstance(journal, dict) else None
    if not isinstance(said, str) or not said:
        raise ConfigError([f"{path}: journal.path: must be a text: the folder of the journal"])
    return path.parent / said


def _existing(path: Path, how: str) -> Path:
    if not path.is_file():
        raise UsageError(
            f"{path}: no such config file (from {how})",
            hint="check the path; config.example.toml is one to copy",
        )
    return path
