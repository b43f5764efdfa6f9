"""What programs write in their reports, as data: dsn_dialects.toml compiled.

Lines that name a recipient, lines before the returned message, words for a delay. Each pattern is tried at
the start of a line; none repeats what may repeat, so that a line costs no more than its length.

Source: formats.md section 7.2.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from resubmit.model.evidence import Status

_ATOM = r"[^\s<>\"(),;:\[\]@|]"
_BEFORE = r"(?<![^\s<>\"(),;:\[\]@|'=])"
_DOMAIN = rf"(?:{_ATOM}{{1,255}}|\[[\d.:A-Fa-f]+\])"
_ADDRESS = rf"{_BEFORE}<?(?P<address>(?:\"[^\"\n@]{{1,64}}\"|{_ATOM}{{1,128}})@{_DOMAIN})>?"
_NAME = rf"{_BEFORE}(?P<address>\"[^\"\n]{{1,200}}\"(?:@{_ATOM}+)?|{_ATOM}{{1,128}}(?:@{_DOMAIN})?)"


@dataclass(frozen=True, slots=True)
class Line:
    """A way to name a recipient. whole: the line itself is the reason; bare: nothing but the address
    stands there; weak: used where no better line names one."""

    pattern: re.Pattern[str]
    whole: bool
    bare: bool
    weak: bool
    is_original: bool
    only_behind: re.Pattern[str] | None


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    source = resources.files(__package__).joinpath("dsn_dialects.toml")
    return tomllib.loads(source.read_text("utf-8"))


@lru_cache(maxsize=1)
def named_by() -> tuple[Line, ...]:
    return tuple(
        Line(
            re.compile(
                entry["pattern"].replace("{address}", _ADDRESS).replace("{name}", _NAME),
                re.IGNORECASE,
            ),
            entry.get("whole", False),
            entry.get("bare", False),
            entry.get("weak", False),
            entry.get("is_original", False),
            re.compile(entry["only_behind"], re.IGNORECASE) if "only_behind" in entry else None,
        )
        for entry in _table()["line"]
    )


@lru_cache(maxsize=64)
def _any_of(group: str, key: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{one})" for one in _table()[group][key]), re.IGNORECASE)


def is_returned_line(line: str) -> bool:
    """Whether a line says that the returned message follows."""
    bare = line.lstrip(" \t>|*=-_#")
    marks = line[: len(line) - len(bare)]
    if _any_of("returned", "lines").match(bare):
        return True
    return any(mark in marks for mark in ("--", "**", "==", "__")) and bool(
        _any_of("returned", "marked").match(bare)
    )


def says(group: str, key: str, text: str) -> bool:
    """Whether one of a group's phrases stands in a text."""
    return _any_of(group, key).search(" ".join(text[:20_000].split())) is not None


def status_in_words(subject: str, text: str) -> Status | None:
    """What a notice says of all its recipients, when that is not that they failed; None: nothing else."""
    for group, status in (
        ("delivered", Status.DELIVERED),
        ("relayed", Status.RELAYED),
        ("expanded", Status.EXPANDED),
        ("delayed", Status.DEFERRED),
    ):
        if says(group, "text", text) or says(group, "subject", subject):
            return status
    return None
