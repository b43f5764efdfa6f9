"""What keeps the service from its work: each is said in a line with what to do, and has its exit code."""

from __future__ import annotations

import asyncio
import random
import socket
from pathlib import Path

import pytest

from resubmit.lab.client import Client
from resubmit.lab.smtpd import Script, ScriptedServer
from tests.helpers.service import FLOORS, QUICK, Done, Service, mail, needs, ran, route, until

pytestmark = pytest.mark.timeout(60)


def is_told(done: Done, code: int, *wanted: str) -> bool:
    """One line with the trouble, one with what to do; no stack, and nothing on stdout."""
    said = done.said()
    assert done.code == code, done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    assert len(said) == 2, said
    assert said[0].startswith("resubmit: ")
    assert said[1].startswith("  "), "what to do"
    for word in wanted:
        assert word in said[0]
    return True


async def test_a_second_service_on_the_same_journal_refuses_and_names_the_first(tmp_path: Path) -> None:
    service = Service(tmp_path, route("next", 1))
    async with service.running():
        assert service.process is not None
        done = await service.run("serve")
        assert is_told(done, 6, str(service.journal), f"process {service.process.pid}")
        assert await service.ready(), "the first does not mind"


@pytest.mark.parametrize("which", ["intake.smtp", "web.listen"])
async def test_a_port_in_use_is_named(tmp_path: Path, which: str) -> None:
    service = Service(tmp_path, route("next", 1))
    port = service.port if which == "intake.smtp" else service.web
    with socket.create_server(("127.0.0.1", port)):
        assert is_told(await service.run("serve"), 7, which, f"127.0.0.1:{port}", "in use")
    async with service.running():
        assert await service.ready(), "the journal was left as it should be"


async def test_a_damaged_journal_is_named_and_left_alone(tmp_path: Path) -> None:
    service = Service(tmp_path, route("next", 1))
    service.journal.mkdir()
    database = service.journal / "journal.db"
    octets = random.Random(3).randbytes(50_000)
    database.write_bytes(octets)
    assert is_told(await service.run("serve"), 1, str(database), "damaged")
    assert database.read_bytes() == octets


async def test_a_file_where_the_journals_folder_should_be_is_named(tmp_path: Path) -> None:
    service = Service(tmp_path, route("next", 1))
    service.journal.write_text("not a folder")
    assert is_told(await service.run("serve"), 1, str(service.journal), "not a folder")


async def test_a_start_on_a_full_disk_says_so(tmp_path: Path) -> None:
    service = Service(tmp_path, route("next", 1))
    wal = service.journal / "journal.db-wal"
    full = ("-e", "trace=pwrite64", "-e", "inject=pwrite64:error=ENOSPC", "-P", str(wal))
    words = (needs("strace"), "-f", "-o", str(tmp_path / "trace"), *full, *service.words("serve"))
    assert is_told(await ran(*words), 1, str(service.journal), "no room left")
    async with service.running():
        assert await service.ready(), "with room, it starts"


async def test_below_the_floor_new_mail_is_refused_for_now_and_what_is_here_leaves(tmp_path: Path) -> None:
    async with ScriptedServer(Script(rcpt="451 4.7.1 later")) as next_hop:
        service = Service(tmp_path, route("next", next_hop.port) + QUICK)
        async with service.running():
            client = await Client.connect("127.0.0.1", service.port, name="app.invalid")
            _, said = await client.send("app@app.invalid", ["anna@x.invalid"], mail("1@app.invalid"))
            assert said is not None and said.good
            client.drop()

            async def waits() -> bool:
                return service.states() == {"retrying": 1}

            await until(waits, service.end_of_log)
        next_hop.script.rcpt = "250 2.1.5 ok"
        text = service.config.read_text()
        service.config.write_text(text.replace('intake_floor = "1MiB"', 'intake_floor = "9000000GiB"'))
        async with service.running():
            client = await Client.connect("127.0.0.1", service.port, name="app.invalid")
            replies, said = await client.send("app@app.invalid", ["anna@x.invalid"], mail("2@app.invalid"))
            client.drop()
            assert said is None
            assert str(replies["anna@x.invalid"]).startswith("452 4.3.1 insufficient disk space")
            done = await service.run("replay", "--since", "1h")
            assert done.code == 0, done.err
            await service.settled(1)


async def test_an_unreachable_smart_host_keeps_mail_here_and_is_said_with_what_to_do(tmp_path: Path) -> None:
    async with ScriptedServer() as gone:
        port = gone.port
    service = Service(tmp_path, route("next", port, destination=f'probe = "127.0.0.1:{port}"') + QUICK)
    async with service.running():
        client = await Client.connect("127.0.0.1", service.port, name="app.invalid")
        _, said = await client.send("app@app.invalid", ["anna@x.invalid"], mail("1@app.invalid"))
        assert said is not None and said.good, "it is journaled all the same"
        client.drop()

        async def closed() -> bool:
            (status,) = await service.ask("status")
            return bool(status["routes"][0]["gate"] == "closed")

        await until(closed, service.end_of_log)
        turned = [one for one in service.log("gate.turned") if one["gate"] == "route:next"]
        assert len(turned) == 1, "said once, not at each attempt"
        assert f"[127.0.0.1]:{port}: connection refused" in turned[0]["reasons"][0]
        (stuck,) = await service.ask("list", "--stuck")
        assert [(r["state"], r["cause"]) for r in stuck["recipients"]] == [("retrying", "connection")]
        looked = await service.run("probe", "next")
        assert looked.code == 7
        assert f"port {port} refuses the connection" in " ".join(looked.out.split())
        assert "→" in looked.out, "what to do"
        assert "Traceback" not in service.log_file.read_text()
        async with ScriptedServer(Script(), port=port) as back:
            done = await service.run("replay", "--since", "1h")  # sooner than its next try
            assert done.code == 0, done.err
            await back.arrived(1)


async def test_a_wrong_config_lists_every_mistake_a_line_each(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        '[journal]\npath = 7\n[intake.smtp]\nlisten = ["nowhere"]\n[[route]]\nname = "next"\nhost = ""\n'
        'tls = "maximal"\n[[destination]]\nname = "all"\ndomains = ["*"]\nhandoff = "nxet"\n[recovry]\n'
    )
    service = Service.__new__(Service)
    service.config = config
    done = await service.run("serve")
    assert done.code == 2
    assert "Traceback" not in done.err
    for word in ("journal.path", "listen", "host", "maximal", "nxet", "recovry"):
        assert len([line for line in done.said() if word in line]) == 1, (word, done.err)


async def test_a_stop_without_anything_to_do_is_quick_and_exit_0(tmp_path: Path) -> None:
    service = Service(tmp_path, route("next", 1), journal=FLOORS)
    await service.start()
    assert await asyncio.wait_for(service.stop(), 5) == 0
    assert [one["event"] for one in service.log("service.stopped")] == ["service.stopped"]
