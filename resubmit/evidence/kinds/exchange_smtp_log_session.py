"""One session of a protocol log → what it tells of each recipient, or of the peer where it came to no mail.

Source: formats.md section 3 (events, the words of `*` rows); design, section 3 rule 7.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from resubmit.evidence.base import Item, Reading
from resubmit.evidence.conversation import Conversation, Told
from resubmit.evidence.kinds.exchange_tracking_log_words import is_internal
from resubmit.meaning.classify import codes, is_expiry, meaning_of
from resubmit.model.evidence import Cause, Evidence, Holder, Source, Status
from resubmit.model.message import message_id_of
from resubmit.model.moment import Ms

_MESSAGE = re.compile(
    r"(?:sending|receiving) message(?: with)?(?: RecordId (?P<record>\d+))?"
    r"(?:.*?InternetMessageId (?P<id><.*))?",
    re.IGNORECASE,
)
_QUEUED = re.compile(r"(<[^<>\s]+>)(?: \[InternalId=(\d+), Hostname=([^\]\s]+)\])?", re.IGNORECASE)
_TROUBLE = re.compile(
    r"fail|error|unable|can(?:no|')t|could ?n.t|mismatch|expired|revoked|untrusted|denied|reject|timed ?out"
    r"|refused|abort|does ?n.t|does not|not (?:be )?(?:trusted|valid|supported|found|available|match|offer)"
    r"|UntrustedRoot|NameMismatch|invalid",
    re.IGNORECASE,
)
_FINE = re.compile(r"succeeded|succeeded\.|tarpit|attempting to connect", re.IGNORECASE)
_NOT_OFFERED = "TLS is required, but was not offered: no STARTTLS in the reply to EHLO"
_WEIGHT = {Cause.TLS: 2, Cause.CONNECTION: 1}
"""Which of two reasons is nearer to the truth: a dropped connection follows from a failed handshake."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a session. remote: the peer's address without its port."""

    at: Ms
    event: str
    data: str
    context: str
    connector: str
    remote: str
    place: str
    raw: str


def _closed(context: str) -> str:
    """How the end of a connection is called: `Remote(SocketError)`."""
    found = re.match(r"(remote|local)?\W*(\w*)", context.strip(), re.IGNORECASE)
    who, why = (found[1] or "", found[2]) if found else ("", "")
    by = {"remote": " by the peer", "local": " by this server"}.get(who.lower(), "")
    return f"connection closed{by}" + (f" ({why})" if why and who else "")


def endpoint(text: str) -> str:
    """The address of `192.0.2.1:25` or `[2001:db8::1]:25`, "" for none."""
    found = re.fullmatch(r"\[?([0-9A-Fa-f.:%\w]*?)\]?(?::\d{1,5})?", text.strip())
    if text.count(":") > 1 and "[" not in text:
        return text.strip()
    return found[1] if found else text.strip()[:100]


