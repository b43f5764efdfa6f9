"""The main story, many times over, in a simulated world: faults come from the seed, promises hold in each.

RESUBMIT_SEEDS says how many seeds are played; 20 when it is not set.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import structlog

from resubmit.journal import moves, read
from tests.helpers.plot import plot_of
from tests.helpers.world import World
from tests.simulation import promises

pytestmark = pytest.mark.timeout(900)
"""A world costs up to ten seconds of processor time, and its own clock is virtual: how busy the machine is
is no failure of it."""

SEEDS = range(int(os.environ.get("RESUBMIT_SEEDS", "20")))
_MEMORY = Path("/dev/shm")
"""Where a disk costs no time, if there is such a place: a kill, unlike a power cut, loses nothing there."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    if not os.access(_MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="world-", dir=_MEMORY) as name:
        yield Path(name)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What the service logs."""
    monkeypatch.setattr(moves, "strict", True)
    seen: list[dict[str, Any]] = []

    def keep(_: Any, method: str, event: Any) -> Any:
        seen.append({"level": method, **event})
        raise structlog.DropEvent

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, keep],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )
    yield seen
    structlog.reset_defaults()


@pytest.mark.parametrize("seed", SEEDS)
def test_no_mail_is_lost_and_none_is_sent_again_once_it_is_known_delivered(
    folder: Path, lines: list[dict[str, Any]], seed: int
) -> None:
    plot = plot_of(seed)
    world = World(folder, seed, plot).play()
    assert len(world.sent) == plot.mails
    assert world.over, "every incident has to end, and every recipient to be settled"
    with closing(read.connect(folder / "journal")) as connection:
        promises.nothing_is_lost(world, connection)
        promises.nobody_else_got_any(world)
        promises.every_recipient_is_settled_as_it_really_went(world, connection)
        promises.nothing_went_out_after_its_delivery_was_known(connection)
        promises.every_incident_is_counted(connection)
        promises.it_did_not_spin(world, connection)
    wrong = {"service.failed", "recovery.restless"}
    assert not [line for line in lines if line["event"] in wrong]


def test_the_same_seed_is_the_same_story_and_the_same_log(folder: Path, lines: list[dict[str, Any]]) -> None:
    """Two kills, cuts, lost replies: all of it happens again to the millisecond."""
    stories = []
    for _ in range(2):
        place = folder / "world"
        place.mkdir()
        world = World(place, 7, plot_of(7, kills=2)).play()
        copies = [(copy.recipient, copy.message_id, copy.at) for copy in world.mailboxes.copies]
        stories.append((world.crashed, world.cut, world.lost, copies, lines.copy()))
        lines.clear()
        shutil.rmtree(place)
    assert stories[0][0] == 2
    assert len(stories[0][-1]) > 100
    for first, second in zip(stories[0][-1], stories[1][-1], strict=True):
        assert first == second
    assert stories[0] == stories[1]
