"""A person stops a replay, and lets it go on: nothing leaves meanwhile, and nothing is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from resubmit.errors import ResubmitError
from resubmit.flow.obey import Obey
from resubmit.flow.observe import Observe
from resubmit.flow.wake import Wake
from resubmit.model.moment import MINUTE, SECOND
from resubmit.model.recipient import RecipientKey, State
from tests.helpers.journals import HandClock
from tests.helpers.outage import Outage


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


@pytest_asyncio.fixture
async def outage(tmp_path: Path) -> AsyncIterator[Outage]:
    made = await Outage.at(tmp_path, HandClock())
    yield made
    await made.journal.close()


class Desk:
    def __init__(self, outage: Outage) -> None:
        nowhere = cast(Observe, None)
        self.obey = Obey(outage.journal, outage.clock, outage.table, nowhere, told=Wake(), mode="automatic")

    async def ask(self, do: str, job: int) -> dict[str, Any]:
        request = {"do": f"jobs_{do}", "by": "ann", "options": {"job": job}}
        return cast(dict[str, Any], await self.obey.carry_out(request, lambda _: None))


async def mended(outage: Outage, count: int) -> list[RecipientKey]:
    """Stuck, and then three healthy looks: recovery has a job, and its canary is due."""
    await outage.look("healthy", "old")
    keys = await outage.mail(count)
    outage.clock.pass_(15 * SECOND)
    await outage.defer(*keys)
    await outage.tick()
    await outage.look("faulty", "old", times=2)
    await outage.look("healthy", "new", times=3)
    return keys


async def test_a_paused_job_calls_back_what_has_not_gone(outage: Outage) -> None:
    keys = await mended(outage, 3)
    (job,) = await outage.journal.jobs()

    said = await Desk(outage).ask("pause", job.id)
    await outage.go_on(30 * SECOND)

    assert (said["paused"], said["waits_for"]) == (
        True,
        "it is paused; `resubmit jobs resume 1` lets it go on",
    )
    assert outage.resent() == []
    assert await outage.states(*keys) == [State.DEFERRED] * 3
    (job,) = await outage.journal.jobs()
    assert job.state == "waiting"


async def test_resumed_it_goes_on_to_the_end_with_one_canary_first(outage: Outage) -> None:
    keys = await mended(outage, 10)
    (job,) = await outage.journal.jobs()
    desk = Desk(outage)
    await desk.ask("pause", job.id)
    await outage.go_on(30 * SECOND)

    assert (await desk.ask("resume", job.id))["paused"] is False
    await outage.tick()
    await outage.deliver()
    assert len(outage.resent()) == 1
    await outage.delivered(*outage.resent())
    await outage.go_on(3 * MINUTE)

    assert len(outage.resent()) == len(set(outage.resent())) == 10
    assert await outage.states(*keys) == [State.DELIVERED] * 10


async def test_in_the_middle_of_the_drain_nothing_more_leaves(outage: Outage) -> None:
    await mended(outage, 60)
    (job,) = await outage.journal.jobs()
    await outage.deliver()
    await outage.delivered(*outage.resent())
    await outage.go_on(10 * SECOND)
    gone = len(outage.resent())
    assert 1 < gone < 60

    await Desk(outage).ask("pause", job.id)
    await outage.go_on(2 * MINUTE)
    assert len(outage.resent()) == gone
    await Desk(outage).ask("resume", job.id)
    await outage.go_on(5 * MINUTE)

    assert len(outage.resent()) == len(set(outage.resent())) == 60


async def test_what_is_over_can_neither_be_paused_nor_resumed(outage: Outage) -> None:
    await mended(outage, 2)
    (job,) = await outage.journal.jobs()
    desk = Desk(outage)

    assert (await desk.ask("cancel", job.id))["state"] == "cancelled"
    assert (await desk.ask("cancel", job.id))["state"] == "cancelled"  # already so: no failure

    for do, number in (("pause", job.id), ("resume", job.id), ("pause", 99), ("cancel", 99)):
        with pytest.raises(ResubmitError) as raised:
            await desk.ask(do, number)
        assert raised.value.exit_code == 1
