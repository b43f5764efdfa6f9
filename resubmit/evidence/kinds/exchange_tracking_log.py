"""Exchange Server's message tracking logs (MSGTRK, MSGTRKMD, MSGTRKMS, MSGTRKMA): a row an event of a mail.

    2026-11-24T05:27:20.700Z,,,,EX01,"[{LED=450 4.4.317 …}]",Internet,SMTP,DEFER,1001,<m1@contoso.test>,…

What a row does not say is put together from earlier ones: when the server took the mail, which address an
address was made of, which group a member is of, who is left of a mail that is put off as a whole. What
Exchange deferred it still holds and tries again; SEND is passed on, and an internal hop when its connector
only goes to the organisation's own servers; DELIVER is the mailbox.

Promises: any bytes give items; columns go by the last `#Fields` line, by the number of fields where there was
none; memory does not grow with the file.

Source: formats.md section 2; design, section 3 rules 6 and 7.
Limits: Exchange 2007 and later; the TLS cause of a deferral is often only in the SMTP protocol log.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from resubmit.evidence.base import RAW_LIMIT, Item, Reading
from resubmit.evidence.kinds import exchange_tracking_log_export as export
from resubmit.evidence.kinds import exchange_tracking_log_words as words
from resubmit.evidence.kinds.exchange_tracking_log_rows import Rows
from resubmit.evidence.kinds.exchange_tracking_log_table import MEMORY_LIMIT, Mails
from resubmit.evidence.loglines import (
    LONGEST,
    CsvLines,
    CsvRow,
    NoRow,
    begins_as,
    columns_of,
    header_of,
    lines,
    remembered,
    text_of,
)
from resubmit.model.evidence import Source

SOURCE = Source.EXCHANGE_TRACKING_LOG

_NEEDED = {"date-time", "event-id", "recipient-address"}
_MOST_COLUMNS = 200
_HEAD = 64 * 1024


def sniff(head: bytes, name: str) -> bool:
    """Whether one of the first lines is such a log's header or row, or it is one that PowerShell printed."""
    if export.find(head) is not None or export.is_list(head):
        return True
    return begins_as(
        head, lambda said: bool(_columns(said)) or said.lower() == "message tracking log", _is_row
    )


def _is_row(fields: list[str]) -> bool:
    return len(fields) > 12 and words.is_tracking(fields[7], fields[8])


def _columns(value: str) -> list[str]:
    """The columns a `#Fields` line names, where they are a tracking log's."""
    return columns_of(value, _NEEDED, _MOST_COLUMNS)


def read(stream: BinaryIO, reading: Reading) -> Iterator[Item]:
    """What each row says, in the file's order."""
    stream.seek(0)
    head = stream.read(_HEAD)
    exported = export.find(head)
    if exported is not None:
        yield from export.read(stream, exported, reading)
        return
    if export.is_list(head):
        yield from export.read_list(stream, reading)
        return
    reader = Machine(reading)
    for number, line in lines(stream):
        yield from reader.line(line, f"line {number}")
    yield from reader.end()


def machine(reading: Reading, memory: str = "") -> Machine:
    """A machine that goes on from `memory`."""
    return Machine(reading, memory)


class Machine:
    """A log read line by line. What it remembers is plain and bounded."""

    def __init__(self, reading: Reading, memory: str = "") -> None:
        self._reading = reading
        self._csv = CsvLines()
        self._columns: list[str] = []
        self._mails = Mails()
        self._rows = Rows(reading, self._mails)
        self._restore(memory)

    def line(self, line: bytes, place: str) -> Iterable[Item]:
        """The items that a line completes."""
        if len(line) > LONGEST:
            return [self._reading.unreadable(place, "the line is longer than a line of such a log")]
        text = text_of(line)
        header = header_of(text)
        if header is not None or text.startswith("#"):
            if header is not None and header[0] == "fields":
                self._columns = _columns(header[1])
            return self._done(self._csv.end())
        return self._done(self._csv.feed(text, place)) if text.strip() else ()

    def end(self) -> Iterable[Item]:
        """A row that is still open."""
        return self._done(self._csv.end())

    def memory(self) -> str:
        """The columns, and the newest mails as far as there is room."""
        room = MEMORY_LIMIT - len(json.dumps(self._columns)) - 100
        return json.dumps({"columns": self._columns, "mails": self._mails.plain(room)})

    def _restore(self, memory: str) -> None:
        match remembered(memory):
            case {"columns": list(columns), "mails": mails}:
                if all(isinstance(name, str) for name in columns):
                    self._columns = columns[:_MOST_COLUMNS]
                self._mails.restore(mails)

    def _done(self, rows: list[CsvRow | NoRow]) -> list[Item]:
        items: list[Item] = []
        for row in rows:
            if isinstance(row, NoRow):
                items.append(self._reading.unreadable(row.place, row.reason, row.raw))
                continue
            columns, fields = self._columns, row.fields
            if len(fields) != len(columns):
                columns = words.LAYOUTS.get(len(fields), [])
            if not columns:
                columns, fields = self._columns, words.rejoined(fields, self._columns)
            if len(fields) != len(columns) or not columns:
                told = f"the row has {len(row.fields)} fields, the header {len(self._columns)}"
                items.append(self._reading.unreadable(row.place, told, row.raw))
                continue
            cells = dict(zip(columns, fields, strict=True))
            items += self._rows.read(cells, row.place, row.raw[:RAW_LIMIT])
        return items
