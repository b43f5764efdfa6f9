"""Files of evidence that are bad beyond measure: they are told of, and hold up nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from resubmit import logbook
from resubmit.flow import observe
from resubmit.flow.observe import Observe
from resubmit.flow.wake import Wake
from resubmit.handoff.routes import Table
from resubmit.handoff.settings import Destination, Route
from resubmit.journal import read
from resubmit.journal.door import Journal
from resubmit.journal.settings import JournalSettings
from resubmit.model.moment import HOUR
from tests.helpers.journals import HandClock, arrival, attempt

FLOOR = JournalSettings(intake_floor="0B", attempt_floor="0B", reserve="0B")  # type: ignore[arg-type]
HEADER = "MessageId,Received,SenderAddress,RecipientAddress,Status\n"
BAD = "<1@x>,c,s@x,ann@contoso.com,Pending\n"
GOOD = "<1@x>,2026-11-23T09:14:03Z,s@x,ann@contoso.com,Pending\n"


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "journal", clock=HandClock(), settings=FLOOR, inline=True)
    yield journal
    await journal.close()


async def ingest(journal: Journal, path: Path, clock: HandClock) -> tuple[int, int]:
    """Read a file; its rows, and those that are unreadable."""
    table = Table(
        (Route(name="eop", host="192.0.2.1"),),
        (Destination(name="hybrid", domains=["*"], handoff="eop"),),
    )
    reader = Observe(journal, clock, table, [], {}, told=Wake())
    (told,) = await reader.ingest([str(path)], timezone="UTC", covers=None)
    return told["rows"], told["unreadable"]


def complaints(journal: Journal) -> list[tuple[str, str]]:
    with read.connect(journal.folder) as connection:
        return [(view.place, view.reason) for view in read.unreadable(connection, limit=0)]


async def test_of_many_unreadable_rows_a_hundred_are_listed_and_the_others_counted(
    journal: Journal, tmp_path: Path
) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(HEADER + GOOD + BAD * 1200)
    with capture_logs() as logs:
        assert await ingest(journal, path, HandClock()) == (1, 1200)
    (last, *listed) = complaints(journal)
    assert last == ("", "1200 rows can't be read; 100 are listed")
    assert [place for place, _ in listed[::-1]] == [f"line {n}" for n in range(3, 103)]
    assert sum(log["event"] == logbook.EVIDENCE_UNREADABLE for log in logs) == 101


async def test_a_file_of_which_nothing_can_be_read_is_left(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe, "_HOPELESS", 1000)
    path = tmp_path / "trace.csv"
    path.write_text(HEADER + BAD * 5000)
    assert await ingest(journal, path, HandClock()) == (0, 1000)
    assert complaints(journal)[0] == ("", "nothing in its first 1000 rows can be read; the rest is left")


async def test_a_file_that_was_half_written_is_not_complained_of_when_it_is_whole(
    journal: Journal, tmp_path: Path
) -> None:
    path, clock = tmp_path / "trace.csv", HandClock()
    path.write_text(HEADER + GOOD + BAD[:12])
    assert await ingest(journal, path, clock) == (1, 1)
    assert len(complaints(journal)) == 1
    clock.pass_(1000)
    path.write_text(HEADER + GOOD * 2)
    assert await ingest(journal, path, clock) == (2, 0)
    assert complaints(journal) == []


async def test_what_came_on_stdin_is_called_so_and_not_by_its_passing_file(
    journal: Journal, tmp_path: Path
) -> None:
    path = tmp_path / "stdin"
    path.write_text("junk")
    table = Table(
        (Route(name="eop", host="192.0.2.1"),),
        (Destination(name="hybrid", domains=["*"], handoff="eop"),),
    )
    reader = Observe(journal, HandClock(), table, [], {}, told=Wake())
    with capture_logs():
        (told,) = await reader.ingest([str(path)], timezone="UTC", covers=None, names={str(path): "-"})
    assert told["file"] == str(path)
    with read.connect(journal.folder) as connection:
        assert {view.file for view in read.unreadable(connection, limit=0)} == {"-"}


async def test_ingest_tells_by_which_key_it_matched(journal: Journal, tmp_path: Path) -> None:
    clock = HandClock()
    for message_id in ("<1@x>", "<2@x>", "<2@x>"):
        await attempt(journal, await journal.record(arrival(message_id=message_id)))
    path = tmp_path / "trace.csv"
    rows = (f"<{n}@x>,2026-11-24T12:00:01Z,app@example.org,ann@contoso.com,Pending\n" for n in (1, 2, 3))
    path.write_text(HEADER + "".join(rows))
    table = Table(
        (Route(name="eop", host="192.0.2.1"),),
        (Destination(name="hybrid", domains=["*"], handoff="eop"),),
    )
    clock.pass_(HOUR)
    (told,) = await Observe(journal, clock, table, [], {}, told=Wake()).ingest(
        [str(path)], timezone="UTC", covers=None
    )
    assert [told[name] for name in ("matched", "ambiguous", "unmatched")] == [1, 1, 1]
    assert told["by"] == {
        "Message-ID and recipient": 1,
        "several messages have this Message-ID and recipient": 1,
    }
