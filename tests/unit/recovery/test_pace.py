# ruff: noqa: E501 (the cases are read as tables)
"""How many go now: canary, steps, drain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resubmit.model.evidence import Cause, Scope
from resubmit.model.moment import MINUTE, SECOND
from resubmit.model.recipient import RecipientKey, State
from resubmit.recovery.fate import Fate, Going, fate_of, going_of, not_begun, worth_weighing
from resubmit.recovery.pace import AT_ONCE, BURST, Plan, Terms, allowance, plan, rest_until
from resubmit.recovery.policy import Policy
from resubmit.recovery.stage import DRAIN, Out, Stage, stage_of
from tests.unit.recovery.facts import POLICY, T, at, item, standing

TERMS = Terms(gate_open=True, steps=True, live=False, canary=1, rate=0, fixed_at=None)
TESTING = replace(TERMS, gate_open=False)
LIVE = replace(TERMS, live=True)


def out(*numbers: int, step: int = 0, **values: Any) -> Stage:
    outs = tuple(Out(RecipientKey(n, 0), 2) for n in numbers)
    return Stage(step=step, out=outs, released_at=T, **values)


def sent(n: int = 1, state: State = State.ACCEPTED, **values: Any) -> Going:
    """Recipient `n`, resubmitted as attempt 2 at T, standing so now."""
    filled: dict[str, Any] = {"attempt": 2, "accepted_at": T, "cause": None, "scope": None, **values}
    return Going(RecipientKey(n, 0), 2, T, "sent", standing(n, state, **filled))


BAD: dict[str, Any] = {"cause": Cause.TLS, "scope": Scope.DESTINATION}
OWN: dict[str, Any] = {"cause": Cause.MAILBOX, "scope": Scope.RECIPIENT}
POOL = [standing(n) for n in range(10, 200)]


def ask(
    stage: Stage, *going: Going, terms: Terms = TERMS, now: float = 1, pool: Any = POOL, delivered: int = 0
) -> Plan:
    return plan(stage, going, pool, POLICY, terms, delivered=delivered, now=at(now))


def sizes(stage: Stage, terms: Terms = TERMS) -> list[int]:
    """What goes at each step when all of it is delivered at once."""
    counts, pool = [], list(POOL)
    for _ in range(4):
        got = plan(stage, (), pool, POLICY, terms, delivered=0, now=at(1))
        counts.append(len(got.release))
        gone = set(got.release)
        pool = [s for s in pool if s.key not in gone]
        arrived = [
            Going(k, 2, T, "sent", standing(k.message, State.DELIVERED, attempt=2)) for k in got.release
        ]
        stage = plan(got.stage, arrived, pool, POLICY, terms, delivered=0, now=at(2)).stage
    return counts


@pytest.mark.parametrize(("canary", "expected"), [(1, [1, 5, 25, 159]), (3, [3, 15, 75, 97])])
def test_steps_grow_five_times(canary: int, expected: list[int]) -> None:
    assert sizes(Stage(), replace(TERMS, canary=canary)) == expected


def test_the_canary_has_a_cause_and_the_nearest_deadline() -> None:
    pool = [
        standing(1, State.PENDING, deadline=at(1)),
        standing(2, deadline=at(900)),
        standing(3, deadline=at(600)),
        standing(4, deadline=None),
    ]
    assert ask(Stage(), pool=pool).release == (RecipientKey(3, 0),)
    causeless = [replace(s, cause=None) for s in pool]
    assert ask(Stage(), pool=causeless).release == (RecipientKey(1, 0),)


@pytest.mark.parametrize(
    ("going", "terms", "now", "passes", "releases"),
    [
        pytest.param(sent(state=State.DELIVERED), LIVE, 1, True, 0, id="delivered"),
        pytest.param(sent(state=State.DELIVERED), TERMS, 1, True, 0, id="delivered, no live trace: proof at once"),
        pytest.param(sent(), LIVE, 3600, False, 0, id="taken, live: waits for a delivery however long"),
        pytest.param(sent(), TERMS, 899, False, 0, id="taken, no live trace: waits trace_lag"),
        pytest.param(sent(), TERMS, 900, True, 0, id="taken, no live trace, trace_lag over: passed unproven"),
        pytest.param(sent(state=State.PENDING), TERMS, 899, False, 0, id="pending waits too"),
        pytest.param(sent(state=State.SENDING), TERMS, 3600, False, 0, id="under way"),
        pytest.param(sent(state=State.RETRYING), TERMS, 3600, False, 0, id="ours to retry"),
        pytest.param(sent(state=State.IN_DOUBT), TERMS, 3600, False, 0, id="in doubt"),
        pytest.param(sent(state=State.DEFERRED, **OWN), TERMS, 1, False, 1, id="its own fault: the next one"),
        pytest.param(sent(state=State.FAILED, **OWN), TERMS, 1, False, 1, id="failed by itself: the next one"),
        pytest.param(sent(state=State.EXPANDED), TERMS, 1, False, 1, id="expanded proves nothing: the next one"),
        pytest.param(sent(state=State.FILTERED), TERMS, 1, False, 1, id="filtered proves nothing"),
        pytest.param(sent(state=State.CANCELLED), TERMS, 1, False, 1, id="cancelled: the next one"),
    ],
)  # fmt: skip
def test_a_canary(going: Going, terms: Terms, now: float, passes: bool, releases: int) -> None:
    got = ask(out(1), going, terms=terms, now=now)
    assert (got.proved_at is not None, len(got.release), got.failed) == (passes, releases, "")
    assert got.stage.step == int(passes)


@pytest.mark.parametrize("state", [State.DEFERRED, State.EXPIRED, State.FAILED])
@pytest.mark.parametrize("scope", [Scope.DESTINATION, Scope.ROUTE])
@pytest.mark.parametrize("step", [0, 1, DRAIN])
def test_any_other_failure_shuts_the_gate(state: State, scope: Scope, step: int) -> None:
    got = ask(out(1, step=step), sent(state=state, cause=Cause.TLS, scope=scope))
    assert got.failed
    assert (got.release, got.stage.step, got.stage.out) == ((), 0, ())


def test_a_deferral_without_a_cause_shuts_it_too() -> None:
    assert ask(out(1), sent(state=State.DEFERRED)).failed


def test_bad_news_of_what_was_sent_before_this_fix_is_about_the_past() -> None:
    assert not ask(out(2), sent(1, State.DEFERRED, **BAD), terms=replace(TERMS, fixed_at=at(5))).failed


def test_without_steps_bad_news_of_one_leaves_the_gate_to_evidence() -> None:
    got = ask(Stage(), sent(1, State.DEFERRED, **BAD), terms=replace(TERMS, steps=False))
    assert (got.failed, len(got.release)) == ("", len(POOL))


def test_while_testing_only_the_canary_goes() -> None:
    assert len(ask(Stage(), terms=TESTING).release) == 1
    for step in (1, 2, DRAIN):
        got = ask(Stage(step=step), terms=TESTING)
        assert (got.release, got.stage.step, got.again) == ((), 0, True)


def test_a_step_with_a_proof_and_one_silent_goes_on_after_trace_lag() -> None:
    stage, going = out(1, 2, step=1), [sent(1, State.DELIVERED), sent(2)]
    assert ask(stage, *going, terms=LIVE, now=899).proved_at is None
    assert ask(stage, *going, terms=LIVE, now=900).proved_at == at(900)
    assert ask(stage, *going, terms=TERMS, now=1).proved_at == at(1)


def test_a_step_that_was_written_and_never_made_due_is_made_due_again() -> None:
    waits = Going(RecipientKey(1, 0), 2, T, "waiting", standing(1))
    got = ask(out(1), waits)
    assert (got.release, got.stage) == ((RecipientKey(1, 0),), out(1))


def test_an_unproven_pass_is_remembered() -> None:
    assert ask(out(1), sent(), now=900).stage.unproven
    assert not ask(out(1), sent(state=State.DELIVERED), now=900).stage.unproven


DRAINING = Stage(step=DRAIN, proofs=1, proof_at=at(0))


def test_the_drain_goes_on_while_proof_is_fresh() -> None:
    lag = POLICY.trace_lag // SECOND
    assert ask(DRAINING, sent(), terms=LIVE, now=2 * lag - 1).release
    stale = ask(DRAINING, sent(), terms=LIVE, now=2 * lag)
    assert (stale.release, stale.stage.step) == ((), DRAIN)
    assert "waits for proof" in stale.reasons[0]
    fresh = ask(DRAINING, sent(), terms=LIVE, now=2 * lag, delivered=2)
    assert fresh.release
    assert fresh.stage.proof_at == at(2 * lag)


def test_a_drain_with_old_proof_and_nothing_on_its_way_asks_with_a_canary() -> None:
    got = ask(DRAINING, terms=LIVE, now=7200)
    assert (got.stage.step, got.again, got.release) == (0, True, ())


def test_a_drain_without_live_trace_or_on_a_final_route_needs_no_fresh_proof() -> None:
    assert ask(DRAINING, sent(), terms=TERMS, now=7200).release
    final = Policy(name="hybrid", final=True)
    got = plan(DRAINING, [sent()], POOL, final, LIVE, delivered=0, now=at(7200))
    assert got.release


def test_the_drain_takes_whole_messages_nearest_deadline_first() -> None:
    pool = [
        replace(standing(m, deadline=at(1000 - m)), key=RecipientKey(m, n))
        for m in range(1, 8)
        for n in range(3)
    ]
    got = ask(DRAINING, pool=pool, terms=replace(TERMS, rate=2))
    assert got.release == tuple(RecipientKey(7, n) for n in range(3))
    assert got.wake_at == at(1.5)


def test_no_more_goes_than_may_be_without_a_reply() -> None:
    pool = [standing(n) for n in range(1000, 2000)]
    flight = [sent(n, State.SENDING) for n in range(AT_ONCE - 7)]
    assert len(ask(DRAINING, *flight, pool=pool).release) == 7


def test_who_is_in_flight_is_not_released_again() -> None:
    got = ask(DRAINING, sent(10), sent(11, State.IN_DOUBT), terms=TERMS)
    assert {RecipientKey(10, 0), RecipientKey(11, 0)}.isdisjoint(got.release)


@pytest.mark.parametrize(
    ("next_at", "rate", "most", "now", "count", "after"),
    [
        pytest.param(0, 0, 9, T, 9, 0, id="no limit"),
        pytest.param(0, 5, 9, T, 1, T + 200, id="never used: one"),
        pytest.param(T + 200, 5, 9, T + 199, 0, T + 200, id="too early"),
        pytest.param(T + 200, 5, 9, T + 200, 1, T + 400, id="its time"),
        pytest.param(T + 200, 5, 9, T + 700, 3, T + 800, id="late: what was missed"),
        pytest.param(T + 200, 5, 9, T + 100_000, 6, T + 100_000 - BURST + 1200, id="very late: not more than a burst"),
        pytest.param(T, 5, 0, T, 0, T, id="nobody"),
        pytest.param(0, 1 / 60, 9, T, 1, T + 60_000, id="one a minute"),
    ],
)  # fmt: skip
def test_the_limiter(next_at: int, rate: float, most: int, now: int, count: int, after: int) -> None:
    assert allowance(next_at, rate, most, now) == (count, after)


def test_a_stage_goes_through_the_journal_unchanged() -> None:
    whole = Stage(2, (Out(RecipientKey(5, 1), 3),), 4, 5, 6, True, 7, 8, True)
    assert stage_of(whole.to_text()) == whole
    assert stage_of("{}") == stage_of("") == Stage()


@pytest.mark.parametrize(
    ("attempt", "state", "fate"),
    [
        (1, State.DEFERRED, Fate.UNDER_WAY),
        (1, State.DELIVERED, Fate.ENDED),
        (1, State.HELD, Fate.ENDED),
        (2, State.DEFERRED, Fate.BAD),
        (2, State.DELIVERED, Fate.PROVED),
        (2, State.HELD, Fate.ENDED),
        (3, State.ACCEPTED, Fate.TAKEN),
    ],
)
def test_only_its_own_attempt_counts(attempt: int, state: State, fate: Fate) -> None:
    stands = standing(1, state, attempt=attempt)
    assert fate_of(Going(RecipientKey(1, 0), 2, T, "released", stands)) is fate


def test_what_is_in_flight_is_what_was_released_and_what_the_step_has_out() -> None:
    items = [item(1, "waiting", no=None), item(2, "released", no=None), item(3, "sent"), item(4, "refused")]
    standings = {RecipientKey(n, 0): standing(n) for n in range(1, 6)}
    going = going_of(out(1, 5), items, standings)
    assert [(g.key.message, g.no, g.item_state) for g in going] == [
        (1, 2, "waiting"),
        (2, None, "released"),
        (3, 2, "sent"),
        (5, 2, ""),
    ]
    assert not_begun(going) == [RecipientKey(2, 0)]


def test_of_what_was_sent_the_loud_are_all_looked_at() -> None:
    quiet = [item(n, "sent") for n in range(100)]
    loud = [item(n, "sent", recipient_state=State.DEFERRED) for n in range(100, 200)]
    found = worth_weighing([*quiet, *loud])
    assert {i.key for i in loud} <= set(found)
    assert len(found) == 150


def test_the_loop_rests_longer_after_a_long_pass() -> None:
    assert rest_until(T + MINUTE, T, 0, 0) == (100, MINUTE - 100)
    assert rest_until(T + MINUTE, T, 0, 1000) == (3000, MINUTE - 3000)
    assert rest_until(T, T, 0, 0) == (100, 0)
    assert [rest_until(T, T, 0, 0, passes)[0] for passes in (1, 2, 9, 99)] == [200, 400, 51_200, 51_200]
