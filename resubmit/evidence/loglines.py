"""Lines of a log file, whatever its encoding, and the CSV rows that Exchange makes of them.

Promises: any bytes give lines; what is longer than a line of a log is cut and marked, never kept whole;
memory does not grow with the file.

Source: formats.md sections 2 and 3 (UTF-8, often with BOM, CRLF; RFC 4180 quoting).
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from typing import BinaryIO

from resubmit.evidence.csvrows import encoding_of_head

LONGEST = 120_000
"""Octets a line may have: csv takes no field above 128 KiB."""
_HEAD = 64 * 1024
_MOST_LINES = 50
"""Lines one row may span by line breaks within quotes."""
_NEW_ROW = re.compile(r'"?\d{4}-\d\d-\d\dT\d\d:|#')


def lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Every line from the start of the stream, numbered from 1, in UTF-8 or as it is, without its end."""
    stream.seek(0)
    encoding = encoding_of_head(stream.read(_HEAD))
    stream.seek(0)
    if not encoding.startswith("utf-16"):
        yield from _numbered(stream)
        return
    text = io.TextIOWrapper(stream, encoding, errors="replace", newline="\n")
    try:
        number = 0
        while line := text.readline(LONGEST):
            number += 1
            yield number, line.rstrip("\r\n").encode("utf-8", "replace")
            while not line.endswith("\n") and (line := text.readline(LONGEST)):
                pass
    finally:
        text.detach()  # the stream is the caller's to close


def _numbered(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := stream.readline(LONGEST + 2):
        number += 1
        yield number, line.rstrip(b"\r\n")
        while not line.endswith(b"\n") and (line := stream.readline(LONGEST)):
            pass


def text_of(line: bytes) -> str:
    """A line as text: UTF-8, else Windows' Western code page; without BOM and NULs."""
    line = line[:LONGEST]
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        text = line.decode("cp1252", errors="replace")
    return text.strip("\ufeff\0\r\n").replace("\0", "").strip()


_HEADER = re.compile(r"#?\s*(Software|Version|Log-type|Date|Fields):\s*(.*)", re.IGNORECASE | re.DOTALL)
MOST_ASIDE = 12
"""Lines before the first that is a log's: a heading, or what somebody wrote above an excerpt."""


def header_of(text: str) -> tuple[str, str] | None:
    """A header line's name in lower case and its value; pages that show logs tend to lose the `#`. None for
    a line that is none."""
    found = _HEADER.match(text)
    return (found[1].lower(), found[2].strip()) if found else None


def head_lines(head: bytes, limit: int = 200) -> list[str]:
    """The first lines of a file that begins so, blank ones left out."""
    text = head.decode(encoding_of_head(head), errors="replace")
    found = (line.strip("\ufeff\0\r").strip() for line in text.split("\n"))
    return [line for line in found if line][:limit]


_ROW = re.compile(r'"?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[\d.]*Z?"?,')


def begins_as(head: bytes, is_header: Callable[[str], bool], is_row: Callable[[list[str]], bool]) -> bool:
    """Whether the first of a file's lines that is one of an Exchange log's is one of this log's. is_header:
    by the value of its `Log-type` or `#Fields`; is_row: by the row's fields."""
    aside = 0
    for line in head_lines(head):
        header = header_of(line)
        if header is not None and header[0] in ("log-type", "fields"):
            return is_header(header[1])
        if _ROW.match(line):
            try:
                return is_row(next(csv.reader([line]), []))
            except csv.Error:
                return False
        aside += header is None
        if aside > MOST_ASIDE or (header is None and line.count(",") > 5):
            return False  # another kind's table
    return False


def columns_of(value: str, needed: Set[str], most: int) -> list[str]:
    """The columns a `#Fields` line names, where these are among them and they are no more than `most`."""
    names = [name.strip().strip('"').lower() for name in value.split(",")]
    return names if set(names) >= needed and len(names) <= most else []


def remembered(memory: str) -> object:
    """What a machine's `memory` held; {} where it is none."""
    try:
        return json.loads(memory) if memory else {}
    except (ValueError, RecursionError):
        return {}


def newest(items: Iterable[list[object]], room: int) -> list[list[object]]:
    """Of plain values from the newest on, those that take at most `room` characters as JSON; the oldest
    first."""
    kept: list[list[object]] = []
    for one in items:
        room -= len(json.dumps(one)) + 2
        if room < 0:
            break
        kept.append(one)
    return kept[::-1]


@dataclass(frozen=True, slots=True)
class CsvRow:
    """A row: where it begins, its fields, the text it was read from."""

    place: str
    fields: list[str]
    raw: str


@dataclass(frozen=True, slots=True)
class NoRow:
    """Lines that are no row."""

    place: str
    reason: str
    raw: str


class CsvLines:
    """Rows from lines fed one by one: a quoted field may span lines, one that never closes costs its own."""

    def __init__(self) -> None:
        self._held: list[str] = []
        self._place = ""

    def feed(self, text: str, place: str) -> list[CsvRow | NoRow]:
        """The rows that a line completes."""
        done: list[CsvRow | NoRow] = []
        if self._held and (
            _NEW_ROW.match(text)
            or len(self._held) >= _MOST_LINES
            or sum(map(len, self._held)) + len(text) > LONGEST
        ):
            done += self.end()
        if not self._held:
            self._place = place
        self._held.append(text)
        joined = "\n".join(self._held)
        try:
            fields = _fields(joined)
        except csv.Error as error:
            self._held = []
            return [*done, NoRow(self._place, f"the row can't be read: {error}", joined)]
        if fields is not None:
            self._held = []
            done.append(CsvRow(self._place, fields, joined))
        return done

    def end(self) -> list[CsvRow | NoRow]:
        """What is still open: a quote that never closed."""
        if not self._held:
            return []
        first = self._held[0]
        self._held = []
        return [NoRow(self._place, "a quote opens here and never closes", first)]


def _fields(text: str) -> list[str] | None:
    """The fields of a row; None when a quote is still open. Raises csv.Error."""
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        if "unexpected end" in str(error):
            return None
    return next(csv.reader([text]), [])
