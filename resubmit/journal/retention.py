"""What may go, and when: settled mail by its age, and the body of mail nobody ever heard of again.

Promises: nothing unsettled goes, but the body of `accepted` mail past `unproven` (design rule 5): its row
stays and its history says so. Each slice is small, so that no mail waits long for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from resubmit.journal import moves
from resubmit.journal.connection import sqlite3
from resubmit.journal.verbs import Move
from resubmit.model.moment import DAY, Ms
from resubmit.model.recipient import Event

RULES = ("delivered", "settled", "unproven")

WINDOW = 2000
"""So many messages are looked at in one read."""

_SETTLED = "'delivered', 'expanded', 'filtered', 'failed', 'cancelled'"

_KEEPS = {
    "delivered": "r.state not in ('delivered', 'expanded')",
    "settled": f"r.state not in ({_SETTLED})",
    "unproven": f"(r.state not in ({_SETTLED}, 'accepted') or r.due_at is not null)",
}

_BUSY = """
    and not exists (select 1 from attempt a where a.message = m.id and a.ended_at is null)
    and not exists (
        select 1 from job_item i
        where i.message = m.id and i.state in ('waiting', 'released'))
"""

_LEFT_ALONE = """
and not exists (
    select 1 from recipient r
    where r.message = m.id and (r.since > :before or r.notice is not null or {keeps}))
"""

_UNPROVEN = """
and m.body_kept = 1
and exists (select 1 from recipient r where r.message = m.id and r.state = 'accepted')
"""

_MAY_GO = {
    rule: _LEFT_ALONE.format(keeps=keeps) + _BUSY + (_UNPROVEN if rule == "unproven" else "")
    for rule, keeps in _KEEPS.items()
}

_WINDOW_END = """
select max(id)
from (select id from message where id > ? and id < ? order by id limit ?)
"""

_SCAN = {
    rule: f"""
    select m.id
    from message m
    where m.id > :after and m.id <= :until and m.received_at <= :before
    {may_go}
    order by m.id
    limit :limit
    """  # noqa: S608
    for rule, may_go in _MAY_GO.items()
}

_STILL = {
    rule: f"select m.body_file from message m where m.id = :id {may_go}"  # noqa: S608
    for rule, may_go in _MAY_GO.items()
}

_KEEP_OUTCOME = """
update incident_recipient
set outcome = (
    select case
        when r.state in ('delivered', 'expanded') then 'recovered'
        when r.state = 'accepted' then 'unproven'
        else 'failed' end
    from recipient r
    where r.message = incident_recipient.message and r.n = incident_recipient.n)
where message = ?
"""

_DELETE = (
    "delete from history where message = ?",
    "delete from evidence_link where message = ?",
    "delete from evidence_link where evidence in (select id from evidence where message = ?)",
    "delete from evidence where message = ?",
    "delete from binding where offer in (select id from offer where message = ?)",
    "delete from attempt where message = ?",
    "delete from offer where message = ?",
    "delete from recipient where message = ?",
    "delete from body where message = ?",
    "delete from message where id = ?",
)

_ACCEPTED = """
select n
from recipient
where message = ? and state = 'accepted'
"""

_LOSE_BODY = (
    "delete from body where message = ?",
    "update message set body_kept = 0, body_file = null where id = ?",
)

_OLD = (
    # Without an owner, and tried for long: what moved a candidate stays with it.
    """
    delete from evidence
    where id in (
        select e.id from evidence e
        where e.read_at <= :before and e.message is null
            and not exists (select 1 from evidence_link l where l.evidence = e.id)
        order by e.read_at
        limit :limit)
    """,
    "delete from report where id in (select id from report where read_at <= :before limit :limit)",
    """
    delete from look
    where id in (
        select l.id from look l
        where l.at <= :before and exists (select 1 from look n where n.target = l.target and n.at > l.at)
        limit :limit)
    """,
    "delete from coverage where id in (select id from coverage where until <= :before limit :limit)",
    "delete from unreadable where id in (select id from unreadable where at <= :before limit :limit)",
)


def scan(
    connection: sqlite3.Connection, rule: str, before: Ms, after: int, limit: int
) -> tuple[list[int], int | None]:
    """Messages that may go by a rule, from `after` on, in one window of the journal; and where the next
    window begins, None at the end."""
    newest = (before + DAY) << 21  # an id is an order, not a time: a day for clocks that were set
    end = connection.execute(_WINDOW_END, (after, newest, WINDOW)).fetchone()[0]
    if end is None:
        return [], None
    span = {"after": after, "until": end, "before": before, "limit": limit}
    found = [row[0] for row in connection.execute(_SCAN[rule], span)]
    return found, (found[-1] if len(found) >= limit else end)


def prune(
    connection: sqlite3.Connection, rule: str, before: Ms, messages: Sequence[int], at: Ms
) -> tuple[int, list[str]]:
    """Remove those of the messages that still may go; how many went, and the names of their body files,
    which the caller removes once this is on the disk."""
    count, files = 0, []
    for message in messages:
        found = connection.execute(_STILL[rule], {"id": message, "before": before}).fetchone()
        if found is None:
            continue
        if found[0] is not None:
            files.append(found[0])
        if rule == "unproven":
            for (n,) in connection.execute(_ACCEPTED, (message,)).fetchall():
                moves.apply(
                    connection,
                    Move(message, n, Event.PRUNED, at, "nothing was heard of it; its body is gone"),
                )
            for statement in _LOSE_BODY:
                connection.execute(statement, (message,))
        else:
            connection.execute(_KEEP_OUTCOME, (message,))
            for statement in _DELETE:
                connection.execute(statement, (message,))
        count += 1
    return count, files


def prune_old(connection: sqlite3.Connection, before: Ms, limit: int) -> int:
    """Remove evidence nobody owns, looks but the newest, coverage and unreadable items older than that."""
    return sum(
        connection.execute(statement, {"before": before, "limit": limit}).rowcount for statement in _OLD
    )
