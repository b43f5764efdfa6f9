"""A full disk is waited for; every other error is its caller's at once."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from resubmit import logbook
from resubmit.errors import JournalError, JournalFull
from resubmit.flow import room


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "AGAIN", 1)


class Disk:
    """Full for so many writes."""

    def __init__(self, full: int) -> None:
        self.full = full
        self.asked = 0

    async def write(self) -> str:
        self.asked += 1
        if self.asked <= self.full:
            raise JournalFull("no room left")
        return "written"

    async def run(self) -> None:
        await self.write()


async def test_what_is_to_be_written_is_written_once_there_is_room_and_the_wait_is_said_once() -> None:
    disk = Disk(3)
    with capture_logs() as logs:
        assert await room.with_room(disk.write, "deliver") == "written"
    assert disk.asked == 4
    assert [(one["event"], one["loop"]) for one in logs] == [(logbook.JOURNAL_FOUND_FULL, "deliver")]


async def test_a_loop_starts_anew_after_each_full_disk() -> None:
    disk = Disk(2)
    with capture_logs() as logs:
        await room.run_with_room(disk.run, "watch")
    assert disk.asked == 3
    assert [one["reason"] for one in logs] == ["no room left"] * 2


@pytest.mark.parametrize("error", [JournalError("broken"), KeyError("a bug")])
async def test_any_other_error_ends_it_as_it_is(error: Exception) -> None:
    async def fails() -> None:
        raise error

    with pytest.raises(type(error)):
        await room.with_room(fails, "deliver")
    with pytest.raises(type(error)):
        await room.run_with_room(fails, "watch")
