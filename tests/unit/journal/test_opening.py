"""Opening: one process, one version, a file that is whole, room on the disk."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from resubmit.errors import JournalError, JournalLocked, JournalUnreadable, NotPermitted
from resubmit.journal import opened as opening
from resubmit.journal.connection import DATABASE, is_sound, open_reader, sqlite3
from resubmit.journal.door import Journal
from resubmit.journal.reserve import Reserve
from resubmit.journal.settings import JournalSettings
from tests.helpers.journals import HandClock, arrival


async def test_a_second_open_is_refused_and_says_who_has_it(journal: Journal, clock: HandClock) -> None:
    with pytest.raises(JournalLocked, match=str(os.getpid())) as refused:
        await Journal.open(journal.folder, clock=clock, inline=True)
    assert refused.value.exit_code == 6
    assert "running service" in refused.value.hint


async def test_a_closed_journal_can_be_opened_again(tmp_path: Path, clock: HandClock) -> None:
    for _ in range(2):
        journal = await Journal.open(tmp_path / "j", clock=clock, inline=True)
        await journal.close()
        await journal.close()
        with pytest.raises(JournalError, match="closed"):
            await journal.record(arrival())


async def test_a_lock_left_by_a_dead_process_is_free(tmp_path: Path, clock: HandClock) -> None:
    (tmp_path / "j").mkdir()
    (tmp_path / "j" / "lock").write_text("1\n")
    journal = await Journal.open(tmp_path / "j", clock=clock, inline=True)
    await journal.close()


@pytest.mark.parametrize("inline", [True, False])
async def test_both_ways_of_running_answer_alike(tmp_path: Path, clock: HandClock, inline: bool) -> None:
    journal = await Journal.open(tmp_path / "j", clock=clock, inline=inline)
    messages = await asyncio.gather(*(journal.record(arrival()) for _ in range(50)))
    assert len(await journal.due("eop", clock.now(), 100)) == 50
    assert messages == sorted(set(messages))
    await journal.close()
    with capture_logs():
        journal = await Journal.open(tmp_path / "j", clock=clock, inline=not inline)
    assert await journal.message(messages[0]) is not None
    await journal.close()


async def test_a_damaged_file_is_said_to_be(tmp_path: Path, clock: HandClock) -> None:
    folder = tmp_path / "j"
    folder.mkdir()
    (folder / DATABASE).write_bytes(b"not a database, but long enough to look like one\n" * 100)
    with pytest.raises(JournalUnreadable, match="damaged"):
        await Journal.open(folder, clock=clock, inline=True)
    (folder / DATABASE).unlink()
    journal = await Journal.open(folder, clock=clock, inline=True)
    await journal.close()


async def test_pages_that_were_overwritten_are_said_to_be_damage(tmp_path: Path, clock: HandClock) -> None:
    journal = await Journal.open(tmp_path / "j", clock=clock, inline=True)
    messages = [await journal.record(arrival()) for _ in range(300)]
    await journal.close()
    path = tmp_path / "j" / DATABASE
    with path.open("r+b") as file:
        for page in range(8, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xa5" * 4096)
    with pytest.raises(JournalUnreadable):
        journal = await Journal.open(tmp_path / "j", clock=clock, inline=True)
        try:
            for message in messages:
                await journal.body(message)
        finally:
            await journal.close()


async def test_a_newer_journal_is_refused_and_left_alone(tmp_path: Path, clock: HandClock) -> None:
    journal = await Journal.open(tmp_path / "j", clock=clock, inline=True)
    await journal.close()
    connection = sqlite3.connect(tmp_path / "j" / DATABASE)
    connection.execute("pragma user_version = 99")
    connection.close()
    for _ in range(2):
        with pytest.raises(JournalUnreadable, match="99"):
            await Journal.open(tmp_path / "j", clock=clock, inline=True)


async def test_a_folder_that_is_not_ours_is_not_permitted(
    tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Played, since root may write anywhere."""

    def forbidden(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", forbidden)
        with pytest.raises(NotPermitted, match="may not write"):
            await Journal.open(tmp_path / "j", clock=clock, inline=True)


async def test_a_file_where_the_folder_should_be_is_said_to_be(tmp_path: Path, clock: HandClock) -> None:
    (tmp_path / "j").write_text("")
    with pytest.raises(JournalUnreadable):
        await Journal.open(tmp_path / "j", clock=clock, inline=True)


def test_there_is_nothing_to_read_where_no_journal_is(tmp_path: Path) -> None:
    with pytest.raises(JournalUnreadable, match="there is no journal"):
        open_reader(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("version", "sound"),
    [
        ("3.40.1", False),
        ("3.44.5", False),
        ("3.44.6", True),
        ("3.45.0", False),
        ("3.50.6", False),
        ("3.50.7", True),
        ("3.51.2", False),
        ("3.51.3", True),
        ("3.53.4", True),
        ("4.0.0", True),
    ],
)
def test_the_wal_reset_fix_is_known_by_version(version: str, sound: bool) -> None:
    assert is_sound(version) is sound


# ── room ────────────────────────────────────────────────────────────────────────────────────────────


async def test_floors_follow_the_disk(
    journal: Journal, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = journal.settings.intake_floor
    monkeypatch.setattr(Reserve, "free", lambda self: free)
    assert (journal.floors().intake, journal.floors().attempts) == (True, True)
    free = journal.settings.attempt_floor
    assert journal.floors().intake, "looked up once a second"
    clock.pass_(1000)
    assert (journal.floors().intake, journal.floors().attempts) == (False, True)
    free -= 1
    clock.pass_(1000)
    assert (journal.floors().intake, journal.floors().attempts) == (False, False)
    assert journal.free_space() == free


async def test_a_backlog_stops_intake(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "QUEUE_OCTETS", 1000)
    asked = [asyncio.ensure_future(journal.record(arrival())) for _ in range(3)]
    await asyncio.sleep(0)
    assert not journal.floors().intake
    await asyncio.gather(*asked)
    assert journal.floors().intake


async def test_the_reserve_is_kept_given_up_and_taken_back(
    tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = JournalSettings.model_validate({"reserve": "1MiB"})
    journal = await Journal.open(tmp_path / "j", clock=clock, settings=settings, inline=True)
    reserve = tmp_path / "j" / "reserve"
    assert reserve.stat().st_size == 1024 * 1024
    assert reserve.stat().st_blocks * 512 >= 1024 * 1024
    with capture_logs() as logs:
        assert journal._reserve.give_up()
        assert not journal._reserve.give_up()
    assert [line["event"] for line in logs] == ["journal.reserve_given_up"]
    assert not reserve.exists()
    monkeypatch.setattr(Reserve, "free", lambda self: settings.attempt_floor)
    journal.floors()
    assert not reserve.exists()
    monkeypatch.undo()
    clock.pass_(1000)
    journal.floors()
    assert reserve.exists()
    await journal.close()
