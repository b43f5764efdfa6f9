# ruff: noqa: E501 (the cases are read as tables)
"""Who goes, who waits for what, and whose incident it is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from resubmit.handoff.settings import Destination
from resubmit.journal.verbs import Standing
from resubmit.model.evidence import Cause, Holder, Scope
from resubmit.model.moment import DAY, HOUR, MINUTE, SECOND
from resubmit.model.recipient import SETTLED, Event, RecipientKey, State
from resubmit.recovery import course, eligible, jobs, lastlook
from resubmit.recovery import incident as incident_rule
from resubmit.recovery.eligible import belongs, can_go, goes, used_up
from resubmit.recovery.incident import course as incident_course
from resubmit.recovery.incident import for_strays, is_stray, takes_steps, without_a_place
from resubmit.recovery.memory import Memory
from resubmit.recovery.policy import Policy, policies_of
from resubmit.recovery.settings import Recovery
from resubmit.recovery.stage import DRAIN, Stage, stage_of
from resubmit.recovery.waits import Times, times_of, wait_of
from tests.unit.recovery.facts import POLICY, T, at, coverage, fault, gate, incident, job, standing

WINDOW = incident(fault_from=at(-100), fault_to=at(100), fixed_at=at(100), state="recovering")
LATER = 2 * HOUR // SECOND
RESUBMIT = replace(POLICY, suspect="resubmit")


@pytest.mark.parametrize(
    ("one", "policy", "live", "yes"),
    [
        pytest.param(standing(), POLICY, False, True, id="deferred by tls"),
        pytest.param(standing(cause=Cause.CONNECTION), POLICY, False, True, id="deferred by connection"),
        pytest.param(standing(accepted_at=at(-9000), since=at(-8000)), POLICY, False, True, id="by tls, outside the window"),
        pytest.param(standing(state=State.EXPIRED, cause=Cause.TLS), POLICY, False, True, id="expired by tls"),
        pytest.param(standing(cause=Cause.MAILBOX, scope=Scope.RECIPIENT), POLICY, False, False, id="full mailbox"),
        pytest.param(standing(cause=Cause.TLS, scope=Scope.RECIPIENT), POLICY, False, False, id="tls, but its own"),
        pytest.param(standing(cause=Cause.THROTTLE), POLICY, False, False, id="throttled"),
        pytest.param(standing(cause=None, scope=None), POLICY, False, True, id="deferred without a cause, inside"),
        pytest.param(standing(state=State.PENDING), POLICY, False, True, id="pending inside"),
        pytest.param(standing(state=State.PENDING, accepted_at=at(101), since=at(120)), POLICY, False, False, id="pending, taken after"),
        pytest.param(standing(state=State.PENDING, accepted_at=at(-300), since=at(-200)), POLICY, False, False, id="pending, before"),
        pytest.param(standing(state=State.PENDING, accepted_at=at(-300), since=at(-50)), POLICY, False, True, id="pending, taken before, told inside"),
        pytest.param(standing(state=State.PENDING, cause=Cause.MAILBOX, scope=Scope.RECIPIENT), POLICY, False, False, id="pending for its own reason"),
        pytest.param(standing(state=State.IN_DOUBT, accepted_at=None), POLICY, False, True, id="in doubt inside"),
        pytest.param(standing(state=State.EXPIRED, since=at(DAY // SECOND)), POLICY, False, True, id="expired a day later without a cause"),
        pytest.param(standing(state=State.EXPIRED, cause=Cause.EXPIRED, since=at(DAY // SECOND)), POLICY, False, True, id="expired, because it expired"),
        pytest.param(standing(state=State.EXPIRED, cause=Cause.POLICY, since=at(10)), POLICY, False, False, id="expired for a policy"),
        pytest.param(standing(state=State.EXPIRED, accepted_at=at(200), since=at(300)), POLICY, False, False, id="causelessly expired after"),
        pytest.param(standing(state=State.ACCEPTED), POLICY, False, True, id="suspect"),
        pytest.param(standing(state=State.ACCEPTED), POLICY, True, False, id="accepted, a live trace will tell"),
        pytest.param(standing(state=State.ACCEPTED, deadline=at(LATER + 60)), POLICY, True, True, id="accepted, live, near its deadline"),
        pytest.param(standing(state=State.ACCEPTED, accepted_at=at(101)), POLICY, False, False, id="accepted after"),
        pytest.param(standing(state=State.ACCEPTED, accepted_at=at(-101)), POLICY, False, False, id="accepted before"),
        pytest.param(standing(holder=Holder.RELAY), POLICY, False, False, id="the relay holds it"),
        pytest.param(standing(state=State.DELIVERED), POLICY, False, False, id="delivered"),
        pytest.param(standing(state=State.HELD), POLICY, False, False, id="held"),
        pytest.param(standing(state=State.RETRYING, cause=Cause.TLS, scope=Scope.ROUTE), POLICY, False, False, id="ours, by its route"),
    ],
)  # fmt: skip
def test_whose_incident_it_is(one: Standing, policy: Policy, live: bool, yes: bool) -> None:
    ruling = belongs(one, WINDOW, policy, live=live, now=at(LATER))
    assert ruling.yes is yes, ruling.why
    assert ruling.why


def test_a_suspect_is_given_the_time_the_trace_takes() -> None:
    one = standing(state=State.ACCEPTED, accepted_at=at(0))
    lag = RESUBMIT.trace_lag
    assert not belongs(one, WINDOW, RESUBMIT, live=False, now=T + lag - 1).yes
    assert belongs(one, WINDOW, RESUBMIT, live=False, now=T + lag).yes


@pytest.mark.parametrize(
    ("one", "change", "yes"),
    [
        pytest.param(standing(), {}, True, id="deferred"),
        pytest.param(standing(), {"mode": "manual"}, False, id="manual"),
        pytest.param(standing(), {"mode": "observe"}, False, id="observe"),
        pytest.param(standing(state=State.EXPIRED), {}, True, id="expired"),
        pytest.param(standing(state=State.EXPIRED), {"expired": "ask"}, False, id="expired, ask"),
        pytest.param(standing(state=State.ACCEPTED), {}, False, id="suspect, ask"),
        pytest.param(standing(state=State.ACCEPTED), {"suspect": "resubmit"}, True, id="suspect, resubmit"),
        pytest.param(standing(state=State.IN_DOUBT), {}, False, id="in doubt is settled first"),
        pytest.param(standing(body_kept=False), {}, False, id="its bytes are gone"),
        pytest.param(standing(holder=Holder.RELAY), {}, False, id="the relay holds it"),
        *[pytest.param(standing(state=s), {}, False, id=s) for s in State if s in SETTLED],
        pytest.param(standing(state=State.HELD), {}, False, id="held"),
        pytest.param(standing(state=State.SENDING), {}, False, id="sending"),
    ],
)  # fmt: skip
def test_who_goes_by_itself(one: Standing, change: dict[str, Any], yes: bool) -> None:
    ruling = goes(one, replace(POLICY, **change))
    assert ruling.yes is yes, ruling.why


def test_only_attempts_answered_250_are_used_up() -> None:
    assert used_up(standing(accepted_attempts=4, attempt=50), POLICY) is None
    due = used_up(standing(accepted_attempts=5, attempt=5), POLICY)
    assert due is not None
    assert (due.event, due.attempt, due.ask) == (Event.ATTEMPTS_EXHAUSTED, 5, True)


FIXED = Times(fixed_at=at(0), settled_at=at(0))


@pytest.mark.parametrize(
    ("one", "times", "change", "covers", "options", "now", "why"),
    [
        pytest.param(standing(), Times(), {}, [], {}, 1, "", id="no fix known: nothing to wait for"),
        pytest.param(standing(), Times(at(0), at(60)), {}, [], {}, 59, "settle", id="settle"),
        pytest.param(standing(), Times(at(0), at(60)), {}, [], {}, 60, "", id="settle is over"),
        pytest.param(standing(deadline=at(59)), Times(at(0), at(60)), {}, [], {}, 1, "", id="a deadline before it ends"),
        pytest.param(standing(deadline=at(-59)), Times(at(0), at(60)), {}, [], {}, 1, "", id="a deadline that has passed"),
        pytest.param(standing(deadline=at(61)), Times(at(0), at(60)), {}, [], {}, 1, "settle", id="a deadline after it ends"),
        pytest.param(standing(), Times(at(0), at(60)), {}, [], {"forced": True}, 1, "", id="forced skips settle"),
        pytest.param(standing(), FIXED, {"avoid": True}, [], {}, 4499, "far side", id="avoid: the far side's retry"),
        pytest.param(standing(), FIXED, {"avoid": True}, [], {}, 4500, "", id="avoid: over"),
        pytest.param(standing(), replace(FIXED, tried_at=at(600)), {"avoid": True}, [], {}, 5099, "its own try", id="avoid: it tried since"),
        pytest.param(standing(), replace(FIXED, tried_at=at(-600)), {"avoid": True}, [], {}, 4500, "", id="avoid: it tried before"),
        pytest.param(standing(), replace(FIXED, live=True), {}, [], {}, 10, "last look", id="live: no look yet"),
        pytest.param(standing(), replace(FIXED, live=True), {}, [coverage(-100, 0)], {}, 10, "last look", id="live: from before the fix"),
        pytest.param(standing(), replace(FIXED, live=True), {}, [coverage(-100, 5)], {}, 10, "", id="live: from after the fix"),
        pytest.param(standing(), replace(FIXED, live=True), {}, [coverage(-10, 5)], {}, 10, "last look", id="live: not for its time"),
        pytest.param(standing(), replace(FIXED, live=True), {}, [coverage(-100, -20, 5), coverage(-30, 5)], {}, 10, "", id="live: two without a gap"),
        pytest.param(standing(), replace(FIXED, live=True), {}, [coverage(-100, -40, 5), coverage(-30, 5)], {}, 10, "last look", id="live: two with a gap"),
        pytest.param(standing(), replace(FIXED, live=True), {}, [coverage(-100, 5)], {}, 905, "last look", id="live: 15 minutes old"),
        pytest.param(standing(), replace(FIXED, live=True), {"final": True}, [], {}, 10, "", id="live, final route"),
        pytest.param(standing(accepted_attempts=2, accepted_at=at(0)), FIXED, {}, [], {}, 899, "after 2 attempts", id="second gap"),
        pytest.param(standing(accepted_attempts=3, accepted_at=at(0)), FIXED, {}, [], {}, 1799, "after 3 attempts", id="third gap"),
        pytest.param(standing(accepted_attempts=3, accepted_at=at(0)), FIXED, {}, [], {}, 1800, "", id="third gap over"),
        pytest.param(standing(accepted_attempts=3, accepted_at=at(0)), FIXED, {}, [], {"automatic": False}, 1, "", id="no gap for people"),
    ],
)  # fmt: skip
def test_what_it_waits_for(
    one: Standing, times: Times, change: dict[str, Any], covers: Any, options: Any, now: float, why: str
) -> None:
    wait = wait_of(one, times, covers, replace(POLICY, **change), at(now), **options)
    assert (wait is not None) is bool(why), wait
    if wait is not None:
        assert why in wait.why
        assert wait.until is None or wait.until > at(now)


def test_the_far_sides_own_tries_are_seen_in_evidence() -> None:
    found = times_of(
        Memory(fixed_at=at(0), healthy_at=at(0)),
        POLICY,
        [fault(30), fault(90), fault(50, "delivered")],
        live=False,
        now=at(60),
    )
    assert found == Times(at(0), at(0), at(30), False)


@pytest.mark.parametrize(
    ("covers", "now", "live"),
    [([], 0, False), ([coverage(-100, 0)], 3599, True), ([coverage(-100, 0)], 3600, False), ([coverage(-100, -50), coverage(-9, 0)], 3599, True)],
)  # fmt: skip
def test_a_trace_is_live_while_its_coverage_is_fresh(covers: Any, now: float, live: bool) -> None:
    assert lastlook.is_live(covers, HOUR, at(now)) is live


# ── incidents ─────────────────────────────────────────────────────────────────────────────────────

OPENED = gate("open", Memory(fault_at=at(0), fixed_at=at(50), healthy_at=at(60)))


@pytest.mark.parametrize(
    ("row", "members", "facts", "state"),
    [
        pytest.param(gate("closed", Memory(at(0), at(0))), [], {}, "open", id="gate closed"),
        pytest.param(gate("testing", Memory(at(0), at(0), fixed_at=at(50))), [], {}, "recovering", id="gate testing"),
        pytest.param(OPENED, [standing()], {}, "recovering", id="one is stuck"),
        pytest.param(OPENED, [], {"busy": True}, "recovering", id="its job runs"),
        pytest.param(OPENED, [], {}, "closed", id="all settled"),
        pytest.param(OPENED, [], {"caught": 0}, "recovering", id="nobody caught: evidence may be on its way"),
        pytest.param(OPENED, [], {"caught": 0, "now": 951}, "closed", id="nobody caught, trace_lag over"),
        pytest.param(OPENED, [standing(state=State.HELD)], {}, "closed", id="one is held"),
        pytest.param(OPENED, [standing(cause=Cause.MAILBOX, scope=Scope.RECIPIENT)], {}, "closed", id="one fails by itself"),
        pytest.param(OPENED, [standing(state=State.ACCEPTED, accepted_at=at(0))], {"now": 1799}, "recovering", id="taken, may be told of"),
        pytest.param(OPENED, [standing(state=State.ACCEPTED, accepted_at=at(0))], {"now": 1800}, "closed", id="taken, unproven"),
        pytest.param(OPENED, [standing(state=State.ACCEPTED, accepted_at=at(0))], {"now": 7200, "live": True}, "recovering", id="taken, a live trace will tell"),
        pytest.param(OPENED, [standing(state=State.IN_DOUBT)], {"now": 7200}, "recovering", id="in doubt"),
        pytest.param(OPENED, [standing(state=State.EXPIRED)], {"now": 7200}, "recovering", id="expired waits for a person or a job"),
        pytest.param(OPENED, [standing(state=State.EXPIRED, accepted_at=at(51))], {"now": 7200}, "closed", id="given up again after the fix"),
        pytest.param(OPENED, [standing(state=State.EXPIRED, cause=Cause.TLS, accepted_at=at(51))], {"now": 7200}, "recovering", id="expired by tls after the fix"),
    ],
)  # fmt: skip
def test_an_incident(row: Any, members: Any, facts: dict[str, Any], state: str) -> None:
    filled = {"busy": False, "caught": 5, "live": False, "now": 70} | facts
    filled["now"] = at(filled["now"])
    update = incident_course(incident(), row, members, POLICY, **filled)
    assert update.state == state
    assert (update.closed_at is not None) is (state == "closed")
    if state == "closed":
        assert update.fault_to == update.fixed_at == at(50)
        assert json.loads(update.report)["fixed_at"] == "2026-11-24T12:00:50.000Z"
    if state == "open":
        assert update.fixed_at is update.fault_to is None


def test_an_incident_does_not_close_on_who_joins_it_now() -> None:
    """Suspects are known as such when a trace could have told: by then nobody else may be left in it."""
    row = gate("open", Memory(at(-60), fixed_at=at(50), basis="changed"), since=60)
    suspect = standing(state=State.ACCEPTED, incidents=frozenset())
    scene = course.Scene(
        row, [], [], [], [incident(state="recovering", fault_to=at(50), fixed_at=at(50))], [suspect], 0
    )
    late = at(DAY // SECOND)
    orders = course.destination(scene, [], RESUBMIT, holds=False, now=late, started_at=at(-9000))
    assert orders.join == (1, (suspect.key,))
    assert orders.update is None or orders.update[1].state == "recovering"
    joined = replace(scene, trouble=[replace(suspect, incidents=frozenset({1}))], caught=1)
    asked = course.destination(joined, [], RESUBMIT, holds=False, now=late, started_at=at(-9000))
    assert asked.ask == (suspect.key,)


@pytest.mark.parametrize(
    ("policy", "live", "state"),
    [(RESUBMIT, False, "recovering"), (RESUBMIT, True, "closed"), (POLICY, False, "closed")],
)
def test_an_incident_waits_for_suspects_that_would_go(policy: Policy, live: bool, state: str) -> None:
    row = gate("open", Memory(at(-60), fixed_at=at(50), basis="changed"))
    update = incident_course(incident(), row, [], policy, busy=False, caught=5, live=live, now=at(70))
    assert update.state == state


def test_an_incident_says_why_its_gate_shut_and_why_it_opened() -> None:
    memory = Memory(at(0), fixed_at=at(50), basis="changed", shut_why="2 faulty looks in a row")
    row = gate("open", memory, reasons=("3 healthy looks in a row", "the canary's proof was read"))
    told = incident_course(incident(), row, [], POLICY, busy=False, caught=0, live=False, now=at(2000))
    report = json.loads(told.report)
    assert report["shut_because"] == "2 faulty looks in a row"
    assert report["let_through_because"] == ["3 healthy looks in a row", "the canary's proof was read"]
    assert report["closed_because"] == told.why == "the fault is gone, and nobody was caught in it"


def test_an_incident_whose_place_left_the_config_closes_and_says_so() -> None:
    known = [
        incident(),
        incident(id=2, destination="sold"),
        incident(id=3, destination="", route="old"),
        incident(id=4, destination="", route="eop"),
        incident(id=5, destination="sold", state="closed"),
    ]
    found = dict(without_a_place(known, {"hybrid"}, ["eop"], at(70)))
    assert {number: update.why for number, update in found.items()} == {
        2: "the destination sold is no longer in the config",
        3: "the route old is no longer in the config",
    }
    assert all((u.state, u.closed_at, u.fault_to) == ("closed", at(70), at(70)) for u in found.values())


def test_strays_open_the_last_incident_again_or_a_new_one() -> None:
    strays = [standing(incidents=frozenset()), standing(2, incidents=frozenset(), accepted_at=at(-500))]
    assert all(is_stray(s) for s in strays)
    assert not is_stray(standing(cause=Cause.MAILBOX))
    assert not is_stray(standing(holder=Holder.RELAY))
    shut = incident(state="closed", closed_at=at(0), fixed_at=at(-10), fault_to=at(-10))
    found = for_strays(strays, [shut], "hybrid", at(60))
    assert found is not None
    assert (found.again, found.fault_from, found.fixed_at) == (1, at(-500), at(-10))
    old = for_strays(strays, [shut], "hybrid", at(0) + DAY)
    assert old is not None
    assert (old.again, old.fault_from, old.cause) == (None, at(-500), "tls")
    assert for_strays([], [shut], "hybrid", at(60)) is None


def test_steps_are_taken_while_an_incident_is_open_and_a_day_longer() -> None:
    shut = incident(state="closed", closed_at=at(0))
    assert takes_steps([incident()], "hybrid", at(0))
    assert takes_steps([shut], "hybrid", at(0) + DAY - 1)
    assert not takes_steps([shut], "hybrid", at(0) + DAY)
    assert not takes_steps([incident()], "elsewhere", at(0))


# ── jobs ──────────────────────────────────────────────────────────────────────────────────────────


def work(number: int = 1, stage: Stage | None = None, pool: int = 3, **values: Any) -> jobs.Work:
    options = values.pop("options", None)
    keys = [standing(100 * number + n) for n in range(pool)]
    row = job(number, options, **values)
    waiting = tuple(s.key for s in keys)
    return jobs.work_of(row, stage or Stage(), (), waiting, jobs.Sorted(pool=tuple(keys), candidates=pool))


@pytest.mark.parametrize(
    ("works", "state", "mode", "numbers"),
    [
        pytest.param([work(2, asked_by="ann"), work(1)], "open", "automatic", [1, 2], id="open: all, recovery's first"),
        pytest.param([work(2, asked_by="ann"), work(1)], "testing", "automatic", [1], id="testing: one carries the canary"),
        pytest.param([work(1, asked_by="ann"), work(2, asked_by="bob")], "testing", "manual", [1], id="testing, manual: a person's"),
        pytest.param([work(1, pool=0), work(2, asked_by="ann")], "testing", "automatic", [2], id="testing: one that can"),
        pytest.param([work(2, Stage(out=(stage_of('{"out": [[1, 0, 2]]}').out[0],)), pool=0), work(1)], "testing", "automatic", [2], id="testing: the canary that is out"),
        pytest.param([work(1), work(2, asked_by="ann")], "closed", "automatic", [], id="closed: nobody"),
        pytest.param([work(1), work(2, asked_by="ann", options={"force": True})], "closed", "automatic", [2], id="closed: the forced"),
        pytest.param([work(2, Stage(force_spent=True), asked_by="ann", options={"force": True})], "closed", "automatic", [], id="closed: force spent"),
        pytest.param([work(1), work(2, asked_by="ann", options={"force": True})], "open", "observe", [], id="observe: nobody"),
    ],
)  # fmt: skip
def test_which_jobs_may_release(works: list[jobs.Work], state: str, mode: str, numbers: list[int]) -> None:
    found = jobs.carriers(works, state, replace(POLICY, mode=mode))
    assert [w.job.id for w in found] == numbers


def test_a_jobs_waiting_recipients_are_sorted() -> None:
    stands = {
        s.key: s
        for s in [
            standing(1),
            standing(2, State.DELIVERED),
            standing(3, State.HELD),
            standing(4, accepted_attempts=5, attempt=5),
            standing(5, State.SENDING),
            standing(6, accepted_attempts=2, accepted_at=at(0)),
            standing(7, State.IN_DOUBT),
            standing(8, State.RETRYING),
            standing(9, destination="elsewhere"),
        ]
    }
    keys = [RecipientKey(n, 0) for n in range(1, 11)]
    found = jobs.weigh(job(), keys, stands, Times(), [], POLICY, at(10))
    assert [s.key.message for s in found.pool] == [1]
    assert [k.message for k in found.skip] == [2, 3, 8, 10]
    assert [d.key.message for d in found.used_up] == [4]
    assert found.candidates == 5  # and those that may come: 5, 6, 7, 9
    asked = jobs.weigh(job(asked_by="ann"), keys, stands, Times(), [], POLICY, at(10))
    assert [s.key.message for s in asked.pool] == [1, 4, 6, 7, 8]


def test_a_job_starts_behind_one_that_has_just_proved_the_way() -> None:
    led = [Stage(DRAIN, proof_at=at(0), passed_at=at(0))]
    lag = POLICY.trace_lag
    assert jobs.inherited(Stage(), led, POLICY, T + 2 * lag - 1).step == DRAIN
    assert jobs.inherited(Stage(), led, POLICY, T + 2 * lag).step == 0
    assert jobs.inherited(Stage(), [Stage(1, passed_at=at(0))], POLICY, T).step == 0
    assert jobs.inherited(Stage(step=1), led, POLICY, T).step == 1


def test_a_policy_is_what_the_config_leaves_open_decided() -> None:
    hybrid = Destination(name="hybrid", domains=["*"], handoff="eop", exchange=False, probe="mx:26")
    (found,) = policies_of(Recovery(), [hybrid], {})
    assert (found.route, found.avoid, found.rate, found.final) == ("eop", True, 5.0, False)
    assert found.names_endpoint("mx [192.0.2.1]:26")
    assert found.names_endpoint("[192.0.2.1] MX:26")
    assert not found.names_endpoint("mx:2526")
    assert not found.names_endpoint("mx.elsewhere.org")
    assert not POLICY.names_endpoint("notmail.contoso.com")
    assert not Policy().names_endpoint("")


def test_the_place_of_a_gate() -> None:
    assert course.place("destination:hybrid") == ("hybrid", "")
    assert course.place("route:eop") == ("", "eop")
    other = incident(id=2, destination="", route="eop")
    assert course.incident_of([incident(), other], "hybrid") == incident()
    assert course.incident_of([incident(), other], "", "eop") == other
    assert course.incident_of([incident(state="closed", closed_at=T)], "hybrid") is None


def test_settled_and_held_can_not_go_for_anybody() -> None:
    for state in State:
        ruling = can_go(standing(state=state))
        assert ruling.yes is (state in eligible.CAUGHT and state not in (State.HELD, State.SENDING))
    assert (
        incident_rule.is_explained(standing(holder=Holder.RELAY), POLICY, T, live=False, now=T + MINUTE).yes
        is False
    )
