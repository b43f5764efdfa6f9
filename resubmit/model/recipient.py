"""The recipient's states, the events that move it, and the table of every move.

State is per recipient of a message, never per message. `TABLE` is the whole machine: a row an event, a
column a state. `step` reads one cell; nothing else decides a move.

Cells: a state's name moves there; `.` stays; `!` is a conflict (recorded, reported, no move); `x` cannot
happen (a bug); `below` returns a held recipient to the state under the hold.

`seen_…` is evidence that belongs to the current attempt, `late_…` to an older one. Within an attempt
evidence ranks accepted < pending < deferred < expired < failed < filtered < expanded < delivered and the
highest stays, which is why the order of arrival does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where one recipient of one message stands."""

    JOURNALED = "journaled"
    """durable here, not yet handed off"""
    SENDING = "sending"
    """an attempt is open, its intent durable"""
    RETRYING = "retrying"
    """the next hop said 4xx or was unreachable; ours to retry"""
    IN_DOUBT = "in_doubt"
    """the connection broke after the final dot was written: maybe taken"""
    ACCEPTED = "accepted"
    """someone else has it; its fate is unknown"""
    PENDING = "pending"
    """a trace says Pending or GettingStatus"""
    DEFERRED = "deferred"
    """evidence of a deferral, with its cause"""
    EXPIRED = "expired"
    """given up by the far side for a cause that can be mended: still recoverable"""
    HELD = "held"
    """an operator holds it"""
    DELIVERED = "delivered"
    """evidence of delivery, or a 250 from a route marked final"""
    EXPANDED = "expanded"
    """a group; its members are followed as derived recipients"""
    FILTERED = "filtered"
    """quarantined or filtered as spam: not ours to force"""
    FAILED = "failed"
    """permanent failure for a cause known to be beyond mending"""
    CANCELLED = "cancelled"
    """an operator cancelled it"""


SETTLED = frozenset({State.DELIVERED, State.EXPANDED, State.FILTERED, State.FAILED, State.CANCELLED})
"""States in which nothing more is owed."""


class Event(StrEnum):
    """What can happen to a recipient. See docs/states.md for each cell."""

    TAKEN_ELSEWHERE = "taken_elsewhere"
    ATTEMPT_STARTED = "attempt_started"
    ATTEMPT_ORPHANED = "attempt_orphaned"
    REPLY_ACCEPTED = "reply_accepted"
    REPLY_FINAL = "reply_final"
    REPLY_DEFERRED = "reply_deferred"
    REPLY_REFUSED = "reply_refused"
    REPLY_REFUSED_MENDABLE = "reply_refused_mendable"
    REPLY_LOST = "reply_lost"
    DOUBT_TIMED_OUT = "doubt_timed_out"
    QUEUE_EXPIRED = "queue_expired"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    RELAY_PASSED_ON = "relay_passed_on"
    SEEN_ACCEPTED = "seen_accepted"
    SEEN_PENDING = "seen_pending"
    SEEN_DEFERRED = "seen_deferred"
    SEEN_GIVEN_UP = "seen_given_up"
    SEEN_FAILED = "seen_failed"
    SEEN_FILTERED = "seen_filtered"
    SEEN_EXPANDED = "seen_expanded"
    SEEN_DELIVERED = "seen_delivered"
    SEEN_NOWHERE = "seen_nowhere"
    LATE_DELIVERED = "late_delivered"
    LATE_EXPANDED = "late_expanded"
    LATE_OTHER = "late_other"
    OPERATOR_HELD = "operator_held"
    OPERATOR_RELEASED = "operator_released"
    OPERATOR_CANCELLED = "operator_cancelled"
    OPERATOR_REDIRECTED = "operator_redirected"
    OPERATOR_REOPENED = "operator_reopened"
    PRUNED = "pruned"


