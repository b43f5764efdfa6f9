"""Recipients as recovery weighs them. Read only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from resubmit.journal.codec import maybe
from resubmit.journal.connection import sqlite3
from resubmit.journal.verbs import Standing
from resubmit.model.evidence import Cause, Holder, Mend, Scope
from resubmit.model.moment import Ms
from resubmit.model.recipient import RecipientKey, State

_COLUMNS = """
select r.message, r.n, r.destination, r.route, r.address, r.state, r.since, r.cause, r.scope, r.mend,
    r.holder, r.deadline, r.attempt,
    (select count(*) from attempt b where b.message = r.message and b.n = r.n and b.accepted = 1),
    case when a.accepted = 1 then a.ended_at end, o.dot_at, m.body_kept, r.job,
    (select group_concat(q.incident) from incident_recipient q where q.message = r.message and q.n = r.n)
"""

_JOINED = """
join message m on m.id = r.message
left join attempt a on a.message = r.message and a.n = r.n and a.no = r.attempt
left join offer o on o.id = a.offer
"""

_ONE = f"{_COLUMNS} from recipient r {_JOINED} where r.message = ? and r.n = ?"

_OF_INCIDENT = f"""
{_COLUMNS}
from incident_recipient p
join recipient r on r.message = p.message and r.n = p.n
{_JOINED}
where p.incident = ? and (? = '' or r.destination = ?)
order by r.message, r.n
"""

_TROUBLE = f"""
{_COLUMNS}
from recipient r
{_JOINED}
where r.destination = ?
    and r.state in ('retrying', 'in_doubt', 'pending', 'deferred', 'expired')
    and r.state = ?
order by r.deadline is null, r.deadline
limit ?
"""

_ACCEPTED = f"""
{_COLUMNS}
from recipient r
{_JOINED}
where r.destination = ? and r.state = 'accepted' and r.since between ? and ?
order by r.since
limit ?
"""

_HELD = f"""
{_COLUMNS}
from recipient r
{_JOINED}
where r.destination = ? and r.state = 'held'
limit ?
"""

_DUE = f"""
{_COLUMNS}
from recipient r
{_JOINED}
where r.due_at is not null and r.destination = ? and r.state = ?
limit ?
"""

_ANY = f"""
{_COLUMNS}
from recipient r
{_JOINED}
where r.destination = ? and r.state = ?
limit ?
"""

_DOUBTS = f"""
{_COLUMNS}
from recipient r
{_JOINED}
where r.state in ('retrying', 'in_doubt', 'pending', 'deferred', 'expired')
    and r.destination = ? and r.state = 'in_doubt'
order by r.since
limit ?
"""

_JOURNALED_OVER_AGE = f"""
{_COLUMNS}
from recipient r
{_JOINED}
where r.state = 'journaled' and r.route = ? and r.deadline <= ?
limit ?
"""

_RETRYING_OVER_AGE = f"""
{_COLUMNS}
from recipient r
{_JOINED}
where r.state in ('retrying', 'in_doubt', 'pending', 'deferred', 'expired')
    and r.destination = ? and r.state = 'retrying' and r.deadline <= ?
limit ?
"""

_NEXT_ROUTE = "select min(route) from recipient where state = 'journaled' and route > ?"

_NEXT_DESTINATION = """
select min(destination)
from recipient
where state in ('retrying', 'in_doubt', 'pending', 'deferred', 'expired') and destination > ?
"""

_TROUBLE_STATES = (State.RETRYING, State.IN_DOUBT, State.PENDING, State.DEFERRED, State.EXPIRED)

_EVER: Ms = (1 << 63) - 1


def of_keys(connection: sqlite3.Connection, keys: Sequence[RecipientKey]) -> list[Standing]:
    """Where these recipients stand, in the order asked; those that are gone are left out."""
    found = (connection.execute(_ONE, (key.message, key.n)).fetchone() for key in keys)
    return [_standing(row) for row in found if row is not None]


def of_destination(
    connection: sqlite3.Connection,
    destination: str,
    *,
    incident: int | None,
    states: Iterable[State] | None,
    since: Ms | None,
    until: Ms | None,
    limit: int,
) -> list[Standing]:
    """Recipients of a destination (of an incident: all it caught, "" for any destination) in these states.

    states None: the five of trouble (with `incident`: any). since/until: on when an accepted one became so.
    """
    if incident is not None:
        rows = connection.execute(_OF_INCIDENT, (incident, destination, destination)).fetchall()
        wanted = None if states is None else set(states)
        found = [_standing(row) for row in rows]
        return [one for one in found if wanted is None or one.state in wanted][:limit]
    answers: list[Standing] = []
    for state in _TROUBLE_STATES if states is None else states:
        left = limit - len(answers)
        if left <= 0:
            break
        if state in _TROUBLE_STATES:
            rows = connection.execute(_TROUBLE, (destination, state, left)).fetchall()
        elif state is State.ACCEPTED:
            window = (since if since is not None else 0, until if until is not None else _EVER)
            rows = connection.execute(_ACCEPTED, (destination, *window, left)).fetchall()
        elif state is State.HELD:
            rows = connection.execute(_HELD, (destination, left)).fetchall()
        else:
            query = _DUE if state is State.JOURNALED else _ANY
            rows = connection.execute(query, (destination, state, left)).fetchall()
        answers += (_standing(row) for row in rows)
    return answers


def timers(connection: sqlite3.Connection, now: Ms, limit: int) -> list[Standing]:
    """Those whom time moves: in doubt, or held by us past their deadline."""
    rows: list[tuple[object, ...]] = []
    destinations = list(_each(connection, _NEXT_DESTINATION))
    for destination in destinations:
        rows += connection.execute(_DOUBTS, (destination, limit)).fetchall()
    for route in _each(connection, _NEXT_ROUTE):
        rows += connection.execute(_JOURNALED_OVER_AGE, (route, now, limit)).fetchall()
    for destination in destinations:
        rows += connection.execute(_RETRYING_OVER_AGE, (destination, now, limit)).fetchall()
    return [_standing(row) for row in rows[:limit]]


def _each(connection: sqlite3.Connection, following: str) -> Iterator[str]:
    """The first words of an index, each once: a step a word, however many rows have it."""
    word: str | None = ""
    while (word := connection.execute(following, (word,)).fetchone()[0]) is not None:
        yield word


def _standing(row: tuple[object, ...]) -> Standing:
    message, n, destination, route, address, state, since, cause, scope, mend, holder, *rest = row
    deadline, attempt, accepted_attempts, accepted_at, dot_at, body_kept, job, incidents = rest
    return Standing(
        key=RecipientKey(message, n),  # type: ignore[arg-type]
        destination=destination,  # type: ignore[arg-type]
        route=route,  # type: ignore[arg-type]
        address=address,  # type: ignore[arg-type]
        state=State(str(state)),
        since=since,  # type: ignore[arg-type]
        cause=maybe(Cause, cause),  # type: ignore[arg-type]
        scope=maybe(Scope, scope),  # type: ignore[arg-type]
        mend=maybe(Mend, mend),  # type: ignore[arg-type]
        holder=Holder(str(holder)),
        deadline=deadline,  # type: ignore[arg-type]
        attempt=attempt,  # type: ignore[arg-type]
        accepted_attempts=accepted_attempts,  # type: ignore[arg-type]
        accepted_at=accepted_at,  # type: ignore[arg-type]
        dot_at=dot_at,  # type: ignore[arg-type]
        body_kept=bool(body_kept),
        job=job,  # type: ignore[arg-type]
        incidents=frozenset(map(int, str(incidents).split(","))) if incidents else frozenset(),
    )
