"""A log that grows: which of its bytes are still to be read, over rotations, restarts and half lines.

`plan` is pure: how far a log was read and what lies in its folder → the pieces to read, in order. A log is
known by device and inode, and by its first bytes where a rotation copies or packs it, never by its name.

    renamed and made anew      the rest of the old file, then the new one
    copied and emptied         the rest from the copy, then the file from its start
    packed                     the rest from the unpacked copy
    rotated more than once     all that lie between, the oldest first

Promises: a line is given once it has its end; the last line of a file that no longer grows may lack one. What
was read before can be read again (evidence is idempotent), never the other way round.

Source: formats.md section 1.1 (rotation); logrotate(8); postlogd(8).
Limits: of packed files gzip, xz and bzip2; what was emptied without a copy before it was read is lost.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

from resubmit.evidence.kinds import kind
from resubmit.evidence.reader import open_regular
from resubmit.model.evidence import Evidence, Source
from resubmit.model.moment import MINUTE, SECOND, Ms, span_text

SOURCE = "log"
"""The cursors' source."""

HEAD = 512
"""Bytes a file is known by: the first lines of a log carry its times."""
_LONGEST = 1 << 20
"""A line without end that is longer is no line to wait for."""
_QUARTER: Ms = 15 * MINUTE
"""What all zones are multiples of."""
_NEARLY: Ms = 30 * SECOND
_SNIFFED = 64 * 1024
_MOST_SIBLINGS = 60
_PACKED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
_TOO_NEW = (".zst", ".lz4", ".zip")
_ROTATED = re.compile(r"[-._]?\d{1,14}(?:[-._T]\d{1,6})?")


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a log was read. head: digest of the first `sized` bytes of the file it was read in; offset: of
    the next byte there; memory: what the machine that read it knows."""

    device: int
    inode: int
    head: str
    sized: int
    offset: int
    mtime_ns: int
    memory: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A file as it lies in the folder. head: digest of as many bytes as the mark knows it by."""

    name: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    head: str
    packed: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """What is to be read of a file: from `start` to its end. ended: nothing will be added to it."""

    name: str
    start: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """The pieces in order. lost: the file that was being read is nowhere to be found any more."""

    pieces: tuple[Piece, ...]
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """What lies where a log is expected. problem: why it can't be read, "" when nothing speaks against it."""

    current: Found | None
    others: tuple[Found, ...] = ()
    problem: str = ""


def plan(mark: Mark | None, current: Found | None, others: Sequence[Found]) -> Plan:
    """What to read. mark: None where nothing was read yet; current: the file of the log's own name, None when
    it is not there; others: files that a rotation may have made of it. Pure."""
    if mark is None:
        return Plan((Piece(current.name, 0, ended=False),) if current else ())
    if current is not None and _is_file(mark, current) and _holds(mark, current):
        return Plan((Piece(current.name, mark.offset, ended=False),))
    same = [f for f in others if _is_file(mark, f) and _holds(mark, f)]
    copies = [f for f in others if mark.sized and _holds(mark, f)]
    old = next(iter(same or sorted(copies, key=lambda f: f.packed)), None)
    pieces = [Piece(old.name, mark.offset, ended=True)] if old else []
    between = {
        f.head if mark.sized else f.name: f
        for f in sorted(others, key=lambda f: not f.packed)
        if _is_between(mark, f, old)
    }
    pieces += [Piece(f.name, 0, ended=True) for f in sorted(between.values(), key=lambda f: f.mtime_ns)]
    if current is not None and (current.size or not pieces):
        pieces.append(Piece(current.name, 0, ended=False))
    elif pieces:  # whoever writes the log may still have the old file open
        pieces[-1] = replace(pieces[-1], ended=False)
    return Plan(tuple(pieces), lost=old is None and mark.offset > 0)


def _is_file(mark: Mark, found: Found) -> bool:
    return (mark.device, mark.inode) == (found.device, found.inode)


