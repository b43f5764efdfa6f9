"""How many go now: one, five, twenty-five, then all, each step behind the proof of the one before.
(design section 4, *What proves*)

Promises: while a gate is testing only the canary goes; nothing goes behind a step that is not proved; the
drain never releases more than `rate` allows, nor a recipient twice; a failure that concerns more than its
own recipient or message shuts the gate. Pure; the stage is all its memory.

Without a live trace a step is passed when `trace_lag` has gone by without bad news, and is called unproven;
a delivery counts at once. Limits: `rate` counts messages, steps count recipients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from resubmit.model.moment import SECOND, Ms
from resubmit.model.recipient import RecipientKey
from resubmit.recovery.eligible import OUTAGE
from resubmit.recovery.facts import Standing
from resubmit.recovery.fate import PROVED, WAITING, Fate, Going, fate_of, has_begun, taken_at
from resubmit.recovery.policy import Policy
from resubmit.recovery.stage import Out, Stage
from resubmit.recovery.words import at_text, many

GROWTH = 5
"""Each step is so many times the one before."""
BURST = SECOND
"""What the limiter may catch up on when a wake comes late."""
AT_ONCE = 200
"""Released and without a reply: so few that a fault finds little on its way."""


TICK = SECOND // 10
"""The limiter is not asked more often: what falls between goes together."""

REST = 3
"""Times what a pass took."""
RESTLESS = 9
"""Passes in a row that did not come to rest: from here on something is wrong, and the rest grows no more."""
SPARE = 20
"""Times what it took, until everybody in trouble is looked at again where nothing asks for it."""
IDLE = 60 * SECOND
"""Facts are looked at so often even when nobody wakes the loop."""

_NEWS_MAY_COME = frozenset({Fate.UNDER_WAY, Fate.IN_DOUBT, Fate.TAKEN})


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a job goes now. `steps`: its destination has an incident, or had one in the last 24
    hours. `live`: a live trace is there. canary, rate: the job's own. `fixed_at`: see Memory."""

    gate_open: bool
    steps: bool
    live: bool
    canary: int
    rate: float
    fixed_at: Ms | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job does now. `proved_at`: its canary (or step) was proved now; `failed`: why the gate has to
    shut, "" when it has not. `wake_at`: when time alone changes the answer. `again`: ask again at once."""

    stage: Stage
    release: tuple[RecipientKey, ...] = ()
    reasons: tuple[str, ...] = ()
    proved_at: Ms | None = None
    failed: str = ""
    wake_at: Ms | None = None
    again: bool = False


def plan(
    stage: Stage,
    going: Sequence[Going],
    pool: Sequence[Standing],
    policy: Policy,
    terms: Terms,
    *,
    delivered: int,
    now: Ms,
) -> Plan:
    """What goes now.

    going: what the job released and still counts on. pool: who may go now; order does not matter.
    delivered: how many of the job's recipients are proved, as its list counts them."""
    stage = _with_proof(stage, going, delivered, now)
    if terms.steps and (bad := _bad_news(going, terms.fixed_at)):
        return Plan(reset(stage), failed=bad)
    if terms.steps and stage.step > 0 and not terms.gate_open:
        return Plan(reset(stage), reasons=("the gate is not open: the canary is next",), again=True)
    in_flight = {g.key for g in going if fate_of(g) in _NEWS_MAY_COME}
    waiting = [s for s in pool if s.key not in in_flight]
    if not terms.steps or stage.drains:
        return _drain(stage, going, waiting, policy, terms, now)
    return _step(stage, going, waiting, policy, terms, now)


def reset(stage: Stage) -> Stage:
    """The stage after the gate has shut: the canary is next, whatever was reached."""
    return Stage(
        proofs=stage.proofs, unproven=stage.unproven, next_at=stage.next_at, force_spent=stage.force_spent
    )


def order(pool: Sequence[Standing]) -> list[Standing]:
    """Nearest deadline first, those of a message together."""
    return sorted(pool, key=lambda s: (s.deadline is None, s.deadline or 0, s.key))


def canary_order(pool: Sequence[Standing]) -> list[Standing]:
    """A cause that the gate mends first, then the nearest deadline: others may fail on their own account."""
    return sorted(order(pool), key=lambda s: s.cause not in OUTAGE)


def _with_proof(stage: Stage, going: Sequence[Going], delivered: int, now: Ms) -> Stage:
    # The journal marks items as proved by itself; those of a step it never listed are counted here.
    proofs = delivered + sum(fate_of(g) is Fate.PROVED and g.item_state != PROVED for g in going)
    return replace(stage, proofs=proofs, proof_at=now) if proofs > stage.proofs else stage


def _bad_news(going: Sequence[Going], fixed_at: Ms | None) -> str:
    for each in going:
        if fate_of(each) is not Fate.BAD:
            continue
        if fixed_at is not None and (each.released_at or 0) < fixed_at:
            continue  # sent before this fix: about the past
        return (
            f"what was resubmitted is {each.standing.state} again ({each.standing.cause or 'no cause told'})"
        )
    return ""


