"""Gates, looks, coverage, and what the config says of destinations.

Promises: a gate turns only from the version its caller judged; a turn and its reasons are one row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from resubmit.journal import hasten
from resubmit.journal.codec import clean, read_words, words
from resubmit.journal.connection import sqlite3
from resubmit.journal.verbs import AuditRow, Coverage, Destined, GateRow, Haste, LookRow, Stale
from resubmit.model.moment import Ms
from resubmit.model.recipient import RecipientKey

_GATES = """
select name, state, version, since, reasons, incident, data
from gate
order by name
"""

_GATE = """
select name, state, version, since, reasons, incident, data
from gate
where name = ?
"""

_NEW_GATE = """
insert into gate (name, state, version, since, reasons, incident, data)
values (?, ?, 1, ?, ?, ?, ?)
"""

_TURN = """
update gate
set since = case when state = ?1 then since else ?2 end, state = ?1, version = version + 1, reasons = ?3,
    incident = ?4, data = ?5
where name = ?6 and version = ?7
"""

_LOOKED = """
insert into look (target, at, health, codes, fingerprint, verdict, days_left)
values (?, ?, ?, ?, ?, ?, ?)
"""

_LOOKS = """
select target, at, health, codes, fingerprint, verdict, days_left, id
from look
where target = ? and at >= ?
order by at desc, id desc
limit ?
"""

_COVERED = """
insert into coverage (source, since, until, read_at)
values (?, ?, ?, ?)
"""

_EXTEND = """
insert into trace (source, since, until, read_at)
values (?1, ?2, ?3, ?4)
on conflict (source) do update
set since = case when excluded.since <= until then min(since, excluded.since) else excluded.since end,
    until = max(until, excluded.until),
    read_at = max(read_at, excluded.read_at)
where excluded.until >= since
"""

_COVERAGE = """
select source, since, until, read_at
from coverage
where until >= ?
order by until, id
"""

_MIRROR = """
insert into destination (name, stuck_after, deadline_margin, expires_after, trace_stale, route,
    resubmit_route, data, current)
values (?, ?, ?, ?, ?, ?, ?, ?, 1)
on conflict (name) do update
set stuck_after = excluded.stuck_after, deadline_margin = excluded.deadline_margin,
    expires_after = excluded.expires_after, trace_stale = excluded.trace_stale, route = excluded.route,
    resubmit_route = excluded.resubmit_route, data = excluded.data, current = 1
"""

_REASSIGN = """
update recipient
set destination = ?, route = ?, deadline = coalesce(?, deadline)
where message = ? and n = ?
    and state not in ('sending', 'delivered', 'expanded', 'filtered', 'failed', 'cancelled')
"""

_AUDIT = """
insert into audit (at, who, action, what, reason)
values (?, ?, ?, ?, ?)
"""

_KEY = "select value from secret where name = 'trace'"

_NEW_KEY = "insert into secret (name, value) values ('trace', ?) on conflict do nothing"


def turn(
    connection: sqlite3.Connection,
    gate: str,
    from_version: int,
    to: str,
    reasons: tuple[str, ...],
    at: Ms,
    data: str,
    incident: int | None,
    haste: Haste | None = None,
) -> int | Stale:
    """The gate stands at `to`, its version counted up; returns the new version.

    A gate without a row is open at version 0. Stale when it has turned since `from_version`. `since`
    changes only when the state does. `haste`: what waits for this turn is due by then, in the same commit.
    """
    found = connection.execute(_GATE, (gate,)).fetchone()
    version = found[2] if found else 0
    if version != from_version:
        return Stale(f"gate {gate} is at version {version}")
    if found is None:
        connection.execute(_NEW_GATE, (gate, to, at, words(reasons), incident, data))
    else:
        connection.execute(_TURN, (to, at, words(reasons), incident, data, gate, from_version))
    if haste is not None:
        hasten.hasten(connection, haste, at)
    return version + 1


def gate(connection: sqlite3.Connection, name: str) -> GateRow | None:
    """A gate, None while it never turned (then it is open)."""
    found = connection.execute(_GATE, (name,)).fetchone()
    return None if found is None else _gate(found)


def gates(connection: sqlite3.Connection) -> list[GateRow]:
    """Every gate that ever turned, by name."""
    return [_gate(row) for row in connection.execute(_GATES)]


def _gate(row: tuple[object, ...]) -> GateRow:
    name, state, version, since, reasons, incident, data = row
    return GateRow(name, state, version, since, read_words(str(reasons)), incident, data)  # type: ignore[arg-type]


def looked(connection: sqlite3.Connection, look: LookRow) -> int:
    """A look is kept; returns its id."""
    saw = (look.health, words(look.codes), clean(look.fingerprint), clean(look.verdict_json))
    identity = connection.execute(_LOOKED, (look.target, look.at, *saw, look.days_left)).lastrowid
    assert identity is not None
    return identity


def looks(connection: sqlite3.Connection, target: str, since: Ms, limit: int) -> list[LookRow]:
    """Looks at a gate's target, newest first."""
    return [
        LookRow(row[0], row[1], row[2], read_words(row[3]), *row[4:])
        for row in connection.execute(_LOOKS, (target, since, limit))
    ]


def covered(connection: sqlite3.Connection, coverage: Coverage) -> None:
    """A source answered for everything in a span: kept as read, and its span without a gap extended."""
    span = (coverage.source, coverage.since, coverage.until, coverage.read_at)
    connection.execute(_COVERED, span)
    connection.execute(_EXTEND, span)


def coverage(connection: sqlite3.Connection, since: Ms) -> list[Coverage]:
    """What sources answered for, reading by reading, as far as it reaches beyond `since`."""
    return [Coverage(*row) for row in connection.execute(_COVERAGE, (since,))]


def mirror(connection: sqlite3.Connection, destinations: Sequence[Destined]) -> None:
    """What the config says of destinations now; those it no longer names keep their row, marked so."""
    connection.execute("update destination set current = 0")
    for one in destinations:
        spans = (one.stuck_after, one.deadline_margin, one.expires_after, one.trace_stale)
        data = json.dumps(one.data)
        connection.execute(_MIRROR, (one.name, *spans, one.route, one.resubmit_route, data))


def reassign(
    connection: sqlite3.Connection, changed: Sequence[tuple[RecipientKey, str, str, Ms | None]]
) -> int:
    """Open recipients take the destination, route and deadline (None: as it was) a new config gives them;
    returns how many."""
    return sum(
        connection.execute(_REASSIGN, (destination, route, deadline, key.message, key.n)).rowcount
        for key, destination, route, deadline in changed
    )


def audit(connection: sqlite3.Connection, row: AuditRow) -> None:
    """What a person did is kept."""
    texts = (clean(row.who), row.action, clean(row.what), clean(row.reason))
    connection.execute(_AUDIT, (row.at, *texts))


def key(connection: sqlite3.Connection, fresh: bytes) -> bytes:
    """The journal's own key; `fresh` becomes it in a journal that has none."""
    connection.execute(_NEW_KEY, (fresh,))
    (value,) = connection.execute(_KEY).fetchone()
    return bytes(value)
