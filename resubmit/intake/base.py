"""What a way in hands over, and what it is given.

Promises, tested for every kind: its client hears yes only after `accept` returned; of a refused or broken
off message nothing is kept; it stops within its grace time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from resubmit.errors import Refused
from resubmit.model.envelope import Envelope
from resubmit.model.message import Body, Heading
from resubmit.model.moment import Ms


@dataclass(frozen=True, slots=True)
class Received:
    """One complete message, not yet journaled.

    `received_at` is when its last octet was here. `peer` is the client's address, `helo` what it called
    itself, `protocol` how it spoke (SMTP, ESMTP, ESMTPS, UTF8SMTP, UTF8SMTPS: RFC 3848, RFC 6531 §4.3).
    `hops` counts Received fields. `traces` are our own trace fields found in the header, as (message,
    attempt number, mac): unverified, anybody can write one.
    """

    envelope: Envelope
    body: Body
    heading: Heading
    received_at: Ms
    peer: str
    helo: str
    protocol: str
    intake: str
    hops: int = 0
    traces: tuple[tuple[int, int, str], ...] = ()


Accept = Callable[[Received], Awaitable[str]]
"""Returns the journal id as text once the message is durable; raises Refused or JournalError, and then
nothing of the message is stored."""

Vet = Callable[[str], Refused | None]
"""Asked at RCPT with the address: None, or what the client is answered."""

Room = Callable[[], Refused | None]
"""Asked at MAIL and before DATA: None, or what the client is answered (452 4.3.1 below a floor)."""


class Spool(Protocol):
    """Where one message's octets go while they arrive."""

    async def write(self, chunk: bytes) -> None:
        """The chunk is kept; returns when more may come. JournalFull, or OSError, when it can't be."""

    async def finish(self) -> Body:
        """The octets are durable where they are a file, and stay in memory where they are few."""

    async def discard(self) -> None:
        """Nothing of it is left. Allowed at any time, after `finish` too (the journal refused), and twice."""


NewSpool = Callable[[], Spool]


class Intake(Protocol):
    """A way in."""

    async def bind(self) -> None:
        """Its addresses are taken. NotReachable or UsageError, saying which one and what to do."""

    async def run(self, accept: Accept) -> None:
        """Serves until cancelled or stopped, and has stopped within its grace time when it returns."""

    async def stop(self, grace: Ms) -> None:
        """No new clients; those in the middle of a message may end it within `grace`."""
