"""Message bytes: small ones in the row, large ones in a durable file, never changed, never left over."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from resubmit.errors import JournalFull, JournalUnreadable
from resubmit.journal.bodies import Bodies
from resubmit.journal.door import Journal
from resubmit.model.message import INLINE_LIMIT, Body
from tests.helpers.journals import HandClock, arrival


@pytest_asyncio.fixture
async def bodies(tmp_path: Path) -> AsyncIterator[Bodies]:
    made = Bodies(tmp_path)
    made.make()
    yield made


async def spooled(bodies: Bodies | Journal, octets: bytes, chunk: int = 50_000) -> Body:
    spool = bodies.new_spool()
    for start in range(0, len(octets), chunk):
        await spool.write(octets[start : start + chunk])
    return await spool.finish()


@pytest.mark.parametrize("chunk", [1000, 65536, 10_000_000])
@pytest.mark.parametrize("size", [0, 1, INLINE_LIMIT - 1, INLINE_LIMIT, INLINE_LIMIT + 1, 700_000])
async def test_bytes_come_back_as_they_came(bodies: Bodies, size: int, chunk: int) -> None:
    octets = os.urandom(size)
    body = await spooled(bodies, octets, chunk)
    assert (body.size, body.digest) == (size, hashlib.sha256(octets).digest())
    assert (body.file is None) == (size <= INLINE_LIMIT)
    assert b"".join([part async for part in bodies.read(body)]) == octets


async def test_a_large_body_is_synced_renamed_and_its_folder_synced_before_finish_returns(
    bodies: Bodies, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def told_fsync(file: int) -> None:
        steps.append("sync folder" if Path(f"/proc/self/fd/{file}").resolve().is_dir() else "sync file")
        fsync(file)

    def told_rename(self: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", told_fsync)
    monkeypatch.setattr(Path, "rename", told_rename)
    await spooled(bodies, b"x" * 200_000)
    assert steps == ["sync file", "rename", "sync folder"]


async def test_body_files_are_the_owners_only(bodies: Bodies) -> None:
    body = await spooled(bodies, b"x" * 200_000)
    assert body.file is not None
    assert (bodies.folder / body.file).stat().st_mode & 0o777 == 0o600
    assert bodies.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("finished", [False, True])
async def test_a_discarded_body_leaves_nothing(bodies: Bodies, finished: bool) -> None:
    spool = bodies.new_spool()
    await spool.write(b"x" * 200_000)
    if finished:
        await spool.finish()
    await spool.discard()
    assert list(bodies.folder.iterdir()) == []


async def test_a_body_in_memory_never_grows_beyond_its_buffer(bodies: Bodies) -> None:
    spool = bodies.new_spool()
    for _ in range(400):
        await spool.write(b"x" * 20_000)
        assert spool._held <= 300_000
    assert (await spool.finish()).size == 8_000_000


async def test_no_room_is_said_as_such(tmp_path: Path) -> None:
    def faults(point: str) -> None:
        if point == "before_body_write":
            raise OSError(28, "No space left on device")

    bodies = Bodies(tmp_path, faults=faults)
    bodies.make()
    spool = bodies.new_spool()
    with pytest.raises(JournalFull):
        await spool.write(b"x" * 200_000)
    await spool.discard()
    assert list(bodies.folder.iterdir()) == []


async def test_a_body_that_is_gone_or_short_is_not_taken_for_whole(bodies: Bodies) -> None:
    body = await spooled(bodies, b"x" * 200_000)
    assert body.file is not None
    os.truncate(bodies.folder / body.file, 100_000)
    with pytest.raises(JournalUnreadable, match="short"):
        _ = [part async for part in bodies.read(body)]
    bodies.remove([body.file, body.file])
    with pytest.raises(JournalUnreadable, match="can't be read"):
        _ = [part async for part in bodies.read(body)]


async def test_files_without_a_row_are_swept_at_the_next_start(tmp_path: Path, clock: HandClock) -> None:
    journal = await Journal.open(tmp_path / "j", clock=clock, inline=True)
    octets = os.urandom(300_000)
    kept = await spooled(journal, octets)
    message = await journal.record(arrival(body=kept))
    await spooled(journal, octets)
    await journal.new_spool().write(octets)
    assert len(list((tmp_path / "j" / "bodies").iterdir())) == 3
    await journal.close()
    journal = await Journal.open(tmp_path / "j", clock=clock, inline=True)
    assert [path.name for path in (tmp_path / "j" / "bodies").iterdir()] == [kept.file]
    body = await journal.body(message)
    assert b"".join([part async for part in journal.read_body(body)]) == octets
    assert (await journal.header(message)) == octets[:65536].partition(b"\r\n\r\n")[0] + b"\r\n"
    await journal.close()
