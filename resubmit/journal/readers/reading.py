"""A read-only connection to the journal, and the one place where its errors become ours.

Imports nothing heavy. Raises JournalUnreadable for a journal that is missing, damaged, newer than this
program; NotPermitted for one that is not ours to read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resubmit.errors import JournalUnreadable, NotPermitted
from resubmit.journal.connection import DATABASE, map_error, open_reader, sqlite3
from resubmit.journal.migrations import guard

Row = tuple[Any, ...]


def connect(folder: Path) -> sqlite3.Connection:
    """A read-only connection to the journal in `folder`, checked to be one that this program can read."""
    file = folder / DATABASE
    try:
        forbidden = file.exists() and not os.access(file, os.R_OK)
    except PermissionError:  # not even the folder may be looked into
        forbidden = True
    if forbidden:
        raise NotPermitted(f"{file}: this user may not read it", hint="run it as the service's user")
    connection = open_reader(folder)
    try:
        if guard(connection, folder) == 0:
            raise JournalUnreadable(
                f"{folder} holds a database without a journal in it", hint="is [journal] path the right one?"
            )
        connection.create_function("folded", 1, _folded, deterministic=True)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def reading() -> Iterator[None]:
    """Errors of SQLite as the journal's own: around every read."""
    try:
        yield
    except sqlite3.Error as error:
        raise map_error(error) from error


def _folded(text: object) -> str:
    return str(text).casefold()


def reply_text(code: int | None, enhanced: str, text: str) -> str:
    """A reply on one line, its codes in front where the text does not begin with them."""
    line = " ".join(text.split())
    for word in (enhanced, str(code or "")):
        if word and not line.startswith(word) and not (word == enhanced and f" {word}" in f" {line[:16]}"):
            line = f"{word} {line}".rstrip()
    return line
