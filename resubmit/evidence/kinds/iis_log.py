"""The log of the IIS SMTP service (SMTPSVC1), as W3C, NCSA or IIS file; Exchange 2000 and 2003 write it too.

What clients bring is one row a command with its answer's code; what the service sends is a row a command and
a row the first line of each reply. Told are refusals with the peer's own words, what was taken, and sessions
that failed before any mail. A Message-ID stands only at the DATA of what came in, and is carried to what goes
out for the same sender and recipient, if only one can be meant.

Promises: any bytes give items; columns and dates go by the last header; memory does not grow with the file.

Source: formats.md section 4; design, section 3 rule 7.
Limits: logging is off by default and leaves out addresses and replies then; no row says which connection it
belongs to; what became of a mail that is given up after its time is not in this log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO

from resubmit.evidence.base import RAW_LIMIT, Item, Reading
from resubmit.evidence.conversation import Told
from resubmit.evidence.kinds import iis_log_rows as rows
from resubmit.evidence.kinds.iis_log_talks import Comings, Queue, Talk, Talks
from resubmit.evidence.loglines import LONGEST, head_lines, lines, remembered, text_of
from resubmit.evidence.stamps import Culture, Survey
from resubmit.meaning.classify import codes, is_expiry, meaning_of
from resubmit.model.evidence import Evidence, Holder, Source, Status
from resubmit.model.message import message_id_of
from resubmit.model.moment import Ms

SOURCE = Source.IIS_LOG
MEMORY_LIMIT = 256 * 1024

_SOFTWARE = re.compile(r"#Software: (?:Microsoft (?:Internet Information|SMTP)|.*\bIIS\b)", re.IGNORECASE)
_SMTP_FIELDS = re.compile(rf"(?:^| )(?:{rows.VERBS})(?: |$)")
_NATIVE_DATE = re.compile(r"[^,]*, [^,]*, ([\d./-]+), (\d{1,2}:\d\d:\d\d(?: [AP]M)?), SMTPSVC", re.IGNORECASE)
_PATH = re.compile(r"(?:FROM|TO)?\s*:?\s*(?:<([^<>]*)>|(\S+))", re.IGNORECASE)


def sniff(head: bytes, name: str) -> bool:
    """Whether one of the first rows is one of the SMTP service's."""
    w3c = False
    for line in head_lines(head):
        if line.startswith("#"):
            if re.match(r"#(?:Log-type|Fields): .*(?:Log$|,)", line, re.IGNORECASE):
                return False
            w3c = w3c or bool(_SOFTWARE.match(line)) or line[:8].lower() == "#fields:"
        elif rows.is_smtp(line):
            return True
        elif not w3c:
            return False
        elif _SMTP_FIELDS.search(line) and " /" not in line:
            return True  # a few columns only, without the site's name
    return False


def read(stream: BinaryIO, reading: Reading) -> Iterator[Item]:
    """What each row tells, in the file's order."""
    reader = Machine(reading)
    reader.rows.culture = _culture(stream, reading)
    for number, line in lines(stream):
        yield from reader.line(line, f"line {number}")
    yield from reader.end()


def _culture(stream: BinaryIO, reading: Reading) -> Culture:
    """How dates of the IIS form are read; the other forms leave nothing open."""
    survey = Survey(reading.timezone)
    for number, line in lines(stream):
        found = _NATIVE_DATE.match(text_of(line[:200]))
        if found:
            survey.add(f"{found[1]} {found[2]}")
        elif number > 100 and not found:
            break
    return survey.decide(reading.near, reading.now)


def machine(reading: Reading, memory: str = "") -> Machine:
    """A machine that goes on from `memory`."""
    return Machine(reading, memory)


