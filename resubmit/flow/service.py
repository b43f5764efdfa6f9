"""Start, readiness and an orderly stop.

Order at start: orphaned attempts are adopted, then mail is taken (nothing depends on it), evidence is
caught up, gates are judged, and only then anything goes out. A loop that ends in an error nobody expected
stops the service: mail is safe in the journal, and a service manager starts it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from resubmit import logbook
from resubmit.clock import Clock
from resubmit.errors import ResubmitError
from resubmit.flow.accept import Accept
from resubmit.flow.deliver import Deliver
from resubmit.flow.follow import Follow
from resubmit.flow.nudge import Nudge
from resubmit.flow.obey import Obey
from resubmit.flow.observe import Observe
from resubmit.flow.recover import Recover
from resubmit.flow.room import run_with_room
from resubmit.flow.tidy import Tidy
from resubmit.flow.trace import Trace
from resubmit.flow.watch import Watch
from resubmit.intake.base import Intake
from resubmit.journal.door import Journal
from resubmit.model.moment import SECOND, Ms

log = structlog.get_logger()

GRACE: Ms = 3 * SECOND
"""How long open conversations may go on after a stop was asked for; the whole stop stays below 5 s."""


@dataclass(slots=True)
class Parts:
    """The built things a service runs. `doors`: what else is opened and closed with it (web, socket)."""

    journal: Journal
    clock: Clock
    accept: Accept
    intakes: list[Intake]
    deliver: Deliver
    observe: Observe
    follow: Follow
    nudge: Nudge
    watch: Watch
    recover: Recover
    tidy: Tidy
    obey: Obey
    trace: Trace | None = None
    doors: list[Door] = field(default_factory=list)


@dataclass(slots=True)
class Door:
    """Something that is opened when mail is taken and closed at the stop."""

    open: Callable[[], Awaitable[None]]
    close: Callable[[], Awaitable[None]]


class Service:
    """Runs the parts until `stop` is set or a loop fails. `ready` is true once mail is taken."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.ready = False
        self.stopping = asyncio.Event()
        self._disk_failed = False
        parts.journal.on_fatal = self._end_for_disk

    def _end_for_disk(self, error: BaseException) -> None:
        """What the disk holds is not known any more: whoever starts the service again finds out."""
        self._disk_failed = True
        self.stopping.set()

    async def run(self) -> bool:
        """Whether the service ended because it was asked to. Closes the journal in any case."""
        parts = self.parts
        tasks: set[asyncio.Task[None]] = set()
        opened: list[Door] = []
        try:
            await parts.journal.adopt_orphans(parts.clock.now())
            for door in parts.doors:
                await door.open()
                opened.append(door)
            for intake in parts.intakes:
                await intake.bind()
                tasks.add(asyncio.create_task(intake.run(parts.accept), name="intake"))
            self.ready = True
            stop = asyncio.create_task(self.stopping.wait(), name="stop")
            caught_up = asyncio.create_task(self._catch_up(), name="catch_up")
            done, _ = await asyncio.wait({*tasks, stop, caught_up}, return_when=asyncio.FIRST_COMPLETED)
            if caught_up in done:
                caught_up.result()
                tasks |= self._loops()
                done, _ = await asyncio.wait({*tasks, stop}, return_when=asyncio.FIRST_COMPLETED)
            tasks.add(caught_up)
            stop.cancel()
            failed = [task for task in done if task is not stop and not task.cancelled()]
            for task in failed:
                self._tell(task)
            return not failed and not self._disk_failed
        finally:
            self.ready = False
            log.info(logbook.SERVICE_STOPPING)
            await self._close(tasks, opened)
            log.info(logbook.SERVICE_STOPPED)

    async def _catch_up(self) -> None:
        """Evidence first, then gates. A log of days may take its minutes; a stop does not wait for it."""
        await self.parts.follow.catch_up()
        await self.parts.observe.catch_up()
        await self.parts.recover.tick(self.parts.clock.now())

    @staticmethod
    def _tell(task: asyncio.Task[Any]) -> None:
        """Why a loop ended: in a line where it is an error a person can act on, else with where it was."""
        error = task.exception()
        if isinstance(error, ResubmitError):
            log.error(logbook.SERVICE_FAILED, loop=task.get_name(), reason=str(error))
        else:
            log.error(logbook.SERVICE_FAILED, loop=task.get_name(), exc_info=error)

    async def run_for(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Run the loops without any way in until `work` is done: its result. For a command that finds no
        service; what its job needs (looks, evidence, canary, steps) goes on meanwhile."""
        parts = self.parts
        tasks: set[asyncio.Task[None]] = set()
        try:
            await parts.journal.adopt_orphans(parts.clock.now())
            await self._catch_up()
            tasks = self._loops()
            asked = asyncio.ensure_future(work())
            await asyncio.wait({*tasks, asked}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done() and not asked.done():
                    asked.cancel()
                    task.result()
            result = await asked
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await parts.recover.conclude(parts.clock.now())  # a job with all its replies is done before we go
            return result
        finally:
            await self._close(tasks, [])

    def _loops(self) -> set[asyncio.Task[None]]:
        parts = self.parts
        loops = {
            "deliver": parts.deliver.run,
            "observe": parts.observe.run,
            "follow": parts.follow.run,
            "nudge": parts.nudge.run,
            "watch": parts.watch.run,
            "recover": parts.recover.run,
            "tidy": parts.tidy.run,
        }
        if parts.trace is not None:
            loops["trace"] = parts.trace.run
        return {asyncio.create_task(run_with_room(run, name), name=name) for name, run in loops.items()}

    async def _close(self, tasks: set[asyncio.Task[None]], opened: list[Door]) -> None:
        parts = self.parts
        await asyncio.gather(
            *(intake.stop(GRACE) for intake in parts.intakes),
            parts.deliver.stop(GRACE),
            return_exceptions=True,
        )
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(door.close() for door in opened), return_exceptions=True)
        await parts.journal.close()