def _step(
    stage: Stage, going: Sequence[Going], pool: Sequence[Standing], policy: Policy, terms: Terms, now: Ms
) -> Plan:
    name = "the canary" if stage.step == 0 else f"step {stage.step + 1}"
    keys = {out.key for out in stage.out}
    out = [g for g in going if g.key in keys]
    fates = [fate_of(g) for g in out]
    if unsent := tuple(g.key for g in out if g.item_state == WAITING and not has_begun(g)):
        # The process ended after the step was written down and before it was made due.
        return Plan(stage, release=unsent, reasons=(f"{name} is made due again",))
    if Fate.UNDER_WAY in fates or Fate.IN_DOUBT in fates:
        return Plan(stage, reasons=(f"{name} is under way",))
    taken = [taken_at(g) for g, fate in zip(out, fates, strict=True) if fate is Fate.TAKEN]
    ends = max(taken, default=now) + policy.trace_lag
    proved = Fate.PROVED in fates
    if proved and (not taken or not terms.live or now >= ends):
        return _passed(stage, f"{name} was proved by a delivery", now)
    if taken and not terms.live and now >= ends:
        told = f"{name}: no bad news since {at_text(max(taken))}, and no live trace to prove it"
        return _passed(replace(stage, unproven=True), told, now)
    if taken:
        told = f"{name} was taken at {at_text(max(taken))}, waiting for a trace that shows it delivered"
        return Plan(stage, reasons=(told,), wake_at=ends if now < ends else None)
    size = terms.canary * GROWTH**stage.step
    chosen = (canary_order(pool) if stage.step == 0 else order(pool))[:size]
    if not chosen:
        return Plan(replace(stage, out=()), reasons=("nobody may go now",))
    outs = tuple(Out(s.key, s.attempt + 1) for s in chosen)
    return Plan(
        replace(stage, out=outs, released_at=now),
        release=tuple(o.key for o in outs),
        reasons=(f"{name}: {many(len(outs), 'recipient')}",),
    )


def _passed(stage: Stage, reason: str, now: Ms) -> Plan:
    further = replace(stage, step=stage.step + 1, out=(), released_at=None, passed_at=now)
    return Plan(further, reasons=(reason,), proved_at=now, again=True)


def _drain(
    stage: Stage, going: Sequence[Going], pool: Sequence[Standing], policy: Policy, terms: Terms, now: Ms
) -> Plan:
    waiting = order(pool)
    if not waiting:
        return Plan(stage, reasons=("nobody may go now",))
    fates = [fate_of(g) for g in going]
    if terms.steps and terms.live and not policy.final and not _is_fresh(stage, policy, now):
        if not _NEWS_MAY_COME.isdisjoint(fates):
            told = (
                "none yet" if stage.proof_at is None else f"the newest was read at {at_text(stage.proof_at)}"
            )
            return Plan(stage, reasons=(f"the drain waits for proof: {told}",))
        # Nothing is on its way that could prove anything: a canary asks again.
        return Plan(reset(stage), reasons=("the newest proof is old: a canary goes again",), again=True)
    messages = list(dict.fromkeys(s.key.message for s in waiting))
    on_the_way = {g.key.message for g, fate in zip(going, fates, strict=True) if fate is Fate.UNDER_WAY}
    room = max(0, AT_ONCE - len(on_the_way))
    allowed, next_at = allowance(stage.next_at, terms.rate, min(room, len(messages)), now)
    chosen = frozenset(messages[:allowed])
    keys = tuple(s.key for s in waiting if s.key.message in chosen)
    told = f"draining: {many(len(keys), 'recipient')} now, {len(waiting) - len(keys)} after them"
    wake_at = max(next_at, now + TICK) if terms.rate and room and allowed < len(messages) else None
    return Plan(replace(stage, next_at=next_at), release=keys, reasons=(told,), wake_at=wake_at)


def _is_fresh(stage: Stage, policy: Policy, now: Ms) -> bool:
    return stage.proof_at is not None and now < stage.proof_at + 2 * policy.trace_lag


def allowance(next_at: Ms, rate: float, most: int, now: Ms) -> tuple[int, Ms]:
    """How many messages may go now of `most`, and the limiter after them.

    Each message moves `next_at` on by 1/rate; what was missed in the last BURST may be caught up on.
    rate: messages a second, 0 for no limit. `next_at` 0: never used."""
    if not rate:
        return most, next_at
    start = max(next_at, now - BURST) if next_at else now
    if start > now:
        return 0, next_at
    count = min(most, 1 + int((now - start) * rate / SECOND))
    return count, start + math.ceil(count * SECOND / rate)


def rest_until(wake_at: Ms, now: Ms, begun: Ms, ended: Ms, restless: int = 0) -> tuple[Ms, Ms]:
    """(rest, wait): how long the loop rests whatever happens, and how long it then waits to be woken.

    It rests a multiple of what its last pass took (`begun` to `ended`, monotonic), so that a large incident
    leaves time for the mail; and longer the more passes in a row ended with orders still coming (`restless`),
    so that rules which never agree don't wear out the disk."""
    rest = max(TICK * 2 ** min(restless, RESTLESS), REST * (ended - begun))
    return rest, max(0, wake_at - now - rest)


def at_the_latest(now: Ms) -> Ms:
    """When the facts are looked at though nobody called."""
    return now + IDLE


class Sparing:
    """When a look at everybody in trouble is worth its cost again; times are monotonic."""

    def __init__(self) -> None:
        self._next_at: Ms = 0

    def is_due(self, now: Ms) -> bool:
        """Whether it is time."""
        return now >= self._next_at

    def due_in(self, now: Ms) -> Ms:
        """How long until it is time."""
        return max(self._next_at - now, 0)

    def took(self, begun: Ms, ended: Ms) -> None:
        """It was done."""
        self._next_at = ended + SPARE * (ended - begun)

    def forget(self) -> None:
        """Something was written that changes the answer."""
        self._next_at = 0
