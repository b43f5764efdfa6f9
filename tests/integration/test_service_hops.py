"""Next hops that hang or break off, before the whole service."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from resubmit.lab.client import Client
from resubmit.lab.smtpd import Script, ScriptedServer
from tests.helpers.service import QUICK, Service, free_port, lines_of, mail, route, source, until

pytestmark = pytest.mark.timeout(110)


async def sent(service: Service, message_id: str, to: str, body: bytes = b"Good day.\r\n") -> None:
    client = await Client.connect("127.0.0.1", service.port, name="app.invalid")
    _, said = await client.send("app@app.invalid", [to], mail(message_id, body))
    assert said is not None and said.good, said
    await client.quit()


async def test_mail_of_another_route_leaves_while_five_thousand_wait_for_a_banner(tmp_path: Path) -> None:
    async with ScriptedServer(Script(hang="greeting")) as silent, ScriptedServer(Script()) as good:
        tables = route("silent", silent.port, "silent.invalid") + route("good", good.port) + QUICK
        async with Service(tmp_path, tables).running() as service:
            done = await source(service.port, "-s", "20", "-m", "5000", to="otto@silent.invalid")
            assert done.code == 0, done.err
            await silent.until(lambda: silent.open_connections >= 10)
            await sent(service, "goes@app.invalid", "anna@good.invalid")
            await good.arrived(1)
            # It still hangs: those who wait for it are connected, and none has gone or been given back.
            assert silent.open_connections >= 10
            held = "select state, count(*) from recipient where destination = 'silent' group by state"
            assert dict(service.rows(held)) == {"journaled": 4990, "sending": 10}


async def test_a_loss_before_the_dot_is_tried_again_and_one_after_it_is_in_doubt(tmp_path: Path) -> None:
    cuts = {"before_354": "retrying", "in_body": "retrying", "after_dot": "in_doubt"}
    servers = {cut: ScriptedServer(Script(cut=cut, after=50_000)) for cut in cuts}
    for server in servers.values():
        await server.start()
    try:
        tables = "".join(
            route(cut, server.port, f"{cut.replace('_', '-')}.invalid") for cut, server in servers.items()
        )
        # Nothing is looked at or sent again by itself while this is looked at.
        calm = QUICK
        for key in ("watch_interval", "probe_interval", "in_doubt_wait"):
            calm = re.sub(f'{key} = "[^"]*"', f'{key} = "1h"', calm)
        async with Service(tmp_path, tables + calm).running() as service:
            for cut in cuts:
                await sent(
                    service,
                    f"{cut}@app.invalid",
                    f"anna@{cut.replace('_', '-')}.invalid",
                    lines_of(20_000_000),
                )

            async def tried() -> bool:
                ended = "select count(distinct route) from offer where ended_at is not null"
                return service.rows(ended) == [(3,)]

            await until(tried, service.end_of_log)
            states = dict(service.rows("select destination, state from recipient"))
            assert states == cuts
            stages = dict(
                service.rows(
                    "select r.destination, a.stage from attempt a join recipient r using (message, n)"
                )
            )
            assert stages == {"before_354": "data", "in_body": "body", "after_dot": "dot"}
            assert [len(server.offered) for server in servers.values()] == [0, 0, 1]
            dots = dict(service.rows("select o.route, o.dot_at is not null from offer o"))
            assert dots == {"before_354": 0, "in_body": 0, "after_dot": 1}
    finally:
        await asyncio.gather(*(server.stop() for server in servers.values()))


async def test_what_waited_for_its_route_goes_when_the_route_does(tmp_path: Path) -> None:
    """Each mail's own retry is due half a minute after it failed: the first tries the route as soon as the
    dry run works, and the rest goes when that has opened the gate."""
    next_hop = ScriptedServer(Script(), port=free_port())
    tables = route("down", next_hop.port) + QUICK
    async with Service(tmp_path, tables).running() as service:
        for number in range(8):
            await sent(service, f"{number}@app.invalid", f"r{number}@x.invalid")

        async def waits() -> bool:
            gates = service.rows("select state from gate where name = 'route:down'")
            return gates == [("closed",)] and "retrying" in service.states()

        await until(waits, service.end_of_log)
        waiting = service.rows("select count(*) from recipient where state = 'retrying'")[0][0]
        assert waiting > 0
        async with next_hop:
            await next_hop.arrived(8, timeout=60_000)  # that it was hastened is what the history says
            hastened = "select count(distinct n || message) from history where event = 'made_due'"
            assert service.rows(hastened) >= [(waiting,)]
            await service.settled(8)
