"""Mail that was delivered is sent once more, for a mailbox server that was lost (`--include-delivered`).

Beside each delivered recipient stands a new one; the old one stays. The mailboxes are the next hop's, and
count the copies.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from resubmit.clock import SystemClock
from resubmit.lab import crowd
from resubmit.lab.client import Client
from resubmit.lab.smtpd import Hang, Mail, Script, ScriptedServer
from resubmit.lab.stage import Stage
from tests.helpers.service import QUICK, Done, Service, mail, route, until

pytestmark = pytest.mark.timeout(100)

MAILS = 6
HALF = 3
REPLAY = ("replay", "--since", "1h", "--include-delivered", "--wait", "--json")


class Bench:
    """A service whose mail was delivered, by a final route: a message to two recipients, the rest to one."""

    def __init__(self, folder: Path) -> None:
        keywords = ["PIPELINING", "8BITMIME", "DSN"]
        self.next_hop = ScriptedServer(Script(keywords=keywords, dot=self.dot, taken_when_cut=False))
        self.hangs_after: int | None = None
        self.folder = folder

    def dot(self, offered: Mail) -> str:
        """Takes mail, and from some point on takes the octets and falls silent."""
        if self.hangs_after is not None and len(self.next_hop.mails) >= self.hangs_after:
            raise Hang
        return "250 2.0.0 delivered"

    async def __aenter__(self) -> Bench:
        await self.next_hop.start()
        tables = route("box", self.next_hop.port, final=True, more="max_connections = 2") + QUICK
        self.service = Service(self.folder, tables)
        await self.service.start()
        client = await Client.connect("127.0.0.1", self.service.port, name="app.invalid")
        for number in range(MAILS):
            octets = mail(f"{number}@app.invalid", f"..of {number}\r\n".encode())
            _, said = await client.send("app@app.invalid", self.to(number), octets)
            assert said is not None and said.good
        await client.quit()
        await self.service.settled(MAILS + 1, "delivered")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.service.stop()
        await self.next_hop.stop()

    @staticmethod
    def to(number: int) -> list[str]:
        return [f"r{number}@x.invalid", *(["second@x.invalid"] if number == 0 else [])]

    def copies(self) -> Counter[str]:
        return Counter(address for one in self.next_hop.mails for address, _ in one.recipients)

    def twice(self) -> None:
        """Each mailbox has two copies, the same below the trace fields, under keys of their own."""
        assert self.copies() == {address: 2 for number in range(MAILS) for address in self.to(number)}, (
            self.service.end_of_log()
        )
        for number in range(MAILS):
            mails = [m for m in self.next_hop.mails if m.header("Message-ID") == f"<{number}@app.invalid>"]
            bodies = {one.data[one.data.index(b"Message-ID:") :] for one in mails}
            assert bodies == {mail(f"{number}@app.invalid", f"..of {number}\r\n".encode())}
            keys = [re.search(rb"id (\w+\.\d+)", one.data) for one in mails]
            named = [(found[1], address) for found, one in zip(keys, mails, strict=True) if found
                     for address, _ in one.recipients]  # fmt: skip
            assert len(set(named)) == len(named) == 2 * len(self.to(number))

    async def listed(self) -> list[dict[str, Any]]:
        return [
            recipient
            for message in await self.service.ask("list", "--limit", "0")
            for recipient in message["recipients"]
        ]


async def test_a_second_copy_is_sent_beside_the_delivered_one_and_both_are_shown(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        done = await bench.service.run(*REPLAY)
        assert done.code == 0, done.err
        (job,) = done.objects()
        counts = (job["recipients"], job["accepted"], job["delivered"], job["skipped"])
        assert counts == (MAILS + 1, MAILS + 1, MAILS + 1, 0)
        bench.twice()
        rows = await bench.listed()
        assert Counter((r["state"], r["attempts"]) for r in rows) == {("delivered", 1): 2 * (MAILS + 1)}
        assert Counter(r["again_of"] for r in rows if r["again_of"]) == {
            address: 1 for number in range(MAILS) for address in bench.to(number)
        }
        audited = bench.service.rows("select count(*) from audit where action = 'send_again'")
        assert audited == [(MAILS + 1,)]


async def test_asked_once_more_the_copy_goes_again_and_not_the_first(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        for copies in (2, 3):
            done = await bench.service.run(*REPLAY)
            assert done.code == 0, done.err
            assert set(bench.copies().values()) == {copies}
        (job,) = (await bench.service.run(*REPLAY, "--dry-run")).objects()
        assert job["recipients"] == MAILS + 1
        assert job["left"] == {"sent again already, beside it": 2 * (MAILS + 1)}


async def test_without_a_service_the_command_makes_the_copies_itself(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        await bench.service.stop()
        done = await bench.service.run(*REPLAY)
        assert done.code == 0, done.err
        bench.twice()
        await bench.service.start()


async def test_a_sender_hears_of_failure_but_not_of_a_second_success(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        client = await Client.connect("127.0.0.1", bench.service.port, name="app.invalid")
        words = "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;old@x.invalid"
        await client.send(
            "app@app.invalid", ["dsn@x.invalid"], mail("dsn@app.invalid"), rcpt_parameters=words
        )
        await client.quit()
        await bench.service.settled(MAILS + 2, "delivered")
        done = await bench.service.run("replay", "--recipient", "dsn@x.invalid", *REPLAY[1:])
        assert done.code == 0, done.err
        first, second = (one.recipients for one in bench.next_hop.mails[-2:])
        assert first == (("dsn@x.invalid", ("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;old@x.invalid")),)
        assert second == (("dsn@x.invalid", ("NOTIFY=FAILURE", "ORCPT=rfc822;old@x.invalid")),)


@pytest.mark.parametrize("killed", ["the service", "the command by itself"])
async def test_a_kill_half_way_makes_no_second_row_and_no_third_copy(tmp_path: Path, killed: str) -> None:
    async with Bench(tmp_path) as bench:
        bench.hangs_after = MAILS + HALF
        if killed == "the service":
            asked = asyncio.create_task(bench.service.run(*REPLAY))
            await _until_half(bench)
            await bench.service.kill()
            done: Done = await asked
            assert done.code == 1
        else:
            await bench.service.stop()
            process = await asyncio.create_subprocess_exec(
                *bench.service.words(*REPLAY), stdout=asyncio.subprocess.DEVNULL
            )
            try:
                await _until_half(bench)
            finally:
                process.kill()
            assert await process.wait() == -signal.SIGKILL
        bench.hangs_after = None
        await bench.service.start()

        async def over() -> bool:
            (job,) = await bench.service.ask("jobs", "list")
            return bool(job["state"] == "done") and bench.service.states() == {"delivered": 2 * (MAILS + 1)}

        await until(over, bench.service.end_of_log)
        bench.twice()
        made = bench.service.rows("select count(*), count(distinct message || again_of) from recipient"
                                  " where again_of is not null")  # fmt: skip
        assert made == [(MAILS + 1, MAILS + 1)]


async def _until_half(bench: Bench) -> None:
    """Half of the copies have their reply in the journal, and the next hop is silent about some."""

    async def holds() -> bool:
        replied = "select count(distinct offer) from attempt where no = 2 and ended_at is not null"
        return len(bench.next_hop.mails) == MAILS + HALF and bench.service.rows(replied) == [(HALF,)]

    await until(holds, lambda: f"{len(bench.next_hop.mails)}\n{bench.service.end_of_log()}")


async def test_cancelled_before_it_went_nothing_is_sent_and_no_row_is_left_open(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        bench.hangs_after = MAILS
        done = await bench.service.run(*REPLAY[:-2], "--rate", "1/h", "--json")
        (job,) = done.objects()

        async def begun() -> bool:
            return len(bench.next_hop.offered) > MAILS

        await until(begun, bench.service.end_of_log)
        cancelled = await bench.service.run("jobs", "cancel", str(job["id"]))
        assert cancelled.code == 0, cancelled.err
        states = bench.service.states()
        assert (states["delivered"], states["cancelled"]) == (MAILS + 1, MAILS - 1), states
        (plan,) = (await bench.service.run(*REPLAY, "--dry-run")).objects()
        assert plan["left"] == {"cancelled": MAILS - 1, "sending": 2, "sent again already, beside it": 2}


@pytest.mark.parametrize("state", ["failed", "cancelled"])
async def test_what_was_settled_otherwise_is_reopened_by_its_state(tmp_path: Path, state: str) -> None:
    """The same row goes again, as its next attempt: nothing was delivered that could have a copy."""
    async with Bench(tmp_path) as bench:
        say = ["550 5.1.1 no such user"] if state == "failed" else ["451 4.3.0 come back"]
        bench.next_hop.script.rcpt = lambda address: say[0]
        client = await Client.connect("127.0.0.1", bench.service.port, name="app.invalid")
        await client.send("", ["late@x.invalid"], mail("late@app.invalid", b"x\r\n"))
        await client.quit()
        if state == "cancelled":
            await _stands(bench, "late@x.invalid", "retrying")
            cancelled = await bench.service.run("cancel", "--recipient", "late@x.invalid", "--yes")
            assert cancelled.code == 0, cancelled.err
        await _stands(bench, "late@x.invalid", state)
        say[0] = "250 2.1.5 ok"
        none = await bench.service.run("replay", "--recipient", "late@x.invalid", "--json")
        assert none.objects()[0]["recipients"] == 0
        done = await bench.service.run(
            "replay", "--recipient", "late@x.invalid", "--state", state, "--wait", "--json"
        )
        assert done.code == 0, done.err
        assert bench.copies()["late@x.invalid"] == 1
        (late,) = [r for r in await bench.listed() if r["address"] == "late@x.invalid"]
        assert (late["state"], late["again_of"]) == ("delivered", None)


async def _stands(bench: Bench, address: str, state: str) -> None:
    async def holds() -> bool:
        return bench.service.rows("select state from recipient where address = ?", address) == [(state,)]

    await until(holds, bench.service.end_of_log)


async def test_the_lab_has_two_copies_and_its_trace_proves_each_row_by_itself() -> None:
    """By a next hop whose 250 proves nothing: both rows are delivered by evidence, each by its own."""
    clock = SystemClock(11)
    async with Stage(clock) as stage:
        await stage.serve()
        letters = [crowd.write("first", n, crowd.HYBRID[n % 12 : n % 12 + 1], clock) for n in range(8)]
        letters = await crowd.send(letters, stage.intake_port)
        pairs = crowd.expected(letters, stage.tenant)

        def rows(count: int) -> Callable[[], Awaitable[bool]]:
            async def holds() -> bool:
                found = await stage.ask("list", "--limit", "0")
                states = Counter(r["state"] for message in found for r in message["recipients"])
                return states == {"delivered": count}

            return holds

        await until(rows(8), stage.end_of_log)
        (job,) = await stage.ask("replay", "--since", "1h", "--include-delivered", "--wait")
        assert (job["recipients"], job["accepted"]) == (8, 8)
        await until(rows(16), stage.end_of_log)
        assert [stage.mailboxes.count(address, message_id) for address, message_id in pairs] == [2] * 8
        found = await stage.ask("list", "--limit", "0")
        assert all([r["attempts"] for r in one["recipients"]] == [1, 1] for one in found)
        (status,) = await stage.ask("status")
        assert (status["incidents"], status["stuck"]) == ([], {})
