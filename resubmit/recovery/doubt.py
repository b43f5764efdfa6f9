"""What time does to mail: attempts in doubt are settled, and what we hold too long is given up.

Promises: in doubt goes again at once only when a live trace that covers its time does not know it, though
it knows another mail of ours on both sides; when too many of our mails are missing there, the trace is
wrong and a person is asked. Only mails over the same route count: of others that trace need not know. Without
a trace, and on a final route, of which none tells, it goes again after `in_doubt_wait`, and the reason says
that a duplicate is possible. (design section 4, *In doubt*; RFC 1047)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from resubmit.model.evidence import Holder
from resubmit.model.moment import MINUTE, Ms, span_text
from resubmit.model.recipient import Event, State
from resubmit.recovery.due import Due
from resubmit.recovery.facts import Coverage, Standing
from resubmit.recovery.lastlook import answers_for, newest
from resubmit.recovery.policy import Policy
from resubmit.recovery.words import at_text, many

NEAR = 30 * MINUTE
"""So near in time, on both sides, the trace must know another mail of ours."""
ALARMING = frozenset({State.HELD, State.EXPIRED})
"""What a recipient should not come to by time alone: somebody has to know."""
ENOUGH = 20
"""From so many mails of ours on, one in twenty may be missing and no more."""


class Taken(Protocol):
    """A mail of ours that was answered 250 at `at` over a route; `known`: a trace knows it."""

    @property
    def at(self) -> Ms: ...
    @property
    def known(self) -> bool: ...
    @property
    def route(self) -> str: ...


def span_of(standings: Sequence[Standing]) -> tuple[Ms, Ms] | None:
    """The time in which our mails have to be known to judge what is in doubt; None where nothing is."""
    times = [doubt_at(s) for s in standings if s.state is State.IN_DOUBT]
    return (min(times) - NEAR, max(times) + NEAR) if times else None


def doubt_at(standing: Standing) -> Ms:
    """When it may have been taken: its final dot, where that was told."""
    return standing.dot_at if standing.dot_at is not None else standing.since


def after_time(
    standing: Standing,
    taken: Sequence[Taken],
    coverage: Sequence[Coverage],
    policy: Policy,
    *,
    live: bool,
    final: frozenset[str] = frozenset(),
    now: Ms,
) -> Due | None:
    """What time has done to a recipient: None where it does nothing to its state. `final`: the routes whose
    250 is a delivery."""
    if standing.state is State.IN_DOUBT:
        told = live and standing.route not in final
        return _settle(standing, taken, coverage, policy, live=told, now=now)
    if standing.state in (State.JOURNALED, State.RETRYING) and standing.deadline is not None:
        if now < standing.deadline:
            return Due(standing.key, None, "", standing.attempt, wake_at=standing.deadline)
        why = f"could not be handed on until {at_text(standing.deadline)} (give_up_after)"
        return Due(standing.key, Event.QUEUE_EXPIRED, why, standing.attempt, holder=Holder.NOBODY)
    return None


def _settle(
    standing: Standing,
    taken: Sequence[Taken],
    coverage: Sequence[Coverage],
    policy: Policy,
    *,
    live: bool,
    now: Ms,
) -> Due:
    at = doubt_at(standing)
    told_by = at + policy.trace_lag
    last = newest(coverage)
    if live and last is not None and any(c.since <= at for c in coverage):
        if not answers_for(coverage, at, told_by):
            return _not_yet(standing, f"in doubt: the trace will have told by {at_text(told_by)}", None)
        return _by_trace(standing, taken, last.until - policy.trace_lag, policy, now)
    return _by_time(standing, at + policy.in_doubt_wait, "no live trace to ask", now)


def _by_trace(standing: Standing, taken: Sequence[Taken], told_until: Ms, policy: Policy, now: Ms) -> Due:
    at = doubt_at(standing)
    same = (t for t in taken if t.route == standing.route)
    near = [t for t in same if abs(t.at - at) <= NEAR and t.at <= told_until]
    missing = sum(not t.known for t in near)
    if len(near) >= ENOUGH and missing * 20 > len(near):
        why = (
            f"{missing} of {len(near)} mails of ours taken within {span_text(NEAR)} are not in the trace: "
            "the trace is wrong, not the mail; a person has to decide"
        )
        return Due(standing.key, None, why, standing.attempt, ask=True)
    known = [t.at for t in near if t.known]
    if any(t <= at for t in known) and any(t >= at for t in known):
        why = f"not taken: a trace that knows {many(len(known), 'mail')} of ours around it does not know it"
        return Due(standing.key, Event.SEEN_NOWHERE, why, standing.attempt, due_at=now, holder=Holder.US)
    ends = max(at + policy.in_doubt_wait, at + NEAR + policy.trace_lag)
    return _by_time(standing, ends, "the trace knows no mail of ours on both sides of it", now)


def _by_time(standing: Standing, ends: Ms, because: str, now: Ms) -> Due:
    if now < ends:
        return _not_yet(standing, f"in doubt until {at_text(ends)}: {because}", ends)
    why = (
        f"in doubt for {span_text(now - doubt_at(standing))}, {because}: goes again, a duplicate is possible"
    )
    event = Event.DOUBT_TIMED_OUT
    return Due(standing.key, event, why, standing.attempt, due_at=now, holder=Holder.US, duplicate=True)


def _not_yet(standing: Standing, why: str, wake_at: Ms | None) -> Due:
    return Due(standing.key, None, why, standing.attempt, wake_at=wake_at)
