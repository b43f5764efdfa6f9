"""Who goes again by itself, who only when a person asks, and who never. (design section 4, *Who goes*)

Promises: settled, held and relay-held recipients never go, nor one whose bytes are gone or whose attempt
is open. Each answer has its reason. Pure; `now` in ms UTC.
"""

from __future__ import annotations

from dataclasses import dataclass

from resubmit.model.evidence import Cause, Holder, Scope
from resubmit.model.moment import Ms
from resubmit.model.recipient import SETTLED, Event, State
from resubmit.recovery.due import Due
from resubmit.recovery.facts import Incident, Standing
from resubmit.recovery.policy import Policy
from resubmit.recovery.words import many

OUTAGE = frozenset({Cause.TLS, Cause.CONNECTION})
"""Causes that end when the gate opens."""
TROUBLE = (State.RETRYING, State.IN_DOUBT, State.PENDING, State.DEFERRED, State.EXPIRED, State.ACCEPTED)
"""The states in which a recipient can be caught in an incident."""
CAUGHT = (*TROUBLE, State.SENDING, State.JOURNALED, State.HELD)
"""The states in which one of its members is not settled."""
SUSPECT = (State.ACCEPTED,)
"""Taken, and nothing heard since."""
STUCK = tuple(state for state in TROUBLE if state is not State.ACCEPTED)
"""Trouble that evidence told of, or that we see ourselves."""
_OWN_FAULT = frozenset({Scope.RECIPIENT, Scope.MESSAGE})
_SENDABLE = frozenset({*TROUBLE, State.JOURNALED})


@dataclass(frozen=True, slots=True)
class Ruling:
    """Yes or no, and why."""

    yes: bool
    why: str


def belongs(standing: Standing, incident: Incident, policy: Policy, *, live: bool, now: Ms) -> Ruling:
    """Whether a recipient is one of the incident's.

    `live`: a live trace is there (so nothing in it is suspect for want of one)."""
    if standing.state in SETTLED or standing.state is State.HELD:
        return Ruling(False, f"{standing.state}")
    if standing.holder is Holder.RELAY:
        return Ruling(False, "the relay beside us holds it and retries by itself")
    if standing.cause in OUTAGE and standing.state in TROUBLE and standing.scope not in _OWN_FAULT:
        if standing.state is State.RETRYING and standing.scope is Scope.ROUTE:
            return Ruling(False, "ours to retry over its route")
        return Ruling(True, f"{standing.state} by {standing.cause}")
    if standing.scope in _OWN_FAULT:
        return Ruling(False, f"{standing.cause or 'its failure'} concerns this {standing.scope} only")
    inside = _inside(standing, incident, now)
    match standing.state:
        case State.PENDING | State.IN_DOUBT:
            return Ruling(inside, f"{standing.state} {_window_text(inside)}")
        case State.EXPIRED if standing.cause in (None, Cause.EXPIRED):
            return Ruling(inside, f"given up without a cause {_window_text(inside)}")
        case State.DEFERRED if standing.cause is None:
            return Ruling(inside, f"deferred without a cause {_window_text(inside)}")
        case State.ACCEPTED:
            return _suspect(standing, incident, policy, live=live, now=now)
    return Ruling(False, f"{standing.state} for {standing.cause or 'no cause of an outage'}")


def goes(standing: Standing, policy: Policy) -> Ruling:
    """Whether a member of an incident is resubmitted without being asked for."""
    if not (can := can_go(standing)).yes:
        return can
    if policy.mode != "automatic":
        return Ruling(False, f"mode is {policy.mode}: a person's replay sends it")
    if standing.state is State.EXPIRED and policy.expired == "ask":
        return Ruling(False, "its sender has had an NDR: a person's replay sends it (expired = ask)")
    if standing.state is State.ACCEPTED and policy.suspect == "ask":
        return Ruling(False, "taken, and no trace to tell: a person's replay sends it (suspect = ask)")
    if standing.state is State.IN_DOUBT:
        return Ruling(False, "in doubt: settled by evidence or time first")
    if standing.state is State.RETRYING:
        return Ruling(False, "its own retry is due by itself")
    return Ruling(True, f"{standing.state}")


def can_go(standing: Standing) -> Ruling:
    """Whether anybody may send it again now."""
    if standing.state in SETTLED:
        return Ruling(False, f"it is {standing.state}")
    if standing.state is State.HELD:
        return Ruling(False, "an operator holds it")
    if standing.state not in _SENDABLE:
        return Ruling(False, "an attempt is under way")
    if standing.holder is Holder.RELAY:
        return Ruling(False, "the relay beside us still holds it")
    if not standing.body_kept:
        return Ruling(False, "its bytes are gone: retention.unproven is over")
    return Ruling(True, f"{standing.state}")


def can_go_again(standing: Standing) -> bool:
    """Whether it is delivered, and its bytes are there to be sent once more: beside it, as another one."""
    return standing.state is State.DELIVERED and standing.body_kept


def is_again(standing: Standing) -> bool:
    """Whether it was made to be sent again beside a delivered one, and has not gone: it is no new mail."""
    return standing.state is State.JOURNALED and standing.attempt > 0


def can_come_later(standing: Standing, policy: Policy, *, automatic: bool) -> bool:
    """Whether one that can't go now may be able to later, so that its job keeps it."""
    if standing.state is State.SENDING:
        return True
    if not automatic or not can_go(standing).yes:
        return False
    return policy.mode != "automatic" or standing.state is State.IN_DOUBT


def used_up(standing: Standing, policy: Policy) -> Due | None:
    """What becomes of it when all its attempts are used: those answered 250 count, no others."""
    if standing.accepted_attempts < policy.max_attempts:
        return None
    taken = many(standing.accepted_attempts, "attempt was", "attempts were")
    why = f"{taken} answered 250 and none arrived (max_attempts = {policy.max_attempts})"
    return Due(standing.key, Event.ATTEMPTS_EXHAUSTED, why, standing.attempt, ask=True)


def _suspect(standing: Standing, incident: Incident, policy: Policy, *, live: bool, now: Ms) -> Ruling:
    """Taken in the fault window, and nothing to tell what became of it."""
    taken = taken_at(standing)
    ends = incident.fault_to
    if taken < incident.fault_from or (ends is not None and taken > ends):
        return Ruling(False, "taken outside the fault window")
    near = standing.deadline is not None and standing.deadline - now < policy.deadline_margin
    if live and not near:
        return Ruling(False, "a live trace will tell")
    # Until then an ordinary delivery may only not have been told yet.
    patience = policy.trace_lag if policy.suspect == "resubmit" else max(policy.trace_lag, policy.stuck_after)
    if now < taken + patience:
        return Ruling(False, "a trace may still tell")
    return Ruling(True, "taken inside the fault window, and no trace to tell")


def _inside(standing: Standing, incident: Incident, now: Ms) -> bool:
    """Whether its time at the far side, from when it was taken, touches the fault window. What was given
    up later than that counts by when it was taken: an NDR comes a day after its cause."""
    ends = incident.fault_to if incident.fault_to is not None else now
    taken = taken_at(standing)
    return taken <= ends and max(standing.since, taken) >= incident.fault_from


def taken_at(standing: Standing) -> Ms:
    """When the far side took its current attempt: the 250, else the final dot, else its state's since."""
    for at in (standing.accepted_at, standing.dot_at):
        if at is not None:
            return at
    return standing.since


def _window_text(inside: bool) -> str:
    return "inside the fault window" if inside else "outside the fault window"
