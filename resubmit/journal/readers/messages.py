"""Reading messages and their recipients: by a filter, by id, grouped; and their bytes.

Long results come in pages, each read on its own: an open snapshot would keep the log from shrinking.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from resubmit.errors import JournalUnreadable
from resubmit.journal.connection import sqlite3
from resubmit.journal.readers.answers import Group, MessageView, RecipientView
from resubmit.journal.readers.reading import Row, reading, reply_text
from resubmit.journal.readers.selection import select
from resubmit.model.filter import Filter
from resubmit.model.moment import Ms
from resubmit.model.recipient import SETTLED

BODIES = "bodies"
"""The folder of the bodies that have a file each, in the journal's."""

_PAGE = 500
"""Messages loaded at once: a short read, so that the write-ahead log can shrink."""

GROUPINGS = {
    "cause": "coalesce(r.cause, 'none')",
    "destination": "r.destination",
    "sender": "m.sender",
    "state": "r.state",
}
SORTS = ("age", "deadline", "size")


# ── messages ──────────────────────────────────────────────────────────────────────────────────────


def message_ids(
    conn: sqlite3.Connection, flt: Filter, now: Ms, *, limit: int = 50, sort: str | None = None
) -> tuple[list[int], int]:
    """Ids of the messages that have a recipient the filter describes, and how many there are in all.

    limit 0 is all. sort: `age` (longest in its state first), `deadline` (nearest first, none last), `size`
    (largest first), None: newest first, with `stuck` nearest deadline first.
    """
    sort = sort or ("deadline" if flt.stuck else None)
    chosen = select(flt, now, recipients=sort in ("age", "deadline"), messages=sort == "size")
    order = {
        "age": "min(r.since)",
        "deadline": "min(r.deadline) is null, min(r.deadline)",
        "size": "m.size desc",
        None: f"{chosen.message} desc",
    }[sort]
    group = "group by r.message " if chosen.of_recipients else ""
    # The last key makes the order whole, so that the same question has the same answer.
    last = "" if sort is None else f", {chosen.message} desc"
    sql = f"select {chosen.message} {chosen.sql} {group}order by {order}{last} limit ?"
    with reading():
        ids = [row[0] for row in conn.execute(sql, [*chosen.params, limit or -1])]
        if not limit or len(ids) < limit:
            return ids, len(ids)
        counted = f"count(distinct {chosen.message})" if chosen.of_recipients else "count(*)"
        return ids, conn.execute(f"select {counted} {chosen.sql}", chosen.params).fetchone()[0]


def load_messages(conn: sqlite3.Connection, ids: Iterable[int], now: Ms) -> Iterator[MessageView]:
    """The messages of those ids, in that order, each with all its recipients; pruned ones are passed over."""
    page: list[int] = []
    for message in ids:
        page.append(message)
        if len(page) == _PAGE:
            yield from _load(conn, page, now)
            page = []
    if page:
        yield from _load(conn, page, now)


def messages(
    conn: sqlite3.Connection, flt: Filter, now: Ms, *, limit: int = 50, sort: str | None = None
) -> tuple[list[MessageView], int]:
    """Messages that have a recipient the filter describes, and how many there are in all."""
    ids, total = message_ids(conn, flt, now, limit=limit, sort=sort)
    return list(load_messages(conn, ids, now)), total


def message(conn: sqlite3.Connection, wanted: int, now: Ms) -> MessageView | None:
    """One message, None when the journal does not have it."""
    return next(load_messages(conn, [wanted], now), None)


def grouped(conn: sqlite3.Connection, flt: Filter, now: Ms, by: str) -> list[Group]:
    """Recipients the filter describes, counted by `cause`, `destination`, `sender` or `state`; most first."""
    chosen = select(flt, now, recipients=True, messages=by == "sender")
    sql = (
        f"select {GROUPINGS[by]}, count(*), count(distinct r.message), min(r.since), "
        f"min(case when r.state not in ({_SETTLED}) then r.deadline end) "
        f"{chosen.sql} group by 1 order by 2 desc, 1"
    )
    with reading():
        return [Group(*row) for row in conn.execute(sql, chosen.params)]


def recipients(conn: sqlite3.Connection, flt: Filter, now: Ms, *, limit: int = 0) -> list[RecipientView]:
    """The recipients a filter describes, nearest deadline first."""
    chosen = select(flt, now, recipients=True)
    sql = (
        f"select r.message, r.n {chosen.sql} order by r.deadline is null, r.deadline, r.message, r.n limit ?"
    )
    with reading():
        keys = conn.execute(sql, [*chosen.params, limit or -1]).fetchall()
    return recipients_of(conn, keys, now)


def recipients_of(conn: sqlite3.Connection, keys: Iterable[tuple[int, int]], now: Ms) -> list[RecipientView]:
    """Those recipients, in that order."""
    wanted = list(keys)
    found: dict[tuple[int, int], RecipientView] = {}
    for view in load_messages(conn, dict.fromkeys(key[0] for key in wanted), now):
        found.update(((view.id, r.n), r) for r in view.recipients)
    return [found[key] for key in wanted if key in found]


