"""Exchange Server's SMTP protocol logs (SmtpSend, SmtpReceive): the conversations, line by line.

    2026-11-24T05:27:20.350Z,Internet,08DE2B1A4C0000A1,9,10.0.0.2:28252,192.0.2.10:25,*,,TLS negotiation …

Sessions run beside each other in a file; each is followed by its id. What is told: who was refused and who
was taken, with the peer's own words; and of a session that came to no mail, why: that is where the cause of a
TLS fault stands, which queues and tracking logs call a network fault. Such a session names no recipient: it
is evidence about the peer.

Promises: any bytes give items; memory does not grow with the file: the session not heard of for longest goes.

Source: formats.md section 3; design, section 3 rule 7.
Limits: a Message-ID is only known where Exchange logs it (`sending message with … InternetMessageId`) or the
peer's reply repeats it; when Exchange took the mail is taken to be when it first offered it.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from resubmit.evidence.base import RAW_LIMIT, Item, Reading
from resubmit.evidence.kinds.exchange_smtp_log_session import Row, Session, endpoint
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
from resubmit.evidence.stamps import Culture
from resubmit.model.evidence import Source
from resubmit.model.moment import Ms

SOURCE = Source.EXCHANGE_SMTP_LOG

_COLUMNS = [
    "date-time",
    "connector-id",
    "session-id",
    "sequence-number",
    "local-endpoint",
    "remote-endpoint",
    "event",
    "data",
    "context",
]
_NEEDED = {"date-time", "session-id", "event", "data"}
_KIND = re.compile(r"SMTP (Send|Receive) Protocol Log", re.IGNORECASE)
_MOST_COLUMNS = 50
_MOST_SESSIONS = 4_000
_MOST_OFFERED = 20_000
MEMORY_LIMIT = 256 * 1024


def sniff(head: bytes, name: str) -> bool:
    """Whether one of the first lines is such a log's header or row."""
    return begins_as(head, lambda said: bool(_columns(said) or _KIND.fullmatch(said)), _is_row)


def _is_row(fields: list[str]) -> bool:
    # Pages that show logs tend to lose the `*`.
    return 8 <= len(fields) <= 9 and fields[6] in ("+", "-", ">", "<", "*", "") and fields[3].isdigit()


def _columns(value: str) -> list[str]:
    """The columns a `#Fields` line names, where they are a protocol log's."""
    return columns_of(value, _NEEDED, _MOST_COLUMNS)


def read(stream: BinaryIO, reading: Reading) -> Iterator[Item]:
    """What each session tells, in the file's order."""
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
        self._culture = Culture(reading.timezone)
        self._csv = CsvLines()
        self._columns = _COLUMNS
        self._sends: bool | None = None
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._offered: OrderedDict[str, Ms] = OrderedDict()
        """When a mail was offered to anybody for the first time."""
        self._restore(memory)

    def line(self, line: bytes, place: str) -> Iterable[Item]:
        """The items that a line completes."""
        if len(line) > LONGEST:
            return [self._reading.unreadable(place, "the line is longer than a line of such a log")]
        text = text_of(line)
        header = header_of(text)
        if header is not None or text.startswith("#"):
            if header is not None and header[0] == "fields":
                self._columns = _columns(header[1]) or _COLUMNS
            elif header is not None and (kind := _KIND.fullmatch(header[1])) is not None:
                self._sends = kind[1].lower() == "send"
            return self._done(self._csv.end())
        return self._done(self._csv.feed(text, place)) if text.strip() else ()

    def end(self) -> Iterable[Item]:
        """What sessions that were cut off by the end of the file have told."""
        items = self._done(self._csv.end())
        for session in self._sessions.values():
            items += session.end()
        self._sessions.clear()
        return items

    def memory(self) -> str:
        """The columns, the sessions that are open and the mails offered last, as far as there is room."""
        kept: dict[str, object] = {}
        room = MEMORY_LIMIT // 2
        for key, session in reversed(self._sessions.items()):
            plain = session.plain()
            room -= len(json.dumps([key, plain])) + 4
            if room < 0:
                break
            kept[key] = plain
        offered: list[object] = []
        room = MEMORY_LIMIT // 2 - 1_000 - len(json.dumps(self._columns))
        for key, at in reversed(self._offered.items()):
            room -= len(json.dumps([key, at])) + 2
            if room < 0:
                break
            offered.append([key, at])
        known = {
            "columns": self._columns,
            "sends": self._sends,
            "sessions": dict(reversed(kept.items())),
            "offered": offered[::-1],
        }
        return json.dumps(known)

    def _restore(self, memory: str) -> None:
        match remembered(memory):
            case {
                "columns": list(columns),
                "sends": bool() | None as sends,
                "sessions": dict(sessions),
                "offered": list(offered),
            }:
                self._sends = sends
                if all(isinstance(name, str) for name in columns) and len(columns) <= _MOST_COLUMNS:
                    self._columns = columns if set(columns) >= _NEEDED else _COLUMNS
                for key, plain in sessions.items():
                    self._sessions[key] = Session(self._reading, self._first_offered)
                    self._sessions[key].restore(plain)
                for one in offered:
                    match one:
                        case [str(key), int(at)]:
                            self._offered[key] = at

    def _done(self, rows: list[CsvRow | NoRow]) -> list[Item]:
        items: list[Item] = []
        for row in rows:
            if isinstance(row, NoRow):
                items.append(self._reading.unreadable(row.place, row.reason, row.raw))
            else:
                items += self._row(row)
        return items

    def _row(self, row: CsvRow) -> list[Item]:
        raw = row.raw[:RAW_LIMIT]
        # The context is left out by some versions where it is empty.
        fields = row.fields + [""] * (len(self._columns) - len(row.fields) == 1)
        if len(fields) != len(self._columns):
            told = f"the row has {len(row.fields)} fields, the header {len(self._columns)}"
            return [self._reading.unreadable(row.place, told, raw)]
        cells = {name: cell.strip() for name, cell in zip(self._columns, fields, strict=True)}
        try:
            at = self._culture.parse(cells["date-time"], utc=True)
        except ValueError as error:
            return [self._reading.unreadable(row.place, str(error), raw)]
        session, earlier = self._session(cells)
        told_now = session.row(
            Row(
                at,
                cells["event"],
                cells["data"],
                cells.get("context", ""),
                cells.get("connector-id", ""),
                endpoint(cells.get("remote-endpoint", "")),
                row.place,
                raw,
            )
        )
        if cells["event"] == "-":
            self._sessions.pop(cells["session-id"], None)
        return [*earlier, *told_now]

    def _session(self, cells: dict[str, str]) -> tuple[Session, list[Item]]:
        """The session of a row, begun where it is not known; what one of the same id still had to tell."""
        key, earlier = cells["session-id"][:100], list[Item]()
        if cells.get("sequence-number") == "0" and key in self._sessions:
            earlier = self._sessions.pop(key).end()
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = Session(self._reading, self._first_offered, self._sends)
            if len(self._sessions) > _MOST_SESSIONS:
                self._sessions.popitem(last=False)
        self._sessions.move_to_end(key)
        return session, earlier

    def _first_offered(self, key: str, at: Ms) -> Ms:
        """When the mail of this key was offered first."""
        first = self._offered.setdefault(key[:400], at)
        self._offered.move_to_end(key[:400])
        if len(self._offered) > _MOST_OFFERED:
            self._offered.popitem(last=False)
        return first
