"""What recovery asks of the trace before it calls mail lost. Read only."""

from __future__ import annotations

from resubmit.journal.codec import day_of
from resubmit.journal.connection import sqlite3
from resubmit.journal.verbs import TakenMail
from resubmit.model.moment import Ms

_LIMIT = 5000

_TAKEN = """
select o.ended_at, exists (
    select 1
    from attempt a
    join evidence e on e.message = a.message and e.n = a.n and e.no = a.no
    where a.message = o.message and a.offer = o.id
        and e.source in ('trace_csv', 'trace_graph', 'exchange_tracking_log')), o.route
from offer o
where o.next_key is not null
    and o.day between ? and ?
    and o.ended_at between ? and ?
    and exists (
        select 1
        from attempt b
        where b.message = o.message and b.offer = o.id and b.accepted = 1)
order by o.ended_at
limit ?
"""


def accepted_between(connection: sqlite3.Connection, since: Ms, until: Ms) -> list[TakenMail]:
    """Our mails that were answered 250 in a span, and whether a trace knows each; 5000 at most.

    Those whose next hop named no id for them are left out (the index in time order has the others).
    """
    rows = connection.execute(_TAKEN, (day_of(since), day_of(until), since, until, _LIMIT))
    return [TakenMail(at, bool(known), route) for at, known, route in rows]
