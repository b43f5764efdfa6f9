"""A whole service that has nothing to do does next to nothing: an hour of it, counted.

Every read and write of the journal is counted, every question of what is due, and every turn of the loop. The
bounds are a few times what the probes of closed gates need (one each 20 s, and recovery weighs each): a loop
that finds its work again at once goes past them within a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from resubmit.app import build
from resubmit.clock import LoopClock
from resubmit.config import load
from resubmit.flow.service import Parts, Service
from resubmit.journal.door import Journal
from resubmit.journal.verbs import JobAsk
from resubmit.model.moment import HOUR, MINUTE, SECOND
from resubmit.model.recipient import Event, RecipientKey
from tests.helpers.journals import NOW, arrival, attempt, recipient, seen
from tests.helpers.loop import SimulatedLoop

ROUTE_PORT, PROBE_PORT, OTHER_PORT = 2501, 2502, 2503

CONFIG = """\
[journal]
path = "journal"
intake_floor = "1MiB"
attempt_floor = "1MiB"
reserve = "64KiB"
[intake.smtp]
listen = ["127.0.0.1:2500"]
hostname = "relay.contoso.invalid"
[[route]]
name = "eop"
host = "127.0.0.1"
port = 2501
tls = "none"
[[route]]
name = "other"
host = "127.0.0.1"
port = 2503
tls = "none"
[[destination]]
name = "hybrid"
domains = ["contoso.com"]
handoff = "eop"
probe = "127.0.0.1:2502"
[[destination]]
name = "rest"
domains = ["*"]
handoff = "other"
[[evidence.folder]]
path = "traces"
[web]
listen = ""
"""


@dataclass
class Counts:
    """What an hour took."""

    queries: int = 0
    asked_due: int = 0
    turns: int = 0

    def assert_quiet(self) -> None:
        assert self.queries < 60_000, self
        assert self.asked_due < 5_000, self  # twice a look of two routes: each 30 s, and when a gate turns
        assert self.turns < 30_000, self


class Silent(asyncio.Protocol):
    """Takes the connection and never says a word."""


def an_hour(
    folder: Path,
    prepare: Callable[[Journal], Coroutine[Any, Any, None]] | None = None,
    *,
    hangs: tuple[int, ...] = (),
) -> Counts:
    """An hour of a service, ten minutes old, on a journal that `prepare` has filled; `hangs`: ports that take
    connections and fall silent. All others refuse them."""
    (folder / "config.toml").write_text(CONFIG)
    (folder / "traces").mkdir()
    loop = SimulatedLoop(1)
    counts = Counts()

    async def story() -> None:
        for port in hangs:
            await loop.create_server(Silent, "127.0.0.1", port)
        clock = LoopClock(NOW)
        config = load(folder / "config.toml")
        if prepare is not None:
            journal = await Journal.open(folder / "journal", clock=clock, inline=True)
            await prepare(journal)
            await journal.close()
        parts = await build(config, clock, inline=True, watcher=False)
        parts.doors.clear()
        service = Service(parts)
        running = asyncio.create_task(service.run())
        await asyncio.sleep(10 * MINUTE / SECOND)
        count(parts)
        await asyncio.sleep(HOUR / SECOND)
        found = replace(counts)
        assert not running.done()
        service.stopping.set()
        assert await running
        counts.__dict__.update(found.__dict__)

    def count(parts: Parts) -> None:
        journal: Any = parts.journal

        def counted(what: Callable[..., Any], name: str) -> Callable[..., Any]:
            def asked(*args: Any, **values: Any) -> Any:
                setattr(counts, name, getattr(counts, name) + 1)
                return what(*args, **values)

            return asked

        journal._read = counted(journal._read, "queries")
        journal._writer.call = counted(journal._writer.call, "queries")
        journal.due = counted(journal.due, "asked_due")
        journal.next_due = counted(journal.next_due, "asked_due")
        loop._selector.select = counted(loop._selector.select, "turns")  # type: ignore[method-assign]

    try:
        with capture_logs():
            loop.run_until_complete(story())
    finally:
        loop.close()
    return counts


async def a_hundred(journal: Journal) -> None:
    for n in range(100):
        await journal.record(arrival(recipient(f"u{n}@contoso.com"), message_id=f"<{n}@example.org>"))


async def a_jobs_hundred(journal: Journal) -> None:
    """Deferred at their destination, whose gate is closed, and made due by a job just before."""
    keys = [
        RecipientKey(await journal.record(arrival(message_id=f"<{n}@example.org>")), 0) for n in range(100)
    ]
    for key in keys:
        await attempt(journal, key.message)
        await journal.observe([seen(key.message, Event.SEEN_DEFERRED, f"{key.message}")])
    asked = JobAsk(
        asked_at=NOW,
        asked_by="ann",
        reason="",
        filter="{}",
        options="{}",
        destination="hybrid",
        incident=None,
        gate="destination:hybrid",
        recipients=tuple(keys),
    )
    await journal.make_due(keys, NOW, "eop", await journal.ask(asked))
    await journal.turn("destination:hybrid", 0, "closed", ("its certificate expired",), NOW)


def test_a_service_with_nothing_to_send_is_quiet(tmp_path: Path) -> None:
    an_hour(tmp_path, hangs=(ROUTE_PORT, PROBE_PORT, OTHER_PORT)).assert_quiet()


def test_mail_behind_a_closed_route_costs_no_more_than_its_probes(tmp_path: Path) -> None:
    an_hour(tmp_path, a_hundred).assert_quiet()


def test_a_jobs_mail_behind_a_closed_gate_is_not_asked_for_again_and_again(tmp_path: Path) -> None:
    an_hour(tmp_path, a_jobs_hundred, hangs=(ROUTE_PORT,)).assert_quiet()


def test_a_route_that_hangs_keeps_nobody_busy(tmp_path: Path) -> None:
    an_hour(tmp_path, a_hundred, hangs=(ROUTE_PORT,)).assert_quiet()
