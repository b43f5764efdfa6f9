"""A replay asked for with the service up, with it down, and with whoever carries it out killed half-way."""

from __future__ import annotations

import asyncio
import re
import signal
from collections import Counter
from pathlib import Path

import pytest

from resubmit.lab.client import Client
from resubmit.lab.smtpd import Hang, Mail, Script, ScriptedServer
from tests.helpers.service import QUICK, Done, Service, mail, route, until

pytestmark = pytest.mark.timeout(100)

MAILS = 12
HALF = 6
REPLAY = ("replay", "--since", "1h", "--include-accepted", "--wait", "--json")


class Bench:
    """A service with so many messages that the next hop took, and nothing is known of since."""

    def __init__(self, folder: Path) -> None:
        self.next_hop = ScriptedServer(Script(dot=self.dot, taken_when_cut=False))
        self.hangs = False
        self.folder = folder

    def dot(self, offered: Mail) -> str:
        """Half-way through the second time, it takes the octets and falls silent."""
        if self.hangs and len(self.next_hop.mails) >= MAILS + HALF:
            raise Hang
        return "250 2.0.0 taken"

    async def __aenter__(self) -> Bench:
        await self.next_hop.start()
        tables = route("next", self.next_hop.port, final=False, more="max_connections = 2") + QUICK
        self.service = Service(self.folder, tables)
        await self.service.start()
        client = await Client.connect("127.0.0.1", self.service.port, name="app.invalid")
        for number in range(MAILS):
            octets = mail(f"{number}@app.invalid", f"..of {number}\r\n".encode())
            _, said = await client.send("app@app.invalid", [f"r{number}@x.invalid"], octets)
            assert said is not None and said.good
        await client.quit()
        await self.service.settled(MAILS, "accepted")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.service.stop()
        await self.next_hop.stop()

    def has_half(self) -> bool:
        """Whether half of the replay has its reply in the journal, and the rest hangs at the next hop."""
        replied = "select count(*) from attempt where no = 2 and ended_at is not null"
        return (
            len(self.next_hop.mails) == MAILS + HALF
            and len(self.next_hop.offered) == MAILS + HALF + 2
            and self.service.rows(replied) == [(HALF,)]
        )

    async def until_half(self) -> None:
        async def holds() -> bool:
            return self.has_half()

        await until(holds, lambda: f"{len(self.next_hop.mails)}\n{self.service.end_of_log()}")

    def check(self) -> None:
        """Each came twice, the same octets below the trace fields, as attempts of their own."""
        came = Counter(one.recipients[0][0] for one in self.next_hop.mails)
        assert came == {f"r{number}@x.invalid": 2 for number in range(MAILS)}
        for number in range(MAILS):
            both = [
                one.data
                for one in self.next_hop.mails
                if one.header("Message-ID") == f"<{number}@app.invalid>"
            ]
            bodies = {octets[octets.index(b"Message-ID:") :] for octets in both}
            assert bodies == {mail(f"{number}@app.invalid", f"..of {number}\r\n".encode())}
            attempts = [re.search(rb"id \w+\.(\d+)", octets) for octets in both]
            numbers = [found[1] for found in attempts if found]
            assert numbers[0] == b"1"
            assert len(set(numbers)) == 2


async def test_the_service_carries_it_out(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        done = await bench.service.run(*REPLAY)
        assert done.code == 0, done.err
        (job,) = done.objects()
        assert (job["recipients"], job["accepted"]) == (MAILS, MAILS)
        bench.check()


async def test_without_a_service_the_command_carries_it_out_and_lets_go_of_the_journal(
    tmp_path: Path,
) -> None:
    async with Bench(tmp_path) as bench:
        await bench.service.stop()
        done = await bench.service.run(*REPLAY)
        assert done.code == 0, done.err
        (job,) = done.objects()
        assert (job["recipients"], job["accepted"]) == (MAILS, MAILS)
        bench.check()
        (kept,) = await bench.service.ask("jobs", "list")
        assert (kept["state"], kept["accepted"]) == ("done", MAILS), "nobody is left to end it later"
        await bench.service.start()


@pytest.mark.parametrize("killed", ["the service", "the command by itself"])
async def test_a_kill_half_way_loses_nobody_and_sends_nobody_again(tmp_path: Path, killed: str) -> None:
    async with Bench(tmp_path) as bench:
        bench.hangs = True
        if killed == "the service":
            asked = asyncio.create_task(bench.service.run(*REPLAY))
            await bench.until_half()
            await bench.service.kill()
            done: Done = await asked
            assert done.code == 1
            assert "the service ended before it answered" in done.err
            assert "Traceback" not in done.err
        else:
            await bench.service.stop()
            process = await asyncio.create_subprocess_exec(
                *bench.service.words(*REPLAY), stdout=asyncio.subprocess.DEVNULL
            )
            try:
                await bench.until_half()
            finally:
                process.kill()
            assert await process.wait() == -signal.SIGKILL
        bench.hangs = False
        await bench.service.start()

        async def over() -> bool:
            (job,) = await bench.service.ask("jobs", "list")
            return bool(job["state"] == "done") and bench.service.states() == {"accepted": MAILS}

        await until(over, bench.service.end_of_log)
        bench.check()
