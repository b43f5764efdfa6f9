"""From a file or stream to its items: unpacked, recognised by content, read by its kind.

Promises: never raises for what a file holds or how it is kept: what can't be read is an Unreadable with
the reason. Memory does not grow with the file: what can't be read twice is spooled to disk first.

Limits: gzip, bzip2, xz and plain; what unpacks to more than UNPACKED_LIMIT is refused.
"""

from __future__ import annotations

import bz2
import lzma
import os
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, tzinfo
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from resubmit.evidence.base import Item, Kind, Reading
from resubmit.evidence.kinds import KINDS, kind
from resubmit.model.moment import Ms

HEAD = 64 * 1024
UNPACKED_LIMIT = 8 << 30
FILE_LIMIT = 8 << 30
_IN_MEMORY = 4 << 20
_CHUNK = 256 * 1024
_GZIP = b"\x1f\x8b"
_BZIP2 = b"BZh"
_XZ = b"\xfd7zXZ\0"
_XZ_MEMORY = 256 << 20


class _Packed(ValueError):
    """A packed file that is not what it says."""


def sniff(head: bytes, name: str) -> str | None:
    """The kind of a file that begins so (unpacked bytes, up to HEAD), None when no kind knows it."""
    if not head.strip(b"\0 \t\r\n"):
        return None
    return next((known for known in KINDS if kind(known).sniff(head, name)), None)


def read_stream(
    stream: BinaryIO,
    name: str,
    *,
    timezone: tzinfo = UTC,
    near: tuple[Ms, ...] = (),
    now: Ms | None = None,
) -> Iterator[Item]:
    """The items of a stream. timezone: of stamps without a zone; near: times of our own attempts; now:
    nothing is read as later. The stream is read from its start where it can seek, and stays open."""
    reading = Reading(name, timezone, near, now)
    try:
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as spool:
            source, problem = _plain(stream, spool)
            yield from _read(source, reading)
            if problem:
                yield reading.unreadable("", problem)
    except OSError as error:
        yield reading.unreadable("", f"it can't be read: {error.strerror or error}")


def _read(stream: BinaryIO, reading: Reading) -> Iterator[Item]:
    stream.seek(0)
    head = stream.read(HEAD)
    if not head:
        yield reading.unreadable("", "the file is empty")
        return
    found = sniff(head, reading.name)
    if found is None:
        yield reading.unreadable("", "no source known here writes such a file")
        return
    reader: Kind = kind(found)
    yield from reader.read(stream, reading)


def _plain(stream: BinaryIO, spool: tempfile.SpooledTemporaryFile[bytes]) -> tuple[BinaryIO, str]:
    """A seekable stream of unpacked bytes, and what went wrong on the way."""
    seekable = stream.seekable()
    if seekable:
        stream.seek(0)
    head = b""
    while len(head) < len(_XZ) and (more := stream.read(len(_XZ) - len(head))):
        head += more  # a pipe may give less than asked for
    name, unpack = _packing(head)
    if unpack is not None:
        try:
            unpack(head, stream, spool)
        except (_Packed, zlib.error) as error:
            return spool, f"the {name} file is damaged: {error}"  # type: ignore[return-value]
        return spool, ""  # type: ignore[return-value]
    if seekable:
        return stream, ""
    spool.write(head)
    left = UNPACKED_LIMIT
    while chunk := stream.read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            return spool, "it is larger than any trace"  # type: ignore[return-value]
        spool.write(chunk)
    return spool, ""  # type: ignore[return-value]


def _packing(head: bytes) -> tuple[str, Callable[[bytes, BinaryIO, Any], None] | None]:
    """How a file that begins so is packed, and what unpacks it; None: it is not."""
    if head.startswith(_GZIP):
        return "gzip", _unpack
    if head.startswith(_BZIP2):
        return "bzip2", partial(_unpack_by, bz2.BZ2Decompressor)
    if head == _XZ:
        return "xz", partial(_unpack_by, partial(lzma.LZMADecompressor, memlimit=_XZ_MEMORY))
    return "", None


def _unpack_by(
    opener: Callable[[], Any], packed: bytes, stream: BinaryIO, spool: tempfile.SpooledTemporaryFile[bytes]
) -> None:
    """Every stream of a bzip2 or xz file, within one budget."""
    left = UNPACKED_LIMIT
    while packed.strip(b"\0"):
        one = opener()
        while not one.eof:
            try:
                data = one.decompress(packed, _CHUNK)
            except (OSError, ValueError, lzma.LZMAError) as error:  # bz2 calls bad data an OSError
                raise _Packed(str(error)) from None
            left -= len(data)
            if left < 0:
                raise _Packed("it unpacks to more than any trace")
            spool.write(data)
            packed = stream.read(_CHUNK) if one.needs_input and not one.eof else b""
            if not packed and not data and not one.eof:
                raise _Packed("it ends in the middle")
        packed = one.unused_data or stream.read(_CHUNK)


def _unpack(head: bytes, stream: BinaryIO, spool: tempfile.SpooledTemporaryFile[bytes]) -> None:
    """Every member of a gzip stream, within one budget."""
    left = UNPACKED_LIMIT
    packed = head
    while packed:
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            data = member.decompress(packed, _CHUNK)
            left -= len(data)
            if left < 0:
                raise _Packed("it unpacks to more than any trace")
            spool.write(data)
            packed = member.unconsumed_tail
            if not packed and not member.eof:
                packed = stream.read(_CHUNK)
                if not packed and not data:
                    raise _Packed("it ends in the middle")
        packed = member.unused_data or stream.read(_CHUNK)
        if packed.strip(b"\0") == b"":  # padding behind the last member, as tapes have it
            return


def open_regular(path: Path) -> BinaryIO:
    """A file opened for reading, and surely a file: a pipe or device put in its place is not waited for.

    Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise OSError("it is not a file")
        if about.st_size > FILE_LIMIT:
            raise OSError("it is larger than any trace")
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_file(
    path: Path,
    name: str | None = None,
    *,
    timezone: tzinfo = UTC,
    near: tuple[Ms, ...] = (),
    now: Ms | None = None,
) -> Iterator[Item]:
    """The items of a file; `name` is what they call it, else its path. Never raises for the file."""
    shown = str(path) if name is None else name
    try:
        stream = open_regular(path)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        yield Reading(shown).unreadable("", f"it can't be opened: {reason}")
        return
    with stream:
        yield from read_stream(stream, shown, timezone=timezone, near=near, now=now)


def explain_file(
    stream: BinaryIO, name: str, *, timezone: tzinfo = UTC, now: Ms | None = None
) -> Iterator[Item]:
    """What a file or pasted text says, without a journal to compare with."""
    return read_stream(stream, name, timezone=timezone, now=now)
