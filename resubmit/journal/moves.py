"""One step of a recipient in the writer's transaction: the table is read, the row moved, history written.

Promises: the move, its history row and the job's item are one commit; the row moves only if it still stands
where the step was taken from (compare-and-set on state and attempt number).
Source: design, section 3; states.md.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import structlog

from resubmit import logbook
from resubmit.journal import verdict
from resubmit.journal.codec import clean
from resubmit.journal.connection import sqlite3
from resubmit.journal.verbs import Move, Moved, Stale
from resubmit.model.evidence import Holder
from resubmit.model.ids import id_text
from resubmit.model.moment import Ms
from resubmit.model.recipient import SETTLED, Event, Impossible, Stand, State, step

strict = bool(os.environ.get("RESUBMIT_STRICT"))
"""Whether an impossible event raises (tests) or is logged and does nothing (service)."""

_FIND = """
select state, below, attempt, since, cause, scope, mend, holder, deadline, due_at, lane, job, failures
from recipient
where message = ? and n = ?
"""

_MOVE = """
update recipient
set state = ?, below = ?, since = ?, cause = ?, scope = ?, mend = ?, holder = ?, deadline = ?,
    due_at = ?, lane = ?, job = ?, failures = ?, notice = coalesce(?, notice)
where message = ? and n = ? and state = ? and attempt = ?
"""

_TELL = """
insert into history (message, n, seq, at, event, from_state, to_state, conflict, why, attempt, evidence)
select ?1, ?2,
    coalesce((select max(seq) + 1 from history where message = ?1 and n = ?2), 0),
    ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10
"""

_EXPLAIN = """
update recipient
set cause = ?, scope = ?, mend = ?
where message = ? and n = ? and cause is null
"""

_ITEM_RELEASED = """
update job_item
set state = ?, no = coalesce(no, ?)
where message = ? and n = ? and state in ('waiting', 'released')
"""

_ITEM_PROVED = """
update job_item
set state = 'proved'
where message = ? and n = ? and state in ('sent', 'lost')
"""

_ITEM_FOUND = """
update job_item
set state = 'sent'
where message = ? and n = ? and state in ('sent', 'lost')
"""

_OUT_OF_JOB = """
update recipient
set job = null, lane = 0
where message = ? and n = ?
"""

_JOB_OPEN = """
select 1
from job
where id = ? and state in ('waiting', 'running')
"""

_TAKE = """
update recipient
set deadline = ?, holder = ?
where message = ? and n = ?
"""

_FAR_DEADLINE = """
select coalesce(o.dot_at, o.begun_at) + d.expires_after
from recipient r
join attempt a on a.message = r.message and a.n = r.n and a.no = r.attempt
join offer o on o.id = a.offer
join destination d on d.name = r.destination
where r.message = ? and r.n = ?
"""

_AGREE = """
update recipient
set since = ?, cause = ?, scope = ?, mend = ?
where message = ? and n = ?
"""

_SENDING_AGAIN = """
update recipient
set state = 'sending', cause = null, scope = null, mend = null, holder = 'us', due_at = null
where message = ? and n = ?
"""

_SAYS = ("seen_", "late_", "reply_", "attempt_orphaned")
"""Events that are words about the mail, not a person's or a timer's."""

_WITH_FAR = frozenset({State.ACCEPTED, State.PENDING, State.DEFERRED})
"""States in which somebody else has the mail, and its clock runs."""

_TAKEN = _WITH_FAR | {State.DELIVERED, State.EXPANDED, State.FILTERED}

_GIVEN_UP = frozenset({State.EXPIRED, State.FAILED})

_WITHOUT_FAILURE = frozenset({State.ACCEPTED, State.PENDING, State.DELIVERED, State.EXPANDED})
"""States that say nothing went wrong."""

_OWN_CAUSE = _WITHOUT_FAILURE | {State.FAILED, State.FILTERED}
"""States that a cause of what was before does not follow into: these have their own or none."""

_MAY_STAY_IN_JOB = frozenset(
    {State.JOURNALED, State.RETRYING, State.IN_DOUBT, State.PENDING, State.DEFERRED, State.EXPIRED}
)
"""A recipient that moves among these before its turn is still what its job is for."""

_ITEM_AFTER_REPLY = {
    Event.REPLY_ACCEPTED: "sent",
    Event.REPLY_FINAL: "proved",
    Event.REPLY_REFUSED: "refused",
    Event.REPLY_REFUSED_MENDABLE: "refused",
    Event.REPLY_LOST: "lost",
    Event.ATTEMPT_ORPHANED: "lost",
}

_ITEM_AFTER_EVIDENCE = {State.ACCEPTED: "sent", State.DELIVERED: "proved", State.EXPANDED: "proved"}


@dataclass(slots=True)
class Row:
    """A recipient's row as it stands before a step."""

    state: State
    below: State | None
    attempt: int
    since: Ms
    cause: str | None
    scope: str | None
    mend: str | None
    holder: str
    deadline: Ms | None
    due_at: Ms | None
    lane: int
    job: int | None
    failures: int


