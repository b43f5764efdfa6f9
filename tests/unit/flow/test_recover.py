"""Recovery's loop on a real journal: an incident from its first sign to its last recipient."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from resubmit.journal import moves
from resubmit.journal.verbs import LookRow
from resubmit.model.evidence import Cause, Mend, Scope
from resubmit.model.moment import DAY, HOUR, MINUTE, SECOND
from resubmit.model.recipient import Event, RecipientKey, State
from resubmit.recovery.pace import Sparing
from tests.helpers.journals import HandClock, arrival, recipient
from tests.helpers.outage import Outage


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "strict", True)


@pytest_asyncio.fixture
async def outage(tmp_path: Path) -> AsyncIterator[Outage]:
    made = await Outage.at(tmp_path, HandClock())
    yield made
    await made.journal.close()


async def stuck(outage: Outage, count: int = 40) -> list[RecipientKey]:
    """So many mails deferred by an expired certificate, the gate shut, the probe faulty."""
    await outage.look("healthy", "old")
    keys = await outage.mail(count)
    outage.clock.pass_(15 * SECOND)
    await outage.defer(*keys)
    await outage.tick()
    await outage.look("faulty", "old", times=2)
    return keys


async def test_the_whole_incident(outage: Outage) -> None:
    keys = await stuck(outage)
    assert (await outage.gate()).state == "closed"
    (incident,) = await outage.journal.incidents(False)
    assert (incident.destination, incident.cause, incident.state) == ("hybrid", "tls", "open")
    await outage.look("healthy", "new", times=2)
    assert (await outage.gate()).state == "closed"
    assert outage.resent() == []
    await outage.look("healthy", "new")
    assert (await outage.gate()).state == "testing"
    await outage.deliver()
    assert len(outage.resent()) == 1  # the canary
    await outage.delivered(*outage.resent())
    await outage.go_on(3 * MINUTE)
    (incident,) = await outage.journal.incidents(False)
    assert (await outage.gate()).state == "open"
    assert await outage.states(*keys) == [State.DELIVERED] * 40
    assert len(outage.resent()) == len(set(outage.resent())) == 40
    assert incident.state == "closed"
    counts = await outage.journal.incident_counts(incident.id)
    assert (counts["stuck"], counts["recovered"], counts["unknown"]) == (40, 40, 0)
    assert [job.state for job in await outage.journal.jobs()] == ["done"]


async def mended(outage: Outage, count: int = 40) -> list[RecipientKey]:
    """Stuck, and then three healthy looks with a new certificate: the canary is due."""
    keys = await stuck(outage, count)
    await outage.look("healthy", "new", times=3)
    return keys


async def test_steps_grow_behind_proof(outage: Outage) -> None:
    await mended(outage, 100)
    sizes = []
    for _ in range(4):
        await outage.tick()
        sizes.append(await outage.deliver())
        outage.clock.pass_(5 * SECOND)
        await outage.tick()
        assert await outage.deliver() == 0, "nothing goes behind a step that is not proved"
        await outage.delivered(*outage.resent()[-sizes[-1] :])
    assert sizes == [1, 5, 25, 69]


async def test_a_restart_between_canary_and_drain_sends_no_second_canary(outage: Outage) -> None:
    await mended(outage)
    assert await outage.deliver() == 1
    for _ in range(3):
        outage.start()
        await outage.tick()
        assert await outage.deliver() == 0
    await outage.delivered(*outage.resent())
    outage.start()
    await outage.tick()
    assert await outage.deliver() == 5


@pytest.mark.parametrize("verb", ["turn", "step_job", "make_due", "join_incident", "ask", "open_incident"])
async def test_a_crash_after_any_order_leaves_one_canary(
    outage: Outage, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each verb's first call while recovering is written, and then the process dies."""
    keys = await stuck(outage)
    real = getattr(outage.journal, verb)

    async def dies(*args: object, **values: object) -> object:
        await real(*args, **values)
        monkeypatch.undo()
        raise RuntimeError("killed")

    monkeypatch.setattr(outage.journal, verb, dies)
    for _ in range(4):
        try:
            await outage.look("healthy", "new")
        except RuntimeError:
            outage.start()
    await outage.tick()
    await outage.tick()
    assert await outage.deliver() == 1
    await outage.delivered(*outage.resent())
    await outage.go_on(3 * MINUTE)
    assert await outage.states(*keys) == [State.DELIVERED] * 40
    assert len(outage.resent()) == len(set(outage.resent())) == 40


