"""`Get-MessageTrackingLog` with `Export-Csv` or `Format-List`: a tracking log as PowerShell prints it.

    "Timestamp","ClientIp",…,"Source","EventId",…,"MessageId","NetworkMessageId","Recipients",…
    EventId                 : FAIL

and a queue as Get-Queue does: its last error is about the next hop, not about a recipient.

Times are the machine's local ones in its culture; lists are `{a, b}`, joined by somebody, or lost as
`System.String[]`.

Source: Microsoft's page on Get-MessageTrackingLog; microsoft.md section 2.4 (cultures, separators, `#TYPE`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from resubmit.evidence.base import RAW_LIMIT, Item, Reading
from resubmit.evidence.csvrows import SEPARATORS, BadRow, Table, encoding_of, encoding_of_head
from resubmit.evidence.kinds.exchange_tracking_log_rows import Rows
from resubmit.evidence.kinds.exchange_tracking_log_table import Mails
from resubmit.evidence.kinds.trace_words import fold
from resubmit.evidence.loglines import MOST_ASIDE, head_lines, lines, text_of
from resubmit.evidence.stamps import Culture, Survey
from resubmit.model.evidence import Evidence
from resubmit.model.moment import Ms

_NAMES = {
    "timestamp": "date-time",
    "clientip": "client-ip",
    "clienthostname": "client-hostname",
    "serverip": "server-ip",
    "serverhostname": "server-hostname",
    "sourcecontext": "source-context",
    "connectorid": "connector-id",
    "source": "source",
    "eventid": "event-id",
    "internalmessageid": "internal-message-id",
    "messageid": "message-id",
    "networkmessageid": "network-message-id",
    "recipients": "recipient-address",
    "recipientstatus": "recipient-status",
    "totalbytes": "total-bytes",
    "relatedrecipientaddress": "related-recipient-address",
    "messagesubject": "message-subject",
    "sender": "sender-address",
    "returnpath": "return-path",
    "messageinfo": "message-info",
    # Get-Queue | Format-List
    "lasterror": "recipient-status",
    "nexthopdomain": "next-hop-domain",
}
_NEEDED = {"date-time", "event-id", "recipient-address"}
_TELLING = {"internal-message-id", "connector-id", "source-context", "client-hostname", "recipient-status"}
_HEADER_LINES = 10
_PROPERTY = re.compile(r"([A-Z]\w{2,40})\s*: ?(.*)", re.DOTALL)
_REPLY = re.compile(r"(?:^\{?|LED=|\[\{)([45])\d\d[ -]")
_OTHERS = frozenset(
    [
        "runspaceid",
        "pscomputername",
        "psshowcomputername",
        "recipientcount",
        "reference",
        "directionality",
        "tenantid",
        "originalclientip",
        "originalserverip",
        "messagelatency",
        "messagelatencytype",
        "eventdata",
        "transporttraffictype",
        "schemaversion",
    ]
)
_TOLD = {"event-id", "recipient-status"}
_FIRST = {"pscomputername", "runspaceid", "date-time"}
"""With these a row begins."""
_LONGEST = 20_000
_ISO = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
_MOST_NEAR = 500
_LOST = "System.String[]"
_LIST = re.compile(r"\{(.*)\}", re.DOTALL)
LOST = (
    "the recipients were lost on export (System.String[]): add "
    "@{n='Recipients';e={$_.Recipients -join ';'}} to a Select-Object"
)


@dataclass(frozen=True, slots=True)
class Header:
    """A header found: its line's number, the separator, the columns by their names in the log."""

    line: int
    separator: str
    columns: list[str]


def is_list(head: bytes) -> bool:
    """Whether a file begins as such a list: with properties of a row that tell of an event, or with a status
    that is a reply."""
    names: set[str] = set()
    aside = 0
    for line in head_lines(head, 100):
        found = _property(line)
        if found is None:
            aside += not names
            if not names and (line.count(",") > 5 or aside > MOST_ASIDE):
                return False
            continue
        names.add(found[0])
        if found[0] == "recipient-status" and _REPLY.search(found[1]):
            return True
    return "event-id" in names and bool(_TELLING.intersection(names))


def read_list(stream: BinaryIO, reading: Reading) -> Iterator[Item]:
    """What each row of a list says, in the file's order."""
    survey, near = Survey(reading.timezone), list(reading.near)
    for _, cells, _ in _records(stream):
        survey.add(cells.get("date-time", ""))
        _add_near(near, cells)
    rows = Rows(reading, Mails(), survey.decide(tuple(near), reading.now), needs_time=False)
    for place, cells, raw in _records(stream):
        domain = cells.get("next-hop-domain", "")
        for item in rows.read(_row(cells), place, raw):
            yield replace(item, domain=domain) if domain and isinstance(item, Evidence) else item


