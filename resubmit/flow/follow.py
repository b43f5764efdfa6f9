"""Logs are followed: what was added is read, matched and filed, and how far goes with it in one commit.

Correctness hangs on the rescan and the mark in the journal; what the system tells of changes only makes it
quick. After a stop or a crash reading goes on at the last mark: what is read again is known already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import structlog

from resubmit import logbook
from resubmit.clock import Clock
from resubmit.evidence import follow
from resubmit.evidence.base import Item, LogKind, LogMachine, Reading
from resubmit.evidence.kinds import kind
from resubmit.evidence.settings import Log
from resubmit.flow.filing import Filing
from resubmit.flow.wake import Wake
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Cursor
from resubmit.model.evidence import Evidence, Unreadable
from resubmit.model.moment import DAY, SECOND, Ms

log = structlog.get_logger()

_BATCH = 500
_RESCAN: Ms = 5 * SECOND
_PAUSE: Ms = 200
"""Between two looks, however often the system says that something was written."""
_SAVE: Ms = 5 * SECOND
"""A mark carries what the machine knows: it is not written with every line."""
_LISTED = 100
"""So many of a log's unreadable lines are kept and logged."""
_RECENT: Ms = 5 * DAY
"""Files of a folder of logs that were last written before are not begun."""


_BEFORE: Ms = DAY
"""Of a log that was never read, what is so much older than our first mail is passed over."""
_QUIET: Ms = 2 * DAY
"""A file that was not written for so long has come to its end: what its machine knows is let go."""


@dataclass(slots=True)
class _Followed:
    """One file that is followed, under one cursor. mark: how far it was read; kept: as the journal has it."""

    setting: Log
    path: Path
    mark: follow.Mark | None = None
    kept: follow.Mark | None = None
    machine: LogMachine | None = None
    saved: Ms = 0
    problem: str | None = None
    odd: str = ""
    listed: int = 0
    since: Ms = 0

    @property
    def cursor(self) -> str:
        return f"{self.setting.kind} {self.path}"


class Follow:
    """Follows the logs of the config. `filing`: shared with whoever else files evidence; `told`: called when
    something was read."""

    def __init__(
        self, journal: Journal, clock: Clock, filing: Filing, settings: Iterable[Log], *, told: Wake
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._filing = filing
        self._settings = list(settings)
        self._files: dict[tuple[str, Path], _Followed] = {}
        self._told = told
        self.wake = Wake()

    async def catch_up(self) -> None:
        """At start: what was written while nobody read is read before anything is decided."""
        await self.rescan()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.rescan()
            await asyncio.sleep(_PAUSE / 1000)
            await self.wake.wait(_RESCAN)

    async def rescan(self) -> None:
        """Read what was added to every log."""
        known = self._files
        self._files = {}
        for setting in self._settings:
            for path in await self._paths(setting):
                key = (setting.kind, path)
                self._files[key] = known.get(key) or _Followed(setting, path)
        for one in list(self._files.values()):
            await self._follow(one)

    async def _paths(self, setting: Log) -> list[Path]:
        """The file itself, or those files of a folder that are worth a look."""
        since = (self._clock.now() - _RECENT) * 1_000_000
        return cast(list[Path], await _aside(follow.paths_of, setting.path, since, setting.kind))

    async def _follow(self, one: _Followed) -> None:
        if one.machine is None:
            one.mark = one.kept = follow.parse_mark(await self._journal.cursor(follow.SOURCE, one.cursor))
            one.machine = self._machine(one)
            one.since = await self._journal.first_at(self._clock.now()) - _BEFORE if one.mark is None else 0
            one.saved = self._clock.monotonic()
        seen = await _aside(follow.look, one.path, one.mark)
        await self._tell(one, seen.problem or one.odd)
        plan = follow.plan(one.mark, seen.current, seen.others)
        if plan.lost:
            log.warning(logbook.LOG_PLACE_LOST, file=str(one.path))
        for piece in plan.pieces:
            try:
                await self._read(one, piece)
            except (OSError, EOFError, ValueError) as error:
                await self._tell(one, f"it can't be read: {getattr(error, 'strerror', None) or error}")
                return

    async def _read(self, one: _Followed, piece: follow.Piece) -> None:
        lines = await _aside(follow.Piecewise, piece)
        read = rows = 0
        try:
            while batch := await _aside(lines.take, _BATCH):
                read += len(batch)
                items = await _aside(_items, one.machine, batch)
                for item in items:
                    if isinstance(item, Unreadable):
                        await self._set_aside(one, item)
                evidence = [
                    item for item in items if isinstance(item, Evidence) and follow.may_match(item, one.since)
                ]
                rows += len(evidence)
                await self._filing.file(evidence, await self._cursor(one, lines))
                if evidence and evidence[-1].place == _place(batch[-1][0]) and one.mark is not None:
                    one.odd = follow.off_clock(evidence[-1].observed_at, one.mark.mtime_ns)
            await self._filing.file([], await self._cursor(one, lines, ended=piece.ended))
        finally:
            lines.close()
        if rows:
            log.info(logbook.LOG_READ, file=piece.name, lines=read, rows=rows)
            self._told()

    async def _cursor(self, one: _Followed, lines: follow.Piecewise, *, ended: bool = False) -> Cursor | None:
        """How far it was read, to be written with what was read; None where that is not due or not new."""
        one.mark = cast(follow.Mark, await _aside(lines.mark))
        quiet = self._clock.now() - one.mark.mtime_ns // 1_000_000 >= _QUIET
        new = one.kept is None or not follow.is_same(one.mark, one.kept) or (quiet and one.kept.memory != "")
        due = ended or one.kept is None or self._clock.monotonic() - one.saved >= _SAVE
        if not new or not due or one.machine is None:
            return None
        one.saved = self._clock.monotonic()
        one.kept = replace(one.mark, memory="" if quiet else await _aside(one.machine.memory))
        return Cursor(follow.SOURCE, one.cursor, follow.mark_text(one.kept))

    def _machine(self, one: _Followed) -> LogMachine:
        setting = one.setting
        reading = Reading(
            str(one.path), ZoneInfo(setting.timezone), now=self._clock.now(), position=setting.position
        )
        memory = one.mark.memory if one.mark else ""
        return cast(LogKind, kind(setting.kind)).machine(reading, memory)

    async def _tell(self, one: _Followed, problem: str) -> None:
        """What keeps a log from being read, told when it begins and taken back when it ends."""
        if problem == one.problem:
            return
        if problem:
            await self._journal.unreadable(str(one.path), "", problem, self._clock.now())
            log.warning(logbook.LOG_UNREADABLE, file=str(one.path), reason=problem)
        else:
            await self._journal.read_again(str(one.path), self._clock.now() + 1)
            log.info(logbook.LOG_FOLLOWED, file=str(one.path), kind=one.setting.kind)
        one.problem = problem

    async def _set_aside(self, one: _Followed, item: Unreadable) -> None:
        one.listed += 1
        if one.listed <= _LISTED:
            await self._journal.unreadable(item.file, item.place, item.reason, self._clock.now())
            log.warning(logbook.EVIDENCE_UNREADABLE, file=item.file, place=item.place, reason=item.reason)


async def _aside(work: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, partial(work, *args))


def _items(machine: LogMachine, lines: list[tuple[int, bytes]]) -> list[Item]:
    return [item for offset, line in lines for item in machine.line(line, _place(offset))]


def _place(offset: int) -> str:
    return f"byte {offset}"
