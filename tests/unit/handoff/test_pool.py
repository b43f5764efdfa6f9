"""Connections: kept, bounded, renewed, and never the reason for a lost attempt."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from resubmit.clock import LoopClock, SystemClock
from resubmit.handoff import pool as pools
from resubmit.handoff.pool import Pool, ehlo_name
from resubmit.model.attempt import Handed, Stage
from tests.helpers.loop import SimulatedLoop
from tests.helpers.relay import Mail, Script, ScriptedServer
from tests.unit.handoff.post import BODY, HEAD, letter, route, script, until


def stages(handed: Handed) -> list[tuple[str, str]]:
    return [(offered.result.value, offered.stage.value) for offered in handed.results]


async def test_one_connection_serves_one_letter_after_another(pool: Pool, hop: ScriptedServer) -> None:
    for _ in range(5):
        assert stages(await pool.hand(route(hop.port), letter())) == [("accepted", "dot")]
    assert hop.connections == 1
    assert pool.connections("next") == 1


async def test_no_more_connections_at_once_than_the_route_says(pool: Pool, hop: ScriptedServer) -> None:
    together = most = 0

    async def slow(mail: Mail) -> str:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await asyncio.sleep(0.02)
        together -= 1
        return "250 2.0.0 taken"

    hop.script = Script(dot=slow)
    to = route(hop.port, max_connections=3)
    results = await asyncio.gather(*(pool.hand(to, letter()) for _ in range(12)))
    assert all(stages(handed) == [("accepted", "dot")] for handed in results)
    assert most == 3
    assert hop.connections == 3


async def test_a_connection_ends_after_so_many_messages_with_quit(pool: Pool, hop: ScriptedServer) -> None:
    to = route(hop.port, messages_per_connection=2)
    for _ in range(5):
        await pool.hand(to, letter())
    await pool.close()
    assert [mail.connection for mail in hop.mails] == [1, 1, 2, 2, 3]
    assert [number for number, line in hop.lines if line == "QUIT"] == [1, 2, 3]


async def test_close_says_quit_on_what_is_kept(pool: Pool, hop: ScriptedServer) -> None:
    await pool.hand(route(hop.port), letter())
    await pool.close()
    assert hop.lines[-1] == (1, "QUIT")
    assert pool.connections("next") == 0


async def test_a_kept_connection_the_hop_closed_costs_no_attempt(pool: Pool, hop: ScriptedServer) -> None:
    await pool.hand(route(hop.port), letter())
    port = hop.port
    await hop.stop()
    hop.port = port
    await hop.start()
    assert stages(await pool.hand(route(port), letter())) == [("accepted", "dot")]
    assert hop.connections == 2


@pytest.mark.parametrize("way", [{"cut": "mail", "times": 1}, {"mail": "421 4.4.2 idle too long"}])
async def test_a_kept_connection_that_ends_at_mail_is_replaced_once(
    pool: Pool, hop: ScriptedServer, way: dict[str, Any]
) -> None:
    await pool.hand(route(hop.port), letter())
    hop.script = script(**way)
    handed = await pool.hand(route(hop.port), letter())
    if "cut" in way:
        assert stages(handed) == [("accepted", "dot")]
    else:
        assert stages(handed) == [("deferred", "mail")]  # a new one said so too: that is the answer
    assert hop.connections == 2


async def test_a_new_connection_that_ends_at_mail_is_a_deferral(pool: Pool, hop: ScriptedServer) -> None:
    hop.script = Script(cut="mail", times=1)
    assert stages(await pool.hand(route(hop.port), letter())) == [("deferred", "mail")]
    assert hop.connections == 1


async def test_a_silent_kept_connection_is_not_tried_twice(pool: Pool, hop: ScriptedServer) -> None:
    """Silence is no proof that nothing was read, and twice the time-out would hold up the route."""
    await pool.hand(route(hop.port), letter())
    hop.script = Script(hang="mail")
    assert stages(await pool.hand(route(hop.port, timeout="300ms"), letter())) == [("deferred", "mail")]


async def test_an_unused_connection_is_ended_after_a_while(hop: ScriptedServer, monkeypatch: Any) -> None:
    monkeypatch.setattr(pools, "IDLE_FOR", 50)
    pool = Pool(SystemClock())
    await asyncio.gather(*(pool.hand(route(hop.port), letter()) for _ in range(3)))
    assert pool.connections("next") >= 1
    await hop.until(lambda: len([1 for _, line in hop.lines if line == "QUIT"]) == hop.connections)
    assert pool.connections("next") == 0
    await pool.close()


async def test_a_route_configured_anew_gets_new_connections(pool: Pool, hop: ScriptedServer) -> None:
    await pool.hand(route(hop.port), letter())
    await pool.hand(route(hop.port, ehlo_name="other.invalid"), letter())
    assert [mail.helo for mail in hop.mails] == ["us.invalid", "other.invalid"]
    await hop.until(lambda: (1, "QUIT") in hop.lines)


async def test_routes_have_connections_of_their_own(pool: Pool, hop: ScriptedServer) -> None:
    await pool.hand(route(hop.port, name="one"), letter())
    await pool.hand(route(hop.port, name="two"), letter())
    assert hop.connections == 2


# ── addresses ─────────────────────────────────────────────────────────────────────────────────────


def resolving(monkeypatch: Any, *addresses: str) -> None:
    """The running loop resolves every name to these addresses, in this order."""
    loop = asyncio.get_running_loop()

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        literal = [host] if host[0].isdigit() else list(addresses)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in literal]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)


async def test_addresses_are_tried_in_order_until_one_answers(
    pool: Pool, hop: ScriptedServer, monkeypatch: Any
) -> None:
    resolving(monkeypatch, "127.0.0.2", "127.0.0.1")
    handed = await pool.hand(route(hop.port, host="hop.invalid"), letter())
    assert stages(handed) == [("accepted", "dot")]
    assert handed.remote == f"hop.invalid[127.0.0.1]:{hop.port}"


async def test_unreachable_only_when_every_address_failed_before_a_session(
    pool: Pool, hop: ScriptedServer, monkeypatch: Any
) -> None:
    resolving(monkeypatch, "127.0.0.2", "127.0.0.1")
    hop.script = Script(cut="ehlo")
    handed = await pool.hand(route(hop.port, host="hop.invalid"), letter())
    assert stages(handed) == [("deferred", "ehlo")]  # the one that came furthest says most
    assert not handed.unreachable
    assert "2 addresses tried" in handed.results[0].text
    await hop.stop()
    handed = await pool.hand(route(hop.port, host="hop.invalid"), letter())
    assert stages(handed) == [("deferred", "connect")]
    assert handed.unreachable
    assert "connection refused" in handed.results[0].text


@pytest.mark.parametrize(
    ("errno", "words"),
    [(socket.EAI_NONAME, "the name has no address"), (socket.EAI_AGAIN, "the resolver gave no answer")],
)
async def test_a_lookup_that_fails_says_which_way(
    pool: Pool, monkeypatch: Any, errno: int, words: str
) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(errno, "as told")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    handed = await pool.hand(route(25, host="hop.invalid"), letter())
    assert stages(handed) == [("deferred", Stage.LOOKUP.value)]
    assert words in handed.results[0].text
    assert handed.unreachable


async def test_a_lookup_and_a_connect_have_their_time(pool: Pool, monkeypatch: Any) -> None:
    loop = asyncio.get_running_loop()

    async def never(*_: Any, **__: Any) -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr(loop, "getaddrinfo", never)
    handed = await pool.hand(route(25, host="hop.invalid", connect_timeout="50ms"), letter())
    assert stages(handed) == [("deferred", "lookup")]
    monkeypatch.undo()
    monkeypatch.setattr(loop, "create_connection", never)
    handed = await pool.hand(route(25, connect_timeout="50ms"), letter())
    assert stages(handed) == [("deferred", "connect")]
    assert handed.unreachable
    assert "timed out" in handed.results[0].text


async def test_a_greeting_may_take_longer_than_a_connect(pool: Pool, hop: ScriptedServer) -> None:
    hop.script = Script(delays={"greeting": 300})
    handed = await pool.hand(route(hop.port, connect_timeout="100ms", timeout="5s"), letter())
    assert stages(handed) == [("accepted", "dot")]


async def test_the_source_address_is_used(pool: Pool, hop: ScriptedServer) -> None:
    await pool.hand(route(hop.port, source_address="127.0.0.9"), letter())
    assert hop.mails[0].peer.startswith("127.0.0.9:")


async def test_a_source_address_that_is_not_ours_is_a_deferral(pool: Pool, hop: ScriptedServer) -> None:
    handed = await pool.hand(route(hop.port, source_address="192.0.2.1"), letter())
    assert stages(handed) == [("deferred", "connect")]


async def test_cancelled_while_connecting_nothing_is_left_behind(pool: Pool, hop: ScriptedServer) -> None:
    hop.script = Script(hang="connect")
    task = asyncio.ensure_future(pool.hand(route(hop.port, timeout="60s"), letter()))
    await until(lambda: hop.connections == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: hop.open_connections == 0)
    hop.script = Script()
    assert stages(await pool.hand(route(hop.port, max_connections=1), letter())) == [("accepted", "dot")]


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("mail.contoso.com", "mail.contoso.com"), ("a b\r\nX: y", "a-b--X:-y"), ("[192.0.2.1]", "[192.0.2.1]")],
)
def test_the_name_in_ehlo_is_one_word(wanted: str, name: str) -> None:
    assert ehlo_name(wanted) == name
    assert ehlo_name("")


# ── other loops ───────────────────────────────────────────────────────────────────────────────────


def test_the_pool_runs_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")
    big = BODY + b"0123456789abcdef\r\n" * 100_000

    async def main() -> None:
        async with ScriptedServer() as hop:
            pool = Pool(SystemClock())
            for body in (BODY, big):
                assert stages(await pool.hand(route(hop.port), letter(body))) == [("accepted", "dot")]
            assert [mail.data for mail in hop.mails] == [HEAD + BODY, HEAD + big]
            hop.script = Script(cut="in_body", after=70_000)
            assert stages(await pool.hand(route(hop.port), letter(big))) == [("deferred", "body")]
            hop.script = Script(cut="after_dot")
            assert stages(await pool.hand(route(hop.port), letter())) == [("lost", "dot")]
            await pool.close()

    uvloop.run(main())


def test_the_pool_runs_on_a_simulated_loop() -> None:
    loop = SimulatedLoop(seed=3)

    async def main() -> None:
        hop = ScriptedServer(port=2500)
        loop.names["hop.invalid"] = ["127.0.0.1"]
        await hop.start()
        pool = Pool(LoopClock(1_795_500_000_000, seed=3))
        handed = await pool.hand(route(hop.port, host="hop.invalid"), letter())
        assert stages(handed) == [("accepted", "dot")]
        assert hop.mails[0].data == HEAD + BODY
        await asyncio.sleep(pools.IDLE_FOR / 1000 + 1)
        assert pool.connections("next") == 0
        hop.script = Script(hang="after_dot")
        assert stages(await pool.hand(route(hop.port, data_timeout="10m"), letter())) == [("lost", "dot")]
        assert loop.time() > 600
        await pool.close()
        await hop.stop()

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
