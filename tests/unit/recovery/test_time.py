# ruff: noqa: E501 (the cases are read as tables)
"""What time does: doubt, giving up, the clock rule; and the gate of a route."""

from __future__ import annotations

from typing import Any

import pytest

from resubmit.journal.verbs import TakenMail
from resubmit.model.evidence import Cause, Scope
from resubmit.model.moment import HOUR, MINUTE, SECOND
from resubmit.model.recipient import Event, State
from resubmit.recovery import course, doubt, route_gate
from resubmit.recovery.clockrule import AGREED_FOR, FAR_PARTED, ClockRule, Clocks, compare
from resubmit.recovery.memory import Memory
from tests.helpers.journals import HandClock
from tests.unit.recovery.facts import POLICY, T, at, coverage, delivery, fault, gate, look, standing

LOST = standing(state=State.IN_DOUBT, accepted_at=None, dot_at=at(0), since=at(0), cause=None, scope=None)
AROUND = [TakenMail(at(-60), True, "eop"), TakenMail(at(60), True, "eop")]
WHOLE = [coverage(-9000, 1800)]


def taken(known: int, missing: int) -> list[TakenMail]:
    return [TakenMail(at(n - 50), n < known, "eop") for n in range(known + missing)] + AROUND[1:]


@pytest.mark.parametrize(
    ("mails", "covers", "live", "now", "event", "why", "ask"),
    [
        pytest.param([], [], False, 599, None, "until", False, id="no trace: waits"),
        pytest.param([], [], False, 600, Event.DOUBT_TIMED_OUT, "a duplicate is possible", False, id="no trace: goes again"),
        pytest.param(AROUND, WHOLE, True, 1801, Event.SEEN_NOWHERE, "not taken", False, id="a trace knows its neighbours"),
        pytest.param(AROUND, [coverage(-9000, 899)], True, 901, None, "will have told", False, id="the trace has not told yet"),
        pytest.param(AROUND, [coverage(-9000, 900)], True, 901, None, "until", False, id="nor of its neighbour after"),
        pytest.param(AROUND, [coverage(-9000, 960)], True, 961, Event.SEEN_NOWHERE, "not taken", False, id="of the neighbour too"),
        pytest.param(AROUND[:1], WHOLE, True, 1801, None, "on both sides", False, id="a neighbour before only"),
        pytest.param(AROUND[1:], WHOLE, True, 1801, None, "on both sides", False, id="a neighbour after only"),
        pytest.param([TakenMail(at(-60), False, "eop"), AROUND[1]], WHOLE, True, 1801, None, "on both sides", False, id="one before, not known"),
        pytest.param([TakenMail(at(-1801), True, "eop"), AROUND[1]], WHOLE, True, 1801, None, "on both sides", False, id="one before, too far"),
        pytest.param([], [coverage(-9000, 3600)], True, 2699, None, "until", False, id="no neighbours: waits longer"),
        pytest.param([], [coverage(-9000, 3600)], True, 2700, Event.DOUBT_TIMED_OUT, "a duplicate is possible", False, id="no neighbours: goes again"),
        pytest.param(AROUND, [coverage(10, 1800)], True, 600, Event.DOUBT_TIMED_OUT, "no live trace", False, id="the trace is not of its time"),
        pytest.param(taken(18, 2), WHOLE, True, 1801, None, "the trace is wrong", True, id="2 of 21 missing: ask"),
        pytest.param(taken(18, 1), WHOLE, True, 1801, Event.SEEN_NOWHERE, "", False, id="1 of 20 missing: fine"),
        pytest.param(taken(18, 0) + [TakenMail(at(n), False, "partner") for n in range(20)], WHOLE, True, 1801, Event.SEEN_NOWHERE, "", False, id="of mail over another route it need not know"),
        pytest.param([TakenMail(mail.at, True, "partner") for mail in AROUND], WHOLE, True, 1801, None, "on both sides", False, id="nor does that stand for ours"),
        pytest.param(taken(16, 2), WHOLE, True, 1801, Event.SEEN_NOWHERE, "", False, id="2 of 19: too few to tell"),
    ],
)  # fmt: skip
def test_doubt(
    mails: Any, covers: Any, live: bool, now: float, event: Event | None, why: str, ask: bool
) -> None:
    due = doubt.after_time(LOST, mails, covers, POLICY, live=live, now=at(now))
    assert due is not None
    assert (due.event, due.ask) == (event, ask), due.why
    assert why in due.why
    assert (due.due_at == at(now)) is (event is not None), "due again at once"
    assert due.duplicate is (event is Event.DOUBT_TIMED_OUT)
    assert due.attempt == LOST.attempt


def test_of_a_final_route_no_trace_tells() -> None:
    due = doubt.after_time(
        LOST, taken(0, 30), WHOLE, POLICY, live=True, final=frozenset({"eop"}), now=at(600)
    )
    assert due is not None
    assert (due.event, due.ask) == (Event.DOUBT_TIMED_OUT, False)


