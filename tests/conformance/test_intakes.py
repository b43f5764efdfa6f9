"""What every intake promises, whatever its kind.

A kind is put to the test by a `Way`: how one message is offered to it and what its client hears. The same
suite runs against each; adding one adds a line to WAYS.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from resubmit.errors import JournalError, JournalFull, Refused
from tests.unit.intake.listening import House, client, listening
from tests.unit.intake.talk import stuffed

SMALL = b"Message-ID: <1@x>\r\nDate: d\r\n\r\nbody\r\n"
LARGE = SMALL + b"x" * 998 * 400 + b"\r\n"


@dataclass(frozen=True)
class Way:
    """`open` gives a running intake whose accept waits until `held` is set; `offer` hands it one message and
    returns whether its client heard yes; `begin` offers one and never ends it."""

    open: Callable[[Path], AbstractAsyncContextManager[House]]
    offer: Callable[[House, bytes], Coroutine[None, None, bool]]
    begin: Callable[[House, bytes], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def smtp(folder: Path) -> AsyncIterator[House]:
    async with listening(folder, held=True) as house:
        yield house


async def by_data(house: House, octets: bytes) -> bool:
    async with client(house.port) as sender:
        await sender.begin()
        sender.send(stuffed(octets))
        return (await sender.reply()).startswith("250")


async def by_bdat(house: House, octets: bytes) -> bool:
    async with client(house.port) as sender:
        for line in ("EHLO x", "MAIL FROM:<a@b>", "RCPT TO:<c@d>"):
            await sender.ask(line)
        sender.send(b"BDAT %d LAST\r\n" % len(octets) + octets)
        return (await sender.reply()).startswith("250")


@asynccontextmanager
async def half(house: House, octets: bytes) -> AsyncIterator[None]:
    async with client(house.port) as sender:
        await sender.begin()
        sender.send(octets)
        await sender.writer.drain()
        yield


WAYS = {"smtp DATA": Way(smtp, by_data, half), "smtp BDAT": Way(smtp, by_bdat, half)}
OCTETS = {"small": SMALL, "large": LARGE}


@pytest.fixture(params=WAYS.values(), ids=list(WAYS))
def way(request: pytest.FixtureRequest) -> Way:
    made: Way = request.param
    return made


@pytest.fixture(params=OCTETS.values(), ids=list(OCTETS))
def octets(request: pytest.FixtureRequest) -> bytes:
    made: bytes = request.param
    return made


async def test_a_client_hears_yes_only_after_accept_returned(way: Way, octets: bytes, tmp_path: Path) -> None:
    async with way.open(tmp_path) as house:
        offered = asyncio.create_task(way.offer(house, octets))
        await asyncio.wait_for(house.asked.wait(), 10)
        done, _ = await asyncio.wait([offered], timeout=0.3)
        assert not done, "it said yes to what is not journaled"
        house.held.set()
        assert await offered
        assert await house.octets() == octets


@pytest.mark.parametrize(
    "error", [Refused(554, "5.4.6", "loop"), JournalFull("full"), JournalError("broken")], ids=type
)
async def test_of_a_refused_message_nothing_is_kept(
    way: Way, octets: bytes, error: Exception, tmp_path: Path
) -> None:
    async with way.open(tmp_path) as house:
        house.held.set()
        house.answer = error
        assert not await way.offer(house, octets)
        assert house.files == []


async def test_of_a_message_that_never_ends_nothing_is_kept_and_the_stop_keeps_its_time(
    way: Way, octets: bytes, tmp_path: Path
) -> None:
    async with way.open(tmp_path) as house, way.begin(house, octets):
        house.held.set()
        async with asyncio.timeout(3):
            await house.listener.stop(300)
        assert house.files == [] and house.received == []


async def test_a_message_under_way_is_ended_within_the_grace(way: Way, octets: bytes, tmp_path: Path) -> None:
    async with way.open(tmp_path) as house:
        offered = asyncio.create_task(way.offer(house, octets))
        await asyncio.wait_for(house.asked.wait(), 10)
        stop = asyncio.create_task(house.listener.stop(5000))
        await asyncio.sleep(0)
        house.held.set()
        assert await offered
        await stop
        assert len(house.received) == 1


async def test_what_was_refused_may_come_again(way: Way, octets: bytes, tmp_path: Path) -> None:
    async with way.open(tmp_path) as house:
        house.held.set()
        house.answer = JournalError("broken")
        assert not await way.offer(house, octets)
        house.answer = None
        assert await way.offer(house, octets)
        assert await house.octets() == octets
