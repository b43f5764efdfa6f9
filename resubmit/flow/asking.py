"""One request to Graph after the other: within the budget, remembered before it is made, problems told of.

What is remembered stands in the journal, so that a restart keeps to the tenant's limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import structlog

from resubmit import logbook
from resubmit.clock import Clock, sleep
from resubmit.evidence import graph
from resubmit.evidence.graph import Memory, Page
from resubmit.evidence.graph_client import Answer, GraphClient
from resubmit.evidence.graph_says import Problem
from resubmit.evidence.settings import Graph
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Cursor
from resubmit.model.evidence import Unreadable
from resubmit.model.moment import Ms
from resubmit.recovery.clockrule import ClockRule

log = structlog.get_logger()


class Asking:
    """Asks with what is remembered (`memory`; who replaces it calls `save`). `clock_rule` is told of Graph's
    clock."""

    def __init__(self, journal: Journal, clock: Clock, settings: Graph, clock_rule: ClockRule) -> None:
        self._journal = journal
        self._clock = clock
        self._settings = settings
        self._clock_rule = clock_rule
        self._client = GraphClient(settings, clock)
        self._problem = ""
        self.memory = Memory()

    async def recall(self) -> None:
        """What was remembered before is in force."""
        self.memory = Memory.from_text(await self._journal.cursor(graph.SOURCE, self._settings.tenant))

    async def save(self) -> None:
        """What is remembered outlives us."""
        cursor = Cursor(graph.SOURCE, self._settings.tenant, self.memory.to_text())
        await self._journal.observe([], cursor)

    async def close(self) -> None:
        """Connections end; the next request opens one again."""
        await self._client.close()

    async def page(self, url: str, seen: frozenset[str] = frozenset(), recipient: str = "") -> Page | Problem:
        """One page, once the budget allows; a problem is told of and makes us wait."""
        budget, now = self._settings.budget, self._clock.now()
        while wait := graph.free_at(self.memory, budget, now) - now:
            await sleep(wait)
            now = self._clock.now()
        self.memory = graph.requested(self.memory, self._clock.now())
        await self.save()
        answer = await self._client.get(url)
        self._hear(answer)
        page: Page | Problem | None = answer.problem
        if page is None:
            work = partial(graph.page_of, answer.body, url, seen, recipient)
            page = await asyncio.get_running_loop().run_in_executor(None, work)
        if isinstance(page, Problem):
            await self._failed(page)
        return page

    def _hear(self, answer: Answer) -> None:
        if answer.requests > 1:
            self.memory = graph.requested(self.memory, self._clock.now())
        if answer.date is not None:
            self._clock_rule.heard(answer.date, answer.at)
            self.memory = replace(self.memory, ahead=answer.at - answer.date)

    async def _failed(self, problem: Problem) -> None:
        now = self._clock.now()
        self.memory = graph.failed(self.memory, problem, now)
        await self.save()
        if str(problem) != self._problem:
            self._problem = str(problem)
            await self._journal.unreadable(graph.NAME, "", str(problem), now)
            log.warning(logbook.TRACE_FAILED, step=problem.step, reason=problem.text, advice=problem.advice)

    async def well(self, asked_at: Ms) -> None:
        """What was asked for then was answered: no problem of before is left."""
        self._problem = ""
        await self._journal.read_again(graph.NAME, asked_at)

    async def set_aside(self, items: Iterable[Unreadable]) -> None:
        """What can't be read of an answer is kept, and told of."""
        for item in items:
            await self._journal.unreadable(item.file, item.place, item.reason, self._clock.now())
            log.warning(logbook.EVIDENCE_UNREADABLE, file=item.file, place=item.place, reason=item.reason)
