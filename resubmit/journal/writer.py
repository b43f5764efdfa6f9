"""The group commit: everything that waits to be written shares the next transaction.

Promises: a call's answer comes after the commit that holds it is on the disk; each call is whole or not
there; one bad call never takes its batch with it; calls are carried out in the order they came.
A failed write or sync below SQLite ends the process by `on_fatal`: what the disk holds then is not known.
Limits: at most BATCH_CALLS calls or BATCH_OCTETS a transaction, QUEUE_OCTETS waiting; when the queue is
full, callers wait. `inline` runs the same code in the loop's own thread, for simulated worlds and
commands in the foreground.

Who does what: the thread commits (that waits for the disk) and carries out what may take long. A batch of
`quick` calls alone, a few rows each, is carried out in the loop's thread before the commit is handed over:
a thread that runs many short statements beside a busy loop spends more time on getting the interpreter's
lock back, once a statement, than on the statements. The connection belongs to one of the two at a time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar

import structlog

from resubmit import logbook
from resubmit.errors import JournalError, JournalFull
from resubmit.journal.connection import DiskFailed, map_error, sqlite3

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

BATCH_CALLS = 256
QUICK_CALLS = 64  # so many quick calls hold the loop for a few milliseconds
QUICK_OCTETS = 1024 * 1024
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
    quick: bool = False
    result: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class _Failed:
    """Why a transaction was rolled back, and the call that was being carried out."""

    error: Exception
    call: Call | None


@dataclass(slots=True)
class _Batch:
    """Calls of one transaction. `begun`: when the loop's thread carried them out already (seconds), and
    `failed` how that ended."""

    calls: list[Call]
    begun: float | None = None
    failed: _Failed | None = None


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
        self._queue: SimpleQueue[_Batch | None] = SimpleQueue()  # to the thread; empty: fold the WAL
        self._calls: deque[Call] = deque()
        self._scheduled = False
        self._busy = False  # the thread has the connection
        self._quiet: asyncio.Future[None] | None = None
        self._last_at = 0.0
        self._idle: asyncio.TimerHandle | None = None
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
        self,
        work: Work[T],
        *,
        octets: int = 0,
        wakes: tuple[str, ...] = (),
        vital: bool = False,
        quick: bool = False,
    ) -> T:
        """What `work` returns, once it is on the disk. Raises what it raised, or a JournalError.

        `quick`: it touches a few rows by their keys, so that the loop can wait for it.

        A caller that is cancelled does not take its call back: it may still be written.
        """
        octets += CALL_OCTETS
        while self._octets > QUEUE_OCTETS:
            turn: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append(turn)
            await turn
        self._refuse_if_over()
        call = Call(work, octets, wakes, self._loop.create_future(), vital, quick)
        self._octets += octets
        self._calls.append(call)
        if not self._scheduled and not self._busy:
            self._scheduled = True
            self._loop.call_soon(self._take_turn)
        return await call.future  # type: ignore[no-any-return]

    def _refuse_if_over(self) -> None:
        if self._fatal is not None:
            raise JournalError("the journal's disk failed; the service is stopping") from self._fatal
        if self._closed:
            raise JournalError("the journal is closed")

    def _take_turn(self) -> None:
        """What waits becomes the next batch, unless the thread is still at the one before."""
        self._scheduled = False
        if self._inline:
            while self._calls:
                batch = self._next_batch()
                self._carry_out(batch)
                self._finish(batch)
            self._checkpoint_if_due(idle=False)
        elif self._calls and not self._busy:
            batch = self._next_batch()
            if batch.calls[0].quick and self._fatal is None:
                batch.begun = time.perf_counter()
                batch.failed = self._fill(batch.calls)
            self._hand_over(batch)

    def _next_batch(self) -> _Batch:
        """From the front, in order: either quick calls alone or others alone."""
        batch: list[Call] = []
        octets, quick = 0, self._calls[0].quick and not self._inline
        most, most_octets = (QUICK_CALLS, QUICK_OCTETS) if quick else (BATCH_CALLS, BATCH_OCTETS)
        while self._calls and len(batch) < most and octets < most_octets:
            if quick and not self._calls[0].quick:
                break
            octets += self._calls[0].octets
            batch.append(self._calls.popleft())
        return _Batch(batch)

    def _hand_over(self, batch: _Batch) -> None:
        self._busy = True
        self._last_at = self._loop.time()
        self._queue.put(batch)

    def _take_back(self, batch: _Batch | None) -> None:
        """In the loop's thread: the thread is done with the connection."""
        self._busy = False
        if batch is not None:
            self._finish(batch)
        self._take_turn()
        if self._busy:
            return
        if self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)
        if self._dirty_calls and self._idle is None and not self._closed:
            self._idle = self._loop.call_later(IDLE_S, self._fold_idle)

    def _fold_idle(self) -> None:
        """The WAL is folded in once nothing was written for a while."""
        self._idle = None
        if self._closed or not self._dirty_calls or self._busy:
            return  # whoever is busy now comes back to set the timer
        rest = self._last_at + IDLE_S - self._loop.time()
        if rest > 0:
            self._idle = self._loop.call_later(rest, self._fold_idle)
        else:
            self._hand_over(_Batch([]))

    def _finish(self, batch: _Batch) -> None:
        """In the loop's thread, once a batch: answers, wakes, and room for those who wait."""
        for call in batch.calls:
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
            for wake in dict.fromkeys(w for call in batch.calls if call.error is None for w in call.wakes):
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
        if self._idle is not None:
            self._idle.cancel()
        self._take_turn()
        while self._busy:
            self._quiet = self._loop.create_future()
            await self._quiet
        if self._thread is not None:
            self._queue.put(None)
            await self._loop.run_in_executor(None, self._thread.join)
        for turn in self._waiting:
            if not turn.done():
                turn.set_result(None)
        self._fold()

    # ── the writer's side ───────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            told = bool(batch.calls)
            if told:
                self._carry_out(batch)
                told = self._is_checkpoint_due(idle=False)
                if told:  # nobody waits for their answer while the WAL is folded in
                    self._loop.call_soon_threadsafe(self._finish, batch)
            self._checkpoint_if_due(idle=not batch.calls)
            self._loop.call_soon_threadsafe(self._take_back, None if told or not batch.calls else batch)

    def _carry_out(self, batch: _Batch) -> None:
        """Give every call its result or its error; what has a result is on the disk."""
        if self._fatal is not None:
            for call in batch.calls:
                call.error = JournalError("the journal's disk failed; the service is stopping")
            return
        left, guilty = batch.calls, 0
        begun, failed = batch.begun, batch.failed
        while left:
            together = left if guilty < _GUILTY_LIMIT else left[:1]
            if begun is None:
                begun = time.perf_counter()
                failed = self._fill(together)
            bad = self._commit(together, begun, failed)
            begun = None
            if bad is not None:
                guilty += 1
                self.stats.failed += 1
            elif together is left:
                return
            left = [
                call for call in left if call.error is None and (together is left or call not in together)
            ]

    def _fill(self, calls: list[Call]) -> _Failed | None:
        """Open a transaction and carry out the calls in it; None when all that is left is to commit."""
        current: Call | None = None
        try:
            self.faults("before_begin")
            self._connection.execute("begin immediate")
            for current in calls:
                current.result = current.work(self._connection)
        except Exception as error:  # whatever a call raised is its own answer, not the writer's end
            self._roll_back()
            return _Failed(error, current)
        return None

    def _commit(self, calls: list[Call], begun: float, failed: _Failed | None) -> Call | None:
        """End the transaction that `_fill` left. Returns the guilty call when it was rolled back for its
        sake, else None: the calls are on the disk, or each has its error."""
        if failed is None:
            try:
                self.faults("before_commit")
                self._connection.execute("commit")
            except Exception as error:  # none of them is to blame, and none is on the disk
                self._roll_back()
                failed = _Failed(error, None)
        if failed is not None:
            return self._judge(calls, failed)
        seconds = time.perf_counter() - begun
        self.faults("after_commit")
        self.stats.committed(len(calls), seconds)
        self._dirty_calls += len(calls)
        self._dirty_octets += sum(call.octets for call in calls)
        return None

    def _judge(self, calls: list[Call], failed: _Failed) -> Call | None:
        """What a rolled back transaction means for its calls; answers as `_commit`."""
        error = failed.error
        mapped = map_error(error) if isinstance(error, sqlite3.Error) else error
        if isinstance(mapped, JournalFull) and self._make_room(calls, mapped):
            left = [call for call in calls if call.error is None]
            return self._commit(left, time.perf_counter(), self._fill(left))
        if isinstance(mapped, DiskFailed):
            self._fatal = mapped
        elif failed.call is not None:
            failed.call.error = mapped
            return failed.call
        for call in calls:
            call.error = call.error or mapped
        self.stats.failed += len(calls)
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
        if not self._is_checkpoint_due(idle=idle):
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

    def _is_checkpoint_due(self, *, idle: bool) -> bool:
        full = self._dirty_octets >= CHECKPOINT_OCTETS or self._dirty_calls >= CHECKPOINT_CALLS
        return self._dirty_calls > 0 and (idle or full)

    def _fold(self) -> None:
        try:
            self._connection.execute("pragma wal_checkpoint(truncate)").fetchone()
        except sqlite3.Error as error:
            structlog.get_logger().warning(logbook.JOURNAL_CHECKPOINT_FAILED, reason=str(error))
