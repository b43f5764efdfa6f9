"""JSON as Graph, PowerShell and scripts write it → its records, in constant memory.

A record is an object: one of an array, one a line, or the file itself. What stands around it (the page it is
in, the row whose events it is one of) comes with it, as far as it was said before. A file may hold several
values one after the other.

Promises: any bytes give records or bad parts; a part that is no JSON costs itself, not the file.

Source: RFC 8259; `/Date(…)/` of Windows PowerShell's ConvertTo-Json is left to who reads the record.
Limits: a record of more than RECORD_LIMIT characters is taken apart, its own values come without order.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias

RECORD_LIMIT = 1 << 20
_CHUNK = 1 << 16
_AROUND = 40
"""So many values of what stands around a record are kept."""
_DEEP = 60
"""Deeper than that nothing is looked into."""
_BAD_LIMIT = 1_000
"""So many bad parts from the start, without a record: the rest is left."""

Value: TypeAlias = Any
_NO_END = "a value without an end"
_SPACE = " \t\r\n\ufeff\0"


@dataclass(frozen=True, slots=True)
class Record:
    """An object. number: which one of the file, from 1. around: the values of what it stands in, the
    nearest first."""

    number: int
    values: Mapping[str, Value]
    around: tuple[Mapping[str, Value], ...] = ()


@dataclass(frozen=True, slots=True)
class BadPart:
    """Something that is no JSON, or not a record, with the number of the record it is nearest to."""

    number: int
    reason: str
    raw: str


@dataclass(slots=True)
class _Frame:
    """What is open: an object (its plain values so far) or an array."""

    is_object: bool
    values: dict[str, Value] = field(default_factory=dict)


class _Truncated(Exception):
    """The text ends in the middle of a value."""


def records(stream: BinaryIO, encoding: str) -> Iterator[Record | BadPart]:
    """Every record of a stream, the inner ones first. Raises only what the stream raises."""
    stream.seek(0)
    text = io.TextIOWrapper(stream, encoding, errors="replace", newline="")
    try:
        yield from _Reader(text).run()
    finally:
        text.detach()


class _Reader:
    """Reads on as far as is needed for the next value; opens what is too large to be held."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._buffer = ""
        self._at = 0
        self._ended = False
        self._decoder = json.JSONDecoder()
        self._open: list[_Frame] = []
        self._number = 0
        self._bad = 0
        self._found = 0

    def run(self) -> Iterator[Record | BadPart]:
        while True:
            mark = self._peek()
            if not mark:
                break
            if mark in ",:":
                self._at += 1
            elif mark in "]}":
                self._at += 1
                yield from self._close(mark)
            elif mark == "[":
                self._at += 1
                yield from self._enter(_Frame(is_object=False))
            else:
                yield from self._value(mark)
            if self._bad >= _BAD_LIMIT and not self._found:
                yield self._bad_part("the rest is no JSON either", "")
                return
        if self._open:
            yield self._bad_part("the file ends in the middle", "")

    def _value(self, mark: str) -> Iterator[Record | BadPart]:
        inside = self._open[-1] if self._open else None
        try:
            value = self._decode()
        except _Truncated:
            if mark == "{":
                self._at += 1
                yield from self._enter(_Frame(is_object=True))
                return
            yield from self._skip(_NO_END)
            return
        except (ValueError, RecursionError) as error:
            reason = "nested too deep" if isinstance(error, RecursionError) else f"no JSON: {error}"
            yield from self._skip(reason)
            return
        if inside is not None and inside.is_object and isinstance(value, str) and self._peek() == ":":
            self._at += 1
            yield from self._member(inside, value)
        elif isinstance(value, dict):
            yield from self._walk(value, self._around(), 0)
        elif inside is None or inside.is_object:
            yield self._bad_part("a value that is no record", str(value))

    def _member(self, inside: _Frame, name: str) -> Iterator[Record | BadPart]:
        """What belongs to a name of an object too large to be held."""
        mark = self._peek()
        if mark == "[":
            return  # the loop goes in
        try:
            value = self._decode()
        except _Truncated:
            if mark != "{":
                yield from self._skip(_NO_END)
            return
        except (ValueError, RecursionError):
            yield from self._skip("no JSON")
            return
        if isinstance(value, dict) and mark == "{":
            yield from self._walk(value, self._around(), 0)
        elif len(inside.values) < _AROUND:
            inside.values[name] = value

    def _walk(
        self, value: Mapping[str, Value], around: tuple[Mapping[str, Value], ...], depth: int
    ) -> Iterator[Record]:
        """The records in a value that is held, those inside it first."""
        if depth < _DEEP:
            inner = (_plain(value), *around)
            for one in _inside(list(value.values()), depth):
                yield from self._walk(one, inner, depth + 1)
        yield self._record(value, around)

    def _enter(self, frame: _Frame) -> Iterator[BadPart]:
        if len(self._open) >= _DEEP:
            yield from self._skip("nested too deep")
            return
        self._open.append(frame)

    def _close(self, mark: str) -> Iterator[Record | BadPart]:
        if not self._open:
            self._bad += 1
            yield self._bad_part("an end without a beginning", mark)
            return
        frame = self._open.pop()
        if frame.is_object and frame.values:
            yield self._record(frame.values, self._around())

    def _record(self, values: Mapping[str, Value], around: tuple[Mapping[str, Value], ...]) -> Record:
        self._number += 1
        self._found += 1
        return Record(self._number, values, around)

    def _around(self) -> tuple[Mapping[str, Value], ...]:
        return tuple(frame.values for frame in reversed(self._open) if frame.is_object)

    # ── the text ────────────────────────────────────────────────────────────────────────────────────

    def _peek(self) -> str:
        """The next character that is no blank, "" at the end."""
        while True:
            while self._at < len(self._buffer) and self._buffer[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def _more(self) -> bool:
        if self._ended:
            return False
        chunk = self._text.read(_CHUNK)
        self._buffer, self._at = self._buffer[self._at :] + chunk, 0
        self._ended = not chunk
        return bool(chunk)

    def _decode(self) -> Value:
        """The value that begins here. _Truncated: it has no end, or a later one than is looked for."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(self._buffer) - 10
                if not cut:
                    raise
                if len(self._buffer) - self._at > RECORD_LIMIT or not self._more():
                    raise _Truncated from None
                continue
            if end == len(self._buffer) and self._more():
                continue  # a number may go on
            self._at = end
            return value

    def _skip(self, reason: str) -> Iterator[BadPart]:
        """On to the next object that may be one, or the next line; a cut-off end is told of once, there."""
        self._bad += 1
        if not (self._ended and self._open and reason == _NO_END):
            yield self._bad_part(reason, self._buffer[self._at : self._at + 1000])
            self._number += 1
        start = self._at + 1
        while True:
            found = [p for p in (self._buffer.find(m, start) for m in "{\n") if p >= 0]
            if found:
                self._at = min(found)
                return
            self._at = len(self._buffer)
            if not self._more():
                return
            start = 0

    def _bad_part(self, reason: str, raw: str) -> BadPart:
        return BadPart(self._number + 1, reason, raw)


def _inside(values: Sequence[Value], depth: int) -> Iterator[Mapping[str, Value]]:
    """The objects among some values, and in their arrays."""
    for one in values:
        if isinstance(one, dict):
            yield one
        elif isinstance(one, list) and depth < _DEEP:
            yield from _inside(one, depth + 1)


def _plain(value: Mapping[str, Value]) -> dict[str, Value]:
    """An object's own values, without what is nested in it."""
    found = ((key, one) for key, one in value.items() if not isinstance(one, dict | list))
    return {key: one for (key, one), _ in zip(found, range(_AROUND), strict=False)}
