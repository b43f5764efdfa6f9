"""CSV as other people's machines write it → rows with their place, in constant memory.

Promises: any bytes give rows or bad rows; a quote that never closes costs its own line, not the file; a
line without end is cut and skipped; NULs and undecodable bytes never raise.

Source: RFC 4180 as far as anyone follows it; microsoft.md section 2 (encodings, separators, `#TYPE`).
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_LONGEST_LINE = 1 << 20
_MOST_LINES = 1_000
"""Lines one row may span: a subject or reason with more is a quote that was never closed."""
_CHUNK = 1 << 20
_HEAD = 1 << 16
SEPARATORS = ",;\t"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the number of its first line (from 1), its fields, and the text it was read from."""

    line: int
    fields: list[str]
    raw: str


@dataclass(frozen=True, slots=True)
class BadRow:
    """Something between rows that is none."""

    line: int
    reason: str
    raw: str


class _Runaway(Exception):
    """A row spans more lines than a row does."""


def encoding_of(stream: BinaryIO) -> str:
    """How a stream's text is encoded; read to its end when only that can tell, then put back to its start.

    By BOM; else UTF-16 by its NULs; else UTF-8 if all of it is, else cp1252.
    """
    stream.seek(0)
    head = stream.read(_HEAD)
    found = encoding_of_head(head)
    if found == "utf-8":
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            chunk = head
            while chunk:
                decoder.decode(chunk)
                chunk = stream.read(_CHUNK)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            found = "cp1252"
    stream.seek(0)
    return found


def encoding_of_head(head: bytes) -> str:
    """The same by the first bytes alone; what is `utf-8` so far may turn out to be cp1252 later."""
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if head.startswith(codecs.BOM_UTF16_LE):
        return "utf-16"
    if head.startswith(codecs.BOM_UTF16_BE):
        return "utf-16"
    sample = head[: len(head) & ~1][:4096]
    half = len(sample) // 2
    if half and sample[1::2].count(0) > half * 0.6:
        return "utf-16-le"
    if half and sample[0::2].count(0) > half * 0.6:
        return "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


class _Lines:
    """Lines with their numbers, which can be put back."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._back: deque[tuple[int, str]] = deque()
        self._number = 0
        self.cut: list[int] = []
        """Numbers of lines that were longer than a line may be."""

    def next(self) -> tuple[int, str] | None:
        """The next line with its number; None at the end."""
        if self._back:
            return self._back.popleft()
        line = self._text.readline(_LONGEST_LINE)
        if not line:
            return None
        self._number += 1
        if len(line) >= _LONGEST_LINE and not line.endswith(("\n", "\r")):
            self.cut.append(self._number)
            while rest := self._text.readline(_LONGEST_LINE):
                if rest.endswith(("\n", "\r")):
                    break
            return self._number, "\n"
        return self._number, line

    def put_back(self, lines: list[tuple[int, str]]) -> None:
        self._back.extendleft(reversed(lines))


class _Feeder:
    """Hands lines to the csv reader and remembers which it took for the row at hand."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines
        self.taken: list[tuple[int, str]] = []
        self.ended = False
        self._size = 0

    def __iter__(self) -> _Feeder:
        return self

    def __next__(self) -> str:
        if len(self.taken) >= _MOST_LINES or self._size > _LONGEST_LINE:
            raise _Runaway
        line = self._lines.next()
        if line is None:
            self.ended = True
            raise StopIteration
        self.taken.append(line)
        self._size += len(line[1])
        return line[1]

    def begin(self) -> None:
        self.taken = []
        self._size = 0


class Table:
    """The rows of a CSV stream, the header not yet told apart. The stream stays open."""

    def __init__(self, stream: BinaryIO, encoding: str, separator: str) -> None:
        self._stream = stream
        self._encoding = encoding
        self._separator = separator

    def rows(self) -> Iterator[Row | BadRow]:
        """Every row from the start of the stream; blank lines are left out."""
        self._stream.seek(0)
        text = io.TextIOWrapper(self._stream, self._encoding, errors="replace", newline="")
        try:
            yield from self._rows(_Lines(text))
        finally:
            text.detach()  # the stream is the caller's to close

    def _rows(self, lines: _Lines) -> Iterator[Row | BadRow]:
        if csv.field_size_limit() < 4 * _LONGEST_LINE:
            csv.field_size_limit(4 * _LONGEST_LINE)
        feeder = _Feeder(lines)
        reader = csv.reader(feeder, delimiter=self._separator)
        while True:
            feeder.begin()
            try:
                fields = next(reader, None)
            except (_Runaway, csv.Error) as error:
                reason = f"the row can't be read: {error}" if isinstance(error, csv.Error) else ""
                yield self._give_up(lines, feeder, reason)
                reader = csv.reader(feeder, delimiter=self._separator)
                continue
            for number in lines.cut:
                yield BadRow(number, "the line is longer than a line of text", "")
            lines.cut.clear()
            if fields is None:
                return
            if feeder.ended and feeder.taken:
                # The reader asked for more at the end of the file: it was still inside quotes.
                feeder.ended = False
                yield self._give_up(lines, feeder, "")
                reader = csv.reader(feeder, delimiter=self._separator)
                continue
            if any(fields):
                yield Row(feeder.taken[0][0], fields, "".join(line for _, line in feeder.taken))

    def _give_up(self, lines: _Lines, feeder: _Feeder, reason: str) -> BadRow:
        (number, first), *rest = feeder.taken
        lines.put_back(rest)
        return BadRow(number, reason or "a quote opens here and never closes", first)
