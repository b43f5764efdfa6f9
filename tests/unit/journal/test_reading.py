"""What commands read is right, cheap, and read only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from resubmit.errors import JournalError
from resubmit.journal import read
from resubmit.journal.migrations import schema
from resubmit.journal.readers.selection import ACCEPTED, HELD, TROUBLE, select
from resubmit.model.filter import Filter
from resubmit.model.moment import HOUR
from resubmit.model.recipient import State
from tests.helpers.factory import NOW, Shelf, recipient


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    made = Shelf(tmp_path)
    made.destination()
    return made


def plan(shelf: Shelf, flt: Filter) -> str:
    conn = read.connect(shelf.folder)
    chosen = select(flt, NOW, recipients=True)
    rows = conn.execute(f"explain query plan select count(*) {chosen.sql}", chosen.params).fetchall()
    conn.close()
    return " ; ".join(row[3] for row in rows)


def replayable(shelf: Shelf, flt: Filter, **options: object) -> read.Replayable:
    conn = read.connect(shelf.folder)
    found = read.replayable(conn, flt, options, NOW)
    conn.close()
    return found


def test_the_partial_indexes_conditions_are_the_schemas() -> None:
    text = re.sub(r"\s+", " ", schema())

    for name, term in (("trouble", TROUBLE), ("accepted", ACCEPTED), ("held", HELD)):
        assert re.search(
            rf"create index recipient_{name} on recipient \([^)]*\) where {re.escape(term)};", text
        )


@pytest.mark.parametrize(
    ("flt", "index"),
    [
        (Filter(state=("deferred", "pending")), "recipient_trouble"),
        (Filter(state=("accepted",), destination=("hybrid",)), "recipient_accepted"),
        (Filter(state=("held",)), "recipient_held"),
        (Filter(stuck=True), "recipient_trouble"),
        (Filter(message_id=("<a@x>",)), "message_by_key"),
        (Filter(since=NOW - HOUR), "message_by_time"),
        (Filter(ids=(1, 2)), "INTEGER PRIMARY KEY"),
    ],
)
def test_a_narrow_question_reads_an_index(shelf: Shelf, flt: Filter, index: str) -> None:
    for _ in range(20):
        shelf.message()

    assert index in plan(shelf, flt)


def test_a_reader_can_not_write(shelf: Shelf) -> None:
    conn = read.connect(shelf.folder)

    with pytest.raises(JournalError), read.reading():
        conn.execute("delete from message")
    conn.close()


def test_a_limit_of_zero_is_all_across_pages(shelf: Shelf) -> None:
    numbers = [shelf.message() for _ in range(1203)]
    conn = read.connect(shelf.folder)

    ids, total = read.message_ids(conn, Filter(), NOW, limit=0)

    assert total == 1203
    assert [m.id for m in read.load_messages(conn, ids, NOW)] == numbers[::-1]
    conn.close()


def test_the_same_question_pages_in_the_same_order(shelf: Shelf) -> None:
    for _ in range(9):
        shelf.message(recipient(state="deferred"))
    conn = read.connect(shelf.folder)

    few, total = read.message_ids(conn, Filter(stuck=True), NOW, limit=4)
    every, _ = read.message_ids(conn, Filter(stuck=True), NOW, limit=0)

    assert total == 9
    assert few == every[:4]
    conn.close()


STATES = {
    "journaled": True,
    "retrying": True,
    "in_doubt": True,
    "pending": True,
    "deferred": True,
    "expired": True,
    "sending": False,
    "accepted": False,
    "held": False,
    "delivered": False,
    "expanded": False,
    "filtered": False,
    "failed": False,
    "cancelled": False,
}


@pytest.mark.parametrize("state", State)
def test_what_a_plain_replay_takes(shelf: Shelf, state: State) -> None:
    shelf.message(recipient(state=state))

    found = replayable(shelf, Filter(since=0))

    assert bool(found.keys) == STATES[state]
    assert found.left == ({} if STATES[state] else {state: 1})


@pytest.mark.parametrize(
    ("state", "flt", "options"),
    [
        ("accepted", Filter(since=0), {"include_accepted": True}),
        ("delivered", Filter(since=0), {"include_delivered": True}),
        ("failed", Filter(state=("failed",)), {}),
        ("cancelled", Filter(state=("cancelled",)), {}),
    ],
)
def test_what_has_to_be_asked_for(shelf: Shelf, state: str, flt: Filter, options: dict[str, object]) -> None:
    shelf.message(recipient(state=state))

    assert len(replayable(shelf, flt, **options).keys) == 1


def test_what_the_relay_still_holds_is_left_to_it(shelf: Shelf) -> None:
    shelf.message(recipient(state="deferred", holder="relay"))

    assert replayable(shelf, Filter(since=0)).left == {"still with the relay, which retries by itself": 1}


def test_what_has_no_body_is_left(shelf: Shelf) -> None:
    shelf.message(recipient(state="deferred"), body_kept=0)

    assert replayable(shelf, Filter(since=0)).left == {"body no longer kept": 1}


def test_force_takes_over_from_a_waiting_job_only(shelf: Shelf) -> None:
    waiting, running = (shelf.message(recipient(state="deferred")) for _ in range(2))
    shelf.job((waiting, 0, "waiting"))
    shelf.job((running, 0, "released"), state="running")

    assert not replayable(shelf, Filter(since=0)).keys
    assert replayable(shelf, Filter(since=0), force=True).keys == ((waiting, 0),)


def test_the_nearest_deadline_goes_first_and_only_the_recipients_asked_for(shelf: Shelf) -> None:
    late = shelf.message(recipient("a@contoso.com", "deferred"), recipient("b@contoso.com", "deferred"))
    soon = shelf.message(recipient("a@contoso.com", "expired", deadline=NOW + HOUR))

    assert replayable(shelf, Filter(recipient=("a@*",))).keys == ((soon, 0), (late, 0))


def test_the_last_reply_is_the_worlds_newest_word(shelf: Shelf) -> None:
    number = shelf.message(recipient(state="deferred", attempt=2))
    shelf.attempt(number, no=1, event="reply_deferred", code=421, reply="421 4.3.2 busy")
    conn = read.connect(shelf.folder)

    def last() -> str:
        found = read.message(conn, number, NOW)
        assert found is not None
        return found.recipients[0].last_reply

    assert last() == "421 4.3.2 busy"
    shelf.attempt(number, no=2, reply="OK id=1")
    assert last() == "250 OK id=1"
    shelf.evidence(number, 0, no=2, code=450, enhanced="4.4.317", text="450 4.4.317 Cannot connect")
    assert last() == "450 4.4.317 Cannot connect"
    shelf.evidence(number, 0, no=1, text="an older attempt's", at=NOW + 1)
    assert last() == "450 4.4.317 Cannot connect"
    shelf.attempt(number, no=3, reply="250 again")
    assert last() == "250 again"
    conn.close()


@pytest.mark.parametrize(
    ("code", "enhanced", "text", "expected"),
    [
        (450, "4.7.320", "450 4.7.320 bad", "450 4.7.320 bad"),
        (450, "4.7.320", "4.7.320 bad", "450 4.7.320 bad"),
        (450, "4.7.320", "bad\r\n worse", "450 4.7.320 bad worse"),
        (None, "", "connection refused", "connection refused"),
        (250, "", "", "250"),
    ],
)
def test_a_reply_on_one_line(code: int | None, enhanced: str, text: str, expected: str) -> None:
    assert read.reply_text(code, enhanced, text) == expected
