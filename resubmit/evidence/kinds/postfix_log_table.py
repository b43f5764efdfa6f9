"""What is known of each mail in a Postfix log, by its queue id; bounded: the oldest goes.

A life begins with `client=`, `pickup` or `message-id=` and ends with `removed`: short queue ids are used
again. A requeued mail gets a new queue id and keeps what was known of it.

Source: formats.md sections 1.2 and 1.3.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from resubmit.model.moment import Ms

MEMORY_LIMIT = 250_000
"""Bytes of JSON that a machine's memory may have (base.py says 256 KiB)."""
_MOST = 100_000
"""Mails and waiting recipients together that are kept."""
_TEXT_KEPT = 400
"""Characters of a deferral that are remembered, to be told again when the mail expires."""


@dataclass(slots=True)
class Waiting:
    """A recipient that Postfix still has, and why."""

    original: str
    text: str
    dsn: str
    remote: str


@dataclass(slots=True)
class Mail:
    """A mail in Postfix's queue. taken_at: when Postfix took it first, under whatever queue id; originals:
    before a forwarding of the mail that this one was made by."""

    message_id: str = ""
    sender: str = ""
    size: int | None = None
    taken_at: Ms | None = None
    original: str = ""
    waiting: dict[str, Waiting] = field(default_factory=dict)

    @property
    def weight(self) -> int:
        return 1 + len(self.waiting)


class Table:
    """Mails by (host, queue id), the one heard of last at the end."""

    def __init__(self) -> None:
        self._mails: OrderedDict[tuple[str, str], Mail] = OrderedDict()
        self._weight = 0

    def get(self, host: str, queue_id: str) -> Mail | None:
        return self._mails.get((host, queue_id))

    def open(self, host: str, queue_id: str) -> Mail:
        """The mail of that id, newly made where it is not known."""
        key = (host, queue_id)
        mail = self._mails.get(key)
        if mail is None:
            mail = self._mails[key] = Mail()
            self._weight += 1
            self._shed()
        else:
            self._mails.move_to_end(key)
        return mail

    def begin(self, host: str, queue_id: str) -> Mail:
        """A new mail under that id, whatever it stood for before."""
        self.drop(host, queue_id)
        return self.open(host, queue_id)

    def drop(self, host: str, queue_id: str) -> Mail | None:
        mail = self._mails.pop((host, queue_id), None)
        if mail is not None:
            self._weight -= mail.weight
        return mail

    def wait(self, mail: Mail, recipient: str, waiting: Waiting) -> None:
        """The recipient was put off."""
        if recipient not in mail.waiting:
            self._weight += 1
        waiting.text = waiting.text[:_TEXT_KEPT]
        mail.waiting[recipient] = waiting
        self._shed()

    def settle(self, mail: Mail, recipient: str) -> None:
        """The recipient has left the queue."""
        if mail.waiting.pop(recipient, None) is not None:
            self._weight -= 1

    def settle_all(self, mail: Mail) -> None:
        self._weight -= len(mail.waiting)
        mail.waiting.clear()

    def _shed(self) -> None:
        while self._weight > _MOST and len(self._mails) > 1:
            _, mail = self._mails.popitem(last=False)
            self._weight -= mail.weight
        if self._weight > _MOST:  # one mail alone, to very many
            mail = next(iter(self._mails.values()))
            for recipient in list(mail.waiting)[: self._weight - _MOST]:
                self.settle(mail, recipient)

    def plain(self, room: int) -> list[Any]:
        """As JSON values of at most `room` bytes: mails that wait first, for what they wait for is told only
        once; then the newest."""
        kept: list[Any] = []
        mails = list(reversed(self._mails.items()))
        mails.sort(key=lambda item: not item[1].waiting)
        for (host, queue_id), mail in mails:
            waiting = [[to, w.original, w.text, w.dsn, w.remote] for to, w in mail.waiting.items()]
            entry = [host, queue_id, mail.message_id, mail.sender, mail.size, mail.taken_at, mail.original]
            size = len(json.dumps([*entry, waiting])) + 2
            if size > room:
                break
            room -= size
            kept.append([*entry, waiting])
        return kept

    def restore(self, kept: Any) -> None:
        """The other way; what is not of that form is passed over."""
        for entry in reversed(kept if isinstance(kept, list) else []):
            for key, mail in _mails(entry):
                self._mails[key] = mail
                self._weight += mail.weight
        self._shed()


def _mails(entry: Any) -> Iterator[tuple[tuple[str, str], Mail]]:
    match entry:
        case [
            str(host), str(queue_id), str(message_id), str(sender),
            (int() | None) as size, (int() | None) as at, str(original), list(waiting),
        ]:  # fmt: skip
            known = {}
            for one in waiting:
                match one:
                    case [str(to), str(before), str(text), str(dsn), str(remote)]:
                        known[to] = Waiting(before, text, dsn, remote)
            yield (host, queue_id), Mail(message_id, sender, size, at, original, known)
