"""The main job with Graph as the only thing that tells: real SMTP, real TLS, the whole service."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from resubmit.clock import SystemClock
from resubmit.lab.certs import Authority
from resubmit.lab.client import Client
from resubmit.lab.exchange_online import Connector, ExchangeOnline
from resubmit.lab.graph import GraphLab
from resubmit.lab.hybrid import HybridServer
from resubmit.lab.mailbox import Mailboxes
from resubmit.lab.tenant import Tenant
from resubmit.model.moment import DAY
from tests.helpers.service import Service, mail, until

pytestmark = pytest.mark.timeout(110)

NAME = "mail.contoso.invalid"
MAILS = 8
CALM = 3
"""So many more go to a cloud mailbox, where nothing is wrong."""


async def test_what_is_stuck_by_graph_is_recovered_by_graph(tmp_path: Path) -> None:
    clock = SystemClock(seed=1)
    authority = Authority(tmp_path / "certs", clock.now())
    boxes = Mailboxes(clock=clock)
    hybrid = HybridServer(boxes, authority.expired(NAME), name=NAME, clock=clock)
    people = [f"r{number}@contoso.invalid" for number in range(MAILS)]
    tenant = Tenant.of(["contoso.invalid"], cloud=["cloud@contoso.invalid"], hybrid=people)
    await hybrid.start()
    connector = Connector(NAME, "127.0.0.1", hybrid.port, NAME, authority.root_file)
    online = ExchangeOnline(tenant, connector, boxes, clock=clock, timeout=2000)
    graph = GraphLab(online.trace, clock=clock, tls=authority.good("localhost").context())
    graph.quirks.lag, graph.quirks.cut_details, graph.quirks.page = DAY, 300, 4
    (tmp_path / "graph.secret").write_text(graph.sign_in.secret)
    try:
        await online.start()
        await graph.start()
        tables = f"""
[[route]]
name = "eop"
host = "127.0.0.1"
port = {online.port}
tls = "none"
[[destination]]
name = "hybrid"
domains = ["contoso.invalid"]
handoff = "eop"
exchange = true
probe = "127.0.0.1:{hybrid.port}"
probe_name = "{NAME}"
ca_file = "{authority.root_file}"
[evidence.graph]
tenant = "{graph.sign_in.tenant}"
client_id = "{graph.sign_in.client_id}"
client_secret_file = "graph.secret"
endpoint = "{graph.endpoint}"
login = "{graph.login}"
ca_file = "{authority.root_file}"
poll = "2s"
[recovery]
stuck_after = "1s"
watch_interval = "1h"
probe_interval = "300ms"
trace_lag = "3s"
settle = "0s"
rate = "unlimited"
"""
        async with Service(tmp_path, tables).running() as service:
            client = await Client.connect("127.0.0.1", service.port, name="app.invalid")
            for number, address in enumerate(people + ["cloud@contoso.invalid"] * CALM):
                _, said = await client.send("app@app.invalid", [address], mail(f"{number}@app.invalid"))
                assert said is not None and said.good, said
            await client.quit()

            async def tried() -> bool:
                return all(
                    any(step.led for step in each.steps) for each in online.trace.with_status("Pending")
                )

            async def taken() -> bool:
                return len(online.trace.rows) == MAILS + CALM and await tried()

            await until(taken, service.end_of_log)
            graph.quirks.lag = 0

            async def stuck() -> bool:
                return service.states() == {"deferred": MAILS, "delivered": CALM}

            await until(stuck, lambda: f"{service.states()}\n{service.end_of_log()}")
            causes = service.rows("select distinct cause from recipient where state = 'deferred'")
            assert causes == [("tls",)]

            async def shut() -> bool:
                gate = "select state from gate where name = 'destination:hybrid'"
                return service.rows(gate) == [("closed",)]

            await until(shut, service.end_of_log)
            (status,) = await service.ask("status")
            assert status["live_trace"]["source"] == "trace_graph"
            mended = clock.now()
            hybrid.show(authority.good(NAME))
            await service.settled(MAILS + CALM)
            assert {boxes.count(a, f"<{n}@app.invalid>") for n, a in enumerate(people)} == {1}

            async def closed() -> bool:
                return service.rows("select state from incident") == [("closed",)]

            await until(closed, service.end_of_log)
            (report,) = await service.ask("incidents", "report", "1")
            counted = {key: report[key] for key in ("stuck", "recovered", "failed", "unproven", "unknown")}
            assert counted == {"stuck": MAILS, "recovered": MAILS, "failed": 0, "unproven": 0, "unknown": 0}
            lists = [asked for asked in graph.asked if asked.is_list and asked.at > mended]
            assert lists
            assert not [asked for asked in graph.asked if asked.status != 200]
            details = [asked.target for asked in graph.asked if asked.is_details and asked.at < mended]
            assert len(set(details)) == len(details) == MAILS, "one look into what is stuck, no more"
            assert graph.sign_in.secret not in service.log_file.read_text()
    finally:
        await asyncio.gather(graph.stop(), online.stop(), hybrid.stop())
