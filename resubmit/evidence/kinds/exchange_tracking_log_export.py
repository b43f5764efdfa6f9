"""`Get-MessageTrackingLog` with `Export-Csv` or `Format-List`: a tracking log as PowerShell prints it.

    "Timestamp","ClientIp",…,"Source","EventId",…,"MessageId","NetworkMessageId","Recipients",…
    EventId                 : FAIL

Times are the machine's local ones in its culture; lists are `{a, b}`, joined by somebody, or lost as
`System.String[]`.

Source: Microsoft's page on Get-MessageTrackingLog; microsoft.md section 2.4 (cultures, separators, `#TYPE`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from resubmit.evidence.base import RAW_LIMIT, Item, Reading
from resubmit.evidence.csvrows import SEPARATORS, BadRow, Table, encoding_of, encoding_of_head
from resubmit.evidence.kinds.exchange_tracking_log_rows import Rows
from resubmit.evidence.kinds.exchange_tracking_log_table import Mails
from resubmit.evidence.kinds.trace_words import fold
from resubmit.evidence.loglines import head_lines, lines, text_of
from resubmit.evidence.stamps import Survey

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
}
_NEEDED = {"date-time", "event-id", "recipient-address"}
_TELLING = {"internal-message-id", "connector-id", "source-context", "client-hostname", "recipient-status"}
_HEADER_LINES = 10
_PROPERTY = re.compile(r"([A-Z]\w{2,40})\s*: ?(.*)", re.DOTALL)
_LONGEST = 20_000
_MOST_LINES = 100
_MOST_PROPERTIES = 200
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
    """Whether a file begins as such a list: one of the first lines is a property of a row, and `EventId` and
    `Recipients` follow."""
    names: set[str] = set()
    for line in head_lines(head, 100):
        found = _PROPERTY.match(line)
        if found is None and not names:
            if len(line) > 200 or line.count(",") > 5:
                return False
        elif found is not None:
            names.add(_NAMES.get(fold(found[1]), ""))
    return names >= {"event-id", "recipient-address"} and bool(_TELLING.intersection(names))


def read_list(stream: BinaryIO, reading: Reading) -> Iterator[Item]:
    """What each row of a list says, in the file's order."""
    survey = Survey(reading.timezone)
    for _, cells, _ in _records(stream):
        survey.add(cells.get("date-time", ""))
    rows = Rows(reading, Mails(), survey.decide(reading.near, reading.now))
    for place, cells, raw in _records(stream):
        yield from rows.read({name: _plain(cell) for name, cell in cells.items()}, place, raw)


def _records(stream: BinaryIO) -> Iterator[tuple[str, dict[str, str], str]]:
    """The rows of a list with their place and text: they end where a property comes again, or are one."""
    cells: dict[str, str] = {}
    raw: list[str] = []
    first, name = 0, ""
    for number, line in lines(stream):
        text = text_of(line)
        found = _PROPERTY.match(text)
        if found is None:
            # A long value goes on in the next line.
            if text and name and len(cells[name]) < _LONGEST:
                cells[name] += " " + text
                raw.append(text)
            continue
        name = _NAMES.get(fold(found[1]), fold(found[1]))
        if len(cells) >= _MOST_PROPERTIES and name not in cells:
            name = ""
            continue
        if name in cells:
            if "event-id" in cells:
                yield f"line {first}", cells, "\n".join(raw)[:RAW_LIMIT]
            cells, raw = {}, []
        if not cells:
            first = number
        cells[name] = found[2].strip()
        if len(raw) < _MOST_LINES:
            raw.append(text)
    if "event-id" in cells:
        yield f"line {first}", cells, "\n".join(raw)[:RAW_LIMIT]


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
    for row in table.rows():
        if not isinstance(row, BadRow) and row.line > header.line and len(row.fields) > time:
            survey.add(row.fields[time])
            if survey.is_clear:
                break
    rows = Rows(reading, Mails(), survey.decide(reading.near, reading.now))
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
