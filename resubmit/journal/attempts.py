"""Attempts: their intent before the socket is touched, their end, and those that never got one.

Promises: an attempt begins only for recipients that still stand as the caller saw them, behind gates that
have not turned, all looked at in the transaction that opens it (design rule 9).
"""

from __future__ import annotations

from collections.abc import Sequence

from resubmit.journal import moves
from resubmit.journal.codec import clean, day_of
from resubmit.journal.connection import sqlite3
from resubmit.journal.verbs import Begun, Ended, Expect, Move, Moved, Offer, Outcome, Stale
from resubmit.model.moment import Ms
from resubmit.model.recipient import TABLE, Event, RecipientKey, State

_GATE_VERSION = "select version from gate where name = ?"

_BODY_KEPT = "select body_kept from message where id = ?"

_OPEN_ATTEMPT = """
select 1
from attempt
where message = ? and n = ? and ended_at is null
"""

_OFFER = """
insert into offer (message, no, route, kind, job, begun_at)
values (?, ?, ?, ?, ?, ?)
"""

_ATTEMPT = """
insert into attempt (message, n, no, offer)
values (?, ?, ?, ?)
"""

_SENDING = """
update recipient
set state = 'sending', attempt = attempt + 1, since = ?, cause = null, scope = null, mend = null,
    holder = 'us', due_at = null, route = ?
where message = ? and n = ? and state = ? and attempt = ?
    and not exists (
        select 1 from attempt a
        where a.message = recipient.message and a.n = recipient.n and a.ended_at is null)
    and (select body_kept from message m where m.id = recipient.message) = 1
"""

_ITEM_BEGUN = """
update job_item
set no = ?
where job = ? and message = ? and n = ?
"""

_FIND_OFFER = """
select message, no, ended_at
from offer
where id = ?
"""

_END_OFFER = """
update offer
set dot_at = ?, ended_at = ?, day = ?, next_key = ?, remote = ?, tls = ?
where id = ? and ended_at is null
"""

_END_ATTEMPT = """
update attempt
set ended_at = ?, event = ?, accepted = ?, stage = ?, code = ?, enhanced = ?, reply = ?, cause = ?,
    scope = ?, mend = ?
where message = ? and n = ? and no = ? and offer = ? and ended_at is null
"""

_LEFT_OPEN = """
select n
from attempt
where message = ? and offer = ? and ended_at is null
order by n
"""

_OPEN_OFFERS = """
select id, message, no
from offer
where ended_at is null
order by id
"""

_ORPHAN_OFFER = """
update offer
set ended_at = ?, day = ?
where id = ?
"""

_MAKE_DUE = """
update recipient
set due_at = ?, lane = ?, job = ?, route = coalesce(?, route)
where message = ? and n = ? and state = ?
"""

_RECALL = """
update recipient
set lane = case when state = 'journaled' then lane else 0 end, job = null,
    due_at = case when state = 'retrying' or (state = 'journaled' and lane = 0) then due_at end
where message = ? and n = ? and state = ? and job is not null
"""

_ITEM_RELEASE = """
update job_item
set state = 'released', released_at = ?
where job = ? and message = ? and n = ? and state = 'waiting'
"""

_ITEM_SKIP = """
update job_item
set state = 'skipped'
where job = ? and message = ? and n = ? and state in ('waiting', 'released')
"""

_ACCEPTED = frozenset({Event.REPLY_ACCEPTED, Event.REPLY_FINAL})

_NEW_MAIL = frozenset({State.JOURNALED, State.RETRYING})


def begin(connection: sqlite3.Connection, offer: Offer) -> Begun | Stale:
    """Open an offer for those recipients that still stand as expected; Stale when a gate has turned, the
    body is gone or none is left."""
    for gate, version in offer.gates:
        found = connection.execute(_GATE_VERSION, (gate,)).fetchone()
        if (found[0] if found else 0) != version:
            return Stale(f"gate {gate} has turned")
    numbers = {expect.attempt for expect in offer.recipients}
    if len(numbers) > 1:
        raise ValueError("recipients of one offer share the attempt number")
    passed = [expect for expect in offer.recipients if _sends(connection, offer, expect)]
    if not passed:
        kept = connection.execute(_BODY_KEPT, (offer.message,)).fetchone()
        gone = kept is None or not kept[0]
        return Stale("the message's body is gone" if gone else "its recipients have moved")
    no = passed[0].attempt + 1
    opened = connection.execute(
        _OFFER, (offer.message, no, offer.route, offer.kind, offer.job, offer.begun_at)
    ).lastrowid
    assert opened is not None
    for expect in passed:
        connection.execute(_ATTEMPT, (offer.message, expect.n, no, opened))
        if offer.job is not None:
            connection.execute(_ITEM_BEGUN, (no, offer.job, offer.message, expect.n))
    return Begun(opened, no, tuple(expect.n for expect in passed))


def _sends(connection: sqlite3.Connection, offer: Offer, expect: Expect) -> bool:
    """Whether a recipient stood as expected, and now is `sending`. One whose attempt is still open (evidence
    may have moved it on meanwhile), or whose body is gone, is left as it is."""
    if TABLE[Event.ATTEMPT_STARTED][expect.state] != State.SENDING:
        return False
    which = (offer.message, expect.n, expect.state, expect.attempt)
    return connection.execute(_SENDING, (offer.begun_at, offer.route, *which)).rowcount == 1


