"""When mail bounces: who holds it decides how long it has.

Source: design, section 3 (*Deadline*). Exchange Online keeps trying for 24 hours (Microsoft, "Queued
messages report"); what we hold ourselves we try for `give_up_after`.
"""

from __future__ import annotations

from typing import Protocol

from resubmit.model.evidence import Holder
from resubmit.model.moment import Ms
from resubmit.model.recipient import Event, State

_OURS = frozenset({Event.REPLY_DEFERRED, Event.DOUBT_TIMED_OUT, Event.SEEN_NOWHERE})
_HELD_BY_US = frozenset({State.JOURNALED, State.RETRYING})
_THEIRS = frozenset({Event.REPLY_ACCEPTED, Event.REPLY_LOST})


def ours(received_at: Ms, give_up_after: Ms) -> Ms:
    """Until when we try to hand on what we took at `received_at`."""
    return received_at + give_up_after


def theirs(taken_at: Ms, expires_after: Ms) -> Ms:
    """When the far side gives up what it took at `taken_at`."""
    return taken_at + expires_after


class Was(Protocol):
    """A recipient as it stood before the attempt."""

    @property
    def state(self) -> State: ...
    @property
    def deadline(self) -> Ms | None: ...


def after(
    event: Event,
    at: Ms,
    received_at: Ms,
    *,
    give_up_after: Ms,
    expires_after: Ms,
    was: Was | None = None,
) -> tuple[Holder | None, Ms | None]:
    """Who holds the mail after one of our own attempts ended so at `at`, and until when.

    What we held before keeps its deadline; what we took up again (a resubmission of mail that is older than
    `give_up_after`) has all of our time from now on, else its first 4xx would be its end.
    (None, None): nobody's clock runs, or the event says nothing about it.
    """
    if event in _THEIRS:
        return Holder.FAR, theirs(at, expires_after)
    if event in _OURS:
        until = ours(received_at, give_up_after)
        if was is not None and was.state in _HELD_BY_US and was.deadline is not None:
            until = was.deadline
        elif until <= at:
            until = ours(at, give_up_after)
        return Holder.US, until
    if event in (Event.REPLY_REFUSED, Event.REPLY_REFUSED_MENDABLE, Event.QUEUE_EXPIRED):
        return Holder.NOBODY, None
    return None, None