def test_an_orphan_without_a_dot_is_judged_by_when_it_became_so() -> None:
    orphan = standing(state=State.IN_DOUBT, accepted_at=None, dot_at=None, since=at(100))
    due = doubt.after_time(orphan, [], [], POLICY, live=False, now=at(699))
    assert due is not None
    assert (due.event, due.wake_at) == (None, at(700))


@pytest.mark.parametrize(
    ("state", "now", "event"),
    [
        (State.RETRYING, 99, None),
        (State.RETRYING, 100, Event.QUEUE_EXPIRED),
        (State.JOURNALED, 100, Event.QUEUE_EXPIRED),
    ],
)
def test_what_we_hold_is_given_up_at_its_deadline(state: State, now: float, event: Event | None) -> None:
    due = doubt.after_time(standing(state=state, deadline=at(100)), [], [], POLICY, live=False, now=at(now))
    assert due is not None
    assert due.event is event


def test_time_does_nothing_to_what_others_hold() -> None:
    for state in set(State) - {State.IN_DOUBT, State.RETRYING, State.JOURNALED}:
        assert doubt.after_time(standing(state=state), [], [], POLICY, live=False, now=at(10**6)) is None


# ── the clock rule ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("jump", "holds"), [(59_999, False), (-59_999, False), (60_000, True), (-60_000, True)]
)
def test_the_clock_rule_holds_after_a_jump_of_a_minute(jump: int, holds: bool) -> None:
    clock = HandClock()
    rule = ClockRule(clock)
    assert not rule.holds()
    clock.pass_(MINUTE)
    clock.wall += jump
    assert rule.holds() is holds
    assert bool(rule.why) is holds


def test_it_ends_when_the_clocks_have_agreed_for_ten_minutes_without_a_break() -> None:
    clock = HandClock()
    rule = ClockRule(clock)
    rule.holds()
    clock.wall += 2 * MINUTE
    assert rule.holds()
    clock.pass_(AGREED_FOR - 1)
    assert rule.holds()
    assert rule.ends_at() == clock.now() + 1
    clock.wall -= 2 * MINUTE  # set right again: a jump too
    assert rule.holds()
    clock.pass_(AGREED_FOR)
    assert not rule.holds()
    assert (rule.ends_at(), rule.why) == (None, "")


def test_a_clock_that_is_slewed_slowly_is_believed() -> None:
    clocks: Clocks | None = None
    for minute in range(24 * 60):
        clocks = compare(clocks, T + minute * (MINUTE + 30), minute * MINUTE)  # 500 ppm
        assert clocks.trusted


# ── routes ────────────────────────────────────────────────────────────────────────────────────────

ROUTE: dict[str, Any] = {
    "scope": Scope.ROUTE,
    "cause": Cause.CONNECTION,
    "text": "no address could be reached",
}
OURS: dict[str, Any] = {"scope": None, "cause": None}
SHUT = Memory(fault_at=at(0), worst_at=at(0))
TRIES = Memory(fault_at=at(0), worst_at=at(0), fixed_at=at(20), healthy_at=at(20), basis="dry_run")
FAILED = Memory(fault_at=at(0), worst_at=at(30), tries=1, failed_at=at(30))


@pytest.mark.parametrize(
    ("row", "looks", "faults", "now", "state"),
    [
        pytest.param(gate(), [], [], 1, "open", id="open: nothing"),
        pytest.param(gate(), [], [fault(0, **ROUTE)], 1, "closed", id="open: unreachable"),
        pytest.param(gate(), [], [fault(0, "failed", **ROUTE)], 1, "closed", id="open: refused (5.7.64)"),
        pytest.param(gate(), [], [fault(0, **{**ROUTE, "cause": Cause.THROTTLE})], 1, "open", id="open: throttled"),
        pytest.param(gate(), [], [fault(0)], 1, "open", id="open: scope destination"),
        pytest.param(gate(), [], [fault(0, **ROUTE), fault(1, "none", **OURS)], 2, "open", id="open: one got through since"),
        pytest.param(gate(), [], [fault(1, **ROUTE), fault(0, "none", **OURS)], 2, "closed", id="open: the newest failed"),
        pytest.param(gate("open", Memory(fixed_at=at(5))), [], [fault(4, **ROUTE)], 6, "open", id="open: from before the fix"),
        pytest.param(gate("closed", SHUT), [], [], 60, "closed", id="closed: no dry run"),
        pytest.param(gate("closed", SHUT), [look(20)], [], 21, "testing", id="closed: a dry run works"),
        pytest.param(gate("closed", SHUT), [look(-20)], [], 21, "closed", id="closed: a dry run from before"),
        pytest.param(gate("closed", SHUT), [look(20, "faulty")], [], 21, "closed", id="closed: a dry run fails"),
        pytest.param(gate("closed", SHUT), [look(20), look(40, "faulty")], [], 41, "closed", id="closed: the newest fails"),
        pytest.param(gate("closed", SHUT), [look(20, "unknown")], [], 1799, "closed", id="closed: unknown"),
        pytest.param(gate("closed", SHUT), [look(20, "unknown")], [], 1800, "testing", id="closed: unknown for 30 minutes"),
        pytest.param(gate("closed", SHUT), [], [delivery(5)], 6, "open", id="closed: one got through by itself"),
        pytest.param(gate("closed", FAILED), [look(40)], [], 59, "closed", id="closed: the trial failed, waits 30 s"),
        pytest.param(gate("closed", FAILED), [look(40)], [], 60, "testing", id="closed: tried again"),
        pytest.param(gate("testing", TRIES), [look(20)], [], 30, "testing", id="testing: waits for its message"),
        pytest.param(gate("testing", TRIES), [look(20)], [fault(25, "none", **OURS)], 30, "open", id="testing: it got through"),
        pytest.param(gate("testing", TRIES), [look(20)], [fault(15, "none", **OURS)], 30, "testing", id="testing: one from before"),
        pytest.param(gate("testing", TRIES), [look(20)], [fault(25, "failed", **ROUTE)], 30, "closed", id="testing: refused"),
    ],
)  # fmt: skip
def test_a_route(row: Any, looks: Any, faults: Any, now: float, state: str) -> None:
    for order in (1, -1):
        decision = route_gate.decide(row, looks[::order], faults[::order], POLICY, at(now))
        assert decision.state == state, decision.reasons
    if row.state == "open" and state == "closed":
        assert decision.cause == "connection"
        assert "no address" in decision.reasons[0]