async def test_a_canary_that_fails_shuts_the_gate_and_nothing_follows(outage: Outage) -> None:
    keys = await mended(outage)
    assert await outage.deliver() == 1
    outage.clock.pass_(5 * SECOND)
    await outage.defer(*outage.resent())
    await outage.tick()
    gate = await outage.gate()
    assert gate.state == "closed"
    await outage.go_on(MINUTE)
    assert len(outage.resent()) == 1
    # The certificate is the same as when the canary failed: nothing has changed, so the wait grows.
    await outage.look("healthy", "newer", times=3)
    assert (await outage.gate()).state == "testing"
    await outage.go_on(5 * MINUTE)
    assert await outage.states(*keys) == [State.DELIVERED] * 40


async def test_a_full_mailbox_takes_the_next_canary(outage: Outage) -> None:
    await mended(outage)
    await outage.deliver()
    own: dict[str, Any] = {"cause": Cause.MAILBOX, "scope": Scope.RECIPIENT, "mend": Mend.PERSON}
    await outage.defer(*outage.resent(), **own)
    await outage.tick()
    assert (await outage.gate()).state == "testing"
    assert await outage.deliver() == 1
    assert len(set(outage.resent())) == 2


async def test_a_fault_in_the_drain_calls_back_what_has_not_left(outage: Outage) -> None:
    keys = await mended(outage, 100)
    for size in (1, 5, 25):
        await outage.tick()
        assert await outage.deliver() == size
        await outage.delivered(*outage.resent()[-size:])
    await outage.tick()
    assert await outage.deliver(limit=10) == 10
    await outage.defer(outage.resent()[-1])
    await outage.tick()
    assert (await outage.gate()).state == "closed"
    assert await outage.deliver() == 0
    await outage.delivered(*outage.resent()[-10:-1])
    outage.clock.pass_(SECOND)
    await outage.look("healthy", "newer", times=3)
    await outage.go_on(5 * MINUTE)
    assert set(await outage.states(*keys)) == {State.DELIVERED}


async def test_nothing_changed_is_tried_by_a_canary_alone(outage: Outage) -> None:
    await outage.look("healthy", "same")
    await outage.mail(10)
    keys = await outage.mail(10)
    outage.clock.pass_(15 * SECOND)
    await outage.defer(*keys)
    await outage.look("healthy", "same", times=4)
    gate = await outage.gate()
    assert gate.state == "testing"
    assert "right place" in gate.reasons[-1]
    assert await outage.deliver() == 1
    await outage.go_on(10 * SECOND)
    assert len(outage.resent()) == 1


@pytest.mark.parametrize("mode", ["manual", "observe"])
async def test_without_automatic_mode_gates_move_and_nothing_goes(tmp_path: Path, mode: str) -> None:
    outage = await Outage.at(tmp_path, HandClock(), mode=mode)
    keys = await mended(outage)
    await outage.go_on(MINUTE)
    assert (await outage.gate()).state == "open"
    assert outage.resent() == []
    job = await outage.ask(*keys)
    await outage.go_on(3 * MINUTE)
    expected = {"manual": ("done", 40), "observe": ("waiting", 0)}[mode]
    assert ((await outage.job(job)).state, len(outage.resent())) == expected
    await outage.journal.close()


async def test_a_persons_job_waits_for_the_gate_and_then_goes(outage: Outage) -> None:
    keys = await stuck(outage)
    job = await outage.ask(*keys[:10])
    await outage.tick()
    assert (await outage.job(job)).state == "waiting"
    await outage.look("healthy", "new", times=3)
    await outage.go_on(4 * MINUTE)
    assert await outage.states(*keys) == [State.DELIVERED] * 40
    found = await outage.job(job)
    assert (found.state, found.delivered) == ("done", 10)
    assert len(outage.resent()) == 40


async def test_force_goes_through_the_gate_but_not_past_the_canary(outage: Outage) -> None:
    keys = await stuck(outage)
    job = await outage.ask(*keys, options='{"force": true}')
    await outage.tick()
    assert await outage.deliver() == 1
    await outage.tick()
    assert await outage.deliver() == 0
    await outage.defer(*outage.resent())
    await outage.go_on(2 * MINUTE)
    assert len(outage.resent()) == 1, "a forced canary that failed has spent the force"
    assert (await outage.job(job)).state == "waiting"


async def test_a_forced_canary_that_arrives_lets_the_rest_follow(outage: Outage) -> None:
    keys = await stuck(outage)
    await outage.ask(*keys, options='{"force": true}')
    await outage.go_on(4 * MINUTE)
    assert set(outage.resent()) == set(keys)


