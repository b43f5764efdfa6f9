"""From any older schema to this version's, one step a transaction.

Promises: a crash leaves a whole version, the old or the new one; a journal of a newer version is refused,
never opened. `schema.sql` is what the steps add up to; a test compares the two.
Limits: the caller holds the journal's lock (sqlite-utils has none of its own).
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from resubmit.errors import JournalUnreadable
from resubmit.journal.connection import map_error, sqlite3

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

VERSION = 1
"""The schema's version, in the file's `user_version`: the number of migrations."""


def schema() -> str:
    """The text of schema.sql."""
    return resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")


def statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: `executescript` would commit what is open before it."""
    text = ""
    for line in script.splitlines():
        if not text and (not line.strip() or line.startswith("--")):
            continue
        text += line + "\n"
        if sqlite3.complete_statement(text):
            yield text.strip()
            text = ""


def guard(connection: sqlite3.Connection, path: Path | None = None) -> int:
    """The file's schema version. Raises JournalUnreadable for a newer one than this program knows."""
    try:
        (version,) = connection.execute("pragma user_version").fetchone()
    except sqlite3.Error as error:
        raise map_error(error, path) from error
    if version > VERSION:
        raise JournalUnreadable(
            f"{path or 'the journal'} has schema version {version}, this program knows {VERSION}",
            hint="it was written by a newer resubmit; install that one, or restore the backup made before",
        )
    return int(version)


def migrate(connection: sqlite3.Connection, path: Path | None = None) -> bool:
    """Bring the file to this version; True when something was done. Raises JournalUnreadable."""
    if guard(connection, path) == VERSION:
        return False
    from sqlite_utils import Database  # 80 ms to import: only where there is something to migrate

    try:
        database = Database(connection, execute_plugins=False)
        migrations().apply(database)
    except sqlite3.Error as error:
        raise map_error(error, path) from error
    return True


def migrations() -> Migrations:
    """Every step, in order. A step is never edited after its release."""
    from sqlite_utils import Migrations

    steps = Migrations("resubmit")

    @steps()
    def m0001_start(db: Database) -> None:
        """The journal of 0.1."""
        for statement in statements(resources.files(__package__).joinpath("start.sql").read_text("utf-8")):
            db.conn.execute(statement)
        db.conn.execute("pragma user_version = 1")

    return steps
