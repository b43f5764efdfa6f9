"""Incidents and jobs: who was caught, what was asked for, and how far it is.

Promises: one unfinished job a recipient (the schema's law); a job's counts are derived from its items, an
incident's from its recipients, so that neither can drift.
"""

from __future__ import annotations

from collections.abc import Sequence

from resubmit.journal import moves
from resubmit.journal.codec import clean, maybe
from resubmit.journal.connection import sqlite3
from resubmit.journal.verbs import IncidentRow, JobAsk, JobItem, JobRow, Move, Stale
from resubmit.model.evidence import Cause, Scope
from resubmit.model.moment import Ms
from resubmit.model.recipient import Event, RecipientKey, State

_OPEN = """
insert into incident (destination, route, cause, opened_at, state, fault_from)
values (?, ?, ?, ?, 'open', ?)
"""

_FIELDS = frozenset(
    {"destination", "route", "cause", "closed_at", "state", "fault_from", "fault_to", "fixed_at", "report"}
)

_JOIN = """
insert into incident_recipient (incident, message, n, joined_at)
values (?, ?, ?, ?)
on conflict do nothing
"""

_MEMBER = "select 1 from incident_recipient where incident = ? and message = ? and n = ?"

_CAUGHT = "select count(*) from incident_recipient where incident = ?"

_INCIDENT_COLUMNS = """
select id, destination, route, cause, opened_at, closed_at, state, fault_from, fault_to, fixed_at, report
from incident
"""

_INCIDENTS = f"{_INCIDENT_COLUMNS} order by id"

_OPEN_INCIDENTS = f"{_INCIDENT_COLUMNS} where state <> 'closed' order by id"

_COUNTS = """
select stuck, recovered, failed, unproven, unknown, duplicates
from incident_count
where incident = ?
"""

_ASK = """
insert into job (state, asked_at, asked_by, reason, filter, options, destination, incident, gate)
values (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_TAKE_OVER = """
update job_item
set state = 'skipped'
where message = ? and n = ? and state in ('waiting', 'released') and state = 'waiting'
"""

_ITEM_ELSEWHERE = """
select 1
from job_item
where message = ? and n = ? and state in ('waiting', 'released')
"""

_ITEM = """
insert into job_item (job, message, n, state)
values (?, ?, ?, ?)
on conflict do nothing
"""

_STEP = """
update job
set state = ?, stage = coalesce(?, stage), ended_at = coalesce(?, ended_at)
where id = ? and state = ?
"""

_PAUSE = """
update job
set options = json_set(options, '$.paused', json(?))
where id = ? and state in ('waiting', 'running')
"""

_SET_ITEM = """
update job_item
set state = ?, no = coalesce(?, no), released_at = case when ?1 = 'released' then coalesce(?, released_at)
    else released_at end
where job = ? and message = ? and n = ?
"""

_UNFINISHED = """
select message, n
from job_item
where job = ? and state in ('waiting', 'released')
"""

_SKIP = """
update job_item
set state = 'skipped'
where job = ? and message = ? and n = ? and state in ('waiting', 'released')
"""

_TAKE_BACK = """
update recipient
set job = null, lane = case when state = 'journaled' then lane else 0 end,
    due_at = case when state = 'retrying' or (state = 'journaled' and lane = 0) then due_at end
where message = ? and n = ? and job = ? and state <> 'sending'
"""

_JOB_COLUMNS = """
select j.id, j.state, j.asked_at, j.asked_by, j.reason, j.filter, j.options, j.destination, j.incident,
    j.gate, j.stage, coalesce(c.recipients, 0), coalesce(c.accepted, 0), coalesce(c.delivered, 0),
    coalesce(c.refused, 0), coalesce(c.skipped, 0), j.ended_at