async def test_settle_waits_and_a_near_deadline_does_not(tmp_path: Path) -> None:
    outage = await Outage.at(tmp_path, HandClock(), settle="10m")
    keys = await mended(outage)
    await outage.go_on(5 * MINUTE)
    assert outage.resent() == []
    assert "settle" in (await outage.journal.jobs())[0].stage or (await outage.gate()).state == "testing"
    await outage.go_on(8 * MINUTE)
    assert set(outage.resent()) == set(keys)
    await outage.journal.close()


async def test_a_live_trace_is_asked_after_the_fix(outage: Outage) -> None:
    keys = await stuck(outage)
    await outage.covered()
    await outage.look("healthy", "new", times=3)
    await outage.go_on(MINUTE)
    assert outage.resent() == [], "the coverage is older than the fix"
    await outage.delivered(keys[0])
    await outage.covered()
    await outage.go_on(3 * MINUTE)
    assert keys[0] not in outage.resent()
    assert len(outage.resent()) == 39


async def test_duplicates_are_avoided_where_they_would_be_seen(tmp_path: Path) -> None:
    outage = await Outage.at(tmp_path, HandClock(), exchange=False)
    await mended(outage)
    await outage.go_on(HOUR, step=MINUTE)
    assert outage.resent() == []
    await outage.go_on(5 * MINUTE)
    assert len(outage.resent()) == 40
    await outage.journal.close()


async def test_after_too_many_attempts_it_is_held(tmp_path: Path) -> None:
    outage = await Outage.at(tmp_path, HandClock(), max_attempts=2)
    (key,) = await mended(outage, 1)
    await outage.deliver()
    await outage.defer(key)
    await outage.look("healthy", "newer", times=5)
    await outage.go_on(5 * MINUTE)
    assert outage.resent() == [key]
    assert (await outage.stands(key)).state is State.HELD
    await outage.journal.close()


async def test_late_evidence_opens_the_incident_again(outage: Outage) -> None:
    keys = await stuck(outage, 10)
    late = await outage.mail(3)
    await outage.look("healthy", "new", times=3)
    await outage.go_on(3 * MINUTE)
    (incident,) = await outage.journal.incidents(False)
    assert (incident.state, await outage.states(*keys)) == ("closed", [State.DELIVERED] * 10)
    await outage.defer(*late)
    await outage.tick()
    assert (await outage.gate()).state == "open", "taken before the fix: about the past"
    assert [i.state for i in await outage.journal.incidents(False)] == ["recovering"]
    await outage.go_on(2 * MINUTE)
    assert await outage.states(*late) == [State.DELIVERED] * 3
    (incident,) = await outage.journal.incidents(False)
    assert incident.state == "closed"
    assert (await outage.journal.incident_counts(incident.id))["recovered"] == 13


async def test_a_deferral_of_mail_taken_after_the_fix_shuts_the_gate_again(outage: Outage) -> None:
    await mended(outage, 10)
    await outage.deliver()
    await outage.delivered(*outage.resent())
    await outage.tick()
    assert (await outage.gate()).state == "open"
    fresh = await outage.mail()
    outage.clock.pass_(5 * SECOND)
    await outage.defer(*fresh)
    await outage.tick()
    assert (await outage.gate()).state == "closed"
    assert await outage.deliver() == 0


async def test_an_ndr_of_an_older_attempt_never_shuts_the_gate(outage: Outage) -> None:
    (key,) = await mended(outage, 1)
    await outage.deliver()
    await outage.defer(key, no=1)
    await outage.tell(Event.LATE_OTHER, key, no=1, status="expired", scope=Scope.DESTINATION, cause=Cause.TLS)
    await outage.tick()
    assert (await outage.gate()).state == "testing"
    await outage.delivered(key)
    await outage.tick()
    assert (await outage.gate()).state == "open"


async def test_in_doubt_goes_again_after_its_wait_without_a_trace(outage: Outage) -> None:
    number = await outage.journal.record(arrival(recipient("doubt@contoso.com")))
    await outage.deliver(Event.REPLY_LOST)
    key = RecipientKey(number, 0)
    assert await outage.states(key) == [State.IN_DOUBT]
    outage.clock.pass_(9 * MINUTE)
    await outage.tick()
    assert await outage.states(key) == [State.IN_DOUBT]
    outage.clock.pass_(MINUTE)
    await outage.tick()
    assert await outage.states(key) == [State.RETRYING]
    assert await outage.deliver() == 1