def test_trials_that_fail_wait_longer_each_time() -> None:
    waits = []
    for tries in range(1, 9):
        memory = Memory(fault_at=at(0), worst_at=at(30), tries=tries, failed_at=at(30))
        decision = route_gate.decide(gate("closed", memory), [look(31)], [], POLICY, at(32))
        assert decision.wake_at is not None
        waits.append((decision.wake_at - at(30)) // SECOND)
    assert waits == [30, 60, 120, 240, 480, 960, 1800, 1800]


def test_a_fault_that_something_got_through_after_is_remembered_as_over_once() -> None:
    over = fault(10, scope=Scope.ROUTE)
    first = route_gate.decide(gate(), [], [over, fault(20, "none", scope=None)], POLICY, at(21))
    assert (first.state, first.memory.fixed_at) == ("open", at(20))
    row = gate("open", first.memory)
    later = route_gate.decide(row, [], [over, fault(30, "none", scope=None)], POLICY, at(31))
    assert not later.differs(row), "not every success is written down"


@pytest.mark.parametrize(
    ("row", "looks", "wanted"),
    [
        pytest.param(gate(), [], 0, id="an open gate is shut by deferrals only"),
        pytest.param(gate("testing"), [look(1)], 0, id="a testing one opens by its canary"),
        pytest.param(gate("closed"), [], course.SIGNS, id="a shut one by a delivery too"),
        pytest.param(
            gate("closed"), [look(2), look(1, "faulty")], course.SIGNS, id="while the probe is well"
        ),
        pytest.param(gate("closed"), [look(1), look(2, "faulty")], course.FEW_SIGNS, id="a few for a note"),
        pytest.param(gate(), [look(2, "faulty")], course.FEW_SIGNS, id="and while it is open too"),
        pytest.param(gate("open", name="route:eop"), [], 1, id="of a route only the newest success matters"),
    ],
)
def test_deliveries_are_read_only_where_they_are_weighed(row: Any, looks: Any, wanted: int) -> None:
    assert course.signs_for(row, looks) == wanted


def test_a_trial_for_which_nobody_is_left_ends_when_none_can_be_under_way() -> None:
    """What waited had been settled by evidence: the gate stayed a trial, and its incident open, for ever."""
    row = gate("testing", Memory(fault_at=at(0), fixed_at=at(20), healthy_at=at(20)))
    ends = 20 + 30 * 60
    waiting = route_gate.decide(row, [], [], POLICY, at(ends), idle=False)
    assert waiting.state == "testing"
    early = route_gate.decide(row, [], [], POLICY, at(ends - 1), idle=True)
    assert (early.state, early.wake_at) == ("testing", at(ends))
    late = route_gate.decide(row, [], [], POLICY, at(ends), idle=True)
    assert (late.state, late.memory.fixed_at) == ("open", at(20))


def test_the_far_sides_clock_five_minutes_apart_holds_until_they_agree_for_ten() -> None:
    clock = HandClock()
    rule = ClockRule(clock)
    rule.heard(clock.now() - FAR_PARTED + 1, clock.now())
    assert not rule.holds()
    rule.heard(clock.now() + FAR_PARTED, clock.now())
    assert rule.holds()
    assert "5m behind Microsoft's" in rule.why
    assert rule.ends_at() is None, "nobody can know"
    clock.pass_(HOUR)
    assert rule.holds(), "nothing was heard since"
    rule.heard(clock.now(), clock.now())
    assert rule.ends_at() == clock.now() + AGREED_FOR
    clock.pass_(AGREED_FOR - 1)
    assert rule.holds()
    rule.heard(clock.now() - FAR_PARTED, clock.now())
    clock.pass_(1)
    assert rule.holds(), "a break begins the ten minutes anew"
    rule.heard(clock.now(), clock.now())
    clock.pass_(AGREED_FOR)
    assert not rule.holds()
    assert rule.why == ""
    assert rule.ends_at() is None
