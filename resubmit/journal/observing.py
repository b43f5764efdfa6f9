"""Evidence into the journal: the row, whose it is, what it moves, and how far its source was read.

Promises: a statement is stored once (source and digest), whatever file it stood in and however often it
comes; its row, its moves, their history and the cursor are one commit; a binding stays.
Source: design, section 3 rules 2, 3, 6 and 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from resubmit.journal import mail, moves, verdict
from resubmit.journal.codec import clean, day_of
from resubmit.journal.connection import sqlite3
from resubmit.journal.verbs import (
    ArrivingRecipient,
    Cursor,
    EvidenceRow,
    Filed,
    Move,
    Moved,
    Observed,
    Rebind,
    Stale,
)
from resubmit.model.evidence import Holder, Status
from resubmit.model.moment import Ms
from resubmit.model.recipient import RecipientKey

COLUMNS = """source, digest, status, recipient, original_recipient, group_address, observed_at, received_at,
    key, message_id, network_message_id, envelope_id, queue_id, sender, subject, size, code, enhanced, text,
    remote, cause, scope, mend, file, place, raw, read_at"""
"""The columns of an EvidenceRow, in its order."""

_ASKED = 500
"""Digests asked for in one statement."""

_KNOWN = """
select id, message, received_at, size, recipient, original_recipient, group_address, message_id, sender,
    subject, remote
from evidence
where source = ? and digest = ?
"""

_FULLER = """
update evidence
set received_at = ?, size = ?, recipient = ?, original_recipient = ?, group_address = ?, message_id = ?,
    sender = ?, subject = ?, remote = ?
