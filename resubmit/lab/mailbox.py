"""Mailboxes that count: how often each message reached each recipient, byte for byte.

Promises: every arrival is counted, also one that the mailbox then drops as a duplicate, so that nothing a
recipient could have seen twice is hidden.

Source: Exchange drops a copy whose Message-ID and client submit time (the Date field) a mailbox already has
(Exchange Team, 2004; facts: microsoft.md section 5.3).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from resubmit.clock import Clock, SystemClock
from resubmit.lab.script import header
from resubmit.model.envelope import address_key
from resubmit.model.moment import Ms


@dataclass(frozen=True, slots=True)
class Copy:
    """One arrival. `kept` is False when the mailbox dropped it as a duplicate."""

    recipient: str
    message_id: str
    date: str
    data: bytes
    at: Ms
    where: str
    kept: bool = True


class Mailboxes:
    """All mailboxes of the lab; `changed` is notified at every arrival."""

    def __init__(self, *, clock: Clock | None = None, drop_duplicates: bool = False) -> None:
        self.clock = clock or SystemClock()
        self.drop_duplicates = drop_duplicates
        self.copies: list[Copy] = []
        self.changed = asyncio.Condition()
        self._by_key: dict[tuple[str, str], list[Copy]] = {}

    async def put(self, recipient: str, data: bytes, where: str) -> Copy:
        """One copy arrives in a mailbox. `where` names the server that delivered it."""
        message_id, date = header(data, "Message-ID"), header(data, "Date")
        before = self._by_key.setdefault((address_key(recipient), message_id), [])
        kept = not (self.drop_duplicates and any(c.date == date for c in before))
        copy = Copy(recipient, message_id, date, data, self.clock.now(), where, kept)
        before.append(copy)
        self.copies.append(copy)
        async with self.changed:
            self.changed.notify_all()
        return copy

    def of(self, recipient: str, message_id: str) -> list[Copy]:
        """Every arrival of one message at one recipient, in order."""
        return list(self._by_key.get((address_key(recipient), message_id), ()))

    def count(self, recipient: str, message_id: str) -> int:
        """How often it arrived, dropped copies included."""
        return len(self._by_key.get((address_key(recipient), message_id), ()))

    def twice(self) -> list[tuple[str, str, int]]:
        """(recipient, Message-ID, arrivals) where there was more than one."""
        return [(r, m, len(copies)) for (r, m), copies in self._by_key.items() if len(copies) > 1]

    async def until(self, count: int, timeout: Ms = 30_000) -> None:
        """Returns once so many copies arrived in all. TimeoutError when it takes longer."""
        async with asyncio.timeout(timeout / 1000), self.changed:
            await self.changed.wait_for(lambda: len(self.copies) >= count)
