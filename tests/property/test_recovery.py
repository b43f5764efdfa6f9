"""Recovery's promises, over any facts."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from resubmit.journal.verbs import Fault, GateRow, LookRow, Standing
from resubmit.model.evidence import Cause, Holder, Scope, Status
from resubmit.model.moment import SECOND
from resubmit.model.recipient import SETTLED, RecipientKey, State
from resubmit.recovery import gate as rule
from resubmit.recovery import jobs
from resubmit.recovery.fate import Going
from resubmit.recovery.memory import Memory, Reference, memory_of
from resubmit.recovery.pace import BURST, GROWTH, Terms, allowance, plan
from resubmit.recovery.policy import Policy
from resubmit.recovery.stage import Out, Stage
from resubmit.recovery.waits import Times
from tests.unit.recovery.facts import POLICY, T, at, fault, gate, job, look, standing

seconds = st.integers(-120, 120)
healths = st.sampled_from(["healthy", "faulty", "unknown"])
looks = st.lists(st.builds(look, seconds, healths, st.sampled_from("ab")), max_size=8)
faults = st.lists(
    st.builds(
        lambda s, status, taken, scope, was: fault(s, status, taken=taken, scope=scope, was_deferred=was),
        seconds,
        st.sampled_from([*Status]),
        st.none() | seconds,
        st.sampled_from([None, *Scope]),
        st.booleans(),
    ),
    max_size=6,
)
references = st.none() | st.builds(
    lambda s, h, f: Reference(at(s), h, f), seconds, healths, st.sampled_from("ab")
)
times = st.none() | seconds.map(at)
memories = st.builds(
    Memory,
    times,
    times,
    references,
    times,
    times,
    times,
    st.sampled_from(["", "changed", "unchanged"]),
    st.integers(0, 3),
    times,
)
gates = st.builds(gate, st.sampled_from(["open", "closed", "testing"]), memories, seconds)
trials = st.builds(
    rule.Trial,
    st.none() | st.just(at(121)),
    st.sampled_from(["", "deferred"]),
    st.integers(0, 2),
    st.integers(0, 2),
)
policies = st.builds(
    Policy,
    name=st.just("hybrid"),
    healthy_probes=st.integers(1, 4),
    settle=st.none() | st.just(0),
    trace_lag=st.just(15 * SECOND),
)


@settings(max_examples=300)
@given(gates, looks, faults, trials, policies, st.booleans(), st.randoms(use_true_random=False))
def test_a_gate_obeys_its_laws(
    row: GateRow,
    seen: list[LookRow],
    told: list[Fault],
    trial: rule.Trial,
    policy: Policy,
    live: bool,
    chance: Random,
) -> None:
    def decide(looks: list[LookRow], faults: list[Fault]) -> rule.Decision:
        return rule.decide(row, looks, faults, trial, policy, live=live, now=at(121), started_at=at(-999))

    decision = decide(seen, told)
    newest = max(seen, key=lambda one: one.at, default=None)
    ties = [one for one in seen if newest and one.at == newest.at]
    if (
        any(one.health == "faulty" for one in ties)
        and len(ties) == 1
        and newest
        and newest.at > (memory_of(row.data).worst_at or 0)
    ):
        assert row.state == "open" or decision.state == "closed", "opened with a faulty look as the newest"
    if row.state == "closed":
        assert decision.state != "open", "a canary comes first"
    if decision.state == "closed" and row.state == "open" and not trial.failed:
        fixed = memory_of(row.data).fixed_at
        faulty = sum(one.health == "faulty" for one in seen)
        assert faulty >= 2 or any(rule.speaks_against(f, fixed) for f in told)
    assert decision.reasons or row.reasons == decision.reasons
    chance.shuffle(seen)
    chance.shuffle(told)
    assert decide(seen, told) == decision, "the order of the facts does not matter"


standings = st.builds(
    lambda n, state, holder, cause, scope, body, used, deadline: replace(
        standing(n, state),
        holder=holder,
        cause=cause,
        scope=scope,
        body_kept=body,
        accepted_attempts=used,
        deadline=None if deadline is None else at(deadline),
    ),
    st.integers(1, 40),
    st.sampled_from([*State]),
    st.sampled_from([*Holder]),
    st.sampled_from([None, *Cause]),
    st.sampled_from([None, *Scope]),
    st.booleans(),
    st.integers(0, 6),
    st.none() | seconds,
)
asked_by = st.sampled_from(["recovery", "ann"])


@settings(max_examples=300)
@given(st.lists(standings, max_size=12, unique_by=lambda s: s.key), asked_by, st.booleans(), policies)
def test_nobody_goes_who_must_not(stands: list[Standing], who: str, force: bool, policy: Policy) -> None:
    row = job(asked_by=who, options={"force": force, "include_accepted": True})
    keys = [s.key for s in stands]
    found = jobs.weigh(row, keys, {s.key: s for s in stands}, Times(), [], policy, at(0))
    for one in found.pool:
        assert one.state not in SETTLED
        assert one.state not in (State.HELD, State.SENDING)
        assert one.holder is not Holder.RELAY
        assert one.body_kept
        if who == "recovery":
            assert one.accepted_attempts < policy.max_attempts
    parts = [*(s.key for s in found.pool), *found.skip, *(d.key for d in found.used_up)]
    assert len(parts) == len(set(parts)), "each has one answer"


fates = st.builds(
    lambda n, state, attempt, scope: Going(
        RecipientKey(n, 0),
        2,
        T,
        "sent",
        replace(standing(n, state), attempt=attempt, scope=scope, accepted_at=T),
    ),
    st.integers(1, 20),
    st.sampled_from([*State]),
    st.integers(1, 3),
    st.sampled_from([None, *Scope]),
)
stages = st.builds(
    lambda step, keys, proof: Stage(step, tuple(Out(RecipientKey(k, 0), 2) for k in keys), T, 0, proof),
    st.integers(0, 3),
    st.lists(st.integers(1, 20), max_size=5, unique=True),
    st.none() | st.just(T),
)
terms = st.builds(
    Terms,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(1, 3),
    st.sampled_from([0.0, 1.0, 5.0]),
    st.none() | st.just(at(1)),
)


@settings(max_examples=300)
@given(
    stages,
    st.lists(fates, max_size=6, unique_by=lambda g: g.key),
    st.lists(standings, max_size=30, unique_by=lambda s: s.key),
    terms,
    st.integers(0, 3600),
    st.randoms(use_true_random=False),
)
def test_no_more_goes_than_is_allowed(
    stage: Stage, going: list[Going], pool: list[Standing], on: Terms, now: int, chance: Random
) -> None:
    got = plan(stage, going, pool, POLICY, on, delivered=0, now=at(now))
    flying = {g.key for g in going}
    assert len(got.release) == len(set(got.release))
    assert not (got.failed and got.release), "nothing follows a failure"
    assert not (got.proved_at and got.release), "nothing goes behind a step before its gate was asked again"
    if on.steps and not on.gate_open:
        assert len(got.release) <= on.canary
    if on.steps and not stage.drains:
        again = len({out.key for out in stage.out})
        assert len(got.release) <= max(on.canary * GROWTH**stage.step, again)
    if on.rate:
        messages = {key.message for key in got.release}
        assert len(messages) <= 1 + on.rate * BURST / SECOND or not stage.drains
    pending = {
        g.key for g in going if g.standing.attempt < 2 and g.standing.state not in SETTLED | {State.HELD}
    }
    assert pending.isdisjoint(got.release), "released twice"
    assert set(got.release) <= {s.key for s in pool} | flying
    chance.shuffle(going)
    chance.shuffle(pool)
    assert plan(stage, going, pool, POLICY, on, delivered=0, now=at(now)).release == got.release


@given(st.floats(0.01, 50), st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 20)), max_size=40))
def test_the_limiter_holds_over_any_time(rate: float, wakes: list[tuple[int, int]]) -> None:
    """Never more than rate × (time + BURST) + 1, however the wakes fall."""
    now, next_at, total = T, 0, 0
    for span, most in wakes:
        now += span
        count, next_at = allowance(next_at, rate, most, now)
        assert 0 <= count <= most
        total += count
        assert total <= rate * (now - T + BURST) / SECOND + 1 + 1e-6
