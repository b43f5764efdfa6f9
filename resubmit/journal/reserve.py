"""Room on the disk: the floors, and a preallocated file that is given up when outcomes find no room.

Source: design, section 5 (Storage): `intake_floor` above `attempt_floor` above the reserve.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import structlog

from resubmit import logbook

RESERVE = "reserve"
"""The reserve file's name in the journal's folder."""


@dataclass(frozen=True, slots=True)
class Floors:
    """Whether there is room: `intake` for new mail, `attempts` for new attempts."""

    intake: bool
    attempts: bool


class Reserve:
    """`size` octets kept on the journal's disk, so that the outcome of an open attempt can be written."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._path = folder / RESERVE
        self._size = size
        self._given_up = False

    def keep(self, above: int = 0) -> bool:
        """The reserve is there again, if that leaves `above` octets free; says whether it is."""
        with contextlib.suppress(OSError):
            if self._path.exists() and self._path.stat().st_size >= self._size:
                return True
            if self.free() < self._size + above:
                return False
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(file, 0, max(self._size, 1))
            finally:
                os.close(file)
            return True
        with contextlib.suppress(OSError):
            self._path.unlink()  # half a reserve only takes room
        return False

    def keep_if(self, free: int, above: int) -> None:
        """Take the reserve back once there is room for it again and `above` beside it."""
        if self._given_up and free >= self._size + above:
            self._given_up = not self.keep(above)

    def give_up(self) -> bool:
        """The reserve's room is free; False when there was none. Called on the writer's thread."""
        try:
            self._path.unlink()
        except OSError:
            return False
        self._given_up = True
        structlog.get_logger().error(logbook.JOURNAL_RESERVE_GIVEN_UP, octets=self._size)
        return True

    def free(self) -> int:
        """Free octets on the journal's disk, for us; the reserve does not count as free."""
        return shutil.disk_usage(self._folder).free