from job j
left join job_count c on c.job = j.id
"""

_JOB = f"{_JOB_COLUMNS} where j.id = ?"

_ITEMS = """
select i.message, i.n, i.state, i.no, i.released_at, r.state, r.cause, r.scope, r.deadline, r.since, r.due_at
from job_item i
join recipient r on r.message = i.message and r.n = i.n
where i.job = ?
"""


def open_incident(
    connection: sqlite3.Connection, destination: str, route: str, cause: str, at: Ms, fault_from: Ms
) -> int:
    """A new incident, open; returns its id."""
    identity = connection.execute(_OPEN, (destination, route, cause, at, fault_from)).lastrowid
    assert identity is not None
    return identity


def update_incident(connection: sqlite3.Connection, incident: int, fields: dict[str, object]) -> None:
    """The named columns take these values. ValueError for another column."""
    if unknown := set(fields) - _FIELDS:
        raise ValueError(f"an incident has no {sorted(unknown)[0]}")
    sets = ", ".join(f"{name} = ?" for name in fields)
    connection.execute(f"update incident set {sets} where id = ?", (*fields.values(), incident))  # noqa: S608


def join_incident(connection: sqlite3.Connection, incident: int, keys: Sequence[RecipientKey], at: Ms) -> int:
    """These recipients were caught in it, each once; returns how many are new."""
    count = 0
    for key in keys:
        row = moves.find(connection, key.message, key.n)
        if row is None:
            continue
        if connection.execute(_JOIN, (incident, key.message, key.n, at)).rowcount:
            moves.tell(
                connection, key.message, key.n, at, "joined_incident", row, row.state, f"incident {incident}"
            )
            count += 1
    return count


def outside(
    connection: sqlite3.Connection, incident: int, keys: Sequence[RecipientKey]
) -> list[RecipientKey]:
    """Those that are not in it yet."""
    member = (connection.execute(_MEMBER, (incident, key.message, key.n)).fetchone() for key in keys)
    return [key for key, found in zip(keys, member, strict=True) if found is None]


def caught(connection: sqlite3.Connection, incident: int) -> int:
    """How many it ever caught."""
    return int(connection.execute(_CAUGHT, (incident,)).fetchone()[0])


def incidents(connection: sqlite3.Connection, open_only: bool) -> list[IncidentRow]:
    """Incidents, oldest first."""
    return [IncidentRow(*row) for row in connection.execute(_OPEN_INCIDENTS if open_only else _INCIDENTS)]


def incident_counts(connection: sqlite3.Connection, incident: int) -> dict[str, int]:
    """Recipients: stuck (all it caught), recovered, failed, unproven, unknown, duplicates."""
    names = ("stuck", "recovered", "failed", "unproven", "unknown", "duplicates")
    found = connection.execute(_COUNTS, (incident,)).fetchone() or (0,) * len(names)
    return dict(zip(names, found, strict=True))


def ask(connection: sqlite3.Connection, asked: JobAsk) -> int:
    """A job with an item a recipient; returns its id.

    A recipient that another unfinished job has stays with that one, and is skipped in this; with
    `takes_over` one that only waits there comes over.
    """
    texts = (clean(asked.asked_by), clean(asked.reason), asked.filter, asked.options, asked.destination)
    job = connection.execute(
        _ASK, (asked.state, asked.asked_at, *texts, asked.incident, asked.gate)
    ).lastrowid
    assert job is not None
    for key in asked.recipients:
        if asked.takes_over:
            connection.execute(_TAKE_OVER, (key.message, key.n))
        elsewhere = connection.execute(_ITEM_ELSEWHERE, (key.message, key.n)).fetchone()
        connection.execute(_ITEM, (job, key.message, key.n, "skipped" if elsewhere else "waiting"))
    return job


def step_job(
    connection: sqlite3.Connection,
    job: int,
    from_state: str,
    to_state: str,
    stage: str | None,
    ended_at: Ms | None,
) -> Stale | None:
    """The job stands at `to_state`; Stale when it stood elsewhere. `stage` alone may change.

    A job that is cancelled or has failed lets its recipients go: those made due and not under way are due no
    longer (ours to retry stay so), and their items are skipped. What it made to be sent again is cancelled.
    """
    if not connection.execute(_STEP, (to_state, stage, ended_at, job, from_state)).rowcount:
        return Stale(f"job {job} is not {from_state}")
    if to_state in ("cancelled", "failed"):
        for message, n in connection.execute(_UNFINISHED, (job,)).fetchall():
            row = moves.find(connection, message, n)
            if row is not None and row.state is State.SENDING:
                continue  # its outcome settles the item
            connection.execute(_SKIP, (job, message, n))
            connection.execute(_TAKE_BACK, (message, n, job))
            if row is not None and moves.is_again(row):
                why = f"job {job} is {to_state}, and it had not gone"
                at = ended_at if ended_at is not None else row.since
                moves.apply(connection, Move(message, n, Event.OPERATOR_CANCELLED, at, why, row.attempt))
    return None


def pause_job(connection: sqlite3.Connection, job: int, paused: bool) -> Stale | None:
    """The job's options say whether a person has stopped it; Stale when it is over."""
    if not connection.execute(_PAUSE, ("true" if paused else "false", job)).rowcount:
        return Stale(f"job {job} is over")
    return None


def set_items(
    connection: sqlite3.Connection, job: int, items: Sequence[tuple[RecipientKey, str, int | None]], at: Ms
) -> None:
    """Items take a state and, unless None, the attempt's number."""
    for key, state, no in items:
        connection.execute(_SET_ITEM, (state, no, at, job, key.message, key.n))


def jobs(connection: sqlite3.Connection, states: Sequence[str]) -> list[JobRow]:
    """Jobs in these states (none named: all), oldest first, with their counts."""
    marks = ", ".join("?" * len(states))
    where = f"where j.state in ({marks})" if states else ""
    return [JobRow(*row) for row in connection.execute(f"{_JOB_COLUMNS} {where} order by j.id", states)]


def job(connection: sqlite3.Connection, identity: int) -> JobRow | None:
    """One job with its counts, None when there is none."""
    found = connection.execute(_JOB, (identity,)).fetchone()
    return None if found is None else JobRow(*found)


def job_items(
    connection: sqlite3.Connection, identity: int, state: str | None, limit: int | None
) -> list[JobItem]:
    """A job's recipients, the nearest deadline first; those whose message was pruned are left out."""
    where = " and i.state = ?" if state is not None else ""
    order = " order by r.deadline is null, r.deadline, i.message, i.n limit ?"
    parameters = (identity, *([state] if state is not None else []), -1 if limit is None else limit)
    return [
        JobItem(
            job=identity,
            key=RecipientKey(row[0], row[1]),
            state=row[2],
            no=row[3],
            released_at=row[4],
            recipient_state=State(row[5]),
            cause=maybe(Cause, row[6]),
            scope=maybe(Scope, row[7]),
            deadline=row[8],
            since=row[9],
            due_at=row[10],
        )
        for row in connection.execute(_ITEMS + where + order, parameters)
    ]