# fmt: off
_TABLE = """
event                 |journaled|sending  |retrying |in_doubt |accepted |pending  |deferred |expired  |held     |delivered|expanded |filtered |failed   |cancelled
taken_elsewhere       |accepted |x        |x        |x        |x        |x        |x        |x        |x        |x        |x        |x        |x        |x
attempt_started       |sending  |x        |sending  |sending  |sending  |sending  |sending  |sending  |x        |x        |x        |x        |x        |x
attempt_orphaned      |x        |in_doubt |x        |x        |.        |.        |.        |.        |x        |.        |.        |.        |.        |x
reply_accepted        |x        |accepted |x        |x        |.        |.        |.        |.        |x        |.        |.        |.        |.        |x
reply_final           |x        |delivered|x        |x        |delivered|delivered|delivered|delivered|x        |.        |delivered|delivered|delivered|x
reply_deferred        |x        |retrying |x        |x        |!        |!        |!        |!        |x        |.        |.        |!        |!        |x
reply_refused         |x        |failed   |x        |x        |failed   |failed   |failed   |failed   |x        |.        |.        |!        |.        |x
reply_refused_mendable|x        |expired  |x        |x        |expired  |expired  |expired  |.        |x        |.        |.        |!        |!        |x
reply_lost            |x        |in_doubt |x        |x        |.        |.        |.        |.        |x        |.        |.        |.        |.        |x
doubt_timed_out       |x        |.        |.        |retrying |.        |.        |.        |.        |.        |.        |.        |.        |.        |.
queue_expired         |expired  |.        |expired  |.        |.        |.        |.        |.        |.        |.        |.        |.        |.        |.
attempts_exhausted    |x        |x        |held     |held     |.        |held     |held     |held     |.        |.        |.        |.        |.        |.
relay_passed_on       |x        |x        |x        |accepted |.        |x        |accepted |accepted |.        |x        |x        |x        |x        |.
seen_accepted         |!        |accepted |accepted |accepted |.        |.        |.        |.        |.        |.        |.        |.        |.        |.
seen_pending          |!        |pending  |pending  |pending  |pending  |.        |.        |.        |.        |.        |.        |.        |.        |.
seen_deferred         |!        |deferred |deferred |deferred |deferred |deferred |.        |.        |.        |.        |.        |.        |.        |.
seen_given_up         |!        |expired  |expired  |expired  |expired  |expired  |expired  |.        |.        |!        |!        |!        |.        |.
seen_failed           |!        |failed   |failed   |failed   |failed   |failed   |failed   |failed   |failed   |!        |!        |!        |.        |.
seen_filtered         |!        |filtered |filtered |filtered |filtered |filtered |filtered |filtered |filtered |!        |!        |.        |filtered |.
seen_expanded         |!        |expanded |expanded |expanded |expanded |expanded |expanded |expanded |expanded |.        |.        |expanded |expanded |.
seen_delivered        |!        |delivered|delivered|delivered|delivered|delivered|delivered|delivered|delivered|.        |delivered|delivered|delivered|delivered
seen_nowhere          |.        |.        |.        |retrying |.        |.        |.        |.        |.        |.        |.        |.        |.        |.
late_delivered        |x        |delivered|delivered|delivered|delivered|delivered|delivered|delivered|delivered|.        |delivered|delivered|delivered|delivered
late_expanded         |x        |expanded |expanded |expanded |expanded |expanded |expanded |expanded |expanded |.        |.        |expanded |expanded |.
late_other            |x        |.        |.        |.        |.        |.        |.        |.        |.        |.        |.        |.        |.        |.
operator_held         |held     |x        |held     |held     |held     |held     |held     |held     |.        |!        |!        |!        |!        |!
operator_released     |!        |x        |!        |!        |!        |!        |!        |!        |below    |!        |!        |!        |!        |!
operator_cancelled    |cancelled|x        |cancelled|cancelled|cancelled|cancelled|cancelled|cancelled|cancelled|!        |!        |!        |!        |.
operator_redirected   |cancelled|x        |cancelled|cancelled|cancelled|cancelled|cancelled|cancelled|cancelled|!        |!        |!        |cancelled|!
operator_reopened     |.        |x        |.        |.        |.        |.        |.        |.        |!        |!        |!        |!        |expired  |expired
pruned                |x        |x        |x        |x        |.        |x        |x        |x        |x        |.        |.        |.        |.        |.
"""
# fmt: on


def _parse(text: str) -> dict[Event, dict[State, str]]:
    header, *rows = [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]
    states = [State(name) for name in header[1:]]
    return {Event(row[0]): dict(zip(states, row[1:], strict=True)) for row in rows}


TABLE: dict[Event, dict[State, str]] = _parse(_TABLE)


class Impossible(AssertionError):
    """An event met a state in which it cannot happen (`x`): a bug here, never the mail's fault."""


@dataclass(frozen=True, slots=True)
class Stand:
    """A recipient's state and, while it is held, the state below the hold."""

    state: State
    below: State | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What an event did: the stand after it, whether anything moved, whether it was a conflict."""

    stand: Stand
    moved: bool
    conflict: bool = False


def step(stand: Stand, event: Event) -> Step:
    """Read the table's cell for an event. Raises Impossible for `x`.

    A held recipient that stays held moves its `below` instead, so that release returns to the truth.
    """
    cell = TABLE[event][stand.state]
    if cell == "x":
        raise Impossible(f"{event} in {stand.state}")
    if cell == "!":
        return Step(stand, moved=False, conflict=True)
    if cell == "below":
        return Step(Stand(stand.below or State.JOURNALED), moved=True)
    if cell == ".":
        if stand.state is State.HELD and stand.below is not None and event in _MOVES_BELOW:
            under = TABLE[event][stand.below]
            if under not in (".", "!", "x", "below", State.HELD):
                return Step(Stand(State.HELD, State(under)), moved=True)
        return Step(stand, moved=False)
    to = State(cell)
    if to is stand.state:
        return Step(stand, moved=False)
    return Step(Stand(to, stand.state if to is State.HELD else None), moved=True)


_MOVES_BELOW = frozenset(event for event in Event if event.startswith(("seen_", "late_", "relay_"))) | {
    Event.DOUBT_TIMED_OUT
}
"""Events that tell a truth about the mail, so they also move what lies below a hold."""


@dataclass(frozen=True, slots=True, order=True)
class RecipientKey:
    """A recipient of a message: the message's id and the recipient's number in it, from 0."""

    message: int
    n: int
