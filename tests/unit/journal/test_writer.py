"""The group commit, and what a failure does to those who share it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from resubmit.errors import JournalError, JournalFull
from resubmit.journal import writer as writing
from resubmit.journal.connection import DiskFailed, open_reader, open_writer, sqlite3
from resubmit.journal.writer import BATCH_CALLS, Writer


class Broken(Exception):
    """What a bad call raises."""


def _failure(code: int, text: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


FULL = 13
IOERR_FSYNC = 10 | 4 << 8


@pytest_asyncio.fixture(params=["thread", "quick", "inline"])
async def writer(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Writer]:
    connection = open_writer(tmp_path)
    connection.execute("create table word (word text unique) strict")
    made = Writer(connection, inline=request.param == "inline")
    if request.param == "quick":
        monkeypatch.setattr(made, "call", partial(made.call, quick=True))
    yield made
    await made.close()
    connection.close()


def say(word: str, *, then: Exception | None = None) -> writing.Work[str]:
    def work(connection: sqlite3.Connection) -> str:
        connection.execute("insert into word values (?)", (word,))
        if then is not None:
            raise then
        return word

    return work


def words(folder: Path) -> set[str]:
    connection = open_reader(folder)
    try:
        return {word for (word,) in connection.execute("select word from word")}
    finally:
        connection.close()


async def test_calls_that_wait_share_a_commit(writer: Writer, tmp_path: Path) -> None:
    said = await asyncio.gather(*(writer.call(say(f"w{i}")) for i in range(200)))
    assert said == [f"w{i}" for i in range(200)]
    assert words(tmp_path) == set(said)
    assert writer.stats.calls == 200
    assert writer.stats.commits < 200
    assert sum(writer.stats.buckets) == writer.stats.commits


async def test_a_bad_call_fails_alone(writer: Writer, tmp_path: Path) -> None:
    calls = [writer.call(say(f"w{i}", then=Broken() if i == 11 else None)) for i in range(20)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [i for i, answer in enumerate(answers) if isinstance(answer, Broken)] == [11]
    assert words(tmp_path) == {f"w{i}" for i in range(20) if i != 11}
    assert writer.stats.commits < 19
    assert writer.stats.failed == 1


async def test_many_bad_calls_fail_and_every_good_one_is_kept(writer: Writer, tmp_path: Path) -> None:
    calls = [writer.call(say(f"w{i}", then=Broken() if i % 2 else None)) for i in range(60)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [i for i, answer in enumerate(answers) if isinstance(answer, Broken)] == list(range(1, 60, 2))
    assert words(tmp_path) == {f"w{i}" for i in range(0, 60, 2)}
    assert writer.stats.failed == 30


async def test_a_broken_law_is_the_callers_and_said_as_such(writer: Writer, tmp_path: Path) -> None:
    answers = await asyncio.gather(*(writer.call(say(w)) for w in "aab"), return_exceptions=True)
    assert isinstance(answers[1], JournalError)
    assert "law" in str(answers[1])
    assert words(tmp_path) == {"a", "b"}


async def test_calls_are_carried_out_in_the_order_they_came(writer: Writer) -> None:
    order: list[int] = []
    await asyncio.gather(*(writer.call(lambda _, i=i: order.append(i)) for i in range(50)))  # type: ignore[misc]
    assert order == list(range(50))


async def test_quick_calls_and_others_keep_their_order(writer: Writer, tmp_path: Path) -> None:
    order: list[int] = []

    def note(i: int, connection: sqlite3.Connection) -> None:
        connection.execute("insert into word values (?)", (f"w{i}",))
        order.append(i)

    await asyncio.gather(*(writer.call(partial(note, i), quick=i % 5 != 0) for i in range(60)))
    assert order == list(range(60))
    assert words(tmp_path) == {f"w{i}" for i in range(60)}


async def test_the_disk_is_never_waited_for_in_the_loop(tmp_path: Path) -> None:
    threads: dict[str, set[int]] = {}

    def faults(point: str) -> None:
        threads.setdefault(point, set()).add(threading.get_ident())

    connection = open_writer(tmp_path)
    connection.execute("create table word (word text unique) strict")
    writer = Writer(connection, faults=faults)
    for i in range(3):
        await writer.call(say(f"w{i}"), quick=True)
    await writer.close()
    connection.close()
    assert threads["before_begin"] == {threading.get_ident()}
    assert threading.get_ident() not in threads["before_commit"]


async def test_the_wal_is_folded_in_when_nothing_comes(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if "inline" in request.node.name:
        return  # there the next write does it
    monkeypatch.setattr(writing, "IDLE_S", 0.02)
    await writer.call(say("a"))
    while not writer.stats.checkpoints:
        await asyncio.sleep(0.01)
    await writer.call(say("b"))
    assert words(tmp_path) == {"a", "b"}


async def test_a_failed_commit_fails_all_of_its_calls_and_only_them(writer: Writer, tmp_path: Path) -> None:
    failures = [_failure(1, "no such luck")]

    def faults(point: str) -> None:
        if point == "before_commit" and failures:
            raise failures.pop()

    writer.faults = faults
    answers = await asyncio.gather(*(writer.call(say(w)) for w in "abc"), return_exceptions=True)
    failed = {w for w, answer in zip("abc", answers, strict=True) if isinstance(answer, JournalError)}
    assert failed
    assert words(tmp_path) == set("abc") - failed
    await writer.call(say("d"))
    assert "d" in words(tmp_path)


async def test_a_failed_sync_ends_it_and_nothing_is_written_after(writer: Writer, tmp_path: Path) -> None:
    told: list[BaseException] = []
    writer.on_fatal = told.append

    def faults(point: str) -> None:
        if point == "before_commit":
            raise _failure(IOERR_FSYNC, "disk I/O error")

    writer.faults = faults
    with pytest.raises(DiskFailed):
        await writer.call(say("a"))
    await asyncio.sleep(0)
    assert len(told) == 1
    writer.faults = lambda point: None
    with pytest.raises(JournalError, match="stopping"):
        await writer.call(say("b"))
    assert words(tmp_path) == set()


async def test_a_cancelled_caller_does_not_take_its_call_back(writer: Writer, tmp_path: Path) -> None:
    asked = asyncio.ensure_future(writer.call(say("a")))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await writer.call(say("b"))
    assert words(tmp_path) == {"a", "b"}


async def test_a_batch_has_a_bound(writer: Writer) -> None:
    await asyncio.gather(*(writer.call(say(f"w{i}")) for i in range(BATCH_CALLS * 2 + 1)))
    assert writer.stats.commits >= 3


async def test_a_full_queue_makes_callers_wait_and_lets_them_in_again(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "QUEUE_OCTETS", 2000)
    seen: list[int] = []

    async def tell(i: int) -> None:
        await writer.call(say(f"w{i}"), octets=900)
        seen.append(writer.queued_octets)

    await asyncio.gather(*(tell(i) for i in range(40)))
    assert words(tmp_path) == {f"w{i}" for i in range(40)}
    assert max(seen) <= 2000 + 2 * (900 + writing.CALL_OCTETS)
    assert writer.queued_octets == 0


async def test_wakes_come_once_a_commit_and_only_for_what_was_written(writer: Writer) -> None:
    heard: list[str] = []
    writer.on_change = heard.append
    await asyncio.gather(
        writer.call(say("a"), wakes=("due", "job")),
        writer.call(say("b"), wakes=("due",)),
        writer.call(say("c", then=Broken()), wakes=("gate",)),
        return_exceptions=True,
    )
    assert "gate" not in heard
    assert heard.count("job") == 1
    assert heard.count("due") <= 2


async def test_on_a_full_disk_mail_gives_way_to_outcomes(tmp_path: Path) -> None:
    connection = open_writer(tmp_path)
    connection.execute("create table word (word text unique) strict")
    full = True

    def faults(point: str) -> None:
        if point == "before_commit" and full:
            raise _failure(FULL, "database or disk is full")

    given: list[str] = []

    def give_up() -> bool:
        nonlocal full
        full = False
        given.append("reserve")
        return len(given) == 1

    writer = Writer(connection, inline=True, faults=faults, give_up_reserve=give_up)
    answers = await asyncio.gather(
        writer.call(say("mail")), writer.call(say("outcome"), vital=True), return_exceptions=True
    )
    assert isinstance(answers[0], JournalFull)
    assert answers[1] == "outcome"
    assert given == ["reserve"]
    await writer.close()
    assert words(tmp_path) == {"outcome"}


async def test_without_a_reserve_a_full_disk_is_told_to_all(tmp_path: Path) -> None:
    connection = open_writer(tmp_path)

    def faults(point: str) -> None:
        if point == "before_commit":
            raise _failure(FULL, "database or disk is full")

    writer = Writer(connection, inline=True, faults=faults)
    for vital in (True, False):
        with pytest.raises(JournalFull):
            await writer.call(lambda connection: None, vital=vital)
    await writer.close()


async def test_the_wal_is_folded_in_while_it_is_written(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "CHECKPOINT_CALLS", 10)
    for i in range(30):
        await writer.call(say(f"w{i}"))
    await writer.close()
    assert writer.stats.checkpoints >= 2
    wal = tmp_path / "journal.db-wal"
    assert not wal.exists() or wal.stat().st_size == 0


async def test_a_checkpoint_that_fails_is_tried_again_and_fails_nobody(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "CHECKPOINT_CALLS", 1)
    failures = [_failure(5, "database is locked")]

    def faults(point: str) -> None:
        if point == "before_checkpoint" and failures:
            raise failures.pop()

    writer.faults = faults
    await writer.call(say("a"))
    await writer.call(say("b"))
    await writer.close()
    assert writer.stats.checkpoints >= 1


async def test_what_waits_at_the_end_is_written(writer: Writer, tmp_path: Path) -> None:
    asked = [asyncio.ensure_future(writer.call(say(f"w{i}"))) for i in range(30)]
    await asyncio.sleep(0)
    await writer.close()
    await asyncio.gather(*asked)
    assert words(tmp_path) == {f"w{i}" for i in range(30)}
    with pytest.raises(JournalError, match="closed"):
        await writer.call(say("late"))
