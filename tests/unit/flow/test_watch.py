"""What the watch sees of certificates is kept, and told once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from resubmit.clock import SystemClock
from resubmit.flow.wake import Wake
from resubmit.flow.watch import Watch
from resubmit.journal.door import Journal
from resubmit.lab.smtpd import Script, ScriptedServer
from resubmit.model.tls import Endpoint
from resubmit.recovery.settings import Recovery
from tests.helpers import certs

TARGET = "destination:hybrid"


class Hybrid:
    """A server whose certificate is swapped, and the watch that looks at it."""

    def __init__(self, watch: Watch, server: ScriptedServer, journal: Journal) -> None:
        self.watch, self.server, self.journal = watch, server, journal

    def serve(self, name: str, days: int) -> None:
        made = certs.leaf(None, dns=[f"{name}.invalid"], common=name, ends=days * certs.DAY)
        self.server.tls = certs.server_context([made])

    async def look(self) -> list[dict[str, Any]]:
        """The lines of one look that speak of certificates."""
        with capture_logs() as lines:
            await self.watch.look(TARGET, gate_closed=False)
        return [dict(line) for line in lines if line["event"].startswith("certificate.")]

    async def newest(self) -> Any:
        return (await self.journal.looks(TARGET, 0, 1))[0]


@pytest_asyncio.fixture
async def hybrid(tmp_path: Path) -> AsyncIterator[Hybrid]:
    clock = SystemClock()
    journal = await Journal.open(tmp_path / "journal", clock=clock, inline=True)
    server = ScriptedServer(Script(starttls=True), tls=certs.server_context([certs.leaf(None)]))
    await server.start()
    targets = {TARGET: Endpoint("127.0.0.1", server.port, "encrypt")}
    watch = Watch(journal, clock, targets, Recovery(), ehlo_name="relay.invalid", seen=Wake())
    yield Hybrid(watch, server, journal)
    await server.stop()
    await journal.close()


async def test_an_end_that_nears_is_told_once_a_step(hybrid: Hybrid) -> None:
    hybrid.serve("old", 6)
    (line,) = await hybrid.look()
    assert (line["event"], line["step"], line["target"]) == ("certificate.nears_end", 7, TARGET)
    assert line["days_left"] in (5, 6)
    assert await hybrid.look() == []
    assert (await hybrid.newest()).days_left == line["days_left"]


async def test_a_renewed_certificate_is_told_and_no_pool(hybrid: Hybrid) -> None:
    hybrid.serve("old", 40)
    assert await hybrid.look() == []
    hybrid.serve("new", 90)
    (line,) = await hybrid.look()
    assert (line["event"], line["address"]) == ("certificate.renewed", "127.0.0.1")
    assert line["before"] < line["now"]
    assert await hybrid.look() == []
    assert "pool_differs" not in (await hybrid.newest()).codes


async def test_nodes_that_differ_are_a_finding(hybrid: Hybrid) -> None:
    old = certs.server_context([certs.leaf(None, common="old", ends=40 * certs.DAY)])
    new = certs.server_context([certs.leaf(None, common="new", ends=90 * certs.DAY)])
    events = []
    for context in (old, new, old):
        hybrid.server.tls = context
        events += [line["event"] for line in await hybrid.look()]
    assert events == ["certificate.renewed", "certificate.went_back"]
    assert "pool_differs" in (await hybrid.newest()).codes
    assert (await hybrid.newest()).health == "healthy", "a warning, no fault"


@pytest.mark.parametrize("days", [-1, 0])
async def test_an_end_that_is_here_is_told_too(hybrid: Hybrid, days: int) -> None:
    made = certs.leaf(None, starts=-9 * certs.DAY, ends=days * certs.DAY + certs.DAY / 2)
    hybrid.server.tls = certs.server_context([made])
    (line,) = await hybrid.look()
    assert line["step"] == 1