def _add_near(near: list[Ms], cells: dict[str, str]) -> None:
    """The times in a row whose form leaves nothing open: they tell day from month in the one that does."""
    for name in ("message-info", "source-context"):
        found = _ISO.search(cells.get(name, ""))
        if found and len(near) < _MOST_NEAR:
            try:
                near.append(Culture().parse(found[0]))
            except ValueError:
                continue


def _records(stream: BinaryIO) -> Iterator[tuple[str, dict[str, str], str]]:
    """The rows of a list with their place and text: one ends where a property comes again."""
    cells: dict[str, str] = {}
    raw: list[str] = []
    first, name = 0, ""
    for number, line in lines(stream):
        text = text_of(line)
        found = _property(text)
        if found is None:
            # A long value goes on in the next line.
            if text and name and len(cells[name]) < _LONGEST:
                cells[name] += " " + text
                raw.append(text)
            continue
        name, value = found
        if name in cells or (name in _FIRST and _TOLD.intersection(cells)):
            if _TOLD.intersection(cells):
                yield f"line {first}", cells, "\n".join(raw)[:RAW_LIMIT]
            cells, raw = {}, []
        if not cells:
            first = number
        cells[name] = value
        raw.append(text)
    if _TOLD.intersection(cells):
        yield f"line {first}", cells, "\n".join(raw)[:RAW_LIMIT]


def _property(line: str) -> tuple[str, str] | None:
    """The column of a line `Name : value` and its value; None for any other line."""
    found = _PROPERTY.match(line)
    if found is None:
        return None
    name = fold(found[1])
    known = _NAMES.get(name, name if name in _OTHERS else "")
    return (known, found[2].strip()) if known else None


def _row(cells: dict[str, str]) -> dict[str, str]:
    """The cells as the log has them; a status alone tells itself what the event was."""
    people = _plain(cells.get("recipient-address", ""))
    row = {name: _plain(cell) for name, cell in cells.items()}
    status = cells.get("recipient-status", "")
    if ";" not in people:
        found = _LIST.fullmatch(status)
        row["recipient-status"] = found[1] if found and "LED=" not in status else status
    if "event-id" not in cells:
        reply = _REPLY.search(status)
        row["event-id"] = "FAIL" if reply and reply[1] == "5" else "DEFER"
    return row


def find(head: bytes) -> Header | None:
    """The header of such a table among the first lines, None for none."""
    text = head.decode(encoding_of_head(head), errors="replace")
    for number, line in enumerate(text.splitlines()[:_HEADER_LINES], 1):
        line = line.strip("\ufeff\r\n")
        if line.startswith("#") or len(line) > 20_000:
            continue
        for separator in SEPARATORS:
            columns = [_NAMES.get(fold(name.strip().strip('"')), "") for name in line.split(separator)]
            if set(columns) >= _NEEDED and _TELLING.intersection(columns):
                return Header(number, separator, columns)
    return None


def read(stream: BinaryIO, header: Header, reading: Reading) -> Iterator[Item]:
    """What each row says, in the file's order."""
    table = Table(stream, encoding_of(stream), header.separator)
    time = header.columns.index("date-time")
    survey = Survey(reading.timezone)
    near = list(reading.near)
    for row in table.rows():
        if not isinstance(row, BadRow) and row.line > header.line and len(row.fields) > time:
            survey.add(row.fields[time])
            _add_near(near, dict(zip(header.columns, row.fields, strict=False)))
            if survey.is_clear:
                break
    rows = Rows(reading, Mails(), survey.decide(tuple(near), reading.now))
    lost = False
    for row in table.rows():
        if row.line <= header.line:
            continue
        place, raw = f"line {row.line}", row.raw.rstrip("\r\n")[:RAW_LIMIT]
        if isinstance(row, BadRow):
            yield reading.unreadable(place, row.reason, raw)
            continue
        if len(row.fields) != len(header.columns):
            told = f"the row has {len(row.fields)} fields, the header {len(header.columns)}"
            yield reading.unreadable(place, told, raw)
            continue
        cells = {name: _plain(cell) for name, cell in zip(header.columns, row.fields, strict=True) if name}
        if not lost and cells["recipient-address"] == _LOST:
            lost = True
            yield reading.unreadable(place, LOST, raw)
        cells = {name: "" if cell == _LOST else cell for name, cell in cells.items()}
        yield from rows.read(cells, place, raw)


def _plain(cell: str) -> str:
    """A cell with a list as the log has it."""
    found = _LIST.fullmatch(cell.strip())
    if found is None or "LED=" in cell:
        return cell
    return ";".join(part.strip() for part in found[1].split(", "))