def _holds(mark: Mark, found: Found) -> bool:
    """Whether a file begins as the one that was read and is at least as long."""
    return found.head == mark.head and (found.packed or found.size >= mark.offset)


def _is_between(mark: Mark, found: Found, old: Found | None) -> bool:
    """Whether a file was written after the one that was being read, and is no copy of it."""
    if found is old or (mark.sized and found.head == mark.head):
        return False
    return found.mtime_ns > (mark.mtime_ns if old is None else old.mtime_ns)


def off_clock(observed_at: Ms | None, written_ns: int) -> str:
    """What to do when a log's last line says another time than its file was written at, by as much as zones
    differ; "" when it does not."""
    if observed_at is None:
        return ""
    off = written_ns // 1_000_000 - observed_at
    quarters = round(off / _QUARTER)
    if not quarters or abs(quarters) > 14 * 4 or abs(off - quarters * _QUARTER) > _NEARLY:
        return ""
    way = "behind" if off > 0 else "ahead of"
    span = span_text(abs(quarters) * _QUARTER)
    return f"its stamps are {span} {way} the time it is written at: set `timezone` to that of its stamps"


def is_same(mark: Mark, other: Mark) -> bool:
    """Whether two marks mean the same place."""
    return replace(mark, memory="", mtime_ns=0) == replace(other, memory="", mtime_ns=0)


def may_match(evidence: Evidence, since: Ms = 0) -> bool:
    """Whether a log's statement can ever be found to be about a mail of ours. since: before that we had none.

    What Postfix refused at its door has no name, our own attempt knows of it, and an open door sees thousands
    a day.
    """
    if evidence.observed_at is not None and evidence.observed_at < since:
        return False
    return evidence.source is not Source.POSTFIX_LOG or bool(evidence.queue_id)


def parse_mark(text: str | None) -> Mark | None:
    """A mark from a cursor; None for none, and for what is none."""
    try:
        fields = json.loads(text or "null")
        return Mark(**fields) if isinstance(fields, dict) else None
    except (ValueError, TypeError, RecursionError):
        return None


def mark_text(mark: Mark) -> str:
    """A mark as a cursor keeps it."""
    return json.dumps({name: getattr(mark, name) for name in Mark.__slots__}, separators=(",", ":"))


# ── what lies there ─────────────────────────────────────────────────────────────────────────────────────


def look(path: Path, mark: Mark | None) -> Look:
    """The log's file, and where that is not simply the one that was read, what a rotation may have made of
    it. Blocking; never raises."""
    sized = mark.sized if mark else 0
    current, problem = None, ""
    try:
        current = _found(path, sized)
    except FileNotFoundError:
        problem = "it is not there; it is read as soon as it is"
    except PermissionError:
        problem = _denied(path)
    except (OSError, EOFError, lzma.LZMAError, ValueError) as error:
        problem = f"it can't be read: {getattr(error, 'strerror', None) or error}"
    if mark is None or (current is not None and _is_file(mark, current) and _holds(mark, current)):
        return Look(current, (), problem)
    others, refused = [], ""
    for other in _siblings(path):
        try:
            others.append(_found(other, sized))
        except FileNotFoundError:
            continue
        except (OSError, EOFError, lzma.LZMAError, ValueError) as error:
            refused = refused or f"{other.name}, which it may have become, can't be read: {error}"
    if plan(mark, current, others).lost:
        problem = problem or refused
    return Look(current, tuple(others), problem)


def _found(path: Path, sized: int) -> Found:
    with open_log(path) as stream:
        about = path.stat()
        head = hashlib.blake2b(stream.read(sized), digest_size=16).hexdigest()
    return Found(
        str(path), about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, head, path.suffix in _PACKED
    )


def _denied(path: Path) -> str:
    try:
        about = path.stat()
        group: int | str = about.st_gid
        try:
            import grp

            group = grp.getgrgid(about.st_gid).gr_name
        except (ImportError, KeyError):
            pass
        if about.st_mode & stat.S_IRGRP:
            return (
                f"no permission to read it: add the service's user to the group {group}, and start it again"
            )
    except OSError:
        pass
    return f"no permission to read it: let the service's user read it (setfacl -m u:resubmit:r {path})"


