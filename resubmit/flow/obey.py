"""What people ask for: jobs, holds, files to read. Each request is carried out whole and audited.

A replay is made one job for each destination it touches; recovery carries them. Whether a recipient may
move is the table's business, who may be sent again is recovery's: this loop finds whom the filter means.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from resubmit import logbook
from resubmit.clock import Clock
from resubmit.errors import NothingMatched, ResubmitError, UsageError
from resubmit.flow.observe import Observe
from resubmit.flow.wake import Wake
from resubmit.handoff.routes import Table
from resubmit.journal.door import Journal
from resubmit.journal.verbs import AuditRow, GateRow, JobAsk, JobRow, Move, Stale
from resubmit.model.filter import Filter
from resubmit.model.moment import Ms
from resubmit.recovery import asked, fate
from resubmit.recovery import jobs as job_rule

log = structlog.get_logger()

Progress = Callable[[dict[str, Any]], None]
Verb = Callable[[dict[str, Any], Progress], Awaitable[Any]]
"""Carries out one kind of request: its result."""

_POLL: Ms = 250


class Obey:
    """Carries out requests (flow/socket.py has their form). `told`: called when recovery has work; `mode`:
    recovery's; `more`: requests that others carry out."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        table: Table,
        observe: Observe,
        *,
        told: Wake,
        mode: str,
        more: Mapping[str, Verb] | None = None,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._table = table
        self._observe = observe
        self._told = told
        self._mode = mode
        self._verbs: dict[str, Verb] = {
            "replay": self._replay,
            "jobs_cancel": self._jobs_cancel,
            "jobs_pause": self._jobs_pause,
            "jobs_resume": self._jobs_pause,
            "ingest": self._ingest,
            **(more or {}),
        }

    async def carry_out(self, request: dict[str, Any], progress: Progress) -> Any:
        """The result of a request. Raises UsageError for one that is none, NothingMatched, ResubmitError."""
        verb = self._verbs.get(str(request.get("do")))
        if verb is None:
            raise UsageError(f"unknown request {request.get('do')!r}", hint="use a command of this version")
        result = await verb(request, progress)
        await self._journal.audit(
            AuditRow(
                self._clock.now(),
                str(request.get("by", "")),
                str(request["do"]),
                json.dumps({k: request.get(k) for k in ("filter", "options")}, sort_keys=True),
                str(request.get("reason", "")),
            )
        )
        log.info(logbook.REQUEST_CARRIED_OUT, do=request["do"], by=request.get("by"))
        self._told()
        return result

    async def _replay(self, request: dict[str, Any], progress: Progress) -> Any:
        options = dict(request.get("options") or {})
        flt = Filter.from_plain(request.get("filter") or {})
        now = self._clock.now()
        found = await self._journal.replayable(flt, options, now)
        if not found:
            raise NothingMatched("no recipient to resubmit matches", hint="see resubmit list --stuck")
        await self._prepare(found, flt, options, now)
        jobs = []
        for destination in dict.fromkeys(s.destination for s in found):
            keys = tuple(s.key for s in found if s.destination == destination)
            jobs.append(
                await self._journal.ask(
                    JobAsk(
                        asked_at=now,
                        asked_by=str(request.get("by", "")),
                        reason=str(request.get("reason", "")),
                        filter=json.dumps(flt.to_plain()),
                        options=json.dumps(options),
                        destination=destination,
                        incident=None,
                        gate=f"destination:{destination}",
                        recipients=keys,
                        takes_over=bool(options.get("force")),
                    )
                )
            )
        self._told()
        if options.get("wait"):
            await self._wait(jobs, progress)
        rows = [await self._job(job) for job in jobs]
        return rows[0] if len(rows) == 1 else asked.together(rows)

    async def _prepare(self, found: list[Any], flt: Filter, options: dict[str, Any], now: Ms) -> None:
        """What was settled is reopened where it was asked for; what waits here by itself is made due."""
        moves = [
            Move(s.key.message, s.key.n, asked.REOPENS, now, "asked for again", attempt=s.attempt)
            for s in found
            if asked.is_reopened(s, flt)
        ]
        if moves:
            await self._journal.move(moves)
        own = [s.key for s in found if asked.is_ours(s)]
        if own:
            await self._journal.make_due(own, now, options.get("route"), None)

    async def _wait(self, jobs: list[int], progress: Progress) -> None:
        """Until every attempt has its reply, or what has not gone is kept by a gate."""
        wake = Wake()
        while True:
            for job in jobs:
                progress(await self._job(job))
            ended = [await self._has_ended(job) for job in jobs]
            if all(ended):
                return
            await wake.wait(_POLL)

    async def _has_ended(self, job: int) -> bool:
        row = await self._journal.job(job)
        assert row is not None
        waiting = await self._journal.job_items(job, fate.WAITING, 1)
        gates = await self._gates(row)
        released = await self._journal.job_items(job, fate.RELEASED, job_rule.AT_A_TIME)
        in_flight = asked.are_on_their_way(released, gates[-1])
        kept = await self._kept_by(row)
        return asked.has_ended(row.state, waiting=bool(waiting or released), in_flight=in_flight, kept=kept)

    async def _kept_by(self, row: JobRow) -> str:
        known = row.destination in self._table.destinations
        return asked.kept_by(row, await self._gates(row), known=known, mode=self._mode)

    async def _gates(self, row: JobRow) -> list[GateRow | None]:
        """The gates on a job's way: its destination's, then its route's; None for one that never turned."""
        destination = self._table.destinations.get(row.destination)
        route = job_rule.options_of(row.options).route or (
            destination.resubmit or destination.handoff if destination else ""
        )
        return [await self._journal.gate(name) for name in (row.gate, f"route:{route}")]

    async def _job(self, job: int) -> dict[str, Any]:
        row = await self._journal.job(job)
        assert row is not None
        gate = await self._journal.gate(row.gate)
        return asked.job_plain(row, gate.state if gate else None, await self._kept_by(row))

    async def _jobs_cancel(self, request: dict[str, Any], progress: Progress) -> Any:
        row = await self._open_job(request)
        if row.state != asked.CANCELLED:
            ended = self._clock.now()
            stepped = await self._journal.step_job(row.id, row.state, asked.CANCELLED, ended_at=ended)
            if isinstance(stepped, Stale):
                raise ResubmitError(f"job {row.id} has just moved on", hint="ask again")
        return await self._job(row.id)

    async def _jobs_pause(self, request: dict[str, Any], progress: Progress) -> Any:
        row = await self._open_job(request)
        paused = asked.pauses(str(request["do"]))
        if row.state == asked.CANCELLED or isinstance(await self._journal.pause_job(row.id, paused), Stale):
            raise ResubmitError(f"job {row.id} is over", hint="see resubmit jobs")
        return await self._job(row.id)

    async def _open_job(self, request: dict[str, Any]) -> JobRow:
        """The job a request names. ResubmitError for one that is not there, or has ended by itself."""
        number = int((request.get("options") or {}).get("job", 0))
        row = await self._journal.job(number)
        if row is None:
            raise ResubmitError(f"there is no job {number}", hint="`resubmit jobs` lists them")
        if not asked.is_open(row.state) and row.state != asked.CANCELLED:
            raise ResubmitError(f"job {number} is {row.state} already")
        return row

    async def _ingest(self, request: dict[str, Any], progress: Progress) -> Any:
        options = request.get("options") or {}
        covers = options.get("covers")
        return await self._observe.ingest(
            [str(path) for path in options.get("files", [])],
            names={str(path): str(name) for path, name in (options.get("names") or {}).items()},
            timezone=str(options.get("timezone") or "UTC"),
            covers=(int(covers[0]), int(covers[1])) if covers else None,
        )
