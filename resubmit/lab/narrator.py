"""What the demo says to a person: numbered steps, plain lines, the commands' own output, a progress bar."""

from __future__ import annotations

import shutil
import textwrap
from typing import TextIO

from resubmit.clock import Clock
from resubmit.model.moment import Ms

_BAR = 30


class Narrator:
    """Writes to `out`; bars are redrawn in place on a terminal, and drawn at a few marks elsewhere."""

    def __init__(self, out: TextIO, clock: Clock) -> None:
        self._out = out
        self._clock = clock
        self._started = clock.monotonic()
        self._steps = 0
        self._live = out.isatty()
        self._bar_open = False
        self._mark = -1
        self._width = min(80, max(40, shutil.get_terminal_size((80, 24)).columns))

    def step(self, title: str) -> None:
        """A numbered step begins."""
        self._steps += 1
        self._end_bar()
        self._write(f"\n{self._steps}. {title}   [{self._since()}]\n")

    def say(self, text: str) -> None:
        """A line or two of plain words, folded."""
        self._end_bar()
        for line in textwrap.wrap(text, self._width - 3, break_long_words=False, break_on_hyphens=False):
            self._write(f"   {line}\n")

    def shown(self, command: str, output: str) -> None:
        """A command as a person would type it, and what it printed."""
        self._end_bar()
        self._write(f"\n   $ resubmit {command}\n")
        for line in output.rstrip("\n").split("\n"):
            self._write(f"| {line}\n" if line else "|\n")

    def bar(self, label: str, done: int, whole: int) -> None:
        """How far it is; one line, redrawn."""
        share = done / whole if whole else 1.0
        line = f"   {label} [{'#' * round(share * _BAR):<{_BAR}}] {done}/{whole}"
        if self._live:
            self._write(f"\r{line}")
            self._bar_open = True
        elif (mark := int(share * 4)) != self._mark:
            self._write(f"{line}\n")
            self._mark = mark
        if done >= whole:
            self._end_bar()

    def _end_bar(self) -> None:
        if self._bar_open:
            self._write("\n")
            self._bar_open = False
        self._mark = -1

    def _since(self) -> str:
        return f"{seconds(self._clock.monotonic() - self._started)} s"

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def seconds(span: Ms) -> str:
    """A span in seconds with one decimal."""
    return f"{span / 1000:.1f}"


def plural(count: int, word: str, many: str = "") -> str:
    """`1 mail`, `3 mails`."""
    return f"{count} {word if count == 1 else many or word + 's'}"
