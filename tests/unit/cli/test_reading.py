"""Reading commands as the demo and a monitoring script call them: a process, JSON, an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from resubmit.cli.commands import MODULES
from resubmit.model.moment import DAY
from tests.helpers.factory import recipient
from tests.unit.cli.conftest import Desk

ROOT = Path(__file__).parents[3]


def process(desk: Desk, *words: str, shell_end: str = "") -> subprocess.CompletedProcess[str]:
    """`python -m resubmit` as a shell runs it, its output ending as told."""
    command = [sys.executable, "-m", "resubmit", "--config", str(desk.folder / "config.toml"), *words]
    return subprocess.run(
        ["sh", "-c", f'"$@" {shell_end}', "sh", *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def waiting_since_yesterday(desk: Desk) -> None:
    """A stuck message, by the machine's own clock: the process has no other."""
    yesterday = time.time_ns() // 1_000_000 - DAY
    desk.shelf.message(recipient("ann@contoso.com", "deferred", since=yesterday), at=yesterday)


@pytest.mark.parametrize("module", sorted(set(MODULES.values())))
def test_every_module_has_the_commands_the_list_promises(module: str) -> None:
    promised = {name for name, where in MODULES.items() if where == module}
    assert promised == set(import_module(f"resubmit.cli.{module}").COMMANDS)


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("list --stuck --limit 0 --json", {"id", "message_id", "stuck", "deadline", "recipients"}),
        ("list --stuck --group-by cause --json", {"cause", "recipients", "messages", "next_deadline"}),
        ("status --json", {"routes", "destinations", "stuck", "next_deadline", "live_trace", "journal"}),
        ("incidents list --json", {"id", "destination", "route", "cause", "opened_at", "state"}),
        ("incidents report 1 --json", {"stuck", "recovered", "failed", "unproven", "unknown", "duplicates"}),
    ],
)
def test_a_script_gets_one_object_a_line(desk: Desk, words: str, fields: set[str]) -> None:
    waiting_since_yesterday(desk)
    assert desk.shelf.incident() == 1

    done = process(desk, *words.split())

    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert fields <= set(json.loads(line))


@pytest.mark.parametrize(
    "words", ["list --stuck --limit 6", "list --stuck --group-by cause", "status", "incidents report 1"]
)
def test_a_person_gets_a_screen(desk: Desk, words: str) -> None:
    waiting_since_yesterday(desk)
    desk.shelf.incident()

    done = process(desk, *words.split())

    assert done.returncode == 0, done.stderr
    assert done.stdout and not done.stdout.startswith("{")
    lines = [line for line in done.stdout.splitlines() if "/" not in line.strip()[:1]]  # a path stays whole
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    "words",
    [
        "list --limit -1",
        "list --limit 99999999999999999999",
        "list --incident ²",
        "list --since 99999999999999d",
        "list --older-than 99999999999999d",
        "incidents --limit -1",
        "incidents report 99999999999999999999",
        "jobs --limit -1",
        "jobs show 99999999999999999999",
        "audit --limit -1",
        "audit --since 99999999999999d",
        "audit --since soon",
    ],
)
def test_a_number_no_journal_can_hold_is_a_slip_of_the_finger(desk: Desk, words: str) -> None:
    answer = desk.ask(*words.split())

    assert answer.code == 2
    assert words.split()[-2] in answer.err or "ID" in answer.err
    assert "nobody expected" not in answer.err


def test_an_incident_named_to_list_is_shown_alone(desk: Desk) -> None:
    first, second = desk.shelf.incident(), desk.shelf.incident()

    assert desk.ask("incidents", "list", str(first), "--json").json["id"] == first
    assert {i["id"] for i in desk.ask("incidents", "list", "--json").lines} == {first, second}


@pytest.mark.parametrize("end", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_stream_is_no_error(desk: Desk, end: str) -> None:
    desk.shelf.message()

    done = process(desk, "list", shell_end=end)

    assert done.returncode == 0
    assert "expected" not in done.stderr
    assert ("@" in done.stdout) == (not end.startswith(">"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_below_stdout_is_said_without_numbers(desk: Desk) -> None:
    done = process(desk, "list", "--json", shell_end="> /dev/full")

    assert done.returncode == 0, "nothing was written"
    desk.shelf.message()
    done = process(desk, "list", "--json", shell_end="> /dev/full")
    assert done.returncode == 1
    assert "resubmit: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["list", "status", "incidents", "jobs", "audit", "journal stats"])
def test_a_journal_of_another_user_is_not_permitted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """Played, since root may read anything."""
    monkeypatch.setattr(os, "access", lambda *_: False)

    answer = desk.ask(*words.split())

    assert answer.code == 4
    assert "may not read it" in answer.err
    assert desk.ask("health").code == 3