def is_again(row: Row) -> bool:
    """Whether it was made to be sent again beside a delivered one, and has not gone: it is no new mail."""
    return row.state is State.JOURNALED and row.lane == 1


def find(connection: sqlite3.Connection, message: int, n: int) -> Row | None:
    """The recipient's row, None when there is no such recipient."""
    found = connection.execute(_FIND, (message, n)).fetchone()
    if found is None:
        return None
    state, below, *rest = found
    return Row(State(state), None if below is None else State(below), *rest)


def tell(
    connection: sqlite3.Connection,
    message: int,
    n: int,
    at: Ms,
    event: str,
    row: Row,
    to: State,
    why: str,
    *,
    conflict: bool = False,
    evidence: int | None = None,
) -> None:
    """Write a history row: what happened to a recipient that stood as `row`."""
    parameters = (message, n, at, event, row.state, to, int(conflict), clean(why), row.attempt, evidence)
    connection.execute(_TELL, parameters)


def apply(connection: sqlite3.Connection, move: Move, *, evidence: int | None = None) -> Moved | Stale:
    """Step one recipient by one event, with everything that goes with it.

    Stale when there is no such recipient or its attempt number is another than `move.attempt`. A stay
    writes history only where it says something new: a conflict, a word about an older attempt, a pruning.
    Raises Impossible for a cell `x` when `strict`.
    """
    row = find(connection, move.message, move.n)
    if row is None:
        return Stale("there is no such recipient")
    if move.attempt is not None and move.attempt != row.attempt:
        return Stale(f"attempt {row.attempt} has begun since")
    try:
        done = step(Stand(row.state, row.below), move.event)
    except Impossible:
        if strict:
            raise
        structlog.get_logger().error(
            logbook.JOURNAL_IMPOSSIBLE,
            message_id=id_text(move.message),
            recipient=move.n,
            step=str(move.event),
            state=str(row.state),
        )
        return Moved(move.message, move.n, row.state, row.state)
    to = done.stand.state
    if done.moved:
        _write(connection, move, row, done.stand)
    elif move.deadline is not None and row.state in _WITH_FAR and move.event in _ITEM_AFTER_REPLY:
        # Evidence was quicker than the reply, which alone knows when the mail was taken.
        holder = Holder(row.holder if row.holder == Holder.RELAY else move.holder or Holder.FAR)
        connection.execute(_TAKE, (move.deadline, holder, move.message, move.n))
    elif move.cause is not None and row.cause is None and row.state not in SETTLED and not done.conflict:
        connection.execute(_EXPLAIN, (move.cause, move.scope, move.mend, move.message, move.n))
    if done.moved or done.conflict or move.event.startswith("late_") or move.event is Event.PRUNED:
        tell(
            connection,
            move.message,
            move.n,
            move.at,
            move.event,
            row,
            to,
            move.why,
            conflict=done.conflict,
            evidence=evidence,
        )
    _follow(connection, move, row, to)
    if move.event.startswith(_SAYS) and (
        row.state is not State.SENDING or verdict.is_heard_of(connection, move.message, move.n)
    ):  # else our reply is all that is known, and it was written just now
        agree(connection, move.message, move.n)
    return Moved(move.message, move.n, row.state, to, done.conflict)


def agree(connection: sqlite3.Connection, message: int, n: int) -> None:
    """Let a recipient's cause and `since` be what all that is known of its attempt comes to (verdict.py)."""
    row = find(connection, message, n)
    if row is None:
        return
    told = row.below or row.state
    found = verdict.shown(verdict.words(connection, message, n, row.attempt), told)
    since = row.since if found.since is None or row.below is not None else found.since
    was = (row.cause, row.scope, row.mend)
    cause = was if found.cause is None else found.cause
    if (since, cause) != (row.since, was):
        connection.execute(_AGREE, (since, *cause, message, n))


def take_back(connection: sqlite3.Connection, message: int, n: int, at: Ms, why: str) -> None:
    """Evidence that had moved a recipient is another's: it stands again as it does without it."""
    row = find(connection, message, n)
    if row is None:
        return
    to = None
    if row.below is None and not verdict.stays(row.state):
        to = verdict.without_withdrawn(connection, message, n, row.attempt)
    if to is not None and to is not row.state and to is not State.SENDING:
        move = Move(message, n, Event.LATE_OTHER, at, why, attempt=row.attempt)
        if row.deadline is None and (to in _WITH_FAR or to is State.IN_DOUBT):
            # What had settled or ended it took the deadline with it.
            again = _far_deadline(connection, move, row)
            move = replace(move, holder=Holder.FAR, deadline=again)
        # Of the causes that go along only our own reply's is still known.
        said = verdict.words(connection, message, n, row.attempt)
        cause, scope, mend = next((word.cause for word in said if word.reply), (None, None, None))
        _write(connection, move, replace(row, cause=cause, scope=scope, mend=mend), Stand(to))
        tell(connection, message, n, at, "withdrawn", row, to, why)
        _follow(connection, move, row, to)
    elif to is State.SENDING and row.state is not State.SENDING:
        connection.execute(_SENDING_AGAIN, (message, n))
        tell(connection, message, n, at, "withdrawn", row, to, why)
    agree(connection, message, n)


