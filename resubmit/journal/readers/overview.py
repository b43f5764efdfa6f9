"""Reading what stands above single messages: gates, looks, incidents, jobs, the journal itself.

`now` is always the caller's. Raises JournalUnreadable.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from resubmit.journal.connection import DATABASE, sqlite3
from resubmit.journal.readers.answers import (
    AuditView,
    DestinationView,
    FalseNdr,
    GateView,
    IncidentView,
    JobView,
    Overview,
    Size,
    UnreadableView,
)
from resubmit.journal.readers.reading import Row, reading
from resubmit.journal.readers.selection import ACCEPTED, HELD, TROUBLE
from resubmit.model.lateness import Lateness
from resubmit.model.moment import HOUR, Ms

_TRACE_STALE: Ms = HOUR
"""Where no destination says otherwise (design 6.2, `trace_stale`)."""

_OPEN = ("waiting", "running")


def overview(conn: sqlite3.Connection, now: Ms, folder: Path | None = None) -> Overview:
    """Where everything stands: what `status` shows. `folder` is the journal's, for its size."""
    with reading():
        gates = {row[0]: _gate(row) for row in conn.execute("select name, state, since, reasons from gate")}
        mirrored = conn.execute(
            "select name, route, resubmit_route, trace_stale from destination where current = 1 order by name"
        ).fetchall()
        looks = {row[0]: row[1:] for row in conn.execute(_LOOKS)}
        causes = conn.execute(
            "select coalesce(cause, 'none'), count(*) from stuck where stuck_at <= ?"
            " group by 1 order by 2 desc, 1",
            [now],
        ).fetchall()
        deadline = conn.execute(
            "select min(deadline) from stuck where stuck_at <= ? and deadline > ?", [now, now]
        ).fetchone()[0]
        stale = max((row[3] for row in mirrored), default=_TRACE_STALE)
        trace = conn.execute(
            "select source, until from trace where until >= ? order by until desc limit 1", [now - stale]
        ).fetchone()
        asked = conn.execute(_ASKED).fetchone()
    routes = dict.fromkeys(name for row in mirrored for name in row[1:3] if name)
    routes |= dict.fromkeys(name[6:] for name in gates if name.startswith("route:"))
    names = dict.fromkeys(row[0] for row in mirrored)
    known = {*routes, *names}
    return Overview(
        routes=tuple(gates.get(f"route:{name}", GateView(name, "open", None, ())) for name in routes),
        destinations=tuple(
            _destination(gates.get(f"destination:{name}"), name, looks.get(f"destination:{name}"))
            for name in names
        ),
        stuck=dict(causes),
        next_deadline=deadline,
        live_trace=trace,
        lateness=_lateness(asked[0]) if asked else Lateness(),
        incidents=tuple(incidents(conn, open_only=True)),
        jobs=tuple(jobs(conn, states=_OPEN)),
        unreadable=tuple(unreadable(conn)),
        journal=size(conn, folder),
        days_left={
            target: look[3]
            for target, look in looks.items()
            if look[3] is not None and (target.startswith("listener:") or target.partition(":")[2] in known)
        },
    )


_ASKED = "select position from cursor where source = 'trace_graph' order by at desc limit 1"


def _lateness(position: str) -> Lateness:
    """How late a trace that is asked tells: the one word of a source's own memory that people are shown."""
    try:
        plain = json.loads(position)
    except ValueError:
        return Lateness()
    return Lateness.of(plain.get("late") if isinstance(plain, dict) else None)


_LOOKS = """
select k.target, k.health, k.codes, k.at, k.days_left
from (select target, max(id) as id from look group by target) newest
join look k on k.id = newest.id
"""


def _gate(row: Row) -> GateView:
    return GateView(row[0].partition(":")[2], row[1], row[2], tuple(str(r) for r in json.loads(row[3])))


def _destination(gate: GateView | None, name: str, look: Row | None) -> DestinationView:
    shown = gate or GateView(name, "open", None, ())
    if look is None:
        return DestinationView(shown, None, (), None, None)
    return DestinationView(shown, look[0], tuple(json.loads(look[1])), look[2], look[3])


def gates(conn: sqlite3.Connection) -> dict[str, str]:
    """The state of every gate, by its whole name. One that never closed may be missing: it is open."""
    with reading():
        return dict(conn.execute("select name, state from gate").fetchall())


def destination_routes(conn: sqlite3.Connection) -> dict[str, str]:
    """The resubmission route of every destination the service last started with."""
    with reading():
        return dict(conn.execute("select name, resubmit_route from destination where current = 1").fetchall())


# ── incidents ─────────────────────────────────────────────────────────────────────────────────────

_INCIDENTS = """
select
    i.id, i.destination, i.route, i.cause, i.opened_at, i.closed_at, i.state, i.fault_from, i.fault_to,
    i.fixed_at, coalesce(c.stuck, 0), coalesce(c.recovered, 0), coalesce(c.failed, 0),
    coalesce(c.unproven, 0), coalesce(c.unknown, 0), coalesce(c.duplicates, 0), i.report
from incident i left join incident_count c on c.incident = i.id
"""


def incidents(conn: sqlite3.Connection, *, open_only: bool = False, limit: int = 0) -> list[IncidentView]:
    """Incidents, newest first. limit 0 is all."""
    where = "where i.state <> 'closed' " if open_only else ""
    with reading():
        rows = conn.execute(f"{_INCIDENTS} {where}order by i.id desc limit ?", [limit or -1]).fetchall()
    return [_incident(row) for row in rows]


