"""The journal, open: its lock, its two connections and their threads, its room on the disk.

Promises: one process holds it open for writing (lock.py); it was brought to this version before anything
else happened (migrations.py); what a crash left behind is swept; reads run on a connection of their own, in
one snapshot each, and never wait for a writer.
Limits: the verbs are in reads.py and door.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import structlog

from resubmit import logbook
from resubmit.clock import Clock
from resubmit.errors import JournalFull
from resubmit.journal import mail, migrations
from resubmit.journal.bodies import Bodies
from resubmit.journal.connection import (
    DATABASE,
    DiskFailed,
    is_sound,
    map_error,
    open_reader,
    open_writer,
    sqlite3,
    sqlite_version,
)
from resubmit.journal.lock import Lock
from resubmit.journal.report_mails import ReportMails
from resubmit.journal.reserve import Floors, Reserve
from resubmit.journal.sieve import Sieves
from resubmit.journal.verbs import GateRow
from resubmit.journal.writer import QUEUE_OCTETS, Stats, Work, Writer
from resubmit.model.ids import IdMaker
from resubmit.model.moment import SECOND, Ms

if TYPE_CHECKING:
    from resubmit.journal.settings import JournalSettings

T = TypeVar("T")

_FLOORS_FOR: Ms = SECOND

_QUICK_ROWS = 8
"""A write of so few recipients is quick (writer.py)."""

_TIGHT = 1024 * 1024
"""Less free than this, and an I/O error at the start may well be a full disk's."""


