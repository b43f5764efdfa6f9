"""`health` says in one line and an exit code how bad it is."""

from __future__ import annotations

from typing import Any

import pytest

from resubmit.cli import health
from resubmit.model.moment import DAY, HOUR, MINUTE
from tests.helpers.factory import NOW, recipient
from tests.unit.cli.conftest import Desk


@pytest.fixture(autouse=True)
def at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "now_ms", lambda: NOW)
    monkeypatch.setattr(health, "is_running", lambda folder: True)


def stuck(desk: Desk, left: int, **values: Any) -> None:
    desk.shelf.destination()
    desk.shelf.message(recipient(state="deferred", deadline=NOW + left, **values))


def test_a_quiet_journal_is_ok(desk: Desk) -> None:
    desk.shelf.message(recipient(state="delivered"))

    answer = desk.ask("health")

    assert answer.code == 0
    assert answer.out.startswith(
        "OK: nothing is stuck, every gate is open | stuck=0 incidents=0 closed=0 free="
    )


def test_what_is_stuck_is_a_warning_until_it_bounces_soon(desk: Desk) -> None:
    stuck(desk, 3 * HOUR)

    warned = desk.ask("health")
    patient = desk.ask("health", "--stuck-for", "30d")
    soon = desk.ask("health", "--bounces-in", "4h")

    assert (warned.code, patient.code, soon.code) == (1, 0, 2)
    assert warned.out.startswith("WARNING: 1 recipient stuck (1 tls) | stuck=1 ")
    assert soon.out.startswith("CRITICAL: 1 recipient stuck (1 tls), the next one bounces in 3h")


def test_a_service_that_is_down_is_critical(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "is_running", lambda folder: False)

    answer = desk.ask("health", "--json")

    assert (answer.code, answer.json["status"]) == (2, "critical")
    assert answer.json["problems"] == [{"level": "critical", "text": "the service does not run"}]


def test_gates_certificates_and_unreadable_files_are_warnings(desk: Desk) -> None:
    desk.shelf.destination()
    desk.shelf.look(days_left=3)
    desk.shelf.gate("destination:hybrid", "testing")
    desk.shelf.gate("route:eop", "closed")
    desk.shelf.insert("unreadable", file="traces/a.csv", place="", reason="no columns", at=NOW - MINUTE)
    desk.shelf.insert("unreadable", file="traces/old.csv", place="", reason="no columns", at=NOW - 2 * DAY)

    answer = desk.ask("health", "--json")

    assert answer.code == 1
    assert [p["text"].split(" (")[0] for p in answer.json["problems"]] == [
        "gate hybrid is testing",
        "the certificate of hybrid ends in 3d",
        "gate of route eop is closed",
        "1 unreadable, traces/a.csv last",
    ]


def test_what_can_not_be_known_is_unknown(desk: Desk) -> None:
    assert desk.ask("--config", str(desk.folder / "none.toml"), "health").code == 3
    assert desk.ask("health", "--bounces-in", "soon").code == 3
    (desk.folder / "journal" / "journal.db").unlink(missing_ok=True)
    for file in (desk.folder / "journal").iterdir():
        if file.is_file():
            file.write_bytes(b"not a database" * 100)

    answer = desk.ask("health")

    assert answer.code == 3
    assert answer.out.startswith("UNKNOWN: ")
