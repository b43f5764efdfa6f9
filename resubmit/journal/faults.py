"""What speaks for and against a destination or a route, as its gate weighs it. Read only.

Promises: the newest first, each kind through an index in the order of time, so that a look costs what it
finds; no kind crowds out another.
"""

from __future__ import annotations

from collections.abc import Iterator

from resubmit.journal import reports
from resubmit.journal.codec import maybe
from resubmit.journal.connection import sqlite3
from resubmit.journal.verbs import Fault
from resubmit.model.evidence import Cause, Scope, Status
from resubmit.model.moment import MINUTE, Ms
from resubmit.model.recipient import Event

_Row = tuple[object, ...]

_EVIDENCE = """
select e.id, coalesce(e.observed_at, e.read_at), e.read_at, e.status, e.cause, e.scope, e.text,
    case when a.accepted = 1 then a.ended_at end, e.remote, lower(r.address), r.destination, r.route
from evidence e
join recipient r on r.message = e.message and r.n = e.n
left join attempt a on a.message = e.message and a.n = e.n and a.no = e.no
"""

_SEEN = f"""
{_EVIDENCE}
where e.scope in ('route', 'destination') and e.read_at >= ? and e.message is not null
order by e.read_at desc
limit ?
"""

_DELIVERED = f"""
{_EVIDENCE}
where e.status = 'delivered' and e.read_at >= ? and e.message is not null
order by e.read_at desc
limit ?
"""

_MET = """
select -o.id, a.ended_at, a.ended_at, a.event, a.cause, a.scope, a.reply,
    case when a.accepted = 1 then a.ended_at end, o.remote, lower(r.address), r.destination, o.route
from attempt a
join offer o on o.id = a.offer
join recipient r on r.message = a.message and r.n = a.n
where a.scope in ('route', 'destination') and a.ended_at >= ?
order by a.ended_at desc
limit ?
"""

_OURS = """
select -o.id, o.ended_at, o.ended_at, {event}, null, null, a.reply,
    case when a.accepted = 1 then a.ended_at end, o.remote, lower(r.address), r.destination, o.route
from offer o
cross join attempt a on a.message = o.message and a.offer = o.id
join recipient r on r.message = a.message and r.n = a.n
where o.ended_at is not null and o.ended_at >= ? and ({got})
order by o.ended_at desc
limit ?
"""

# Who refuses a recipient or a message for its own sake has been reached, and talks to us.
_ANSWERED = _OURS.format(
    event="case when a.accepted = 1 then a.event else 'reply_accepted' end",
    got="a.accepted = 1 or a.scope in ('recipient', 'message') and a.code is not null",
)

_FINAL = _OURS.format(event="a.event", got="a.event = 'reply_final'")

QUERIES = (_SEEN, _DELIVERED, _MET, _ANSWERED, _FINAL)

_STATUS_OF = {
    Event.REPLY_ACCEPTED: Status.NONE,
    Event.REPLY_FINAL: Status.DELIVERED,
    Event.REPLY_DEFERRED: Status.DEFERRED,
    Event.REPLY_REFUSED: Status.FAILED,
    Event.REPLY_REFUSED_MENDABLE: Status.EXPIRED,
}

_SKEW: Ms = 10 * MINUTE  # evidence may carry a stamp of a clock that runs ahead of ours

_SCAN = 5000


def faults(
    connection: sqlite3.Connection,
    destination: str | None,
    route: str | None,
    since: Ms,
    limit: int,
    good: int,
) -> list[Fault]:
    """What speaks for and against a destination or a route since then, newest first.

    Against it: owned evidence of scope destination or route, refusals of such a scope that our own attempts
    met, and what was reported of a destination's servers. For it: deliveries, and what our own attempts were
    answered: 250s, and refusals that concern their recipient or message only (status `none`, or `delivered`
    on a final route; scope None; of a destination the latter only, since other answers say nothing of it).
    An attempt's `evidence` is its offer's id, negative. `limit` holds for each kind against it, `good` for
    each kind for it: much mail that is taken hides no deferral.
    """
    if destination is None:
        asked = [(_MET, limit), (_ANSWERED, good)]
    else:
        asked = [(_SEEN, limit), (_MET, limit), (_DELIVERED, good), (_FINAL, good)]
    rows: list[_Row] = []
    for query, most in asked:
        if most:
            rows += _found(connection, query, destination, route, since, most)
    deferred = {
        str(row[9])
        for row in rows
        if row[5] == Scope.DESTINATION and row[3] not in (Status.DELIVERED, Event.REPLY_FINAL)
    }
    found = [_fault(row, str(row[9]) in deferred) for row in rows]
    if destination is not None and limit:
        found += reports.faults(connection, destination, since, limit)
    return sorted(found, key=lambda fault: (fault.at, fault.read_at), reverse=True)


def _found(
    connection: sqlite3.Connection,
    query: str,
    destination: str | None,
    route: str | None,
    since: Ms,
    most: int,
) -> Iterator[_Row]:
    from_ = since - _SKEW if query in (_SEEN, _DELIVERED) else since
    for row in connection.execute(query, (from_, _SCAN)):
        if (destination is not None and row[10] != destination) or (route is not None and row[11] != route):
            continue
        if row[1] < since:
            continue
        yield row
        most -= 1
        if not most:
            return


def _fault(row: _Row, was_deferred: bool) -> Fault:
    identity, at, read_at, status, cause, scope, text, accepted_at, remote, *_ = row
    if isinstance(identity, int) and identity < 0:
        status = _STATUS_OF.get(Event(str(status)), Status.NONE)
    return Fault(
        evidence=identity,  # type: ignore[arg-type]
        at=at,  # type: ignore[arg-type]
        read_at=read_at,  # type: ignore[arg-type]
        status=str(status),
        cause=maybe(Cause, cause),  # type: ignore[arg-type]
        scope=maybe(Scope, scope),  # type: ignore[arg-type]
        text=str(text),
        attempt_accepted_at=accepted_at,  # type: ignore[arg-type]
        remote=str(remote),
        was_deferred=was_deferred,
    )
