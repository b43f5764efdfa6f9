"""Much at once, through the whole service: many messages, large ones, and ten thousand that wait."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from resubmit.clock import SystemClock
from resubmit.lab.client import Client
from resubmit.lab.smtpd import Mail, Script, ScriptedServer
from resubmit.model.moment import HOUR, MINUTE
from tests.helpers.service import QUICK, Service, mail, route, sink, source, until
from tests.helpers.waiting import retrying

pytestmark = pytest.mark.timeout(110)

MIB = 1024 * 1024


async def test_five_thousand_messages_are_handed_on_with_fewer_commits_than_messages(tmp_path: Path) -> None:
    async with sink() as next_hop, Service(tmp_path, route("next", next_hop) + QUICK).running() as service:
        done = await source(service.port, "-s", "20", "-m", "5000", "-l", "4096")
        assert done.code == 0, done.err
        assert service.rows("select count(*) from message") == [(5000,)]
        await service.settled(5000)
        calls = await service.metric("resubmit_journal_calls_total")
        commits = await service.metric("resubmit_journal_commit_seconds_count")
        assert calls >= 3 * 5000, "each is recorded, begun and ended"
        assert commits < 5000


async def test_twenty_messages_of_thirty_megabytes_go_in_and_out_at_once_below_200_mb(tmp_path: Path) -> None:
    async with sink() as next_hop:
        tables = route("next", next_hop, more="max_connections = 20")
        async with Service(tmp_path, tables + QUICK).running() as service:
            done = await source(service.port, "-s", "20", "-m", "20", "-l", "30000000")
            assert done.code == 0, done.err
            await service.settled(20)
            sizes = [size for (size,) in service.rows("select size from message")]
            assert min(sizes) > 29_000_000
            assert service.peak() < 200 * MIB, f"{service.peak() / MIB:.0f} MiB"


async def test_ten_thousand_that_wait_keep_their_times_over_a_kill_and_cost_no_burst_and_no_memory(
    tmp_path: Path,
) -> None:
    overdue, waiting = 100, 9_900
    under_way = most = 0

    def mail_from(address: str) -> str:
        nonlocal under_way, most
        under_way += bool(address)  # a probe asks for a null sender, and sends nothing
        most = max(most, under_way)
        return "250 2.1.0 ok"

    def dot(taken: Mail) -> str:
        nonlocal under_way
        under_way -= 1
        return "250 2.0.0 taken"

    async with ScriptedServer(Script(mail=mail_from, dot=dot)) as next_hop:
        tables = route("next", next_hop.port, more="max_connections = 4") + QUICK
        fresh = tmp_path / "fresh"
        fresh.mkdir()
        async with Service(fresh, tables).running() as nothing_waits:
            baseline = nothing_waits.peak()

        service = Service(tmp_path, tables)
        dues = [-MINUTE] * overdue + [HOUR + number for number in range(waiting)]
        await retrying(service.journal, dues, route="next", size=8_000)
        planned = "select message, due_at from recipient where state = 'retrying' and due_at > ? order by 1"
        soon = SystemClock().now() + 30 * MINUTE
        before = service.rows(planned, soon)
        assert len(before) == waiting
        for _ in range(2):
            await service.start()
            await service.kill()
            await next_hop.until(lambda: next_hop.open_connections == 0)
            under_way = 0
        async with service.running():
            await until(
                lambda: at_least(service, overdue),
                lambda: f"{service.states()}\n{service.end_of_log()}",
            )
            client = await Client.connect("127.0.0.1", service.port, name="app.invalid")
            _, said = await client.send("app@app.invalid", ["new@x.invalid"], mail("new@app.invalid"))
            assert said is not None and said.good
            await client.quit()
            await until(lambda: at_least(service, overdue + 1), service.end_of_log)
            assert service.rows(planned, soon) == before
            assert service.states() == {"delivered": overdue + 1, "retrying": waiting}
            assert service.peak() < baseline + 32 * MIB, f"{service.peak() / MIB:.0f} MiB"
        # What was under way at a kill may have come twice, nothing else.
        came = Counter(one.recipients[0][0] for one in next_hop.mails)
        assert len(came) == overdue + 1
        assert 0 < most <= 4


async def at_least(service: Service, delivered: int) -> bool:
    return service.states().get("delivered", 0) >= delivered
