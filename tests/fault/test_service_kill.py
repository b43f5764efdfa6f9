"""The whole service, killed and stopped under load: nothing that was answered 250 is lost, byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from resubmit.journal import read
from resubmit.lab.client import Broken, Client
from resubmit.lab.smtpd import Script, ScriptedServer
from resubmit.model.ids import parse_id
from tests.helpers.service import QUICK, Service, lines_of, mail, needs, route, sink, until
from tests.unit.intake.listening import client

pytestmark = pytest.mark.timeout(240)

KILLS = 20


class Judge:
    """A client that remembers which of its mail was answered 250, and as what."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.taken: dict[str, tuple[str, bytes]] = {}
        """Message-ID → (id shown in the 250, the octets sent)."""
        self.refused: list[str] = []
        self.heard = asyncio.Event()

    async def send(self, name: str, large: int = 5, most: int = 10_000) -> None:
        """Mail after mail over one connection, until the service is no longer there. One in `large` is kept
        in a file of its own."""
        with contextlib.suppress(Broken):
            session = await Client.connect("127.0.0.1", self.port, name="judge.invalid")
            try:
                for number in range(most):
                    message_id = f"{name}.{number}@judge.invalid"
                    body = lines_of(140_000 if number % large == large // 2 else 100 + 97 * number)
                    octets = mail(message_id, body + f"..end of {message_id}\r\n".encode())
                    _, said = await session.send("app@judge.invalid", ["anna@x.invalid"], octets)
                    if said is None or not said.good:
                        self.refused.append(str(said))
                    else:
                        found = re.match(r"2\.0\.0 (\S+) journaled", said.text)
                        assert found, said
                        self.taken[message_id] = found[1], octets
                        self.heard.set()
            finally:
                session.drop()


async def test_no_message_answered_250_is_lost_to_twenty_kills_in_the_middle_of_intake(
    tmp_path: Path,
) -> None:
    chance = random.Random(5)
    dumps = tmp_path / "dumps"
    dumps.mkdir()
    async with sink("-d", f"{dumps}/m.") as next_hop:
        service = Service(tmp_path, route("next", next_hop) + QUICK)
        judge = Judge(service.port)
        for number in range(KILLS):
            await service.start()
            load = await asyncio.create_subprocess_exec(
                *(needs("smtp-source"), "-s", "20", "-m", "100000", "-l", "2048"),
                *("-f", "load@app.invalid", "-t", "otto@x.invalid", f"127.0.0.1:{service.port}"),
                stderr=asyncio.subprocess.DEVNULL,
            )
            senders = [asyncio.create_task(judge.send(f"{number}.{n}")) for n in range(3)]
            for _ in range(chance.randint(1, 12)):
                judge.heard.clear()
                await asyncio.wait_for(judge.heard.wait(), 30)
            await service.kill()
            await asyncio.gather(*senders)
            with contextlib.suppress(ProcessLookupError):
                load.kill()
            await load.wait()
        async with service.running():
            assert len(judge.taken) > KILLS
            with closing(read.connect(service.journal)) as connection:
                for shown, octets in judge.taken.values():
                    assert b"".join(read.body(connection, service.journal, parse_id(shown))) == octets
            total = service.rows("select count(*) from recipient")[0][0]
            assert total > len(judge.taken), "the load was there too"
            await service.settled(total)
        handed = [path.read_bytes() for path in dumps.iterdir()]
    whole = {}
    for dump in handed:
        if found := re.search(rb"\nMessage-ID: <([^>]+@judge\.invalid)>\n", dump):
            whole[found[1].decode()] = dump[found.start() + 1 :]
    for message_id, (_, octets) in judge.taken.items():
        assert whole[message_id].rstrip(b"\n") == octets.replace(b"\r\n", b"\n").rstrip(b"\n")


async def test_a_stop_ends_within_five_seconds_and_loses_nothing_whoever_hangs(tmp_path: Path) -> None:
    async with ScriptedServer(Script()) as good, ScriptedServer(Script(hang="after_dot")) as silent:
        tables = route("silent", silent.port, "silent.invalid") + route("rest", good.port) + QUICK
        service = Service(tmp_path, tables)
        await service.start()
        judge = Judge(service.port)
        sender = await Client.connect("127.0.0.1", service.port, name="app.invalid")
        _, said = await sender.send("app@app.invalid", ["otto@silent.invalid"], mail("silent@app.invalid"))
        assert said is not None and said.good
        sender.drop()
        await silent.until(lambda: len(silent.offered) == 1)
        # A client that stops in the middle of its message, and others that go on and on.
        async with client(service.port) as half:
            await half.begin(recipient="anna@x.invalid")
            half.send(b"Message-ID: <half@app.invalid>\r\n\r\nhalf of it")
            senders = [asyncio.create_task(judge.send(f"stop.{n}")) for n in range(3)]
            await asyncio.wait_for(judge.heard.wait(), 30)
            assert await service.stop(limit=5.0) == 0, service.end_of_log()
        await asyncio.gather(*senders)
        assert service.states().get("sending", 0) <= 1, "only the one that hangs is left open"

        silent.script.hang = ""
        async with service.running():
            kept = dict(service.rows("select message_id, id from message"))
            assert "<half@app.invalid>" not in kept
            assert {f"<{message_id}>" for message_id in judge.taken} <= set(kept)
            await service.settled(len(kept))
        came = {one.header("Message-ID") for one in (*good.mails, *silent.mails)}
        assert came == set(kept)


def calls_of(trace: str) -> Iterator[str]:
    """What a trace of the service shows of one message: its last octets read, its body, its pages in the WAL,
    syncs, and the reply to its dot; each when it began."""
    patterns = {
        r"\b(?:write|writev|sendto|sendmsg)\(.*250 2\.0\.0 \w+ journaled": "250",
        r"\bwrite\(\d+<[^>]*/bodies/[^>]*>": "body write",
        r"\bf(?:data)?sync\(\d+<[^>]*/bodies/[^>]*>": "body sync",
        r"\brename(?:at2?)?\(.*/bodies/": "body rename",
        r"\bf(?:data)?sync\(\d+<[^>]*/bodies>": "folder sync",
        r"\bpwrite64\(\d+<[^>]*-wal>, .*traced@app\.invalid": "wal write",
        r"\bf(?:data)?sync\(\d+<[^>]*-wal>": "wal sync",
        r"\b(?:read|recvfrom)\b.*the-end-of-it": "dot",
    }
    for line in trace.splitlines():
        for pattern, what in patterns.items():
            if re.search(pattern, line):
                yield what


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        (1_000, ["wal write", "wal sync"]),
        (200_000, ["body write", "body sync", "body rename", "folder sync", "wal write", "wal sync"]),
    ],
    ids=["in the database", "in a file"],
)
async def test_a_client_hears_250_only_after_write_and_sync(
    tmp_path: Path, size: int, wanted: list[str]
) -> None:
    trace = tmp_path / "trace"

    async def ended() -> bool:
        return any("+++ exited" in line for line in trace.read_text("utf-8", "replace").splitlines()[-1:])

    calls = (
        "trace=read,recvfrom,write,writev,sendto,sendmsg,pwrite64,fsync,fdatasync,rename,renameat,renameat2"
    )
    under = (needs("strace"), "-D", "-f", "-yy", "-s", "4096", "-o", str(trace), "-e", calls)
    # The next hop's attempts would write to the journal too: its route has an address that is nobody's, and
    # there is no watch while this is looked at.
    service = Service(tmp_path, route("next", 1) + QUICK.replace("500ms", "1h"))
    async with service.running(*under):
        sender = await Client.connect("127.0.0.1", service.port, name="app.invalid")
        octets = mail("traced@app.invalid", lines_of(size) + b"the-end-of-it\r\n")
        _, said = await sender.send("app@app.invalid", ["anna@x.invalid"], octets)
        assert said is not None and said.good
        await sender.quit()
    # The tracer is a process of its own, which ends after the service.
    await until(ended, lambda: trace.read_text("utf-8", "replace")[-2000:])
    steps = list(calls_of(trace.read_text("utf-8", "replace")))
    assert steps.count("250") == 1
    before = steps[: steps.index("250")]
    start = before.index("body write") if "body write" in before else before.index("dot")
    written = before.index("wal write")
    # A sync before the message's own write was another commit's.
    own = [what for n, what in enumerate(before) if n >= start and (what != "wal sync" or n > written)]
    assert [what for what, _ in itertools.groupby(what for what in own if what != "dot")] == wanted


