"""What is due now, route by route, and what waits for time to pass. Read only.

Promises: the cost of `due` depends on what it returns, not on what else waits: a hundred thousand retries
to a dead route block nobody. (Only what is barred is passed over one by one; recovery takes it back.)
"""

from __future__ import annotations

import json
from dataclasses import replace

from resubmit.journal.codec import read_words
from resubmit.journal.connection import sqlite3
from resubmit.journal.mail import message_of
from resubmit.journal.verbs import NOBODY_BARRED, Barred, DueMessage, DueRecipient
from resubmit.model.message import Body
from resubmit.model.moment import Ms
from resubmit.model.recipient import State

BODIES_OCTETS = 4 * 1024 * 1024
"""Small bodies come along up to so many octets; the rest is fetched when its turn has come."""

_NOT_BARRED = """
    and (lane = 0 or destination not in (select value from json_each(?))
        or job in (select value from json_each(?)))
"""

_DUE = """
select message, attempt, job
from recipient
where route = ? and lane = ? and due_at <= ? and due_at is not null
{barred}
order by due_at
"""

_GROUP = """
select message, n, address, parameters, destination, route, state, attempt, due_at, job, deadline, failures
from recipient
where message = ? and +route = ? and +lane = ? and attempt = ? and +job is ? and +due_at <= ?
{barred}
order by n
"""

_OCTETS = "select octets from body where message = ?"

_MESSAGE = """
select received_at, sender, parameters, message_id, intake, peer, helo, protocol, size, digest, body_file
from message
where id = ?
"""

_NEXT_DUE = """
select due_at
from recipient
where route = ? and lane = ? and due_at is not null
{barred}
order by due_at
limit 1
"""

_NEXT_ROUTE = """
select min(route)
from recipient
where route > ? and due_at is not null
"""


def due(
    connection: sqlite3.Connection, route: str, now: Ms, limit: int, barred: Barred = NOBODY_BARRED
) -> list[DueMessage]:
    """Up to `limit` offers that are due on a route: new mail and retries first, then jobs, each by due_at.

    One offer holds the recipients of a message that share route, attempt number and job; those that are
    barred are left out. The first small bodies come with their octets; `body` fetches the others.
    """
    found: list[DueMessage] = []
    room = BODIES_OCTETS
    for lane in (0, 1):
        seen: set[tuple[int, int, int | None]] = set()
        sql, names = _unless_barred(_DUE, barred)
        for group in connection.execute(sql, (route, lane, now, *names)):
            if group in seen:
                continue
            seen.add(group)
            message, attempt, job = group
            offer = _offer(connection, route, lane, now, message, attempt, job, barred)
            if offer.body.file is None and offer.body.size <= room:
                offer = replace(offer, body=_with_octets(connection, offer))
                room -= offer.body.size
            found.append(offer)
            if len(found) >= limit:
                return found
    return found


def _unless_barred(sql: str, barred: Barred) -> tuple[str, tuple[str, ...]]:
    """The query, and the parameters it takes more."""
    if not barred.destinations:
        return sql.format(barred=""), ()
    names = (json.dumps(sorted(barred.destinations)), json.dumps(sorted(barred.forced)))
    return sql.format(barred=_NOT_BARRED), names


def _with_octets(connection: sqlite3.Connection, offer: DueMessage) -> Body:
    found = connection.execute(_OCTETS, (offer.message,)).fetchone()
    return offer.body if found is None else replace(offer.body, octets=found[0])


def _offer(
    connection: sqlite3.Connection,
    route: str,
    lane: int,
    now: Ms,
    message: int,
    attempt: int,
    job: int | None,
    barred: Barred,
) -> DueMessage:
    sql, names = _unless_barred(_GROUP, barred)
    rows = connection.execute(sql, (message, route, lane, attempt, job, now, *names)).fetchall()
    recipients = tuple(
        DueRecipient(row[0], row[1], row[2], read_words(row[3]), row[4], row[5], State(row[6]), *row[7:11])
        for row in rows
    )
    head = message_of(message, connection.execute(_MESSAGE, (message,)).fetchone())
    return replace(head, recipients=recipients, failures=max((row[11] for row in rows), default=0))


def next_due(connection: sqlite3.Connection, route: str, barred: Barred = NOBODY_BARRED) -> Ms | None:
    """When the next attempt on a route is due (perhaps it is already), None when none waits but barred
    ones."""
    sql, names = _unless_barred(_NEXT_DUE, barred)
    rows = [connection.execute(sql, (route, lane, *names)).fetchone() for lane in (0, 1)]
    return min((row[0] for row in rows if row is not None), default=None)


def routes_with_work(connection: sqlite3.Connection) -> list[str]:
    """The routes on which an attempt is due, now or later, in order."""
    routes: list[str] = []
    route: str | None = ""
    while True:
        (route,) = connection.execute(_NEXT_ROUTE, (route,)).fetchone()
        if route is None:
            return routes
        routes.append(route)
