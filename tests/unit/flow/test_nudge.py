"""The relay beside us is told to try again when a destination's gate opens, and only then."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from resubmit import logbook
from resubmit.flow import nudge
from resubmit.flow.nudge import Nudge
from resubmit.journal.door import Journal
from resubmit.journal.settings import JournalSettings
from resubmit.recovery import relay
from tests.helpers.journals import NOW, HandClock

FLOOR = JournalSettings(intake_floor="0B", attempt_floor="0B", reserve="0B")  # type: ignore[arg-type]


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "journal", clock=HandClock(), settings=FLOOR, inline=True)
    yield journal
    await journal.close()


async def turn(journal: Journal, gate: str, to: str) -> None:
    known = await journal.gate(gate)
    await journal.turn(gate, known.version if known else 0, to, ("as told",), NOW, "{}", None)


@asynccontextmanager
async def running(told: Nudge) -> AsyncIterator[None]:
    task = asyncio.create_task(told.run())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def events(told: Nudge, journal: Journal, *turns: tuple[str, str]) -> list[str]:
    """What the log says after a gate has turned so, each turn by itself."""
    found: list[str] = []
    async with running(told):
        for gate, to in turns:
            with capture_logs() as logs:
                await turn(journal, gate, to)
                told.wake()
                for _ in range(200):
                    await asyncio.sleep(0.01)
                    if logs or to != "open" or gate.startswith("route:"):
                        break
            found += [entry["event"] for entry in logs if entry["event"].startswith("relay.")]
    return found


def writes(file: Path) -> list[str]:
    return [sys.executable, "-c", f"open({str(file)!r}, 'a').write('told ')"]


async def test_an_opened_gate_tells_it_once(journal: Journal, tmp_path: Path) -> None:
    told = Nudge(journal, [writes(tmp_path / "out"), []])
    gate = "destination:hybrid"
    await turn(journal, gate, "closed")
    said = await events(told, journal, (gate, "testing"), (gate, "open"))
    assert said == [logbook.RELAY_TOLD]
    assert (tmp_path / "out").read_text() == "told "


async def test_what_the_config_says_is_no_shells_to_read(journal: Journal, tmp_path: Path) -> None:
    file = tmp_path / "a b; touch $(echo c)"
    told = Nudge(journal, [writes(file)])
    await turn(journal, "destination:hybrid", "closed")
    await events(told, journal, ("destination:hybrid", "open"))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [file.name]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["/no/such/program"], "No such file"),
        ([sys.executable, "-c", "raise SystemExit('no permission')"], "exit 1: no permission"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "it took longer than"),
        ([sys.executable, "-c", "\0"], "null byte"),
    ],
)
async def test_a_command_that_fails_is_told_of_and_ends_nothing(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, command: list[str], reason: str
) -> None:
    monkeypatch.setattr(nudge, "_LIMIT", 1)
    told = Nudge(journal, [command])
    await turn(journal, "destination:hybrid", "closed")
    async with running(told):
        with capture_logs() as logs:
            await turn(journal, "destination:hybrid", "open")
            told.wake()
            for _ in range(300):
                await asyncio.sleep(0.01)
                if logs:
                    break
        (entry,) = logs
        assert entry["event"] == logbook.RELAY_NOT_TOLD
        assert reason in entry["reason"]


class Gate:
    def __init__(self, name: str, state: str) -> None:
        self.name, self.state = name, state


def test_only_destinations_that_were_shut_have_opened() -> None:
    before = relay.states(
        [Gate("destination:a", "closed"), Gate("destination:b", "open"), Gate("route:r", "closed")]
    )
    now = relay.states(
        [
            Gate("destination:a", "open"),
            Gate("destination:b", "open"),
            Gate("destination:new", "open"),
            Gate("route:r", "open"),
        ]
    )
    assert relay.opened(before, now) == ("a",)
    assert relay.opened(now, before) == ()
