"""Recovery comes to rest: with nothing new it writes nothing and hardly looks, an hour long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from resubmit.clock import LoopClock, SystemClock
from resubmit.flow.facts import Facts, Judged
from resubmit.flow.recover import Recover
from resubmit.journal.verbs import LookRow
from resubmit.model.evidence import Cause, Mend, Scope
from resubmit.model.moment import HOUR, MINUTE
from resubmit.model.recipient import Event, RecipientKey
from resubmit.recovery.incident import Update
from tests.helpers.journals import arrival, recipient
from tests.helpers.loop import SimulatedLoop
from tests.helpers.outage import GATE, Outage

ROUTE: dict[str, Any] = {"cause": Cause.CONNECTION, "scope": Scope.ROUTE, "mend": Mend.GATE}


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """When recovery looked at the facts, in ms."""
    seen: list[int] = []
    tick = Recover.tick

    async def counted(self: Recover, now: int) -> int:
        seen.append(now)
        return await tick(self, now)

    monkeypatch.setattr(Recover, "tick", counted)
    return seen


def play(folder: Path, story: Callable[[Outage], Awaitable[None]]) -> tuple[int, list[dict[str, Any]]]:
    """The story on a journal whose commits wake recovery, then an hour of recovery's loop: its commits in
    that hour, and its log."""
    loop = SimulatedLoop(1)

    async def hour() -> int:
        clock: Any = LoopClock(SystemClock().now())
        clock.pass_ = lambda span: setattr(loop, "now", loop.now + span / 1000)
        outage = await Outage.at(folder, clock)
        await story(outage)
        outage.journal.on_change = lambda what: outage.recover.wake()
        before = outage.journal.stats.commits
        running = asyncio.create_task(outage.recover.run())
        await asyncio.sleep(HOUR / 1000)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        commits = outage.journal.stats.commits - before
        await outage.journal.close()
        return commits

    with capture_logs() as log:
        try:
            return loop.run_until_complete(hour()), [dict(line) for line in log]
        finally:
            loop.close()


async def fault(outage: Outage) -> None:
    """Forty mails stuck at a destination, and one that its route had held up too; both incidents are open."""
    keys = await outage.mail(40)
    outage.clock.pass_(MINUTE)
    await outage.defer(*keys)
    await outage.tick()
    now = outage.clock.now()
    number = await outage.journal.record(arrival(recipient("a@contoso.com", due_at=now), received_at=now))
    await outage.deliver(Event.REPLY_DEFERRED, due_at=outage.clock.now(), code=None, **ROUTE)
    await outage.tick()
    outage.clock.pass_(MINUTE)
    await outage.journal.looked(LookRow("route:eop", outage.clock.now(), "healthy", (), "x", "{}"))
    await outage.tick()
    await outage.deliver()
    await outage.look("faulty", "x")
    await outage.defer(RecipientKey(number, 0))
    assert len(await outage.journal.incidents(True)) == 2


async def quiet(outage: Outage) -> None:
    """Mail that was delivered."""
    await outage.delivered(*await outage.mail(3))


@pytest.mark.parametrize("story", [quiet, fault])
def test_with_nothing_new_recovery_rests(
    tmp_path: Path, ticks: list[int], story: Callable[[Outage], Awaitable[None]]
) -> None:
    commits, log = play(tmp_path, story)
    last_hour = [at for at in ticks if at > ticks[-1] - HOUR]
    assert 50 <= len(last_hour) <= 70, "the facts are looked at once a minute"
    assert commits <= 8, "only what the story left to be written"
    assert "recovery.restless" not in [line["event"] for line in log]


def test_rules_that_never_agree_are_slowed_down_and_told(
    tmp_path: Path, ticks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Facts.destination

    async def restless(*args: Any, **named: Any) -> Judged:
        judged = await asked(*args, **named)
        return replace(judged, orders=replace(judged.orders, update=(1, Update("open", 0, None, None, None))))

    async def incident(outage: Outage) -> None:
        await outage.journal.open_incident("hybrid", "", "tls", outage.clock.now(), 0)
        monkeypatch.setattr(Facts, "destination", restless)

    commits, log = play(tmp_path, incident)
    assert len(ticks) <= 90
    assert commits <= 8 * 90
    (told,) = (line for line in log if line["event"] == "recovery.restless")
    assert told["gate"] == GATE
