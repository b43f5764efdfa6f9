"""One process writes a journal: whoever holds this lock.

Promises: the lock ends with its process, however that ends (flock). Limits: not for network file systems
that don't carry flock between hosts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from resubmit.errors import JournalLocked, JournalUnreadable, NotPermitted

LOCK = "lock"
"""The lock file's name in the journal's folder; the holder's process id stands in it."""


class Lock:
    """The journal's lock, held from `take` to `release`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._file: int | None = None

    def take(self) -> None:
        """Hold the lock. Raises JournalLocked that names the process that has it, NotPermitted."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except (FileExistsError, NotADirectoryError) as error:
            raise JournalUnreadable(
                f"{self._path.parent} is not a folder", hint="set [journal] path to one, or to a new name"
            ) from error
        except PermissionError as error:
            raise NotPermitted(
                f"{self._path}: this user may not write the journal", hint="run it as the service's user"
            ) from error
        except OSError as error:
            raise JournalUnreadable(
                f"{self._path} can't be opened: {error.strerror}", hint="look at the folder's owner and mode"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(file, 32).decode("ascii", "replace").strip()
            os.close(file)
            raise JournalLocked(
                f"{self._path.parent} is being written by process {holder or '(unknown)'}",
                hint="one process writes a journal: ask the running service, or stop it first",
                holder=holder,
            ) from None
        # Written over what stood there, never cut first: on a full disk the file keeps its block. Who holds
        # it is only told, never relied on.
        with contextlib.suppress(OSError):
            os.pwrite(file, f"{os.getpid():<20}\n".encode(), 0)
        self._file = file

    def release(self) -> None:
        """Let it go; a second call does nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
