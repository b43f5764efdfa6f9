"""Whether a journal is sound, and a whole copy of it, while a service may be writing.

Limits: a copy is of one moment; what is journaled after it is not in it. After a restore the service treats
everything that was not handed off as in doubt (docs/states.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from resubmit.errors import JournalUnreadable
from resubmit.journal.connection import DATABASE, sqlite3
from resubmit.journal.readers.messages import BODIES, body
from resubmit.journal.readers.reading import reading
from resubmit.model.ids import id_text

_SHOWN = 100
"""Problems of one kind that are told one by one."""


def verify(conn: sqlite3.Connection, folder: Path) -> Iterator[str]:
    """What is wrong, a sentence each; nothing when all is sound. Reads every page and every body."""
    import hashlib  # here: `list` imports this module too, and is to start at once

    with reading():
        for (said,) in conn.execute(f"pragma integrity_check({_SHOWN})"):
            if said != "ok":
                yield f"the database is damaged: {said}"
        for table, *_ in conn.execute("pragma foreign_key_check").fetchmany(_SHOWN):
            yield f"a row of {table} points nowhere"
        kept = conn.execute("select id, size, digest from message where body_kept = 1 order by id").fetchall()
    for number, size, digest in kept:
        found, octets = hashlib.sha256(), 0
        try:
            for piece in body(conn, folder, number):
                found.update(piece)
                octets += len(piece)
        except JournalUnreadable as error:
            yield f"message {id_text(number)}: {error.message}"
            continue
        if octets != size or found.digest() != bytes(digest):
            yield f"message {id_text(number)}: its body is not what was journaled ({octets} of {size} octets)"


def backup(conn: sqlite3.Connection, folder: Path, target: Path) -> int:
    """A whole copy of the journal in the folder `target`, which is there and empty, synced to its disk.
    Returns how many bodies were copied as files. Raises JournalUnreadable, OSError."""
    import shutil

    file = target / DATABASE
    os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with reading(), closing(sqlite3.connect(file)) as copy:
        conn.backup(copy)
        names = [
            row[0]
            for row in copy.execute(
                "select body_file from message where body_file is not null and body_kept = 1"
            )
        ]
    (target / BODIES).mkdir(mode=0o700)
    for name in names:
        try:
            shutil.copyfile(folder / BODIES / name, target / BODIES / name)
        except FileNotFoundError:
            raise JournalUnreadable(
                f"{folder / BODIES / name}: a body is missing",
                hint="`resubmit journal verify` says what else is",
            ) from None
        _sync(target / BODIES / name)
    for path in (file, target / BODIES, target):
        _sync(path)
    return len(names)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