def end(connection: sqlite3.Connection, ended: Ended) -> list[Moved | Stale]:
    """Close an offer: what each recipient got is written, and the table steps it.

    One answer an outcome, in order. A recipient without an outcome is as in doubt as an orphan is.
    """
    found = connection.execute(_FIND_OFFER, (ended.offer,)).fetchone()
    if found is None or found[2] is not None:
        return [Stale("the offer is not open") for _ in ended.outcomes]
    message, no, _ = found
    next_key = clean(ended.next_key) if ended.next_key else None
    remote, tls = clean(ended.remote), clean(ended.tls)
    connection.execute(
        _END_OFFER,
        (ended.dot_at, ended.ended_at, day_of(ended.ended_at), next_key, remote, tls, ended.offer),
    )
    answers = [_end_one(connection, message, no, ended, outcome) for outcome in ended.outcomes]
    for (n,) in connection.execute(_LEFT_OPEN, (message, ended.offer)).fetchall():
        _orphan(
            connection, message, n, no, ended.offer, ended.ended_at, "its offer ended without a word on it"
        )
    return answers


def _end_one(
    connection: sqlite3.Connection, message: int, no: int, ended: Ended, outcome: Outcome
) -> Moved | Stale:
    accepted = int(outcome.event in _ACCEPTED)
    reply = (outcome.code, outcome.enhanced, clean(outcome.reply))
    meaning = (outcome.cause, outcome.scope, outcome.mend)
    which = (message, outcome.n, no, ended.offer)
    changed = connection.execute(
        _END_ATTEMPT,
        (ended.ended_at, outcome.event, accepted, outcome.stage, *reply, *meaning, *which),
    )
    if changed.rowcount != 1:
        return Stale("the attempt is not open")
    move = Move(
        message=message,
        n=outcome.n,
        event=outcome.event,
        at=ended.ended_at,
        why=outcome.why,
        attempt=no,
        cause=outcome.cause,
        scope=outcome.scope,
        mend=outcome.mend,
        holder=outcome.holder,
        due_at=outcome.due_at,
        deadline=outcome.deadline,
        notice=outcome.notice,
    )
    return moves.apply(connection, move)


def _orphan(
    connection: sqlite3.Connection, message: int, n: int, no: int, offer: int, at: Ms, why: str
) -> None:
    event = Event.ATTEMPT_ORPHANED
    connection.execute(
        _END_ATTEMPT, (at, event, 0, "", None, "", "", None, None, None, message, n, no, offer)
    )
    moves.apply(connection, Move(message, n, event, at, why, attempt=no))


def adopt_orphans(connection: sqlite3.Connection, at: Ms) -> int:
    """Attempts left open by a process that died are in doubt from here; returns how many recipients.

    Whether the dot left is written with the end, so an orphan may have left.
    """
    count = 0
    for offer, message, no in connection.execute(_OPEN_OFFERS).fetchall():
        connection.execute(_ORPHAN_OFFER, (at, day_of(at), offer))
        for (n,) in connection.execute(_LEFT_OPEN, (message, offer)).fetchall():
            _orphan(connection, message, n, no, offer, at, "the process ended while its attempt was open")
            count += 1
    return count


def make_due(
    connection: sqlite3.Connection, keys: Sequence[RecipientKey], at: Ms, route: str | None, job: int | None
) -> int:
    """Their next attempt is due at `at`; returns for how many. Those that can't be sent, by their state or
    because their body is gone, are left alone, and their item in the job is skipped."""
    count = 0
    for key in keys:
        row = moves.find(connection, key.message, key.n)
        kept = connection.execute(_BODY_KEPT, (key.message,)).fetchone()
        if (
            row is None
            or TABLE[Event.ATTEMPT_STARTED][row.state] != State.SENDING
            or not kept[0]
            or connection.execute(_OPEN_ATTEMPT, (key.message, key.n)).fetchone()
        ):
            if job is not None and (row is None or row.state is not State.SENDING):
                connection.execute(_ITEM_SKIP, (job, key.message, key.n))
            continue
        lane = 1 if job is not None and (row.state not in _NEW_MAIL or moves.is_again(row)) else 0
        connection.execute(_MAKE_DUE, (at, lane, job, route, key.message, key.n, row.state))
        if job is not None:
            connection.execute(_ITEM_RELEASE, (at, job, key.message, key.n))
        why = f"by job {job}" if job is not None else "at once"
        moves.tell(connection, key.message, key.n, at, "made_due", row, row.state, why)
        count += 1
    return count


def recall(connection: sqlite3.Connection, keys: Sequence[RecipientKey], at: Ms) -> int:
    """What a job made due and has not begun is called back; returns how many.

    What is ours to send anyway (journaled, retrying) stays due; for the rest no attempt is due.
    """
    count = 0
    for key in keys:
        row = moves.find(connection, key.message, key.n)
        if row is None or row.job is None or row.due_at is None:
            continue
        connection.execute(_RECALL, (key.message, key.n, row.state))
        moves.tell(connection, key.message, key.n, at, "recalled", row, row.state, f"by job {row.job}")
        count += 1
    return count
