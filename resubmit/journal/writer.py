"""The group commit: everything that waits to be written shares the next transaction.

Promises: a call's answer comes after the commit that holds it is on the disk; each call is whole or not
there; one bad call never takes its batch with it; calls are carried out in the order they came.
A failed write or sync below SQLite ends the process by `on_fatal`: what the disk holds then is not known.
Limits: at most BATCH_CALLS calls or BATCH_OCTETS a transaction, QUEUE_OCTETS waiting; when the queue is
full, callers wait. `inline` runs the same code in the loop's own thread, for simulated worlds and
commands in the foreground.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import structlog

from resubmit import logbook
from resubmit.errors import JournalError, JournalFull
from resubmit.journal.connection import DiskFailed, map_error, sqlite3

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

BATCH_CALLS = 256
BATCH_OCTETS = 4 * 1024 * 1024
QUEUE_OCTETS = 32 * 1024 * 1024
CALL_OCTETS = 512  # what a call without a body is counted as
CHECKPOINT_OCTETS = 4 * 1024 * 1024
CHECKPOINT_CALLS = 2000
IDLE_S = 1.0
TRUNCATE_PAGES = 32768  # 128 MiB of WAL: a long reader kept it from starting over

BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the commit time histogram, in seconds; one bucket more holds the rest."""

_GUILTY_LIMIT = 8  # after so many bad calls in one batch the rest goes one by one


@dataclass(slots=True)
class Stats:
    """What the writer did since it was opened, for metrics. Times in seconds."""

    calls: int = 0
    failed: int = 0
    commits: int = 0
    checkpoints: int = 0
    commit_seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))

    def committed(self, calls: int, seconds: float) -> None:
        self.commits += 1
        self.calls += calls
        self.commit_seconds += seconds
        for place, bound in enumerate(BUCKETS_S):
            if seconds <= bound:
                self.buckets[place] += 1
                return
        self.buckets[-1] += 1


@dataclass(slots=True)
class Call:
    """One verb on its way to the writer."""

    work: Work[Any]
    octets: int
    wakes: tuple[str, ...]
    future: asyncio.Future[Any]
    vital: bool = False
    result: Any = None
    error: BaseException | None = None


def _no_fault(point: str) -> None:
    """In service nothing fails on purpose."""