def _write(connection: sqlite3.Connection, move: Move, row: Row, stand: Stand) -> None:
    """Move the row, and decide what of it goes along."""
    to = stand.state
    told = stand.below or to  # under a hold, what is below it moves
    since = row.since if to is row.state else (move.since if move.since is not None else move.at)
    cause: tuple[str | None, str | None, str | None] = (move.cause, move.scope, move.mend)
    if move.cause is None and told not in _OWN_CAUSE:
        cause = (row.cause, row.scope, row.mend)
    holder = move.holder
    deadline = move.deadline if move.deadline is not None else row.deadline
    if holder is None:
        holder = Holder(row.holder)
        if told in _GIVEN_UP:
            holder = Holder.NOBODY
        elif told in _TAKEN and (holder is not Holder.RELAY or move.event is Event.RELAY_PASSED_ON):
            if move.deadline is None and holder is not Holder.FAR:
                deadline = _far_deadline(connection, move, row)
            holder = Holder.FAR
    if to in SETTLED or (to is State.EXPIRED and move.deadline is None):
        deadline = None  # nothing is left that could bounce
    lane, job, failures = row.lane, row.job, row.failures
    due_at = _due(move, row, to)
    if move.event in _ITEM_AFTER_REPLY or to not in _MAY_STAY_IN_JOB:
        lane, job = 0, None
    elif job is not None and not connection.execute(_JOB_OPEN, (job,)).fetchone():
        lane, job = 0, None  # its job ended while the attempt was open: from here it is a retry of ours
        connection.execute(_ITEM_RELEASED, ("skipped", row.attempt, move.message, move.n))
    if move.event in (Event.REPLY_DEFERRED, Event.REPLY_LOST, Event.ATTEMPT_ORPHANED):
        failures += 1
    elif told in _WITHOUT_FAILURE:
        failures = 0
    where = (move.message, move.n, row.state, row.attempt)
    fate = (lane, job, failures, move.notice or None)
    changed = connection.execute(
        _MOVE, (to, stand.below, since, *cause, holder, deadline, due_at, *fate, *where)
    )
    if changed.rowcount != 1:  # one connection writes, so this is a second writer in spite of the lock
        raise RuntimeError(f"recipient {move.n} of {id_text(move.message)} moved during its own transaction")


def far_deadline(connection: sqlite3.Connection, message: int, n: int) -> Ms | None:
    """When the far side gives up what it took by the current attempt; None where that isn't known."""
    found = connection.execute(_FAR_DEADLINE, (message, n)).fetchone()
    return None if found is None else int(found[0])


def _far_deadline(connection: sqlite3.Connection, move: Move, row: Row) -> Ms | None:
    """The same, and as it was where it isn't known."""
    found = far_deadline(connection, move.message, move.n)
    return row.deadline if found is None else found


def _due(move: Move, row: Row, to: State) -> Ms | None:
    """When the next attempt is due after the move, None for not."""
    if to in SETTLED or to in (State.HELD, State.SENDING):
        return None
    if move.due_at is not None:
        return move.due_at
    if to in (State.RETRYING, State.JOURNALED):
        return move.at  # ours to send, so never without a time
    if row.state in (State.RETRYING, State.JOURNALED, State.SENDING) or to not in _MAY_STAY_IN_JOB:
        return None
    return row.due_at


def _follow(connection: sqlite3.Connection, move: Move, row: Row, to: State) -> None:
    """Keep the recipient's items in jobs in step with it."""
    if (state := _ITEM_AFTER_REPLY.get(move.event)) is not None:
        connection.execute(_ITEM_RELEASED, (state, row.attempt, move.message, move.n))
        if to is row.state and row.job is not None:
            connection.execute(_OUT_OF_JOB, (move.message, move.n))
    elif to not in _MAY_STAY_IN_JOB and to is not row.state:
        item, no = "skipped", None
        if row.state is State.SENDING:  # evidence was quicker than the reply
            item, no = _ITEM_AFTER_EVIDENCE.get(to, "refused"), row.attempt
        connection.execute(_ITEM_RELEASED, (item, no, move.message, move.n))
    if to in (State.DELIVERED, State.EXPANDED):
        connection.execute(_ITEM_PROVED, (move.message, move.n))
    elif row.state is State.IN_DOUBT and to in (State.ACCEPTED, State.PENDING, State.DEFERRED):
        connection.execute(_ITEM_FOUND, (move.message, move.n))