class Session:
    """A session as far as it was read. first_offered: when a mail was offered to anybody first; sends: what
    the log's header says of who speaks first, None where it says nothing."""

    def __init__(
        self, reading: Reading, first_offered: Callable[[str, Ms], Ms], sends: bool | None = None
    ) -> None:
        self._reading = reading
        self._first_offered = first_offered
        self._talk = Conversation()
        self._sends = sends
        self._heard = False
        self._message_id = ""
        self._record = ""
        self._named = False
        """A row has named the mail that comes next."""
        self._fault: tuple[str, int | None] | None = None
        self._fault_row: Row | None = None
        self._told = False
        self._latest: Row | None = None

    def row(self, row: Row) -> list[Item]:
        """What a row completes."""
        self._latest = row if row.remote or self._latest is None else replace(row, remote=self._latest.remote)
        row = self._latest
        if row.event in ("<", ">"):
            return self._spoken(row)
        if row.event == "*":
            self._note(row)
        elif row.event == "-":
            items = self._items(self._talk.closed(_closed(row.context)), row)
            return items + self._outcome(row)
        elif row.context or row.data:
            self._note(row)
        return []

    def end(self) -> list[Item]:
        """What it has told when nothing more of it comes."""
        if self._latest is None:
            return []
        return [*self._items(self._talk.end(), self._latest), *self._outcome(self._latest)]

    def _spoken(self, row: Row) -> list[Item]:
        is_reply = row.data[:3].isdigit() and not row.data[3:4].isalnum()
        if not self._heard:
            # The rows themselves know better than a header that may be another file's.
            self._sends, self._heard = (row.event == "<") == is_reply, True
        ours = row.event == ">"
        if ours == self._sends:
            if row.data[:5].upper() == "MAIL ":
                if not (self._sends and self._named):
                    self._message_id = self._record = ""  # of the mail before
                self._named = False
            return self._items(self._talk.command(row.data), row)
        return self._items(self._talk.reply(row.data), row)

    def _note(self, row: Row) -> None:
        """A row of information: the mail that comes next, or what went wrong."""
        words = row.context or row.data
        found = _MESSAGE.match(words)
        if found:
            named = message_id_of(found["id"] or "") or message_id_of(row.data)
            self._message_id = named if "<" in named else ""
            self._record, self._named = found["record"] or "", True
            return
        if _FINE.search(words) or not _TROUBLE.search(f"{words} {row.data}"):
            return
        text = f"{words} {row.data}".strip() if row.context and row.data else words
        if meaning_of(text).cause in _WEIGHT or "failed" in text.lower():
            self._blame(text, None, row)

    def _blame(self, text: str, code: int | None, row: Row) -> None:
        """Why the session comes to no mail; the words about TLS stand before those that follow from it."""
        if self._fault is not None and self._fault_row is not None:
            known, new = meaning_of(self._fault[0], code=self._fault[1]), meaning_of(text, code=code)
            if _WEIGHT.get(new.cause, 0) <= _WEIGHT.get(known.cause, 0):
                return
        self._fault, self._fault_row = (text, code), row

    def _outcome(self, row: Row) -> list[Item]:
        """A session that came to no mail is told of, once."""
        if self._told or self._talk.mails:
            return []
        if self._fault is None and self._talk.is_plain_end and self._sends:
            self._fault, self._fault_row = (_NOT_OFFERED, None), row
        if self._fault is None or self._fault_row is None:
            return []
        self._told = True
        text, code = self._fault
        return self._items([Told("session", "", text, code)], self._fault_row, final=True)

    def _items(self, told: list[Told], row: Row, *, final: bool = False) -> list[Item]:
        items: list[Item] = []
        for one in told:
            if one.how == "session" and not final:
                self._blame(one.text, one.code, row)
            else:
                items.append(self._evidence(one, row))
        return items

    def _evidence(self, told: Told, row: Row) -> Evidence:
        code, enhanced = codes(told.text)
        code = told.code if told.code is not None else code
        queued = _QUEUED.search(told.text) if told.how == "taken" else None
        replied = message_id_of(queued[1]) if queued else ""
        message_id = (self._message_id or replied) if self._sends else (replied or self._message_id)
        status = self._status(told, code, row)
        faulty = status in (Status.DEFERRED, Status.FAILED, Status.EXPIRED)
        key = f"{self._record} {message_id}" if message_id else ""
        received = None
        if self._sends and key:
            received = self._first_offered(key, row.at)
        elif told.how == "taken":
            received = row.at
        mail = self._talk.mail
        item = Evidence(
            source=Source.EXCHANGE_SMTP_LOG,
            status=status,
            recipient=told.recipient,
            original_recipient=told.original if told.original.lower() != told.recipient.lower() else "",
            observed_at=row.at,
            received_at=received,
            message_id=message_id,
            envelope_id=mail.envelope_id if self._talk.mails else "",
            queue_id=queued[2] or "" if queued and not self._sends else "",
            sender=mail.sender if self._talk.mails else "",
            size=mail.size if self._talk.mails else None,
            code=code,
            enhanced_code=enhanced,
            text=told.text,
            remote=self._remote(row),
            meaning=meaning_of(told.text, code=code, enhanced=enhanced) if faulty else None,
            file=self._reading.name,
            place=row.place,
            raw=row.raw,
        )
        return self._held(item)

    def _status(self, told: Told, code: int | None, row: Row) -> Status:
        if told.how == "taken":
            # What this server takes from a client it has; what another server of the house takes, the house.
            passed = self._sends and not is_internal(row.connector) and not self._talk.is_inside
            return Status.RELAYED if passed else Status.NONE
        if told.how == "refused" and code is not None and code >= 500:
            return Status.EXPIRED if is_expiry(told.text) else Status.FAILED
        return Status.DEFERRED

    def _held(self, item: Evidence) -> Evidence:
        """The item with who has the mail now."""
        position = self._reading.position
        if position == "before" and self._sends:
            return replace(item, status=Status.NONE, received_at=None, meaning=None)
        keeper = Holder.FAR if position == "behind" else Holder.RELAY
        holder: Holder | None
        match item.status:
            case Status.RELAYED:
                holder = Holder.FAR
            case Status.FAILED | Status.EXPIRED:
                holder = Holder.NOBODY
            case Status.DEFERRED:
                holder = keeper if self._sends else None  # it was not taken: whoever brought it has it
            case _:
                holder = keeper
        return replace(item, holder=holder)

    def _remote(self, row: Row) -> str:
        host = self._talk.host if self._sends else ""
        if host and row.remote and host != row.remote:
            return f"{host} [{row.remote}]"
        return host or row.remote

    def plain(self) -> dict[str, object]:
        """What it knows, as plain values."""
        fault = self._fault_row
        latest = self._latest
        return {
            "talk": self._talk.plain(),
            "sends": self._sends,
            "heard": self._heard,
            "id": self._message_id,
            "record": self._record,
            "named": self._named,
            "fault": list(self._fault) if self._fault else None,
            "fault_row": _plain_row(fault) if fault else None,
            "told": self._told,
            "latest": _plain_row(latest) if latest else None,
        }

    def restore(self, plain: object) -> None:
        """What `plain` gave; anything else is forgotten."""
        match plain:
            case {
                "talk": talk,
                "sends": bool() | None as sends,
                "heard": bool(heard),
                "id": str(message_id),
                "record": str(record),
                "named": bool(named),
                "fault": fault,
                "fault_row": fault_row,
                "told": bool(told),
                "latest": latest,
            }:
                self._talk.restore(talk)
                self._sends, self._heard, self._told = sends, heard, told
                self._message_id, self._record, self._named = message_id, record, named
                self._latest, row = _row(latest), _row(fault_row)
                match fault:
                    case [str(text), int() | None as code] if row is not None:
                        self._fault, self._fault_row = (text, code), row


def _plain_row(row: Row) -> list[object]:
    return [
        row.at,
        row.event,
        row.data[:1_000],
        row.context[:1_000],
        row.connector,
        row.remote,
        row.place,
        row.raw,
    ]


def _row(plain: object) -> Row | None:
    match plain:
        case [int(at), str(a), str(b), str(c), str(d), str(e), str(f), str(g)]:
            return Row(at, a, b, c, d, e, f, g)
    return None
