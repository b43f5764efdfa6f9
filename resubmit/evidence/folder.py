"""A watched folder: which of its files are to be read now. The truth is the rescan; wakes only hasten it.

`Folder.rescan` is pure: listings in, what is ready out. A file is ready once its size and time have stood
still; it is read again when they change, and what was read before is known by its content's digest, so
renames and copies cost a digest and nothing else. `look`, `fingerprint` and `open_entry` are the only I/O.

Promises: nothing in the folder breaks the loop: what is no file, leads out, can't be opened or is too large
is refused once, with a reason. A folder that is gone is an empty one until it is there again.

Source: dependencies.md section 1, watchdog; issue 3, point 5.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from resubmit.evidence.reader import FILE_LIMIT, open_regular
from resubmit.model.moment import Ms

SOURCE = "file"
"""The cursors' source: what was read of a content, wherever it lies, is read."""

_DEPTH = 8
_MOST = 100_000
_PARTIAL = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".download", ".swp", ".filepart", "~")
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A file as a listing shows it. name: relative to the folder, with `/`; problem: why it can't be read,
    "" when nothing speaks against it."""

    name: str
    size: int
    mtime_ns: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Scan:
    """What a rescan found. ready: to be read now, the oldest first; refused: newly set aside; again_in:
    when something may be ready that is not yet, None for no such thing."""

    ready: tuple[Entry, ...]
    refused: tuple[Entry, ...]
    again_in: Ms | None


@dataclass(slots=True)
class _Seen:
    entry: Entry
    since: Ms
    done: bool = False


@dataclass(slots=True)
class Folder:
    """The memory of one folder. still: how long a file has to stand still, in ms of monotonic time."""

    still: Ms
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def rescan(self, listing: Iterable[Entry] | None, now: Ms) -> Scan:
        """Compare a listing with the last one. `now` is monotonic; None: the folder is not there."""
        ready: list[Entry] = []
        refused: list[Entry] = []
        waits: list[Ms] = []
        present: dict[str, _Seen] = {}
        for entry in listing or ():
            if is_ignored(entry.name):
                continue
            seen = self._seen.get(entry.name)
            if seen is None or seen.entry != entry:
                seen = _Seen(entry, now)
            present[entry.name] = seen
            if seen.done:
                continue
            if entry.problem:
                seen.done = True
                refused.append(entry)
            elif (stood := now - seen.since) >= self.still:
                ready.append(entry)
            else:
                waits.append(self.still - stood)
        self._seen = present
        ready.sort(key=lambda entry: (entry.mtime_ns, entry.name))
        return Scan(tuple(ready), tuple(refused), min(waits, default=None))

    def done(self, entry: Entry) -> None:
        """It was read, known or refused as it stood; a later change makes it new."""
        seen = self._seen.get(entry.name)
        if seen is not None and seen.entry == entry:
            seen.done = True


def is_ignored(name: str) -> bool:
    """Whether a name says that it is hidden or not finished."""
    last = name.rpartition("/")[2].lower()
    return last.startswith((".", "~")) or last.endswith(_PARTIAL) or name.startswith(".") or "/." in name


def look(root: Path) -> list[Entry] | None:
    """The files under a folder; None when it is not there or can't be listed. Blocking; never raises."""
    try:
        base = root.resolve(strict=True)
        if not base.is_dir():
            return None
    except (OSError, RuntimeError, ValueError):
        return None
    entries: list[Entry] = []
    folders = [(base, "", 0)]
    first = True
    while folders and len(entries) < _MOST:
        folder, prefix, depth = folders.pop()
        try:
            with os.scandir(folder) as found:
                items = list(islice(found, _MOST))
                # A Maildir's mails arrive in `tmp`, and are whole once they are moved to `new`.
                is_maildir = {"cur", "new", "tmp"} <= {item.name for item in items}
                for item in items:
                    name = f"{prefix}{item.name}"
                    if item.is_dir(follow_symlinks=False):
                        if is_ignored(name) or (is_maildir and item.name == "tmp"):
                            continue
                        if depth < _DEPTH:
                            folders.append((Path(item.path), f"{name}/", depth + 1))
                        else:
                            entries.append(Entry(name, 0, 0, "the folders are nested too deep"))
                    else:
                        entries.append(_entry(base, item, name))
                    if len(entries) >= _MOST:
                        break
        except OSError as error:
            if first:
                return None
            entries.append(Entry(prefix.rstrip("/"), 0, 0, f"the folder can't be listed: {error.strerror}"))
        first = False
    return entries


def _entry(base: Path, item: os.DirEntry[str], name: str) -> Entry:
    try:
        about = item.stat(follow_symlinks=False)
        if stat.S_ISLNK(about.st_mode):
            target = Path(item.path).resolve(strict=True)
            if not target.is_relative_to(base):
                return Entry(name, 0, about.st_mtime_ns, "it is a link that leads out of the folder")
            about = target.stat()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Entry(name, 0, 0, f"it can't be looked at: {reason}")
    problem = ""
    if not stat.S_ISREG(about.st_mode):
        problem = "it is not a file"
    elif about.st_size > FILE_LIMIT:
        problem = "it is larger than any trace"
    return Entry(name, about.st_size, about.st_mtime_ns, problem)


def shown_name(root: Path, entry: Entry) -> str:
    """How a file is called in evidence and on the screen: its path, undecodable bytes replaced."""
    return str(root / entry.name).encode("utf-8", "replace").decode("utf-8")


def open_entry(root: Path, entry: Entry) -> BinaryIO:
    """The file of an entry, opened for reading. Raises OSError when it changed into something else."""
    path = (root / entry.name).resolve(strict=True)
    if not path.is_relative_to(root.resolve(strict=True)):
        raise OSError("it leads out of the folder")
    return open_regular(path)


def fingerprint(stream: BinaryIO) -> str:
    """The digest of a file's content, by which it is known wherever it lies. Blocking; raises OSError."""
    stream.seek(0)
    hashed = hashlib.blake2b(digest_size=20)
    while chunk := stream.read(_CHUNK):
        hashed.update(chunk)
    stream.seek(0)
    return hashed.hexdigest()
