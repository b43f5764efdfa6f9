"""Mails that are to be read and not handed on (bounces, reports): a file each, in a folder that is watched.

Promises: `keep` returns only when the bytes, the name and the folder are on the disk; the bytes are what
was received. What a crash leaves unfinished bears a name that no reader looks at.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from resubmit.journal.bodies import Bodies
from resubmit.model.message import Body
from resubmit.model.moment import Ms

FOLDER = "reports"
"""The folder in the journal's folder."""

_PENDING = ".part"
_ENDING = ".eml"


class ReportMails:
    """The folder of mails that are read. `bodies`: where large ones arrived."""

    def __init__(self, folder: Path, bodies: Bodies) -> None:
        self.folder = folder / FOLDER
        self._bodies = bodies

    async def keep(self, body: Body, at: Ms) -> str:
        """Its bytes are on the disk; returns its name. Raises JournalFull, JournalError."""
        name = f"{at}-{secrets.token_hex(6)}"
        pending = self.folder / (name + _PENDING)
        file = await self._bodies.run(lambda: self._begin(pending))
        try:
            async for chunk in self._bodies.read(body):
                await self._bodies.run(lambda chunk=chunk: _write(file, chunk))  # type: ignore[misc]
            await self._bodies.run(lambda: os.fsync(file))
        finally:
            os.close(file)
        await self._bodies.run(lambda: self._settle(pending, self.folder / (name + _ENDING)))
        return name

    async def prune(self, before: Ms) -> int:
        """Remove those received before; how many. What they said stays as evidence."""
        return await self._bodies.run(lambda: self._prune(before))

    def _begin(self, path: Path) -> int:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def _settle(self, pending: Path, name: Path) -> None:
        self._bodies.fault("before_report_rename")
        pending.rename(name)
        for folder in (self.folder, self.folder.parent):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def _prune(self, before: Ms) -> int:
        count = 0
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                received = entry.name.partition("-")[0]
                if entry.name.endswith((_ENDING, _PENDING)) and received.isdigit() and int(received) < before:
                    with suppress(FileNotFoundError):
                        (self.folder / entry.name).unlink()
                        count += 1
        return count


def _write(file: int, octets: bytes) -> None:
    view = memoryview(octets)
    while view:
        view = view[os.write(file, view) :]