async def test_a_disk_that_fails_to_sync_ends_the_service_and_breaks_no_promise(tmp_path: Path) -> None:
    wal = tmp_path / "journal" / "journal.db-wal"
    failing = ("-e", "inject=fsync,fdatasync:error=EIO:when=40+", "-P", str(wal))
    under = (
        needs("strace"),
        "-D",
        "-f",
        "-o",
        str(tmp_path / "trace"),
        "-e",
        "trace=fsync,fdatasync",
        *failing,
    )
    service = Service(tmp_path, route("next", 1) + QUICK.replace("500ms", "1h"))
    await service.start(*under)
    judge = Judge(service.port)
    await judge.send("disk", large=1)
    assert service.process is not None
    assert await asyncio.wait_for(service.process.wait(), 30) == 1
    assert "Traceback" not in service.log_file.read_text()
    assert len(service.log("journal.disk_failed")) == 1
    assert judge.taken
    async with service.running():
        with closing(read.connect(service.journal)) as connection:
            for shown, octets in judge.taken.values():
                assert b"".join(read.body(connection, service.journal, parse_id(shown))) == octets
            # What was not promised may be there nevertheless: then it is whole.
            for message, size in connection.execute("select id, size from message"):
                assert sum(map(len, read.body(connection, service.journal, message))) == size


async def test_a_disk_that_is_full_for_a_while_refuses_mail_loses_none_and_ends_nothing(
    tmp_path: Path,
) -> None:
    wal = tmp_path / "journal" / "journal.db-wal"
    full = ("-e", "inject=pwrite64:error=ENOSPC:when=150..230", "-P", str(wal))
    under = (needs("strace"), "-D", "-f", "-o", str(tmp_path / "trace"), "-e", "trace=pwrite64", *full)
    async with ScriptedServer(Script()) as next_hop:
        service = Service(tmp_path, route("next", next_hop.port) + QUICK)
        async with service.running(*under):
            judge = Judge(service.port)
            await asyncio.gather(*(judge.send(f"full.{n}", most=60) for n in range(4)))
            assert judge.refused
            assert all(said.startswith(("452 4.3.1", "None")) for said in judge.refused), judge.refused
            kept = dict(service.rows("select message_id, id from message"))
            assert {f"<{message_id}>" for message_id in judge.taken} <= set(kept)
            await service.settled(len(kept))
        assert "Traceback" not in service.log_file.read_text()
        assert {one.header("Message-ID") for one in next_hop.mails} == set(kept)