async def test_a_trace_that_knows_its_neighbours_settles_doubt_at_once(outage: Outage) -> None:
    before = await outage.mail()
    outage.clock.pass_(MINUTE)
    number = await outage.journal.record(arrival(recipient("doubt@contoso.com", due_at=outage.clock.now())))
    await outage.deliver(Event.REPLY_LOST)
    outage.clock.pass_(MINUTE)
    after = await outage.mail()
    outage.clock.pass_(MINUTE)
    await outage.delivered(*before, *after)
    await outage.tick()
    key = RecipientKey(number, 0)
    assert await outage.states(key) == [State.IN_DOUBT]
    await outage.covered()
    await outage.tick()
    assert await outage.states(key) == [State.RETRYING]


async def test_what_we_hold_too_long_is_given_up(outage: Outage) -> None:
    number = await outage.journal.record(arrival(recipient("slow@contoso.com")))
    await outage.deliver(Event.REPLY_DEFERRED, due_at=outage.clock.now() + HOUR)
    outage.clock.pass_(5 * DAY - SECOND)
    await outage.tick()
    assert await outage.states(RecipientKey(number, 0)) == [State.RETRYING]
    outage.clock.pass_(SECOND)
    await outage.tick()
    assert await outage.states(RecipientKey(number, 0)) == [State.EXPIRED]
    assert [owed.kind for owed in await outage.journal.notices_owed()] == ["failed"]


async def test_a_route_is_shut_tried_dry_and_opened_by_one_message(outage: Outage) -> None:
    about: dict[str, Any] = {
        "cause": Cause.CONNECTION,
        "scope": Scope.ROUTE,
        "mend": Mend.GATE,
        "reply": "unreachable",
    }
    await outage.journal.record(arrival(recipient("a@contoso.com")))
    outage.clock.pass_(SECOND)
    await outage.deliver(Event.REPLY_DEFERRED, due_at=outage.clock.now(), code=None, **about)
    await outage.tick()

    async def gate() -> str:
        found = await outage.journal.gate("route:eop")
        assert found is not None
        return found.state

    assert await gate() == "closed"
    (incident,) = await outage.journal.incidents(True)
    assert (incident.destination, incident.route, incident.cause) == ("", "eop", "connection")
    outage.clock.pass_(20 * SECOND)
    await outage.journal.looked(LookRow("route:eop", outage.clock.now(), "healthy", (), "x", "{}"))
    await outage.tick()
    assert await gate() == "testing"
    outage.clock.pass_(SECOND)
    await outage.deliver()
    await outage.tick()
    assert await gate() == "open"


async def caught_twice(outage: Outage) -> tuple[RecipientKey, int, int]:
    """One that its route held up and then its destination, both incidents open: it, and their ids."""
    about: dict[str, Any] = {"cause": Cause.CONNECTION, "scope": Scope.ROUTE, "mend": Mend.GATE}
    number = await outage.journal.record(arrival(recipient("a@contoso.com")))
    outage.clock.pass_(SECOND)
    await outage.deliver(Event.REPLY_DEFERRED, due_at=outage.clock.now(), code=None, **about)
    await outage.tick()
    outage.clock.pass_(SECOND)
    await outage.journal.looked(LookRow("route:eop", outage.clock.now(), "healthy", (), "x", "{}"))
    await outage.look("healthy", "old")
    assert await outage.deliver() == 1
    outage.clock.pass_(SECOND)
    await outage.look("faulty", "old", times=2)
    key = RecipientKey(number, 0)
    await outage.defer(key)
    incidents = {bool(one.destination): one.id for one in await outage.journal.incidents(True)}
    return key, incidents[True], incidents[False]


async def test_one_caught_by_its_route_and_its_destination_is_a_member_of_both(outage: Outage) -> None:
    key, destination, route = await caught_twice(outage)
    await outage.tick()
    assert (await outage.stands(key)).incidents == {destination, route}
    await outage.look("healthy", "new", times=4)
    assert await outage.deliver() == 1
    assert outage.resent() == [key], "the destination's incident asked for it"


async def test_one_caught_by_both_is_written_down_once(outage: Outage) -> None:
    """It once joined the older incident anew in every round, because only the newer one was seen."""
    await caught_twice(outage)
    await outage.tick()
    before = outage.journal.stats.commits
    for _ in range(3):
        assert await outage.tick() > outage.clock.now(), "nobody is in a hurry"
    assert outage.journal.stats.commits == before


