"""A job that sends delivered mail again: its rows are made when it begins, and go as others do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from resubmit.model.evidence import Scope
from resubmit.model.moment import MINUTE, SECOND
from resubmit.model.recipient import Event, RecipientKey, State
from tests.helpers.journals import HandClock
from tests.helpers.outage import Outage

AGAIN = '{"include_delivered": true}'


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


@pytest_asyncio.fixture
async def outage(tmp_path: Path) -> AsyncIterator[Outage]:
    made = await Outage.at(tmp_path, HandClock())
    yield made
    await made.journal.close()


async def delivered(outage: Outage, count: int) -> list[RecipientKey]:
    keys = await outage.mail(count)
    outage.clock.pass_(MINUTE)
    await outage.delivered(*keys)
    return keys


async def made(outage: Outage, keys: list[RecipientKey]) -> list[RecipientKey]:
    """The rows beside those."""
    found = [RecipientKey(key.message, 1) for key in keys]
    return [stands.key for stands in await outage.journal.standing(found)]


async def shut(outage: Outage) -> RecipientKey:
    """The destination fails, with somebody deferred by it."""
    await outage.look("healthy", "old")
    (stuck,) = await outage.mail()
    await outage.look("faulty", "old", times=2)
    await outage.defer(stuck)
    await outage.tick()
    assert (await outage.gate()).state == "closed"
    return stuck


async def test_with_an_open_gate_all_go_once_and_evidence_proves_the_copies(outage: Outage) -> None:
    keys = await delivered(outage, 30)
    await outage.look("healthy", "same")
    job = await outage.ask(*keys, options=AGAIN)
    await outage.go_on(3 * MINUTE)
    copies = await made(outage, keys)
    assert len(copies) == 30
    assert sorted(outage.resent()) == sorted(copies)
    assert set(await outage.states(*keys, *copies)) == {State.DELIVERED}
    row = await outage.job(job)
    assert (row.state, row.recipients, row.accepted, row.delivered) == ("done", 30, 30, 30)


async def test_behind_a_closed_gate_nothing_is_made_and_a_canary_goes_first(outage: Outage) -> None:
    keys = await delivered(outage, 12)
    stuck = await shut(outage)
    job = await outage.ask(*keys, options=AGAIN)
    await outage.go_on(2 * MINUTE)
    assert await made(outage, keys) == []
    assert (await outage.job(job)).state == "waiting"
    # Mended: the first of all is the incident's own canary, and no copy goes beside it.
    await outage.look("healthy", "new", times=3)
    await outage.go_on(10 * SECOND, proving=False)
    assert outage.resent() == [stuck]
    await outage.delivered(stuck)
    await outage.go_on(3 * MINUTE)
    copies = await made(outage, keys)
    assert sorted(outage.resent()) == sorted([stuck, *copies])
    assert (await outage.job(job)).state == "done"


async def test_news_of_the_first_copy_proves_no_canary(outage: Outage) -> None:
    """Alone behind a testing gate the copy is the canary; its older sister was delivered long ago."""
    keys = await delivered(outage, 6)
    stuck = await shut(outage)
    await outage.delivered(stuck)
    job = await outage.ask(*keys, options='{"include_delivered": true, "force": true}')
    await outage.go_on(5 * SECOND, proving=False)
    (canary,) = outage.resent()
    assert canary.n == 1
    await outage.delivered(RecipientKey(canary.message, 0), no=1)
    await outage.go_on(5 * SECOND, proving=False)
    assert outage.resent() == [canary]
    assert (await outage.job(job)).state == "running"


async def test_a_gate_that_shuts_calls_copies_back_and_cancelling_ends_them(outage: Outage) -> None:
    keys = await delivered(outage, 8)
    await outage.look("healthy", "old")
    job = await outage.ask(*keys, options=AGAIN)
    await outage.tick()  # made, and due
    copies = await made(outage, keys)
    assert len(copies) == 8
    await outage.look("faulty", "old", times=2)
    assert (await outage.gate()).state == "closed"
    assert await outage.deliver() == 0, "none goes through a shut gate"
    assert set(await outage.states(*copies)) == {State.JOURNALED}
    await outage.journal.step_job(job, (await outage.job(job)).state, "cancelled", ended_at=0)
    assert set(await outage.states(*copies)) == {State.CANCELLED}
    assert set(await outage.states(*keys)) == {State.DELIVERED}


async def test_a_copy_the_next_hop_puts_off_has_all_of_our_time(outage: Outage) -> None:
    """The mail may be older than give_up_after: its copy is not given up at the first 4xx."""
    keys = await delivered(outage, 1)
    await outage.look("healthy", "old")
    await outage.ask(*keys, options=AGAIN)
    await outage.tick()
    (copy,) = await made(outage, keys)
    stands = await outage.stands(copy)
    assert stands.deadline == outage.clock.now() + 5 * 24 * 60 * MINUTE


async def test_a_restart_in_between_makes_no_second_row(outage: Outage) -> None:
    keys = await delivered(outage, 5)
    await outage.look("healthy", "old")
    await outage.ask(*keys, options=AGAIN)
    await outage.tick()
    outage.start()
    await outage.go_on(2 * MINUTE)
    for key in keys:
        assert len(await outage.journal.recipients_of(key.message)) == 2
    assert len(outage.resent()) == 5


async def test_a_refusal_of_the_copy_is_its_own(outage: Outage) -> None:
    keys = await delivered(outage, 2)
    await outage.look("healthy", "old")
    await outage.ask(*keys, options=AGAIN)
    await outage.tick()
    await outage.deliver(Event.REPLY_REFUSED, scope=Scope.RECIPIENT)
    copies = await made(outage, keys)
    assert set(await outage.states(*copies)) == {State.FAILED}
    assert set(await outage.states(*keys)) == {State.DELIVERED}
