"""Postfix's log: what became of each recipient of each mail that went through it.

    A0A252203A8: to=<a@contoso.com>, relay=mx[192.0.2.1]:25, delay=0.12, …, dsn=4.7.5, status=deferred (…)

What no line says by itself is put together from several: the Message-ID, sender and time of a queue id; why
TLS failed, which stands in an earlier line of the same process; that everybody whom Postfix still had when it
gave a mail up is given up. A deferred mail is held by Postfix, which goes on trying; `sent` is passed on, and
delivered only into a mailbox of this host.

Promises: any bytes give items; memory does not grow with the file; no header or body line is kept, only
replies and reasons.

Source: formats.md section 1; design, section 3 rule 7.
Limits: a log begun in the middle does not tell the Message-ID of mail that came before; then the queue id and
the time are all there is to match by.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO

from resubmit.evidence.base import RAW_LIMIT, Item, Reading
from resubmit.evidence.kinds import postfix_log_files as files
from resubmit.evidence.kinds import postfix_log_words as words
from resubmit.evidence.kinds.postfix_log_lines import BARE, Line, NoLine, Stamps, decoded, parse
from resubmit.evidence.kinds.postfix_log_table import MEMORY_LIMIT, Mail, Table, Waiting
from resubmit.evidence.loglines import remembered
from resubmit.meaning.classify import is_expiry, meaning_of
from resubmit.model.evidence import Cause, Evidence, Holder, Source, Status
from resubmit.model.message import message_id_of
from resubmit.model.moment import MINUTE, Ms

SOURCE = Source.POSTFIX_LOG

_MOST_PEERS = 2_000
"""Processes, and domains, whose last TLS fault is remembered."""
_NO_FAULT = ("", "", 0)
_HANDSHAKE: Ms = 5 * MINUTE
"""What is said of one handshake is said within this time."""
_DELETED = "deleted from the queue by an administrator"


def sniff(head: bytes, name: str) -> bool:
    """Whether one of the first lines is Postfix's, and the file is no mail that quotes some."""
    return files.is_postfix(head)


def read(stream: BinaryIO, reading: Reading) -> Iterator[Item]:
    """What each line says, in the file's order."""
    machine = Machine(reading, grows=False)
    machine.stamps.first_year = files.first_year(stream, reading)
    for place, entry in files.entries(stream):
        if isinstance(entry, bytes):
            yield from machine.line(entry, place)
        else:
            yield from machine.fields(entry, place)
    yield from machine.end()


def machine(reading: Reading, memory: str = "") -> Machine:
    """A machine that goes on from `memory`."""
    return Machine(reading, memory)