def incident(conn: sqlite3.Connection, wanted: int) -> IncidentView | None:
    """One incident, None when there is none of that number."""
    with reading():
        row = conn.execute(f"{_INCIDENTS} where i.id = ?", [wanted]).fetchone()
    return _incident(row) if row else None


def _incident(row: Row) -> IncidentView:
    told = list(row)
    told[-1] = json.loads(row[-1]) if row[-1] else {}
    return IncidentView(*told)


_FALSE_NDRS = """
select m.sender, count(*), max(a.ended_at + coalesce(d.expires_after, 86400000))
from incident_recipient i
join recipient r on r.message = i.message and r.n = i.n
join message m on m.id = i.message
join attempt a on a.message = i.message and a.n = i.n and a.accepted = 1 and a.no < r.attempt
left join destination d on d.name = r.destination
where i.incident = ? and m.sender <> ''
    and not exists (
        select 1 from evidence e
        where e.message = i.message and e.n = i.n and e.no = a.no
            and e.status in ('delivered', 'failed', 'expired', 'expanded', 'filtered'))
group by m.sender order by 3, 1
"""


def false_ndrs(conn: sqlite3.Connection, incident: int) -> list[FalseNdr]:
    """Senders with mail in an incident of which the far side still has an earlier copy: each gets a bounce
    when that one expires, though the mail was resubmitted. `at`: the last of them."""
    with reading():
        return [FalseNdr(*row) for row in conn.execute(_FALSE_NDRS, [incident])]


# ── jobs, the rest ────────────────────────────────────────────────────────────────────────────────

_JOBS = """
select
    j.id, j.state, j.asked_at, j.asked_by, j.reason, j.filter, j.gate, j.destination, j.ended_at,
    coalesce(c.recipients, 0), coalesce(c.accepted, 0), coalesce(c.delivered, 0), coalesce(c.refused, 0),
    coalesce(c.skipped, 0), coalesce(c.unfinished, 0), coalesce(g.state, 'open'),
    coalesce(json_extract(j.options, '$.paused'), 0)
from job j
left join job_count c on c.job = j.id
left join gate g on g.name = j.gate
"""


def jobs(conn: sqlite3.Connection, *, states: tuple[str, ...] = (), limit: int = 0) -> list[JobView]:
    """Replay jobs, newest first; of those states only, where any are named. limit 0 is all."""
    where = "where j.state in (select value from json_each(?)) " if states else ""
    params: list[object] = [json.dumps(states)] if states else []
    with reading():
        rows = conn.execute(f"{_JOBS} {where}order by j.id desc limit ?", [*params, limit or -1]).fetchall()
    return [_job(row) for row in rows]


def job(conn: sqlite3.Connection, wanted: int) -> JobView | None:
    """One job, None when there is none of that number."""
    with reading():
        row = conn.execute(f"{_JOBS} where j.id = ?", [wanted]).fetchone()
    return _job(row) if row else None


def _job(row: Row) -> JobView:
    told = list(row)
    told[5] = json.loads(row[5] or "{}")
    told[-1] = bool(row[-1])
    return JobView(*told)


_A_FILE = 5
_UNREADABLE = """
select file, place, reason, at
from (
    select id, file, place, reason, at, row_number() over (partition by file order by id desc) as newest
    from unreadable
)
where newest <= ?1 or ?1 < 0
order by id desc
limit ?2
"""


def unreadable(conn: sqlite3.Connection, *, limit: int = 100) -> list[UnreadableView]:
    """What sources could not read, newest first; where not all (0) are asked for, the newest of each file,
    so that a bad one does not hide the others."""
    with reading():
        rows = conn.execute(_UNREADABLE, [_A_FILE if limit else -1, limit or -1]).fetchall()
    return [UnreadableView(*row) for row in rows]


def audit(conn: sqlite3.Connection, *, since: Ms = 0, limit: int = 0) -> list[AuditView]:
    """What people asked for, newest first."""
    with reading():
        rows = conn.execute(
            "select at, who, action, what, reason from audit where at >= ? order by id desc limit ?",
            [since, limit or -1],
        ).fetchall()
    return [AuditView(*row) for row in rows]


def size(conn: sqlite3.Connection, folder: Path | None = None) -> Size:
    """How large the journal is; octets with its write-ahead log and the bodies in files."""
    with reading():
        messages = conn.execute("select count(*) from message").fetchone()[0]
        unsettled = sum(
            conn.execute(f"select count(*) from recipient where {term}").fetchone()[0]  # noqa: S608
            for term in (TROUBLE, ACCEPTED, HELD, "due_at is not null and state in ('journaled', 'sending')")
        )
        schema = conn.execute("pragma user_version").fetchone()[0]
    octets = free = 0
    if folder is not None:
        octets = sum(_octets(file) for file in (folder / DATABASE, folder / f"{DATABASE}-wal"))
        octets += sum(_octets(Path(entry.path)) for entry in _entries(folder / "bodies"))
        disk = os.statvfs(folder)
        free = disk.f_bavail * disk.f_frsize
    return Size(str(folder or ""), messages, unsettled, octets, free, schema)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _octets(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
