"""Message traces of Exchange Online as CSV: every form its tools write.

    summary    admin centre "Export results"; Get-MessageTrace, Get-MessageTraceV2: a row a recipient
    enhanced   Start-HistoricalSearch MessageTrace: a row a message, recipients as `addr##Receive, Deliver;…`
    extended   Start-HistoricalSearch MessageTraceDetail: a row an event
    details    Get-MessageTraceDetail[V2]: a row an event, often without the recipient

Promises: columns are found by name, never by place; encoding, separator and the culture of dates are found
out for the whole file; memory does not grow with it.

Source: microsoft.md sections 2 and 3.
Limits: what a summary's stamp says is when the mail was received, taken for the status's own time too.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from resubmit.evidence.base import RAW_LIMIT, Item, Reading
from resubmit.evidence.csvrows import SEPARATORS, BadRow, Row, Table, encoding_of, encoding_of_head
from resubmit.evidence.kinds import trace_rows, trace_words
from resubmit.evidence.stamps import Culture, Survey, is_open
from resubmit.model.evidence import Source
from resubmit.model.message import message_key
from resubmit.model.moment import Ms

SOURCE = Source.TRACE_CSV

_HEADER_LINES = 20
"""Lines before the header that may be something else: `#TYPE`, `sep=`, a title, blank ones."""
_MOST_TAKEN = 200_000
"""Messages of an event file whose time of receipt is kept to be told to their other rows."""


@dataclass(frozen=True, slots=True)
class _Header:
    """A header found: its text, its line's number, the separator and which column is what."""

    line: int
    fields: list[str]
    separator: str
    columns: dict[str, int]
    form: str


def sniff(head: bytes, name: str) -> bool:
    """Whether one of the first lines is a trace's header."""
    encoding = encoding_of_head(head)
    text = head.decode(encoding, errors="replace")
    return _find_header(text.splitlines()[:_HEADER_LINES]) is not None


def _find_header(lines: list[str]) -> _Header | None:
    for number, line in enumerate(lines, 1):
        line = line.strip("\ufeff\r\n")
        if not line.strip() or line.startswith(("#", "Fields:")) or len(line) > 20_000:  # `#TYPE`, logs
            continue
        best: _Header | None = None
        for separator in SEPARATORS:
            fields = [field.strip().strip('"') for field in line.split(separator)]
            columns = trace_words.columns(fields)
            form = _form(fields, columns)
            if form and (best is None or len(columns) > len(best.columns)):
                best = _Header(number, fields, separator, columns, form)
        if best is not None:
            return best
    return None


def _form(fields: list[str], columns: dict[str, int]) -> str:
    """Which form a header is of, "" for none."""
    known = columns.keys()
    if {trace_words.fold(field) for field in fields} >= {"timestamp", "eventid", "recipients"}:
        return ""  # Get-MessageTrackingLog: a server's own log, whose SEND may be an internal hop
    if "event" in known and known & {"message_id", "network"}:
        if "recipient_status" in known and "recipient" in known:
            return "extended"
        if known & {"detail", "action", "data"}:
            return "details"
    if "recipient_status" in known and "recipient" not in known and known & {"message_id", "network"}:
        return "enhanced"
    if "recipient" in known and "status" in known and known & {"sender", "message_id", "network", "received"}:
        return "summary"
    return ""


def read(stream: BinaryIO, reading: Reading) -> Iterator[Item]:
    """Every row's evidence, in the file's order; what is none, with its line."""
    encoding = encoding_of(stream)
    header = _header_of(stream, encoding)
    if header is None:
        yield reading.unreadable("line 1", "no header of a message trace in the first lines")
        return
    table = Table(stream, encoding, header.separator)
    culture, taken = _survey(table, header, reading)
    form = trace_rows.Form(
        header.form, header.columns, culture, trace_words.is_utc(_name_of_time(header)), taken
    )
    unknown: set[str] = set()
    for row in table.rows():
        if isinstance(row, BadRow):
            if row.line > header.line:
                yield reading.unreadable(f"line {row.line}", row.reason, row.raw)
            continue
        if row.line <= header.line or _is_header_again(row, header):
            continue
        place = f"line {row.line}"
        raw = row.raw.rstrip("\r\n")[:RAW_LIMIT]
        if not _fits(row, header):
            reason = f"the row has {len(row.fields)} fields, the header {len(header.fields)}"
            yield reading.unreadable(place, reason, raw)
            continue
        for item in form.read(row.fields, reading.name, place, raw):
            if isinstance(item, trace_rows.UnknownWord):
                # Once a word: a translated file would else be reported row by row.
                if item.word not in unknown and len(unknown) < 100:
                    unknown.add(item.word)
                    yield reading.unreadable(place, f"the status {item.word!r} is not known here", raw)
            else:
                yield item


def _header_of(stream: BinaryIO, encoding: str) -> _Header | None:
    stream.seek(0)
    text = io.TextIOWrapper(stream, encoding, errors="replace", newline="")
    try:
        return _find_header([text.readline(64 * 1024) for _ in range(_HEADER_LINES)])
    finally:
        text.detach()


def _name_of_time(header: _Header) -> str:
    place = header.columns.get("received")
    return header.fields[place] if place is not None else ""


def _is_header_again(row: Row, header: _Header) -> bool:
    """Exports joined by hand carry their header, and `#TYPE`, in the middle."""
    first = row.fields[0].strip("\ufeff")
    if first.startswith("#TYPE"):
        return True
    return first.strip() == header.fields[0] and [f.strip() for f in row.fields[1:]] == header.fields[1:]


def _fits(row: Row, header: _Header) -> bool:
    extra = len(row.fields) - len(header.fields)
    return extra == 0 or (extra > 0 and not any(row.fields[len(header.fields) :]))


def _survey(table: Table, header: _Header, reading: Reading) -> tuple[Culture, dict[str, Ms]]:
    """What only the whole file tells: the culture of its dates; when each message of an event file was
    received. One more pass, left out where the first stamp leaves nothing open."""
    time = header.columns.get("received")
    survey = Survey(reading.timezone)
    events = header.form in ("extended", "details")
    taken: dict[str, str] = {}
    if time is None:
        return survey.decide(reading.near, reading.now), {}
    utc = trace_words.is_utc(_name_of_time(header))
    for row in table.rows():
        if isinstance(row, BadRow) or row.line <= header.line or not _fits(row, header):
            continue
        stamp = row.fields[time]
        if not events and stamp.strip() and (not is_open(stamp) or survey.is_clear):
            break
        survey.add(stamp)
        if events and len(taken) < _MOST_TAKEN:
            event = row.fields[header.columns["event"]]
            if trace_words.event_kind(event) == "taken":
                taken.setdefault(_message_of(row, header), stamp)
    culture = survey.decide(reading.near, reading.now)
    times: dict[str, Ms] = {}
    for key, stamp in taken.items():
        try:
            times[key] = culture.parse(stamp, utc=utc)
        except ValueError:
            continue
    return culture, times


def _message_of(row: Row, header: _Header) -> str:
    """What tells a file's messages apart: the network message id, else the Message-ID."""
    network, message = header.columns.get("network"), header.columns.get("message_id")
    own = trace_rows.network_id(row.fields[network]) if network is not None else ""
    return own or (message_key(row.fields[message]) if message is not None else "")
