"""Disks that are full or fail: nothing acknowledged is lost, what is refused is not stored."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from resubmit.errors import JournalError, JournalFull
from resubmit.journal.connection import sqlite3
from resubmit.journal.door import Journal
from resubmit.journal.settings import JournalSettings
from resubmit.journal.verbs import Begun
from resubmit.model.recipient import State
from tests.helpers.journals import HandClock, arrival, ended, offer, state


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


def limit_pages(journal: Journal, more: int) -> None:
    """The database may grow by so many pages; SQLite says FULL beyond."""
    (now,) = journal._connection.execute("pragma page_count").fetchone()
    journal._connection.execute(f"pragma max_page_count = {now + more}")


@pytest.mark.parametrize("inline", [True, False])
async def test_a_full_disk_refuses_new_mail_and_loses_none(tmp_path: Path, inline: bool) -> None:
    journal = await Journal.open(tmp_path / "j", clock=HandClock(), inline=inline)
    octets = os.urandom(50_000)
    limit_pages(journal, 200)
    answers = await asyncio.gather(
        *(journal.record(arrival(octets=octets)) for _ in range(40)), return_exceptions=True
    )
    kept = [answer for answer in answers if isinstance(answer, int)]
    refused = [answer for answer in answers if not isinstance(answer, int)]
    assert refused
    assert all(isinstance(answer, JournalFull) for answer in refused)
    while True:
        try:
            kept.append(await journal.record(arrival(octets=os.urandom(3000))))
        except JournalFull:
            break
    limit_pages(journal, 1_000_000)
    kept.append(await journal.record(arrival(octets=octets)))
    await journal.close()
    journal = await Journal.open(tmp_path / "j", clock=HandClock(), inline=True)
    assert len(await journal.due("eop", HandClock().now(), 1000)) == len(kept)
    for message in kept:
        assert (await journal.body(message)).octets is not None
    await journal.close()


async def test_a_failed_sync_is_told_once_and_nothing_is_promised_after(tmp_path: Path) -> None:
    failing = False

    def faults(point: str) -> None:
        if failing and point == "before_commit":
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = 10 | 4 << 8  # SQLITE_IOERR_FSYNC
            raise error

    journal = await Journal.open(tmp_path / "j", clock=HandClock(), faults=faults)
    told: list[BaseException] = []
    journal.on_fatal = told.append
    kept = await journal.record(arrival())
    failing = True
    answers = await asyncio.gather(*(journal.record(arrival()) for _ in range(30)), return_exceptions=True)
    assert all(isinstance(answer, JournalError) for answer in answers)
    failing = False
    with pytest.raises(JournalError, match="stopping"):
        await journal.record(arrival())
    assert len(told) == 1
    await journal.close()
    journal = await Journal.open(tmp_path / "j", clock=HandClock(), inline=True)
    assert [due.message for due in await journal.due("eop", HandClock().now(), 100)] == [kept]
    await journal.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=False).returncode:
        pytest.skip("a small disk can't be mounted here")
    yield folder
    subprocess.run([umount, "-l", folder], check=True)


async def test_a_journal_on_a_full_disk_opens_in_its_reserve(small_disk: Path) -> None:
    settings = JournalSettings.model_validate({"attempt_floor": "1B", "reserve": "2MiB"})
    journal = await Journal.open(small_disk / "j", clock=HandClock(), settings=settings)
    kept = await journal.record(arrival())
    await journal.close()
    with pytest.raises(OSError, match="No space"), (small_disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    journal = await Journal.open(small_disk / "j", clock=HandClock(), settings=settings)
    assert (await journal.body(kept)).octets is not None
    await journal.close()


async def test_on_a_disk_that_is_really_full_outcomes_still_fit(small_disk: Path) -> None:
    settings = JournalSettings.model_validate(
        {"intake_floor": "1B", "attempt_floor": "1B", "reserve": "2MiB"}
    )
    filler = small_disk / "filler"
    filler.write_bytes(b"\0" * 2 * 1024 * 1024)
    journal = await Journal.open(small_disk / "j", clock=HandClock(), settings=settings)
    first = await journal.record(arrival())
    begun = await journal.begin(offer(first))
    assert isinstance(begun, Begun)
    kept, octets = [first], os.urandom(60_000)
    for size in (60_000, 1_000):
        while True:
            try:
                kept.append(await journal.record(arrival(octets=octets[:size])))
            except JournalFull:
                break
    assert (small_disk / "j" / "reserve").exists()
    await journal.end(ended(begun))
    assert await state(journal, first) is State.ACCEPTED
    with pytest.raises(JournalFull):
        spool = journal.new_spool()
        while True:
            await spool.write(os.urandom(200_000))
    await spool.discard()
    await journal.close()
    filler.unlink()
    journal = await Journal.open(small_disk / "j", clock=HandClock(), settings=settings, inline=True)
    assert await state(journal, first) is State.ACCEPTED
    for message in kept:
        assert (await journal.body(message)).octets is not None
    await journal.close()
