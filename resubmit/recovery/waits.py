"""What a recipient still waits for, once its gate would let it go. (design section 4, *Duplicates*, *Limits*)

Promises: settle, the far side's own retry, the last look and the gap between two attempts are each told
apart, with until when. A deadline that comes before settle ends skips settle, and nothing else; a job that
was forced skips settle and the far side's retry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resubmit.model.evidence import Status
from resubmit.model.moment import Ms
from resubmit.recovery import lastlook
from resubmit.recovery.eligible import is_again, taken_at
from resubmit.recovery.facts import Coverage, Fault, Standing
from resubmit.recovery.gate import settle_ends
from resubmit.recovery.memory import Memory
from resubmit.recovery.policy import Policy
from resubmit.recovery.words import at_text


@dataclass(frozen=True, slots=True)
class Wait:
    """It must wait; `until` None: for news, not for a time."""

    why: str
    until: Ms | None = None


@dataclass(frozen=True, slots=True)
class Times:
    """What the waits of one destination go by."""

    fixed_at: Ms | None = None
    settled_at: Ms | None = None
    tried_at: Ms | None = None
    """the far side's newest try of its own, as far as evidence tells"""
    live: bool = False


def times_of(memory: Memory, policy: Policy, faults: Sequence[Fault], *, live: bool, now: Ms) -> Times:
    """The times that the waits go by, from the gate's memory and the evidence."""
    settled = settle_ends(memory, policy, live)
    tries = [f.at for f in faults if f.status in (Status.DEFERRED, Status.PENDING) and f.at <= now]
    return Times(memory.fixed_at, settled, max(tries, default=None), live)


def wait_of(
    standing: Standing,
    times: Times,
    coverage: Sequence[Coverage],
    policy: Policy,
    now: Ms,
    *,
    forced: bool = False,
    automatic: bool = True,
) -> Wait | None:
    """What it waits for; None: it may go now. The first that applies is told."""
    if times.fixed_at is not None:
        ends = times.settled_at
        if ends is not None and now < ends and not forced and not _is_urgent(standing, ends):
            return Wait(f"waiting for settle until {at_text(ends)}", ends)
        if is_again(standing):
            return None  # nobody has this copy: there is nothing to look for, and nothing to wait for
        if policy.avoid and not forced and (wait := _far_side(times, policy, now)):
            return wait
        if times.live and not policy.final and (wait := _last_look(standing, times, coverage, policy, now)):
            return wait
    if automatic and (wait := _gap(standing, policy, now)):
        return wait
    return None


def _is_urgent(standing: Standing, settled_at: Ms) -> bool:
    # A deadline that has passed counts too: the far side has given up, there is nothing to settle.
    return standing.deadline is not None and standing.deadline <= settled_at


def _far_side(times: Times, policy: Policy, now: Ms) -> Wait | None:
    """Where a duplicate would be seen: until the far side's own retry would have been told."""
    fixed = times.fixed_at or 0
    since = max(fixed, times.tried_at or 0)
    ends = since + policy.far_retry + policy.trace_lag
    if now >= ends:
        return None
    what = "the fix" if since == fixed else f"its own try at {at_text(since)}"
    return Wait(f"waiting until {at_text(ends)} for the far side to try by itself after {what}", ends)


def _last_look(
    standing: Standing, times: Times, coverage: Sequence[Coverage], policy: Policy, now: Ms
) -> Wait | None:
    later_than = (times.fixed_at or 0) + (policy.far_retry if policy.avoid else 0)
    if lastlook.has_been_had(coverage, taken_at(standing), later_than, now):
        return None
    return Wait(f"waiting for a last look: a trace that was asked after {at_text(later_than)}")


def _gap(standing: Standing, policy: Policy, now: Ms) -> Wait | None:
    """Growing gaps between the attempts of one recipient, from the second resubmission on."""
    again = standing.accepted_attempts - 2
    if again < 0 or standing.accepted_at is None:
        return None
    ends = standing.accepted_at + policy.trace_lag * 2**again
    if now >= ends:
        return None
    return Wait(f"waiting until {at_text(ends)} after {standing.accepted_attempts} attempts", ends)
