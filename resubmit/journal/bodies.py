"""Message bytes: small ones travel with their row, large ones stream to a file each.

Promises: `finish` of a large body returns only when its bytes, its name and its folder are on the disk, so
the row that names it comes after; a body is never whole in memory once it is larger than INLINE_LIMIT; what
a crash leaves behind (a temporary file, a file without a row) is swept at the next start.
Source: rename is durable only once its folder is synced (fsync(2)).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

from resubmit.errors import JournalError, JournalFull, JournalUnreadable
from resubmit.model.message import INLINE_LIMIT, Body

T = TypeVar("T")

BODIES = "bodies"
"""The folder of large bodies in the journal's folder."""

CHUNK = 64 * 1024
"""How much is read at once."""

_PENDING = ".part"  # a body that is still arriving
_NOTHING = hashlib.sha256()  # a copy of it is cheaper than a new one
_WRITE_AT = 256 * 1024  # what a large body holds back before it goes to the disk


class Bodies:
    """The folder of large bodies. `inline`: disk work in the calling thread, for simulated worlds."""

    def __init__(self, folder: Path, *, inline: bool = False, faults: Callable[[str], None] | None = None):
        self.folder = folder / BODIES
        self._inline = inline
        self._faults = faults or (lambda point: None)

    def make(self) -> None:
        """The folder is there, for us only."""
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise JournalUnreadable(f"{self.folder} can't be made: {error.strerror}") from error

    def new_spool(self) -> FileSpool:
        """Where one message's bytes go while they arrive."""
        return FileSpool(self)

    async def run(self, work: Callable[[], T]) -> T:
        """Disk work off the loop. Raises JournalFull when there is no room, JournalError otherwise."""
        try:
            if self._inline:
                return work()
            return await asyncio.get_running_loop().run_in_executor(None, work)
        except OSError as error:
            if isinstance(error, JournalError):
                raise
            if error.errno in (28, 122):  # ENOSPC, EDQUOT
                raise JournalFull(
                    f"no room left in {self.folder}", hint="free some space on its disk"
                ) from error
            raise JournalError(f"{self.folder}: {error}") from error

    def fault(self, point: str) -> None:
        self._faults(point)

    async def read(self, body: Body) -> AsyncIterator[bytes]:
        """The bytes in chunks of 64 KiB. Raises JournalUnreadable when the file is gone or short."""
        if body.octets is not None:
            for start in range(0, len(body.octets), CHUNK):
                yield body.octets[start : start + CHUNK]
            return
        if body.file is None:
            raise JournalError("a body with neither octets nor file")
        path = self.folder / body.file
        try:
            file = await self.run(lambda: path.open("rb"))
        except JournalError as error:
            raise JournalUnreadable(f"body {path} can't be read: {error.message}") from error
        left = body.size
        try:
            while left > 0:
                chunk = await self.run(lambda: file.read(CHUNK))
                if not chunk:
                    raise JournalUnreadable(f"body {path} is {left} octets short")
                left -= len(chunk)
                yield chunk
        finally:
            file.close()

    def remove(self, names: list[str]) -> None:
        """Bodies whose rows are gone; one that is gone already is no error."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                (self.folder / name).unlink()

    def sweep(self, is_known: Callable[[list[str]], set[str]]) -> int:
        """Remove what no row names, at start, before anything arrives; returns how many files."""
        with os.scandir(self.folder) as entries:
            found = sorted(entry.name for entry in entries if entry.is_file())
        orphans: list[str] = []
        for start in range(0, len(found), 500):
            names = found[start : start + 500]
            known = is_known(names)
            orphans += [name for name in names if name not in known]
        self.remove(orphans)
        return len(orphans)


class FileSpool:
    """One message on its way in (intake.base.Spool): octets while it is small, then a file."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._pieces: list[bytes] = []
        self._held = 0  # octets in the pieces
        self._digest = _NOTHING.copy()
        self._size = 0
        self._file: int | None = None
        self._name = ""

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes. Raises JournalFull or JournalError when the disk won't."""
        self._pieces.append(chunk)
        self._held += len(chunk)
        self._size += len(chunk)
        if self._held > (INLINE_LIMIT if self._file is None else _WRITE_AT):
            held = self._take()
            await self._bodies.run(lambda: self._append(held))

    def _take(self) -> bytes:
        held = b"".join(self._pieces)
        self._pieces.clear()
        self._held = 0
        return held

    def _append(self, octets: bytes) -> None:
        if self._file is None:
            self._name = secrets.token_hex(16)
            self._file = os.open(
                self._bodies.folder / (self._name + _PENDING),
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
                0o600,
            )
        self._bodies.fault("before_body_write")
        self._digest.update(octets)
        view = memoryview(octets)
        while view:
            view = view[os.write(self._file, view) :]

    async def finish(self) -> Body:
        """The whole message. When it is a file, it is durable under its name."""
        if self._file is None:
            octets = self._take()
            return Body(self._size, hashlib.sha256(octets).digest(), octets)
        held = self._take()
        await self._bodies.run(lambda: self._settle(held))
        return Body(self._size, self._digest.digest(), None, self._name)

    def _settle(self, rest: bytes) -> None:
        assert self._file is not None
        self._append(rest)
        self._bodies.fault("before_body_sync")
        os.fsync(self._file)
        os.close(self._file)
        self._file = None
        folder = self._bodies.folder
        self._bodies.fault("before_body_rename")
        (folder / (self._name + _PENDING)).rename(folder / self._name)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        self._bodies.fault("after_body_rename")

    async def discard(self) -> None:
        """Nothing of it stays, whether it was finished or not."""
        self._take()
        if self._name:
            await self._bodies.run(self._drop)

    def _drop(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._bodies.remove([self._name, self._name + _PENDING])
