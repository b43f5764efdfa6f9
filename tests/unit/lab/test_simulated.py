"""The lab runs in the simulated world too: its sockets and waits go through the running loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from resubmit.clock import LoopClock, SystemClock
from resubmit.lab.certs import Authority
from resubmit.lab.client import Client
from resubmit.lab.exchange_online import Connector, ExchangeOnline
from resubmit.lab.hybrid import HybridServer
from resubmit.lab.mailbox import Mailboxes
from resubmit.lab.tenant import Tenant
from resubmit.lab.trace import FAILED
from resubmit.lab.trace_files import Publisher
from resubmit.model.moment import HOUR, MINUTE
from tests.helpers.loop import SimulatedLoop

NAME = "mail.contoso.invalid"


Course = tuple[str, list[tuple[int, str]]]


def simulated(story: Coroutine[Any, Any, Course]) -> Course:
    loop = SimulatedLoop(7)
    try:
        return loop.run_until_complete(story)
    finally:
        loop.close()


async def a_day(folder: Path) -> Course:
    """A mail is stuck on an expired certificate for a day; what the trace said of it, and when."""
    base = SystemClock().now()
    clock = LoopClock(base, seed=3)
    folder.mkdir()
    authority = Authority(folder, base)
    mailboxes = Mailboxes(clock=clock)
    hybrid = HybridServer(mailboxes, authority.expired(NAME), name=NAME, clock=clock, port=2600)
    await hybrid.start()
    online = ExchangeOnline(
        Tenant.of(["contoso.invalid"], hybrid=["anna@contoso.invalid"]),
        Connector(NAME, "127.0.0.1", hybrid.port, NAME, authority.root_file),
        mailboxes,
        clock=clock,
        port=2500,
    )
    await online.start()
    publisher = Publisher(online.trace, folder, clock=clock, lag=15 * MINUTE, every=5 * MINUTE)
    publishing = asyncio.create_task(publisher.run())
    client = await Client.connect("127.0.0.1", online.port, name="relay.invalid")
    data = b"Message-ID: <1@app.invalid>\r\n\r\nx\r\n"
    await client.send("app@x.invalid", ["anna@contoso.invalid"], data)
    await client.quit()
    await asyncio.sleep(31 * HOUR / 1000)
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)
    await online.stop()
    await hybrid.stop()
    (row,) = online.trace.of("<1@app.invalid>")
    assert row.status() == FAILED
    assert len(publisher.files) == 4
    return row.network_id, [(step.at - base, step.event) for step in row.steps]


def test_a_day_in_the_lab_is_simulated_in_a_moment_and_the_same_each_time(tmp_path: Path) -> None:
    started = time.monotonic()
    first = simulated(a_day(tmp_path / "one"))
    assert [event for _, event in first[1]] == ["Receive", "Defer", "Fail"]
    assert simulated(a_day(tmp_path / "two")) == first
    assert time.monotonic() - started < 10