class Writer:
    """Carries out calls on the one writing connection.

    `faults` is called with the name of each point passed (before_begin, before_commit, after_commit,
    before_checkpoint); a test lets it raise or kill the process there. `on_fatal` hears of a failed disk,
    in the loop's thread. `on_change` gets the wakes of each batch, each once, in the loop's thread.
    `give_up_reserve` frees the preallocated room when a vital call (an outcome) finds the disk full, and
    says whether there was any.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        inline: bool = False,
        on_fatal: Callable[[BaseException], None] | None = None,
        on_change: Callable[[str], None] | None = None,
        give_up_reserve: Callable[[], bool] = lambda: False,
        faults: Callable[[str], None] = _no_fault,
    ) -> None:
        self.stats = Stats()
        self.on_fatal = on_fatal
        self.on_change = on_change
        self.faults = faults
        self._connection = connection
        self._inline = inline
        self._give_up_reserve = give_up_reserve
        self._told_fatal = False
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._inline_calls: list[Call] = []
        self._inline_scheduled = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._octets = 0
        self._fatal: BaseException | None = None
        self._closed = False
        self._dirty_octets = 0
        self._dirty_calls = 0
        self._thread: threading.Thread | None = None
        if not inline:
            self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
            self._thread.start()

    # ── the loop's side ─────────────────────────────────────────────────────────────────────────────

    @property
    def queued_octets(self) -> int:
        """What waits to be written, in octets."""
        return self._octets

    async def call(
        self, work: Work[T], *, octets: int = 0, wakes: tuple[str, ...] = (), vital: bool = False
    ) -> T:
        """What `work` returns, once it is on the disk. Raises what it raised, or a JournalError.

        A caller that is cancelled does not take its call back: it may still be written.
        """
        octets += CALL_OCTETS
        while self._octets > QUEUE_OCTETS:
            turn: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append(turn)
            await turn
        self._refuse_if_over()
        call = Call(work, octets, wakes, self._loop.create_future(), vital)
        self._octets += octets
        if self._inline:
            self._inline_calls.append(call)
            if not self._inline_scheduled:
                self._inline_scheduled = True
                self._loop.call_soon(self._run_inline)
        else:
            self._queue.put(call)
        return await call.future  # type: ignore[no-any-return]

    def _refuse_if_over(self) -> None:
        if self._fatal is not None:
            raise JournalError("the journal's disk failed; the service is stopping") from self._fatal
        if self._closed:
            raise JournalError("the journal is closed")

    def _run_inline(self) -> None:
        self._inline_scheduled = False
        calls, self._inline_calls = self._inline_calls, []
        while calls:
            batch: list[Call] = []
            octets = 0
            while calls and len(batch) < BATCH_CALLS and octets < BATCH_OCTETS:
                octets += calls[0].octets
                batch.append(calls.pop(0))
            self._carry_out(batch)
            self._finish(batch)
        self._checkpoint_if_due(idle=False)

    def _finish(self, batch: list[Call]) -> None:
        """In the loop's thread, once a batch: answers, wakes, and room for those who wait."""
        for call in batch:
            self._octets -= call.octets
            if call.future.done():
                continue
            if call.error is None:
                call.future.set_result(call.result)
            else:
                call.future.set_exception(call.error)
                call.future.exception()  # a caller that went away is no warning
        room = QUEUE_OCTETS - self._octets
        while self._waiting and room > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                room -= CALL_OCTETS
        if self.on_change is not None:
            for wake in dict.fromkeys(w for call in batch if call.error is None for w in call.wakes):
                self.on_change(wake)
        if self._fatal is not None and not self._told_fatal:
            self._told_fatal = True
            structlog.get_logger().error(logbook.JOURNAL_DISK_FAILED, reason=str(self._fatal))
            if self.on_fatal is not None:
                self.on_fatal(self._fatal)

    async def close(self) -> None:
        """Everything that waited is written, the WAL is folded into the file, the thread is gone."""
        if self._closed:
            return
        self._closed = True
        if self._thread is not None:
            self._queue.put(None)
            await self._loop.run_in_executor(None, self._thread.join)
            await asyncio.sleep(0)  # the last batch's answers were handed over before the thread ended
        elif self._inline_calls:
            self._run_inline()
        for turn in self._waiting:
            if not turn.done():
                turn.set_result(None)
        self._fold()

    # ── the writer's side ───────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        over = False
        while not over:
            try:
                first = self._queue.get(timeout=IDLE_S) if self._dirty_calls else self._queue.get()
            except Empty:
                self._checkpoint_if_due(idle=True)
                continue
            batch: list[Call] = []
            octets = 0
            call = first
            while call is not None:
                batch.append(call)
                octets += call.octets
                if len(batch) >= BATCH_CALLS or octets >= BATCH_OCTETS:
                    break
                try:
                    call = self._queue.get_nowait()
                except Empty:
                    break
            over = call is None
            if batch:
                self._carry_out(batch)
                self._loop.call_soon_threadsafe(self._finish, batch)
                self._checkpoint_if_due(idle=False)

    def _carry_out(self, batch: list[Call]) -> None:
        """Give every call its result or its error; what has a result is on the disk."""
        if self._fatal is not None:
            for call in batch:
                call.error = JournalError("the journal's disk failed; the service is stopping")
            return
        left, guilty = batch, 0
        while left:
            together = left if guilty < _GUILTY_LIMIT else left[:1]
            bad = self._commit(together)
            if bad is not None:
                guilty += 1
                self.stats.failed += 1
            elif together is left:
                return
            left = [
                call for call in left if call.error is None and (together is left or call not in together)
            ]

    def _commit(self, calls: list[Call]) -> Call | None:
        """One transaction with these calls. Returns the guilty one when it was rolled back for its sake,
        else None: the calls are on the disk, or each has its error."""
        connection = self._connection
        current: Call | None = None
        begun = time.perf_counter()
        try:
            self.faults("before_begin")
            connection.execute("begin immediate")
            for current in calls:
                current.result = current.work(connection)
            current = None
            self.faults("before_commit")
            connection.execute("commit")
        except Exception as error:  # whatever a call raised is its own answer, not the writer's end
            self._roll_back()
            mapped = map_error(error) if isinstance(error, sqlite3.Error) else error
            if isinstance(mapped, JournalFull) and self._make_room(calls, mapped):
                return self._commit([call for call in calls if call.error is None])
            if isinstance(mapped, DiskFailed):
                self._fatal = mapped
            elif current is not None:
                current.error = mapped
                return current
            for call in calls:
                call.error = call.error or mapped
            self.stats.failed += len(calls)
            return None
        seconds = time.perf_counter() - begun
        self.faults("after_commit")
        self.stats.committed(len(calls), seconds)
        self._dirty_calls += len(calls)
        self._dirty_octets += sum(call.octets for call in calls)
        return None

    def _make_room(self, calls: list[Call], full: JournalFull) -> bool:
        """On a full disk: new mail is refused, so that outcomes fit; then the reserve is given up for them.
        True when it is worth another try."""
        vital = [call for call in calls if call.vital]
        if not vital:
            return False
        for call in calls:
            if not call.vital:
                call.error = full
        return len(vital) < len(calls) or self._give_up_reserve()

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("rollback")
        except sqlite3.Error:
            # SQLite rolls back by itself on a full or failed disk; what is left goes with the connection.
            pass

    def _checkpoint_if_due(self, *, idle: bool) -> None:
        """Fold the WAL into the file while nobody waits for it. A failure leaves it for the next time."""
        if not self._dirty_calls:
            return
        if not idle and self._dirty_octets < CHECKPOINT_OCTETS and self._dirty_calls < CHECKPOINT_CALLS:
            return
        try:
            self.faults("before_checkpoint")
            busy, pages, _ = self._connection.execute("pragma wal_checkpoint(passive)").fetchone()
            if not busy and pages > TRUNCATE_PAGES:
                self._connection.execute("pragma wal_checkpoint(truncate)").fetchone()
        except (sqlite3.Error, OSError) as error:
            structlog.get_logger().warning(logbook.JOURNAL_CHECKPOINT_FAILED, reason=str(error))
            return
        self.stats.checkpoints += 1
        self._dirty_calls = self._dirty_octets = 0

    def _fold(self) -> None:
        try:
            self._connection.execute("pragma wal_checkpoint(truncate)").fetchone()
        except sqlite3.Error as error:
            structlog.get_logger().warning(logbook.JOURNAL_CHECKPOINT_FAILED, reason=str(error))
