"""What a replay asked for now would take, and what it would leave, and why.

Source: design 6.1 (`replay`), section 3 rules 1, 6 and 7. Nothing is decided for good here: each
recipient is looked at again in the transaction that opens its attempt.
"""

from __future__ import annotations

from collections.abc import Mapping

from resubmit.journal.connection import sqlite3
from resubmit.journal.readers.answers import Replayable
from resubmit.journal.readers.reading import reading
from resubmit.journal.readers.selection import select
from resubmit.model.filter import Filter
from resubmit.model.moment import Ms

PLAIN = frozenset({"journaled", "retrying", "in_doubt", "pending", "deferred", "expired"})
"""Taken by every replay: `journaled` and `retrying` are made due."""

REOPENED = frozenset({"failed", "cancelled"})
"""Taken when the filter names them as states."""

SENT_AGAIN = """exists (
    select 1 from recipient a
    where a.message = r.message and a.again_of = r.n and a.state not in ('failed', 'cancelled'))"""
"""Whether a row stands beside recipient r that is sent, or was, in its place."""


def replayable(conn: sqlite3.Connection, flt: Filter, options: Mapping[str, object], now: Ms) -> Replayable:
    """The recipients of a filter that a replay with those options would take.

    options: `include_accepted`, `include_delivered`, `force` (takes recipients over from a waiting job).
    """
    wanted = set(PLAIN) | (REOPENED & set(flt.state))
    if options.get("include_accepted") or "accepted" in flt.state:
        wanted.add("accepted")
    if options.get("include_delivered"):
        wanted |= {"accepted", "delivered"}
    force = bool(options.get("force"))
    chosen = select(flt, now, recipients=True)
    sql = f"""
        select w.message, w.n, w.state, r.holder, m.body_kept, r.destination, j.state,
            w.state = 'delivered' and {SENT_AGAIN}
        from (select r.message, r.n, r.state, r.deadline {chosen.sql}) w
        join recipient r on r.message = w.message and r.n = w.n
        join message m on m.id = w.message
        left join job_item i on i.message = w.message and i.n = w.n and i.state in ('waiting', 'released')
        left join job j on j.id = i.job
        order by w.deadline is null, w.deadline, w.message, w.n
    """  # noqa: S608
    keys: list[tuple[int, int]] = []
    destinations: dict[str, None] = {}
    left: dict[str, int] = {}
    with reading():
        for message, n, state, holder, body_kept, destination, job, again in conn.execute(sql, chosen.params):
            why = (
                state
                if state not in wanted
                else "still with the relay, which retries by itself"
                if holder == "relay" and state not in ("failed", "cancelled")
                else "body no longer kept"
                if not body_kept
                else "sent again already, beside it"
                if again
                else "in another job"
                if job == "running" or (job and not force)
                else ""
            )
            if why:
                left[why] = left.get(why, 0) + 1
            else:
                keys.append((message, n))
                destinations.setdefault(destination)
    return Replayable(tuple(keys), tuple(destinations), left)
