"""The schema: what the steps add up to, and laws that hold even where the code is wrong."""

from __future__ import annotations

import sqlite3 as stdlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from resubmit.errors import JournalUnreadable
from resubmit.journal import faults, migrations
from resubmit.journal.connection import open_reader, open_writer, sqlite3
from tests.helpers.factory import Shelf, recipient


def _objects(connection: stdlib.Connection) -> dict[str, str]:
    found = connection.execute(
        "select type || ' ' || name, sql from sqlite_schema"
        " where sql is not null and name not like '%migrations%'"
    )
    return {name: " ".join(_without_comments(sql).split()) for name, sql in found}


def _without_comments(sql: str) -> str:
    return "\n".join(line.partition("--")[0] for line in sql.splitlines())


def test_the_migrations_add_up_to_the_schema(tmp_path: Path) -> None:
    migrated = open_writer(tmp_path)
    assert migrations.migrate(migrated)
    written = sqlite3.connect(":memory:")
    written.executescript(migrations.schema())
    assert _objects(migrated) == _objects(written)
    assert migrated.execute("pragma user_version").fetchone() == (migrations.VERSION,)
    assert len(migrations.migrations()._migrations) == migrations.VERSION


def test_a_migrated_journal_is_left_as_it_is(tmp_path: Path) -> None:
    connection = open_writer(tmp_path)
    assert migrations.migrate(connection)
    assert not migrations.migrate(connection)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    connection = open_writer(tmp_path)
    connection.execute(f"pragma user_version = {migrations.VERSION + 1}")
    with pytest.raises(JournalUnreadable, match="newer resubmit"):
        migrations.migrate(connection)


def test_every_table_is_strict(tmp_path: Path) -> None:
    connection = open_writer(tmp_path)
    migrations.migrate(connection)
    tables = connection.execute(
        "select name, strict from pragma_table_list where schema = 'main' and type = 'table'"
    )
    loose = [name for name, strict in tables if not strict and not name.startswith(("sqlite_", "_sqlite"))]
    assert loose == []


def test_the_writer_syncs_checks_and_vacuums_as_promised(tmp_path: Path) -> None:
    connection = open_writer(tmp_path)
    migrations.migrate(connection)
    told = {
        name: connection.execute(f"pragma {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys", "auto_vacuum", "secure_delete")
    }
    assert told == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "auto_vacuum": 2,
        "secure_delete": 2,
    }
    assert connection.execute("pragma wal_autocheckpoint").fetchone()[0] == 0


def test_files_are_the_owners_only(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    connection = open_writer(folder)
    migrations.migrate(connection)
    assert folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert set(modes) == {"journal.db", "journal.db-wal", "journal.db-shm"}
    assert set(modes.values()) == {0o600}


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    migrations.migrate(writer)
    reader = open_reader(tmp_path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("delete from message")


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    made = Shelf(tmp_path / "journal")
    yield made
    made.close()


def test_two_open_attempts_of_a_recipient_are_against_the_law(shelf: Shelf) -> None:
    message = shelf.message(recipient(state="sending", due_at=None, attempt=1))
    for no in (1, 2):
        shelf.insert("offer", id=no, message=message, no=no, route="eop", kind="handoff", begun_at=0)
    shelf.insert("attempt", message=message, n=0, no=1, offer=1)
    with pytest.raises(sqlite3.IntegrityError):
        shelf.insert("attempt", message=message, n=0, no=2, offer=2)


def test_two_unfinished_jobs_of_a_recipient_are_against_the_law(shelf: Shelf) -> None:
    message = shelf.message(recipient(state="deferred"))
    shelf.job((message, 0, "sent"))
    shelf.job((message, 0, "waiting"))
    with pytest.raises(sqlite3.IntegrityError):
        shelf.job((message, 0, "released"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "lost"},
        {"state": "held", "below": None},
        {"state": "deferred", "below": "pending"},
        {"state": "sending", "due_at": 1},
        {"state": "delivered", "due_at": 1},
        {"holder": "them"},
        {"cause": "weather"},
        {"since": "yesterday"},
    ],
    ids=str,
)
def test_a_recipient_that_cannot_be_is_refused(shelf: Shelf, wrong: dict[str, object]) -> None:
    message = shelf.message()
    with pytest.raises(sqlite3.IntegrityError):
        shelf.insert("recipient", message=message, n=1, **{"since": 0, **recipient(), **wrong})


def test_a_recipient_without_its_message_is_refused(shelf: Shelf) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        shelf.insert("recipient", message=99, n=0, since=0, **recipient())


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (
            "select 1 from recipient where route='r' and lane=0 and due_at<=1 and due_at is not null",
            "recipient_due",
        ),
        ("select 1 from message where day=1 and key='k'", "message_by_key"),
        ("select 1 from offer where ended_at is null", "offer_open"),
        ("select 1 from attempt where message=1 and n=1 and ended_at is null", "attempt_open"),
        ("select 1 from evidence where message is null and day=1 and key='k'", "evidence_unowned"),
        (
            "select 1 from job_item where message=1 and n=1 and state in ('waiting', 'released')",
            "job_item_unfinished",
        ),
    ],
    ids=lambda value: value if "_" in value and " " not in value else "",
)
def test_open_work_is_found_by_its_partial_index(shelf: Shelf, query: str, index: str) -> None:
    plan = " ".join(str(row[3]) for row in shelf._conn.execute(f"explain query plan {query}"))
    assert index in plan


@pytest.mark.parametrize("query", faults.QUERIES, ids=["seen", "delivered", "met", "answered", "final"])
def test_what_a_gate_weighs_is_found_by_time_and_sorted_by_its_index(shelf: Shelf, query: str) -> None:
    plan = [str(row[3]) for row in shelf._conn.execute(f"explain query plan {query}", (0, 1))]
    assert not [step for step in plan if "SCAN" in step or "TEMP B-TREE" in step], plan
