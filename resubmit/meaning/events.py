"""What a piece of evidence does: its status and meaning → the event for the recipient's table.

Source: states.md; design, section 3.
"""

from __future__ import annotations

from resubmit.model.evidence import Holder, Meaning, Mend, Status
from resubmit.model.recipient import Event

_SEEN = {
    Status.DELIVERED: Event.SEEN_DELIVERED,
    Status.EXPANDED: Event.SEEN_EXPANDED,
    Status.FILTERED: Event.SEEN_FILTERED,
    Status.PENDING: Event.SEEN_PENDING,
    Status.DEFERRED: Event.SEEN_DEFERRED,
    Status.EXPIRED: Event.SEEN_GIVEN_UP,
    Status.FAILED: Event.SEEN_GIVEN_UP,
    Status.RELAYED: Event.SEEN_ACCEPTED,
    Status.NONE: Event.SEEN_ACCEPTED,
}
_LATE = {Status.DELIVERED: Event.LATE_DELIVERED, Status.EXPANDED: Event.LATE_EXPANDED}


def event_of(status: Status, meaning: Meaning | None, *, current: bool, holder: Holder) -> Event:
    """The event for evidence of a status. current: it belongs to the recipient's current attempt, not to an
    older one; holder: who held the mail until now.

    A failure settles only when its cause is *known* to be beyond mending; else it is a giving-up, from
    which the mail can be had back.
    """
    if not current:
        return _LATE.get(status, Event.LATE_OTHER)
    if status is Status.RELAYED and holder is Holder.RELAY:
        return Event.RELAY_PASSED_ON
    if status is Status.FAILED and meaning is not None and meaning.mend is Mend.NEVER:
        return Event.SEEN_FAILED
    return _SEEN[status]
