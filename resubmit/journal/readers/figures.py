"""The numbers for /metrics, in queries over the indexes of open work only: cheap at any size."""

from __future__ import annotations

from resubmit.journal.connection import sqlite3
from resubmit.journal.readers.answers import Figures
from resubmit.journal.readers.reading import reading
from resubmit.journal.readers.selection import ACCEPTED, HELD, TROUBLE
from resubmit.model.moment import Ms

_DAYS_LEFT = """
select k.target, k.days_left
from (select target, max(id) as id from look group by target) newest
join look k on k.id = newest.id
where k.days_left is not null
"""


def metrics(conn: sqlite3.Connection, now: Ms) -> Figures:
    """The journal's figures at `now`. Settled mail is not counted: that would read all of it."""
    with reading():
        stuck = {
            (row[0], row[1]): row[2:]
            for row in conn.execute(
                "select coalesce(cause, 'none'), destination, count(*), min(since),"
                " min(case when deadline > ? then deadline end) from stuck where stuck_at <= ? group by 1, 2",
                [now, now],
            )
        }
        states: dict[str, int] = {}
        for term in (TROUBLE, ACCEPTED, HELD):
            states |= dict(conn.execute(f"select state, count(*) from recipient where {term} group by 1"))  # noqa: S608
        waiting = dict(
            conn.execute("select route, count(*) from recipient where due_at is not null group by route")
        )
        gates = dict(conn.execute("select name, state from gate"))

        def one(sql: str) -> int:
            return int(conn.execute(sql).fetchone()[0] or 0)

        return Figures(
            stuck={key: row[0] for key, row in stuck.items()},
            oldest_stuck=min((row[1] for row in stuck.values()), default=None),
            next_deadline=min((row[2] for row in stuck.values() if row[2] is not None), default=None),
            states=states,
            gates=gates,
            waiting=waiting,
            offers=one("select max(id) from offer"),
            offers_open=one("select count(*) from offer where ended_at is null"),
            incidents_open=one("select count(*) from incident where state <> 'closed'"),
            unmatched=one("select count(*) from evidence where message is null"),
            unreadable=one("select count(*) from unreadable"),
            messages=one("select count(*) from message"),
            days_left={row[0]: row[1] for row in conn.execute(_DAYS_LEFT)},
        )
