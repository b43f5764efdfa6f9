"""A Postfix log as a file: whether it is one, its lines or journald entries, and the year it begins in.

    lines     a line an entry; UTF-8, Latin-1 or UTF-16; a delivery line that was wrapped is joined again
    export    `journalctl -o export`: KEY=value lines, binary values with their length, a blank line between

Promises: any bytes give entries; a line without end is cut and skipped; memory does not grow with the file.

Source: formats.md section 1.1; systemd.io/JOURNAL_EXPORT_FORMATS.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import BinaryIO, TypeAlias

from resubmit.evidence.base import Reading
from resubmit.evidence.csvrows import encoding_of_head
from resubmit.evidence.kinds.postfix_log_lines import BARE, DAEMONS, LONGEST, SLACK, Line, Stamps, of_fields
from resubmit.model.moment import to_datetime

Entry: TypeAlias = bytes | dict[str, bytes]

_HEAD = 64 * 1024
_LINE = 256 * 1024
_FIELD_LIMIT = 64 * 1024
_MOST_FIELDS = 500
_MOST_JOINED = 8
_DAEMON = "|".join(sorted(DAEMONS, key=len, reverse=True))
_OURS = re.compile(
    rf"(?:[\w.-]*postfix[\w.-]*(?:/[\w.-]+)*|[\w.-]+/(?:{_DAEMON}))(?:\[\d+\]|\s+\d+ )"
    rf"|(?:^|\s)(?:{_DAEMON})\[\d+\]: |postfix/[\w/-]+: "
    r"|\"(?:SYSLOG_IDENTIFIER|syslog_identifier|programname|program|ident|tag)\"\s*:\s*\"[\w.-]*postfix"
)
_MAIL = re.compile(
    r"From |(?:Return-Path|Received|From|To|Subject|Date|Message-ID|MIME-Version|Content-Type|Delivered-To"
    r"|X-[\w-]+|DKIM-Signature|Reply-To|ARC-[\w-]+|Authentication-Results):",
    re.IGNORECASE,
)
_EXPORT = re.compile(rb"(?:__CURSOR|__REALTIME_TIMESTAMP|_[A-Z_]{2,40}|SYSLOG_[A-Z]+|PRIORITY)=[^\n]*\n")
_BSD = re.compile(rb"(?:<\d{1,3}>)?(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) {1,2}(\d{1,2})")
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_BEGINS = re.compile(
    rb"\s*(?:<\d|\{|\d{4}[-/]\d\d[-/]\d\d[T ]\d|[A-Z][a-z]{2} {1,2}\d|[A-Z][a-z]{2} \d{4}-|\[?\d{9,10}\.\d"
    rb"|[A-Z0-9a-z]{5,20}: [a-z]+=|-- |[\w.-]+ +\| )"
)


def is_postfix(head: bytes) -> bool:
    """Whether a file that begins so holds lines of Postfix, and is no mail."""
    if _is_export(head):
        return b"postfix" in head.lower()
    text = head.decode(encoding_of_head(head), errors="replace").lstrip("\ufeff")
    lines = [line for line in text.splitlines() if line.strip("\0 \t")]
    if not lines or _MAIL.match(lines[0]):
        return False
    return any(_OURS.search(line[:400]) or BARE.match(line) for line in lines[:2_000])


def _is_export(head: bytes) -> bool:
    return _EXPORT.match(head) is not None


def first_year(stream: BinaryIO, reading: Reading) -> int | None:
    """The year of the first stamp of a log whose stamps have none: that in which the last one is not still to
    come, and the years that begin in between taken off. None where it has no such stamps or no `now`."""
    stream.seek(0)
    if reading.now is None or not _BSD.match(stream.read(64)):
        return None
    stream.seek(0)
    last = day = turns = 0
    while line := stream.readline(_LINE):
        found = _BSD.match(line)
        if found is None:
            continue
        month = _MONTHS.index(found[1]) + 1
        if last and month - last <= -6:
            turns += 1
        elif last and month - last >= 10 and turns:
            turns -= 1  # stragglers of December after the first of January
        last, day = month, int(found[2])
    now = to_datetime(reading.now + SLACK)
    return now.year - turns - ((last, day) > (now.month, now.day))


def entries(stream: BinaryIO) -> Iterator[tuple[str, Entry]]:
    """Every line or entry with its place."""
    stream.seek(0)
    head = stream.read(_HEAD)
    stream.seek(0)
    if _is_export(head):
        yield from _exported(stream)
        return
    encoding = encoding_of_head(head)
    wide = encoding.startswith("utf-16")
    yield from _joined(_of_utf16(stream, encoding) if wide else _lines(stream))


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := stream.readline(_LINE):
        number += 1
        yield number, line
        while len(line) == _LINE and not line.endswith(b"\n"):
            line = stream.readline(_LINE)


def _of_utf16(stream: BinaryIO, encoding: str) -> Iterator[tuple[int, bytes]]:
    text = io.TextIOWrapper(stream, encoding, errors="replace")
    number = 0
    try:
        while line := text.readline(_LINE):
            number += 1
            yield number, line.encode("utf-8", "replace")
            while len(line) == _LINE and not line.endswith("\n"):
                line = text.readline(_LINE)
    finally:
        text.detach()


def _joined(lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[str, Entry]]:
    """Lines, with what a terminal or mailer wrapped put together again."""
    held = b""
    first = parts = 0
    for number, line in lines:
        wrapped = line[:1] in (b" ", b"\t") or _is_open(held)
        if held and wrapped and parts < _MOST_JOINED and line.strip() and not _BEGINS.match(line):
            held = held.rstrip() + b" " + line.lstrip()
            parts += 1
            continue
        if held:
            yield f"line {first}", held
        held, first, parts = line, number, 1
    if held:
        yield f"line {first}", held


def _is_open(line: bytes) -> bool:
    """Whether a delivery line has not come to its end: the text that a parenthesis closes."""
    return b"to=<" in line and len(line) < LONGEST and not line.rstrip().endswith((b")", b"}"))


def _exported(stream: BinaryIO) -> Iterator[tuple[str, Entry]]:
    entry: dict[str, bytes] = {}
    number = 0
    while line := stream.readline(_LINE):
        bare = line.rstrip(b"\n")
        if not bare:
            if entry:
                number += 1
                yield f"entry {number}", entry
                entry = {}
            continue
        name, equals, value = bare.partition(b"=")
        if not equals:
            length = int.from_bytes(stream.read(8), "little")
            value = stream.read(min(length, _FIELD_LIMIT))
            if length > _FIELD_LIMIT:
                _skip(stream, length - _FIELD_LIMIT)
            stream.readline(2)
        if len(entry) < _MOST_FIELDS:
            entry.setdefault(name[:64].decode("latin-1"), value)
    if entry:
        yield f"entry {number + 1}", entry


def _skip(stream: BinaryIO, length: int) -> None:
    while length > 0 and (chunk := stream.read(min(length, _LINE))):
        length -= len(chunk)


def of_export(fields: dict[str, bytes], stamps: Stamps) -> Line | None:
    """The line of an exported entry."""
    return of_fields(fields, stamps)


def field(text: str, name: str) -> str:
    """The value of `name=value` in a comma- or blank-separated text, "" for none."""
    found = re.search(rf"(?:^|[\s,]){name}=([^\s,]*)", text)
    return found[1] if found else ""
