"""The one door to SQLite: which library, how a connection is set up, what its errors mean to a caller.

Promises: one SQLite library in the process (two of them on one file undo each other's locks); a commit that
returned is on the disk (WAL, `synchronous=FULL`); files are readable by their owner only.
Source: sqlite.org/wal.html (the WAL-reset bug and its fixes), sqlite.org/pragma.html.
Limits: a writer needs the journal's lock first (lock.py); only the writer checkpoints.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from resubmit.errors import JournalError, JournalFull, JournalUnreadable

if TYPE_CHECKING:
    import sqlite3
else:
    try:  # a SQLite without the WAL-reset bug, where its wheel is installed
        from pysqlite3 import dbapi2 as sqlite3
    except ImportError:
        import sqlite3

__all__ = ["DATABASE", "is_sound", "map_error", "open_reader", "open_writer", "sqlite3", "sqlite_version"]

DATABASE = "journal.db"
"""The database's name in the journal's folder."""

_BUSY_S = 5.0
_BASE_CODE = 0xFF  # an extended result code keeps its base code in its low octet (sqlite.org/rescode.html)
_IOERR, _CORRUPT, _FULL, _CANTOPEN, _NOTADB = 10, 11, 13, 14, 26
_PERM, _BUSY, _LOCKED, _READONLY, _CONSTRAINT = 3, 5, 6, 8, 19

_WRITER_PRAGMAS = (
    "pragma auto_vacuum = incremental",  # holds only before the first table, so it comes first
    "pragma journal_mode = wal",
    "pragma synchronous = full",
    "pragma foreign_keys = on",
    "pragma secure_delete = fast",  # the default differs between builds; `fast` costs no extra writes
    "pragma wal_autocheckpoint = 0",  # the writer checkpoints between batches, after it has answered
    "pragma journal_size_limit = 67108864",
    "pragma cache_size = -65536",
    "pragma temp_store = memory",
    "pragma trusted_schema = off",
)


class DiskFailed(JournalError):
    """A write or sync failed below SQLite: what is on the disk is not known, so the process must end."""

    stored_perhaps = True


def sqlite_version() -> str:
    """The version of the SQLite library in use."""
    return sqlite3.sqlite_version


def is_sound(version: str | None = None) -> bool:
    """Whether a SQLite (this one's, when none is named) has the fix of the WAL-reset bug.

    Fixed in 3.51.3, with backports 3.50.7 and 3.44.6: before, two connections that write and checkpoint
    could lose committed pages.
    """
    parts = tuple(int(word) for word in (version or sqlite_version()).split("."))
    return parts >= (3, 51, 3) or (3, 50, 7) <= parts < (3, 51) or (3, 44, 6) <= parts < (3, 45)


def open_writer(folder: Path) -> sqlite3.Connection:
    """The connection that may write. The folder and the database are made when missing, for us only.

    Raises JournalUnreadable when the file is not ours to write or is no database.
    """
    path = folder / DATABASE
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made before SQLite does: -wal and -shm take the database's mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise JournalUnreadable(
            f"{path} can't be opened for writing: {error.strerror}",
            hint="look at the folder's owner and mode",
        ) from error
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=512
        )
        for pragma in _WRITER_PRAGMAS:
            connection.execute(pragma)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise map_error(error, path) from error
    return connection


def open_reader(folder: Path) -> sqlite3.Connection:
    """A connection that can't write and never checkpoints. Raises JournalUnreadable when there is none."""
    path = folder / DATABASE
    if not path.exists():
        raise JournalUnreadable(
            f"there is no journal at {folder}", hint="is [journal] path the service's, and did it run once?"
        )
    try:
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro",
            uri=True,
            timeout=_BUSY_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        connection.execute("pragma query_only = on")
        connection.execute("pragma cache_size = -32768")
        connection.execute("pragma temp_store = memory")
        connection.execute("select count(*) from sqlite_schema").fetchone()
    except sqlite3.Error as error:
        raise map_error(error, path) from error
    return connection


def map_error(error: sqlite3.Error, path: Path | None = None) -> JournalError:
    """What a caller can do about an error of SQLite: the journal's own error for it.

    A damaged file and one that is not ours are JournalUnreadable, no room JournalFull, a failed write or
    sync DiskFailed; everything else is a plain JournalError.
    """
    code = getattr(error, "sqlite_errorcode", None)
    base = code & _BASE_CODE if code is not None else None
    where = str(path) if path else "the journal"
    if base == _FULL:
        return JournalFull(f"no room left on the disk of {where}", hint="free some space on it")
    if base == _IOERR:
        return DiskFailed(f"{where}: {error}", hint="look at the disk; nothing of this call is promised")
    if base in (_CORRUPT, _NOTADB):
        return JournalUnreadable(
            f"{where} is damaged or no journal: {error}",
            hint="stop the service and restore a backup; `resubmit journal verify` says how bad it is",
        )
    if base in (_CANTOPEN, _PERM, _READONLY):
        return JournalUnreadable(f"{where} can't be opened: {error}", hint="look at the owner and mode")
    if base in (_BUSY, _LOCKED):
        return JournalError(f"{where} is busy: {error}", hint="does another program hold it open?")
    if base == _CONSTRAINT:
        return JournalError(f"a law of the journal's schema was broken: {error}")
    return JournalError(f"{where}: {error}")