_SETTLED = ", ".join(f"'{state}'" for state in sorted(SETTLED))

_RECIPIENTS = """
select
    r.message, r.n, r.address, r.state, r.below, r.since, r.cause, r.holder, r.deadline, r.destination,
    r.route,
    case when r.again_of is null then r.attempt
        else (select count(*) from attempt t where t.message = r.message and t.n = r.n) end,
    r.due_at, r.job, d.address, a.address
from recipient r
left join recipient d on d.message = r.message and d.n = r.derived_from
left join recipient a on a.message = r.message and a.n = r.again_of
where r.message in (select value from json_each(?))
order by r.message, r.n
"""

_STUCK_HERE = """
select s.message, s.n, s.cause, s.stuck_at from stuck s
where s.message in (select value from json_each(?)) and s.stuck_at <= ?
"""

_LAST_ATTEMPT = """
select a.message, a.n, a.code, a.enhanced, a.reply, a.no from attempt a
where a.message in (select value from json_each(?)) and a.ended_at is not null and a.reply <> ''
order by a.message, a.n, a.no
"""

_LAST_EVIDENCE = """
select e.message, e.n, e.code, e.enhanced, e.text, coalesce(e.no, 0) from evidence e
where e.message in (select value from json_each(?)) and e.text <> ''
order by e.message, e.n, coalesce(e.no, 0), coalesce(e.observed_at, e.read_at), e.id
"""


def _load(conn: sqlite3.Connection, ids: list[int], now: Ms) -> Iterator[MessageView]:
    wanted = json.dumps(ids)
    with reading():
        heads = {
            row[0]: row
            for row in conn.execute(
                "select id, message_id, received_at, sender, subject, size, intake, body_kept, peer, helo,"
                " protocol from message where id in (select value from json_each(?))",
                [wanted],
            )
        }
        stuck = {(row[0], row[1]): row for row in _stuck_among(conn, ids, now)}
        replies: dict[tuple[int, int], tuple[int, str]] = {}
        for sql in (_LAST_ATTEMPT, _LAST_EVIDENCE):  # of one attempt, what the world said of it comes last
            for row in conn.execute(sql, [wanted]):
                key = (row[0], row[1])
                if key not in replies or row[5] >= replies[key][0]:
                    replies[key] = (row[5], reply_text(row[2], row[3], row[4]))
        views: dict[int, list[RecipientView]] = {}
        for row in conn.execute(_RECIPIENTS, [wanted]):
            views.setdefault(row[0], []).append(_recipient(row, replies, stuck))
    for number in ids:
        if head := heads.get(number):
            yield _message(head, tuple(views.get(number, ())))


def _stuck_among(conn: sqlite3.Connection, ids: list[int], now: Ms) -> Iterable[tuple[int, int, str | None]]:
    return conn.execute(_STUCK_HERE, [json.dumps(ids), now]).fetchall()


def _message(row: Row, recipients: tuple[RecipientView, ...]) -> MessageView:
    return MessageView(
        id=row[0],
        message_id=row[1],
        received_at=row[2],
        sender=row[3],
        subject=row[4],
        size=row[5],
        intake=row[6],
        body_kept=bool(row[7]),
        recipients=recipients,
        peer=row[8],
        helo=row[9],
        protocol=row[10],
    )


def _recipient(
    row: Row, replies: dict[tuple[int, int], tuple[int, str]], stuck: dict[tuple[int, int], Row]
) -> RecipientView:
    key = (row[0], row[1])
    settled = row[3] in SETTLED
    return RecipientView(
        message=row[0],
        n=row[1],
        address=row[2],
        state=row[3],
        below=row[4],
        since=row[5],
        cause=row[6] or (stuck[key][2] if key in stuck else None),
        holder=row[7],
        deadline=None if settled else row[8],
        destination=row[9],
        route=row[10],
        attempts=row[11],
        last_reply=replies.get(key, (0, ""))[1],
        stuck=key in stuck,
        due_at=row[12],
        job=row[13],
        derived_from=row[14],
        again_of=row[15],
    )


# ── bodies ────────────────────────────────────────────────────────────────────────────────────────


def body(conn: sqlite3.Connection, folder: Path, wanted: int) -> Iterator[bytes]:
    """A message's bytes as journaled, in pieces. JournalUnreadable when they are gone or damaged."""
    with reading():
        row = conn.execute(
            "select m.body_file, m.body_kept, b.octets from message m left join body b on b.message = m.id"
            " where m.id = ?",
            [wanted],
        ).fetchone()
    if row is None or not row[1]:
        raise JournalUnreadable("the message's body is no longer kept", hint="see [retention] in the config")
    if row[2] is not None:
        yield bytes(row[2])
        return
    try:
        with (folder / BODIES / str(row[0])).open("rb") as file:
            while piece := file.read(64 * 1024):
                yield piece
    except OSError as error:
        raise JournalUnreadable(
            f"{folder / BODIES / str(row[0])}: the message's body can't be read: {error.strerror}",
            hint="`resubmit journal verify` says what else is missing",
        ) from None