class Opened:
    """The journal, open for writing. Made by `open`, ended by `close`.

    `on_change` is called in the loop after commits with `due`, `evidence`, `look`, `job` or `gate`, each once
    a commit. `on_fatal` is called when the disk failed: the process should end. `stats`: the writer's.
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        settings: JournalSettings,
        inline: bool,
        lock: Lock,
        connection: sqlite3.Connection,
        faults: Callable[[str], None] | None,
    ) -> None:
        self.folder = folder
        self.settings = settings
        self._clock = clock
        self._inline = inline
        self._lock = lock
        self._ids = IdMaker(mail.last_id(connection))
        self._faults = faults or (lambda point: None)
        self._floors: Floors | None = None
        self._floors_at: Ms = 0
        self._pruning = asyncio.Lock()
        self._pruned: dict[str, int] = {}
        self._gates: dict[str, GateRow] | None = None
        self._turns = 0
        self._sieves: Sieves | None = None
        self._looked_up = 0
        self._reserve = Reserve(folder, settings.reserve)
        self._bodies = Bodies(folder, inline=inline, faults=faults)
        self._report_mails = ReportMails(folder, self._bodies)
        self._connection = connection
        self._reading: sqlite3.Connection | None = None
        self._readers = None if inline else ThreadPoolExecutor(1, thread_name_prefix="journal-reader")
        self._writer = Writer(
            connection, inline=inline, give_up_reserve=self._reserve.give_up, faults=self._faults
        )

    # ── opening and closing ─────────────────────────────────────────────────────────────────────────

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        clock: Clock,
        settings: JournalSettings | None = None,
        inline: bool = False,
        faults: Callable[[str], None] | None = None,
    ) -> Self:
        """The journal at `folder`, made when there is none, brought to this version, ours alone to write.

        `inline`: everything runs in the calling thread. `faults`: a test's hook, called at named points.
        Raises JournalLocked, JournalUnreadable.
        """
        if settings is None:
            from resubmit.journal.settings import JournalSettings

            settings = JournalSettings()
        lock = Lock(folder)
        lock.take()
        try:
            connection = cls._connect(folder, settings)
            try:
                migrated = migrations.migrate(connection, folder / DATABASE)
                journal = cls(folder, clock, settings, inline, lock, connection, faults)
            except sqlite3.Error as error:
                connection.close()
                raise map_error(error, folder / DATABASE) from error
            except BaseException:
                connection.close()
                raise
        except BaseException:
            lock.release()
            raise
        try:
            journal._bodies.make()
            swept = await journal._read(journal._sweep)
            journal._reserve.keep(settings.attempt_floor)
        except BaseException:
            await journal.close()
            raise
        log = structlog.get_logger()
        log.info(
            logbook.JOURNAL_OPENED,
            folder=str(folder),
            sqlite=sqlite_version(),
            schema=migrations.VERSION,
            migrated=migrated,
            swept=swept,
        )
        if not is_sound():
            log.warning(logbook.SQLITE_UNSOUND, sqlite=sqlite_version())
        return journal

    @staticmethod
    def _connect(folder: Path, settings: JournalSettings) -> sqlite3.Connection:
        """The writing connection; on a full disk the reserve is what a start has room in."""
        try:
            return open_writer(folder)
        except (JournalFull, DiskFailed):
            # No room for the WAL's index comes as an I/O error that does not say why.
            reserve = Reserve(folder, settings.reserve)
            if reserve.free() > _TIGHT or not reserve.give_up():
                raise
            return open_writer(folder)

    async def close(self) -> None:
        """Everything that waited is written; the files are closed and the lock is free."""
        await self._writer.close()
        if self._readers is not None:
            self._readers.shutdown(wait=True)
        if self._reading is not None:
            self._reading.close()
            self._reading = None
        self._connection.close()
        self._lock.release()

    def _sweep(self, connection: sqlite3.Connection) -> int:
        def known(names: list[str]) -> set[str]:
            marks = ", ".join("?" * len(names))
            found = connection.execute(f"select body_file from message where body_file in ({marks})", names)  # noqa: S608
            return {name for (name,) in found}

        return self._bodies.sweep(known)

    @property
    def stats(self) -> Stats:
        """Counts and times of the writer since the journal was opened."""
        return self._writer.stats

    @property
    def queued_octets(self) -> int:
        """What waits for the next commits."""
        return self._writer.queued_octets

    @property
    def on_change(self) -> Callable[[str], None] | None:
        return self._writer.on_change

    @on_change.setter
    def on_change(self, tell: Callable[[str], None] | None) -> None:
        self._writer.on_change = tell

    @property
    def on_fatal(self) -> Callable[[BaseException], None] | None:
        return self._writer.on_fatal

    @on_fatal.setter
    def on_fatal(self, tell: Callable[[BaseException], None] | None) -> None:
        self._writer.on_fatal = tell

    def statistics(self) -> Stats:
        """The same, as a function for metrics."""
        return self._writer.stats

    def free_space(self) -> int:
        """Free octets on the journal's disk."""
        return self._reserve.free()

    def floors(self) -> Floors:
        """Whether there is room for new mail and for new attempts. Looked up at most once a second."""
        now = self._clock.monotonic()
        if self._floors is None or not 0 <= now - self._floors_at < _FLOORS_FOR:
            free = self._reserve.free()
            self._reserve.keep_if(free, self.settings.attempt_floor)
            self._floors_at = now
            self._floors = Floors(free >= self.settings.intake_floor, free >= self.settings.attempt_floor)
        if self._floors.intake and self._writer.queued_octets > QUEUE_OCTETS // 2:
            return Floors(False, self._floors.attempts)
        return self._floors

    def _gates_turn(self) -> None:
        """What was remembered of gates is read again; this process alone turns them."""
        self._turns += 1
        self._gates = None

    async def _write(
        self, work: Work[T], *wakes: str, octets: int = 0, vital: bool = False, rows: int | None = None
    ) -> T:
        """Run a write in the next commit. `rows`: how many recipients it touches, each by its key; None:
        nobody knows, or it reads more than that."""
        quick = rows is not None and rows <= _QUICK_ROWS
        return await self._writer.call(work, octets=octets, wakes=wakes, vital=vital, quick=quick)

    async def _read(self, work: Work[T]) -> T:
        """Run a read on the reader's thread, in one snapshot."""

        def run() -> T:
            if self._reading is None:
                self._reading = open_reader(self.folder)
            try:
                self._reading.execute("begin")
                try:
                    return work(self._reading)
                finally:
                    self._reading.execute("rollback")
            except sqlite3.Error as error:
                raise map_error(error, self.folder / DATABASE) from error

        if self._readers is None:
            return run()
        return await asyncio.get_running_loop().run_in_executor(self._readers, run)
