"""Graph's trace, asked by the service's loop: what it moves, what it is remembered for, what is said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest_asyncio
from structlog.testing import capture_logs

from resubmit import logbook
from resubmit.evidence import graph as rules
from resubmit.evidence.graph import Memory
from resubmit.flow.filing import Filing
from resubmit.flow.trace import Trace
from resubmit.flow.wake import Wake
from resubmit.handoff.routes import Table
from resubmit.handoff.settings import Destination, Route
from resubmit.journal import read
from resubmit.journal.door import Journal
from resubmit.journal.settings import JournalSettings
from resubmit.journal.verbs import Begun, Expect, JobAsk, Standing
from resubmit.lab.graph import GraphLab
from resubmit.lab.trace import Row, Step
from resubmit.model.evidence import Cause
from resubmit.model.moment import DAY, HOUR, MINUTE, SECOND, Ms
from resubmit.model.recipient import RecipientKey, State
from resubmit.recovery.clockrule import ClockRule
from tests.helpers.graph import graph, row, settings
from tests.helpers.journals import NOW, HandClock, arrival, ended, offer, recipient

EXPIRED = "Reason: [{LED=550 4.4.7 QUEUE.Expired; message expired};{MSG=};{FQDN=};{IP=};{LRT=}]"
FLOOR = JournalSettings(intake_floor="0B", attempt_floor="0B", reserve="0B")  # type: ignore[arg-type]


class World:
    """A journal with mail that was taken, the lab's Graph, and the loop between them. Its clock stands still
    until `pass_`."""

    def __init__(self, journal: Journal, clock: HandClock, lab: GraphLab, folder: Path, **more: Any) -> None:
        self.journal, self.clock, self.lab, self.folder, self.more = journal, clock, lab, folder, more
        self.start()

    def start(self) -> None:
        """The service starts (again)."""
        table = Table(
            (Route(name="eop", host="192.0.2.1"),),
            (Destination(name="hybrid", domains=["contoso.com"], handoff="eop"),),
        )
        self.rule = ClockRule(self.clock)
        filing = Filing(self.journal, self.clock, table, {}, told=Wake(), stir=lambda: None)
        self.trace = Trace(
            self.journal,
            self.clock,
            filing,
            settings(self.lab, self.folder, **self.more),
            self.rule,
            ["hybrid"],
            trace_lag=15 * MINUTE,
        )

    async def mail(self, number: int, *, at: Ms | None = None) -> RecipientKey:
        """A mail of ours, taken by the far side."""
        at = self.clock.now() if at is None else at
        message = await self.journal.record(
            arrival(recipient(), received_at=at, message_id=f"<{number}@example.org>")
        )
        begun = await self.journal.begin(offer(message, at=at))
        assert isinstance(begun, Begun)
        await self.journal.end(ended(begun, at=at))
        return RecipientKey(message, 0)

    async def stands(self, key: RecipientKey) -> Standing:
        (one,) = await self.journal.standing([key])
        return one

    async def asked(self) -> list[dict[str, Any]]:
        """One pass of the loop, with what it says."""
        with capture_logs() as lines:
            await self.trace.step()
        return [dict(line) for line in lines]

    async def pass_(self, span: Ms) -> list[dict[str, Any]]:
        """So much time goes by, and the loop takes what came of it."""
        self.clock.pass_(span)
        return await self.asked()

    def tell(self, *rows: Row) -> None:
        self.lab.trace.rows += rows

    def complaints(self) -> list[str]:
        with read.connect(self.journal.folder) as connection:
            return [view.reason for view in read.unreadable(connection, limit=0)]

    async def memory(self) -> Memory:
        return Memory.from_text(await self.journal.cursor(rules.SOURCE, self.lab.sign_in.tenant))


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = HandClock()
    journal = await Journal.open(tmp_path / "journal", clock=clock, settings=FLOOR, inline=True)
    from resubmit.clock import SystemClock

    async with graph(tmp_path, clock, now=SystemClock().now()) as lab:
        made = World(journal, clock, lab, tmp_path)
        yield made
        await made.trace._asking.close()
    await journal.close()


async def test_a_delivery_in_the_trace_settles_a_mail_and_is_coverage(world: World) -> None:
    key = await world.mail(1)
    world.tell(row(1, NOW, "Delivered"), row(2, NOW, "Delivered", message_id="<of@others>"))
    (line,) = await world.pass_(MINUTE)
    assert (line["event"], line["rows"], line["new"]) == (logbook.TRACE_ANSWERED, 2, 1)
    assert (await world.stands(key)).state is State.DELIVERED
    (coverage,) = await world.journal.coverage(0)
    assert coverage.since <= NOW
    assert coverage.until == coverage.read_at == world.clock.now()
    assert await world.journal.unmatched() == [], "of others' mail nothing is kept"


async def test_what_is_pending_gets_its_cause_from_its_events(world: World) -> None:
    key, calm = await world.mail(1), await world.mail(2)
    world.lab.quirks.cut_details = 260
    world.tell(row(1, NOW, deferred=True), row(2, NOW, "Delivered"))
    await world.pass_(MINUTE)
    one = await world.stands(key)
    assert (one.state, one.cause) == (State.DEFERRED, Cause.TLS)
    assert (await world.stands(calm)).state is State.DELIVERED
    details = [asked for asked in world.lab.asked if asked.is_details]
    assert len(details) == 1, "one that is stuck, one request"
    for _ in range(10):
        await world.pass_(5 * MINUTE)
    assert len([asked for asked in world.lab.asked if asked.is_details]) == 1, "its cause is known"


async def test_events_that_give_no_cause_are_asked_for_again_in_growing_gaps(world: World) -> None:
    await world.mail(1)
    world.tell(row(1, NOW))
    for _ in range(60):
        await world.pass_(MINUTE)
    details = [asked.at for asked in world.lab.asked if asked.is_details]
    gaps = [after - before for before, after in pairwise(details)]
    assert 4 <= len(details) <= 8
    assert gaps == sorted(gaps)
    world.lab.trace.rows[0].add(Step(world.clock.now(), "Deliver", "Delivered", "It was."))
    await world.pass_(5 * MINUTE)
    assert [s.state for s in await world.journal.standings("hybrid")] == []


async def test_a_status_that_changes_later_is_seen(world: World) -> None:
    key = await world.mail(1)
    mine = row(1, NOW)
    world.tell(mine)
    await world.pass_(MINUTE)
    assert (await world.stands(key)).state is State.PENDING
    await world.pass_(2 * HOUR)
    mine.add(Step(world.clock.now() - 1, "Deliver", "Delivered", "It was delivered."))
    await world.pass_(6 * MINUTE)
    assert (await world.stands(key)).state is State.DELIVERED


async def test_rows_that_come_late_are_found_and_counted(world: World) -> None:
    world.lab.quirks.lag = 4 * MINUTE
    await world.asked()
    keys = []
    for number in range(12):
        keys.append(await world.mail(number))
        world.tell(row(number, world.clock.now(), "Delivered"))
        await world.pass_(2 * MINUTE)
    for _ in range(6):
        await world.pass_(2 * MINUTE)
    assert {(await world.stands(key)).state for key in keys} == {State.DELIVERED}
    late = (await world.memory()).late
    assert sum(late) == 12
    assert late[2] + late[3] == 12, "within 5 to 10 minutes"


async def test_who_says_trace_lag_is_shorter_than_rows_take_is_told(world: World) -> None:
    world.lab.quirks.lag = 20 * MINUTE
    await world.asked()
    said = []
    for number in range(40):
        await world.mail(number)
        world.tell(row(number, world.clock.now(), "Delivered"))
        said += await world.pass_(2 * MINUTE)
    assert len([line for line in said if line["event"] == logbook.TRACE_LATE]) == 1


async def test_a_gate_that_turns_is_a_last_look_at_once(world: World) -> None:
    await world.mail(1, at=NOW)
    world.tell(row(1, NOW, deferred=True))
    await world.pass_(MINUTE)
    count = len([asked for asked in world.lab.asked if asked.is_list])
    await world.journal.turn("destination:hybrid", 0, "testing", ("mended",), world.clock.now())
    turned = world.clock.now()
    (line,) = await world.pass_(SECOND)
    assert line["whole"]
    lists = [asked for asked in world.lab.asked if asked.is_list]
    assert len(lists) == count + 1, "one query for the window, never one a recipient"
    newest = max(await world.journal.coverage(0), key=lambda one: one.read_at)
    assert newest.read_at > turned
    assert newest.since <= NOW


async def test_a_large_window_is_paged_and_covers_only_when_it_is_whole(world: World) -> None:
    keys = [await world.mail(number) for number in range(9)]
    world.tell(*(row(number, NOW, "Delivered") for number in range(9)))
    world.lab.quirks.page = 2
    world.lab.quirks.fails = []
    world.clock.pass_(MINUTE)
    world.lab.quirks.broken = "circle"
    await world.asked()
    assert await world.journal.coverage(0) == []
    assert "circle" in world.complaints()[0]
    world.lab.quirks.broken = ""
    await world.pass_(MINUTE)
    assert {(await world.stands(key)).state for key in keys} == {State.DELIVERED}
    assert len(await world.journal.coverage(0)) == 1
    assert world.complaints() == [], "what is mended is not complained of"


async def test_the_budget_outlives_a_restart(world: World) -> None:
    world.more = {"budget": 10}
    world.start()
    for number in range(30):
        await world.mail(number)
        world.tell(row(number, NOW))
    world.lab.quirks.page = 4
    await world.pass_(MINUTE)
    first = len(world.lab.asked)
    assert first == 8, "the pages of one window; details leave the rest alone"
    await world.trace._asking.close()
    world.start()
    await world.trace._asking.recall()
    assert rules.free(world.trace._asking.memory, 10, world.clock.now()) == 2
    assert world.trace._asking.memory.complete_until == world.clock.now()


async def test_what_came_while_nobody_asked_is_asked_for_after_a_restart(world: World) -> None:
    await world.asked()
    key = await world.mail(1)
    world.tell(row(1, NOW, "Delivered"))
    world.clock.pass_(2 * DAY)
    await world.trace._asking.close()
    world.start()
    await world.trace._asking.recall()
    await world.asked()
    assert (await world.stands(key)).state is State.DELIVERED
    assert any(one.since < NOW < one.until for one in await world.journal.coverage(0))


async def test_a_missing_step_is_said_once_and_seen_when_it_is_done(world: World) -> None:
    await world.mail(1)
    world.lab.quirks.service_principal = False
    said = await world.asked()
    for _ in range(20):
        said += await world.pass_(MINUTE)
    told = [line for line in said if line["event"] == logbook.TRACE_FAILED]
    assert len(told) == 1
    assert "New-MgServicePrincipal" in told[0]["advice"]
    assert len(world.lab.asked) <= 5, "whoever sets it up is not helped by asking more often"
    assert "service principal" in world.complaints()[0]
    world.lab.quirks.service_principal = True
    await world.pass_(5 * MINUTE)
    assert world.complaints() == []


async def test_too_many_requests_are_not_asked_again_before_the_time_they_say(world: World) -> None:
    await world.mail(1)
    world.lab.quirks.limit, world.lab.quirks.retry_after = 0, "240"
    await world.asked()
    for _ in range(23):
        await world.pass_(10 * SECOND)
    assert len(world.lab.asked) == 1
    world.lab.quirks.limit = 100
    await world.pass_(20 * SECOND)
    assert world.lab.asked[-1].status == 200


async def test_a_clock_apart_from_graphs_stops_what_cant_be_taken_back(world: World) -> None:
    await world.mail(1)
    world.lab.quirks.skew = -6 * MINUTE
    assert not world.rule.holds()
    await world.asked()
    assert world.rule.holds()
    assert "6m ahead of Microsoft's" in world.rule.why
    world.lab.quirks.skew = 0
    for _ in range(4):
        await world.pass_(3 * MINUTE)
    assert world.rule.holds(), "they have agreed for nine minutes"
    await world.pass_(2 * MINUTE)
    assert not world.rule.holds()


async def test_of_a_group_only_the_member_that_is_stuck_is_stuck(world: World) -> None:
    group = await world.mail(1)
    fine = row(1, NOW, "Delivered", recipient="otto@contoso.com")
    bad = row(1, NOW, recipient="eva@contoso.com", deferred=True)
    outside = row(1, NOW, recipient="pat@fabrikam.example", deferred=True)
    world.tell(row(1, NOW, "Expanded"), fine, bad, outside)
    await world.pass_(MINUTE)
    assert (await world.stands(group)).state is State.EXPANDED
    members = {
        address: (await world.stands(RecipientKey(group.message, n))).state
        for n, address in await world.journal.recipients_of(group.message)
    }
    assert members == {
        "ann@contoso.com": State.EXPANDED,
        "otto@contoso.com": State.DELIVERED,
        "eva@contoso.com": State.DEFERRED,
    }


async def test_after_a_resubmission_each_row_goes_to_its_attempt(world: World) -> None:
    key = await world.mail(1)
    world.tell(row(1, NOW, deferred=True))
    await world.pass_(MINUTE)
    assert (await world.stands(key)).state is State.DEFERRED
    world.clock.pass_(HOUR)
    again = world.clock.now()
    begun = await world.journal.begin(
        offer(key.message, Expect(0, State.DEFERRED, 1), at=again, kind="resubmission")
    )
    assert isinstance(begun, Begun)
    await world.journal.end(ended(begun, at=again))
    second = row(2, again, message_id="<1@example.org>")
    world.tell(second)
    await world.pass_(3 * MINUTE)
    assert (await world.stands(key)).state is State.PENDING
    # The old copy is given up a day later, while the new one was delivered.
    world.lab.trace.rows[0].add(Step(world.clock.now(), "Fail", "Failed", EXPIRED))
    await world.pass_(6 * MINUTE)
    assert (await world.stands(key)).state is State.PENDING, "of an older attempt"
    second.add(Step(world.clock.now(), "Deliver", "Delivered", "It was."))
    await world.pass_(6 * MINUTE)
    assert (await world.stands(key)).state is State.DELIVERED


async def test_what_is_known_is_not_written_again(world: World) -> None:
    await world.mail(1)
    world.tell(row(1, NOW, "Delivered"))
    await world.pass_(MINUTE)
    (line,) = await world.pass_(15 * MINUTE)
    assert (line["rows"], line["new"]) == (1, 0)


async def test_nothing_open_is_asked_for_seldom(world: World) -> None:
    for _ in range(120):
        await world.pass_(30 * SECOND)
    assert len(world.lab.asked) == 4


async def test_no_secret_is_in_the_log_or_the_journal(world: World) -> None:
    world.lab.sign_in.secret = "another"
    said = await world.asked()
    assert said
    stored = (
        (world.journal.folder / "journal.db").read_bytes()
        if (world.journal.folder / "journal.db").exists()
        else b""
    )
    assert "lab~Secret.Value" not in f"{said}{world.complaints()}"
    assert b"lab~Secret.Value" not in stored


async def test_a_job_of_old_mail_gets_its_last_look(world: World) -> None:
    """What goes again must be known since it was taken, however long ago: the regular window ends before."""
    key = await world.mail(1)
    world.tell(row(1, NOW, deferred=True))
    await world.pass_(MINUTE)
    world.lab.trace.rows[0].add(Step(world.clock.now(), "Fail", "Failed", EXPIRED))
    await world.pass_(6 * MINUTE)
    await world.pass_(5 * DAY)
    await world.pass_(20 * MINUTE)
    newest = [one for one in await world.journal.coverage(0) if one.read_at == world.clock.now()]
    assert min(one.since for one in newest) > NOW + DAY
    asked = world.clock.now()
    await world.journal.ask(
        JobAsk(asked, "root", "", "{}", "{}", "hybrid", None, "destination:hybrid", (key,))
    )
    assert (await world.stands(key)).state is State.EXPIRED
    await world.pass_(SECOND)
    newest = [one for one in await world.journal.coverage(0) if one.read_at > asked]
    assert min(one.since for one in newest) < NOW
