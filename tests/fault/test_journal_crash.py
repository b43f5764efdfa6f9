"""Processes that die: at every lettered point of a message's way, and by kill -9 under load."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from resubmit.journal import read
from resubmit.journal.door import Journal
from resubmit.model.recipient import State
from tests.helpers import crash
from tests.helpers.journals import NOW, HandClock, state


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


async def reopened(folder: Path) -> Journal:
    return await Journal.open(folder, clock=HandClock(), inline=True)


def promises(lines: list[str], word: str) -> list[list[str]]:
    return [line.split()[1:] for line in lines if line.startswith(word + " ") and line.endswith("\n")]


async def check(journal: Journal, lines: list[str]) -> int:
    """Everything that was promised is there, byte for byte; how many messages that were."""
    kept = promises(lines, "record")
    for message, digest in kept:
        body = await journal.body(int(message))
        octets = b"".join([chunk async for chunk in journal.read_body(body)])
        assert hashlib.sha256(octets).hexdigest() == digest
        assert body.digest.hex() == digest
    for _, message in promises(lines, "end"):
        assert await state(journal, int(message)) is State.ACCEPTED
    with read.connect(journal.folder) as connection:
        assert connection.execute("pragma quick_check").fetchone()[0] == "ok"
        assert connection.execute("pragma foreign_key_check").fetchall() == []
    return len(kept)


async def test_nothing_promised_is_lost_to_twenty_kills_under_load(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    chance = random.Random(7)
    everything: list[str] = []
    kills = 20
    for number in range(kills):
        process = crash.run(folder, "load", str(number * 10_000_000))
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(chance.randint(2, 80))]
        assert lines[0] == "open\n"
        os.kill(process.pid, signal.SIGKILL)
        lines += process.stdout.readlines()
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        everything += lines
        if number % 5 == 4:
            journal = await reopened(folder)
            assert await check(journal, everything) > 0
            begun = {message for _, message in promises(everything, "begin")}
            ended = {message for _, message in promises(everything, "end")}
            await journal.adopt_orphans(NOW)
            for message in begun - ended:
                # Ended and answered, but killed before the line was out: then it is accepted.
                assert await state(journal, int(message)) in (State.IN_DOUBT, State.ACCEPTED)
            await journal.close()
    files = {path.name for path in (folder / "bodies").iterdir()}
    with read.connect(folder) as connection:
        named = {
            name for (name,) in connection.execute("select body_file from message where body_file <> ''")
        }
    assert files == named


# What the next start finds, by the point at which the process died: is the message there, and how does it
# stand once orphans were adopted. Letters: docs/flow.md.
POINTS = [
    ("A", "record", "before_begin", None),
    ("A", "record", "before_commit", None),
    ("B", "record", "after_commit", State.JOURNALED),
    ("A", "record", "before_body_write", None),
    ("A", "record", "before_body_sync", None),
    ("A", "record", "before_body_rename", None),
    ("A", "record", "after_body_rename", None),
    ("C", "begin", "before_commit", State.JOURNALED),
    ("C", "begin", "after_commit", State.IN_DOUBT),
    ("D, E", "hand", "before_commit", State.IN_DOUBT),
    ("F", "end", "before_commit", State.IN_DOUBT),
    ("F", "end", "after_commit", State.ACCEPTED),
    ("F", "observe", "before_commit", State.ACCEPTED),
    ("F", "observe", "after_commit", State.DEFERRED),
    ("G", "due", "before_commit", State.DEFERRED),
    ("G", "due", "after_commit", State.DEFERRED),
    ("G", "again", "before_commit", State.DEFERRED),
    ("G", "again", "after_commit", State.IN_DOUBT),
]


@pytest.mark.parametrize(
    ("letter", "step", "point", "stands"), POINTS, ids=[f"{a}-{b}-{c}" for a, b, c, _ in POINTS]
)
async def test_a_crash_leaves_all_or_nothing_of_a_step(
    tmp_path: Path, letter: str, step: str, point: str, stands: State | None
) -> None:
    folder = tmp_path / "journal"
    process = crash.run(folder, step, f"at={point}:1")
    lines = process.communicate()[0].splitlines(keepends=True)
    assert process.returncode == crash.CRASHED
    journal = await reopened(folder)
    await check(journal, lines[:2] if step != "record" else lines)
    orphans = await journal.adopt_orphans(NOW)
    with read.connect(folder) as connection:
        found = [State(word) for (word,) in connection.execute("select state from recipient")]
        due = connection.execute("select count(*) from recipient where due_at is not null").fetchone()[0]
    assert found == ([] if stands is None else [stands])
    assert orphans == (stands is State.IN_DOUBT)
    ours_to_send = stands is State.JOURNALED or (step, point) == ("due", "after_commit") or step == "again"
    assert due == (1 if ours_to_send and stands is not State.IN_DOUBT else 0)
    assert list((folder / "bodies").iterdir()) == []
    await journal.close()


async def test_the_answer_comes_after_the_sync_and_the_sync_after_the_write(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        if os.environ.get("CI") == "true":
            pytest.fail("strace is needed to prove the order of write, sync and answer")
        pytest.skip("strace is not installed: the order of write, sync and answer is not proved here")
    trace = tmp_path / "trace"
    calls = "trace=write,pwrite64,fsync,fdatasync,rename"
    under = (strace, "-f", "-y", "-s", "16", "-o", str(trace), "-e", calls)
    process = crash.run(tmp_path / "journal", "hand", "at=body:9", under=under)
    lines = process.communicate()[0].splitlines(keepends=True)
    assert process.returncode == crash.CRASHED
    assert len(promises(lines, "record")) == 1
    steps = list(_steps(trace.read_text("utf-8", "replace")))
    opened = steps.index(("answer", "open"))
    recorded = steps.index(("answer", "record"))
    between = [what for what, _ in steps[opened:recorded] if what.startswith(("body", "wal", "folder"))]
    order = [what for what, before in zip(between, [None, *between], strict=False) if what != before]
    body, _, wal = "body write,body sync,body rename,folder sync", "", "wal write,wal sync"
    assert ",".join(order) == f"{body},{wal}"


def _steps(trace: str) -> Iterator[tuple[str, str]]:
    """What a trace shows of bodies, the WAL and the answers, each when it began."""
    for line in trace.splitlines():
        if found := re.search(r"\bwrite\(1<[^>]*>, \"(\w+)", line):
            yield "answer", found[1]
        elif re.search(r"\bwrite\(\d+<[^>]*/bodies/[^>]*>", line):
            yield "body write", ""
        elif re.search(r"\bf(data)?sync\(\d+<[^>]*/bodies/[^>]*>", line):
            yield "body sync", ""
        elif re.search(r"\bf(data)?sync\(\d+<[^>]*/bodies>", line):
            yield "folder sync", ""
        elif re.search(r"\brename\(.*/bodies/", line):
            yield "body rename", ""
        elif re.search(r"\bpwrite64\(\d+<[^>]*-wal>", line):
            yield "wal write", ""
        elif re.search(r"\bf(data)?sync\(\d+<[^>]*-wal>", line):
            yield "wal sync", ""
