"""A replay that is waited for ends with what it could do, and says what keeps the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from resubmit.flow.obey import Obey
from resubmit.flow.observe import Observe
from resubmit.flow.wake import Wake
from resubmit.model.filter import Filter
from resubmit.model.moment import MINUTE, SECOND
from resubmit.model.recipient import RecipientKey
from tests.helpers.journals import HandClock
from tests.helpers.outage import Outage


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


@pytest_asyncio.fixture
async def outage(tmp_path: Path) -> AsyncIterator[Outage]:
    made = await Outage.at(tmp_path, HandClock(), mode="manual")
    yield made
    await made.journal.close()


class Desk:
    """Asks, and lets recovery and the far side go on whenever progress is told."""

    def __init__(self, outage: Outage, mode: str = "manual") -> None:
        self.outage = outage
        self.told: list[dict[str, Any]] = []
        self.obey = Obey(
            outage.journal, outage.clock, outage.table, cast(Observe, None), told=Wake(), mode=mode
        )

    async def replay(self, *keys: RecipientKey, **options: Any) -> dict[str, Any]:
        ids = tuple(key.message for key in keys)
        request = {
            "do": "replay",
            "by": "ann",
            "filter": Filter(ids=ids).to_plain(),
            "options": {"wait": True, **options},
        }
        async with asyncio.timeout(20):
            return cast(dict[str, Any], await self.obey.carry_out(request, self.told.append))


async def stuck(outage: Outage, count: int) -> list[RecipientKey]:
    await outage.look("healthy", "old")
    keys = await outage.mail(count)
    outage.clock.pass_(15 * SECOND)
    await outage.defer(*keys)
    await outage.tick()
    await outage.look("faulty", "old", times=2)
    return keys


async def carried_on(outage: Outage) -> None:
    """The service beside: recovery and handoff, until cancelled."""
    while True:
        await outage.go_on(2 * SECOND)
        await asyncio.sleep(0.02)


async def test_behind_a_closed_gate_it_ends_at_once_and_says_what_it_waits_for(outage: Outage) -> None:
    keys = await stuck(outage, 3)
    job = await Desk(outage).replay(*keys)
    assert (job["state"], job["accepted"]) == ("waiting", 0)
    assert job["waits_for"].startswith("gate destination:hybrid is closed: ")
    assert "certificate_expired" in job["waits_for"]


async def test_by_force_it_goes_through_and_ends_when_all_have_their_reply(outage: Outage) -> None:
    keys = await stuck(outage, 3)
    service = asyncio.create_task(carried_on(outage))
    job = await Desk(outage).replay(*keys, force=True)
    service.cancel()
    assert (job["accepted"] + job["refused"] + job["skipped"], job["waits_for"]) == (3, "")


async def test_a_force_takes_over_whom_a_waiting_job_has(outage: Outage) -> None:
    keys = await stuck(outage, 2)
    await outage.ask(*keys)
    await outage.tick()
    await Desk(outage).replay(*keys, force=True, wait=False)
    await outage.tick()
    assert [(j.state, j.skipped) for j in await outage.journal.jobs()] == [("done", 2), ("running", 0)]


async def test_a_forced_canary_that_fails_leaves_the_rest_waiting(outage: Outage) -> None:
    keys = await stuck(outage, 4)

    async def failing() -> None:
        while True:
            await outage.tick()
            if await outage.deliver():
                outage.clock.pass_(SECOND)
                await outage.defer(outage.resent()[-1])
            await asyncio.sleep(0.02)

    service = asyncio.create_task(failing())
    job = await Desk(outage).replay(*keys, force=True)
    service.cancel()
    assert len(outage.resent()) == 1
    assert "gate destination:hybrid is closed" in job["waits_for"]


async def test_with_the_last_reply_there_it_does_not_wait_for_the_proof(outage: Outage) -> None:
    """The canary was answered 250; that it was delivered may be told much later."""
    (key,) = await stuck(outage, 1)
    await outage.look("healthy", "new", times=3)

    async def unproved() -> None:
        while True:
            await outage.tick()
            await outage.deliver()
            await asyncio.sleep(0.02)

    service = asyncio.create_task(unproved())
    job = await Desk(outage).replay(key)
    service.cancel()
    assert outage.resent() == [key]
    assert (job["accepted"], job["delivered"], job["waits_for"]) == (1, 0, "")


async def test_a_closed_route_keeps_even_a_forced_job(outage: Outage) -> None:
    keys = await stuck(outage, 2)
    await outage.journal.turn("route:eop", 0, "closed", ("454 no TLS",), outage.clock.now(), "{}", None)
    job = await Desk(outage).replay(*keys, force=True)
    assert job["waits_for"] == "gate route:eop is closed: 454 no TLS"


async def test_a_route_that_shuts_on_the_way_ends_the_wait(outage: Outage) -> None:
    """The canary was made due, and its route's gate shut before it left."""
    (key, _) = await stuck(outage, 2)

    async def shutting() -> None:
        while not await outage.journal.job_items(1, "released"):
            await outage.tick()
            await asyncio.sleep(0.02)
        await outage.journal.turn("route:eop", 0, "closed", ("454 no TLS",), outage.clock.now(), "{}", None)

    service = asyncio.create_task(shutting())
    job = await Desk(outage).replay(key, force=True)
    await service
    assert (job["accepted"], job["waits_for"]) == (0, "gate route:eop is closed: 454 no TLS")


async def test_where_recovery_only_observes_it_does_not_wait_for_ever(outage: Outage) -> None:
    await outage.look("healthy", "old")
    keys = await outage.mail(1)
    outage.clock.pass_(30 * MINUTE)
    job = await Desk(outage, "observe").replay(*keys, include_accepted=True)
    assert "observe" in job["waits_for"]