class Machine:
    """A log read line by line. What it remembers is plain and bounded."""

    def __init__(self, reading: Reading, memory: str = "") -> None:
        self._reading = reading
        self.rows = rows.Reader(Culture(reading.timezone))
        self._talks = Talks()
        self._comings = Comings()
        self._queue = Queue()
        self._restore(memory)

    def line(self, line: bytes, place: str) -> Iterable[Item]:
        """The items that a line completes."""
        if len(line) > LONGEST:
            return [self._reading.unreadable(place, "the line is longer than a line of such a log")]
        text = text_of(line).strip()
        raw = text[:RAW_LIMIT]
        if text.startswith("#"):
            told = self.rows.header(text)
            return [self._reading.unreadable(place, told, raw)] if told else []
        if not text:
            return []
        try:
            row = self.rows.read(text)
        except rows.NoRow as error:
            return [self._reading.unreadable(place, str(error), raw)]
        if row.way == "in":
            return self._incoming(row, place, raw)
        tell = self._talks.command if row.way == "command" else self._talks.response
        return self._all_outgoing(tell(row, place, raw))

    def end(self) -> Iterable[Item]:
        """TLS handshakes that nothing followed, and refusals before any recipient."""
        return self._all_outgoing(self._talks.end())

    def memory(self) -> str:
        """The columns, the conversations, and the mails that are still to go out, as far as there is room."""
        times = [self.rows.day, self.rows.clock, self.rows.begun]
        known: dict[str, object] = {"columns": self.rows.columns[:200], "times": times}
        room = (MEMORY_LIMIT - len(json.dumps(known)) - 1_000) // 3
        known["talks"] = self._talks.plain(room)
        known["comings"] = self._comings.plain(room)
        known["queue"] = self._queue.plain(room)
        return json.dumps(known)

    def _restore(self, memory: str) -> None:
        match remembered(memory):
            case {
                "columns": list(columns),
                "times": [int() | None as day, int(clock), int() | None as begun],
                "talks": talks,
                "comings": comings,
                "queue": queue,
            }:
                if all(isinstance(name, str) for name in columns):
                    self.rows.columns = columns
                self.rows.day, self.rows.clock, self.rows.begun = day, clock, begun
                self._talks.restore(talks)
                self._comings.restore(comings)
                self._queue.restore(queue)

    def _incoming(self, row: rows.Line, place: str, raw: str) -> list[Item]:
        """A command of a client with its answer."""
        client = f"{row.server} {row.peer}"
        bad = row.code >= 400
        base = self._base(row.at, row.peer, place, raw)
        if row.verb == "MAIL":
            sender = _address(row.words)
            if bad:
                return [self._refused(replace(base, sender=sender), row)]
            self._comings.begin(client, sender)
        elif row.verb == "RCPT":
            coming = self._comings.of(client)
            recipient = _address(row.words)
            if row.code == 503:
                return []  # out of order: the refusal was told before
            if bad:
                known = coming.sender if coming and not coming.unsure else ""
                item = replace(base, recipient=recipient, sender=known)
                return [self._refused(item, row)] if recipient else []
            if coming is not None and recipient:
                coming.add(recipient)
        elif row.verb in ("DATA", "BDAT"):
            return self._taken(client, row, base)
        elif row.verb in ("RSET", "QUIT"):
            self._comings.end(client)
        return []

    def _taken(self, client: str, row: rows.Line, base: Evidence) -> list[Item]:
        """The data of a client's mail: taken or refused as a whole."""
        coming = self._comings.end(client)
        if coming is None:
            return []
        if coming.unsure:
            reason = "this client brings two mails at once: whose recipients are whose can't be told"
            return [self._reading.unreadable(base.place, reason, base.raw)]
        message_id = message_id_of(row.words) if "@" in row.words or "<" in row.words else ""
        items: list[Item] = []
        for recipient in coming.recipients:
            item = replace(
                base, recipient=recipient, sender=coming.sender, message_id=message_id, size=row.octets
            )
            if row.code >= 400:
                items.append(self._refused(item, row))
                continue
            self._queue.put(coming.sender, recipient, message_id, row.at)
            keeper = Holder.FAR if self._reading.position == "behind" else Holder.RELAY
            items.append(replace(item, received_at=row.at, code=row.code or None, holder=keeper))
        return items

    def _refused(self, item: Evidence, row: rows.Line) -> Evidence:
        """What a client was refused: whoever brought it has it, if it may come again."""
        text = str(row.code)
        for_good = row.code >= 500
        return replace(
            item,
            status=Status.FAILED if for_good else Status.DEFERRED,
            code=row.code,
            text=text,
            meaning=meaning_of(text, code=row.code),
            holder=Holder.NOBODY if for_good else None,
        )

    def _all_outgoing(self, told_of: list[tuple[Talk, list[Told]]]) -> list[Item]:
        return [item for talk, told in told_of for one in told for item in self._outgoing(talk, one)]

    def _outgoing(self, talk: Talk, told: Told) -> list[Item]:
        """What a host said to this server."""
        if talk.unsure and told.how != "session":
            reason = "two conversations with this host at once: whose reply it is can't be told"
            return [self._reading.unreadable(talk.place, reason, talk.raw)]
        if told.how == "session":
            if talk.blamed:
                return []
            talk.blamed = True
        mail = talk.said.mail
        code, enhanced = codes(told.text)
        code = told.code if told.code is not None else code
        status = Status.DEFERRED
        if told.how == "taken":
            status = Status.RELAYED
        elif told.how == "refused" and code is not None and code >= 500:
            status = Status.EXPIRED if is_expiry(told.text) else Status.FAILED
        ended = status is not Status.DEFERRED
        message_id, taken_at = self._queue.get(mail.sender, told.recipient, talk.latest, ended=ended)
        begun = talk.said.mails > 0
        item = replace(
            self._base(talk.latest, talk.peer, talk.place, talk.raw),
            status=status,
            recipient=told.recipient,
            original_recipient=told.original if told.original.lower() != told.recipient.lower() else "",
            sender=mail.sender if begun else "",
            size=mail.size if begun else None,
            envelope_id=mail.envelope_id if begun else "",
            message_id=message_id,
            received_at=taken_at,
            code=code,
            enhanced_code=enhanced,
            text=told.text,
            remote=_remote(talk),
            meaning=None if status is Status.RELAYED else meaning_of(told.text, code=code, enhanced=enhanced),
        )
        return [self._held(item)]

    def _held(self, item: Evidence) -> Evidence:
        """An item with who has the mail now; a server in front of us says nothing of what we did with it."""
        if self._reading.position == "before":
            return replace(item, status=Status.NONE, received_at=None, meaning=None)
        keeper = Holder.FAR if self._reading.position == "behind" else Holder.RELAY
        holder = {Status.DEFERRED: keeper, Status.RELAYED: Holder.FAR}.get(item.status, Holder.NOBODY)
        return replace(item, holder=holder)

    def _base(self, at: Ms | None, peer: str, place: str, raw: str) -> Evidence:
        return Evidence(
            source=SOURCE,
            status=Status.NONE,
            # Without a column of times, the header's is the nearest there is.
            observed_at=at if at is not None else self.rows.begun,
            remote=peer,
            file=self._reading.name,
            place=place,
            raw=raw,
        )


def _address(words: str) -> str:
    found = _PATH.match(words.strip())
    return ((found[1] if found[1] is not None else found[2]) or "").strip() if found else ""


def _remote(talk: Talk) -> str:
    host = talk.said.host
    if host and talk.peer and host != talk.peer:
        return f"{host} [{talk.peer}]"
    return host or talk.peer


__all__ = ["MEMORY_LIMIT", "SOURCE", "Machine", "machine", "read", "sniff"]
