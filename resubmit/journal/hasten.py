"""Retries that need not wait for their time: what they waited for has come.

Promises: nobody is due later than before; one after the other, so that new mail goes in between; the
recipients of a message go together; what a gate had nothing to do with keeps its time.
Limits: what would be due after LONGEST at that pace keeps its own time, which is no later.
"""

from __future__ import annotations

from resubmit.journal import moves
from resubmit.journal.connection import sqlite3
from resubmit.journal.verbs import Haste
from resubmit.model.moment import MINUTE, Ms

LONGEST: Ms = 33 * MINUTE
"""The longest wait between two retries, with its spread (handoff/schedule.py)."""

_DUE = """
select 1
from recipient
where route = ? and lane = 0 and due_at <= ? and due_at is not null
limit 1
"""

_WAITING = """
select message, n, due_at
from recipient
where route = ? and lane = ? and due_at > ? and due_at is not null and state = 'retrying'
    and (? or (scope = 'route' and cause is not 'throttle'))
order by scope is not 'route', deadline is null, deadline, message, n
"""

_SOONER = """
update recipient
set due_at = ?
where message = ? and n = ? and state = 'retrying' and due_at > ?
"""


def hasten(connection: sqlite3.Connection, haste: Haste, now: Ms) -> int:
    """Retries over a route are due from now on, the nearest deadline first; returns for how many recipients.

    For a trial (a number of messages) it is enough that something is due: else the nearest deadline is,
    whatever it had failed for, a job's mail only where there is no other.
    """
    trial = haste.messages is not None
    if trial and connection.execute(_DUE, (haste.route, now)).fetchone():
        return 0
    messages: dict[int, Ms] = {}
    count = 0
    for lane in (0, 1):
        for message, n, due_at in connection.execute(_WAITING, (haste.route, lane, now, trial)).fetchall():
            if message not in messages:
                at = now + len(messages) * haste.every
                if at > now + LONGEST or (haste.messages is not None and len(messages) >= haste.messages):
                    break
                messages[message] = at
            at = messages[message]
            if at >= due_at or (row := moves.find(connection, message, n)) is None:
                continue
            connection.execute(_SOONER, (at, message, n, at))
            why = f"route {haste.route} {'is tried' if trial else 'is open again'}"
            moves.tell(connection, message, n, now, "made_due", row, row.state, why)
            count += 1
    return count
