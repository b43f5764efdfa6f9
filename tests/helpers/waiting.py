"""A journal full of mail that waits for its next attempt, written as the service would, but without one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from structlog.testing import capture_logs

from resubmit.clock import SystemClock
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Begun
from resubmit.model.moment import Ms
from resubmit.model.recipient import Event
from tests.helpers.journals import arrival, ended, offer, outcome, recipient


async def retrying(folder: Path, dues: list[Ms], *, route: str, size: int) -> None:
    """So many messages of `size` octets, each with one attempt answered 451; due again at these times, which
    count from now (ms)."""
    clock = SystemClock()
    now = clock.now()
    with capture_logs():
        journal = await Journal.open(folder, clock=clock)

        async def one(number: int, due: Ms) -> None:
            to = recipient(f"r{number}@x.invalid", due_at=now, route=route, destination=route)
            octets = f"Message-ID: <{number}@old.invalid>\r\n\r\n".encode() + b"x" * 70 + b"\r\n"
            octets += (b"y" * 70 + b"\r\n") * (size // 72)
            message = await journal.record(arrival(to, octets=octets, received_at=now))
            begun = await journal.begin(offer(message, route=route, at=now))
            assert isinstance(begun, Begun)
            later = outcome(
                Event.REPLY_DEFERRED,
                due_at=now + due,
                code=451,
                reply="451 4.7.1 later",
                why="451 4.7.1 later",
            )
            await journal.end(ended(begun, later, at=now, dot_at=None))

        await asyncio.gather(*(one(number, due) for number, due in enumerate(dues)))
        await journal.close()
