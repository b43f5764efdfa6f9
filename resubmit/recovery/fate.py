"""How a recipient that a job released has fared since. (design section 4, *What counts as proof*)

Promises: only what happened to the attempt it was released for counts; the news of an older one never do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from resubmit.model.evidence import Scope
from resubmit.model.moment import Ms
from resubmit.model.recipient import SETTLED, RecipientKey, State
from resubmit.recovery.eligible import is_again
from resubmit.recovery.facts import Item, Standing
from resubmit.recovery.stage import Stage

WAITING = "waiting"
RELEASED = "released"
SKIPPED = "skipped"
PROVED = "proved"
TOLD_OF = ("sent", "lost")
IN_FLIGHT = (RELEASED, *TOLD_OF)
"""States of a job's items on which news may still come."""

SAMPLE = 50
"""Of what was taken and is not told of yet, so many are looked at."""

_OWN = frozenset({Scope.RECIPIENT, Scope.MESSAGE})


class Fate(StrEnum):
    """What has become of it."""

    UNDER_WAY = "under_way"
    """no reply yet, or ours to retry"""
    IN_DOUBT = "in_doubt"
    """perhaps taken"""
    TAKEN = "taken"
    """answered 250, nothing heard since"""
    PROVED = "proved"
    """delivered"""
    ENDED = "ended"
    """settled or held in another way, which proves nothing"""
    OWN_FAULT = "own_fault"
    """failed for a reason that concerns this recipient or message only"""
    BAD = "bad"
    """failed for a reason that concerns the way or the destination: the gate has to shut"""


@dataclass(frozen=True, slots=True)
class Going:
    """A recipient that a job released. `no`: the number of its attempt, None before it has begun;
    `released_at`: when it was made due; `item_state`: what the job's list says of it, "" for nothing."""

    key: RecipientKey
    no: int | None
    released_at: Ms | None
    item_state: str
    standing: Standing


def going_of(stage: Stage, items: Iterable[Item], standings: Mapping[RecipientKey, Standing]) -> list[Going]:
    """What a job has in flight: its items on which news may come, and its step's recipients in any case.

    One without a standing (pruned) is left out."""
    listed = {item.key: item for item in items}
    found = {
        key: (item.no, item.released_at, item.state)
        for key, item in listed.items()
        if item.state in IN_FLIGHT
    }
    for out in stage.out:
        item = listed.get(out.key)
        no = item.no if item and item.no is not None else out.no
        released_at = item.released_at if item and item.released_at is not None else stage.released_at
        found[out.key] = (no, released_at, item.state if item else "")
    return [Going(key, *found[key], standings[key]) for key in sorted(found) if key in standings]


def has_begun(going: Going) -> bool:
    """Whether the attempt it was released for was begun."""
    return going.no is not None and going.standing.attempt >= going.no


def fate_of(going: Going) -> Fate:
    """What has become of a released recipient."""
    standing = going.standing
    if not has_begun(going):
        over = standing.state in SETTLED or standing.state is State.HELD or going.item_state == SKIPPED
        return Fate.ENDED if over else Fate.UNDER_WAY
    match standing.state:
        case State.SENDING | State.RETRYING | State.JOURNALED:
            return Fate.UNDER_WAY
        case State.IN_DOUBT:
            return Fate.IN_DOUBT
        case State.ACCEPTED | State.PENDING:
            return Fate.TAKEN
        case State.DELIVERED:
            return Fate.PROVED
        case State.DEFERRED | State.EXPIRED:
            return Fate.OWN_FAULT if standing.scope in _OWN else Fate.BAD
        case State.FAILED:
            return Fate.OWN_FAULT if standing.scope in _OWN or standing.scope is None else Fate.BAD
    return Fate.ENDED


def taken_at(going: Going) -> Ms:
    """When its attempt was taken, or what is nearest to it."""
    times = (going.standing.accepted_at, going.standing.dot_at, going.released_at)
    return next((at for at in times if at is not None), going.standing.since)


def not_begun(goings: Iterable[Going]) -> list[RecipientKey]:
    """Those that were made due and have not left: what is called back when a gate shuts.

    What our own handoff retries has been promised to its route, not to this gate."""
    ours = (State.JOURNALED, State.RETRYING)
    return [
        g.key
        for g in goings
        if g.item_state == RELEASED
        and not has_begun(g)
        and fate_of(g) is Fate.UNDER_WAY
        and (is_again(g.standing) or g.standing.state not in (State.SENDING, *ours))
    ]


def worth_weighing(items: Sequence[Item]) -> list[RecipientKey]:
    """Of what a job has sent: all that met bad news, and a sample of the rest to know that news may come."""
    quiet = (State.ACCEPTED, State.PENDING)
    loud = [item.key for item in items if item.recipient_state not in quiet]
    return loud + [item.key for item in items if item.recipient_state in quiet][:SAMPLE]