where id = ?
"""

_OWNER = """
select message, n, no
from evidence
where id = ?
"""

_INSERT = f"""
insert into evidence ({COLUMNS}, day, match, why, message, n, no)
values ({", ".join("?" * 33)})
"""  # noqa: S608

_KNOWN_OF = "select digest from evidence where source = ? and digest in ({})"

_NEWEST = "select coalesce(max(id), 0) from evidence"

_INSERT_AS = f"""
insert into evidence (id, {COLUMNS}, day, match, why)
values ({", ".join("?" * 31)})
"""  # noqa: S608

_REFILE = """
update evidence
set match = ?, why = ?, message = ?, n = ?, no = ?, tries = tries + 1
where id = ?
"""

_ATTEMPT_OF = """
select attempt
from recipient
where message = ? and n = ?
"""

_BIND = """
insert into binding (offer, network_message_id, day)
select offer, ?, ?
from attempt
where message = ? and n = ? and no = ?
on conflict do nothing
"""

_UNBIND = """
delete from binding
where offer = ? and network_message_id = ?
"""

_BIND_OFFER = """
insert into binding (offer, network_message_id, day)
values (?, ?, ?)
on conflict do nothing
"""

_LINK = """
insert into evidence_link (message, n, evidence, no)
values (?, ?, ?, ?)
on conflict do nothing
"""

_LINKS = """
select message, n
from evidence_link
where evidence = ?
"""

_UNLINK = """
delete from evidence_link
where message = ? and n = ? and evidence = ?
"""

_CURSOR = """
insert into cursor (source, name, position, at)
values (?, ?, ?, ?)
on conflict (source, name) do update
set position = excluded.position, at = excluded.at
"""

_UNREADABLE = """
insert into unreadable (file, place, reason, at)
values (?, ?, ?, ?)
on conflict (file, place) do update
set reason = excluded.reason, at = excluded.at
"""


def observe(
    connection: sqlite3.Connection,
    observed: Sequence[Observed],
    cursor: Cursor | None,
    at: Ms,
    rebinds: Sequence[Rebind] = (),
) -> list[Filed]:
    """Store evidence and carry out what it does; one answer each, in order.

    `known`: it is there already. `fuller`: it is, and said less than now. `stale`: an attempt has begun or a
    recipient was made since it was decided, nothing of it is stored: decide again; the cursor waits for that.
    `at`: when it was read, for the history. `rebinds` come first; what is nobody's and moves nobody comes
    last.
    """
    for rebind in rebinds:
        which = (rebind.offer, rebind.network_message_id)
        if rebind.at is None:
            connection.execute(_UNBIND, which)
        else:
            connection.execute(_BIND_OFFER, (*which, day_of(rebind.at)))
    known = _known(connection, [one.row for one in observed if one.refile is None])
    told = [None if _is_plain(one) else _file(connection, one, at, known) for one in observed]
    kept = iter(_keep(connection, [one for one in observed if _is_plain(one)], at, known))
    answers = [next(kept) if answer is None else answer for answer in told]
    if cursor is not None and all(answer.outcome != "stale" for answer in answers):
        connection.execute(_CURSOR, (cursor.source, cursor.name, cursor.position, at))
    return answers


def _is_plain(observed: Observed) -> bool:
    """Whether it is to be kept and does nothing, as most rows of a trace."""
    return observed.owner is None and observed.refile is None and not observed.moves


def _known(connection: sqlite3.Connection, rows: Sequence[EvidenceRow]) -> set[tuple[str, bytes]]:
    """The sources and digests of those rows that are stored already."""
    known: set[tuple[str, bytes]] = set()
    for source in {row.source for row in rows}:
        digests = [row.digest for row in rows if row.source == source]
        for start in range(0, len(digests), _ASKED):
            asked = digests[start : start + _ASKED]
            query = _KNOWN_OF.format(", ".join("?" * len(asked)))
            known.update((source, bytes(digest)) for (digest,) in connection.execute(query, (source, *asked)))
    return known


def _keep(
    connection: sqlite3.Connection, observed: Sequence[Observed], at: Ms, known: set[tuple[str, bytes]]
) -> list[Filed]:
    """Store what does nothing, all at once; one answer each."""
    (newest,) = connection.execute(_NEWEST).fetchone()
    rows: list[tuple[object, ...]] = []
    answers: list[Filed | None] = []
    for one in observed:
        row = one.row
        if (row.source, row.digest) in known:
            answers.append(None)
            continue
        known.add((row.source, row.digest))
        newest += 1
        rows.append((newest, *values(row), day_of(_when(row)), one.match, clean(one.why)))
        answers.append(Filed("new", newest))
    connection.executemany(_INSERT_AS, rows)
    return [
        _file(connection, one, at, known) if answer is None else answer
        for one, answer in zip(observed, answers, strict=True)
    ]


def _file(connection: sqlite3.Connection, observed: Observed, at: Ms, known: set[tuple[str, bytes]]) -> Filed:
    row = observed.row
    evidence = observed.refile
    fuller = False
    if evidence is None and (row.source, row.digest) in known:
        found = connection.execute(_KNOWN, (row.source, row.digest)).fetchone()
        fuller = _made_fuller(connection, row, found)
        if fuller or found[1] is not None or observed.owner is None:
            return Filed("fuller" if fuller else "known", found[0])
        evidence = found[0]  # it lay there without an owner, and has one now
    if _is_stale(connection, observed):
        return Filed("stale", None)
    owner, no = observed.owner, observed.no
    if observed.member is not None and owner is not None:
        made = _derive(connection, observed, owner)
        if made is None:
            return Filed("stale", None)
        observed = replace(observed, moves=tuple(_for(move, made) for move in observed.moves))
        owner = RecipientKey(owner.message, made)
    whose = (None, None, None) if owner is None else (owner.message, owner.n, no)
    lost: set[RecipientKey] = set()
    if evidence is None:
        evidence = connection.execute(
            _INSERT, (*values(row), day_of(_when(row)), observed.match, clean(observed.why), *whose)
        ).lastrowid
        known.add((row.source, row.digest))
    elif owner is not None and _owner_of(connection, evidence) == whose:
        return Filed("known", evidence)
    else:
        lost = _refile(connection, observed, evidence, whose)
    assert evidence is not None
    if observed.binds and owner is not None and no is not None and row.network_message_id:
        when = (row.network_message_id, day_of(_when(row)))
        connection.execute(_BIND, (*when, owner.message, owner.n, no))
    moved = _carry_out(connection, observed, owner, evidence)
    for key in sorted(lost):
        moves.take_back(connection, key.message, key.n, at, f"not by this: {observed.why}")
    return Filed("new", evidence, moved)


def _made_fuller(connection: sqlite3.Connection, row: EvidenceRow, found: tuple[Any, ...]) -> bool:
    """The same statement in another form, or beside other rows, may say more: what is stored is the most
    that any of them said, whichever came first."""
    said = (
        row.recipient,
        row.original_recipient,
        row.group,
        row.message_id,
        row.sender,
        row.subject,
        row.remote,
    )
    received = min((at for at in (found[2], row.received_at) if at is not None), default=None)
    size = max((size for size in (found[3], row.size) if size is not None), default=None)
    texts = tuple(max(old, clean(new)) for old, new in zip(found[4:], said, strict=True))
    if (received, size, *texts) == tuple(found[2:]):
        return False
    connection.execute(_FULLER, (received, size, *texts, found[0]))
    return True


def _owner_of(connection: sqlite3.Connection, evidence: int) -> tuple[Any, Any, Any]:
    message, n, no = connection.execute(_OWNER, (evidence,)).fetchone()
    return message, n, no


def _refile(
    connection: sqlite3.Connection,
    observed: Observed,
    evidence: int,
    whose: tuple[int | None, int | None, int | None],
) -> set[RecipientKey]:
    """A stored row gets (another, or no) owner; returns whom it does not speak of any more."""
    message, n, no = _owner_of(connection, evidence)
    lost: set[RecipientKey] = set()
    if message is not None and (message, n, no) != whose:
        lost.add(RecipientKey(message, n))
    connection.execute(_REFILE, (observed.match, clean(observed.why), *whose, evidence))
    kept = set() if whose[0] is not None else {(move.message, move.n) for move in observed.moves}
    for linked in connection.execute(_LINKS, (evidence,)).fetchall():
        if linked not in kept:
            connection.execute(_UNLINK, (*linked, evidence))
            lost.add(RecipientKey(*linked))
    return lost


def _is_stale(connection: sqlite3.Connection, observed: Observed) -> bool:
    """Whether a recipient it speaks of is not there, or has begun another attempt since."""
    keys = [(RecipientKey(move.message, move.n), move.attempt) for move in observed.moves]
    if observed.owner is not None and all(key != observed.owner for key, _ in keys):
        keys.append((observed.owner, None))
    for key, expected in keys:
        found = connection.execute(_ATTEMPT_OF, (key.message, key.n)).fetchone()
        if found is None or (expected is not None and found[0] != expected):
            return True
    return False


def _for(move: Move, n: int) -> Move:
    return replace(move, n=n, attempt=None)


def _derive(connection: sqlite3.Connection, observed: Observed, group: RecipientKey) -> int | None:
    member = observed.member
    assert member is not None
    at = observed.row.read_at
    derived = ArrivingRecipient(
        address=member.address,
        parameters=(),
        destination=member.destination,
        route=member.route,
        due_at=None,
        holder=Holder.FAR,
        derived_from=group.n,
    )
    return mail.derive(connection, group, observed.no, derived, at)


def _carry_out(
    connection: sqlite3.Connection, observed: Observed, owner: RecipientKey | None, evidence: int
) -> tuple[Moved, ...]:
    done: list[Moved] = []
    row, no = observed.row, observed.no
    if owner is not None and no is not None:
        about = (owner.message, owner.n, no, row.source, Status(row.status), row.observed_at, evidence)
        if verdict.is_overtaken(connection, *about):
            return ()
    for move in observed.moves:
        if owner is None:
            no = move.attempt if move.event.startswith("seen_") else None
            if not connection.execute(_LINK, (move.message, move.n, evidence, no)).rowcount:
                continue  # an ambiguous row that is looked at again: this candidate has heard it
        moved = moves.apply(connection, move, evidence=evidence)
        if not isinstance(moved, Stale):
            done.append(moved)
    return tuple(done)


def _when(row: EvidenceRow) -> Ms:
    if row.received_at is not None:
        return row.received_at
    return row.observed_at if row.observed_at is not None else row.read_at


def values(row: EvidenceRow) -> tuple[object, ...]:
    """The row's columns, in the order of COLUMNS, as SQLite takes them."""
    texts = (clean(row.message_id), clean(row.network_message_id), clean(row.envelope_id))
    more = (clean(row.queue_id), clean(row.sender), clean(row.subject), row.size, row.code)
    return (
        row.source,
        row.digest,
        row.status,
        clean(row.recipient),
        clean(row.original_recipient),
        clean(row.group),
        row.observed_at,
        row.received_at,
        clean(row.key),
        *texts,
        *more,
        clean(row.enhanced),
        clean(row.text),
        clean(row.remote),
        row.cause,
        row.scope,
        row.mend,
        clean(row.file),
        clean(row.place),
        clean(row.raw),
        row.read_at,
    )


def unreadable(connection: sqlite3.Connection, file: str, place: str, reason: str, at: Ms) -> None:
    """What a source could not read is kept, once a place, with the newest reason."""
    connection.execute(_UNREADABLE, (clean(file), clean(place), clean(reason), at))


def read_again(connection: sqlite3.Connection, file: str, at: Ms) -> None:
    """What readings begun before `at` could not read of a file is forgotten."""
    connection.execute("delete from unreadable where file = ? and at < ?", (clean(file), at))
