"""Evidence comes in: files are read, each statement is matched and goes to the journal with what it moves.

Correctness hangs on the rescan; what the system tells of changes only makes it quick. What found no owner
is kept and asked again when attempts end.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from resubmit import logbook
from resubmit.clock import Clock, sleep
from resubmit.evidence import folder as folders
from resubmit.evidence import reader
from resubmit.evidence.base import Item
from resubmit.evidence.settings import Folder
from resubmit.flow.filing import Filing
from resubmit.flow.wake import Wake
from resubmit.handoff.routes import Table
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Coverage, Cursor
from resubmit.model.evidence import Evidence, Unreadable
from resubmit.model.moment import SECOND, Ms

log = structlog.get_logger()

_BATCH = 1000
_LISTED = 100
"""So many of a file's unreadable places are kept and logged; of the others how many there are."""
_HOPELESS = 10_000
"""So many places from the start that say nothing: the rest of the file is left, other files wait."""
_RESCAN: Ms = 30 * SECOND
_SWEEP: Ms = 10 * SECOND
_APART: Ms = 100
"""Sweeps are no closer than this: under load every commit ends attempts."""


class Observe:
    """Reads the folders, and files given to `ingest`. `endpoints`: each destination's endpoint names and
    addresses, by which a trace's last hop is known. `told`: called when something was read."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        table: Table,
        settings: list[Folder],
        endpoints: dict[str, frozenset[str]],
        *,
        told: Wake,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._folders = [(each, folders.Folder(each.still)) for each in settings]
        self.filing = Filing(journal, clock, table, endpoints, told=told, stir=self.stir)
        self._told = told
        self._stirred = asyncio.Event()
        self.wake = Wake()

    def stir(self) -> None:
        """Attempts began or ended: what found no owner may find one now."""
        self._stirred.set()
        self.wake()

    async def catch_up(self) -> None:
        """At start: everything that stands still in the folders is read before anything is decided."""
        await self.rescan()
        await self.filing.sweep(whole=True)

    async def run(self) -> None:
        """Until cancelled."""
        swept = self._clock.monotonic()
        while True:
            again = await self.rescan()
            if self._stirred.is_set() or self._clock.monotonic() - swept >= _SWEEP:
                self._stirred.clear()
                swept = self._clock.monotonic()
                await self.sweep()
                await sleep(_APART)
            await self.wake.wait(min(again, _RESCAN if self._folders else _SWEEP, _SWEEP))

    async def rescan(self) -> Ms:
        """Read what is ready in every folder; when to look again, in ms."""
        again = [_RESCAN]
        for setting, memory in self._folders:
            listing = await self._aside(folders.look, setting.path)
            scan = memory.rescan(listing, self._clock.monotonic())
            for entry in scan.refused:
                await self._set_aside(str(setting.path / entry.name), "", entry.problem)
            for entry in scan.ready:
                await self._read_entry(setting, entry)
                memory.done(entry)
            again += [span for span in (scan.again_in, setting.poll) if span is not None]
        return max(min(again), 50)

    async def ingest(
        self,
        paths: list[str],
        *,
        timezone: str,
        covers: tuple[Ms, Ms] | None,
        names: dict[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """Read files given by a person: one object a file with its counts (design 6.1). `names`: what those
        are called whose path means nothing to a person."""
        answers = []
        for path in paths:
            name = (names or {}).get(path, path)
            counts = await self._read(Path(path), name, ZoneInfo(timezone), cursor=None)
            answers.append({"file": path, **counts})
            if covers is not None and counts["rows"] and not counts["unreadable"]:
                now = self._clock.now()
                await self._journal.covered(Coverage(name, covers[0], min(covers[1], now), now))
        await self.sweep()
        self._told()
        return answers

    async def sweep(self) -> None:
        """Ask again for what has no owner."""
        await self.filing.sweep()

    async def _read_entry(self, setting: Folder, entry: folders.Entry) -> None:
        name = folders.shown_name(setting.path, entry)
        try:
            mark = await self._aside(_fingerprint, setting.path, entry)
        except OSError as error:
            await self._set_aside(name, "", f"it can't be opened: {error.strerror}")
            return
        if await self._journal.cursor(folders.SOURCE, mark) is not None:
            return
        cursor = Cursor(folders.SOURCE, mark, "end")
        path = setting.path / entry.name
        counts = await self._read(path, name, ZoneInfo(setting.timezone), cursor=cursor)
        log.info(logbook.EVIDENCE_READ, file=name, **{k: v for k, v in counts.items() if k != "by"})

    async def _read(self, path: Path, name: str, zone: ZoneInfo, *, cursor: Cursor | None) -> dict[str, Any]:
        now = self._clock.now()
        near = tuple(await self._journal.attempt_times())
        items = reader.read_file(path, name, timezone=zone, near=near, now=now)
        counts: dict[str, Any] = dict.fromkeys(
            ("source", "rows", "matched", "ambiguous", "unmatched", "known", "unreadable"), 0
        ) | {"source": None}
        whys: Counter[str] = Counter()
        while batch := await self._aside(_take, items):
            bad = [item for item in batch if isinstance(item, Unreadable)]
            for item in bad[: max(_LISTED - counts["unreadable"], 0)]:
                await self._set_aside(item.file, item.place, item.reason)
            counts["unreadable"] += len(bad)
            evidence = [item for item in batch if isinstance(item, Evidence)]
            counts["rows"] += len(evidence)
            if not counts["rows"] and counts["unreadable"] >= _HOPELESS:
                break
            if evidence:
                counts["source"] = str(evidence[0].source)
            for answer in await self.filing.file(evidence, whys=whys):
                counts[answer] += 1
        if batch:
            await self._set_aside(
                name, "", f"nothing in its first {_HOPELESS} rows can be read; the rest is left"
            )
        elif counts["unreadable"] > _LISTED:
            await self._set_aside(
                name, "", f"{counts['unreadable']} rows can't be read; {_LISTED} are listed"
            )
        await self._journal.read_again(name, now)
        if cursor is not None:
            await self._journal.observe([], cursor)
        self._told()
        return counts | {"by": dict(whys.most_common())}

    async def _set_aside(self, file: str, place: str, reason: str) -> None:
        await self._journal.unreadable(file, place, reason, self._clock.now())
        log.warning(logbook.EVIDENCE_UNREADABLE, file=file, place=place, reason=reason)

    @staticmethod
    async def _aside(work: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, partial(work, *args))


def _take(items: Iterator[Item]) -> list[Item]:
    return list(islice(items, _BATCH))


def _fingerprint(root: Path, entry: folders.Entry) -> str:
    with folders.open_entry(root, entry) as stream:
        return folders.fingerprint(stream)