def _siblings(path: Path) -> list[Path]:
    """Files that a rotation of this one may have made, the newest first."""
    stem, extension = path.stem, path.suffix
    found: list[tuple[int, Path]] = []
    try:
        with os.scandir(path.parent) as entries:
            for entry in entries:
                name = entry.name
                if name == path.name or not name.startswith(stem) or name.endswith(_TOO_NEW):
                    continue
                bare = next((name.removesuffix(end) for end in _PACKED if name.endswith(end)), name)
                behind, within = bare.removeprefix(path.name), bare.removeprefix(stem).removesuffix(extension)
                is_rotated = (
                    behind in ("", ".old") or _ROTATED.fullmatch(behind) or _ROTATED.fullmatch(within)
                )
                if is_rotated and entry.is_file(follow_symlinks=False):
                    found.append((entry.stat(follow_symlinks=False).st_mtime_ns, Path(entry.path)))
    except OSError:
        return []
    found.sort(key=lambda pair: -pair[0])
    return [other for _, other in found[:_MOST_SIBLINGS]]


def paths_of(path: Path, newer_than_ns: int, source: str) -> list[Path]:
    """The log itself; of a folder of logs those of this kind that were written since, the oldest first.
    Blocking; never raises: what is not there or can't be listed is left to `look` to say."""
    found: list[tuple[int, Path]] = []
    try:
        if not path.is_dir():
            return [path]
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.is_file(follow_symlinks=False):
                    continue
                written = entry.stat(follow_symlinks=False).st_mtime_ns
                if written >= newer_than_ns and _is_of(Path(entry.path), source):
                    found.append((written, Path(entry.path)))
    except OSError:
        return [path]
    return [each for _, each in sorted(found)]


def _is_of(path: Path, source: str) -> bool:
    """Whether a file of a folder is of a kind; what can't be opened is, so that it is told of."""
    if path.suffix in _TOO_NEW:
        return False
    try:
        with open_log(path) as stream:
            return kind(source).sniff(stream.read(_SNIFFED), path.name)
    except (EOFError, lzma.LZMAError, ValueError):
        return False
    except OSError:
        return True


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────


def open_log(path: Path) -> IO[bytes]:
    """A log opened for reading its plain bytes. Raises OSError, and for a packed one what its format does."""
    plain = open_regular(path)
    packed = _PACKED.get(path.suffix)
    if packed is None:
        return plain
    plain.close()  # it is a file: that is all that was asked
    return cast(IO[bytes], packed(path, "rb"))


class Piecewise:
    """Reads a piece line by line. `offset`: of the first byte that was not given yet."""

    def __init__(self, piece: Piece) -> None:
        self.offset = piece.start
        self._piece = piece
        self._stream = open_log(Path(piece.name))
        try:
            self._stream.seek(piece.start)
        except BaseException:
            self._stream.close()
            raise

    def take(self, most: int) -> list[tuple[int, bytes]]:
        """The next lines with the offset of each, at most so many; none at the end. Blocking."""
        lines: list[tuple[int, bytes]] = []
        while len(lines) < most:
            line = self._stream.readline(_LONGEST)
            whole = line.endswith(b"\n") or len(line) == _LONGEST or (self._piece.ended and line)
            if not whole:
                self._stream.seek(self.offset)  # the rest of the line is still to be written
                break
            lines.append((self.offset, line.strip(b"\0")))
            self.offset += len(line)
        return lines

    def mark(self) -> Mark:
        """How far the file was read, without what its machine knows. Blocking."""
        sized = min(self.offset, HEAD)
        self._stream.seek(0)
        head = hashlib.blake2b(self._stream.read(sized), digest_size=16).hexdigest()
        self._stream.seek(self.offset)
        about = os.fstat(self._stream.fileno())
        return Mark(about.st_dev, about.st_ino, head, sized, self.offset, about.st_mtime_ns)

    def close(self) -> None:
        self._stream.close()