class Machine:
    """A log read line by line. What it remembers is plain and bounded."""

    def __init__(self, reading: Reading, memory: str = "", *, grows: bool = True) -> None:
        self._reading = reading
        self._table = Table()
        self._faults: OrderedDict[str, tuple[str, str, Ms]] = OrderedDict()
        """Process or domain → the peer, why TLS with it failed last, and when."""
        self.stamps = Stamps(reading.timezone, reading.now, grows=grows)
        self._restore(memory)

    def line(self, line: bytes, place: str) -> Iterable[Item]:
        """The items that a line completes."""
        text = decoded(line)
        try:
            found = parse(text, self.stamps)
        except NoLine as error:
            return [self._reading.unreadable(place, str(error), words.without_headers(text))]
        return [] if found is None else self._said(found, place, text)

    def fields(self, fields: dict[str, bytes], place: str) -> Iterable[Item]:
        """The items that an entry of journald's export form completes."""
        found = files.of_export(fields, self.stamps)
        return [] if found is None else self._said(found, place, f"{found.daemon}: {found.text}")

    def end(self) -> Iterable[Item]:
        """Nothing waits for the end."""
        return ()

    def memory(self) -> str:
        """Mails, TLS faults and the last time, the newest first as far as there is room."""
        faults = [[key, *fault] for key, fault in list(self._faults.items())[-200:]]
        room = MEMORY_LIMIT - len(json.dumps([self.stamps.last, faults])) - 100
        return json.dumps({"last": self.stamps.last, "faults": faults, "mails": self._table.plain(room)})

    def _restore(self, memory: str) -> None:
        match remembered(memory):
            case {"last": last, "faults": list(faults), "mails": mails}:
                self.stamps.last = last if isinstance(last, int) else None
                for fault in faults:
                    match fault:
                        case [str(key), str(peer), str(why), int(at)]:
                            self._faults[key] = peer, why, at
                self._table.restore(mails)

    def _said(self, line: Line, place: str, raw: str) -> list[Item]:
        queue_id, rest = words.queue_id(line.text)
        raw = words.without_headers(raw)[:RAW_LIMIT]
        if rest.startswith("to=<"):
            return self._delivered(line, queue_id, rest, place, raw)
        if (
            not queue_id
            or queue_id == "NOQUEUE"
            or "eject: " in rest
            or "hold: " in rest
            or "discard: " in rest
        ):
            refused = words.refusal(rest)
            if refused is not None:
                return self._refused(line, queue_id, refused, place, raw)
        if not queue_id:
            self._tls(line)
            return []
        return self._queue(line, queue_id, rest, place, raw)

    def _queue(self, line: Line, queue_id: str, rest: str, place: str, raw: str) -> list[Item]:
        """Lines about a mail and not one recipient."""
        host = line.host
        if rest.startswith(("client=", "uid=")):
            mail = self._table.begin(host, queue_id)
            mail.taken_at = line.at
            before = files.field(rest, "orig_id") or files.field(rest, "orig_queue_id")
            if before and (old := self._table.get(host, before)) is not None:
                mail.taken_at, mail.original = old.taken_at or line.at, old.original
                for to, waiting in old.waiting.items():
                    self._table.wait(mail, to, waiting)
                self._table.drop(host, before)
        elif rest.startswith("message-id="):
            found = message_id_of(rest[len("message-id=") :])
            mail = self._table.open(host, queue_id)
            if mail.message_id and found and mail.message_id != found:
                mail = self._table.begin(host, queue_id)
            mail.message_id = "" if found == "<>" else found
            mail.taken_at = mail.taken_at if mail.taken_at is not None else line.at
        elif rest.startswith("from=<") and "status=" in rest:
            if "expired" in rest.rpartition("status=")[2]:
                return self._expired(line, queue_id, rest, place, raw)
        elif rest.startswith("from=<"):
            mail = self._table.open(host, queue_id)
            mail.sender = rest[len("from=<") :].partition(">, ")[0].removesuffix(">")
            size = files.field(rest, "size")
            mail.size = int(size) if size.isascii() and size.isdigit() and len(size) < 16 else mail.size
        elif rest == "removed" or rest.startswith("removed ("):
            gone = self._table.drop(host, queue_id)
            if gone is not None and line.daemon == "postsuper":
                return self._all_waiting(gone, Status.FAILED, _DELETED, line, queue_id, place, raw)
        return []

    def _delivered(self, line: Line, queue_id: str, rest: str, place: str, raw: str) -> list[Item]:
        one = words.delivery(rest)
        if one is None:
            return [self._reading.unreadable(place, "the delivery line is cut off", raw)]
        mail = self._table.open(line.host, queue_id) if queue_id else Mail()
        if mail.taken_at is None and line.at is not None and one.took is not None:
            mail.taken_at = line.at - one.took
        text = self._explained(line, one)
        status = self._status(line, one)
        original = one.original or (mail.original if mail.original != one.to else "")
        if status is Status.DEFERRED:
            self._table.wait(mail, one.to, Waiting(original, text, one.dsn, words.remote(one)))
        elif one.status in ("sent", "bounced"):
            self._table.settle(mail, one.to)
            self._go_on(line, mail, one)
        code, enhanced = words.reply(text)
        said = self._evidence(line, queue_id, mail, place, raw)
        meaning = None
        if status in (Status.DEFERRED, Status.FAILED, Status.EXPIRED) or one.status == "undeliverable":
            meaning = meaning_of(text, code=code, enhanced=one.dsn or enhanced)
            if meaning.cause is Cause.OTHER and "!" in one.tls:
                meaning = meaning_of("TLS is required, but unavailable", enhanced=one.dsn)
        return self._told(
            replace(
                said,
                status=status,
                recipient=one.to,
                original_recipient=original,
                code=code,
                enhanced_code=one.dsn or enhanced,
                text=text,
                remote=words.remote(one),
                meaning=meaning,
            )
        )

    def _status(self, line: Line, one: words.Delivery) -> Status:
        match one.status:
            case "sent":
                return words.fate(line.daemon, one)
            case "deferred" | "softbounce":
                return Status.DEFERRED
            case "bounced":
                return Status.EXPIRED if is_expiry(one.text, enhanced=one.dsn) else Status.FAILED
            case "expired" | "force-expired":
                return Status.EXPIRED
        return Status.NONE  # deliverable, undeliverable: an address was asked for, no mail was sent

    def _go_on(self, line: Line, mail: Mail, one: words.Delivery) -> None:
        """The mail goes on under another id in this log: by a filter, a forwarding, another instance."""
        after = words.next_id(one.text)
        onward = self._table.get(line.host, after) if after else None
        if onward is None or onward.message_id != mail.message_id or not mail.message_id:
            return
        if mail.taken_at is not None:
            onward.taken_at = mail.taken_at
        if not onward.original and len(onward.waiting) <= 1:
            onward.original = one.original or mail.original or (one.to if "forwarded" in one.text else "")

    def _expired(self, line: Line, queue_id: str, rest: str, place: str, raw: str) -> list[Item]:
        mail = self._table.open(line.host, queue_id)
        mail.sender = mail.sender or rest[len("from=<") :].partition(">, ")[0]
        text = rest.rpartition("status=")[2]
        return self._all_waiting(mail, Status.EXPIRED, text, line, queue_id, place, raw)

    def _all_waiting(
        self, mail: Mail, status: Status, text: str, line: Line, queue_id: str, place: str, raw: str
    ) -> list[Item]:
        """Everybody whom Postfix still had: no line says it of each."""
        said = self._evidence(line, queue_id, mail, place, raw)
        waiting = dict(mail.waiting)
        self._table.settle_all(mail)
        if not waiting and status is Status.EXPIRED:
            waiting = {"": Waiting("", "", "", "")}
        items: list[Item] = []
        for recipient, last in waiting.items():
            shown = last.text if status is Status.EXPIRED and last.text else text
            code, enhanced = words.reply(shown)
            enhanced = (last.dsn or enhanced) if status is Status.EXPIRED else ""
            items += self._told(
                replace(
                    said,
                    status=status,
                    recipient=recipient,
                    original_recipient=last.original,
                    code=code,
                    enhanced_code=enhanced,
                    text=shown,
                    remote=last.remote,
                    meaning=meaning_of(shown, code=code, enhanced=enhanced),
                )
            )
        return items

    def _refused(self, line: Line, queue_id: str, refused: words.Refusal, place: str, raw: str) -> list[Item]:
        known = self._table.get(line.host, queue_id)
        said = self._evidence(line, "" if queue_id == "NOQUEUE" else queue_id, known or Mail(), place, raw)
        code, enhanced = words.reply(refused.text)
        status = {"hold": Status.PENDING, "discard": Status.FILTERED}.get(refused.what, Status.FAILED)
        meaning = None
        if status is Status.FAILED:
            first = str(code or enhanced)[:1]
            status = Status.DEFERRED if first == "4" else Status.FAILED
            meaning = meaning_of(refused.text, code=code, enhanced=enhanced)
        item = replace(
            said,
            status=status,
            recipient=refused.to,
            sender=refused.sender,
            code=code,
            enhanced_code=enhanced,
            text=refused.text,
            meaning=meaning,
        )
        told = self._told(item)
        if status is Status.DEFERRED:  # it was not taken: whoever brought it has it
            return [replace(one, holder=None) for one in told if isinstance(one, Evidence)]
        return told

    def _evidence(self, line: Line, queue_id: str, mail: Mail, place: str, raw: str) -> Evidence:
        return Evidence(
            source=SOURCE,
            status=Status.NONE,
            observed_at=line.at,
            received_at=mail.taken_at,
            message_id=mail.message_id,
            queue_id=queue_id,
            sender=mail.sender,
            size=mail.size,
            file=self._reading.name,
            place=place,
            raw=raw,
        )

    def _told(self, item: Evidence) -> list[Item]:
        """An item with who has the mail; a Postfix in front of us says nothing of what we did with it."""
        if self._reading.position == "before":
            return [replace(item, status=Status.NONE, received_at=None, meaning=None)]
        holder = {
            Status.DEFERRED: Holder.RELAY,
            Status.PENDING: Holder.RELAY,
            Status.RELAYED: Holder.FAR,
            Status.DELIVERED: Holder.FAR,
            Status.FAILED: Holder.NOBODY,
            Status.EXPIRED: Holder.NOBODY,
            Status.FILTERED: Holder.NOBODY,
        }.get(item.status)
        return [replace(item, holder=holder)]

    def _tls(self, line: Line) -> None:
        """A TLS fault is told before the delivery it spoils, by the same process, or by tlsproxy for it."""
        seen = words.handshake(line.text)
        if seen is None:
            return
        process = f"{line.host} {line.pid}"
        peer, why = seen.peer, seen.why
        known, reason, at = self._faults.get(process, _NO_FAULT)
        peer = peer or known
        if words.is_vague(why) and reason and peer == known and (line.at or 0) - at <= _HANDSHAKE:
            return  # it broke for what was said before
        keys = [process] + ([f"{line.host} {peer}"] if line.daemon == "tlsproxy" and peer else [])
        for key in keys:
            if why:
                self._remember(key, peer, why, line.at)
            else:
                self._faults.pop(key, None)

    def _explained(self, line: Line, one: words.Delivery) -> str:
        """The text with the reason that another line gave for it."""
        domain = f"@{one.to.rpartition('@')[2].lower()}"
        if one.status == "sent":
            self._faults.pop(domain, None)
            return one.text
        if not words.is_unexplained(one.text):
            return one.text
        relay = one.relay
        for key in (f"{line.host} {line.pid}", f"{line.host} {relay}"):
            peer, why, _ = self._faults.get(key, _NO_FAULT)
            if why and line.pid and words.is_peer(peer, relay):
                self._remember(domain, relay, why, line.at)
                return f"{one.text}: {why}"
        why = self._faults.get(domain, _NO_FAULT)[1] if relay in ("none", "") else ""
        return f"{one.text}: {why}" if why else one.text

    def _remember(self, key: str, peer: str, why: str, at: Ms | None) -> None:
        self._faults[key] = peer[:200], why[:200], at or 0
        self._faults.move_to_end(key)
        while len(self._faults) > _MOST_PEERS:
            self._faults.popitem(last=False)


__all__ = ["BARE", "SOURCE", "Machine", "machine", "read", "sniff"]
