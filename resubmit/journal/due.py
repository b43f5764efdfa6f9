"""What is due now, route by route, and what waits for time to pass. Read only.

Promises: the cost of `due` depends on what it returns, not on what else waits: a hundred thousand retries
to a dead route block nobody.
"""

from __future__ import annotations

from dataclasses import replace

from resubmit.journal.codec import read_words
from resubmit.journal.connection import sqlite3
from resubmit.journal.mail import message_of
from resubmit.journal.verbs import DueMessage, DueRecipient
from resubmit.model.moment import Ms
from resubmit.model.recipient import State

_DUE = """
select r.message, r.attempt, r.job
from recipient r
where r.route = ? and r.lane = ? and r.due_at <= ? and r.due_at is not null
order by r.due_at
"""

_GROUP = """
select message, n, address, parameters, destination, route, state, attempt, due_at, job, deadline, failures
from recipient
where message = ? and +route = ? and +lane = ? and attempt = ? and +job is ? and +due_at <= ?
order by n
"""

_MESSAGE = """
select received_at, sender, parameters, message_id, intake, peer, helo, protocol, size, digest, body_file
from message
where id = ?
"""

_NEXT_DUE = """
select min(due_at)
from recipient
where route = ? and lane = ? and due_at is not null
"""

_NEXT_ROUTE = """
select min(route)
from recipient
where route > ? and due_at is not null
"""


def due(connection: sqlite3.Connection, route: str, now: Ms, limit: int) -> list[DueMessage]:
    """Up to `limit` offers that are due on a route: new mail and retries first, then jobs, each by due_at.

    One offer holds the recipients of a message that share route, attempt number and job. Bodies come
    without octets: `body` fetches them.
    """
    found: list[DueMessage] = []
    for lane in (0, 1):
        seen: set[tuple[int, int, int | None]] = set()
        for group in connection.execute(_DUE, (route, lane, now)):
            if group in seen:
                continue
            seen.add(group)
            found.append(_offer(connection, route, lane, now, *group))
            if len(found) >= limit:
                return found
    return found


def _offer(
    connection: sqlite3.Connection,
    route: str,
    lane: int,
    now: Ms,
    message: int,
    attempt: int,
    job: int | None,
) -> DueMessage:
    rows = connection.execute(_GROUP, (message, route, lane, attempt, job, now)).fetchall()
    recipients = tuple(
        DueRecipient(row[0], row[1], row[2], read_words(row[3]), row[4], row[5], State(row[6]), *row[7:11])
        for row in rows
    )
    head = message_of(message, connection.execute(_MESSAGE, (message,)).fetchone())
    return replace(head, recipients=recipients, failures=max((row[11] for row in rows), default=0))


def next_due(connection: sqlite3.Connection, route: str) -> Ms | None:
    """When the next attempt on a route is due (perhaps it is already), None when none waits."""
    times = [connection.execute(_NEXT_DUE, (route, lane)).fetchone()[0] for lane in (0, 1)]
    return min((at for at in times if at is not None), default=None)


def routes_with_work(connection: sqlite3.Connection) -> list[str]:
    """The routes on which an attempt is due, now or later, in order."""
    routes: list[str] = []
    route: str | None = ""
    while True:
        (route,) = connection.execute(_NEXT_ROUTE, (route,)).fetchone()
        if route is None:
            return routes
        routes.append(route)
