"""The page of /metrics counts what is open and what the writer did."""

from __future__ import annotations

from pathlib import Path

import pytest

from resubmit.clock import SystemClock
from resubmit.errors import JournalUnreadable
from resubmit.journal.writer import Stats
from resubmit.model.moment import HOUR
from resubmit.web.metrics import Metrics
from tests.helpers.factory import NOW, Shelf, recipient


class StoppedClock(SystemClock):
    def now(self) -> int:
        return NOW


def page(folder: Path, stats: Stats | None = None) -> dict[str, float]:
    """The samples of a page by name and labels."""
    metrics = Metrics(folder, StoppedClock(), (lambda: stats) if stats else None)
    lines = metrics.render().decode().splitlines()
    return {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")
    }


def test_what_is_stuck_is_counted_by_cause_and_destination(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.destination()
    shelf.message(
        recipient("a@contoso.com", "deferred"),
        recipient("b@contoso.com", "deferred", deadline=NOW + 2 * HOUR),
        recipient("c@contoso.com", "pending", since=NOW),
        recipient("d@contoso.com", "delivered"),
        at=NOW - HOUR,
    )
    shelf.gate("destination:hybrid", "testing")
    shelf.incident()
    shelf.look("route:eop", "healthy", codes="[]", days_left=40)
    shelf.look("route:eop", "healthy", codes="[]", days_left=12)

    samples = page(tmp_path)

    assert samples['resubmit_stuck_recipients{cause="tls",destination="hybrid"}'] == 2
    assert samples["resubmit_stuck_oldest_seconds"] == 3600
    assert samples["resubmit_deadline_seconds"] == 7200
    assert samples['resubmit_recipients{state="pending"}'] == 1
    assert samples['resubmit_gate{kind="destination",name="hybrid",state="testing"}'] == 1
    assert samples['resubmit_gate{kind="destination",name="hybrid",state="open"}'] == 0
    assert samples['resubmit_certificate_days_left{kind="route",name="eop"}'] == 12
    assert samples["resubmit_incidents_open"] == 1
    assert samples["resubmit_messages"] == 1
    shelf.close()


def test_attempts_are_counted_and_those_under_way(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    message = shelf.message(recipient(state="accepted"))
    shelf.attempt(message)
    shelf.insert("offer", id=2, message=message, no=2, route="eop", kind="retry", begun_at=NOW)

    samples = page(tmp_path)

    assert samples["resubmit_attempts_total"] == 2
    assert samples["resubmit_attempts_open"] == 1
    shelf.close()


def test_commit_times_are_a_histogram(tmp_path: Path) -> None:
    Shelf(tmp_path).close()
    stats = Stats()
    stats.committed(3, 0.0004)
    stats.committed(1, 0.03)
    stats.committed(1, 60.0)

    samples = page(tmp_path, stats)

    assert samples["resubmit_journal_calls_total"] == 5
    assert samples['resubmit_journal_commit_seconds_bucket{le="0.0005"}'] == 1
    assert samples['resubmit_journal_commit_seconds_bucket{le="0.05"}'] == 2
    assert samples['resubmit_journal_commit_seconds_bucket{le="+Inf"}'] == 3
    assert samples["resubmit_journal_commit_seconds_count"] == 3


def test_an_empty_journal_has_no_oldest_and_no_deadline(tmp_path: Path) -> None:
    Shelf(tmp_path).close()

    samples = page(tmp_path)

    assert "resubmit_stuck_oldest_seconds" not in samples
    assert "resubmit_deadline_seconds" not in samples


def test_no_journal_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(JournalUnreadable):
        Metrics(tmp_path / "none", StoppedClock()).render()
