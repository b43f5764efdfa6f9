"""Reports about a destination's servers, which are about no mail: kept once, and weighed by its gate."""

from __future__ import annotations

from collections.abc import Sequence

from resubmit.journal.codec import clean, maybe
from resubmit.journal.connection import sqlite3
from resubmit.journal.verbs import Fault, ReportRow
from resubmit.model.evidence import Cause, Scope, Status
from resubmit.model.moment import Ms

INSERT = """
insert into report (digest, destination, is_fault, since, until, read_at, cause, text, remote, file, place)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict do nothing
"""

FAULTS = """
select since, until, read_at, cause, text, remote
from report
where destination = ? and is_fault = 1 and read_at >= ?
order by read_at desc
limit ?
"""


def reported(connection: sqlite3.Connection, rows: Sequence[ReportRow]) -> list[bool]:
    """Keep reports; for each whether it is new."""
    return [
        connection.execute(
            INSERT,
            (
                row.digest,
                row.destination,
                row.is_fault,
                row.since,
                row.until,
                row.read_at,
                row.cause,
                clean(row.text),
                clean(row.remote),
                clean(row.file),
                clean(row.place),
            ),
        ).rowcount
        == 1
        for row in rows
    ]


def faults(connection: sqlite3.Connection, destination: str, since: Ms, limit: int) -> list[Fault]:
    """What reports read since then say against a destination. Its span stands for the attempts it is about:
    a report of a day in which the fault was mended is no news of the time after that."""
    return [
        Fault(
            evidence=0,
            at=until,
            read_at=read_at,
            status=str(Status.DEFERRED),
            cause=maybe(Cause, cause),
            scope=Scope.DESTINATION,
            text=text,
            attempt_accepted_at=began,
            remote=remote,
        )
        for began, until, read_at, cause, text, remote in connection.execute(
            FAULTS, (destination, since, limit)
        )
    ]