async def test_the_same_facts_again_order_nothing(outage: Outage) -> None:
    await mended(outage)
    await outage.deliver()
    await outage.tick()
    before = await outage.gate(), await outage.journal.jobs(), await outage.journal.incidents(False)
    commits = outage.journal.stats.commits
    for _ in range(3):
        await outage.tick()
    assert before == (await outage.gate(), await outage.journal.jobs(), await outage.journal.incidents(False))
    assert outage.journal.stats.commits == commits


async def test_a_clock_that_jumped_lets_nothing_go(outage: Outage) -> None:
    await stuck(outage)
    outage.clock.wall += HOUR
    await outage.look("healthy", "new", times=4)
    await outage.tick()
    assert (await outage.gate()).state == "testing"
    assert await outage.deliver() == 0
    await outage.go_on(12 * MINUTE)
    assert len(outage.resent()) == 40


async def test_much_mail_hides_no_deferral(outage: Outage) -> None:
    """The rule is shown the deferral though more than it can be shown was taken and delivered since."""
    (key,) = await outage.mail()
    outage.clock.pass_(SECOND)
    await outage.defer(key)
    outage.clock.pass_(SECOND)
    others = await outage.mail(30)
    await outage.delivered(*others)
    found = await outage.journal.faults("hybrid", None, 0, 10, 10)
    assert [f.status for f in found if f.scope is Scope.DESTINATION] == ["deferred"]
    assert sum(f.status == "delivered" for f in found) == 10
    assert [f.status for f in await outage.journal.faults("hybrid", None, 0, good=0)] == ["deferred"]


async def test_a_job_goes_on_while_not_everybody_is_looked_at(
    outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = await mended(outage)
    await outage.tick()
    monkeypatch.setattr(Sparing, "is_due", lambda self, now: False)
    sizes = []
    for _ in range(4):
        await outage.tick()
        sizes.append(await outage.deliver())
        await outage.delivered(*outage.resent()[-sizes[-1] :])
    assert sizes == [1, 5, 25, 9]
    await outage.tick()
    assert (await outage.job()).state == "running", "that all have gone is not known yet"
    monkeypatch.undo()
    await outage.tick()
    assert (await outage.job()).state == "done"
    assert await outage.states(*keys) == [State.DELIVERED] * 40


async def test_an_incident_nobody_was_caught_in_ends_with_its_fault(outage: Outage) -> None:
    """Two faulty looks and no mail: once the looks are healthy the gate opens and the incident closes."""
    await outage.look("faulty", "strict", times=3)
    assert (await outage.gate()).state == "closed"
    await outage.look("healthy", "as the route goes", times=3)
    await outage.go_on(MINUTE)
    assert (await outage.gate()).state == "open"
    (incident,) = await outage.journal.incidents(False)
    assert incident.state == "closed"
    counts = await outage.journal.incident_counts(incident.id)
    assert counts["stuck"] == 0


async def test_an_incident_of_a_route_that_left_the_config_is_closed_at_the_start(outage: Outage) -> None:
    now = outage.clock.now()
    number = await outage.journal.open_incident("", "sold", "connection", now, now)
    outage.start()
    running = asyncio.create_task(outage.recover.run())
    async with asyncio.timeout(10):
        while await outage.journal.incidents(True):
            await asyncio.sleep(0.01)
    running.cancel()
    (incident,) = await outage.journal.incidents(False)
    assert (incident.id, incident.state, incident.closed_at) == (number, "closed", now)


async def test_a_person_is_told_once_of_mail_that_is_delivered_while_the_probe_fails(outage: Outage) -> None:
    (key, _) = await stuck(outage, 2)
    with capture_logs() as lines:
        await outage.delivered(key)
        await outage.look("faulty", "old", times=3)
    told = [line for line in lines if line["event"] == "gate.doubted"]
    assert len(told) == 1
    assert (await outage.gate()).state == "closed"
    assert "by another way" in " ".join((await outage.gate()).reasons)


async def test_what_came_while_not_everybody_was_looked_at_is_seen_as_soon_as_that_is_worth_it(
    outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at everybody that took a second is spared for twenty: nobody else may wake the loop then."""
    keys = await mended(outage)
    await outage.go_on(MINUTE)
    monkeypatch.setattr(Sparing, "is_due", lambda self, now: False)
    monkeypatch.setattr(Sparing, "due_in", lambda self, now: 20 * SECOND)
    now = outage.clock.now()
    assert await outage.recover.tick(now) <= now + 20 * SECOND
    monkeypatch.setattr(Sparing, "is_due", lambda self, now: True)
    for _ in range(3):  # until nothing new is ordered
        wake_at = await outage.recover.tick(now)
    assert wake_at > now, "and then it rests"
    assert keys
