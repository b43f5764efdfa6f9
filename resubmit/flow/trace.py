"""Graph's message trace is asked: rows are matched and filed, complete answers are coverage.

What to ask next is evidence/graph.py's; what is remembered of it stands in the journal before each request,
so that a restart keeps to the tenant's limits and goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from resubmit import logbook
from resubmit.clock import Clock
from resubmit.evidence import graph, graph_details
from resubmit.evidence.digest import digest_of
from resubmit.evidence.graph import Open, Window
from resubmit.evidence.graph_says import Problem
from resubmit.evidence.matching import lookup_of
from resubmit.evidence.settings import Graph
from resubmit.flow.asking import Asking
from resubmit.flow.filing import Filing
from resubmit.flow.wake import Wake
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Candidate, Coverage, Standing
from resubmit.model.evidence import Evidence
from resubmit.model.lateness import Lateness
from resubmit.model.moment import MINUTE, SECOND, Ms
from resubmit.recovery import jobs
from resubmit.recovery.clockrule import ClockRule
from resubmit.recovery.fate import WAITING
from resubmit.recovery.gate import is_open

log = structlog.get_logger()

_BATCH = 500
_LOOK: Ms = 30 * SECOND
"""So often it is looked whether the trace is needed more than it was."""
_LISTED = 20
"""So many of an answer's unreadable rows are kept and logged."""


class Trace:
    """The loop. `filing`: shared with whoever files evidence; `clock_rule`: told of Graph's clock;
    destinations: whose open mail is asked for; trace_lag: how late rows are held to come."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        filing: Filing,
        settings: Graph,
        clock_rule: ClockRule,
        destinations: Iterable[str],
        *,
        trace_lag: Ms,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._filing = filing
        self._settings = settings
        self._destinations = list(destinations)
        self._trace_lag = trace_lag
        self._asking = Asking(journal, clock, settings, clock_rule)
        self._details = graph_details.Details()
        self._told_late = False
        self._pages = 0
        self.wake = Wake()

    async def run(self) -> None:
        """Until cancelled."""
        await self._asking.recall()
        try:
            while True:
                wait = await self.step()
                await self.wake.wait(min(wait, _LOOK, self._settings.poll))
        finally:
            await self._asking.close()

    async def step(self) -> Ms:
        """Ask what is to be asked now; how long nothing else is, in ms."""
        needed = await self._needed()
        now = self._clock.now()
        at, whole = graph.next_at(self._asking.memory, needed, self._settings.poll, now)
        at = max(at, graph.free_at(self._asking.memory, self._settings.budget, now))
        if at > now:
            return at - now
        self._pages = 0
        for window in graph.windows(self._asking.memory, needed, whole, now):
            if not await self._read(window):
                return 0
        await self._explain()
        return 0

    async def _needed(self) -> Open:
        """What the trace is needed for now."""
        first: list[Standing] = []
        since = graph.accepted_since(self._asking.memory, self._clock.now())
        for name in self._destinations:
            for state in graph_details.MAY_GO:
                first += await self._journal.standings(name, states=[state], since=since, limit=1)
        gates = await self._journal.gates()
        stuck = any(one.state in graph_details.STUCK for one in first)
        asked = await self._journal.jobs(jobs.UNFINISHED)
        items = [item for job in asked for item in await self._journal.job_items(job.id, WAITING, 1)]
        waiting = await self._journal.standing([item.key for item in items])
        return Open(
            oldest=min(map(graph_details.taken_at, first), default=None),
            waiting=min(map(graph_details.taken_at, waiting), default=None),
            trouble=stuck or bool(asked) or not all(is_open(gate) for gate in gates),
            turned_at=max((gate.since for gate in gates), default=None),
        )

    async def _read(self, window: Window) -> bool:
        """Whether a window was answered for, to its last page. It counts as asked when its first page was."""
        asked_at, asked_before = self._clock.now(), self._asking.memory.asked_at
        url = graph.list_url(self._settings.endpoint, window, self._settings.from_ip)
        seen: frozenset[str] = frozenset()
        first_seen: list[Ms | None] = []
        rows = new = lost = 0
        while url:
            page = await self._asking.page(url, seen)
            if isinstance(page, Problem):
                return False
            seen, url = seen | {url}, page.following
            await self._asking.set_aside(page.unreadable[: max(_LISTED - lost, 0)])
            lost += page.lost
            rows += len(page.rows)
            for start in range(0, len(page.rows), _BATCH):
                taken, late = await self._take(page.rows[start : start + _BATCH])
                new += taken
                first_seen += late
        self._pages += len(seen)
        memory = graph.answered(self._asking.memory, window, self._pages, asked_at)
        self._asking.memory = graph.counted_late(memory, first_seen, asked_before, asked_at)
        if graph.is_complete(rows, lost):
            await self._journal.covered(Coverage(graph.SOURCE, window.since, window.until, asked_at))
        await self._asking.well(asked_at)
        await self._asking.save()
        lateness = Lateness(self._asking.memory.late)
        told = {"pages": len(seen), "rows": rows, "new": new, "whole": window.whole}
        log.info(logbook.TRACE_ANSWERED, **told, late=lateness.within(95))
        if lateness.is_beyond(self._trace_lag) and not self._told_late:
            self._told_late = True
            log.warning(logbook.TRACE_LATE, minutes=lateness.within(95), trace_lag=self._trace_lag // MINUTE)
        return True

    async def _take(self, rows: tuple[Evidence, ...]) -> tuple[int, list[Ms | None]]:
        """File those that may be ours and tell something new; how many, and when those of which nothing was
        told before were received."""
        digests = [digest_of(row) for row in rows]
        known = await self._journal.is_known(graph.SOURCE, digests)
        new = [row for row, digest in zip(rows, digests, strict=True) if digest not in known]
        ours: list[Evidence] = []
        late: list[Ms | None] = []
        for row, candidates in await self._with_candidates(new):
            if graph_details.is_of_ours(candidates):
                ours.append(row)
                if graph_details.is_first_seen(row, candidates):
                    late.append(row.received_at)
        await self._filing.file(ours)
        # Only now: filing may have made members of a group.
        unexplained = [row for row in rows if graph_details.may_want_details(row)]
        for row, candidates in await self._with_candidates(unexplained):
            self._details.consider(row, candidates)
        return len(ours), late

    async def _with_candidates(self, rows: list[Evidence]) -> Iterable[tuple[Evidence, list[Candidate]]]:
        found = await self._journal.candidates([lookup_of(row) for row in rows])
        return zip(rows, found, strict=True)

    async def _explain(self) -> None:
        """The events of what is stuck without a cause, as far as the budget goes."""
        standings = await self._journal.standing(self._details.keys())
        for row in self._details.wanted(standings, self._clock.now()):
            now = self._clock.now()
            if graph.free(self._asking.memory, self._settings.budget, now) <= graph.KEPT_FOR_LISTS:
                return
            url = graph.details_url(self._settings.endpoint, row.network_message_id, row.recipient)
            page = await self._asking.page(url, recipient=row.recipient)
            if isinstance(page, Problem):
                return
            self._details.asked(row, now)
            await self._asking.set_aside(page.unreadable[:_LISTED])
            await self._filing.file(page.rows)
