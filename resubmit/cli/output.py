"""What a command says: results on stdout, notes on stderr, in one form for every command.

Promises: with `--json` stdout holds JSON and nothing else, one object a line for lists; `-q` ids only.
Characters the terminal can't show are escaped, never an error.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from resubmit.cli.table import Column, clean, pairs, table, wrapped
from resubmit.model.moment import Ms, local_text, span_text

NARROW = 80
"""Tables fit this where the output is no terminal, or its size is not known."""


class Output:
    """Where a command writes. `as_json` and `quiet` are the command's own flags."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet

    @property
    def columns(self) -> int:
        """How wide a line may be."""
        if not sys.stdout.isatty():
            return NARROW
        return max(40, shutil.get_terminal_size((NARROW, 24)).columns)

    def one(self, value: dict[str, Any]) -> None:
        """One JSON object on a line of its own."""
        print(json_text(value))

    def lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            print(line)

    def line(self, text: str = "", end: str = "\n", *, flush: bool = False) -> None:
        """A line of our own words and cleaned values. `flush`: somebody waits for it."""
        print(text, end=end, flush=flush)

    def text(self, text: str, indent: str = "") -> None:
        """A paragraph, broken to fit."""
        self.lines(wrapped(text, self.columns, indent))

    def marked(self, text: str, indent: str, colour: str) -> None:
        """A paragraph whose first word has a colour (an SGR code), where the terminal shows colours."""
        first, *rest = wrapped(text, self.columns, indent)
        word, blank, after = first.lstrip().partition(" ")
        if colour and wants_colour():
            word = f"\x1b[{colour}m{word}\x1b[0m"
        self.lines([first[: len(first) - len(first.lstrip())] + word + blank + after, *rest])

    def steps(self, steps: Sequence[tuple[str, str]]) -> None:
        """What to do next: commands to type, each with what it is for, in lines that fit."""
        if not steps:
            return
        self.line()
        self.line("Next:")
        self.lines(pairs(steps, self.columns))

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> None:
        self.lines(table(columns, rows, self.columns))

    def note(self, text: str) -> None:
        """Something the person should know that is no result: on stderr."""
        print(clean(text), file=sys.stderr)


def wants_colour() -> bool:
    """Whether the output is a terminal that shows colours. (no-color.org)"""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def json_text(value: object) -> str:
    """JSON on one line; characters as they are, but for lone surrogates, which are escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def left_until(at: Ms | None, now: Ms) -> str:
    """The time left before something bounces: `3h 12m`, `passed 5m ago`, or a dash."""
    if at is None:
        return "-"
    return span_text(at - now) if at > now else f"{span_text(now - at)} ago"


def age(at: Ms | None, now: Ms) -> str:
    """How long ago, in two units at the most."""
    return "-" if at is None else span_text(max(0, now - at))


def when(at: Ms | None) -> str:
    """Local time with its zone, or a dash."""
    return "-" if at is None else local_text(at)


def size(octets: int) -> str:
    """A size for people: `512 B`, `4.0 KiB`, `31 MiB`."""
    value = float(octets)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{octets} B" if unit == "B" else f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
