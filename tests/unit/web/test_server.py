"""The web listener answers a monitoring system, and nobody can hold it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from resubmit.errors import JournalUnreadable, NotReachable
from resubmit.web import server
from resubmit.web.server import WebServer
from resubmit.web.settings import Web


class Bench:
    """A running server whose readiness and page can be set."""

    def __init__(self) -> None:
        self.ready = True
        self.page: bytes | Exception = b"resubmit_messages 1\n"
        self.server = WebServer(Web(listen="127.0.0.1:0"), lambda: self.ready, self.metrics)

    def metrics(self) -> bytes:
        if isinstance(self.page, Exception):
            raise self.page
        return self.page

    async def ask(self, octets: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*self.server.addresses[0])
        writer.write(octets)
        answer = await reader.read()
        writer.close()
        return answer

    async def get(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        head, _, body = (await self.ask(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())).partition(
            b"\r\n\r\n"
        )
        return int(head.split()[1]), body


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    await made.server.start()
    yield made
    await made.server.stop()


async def test_alive_is_not_ready(bench: Bench) -> None:
    bench.ready = False

    assert await bench.get("/healthz") == (200, b"ok\n")
    assert await bench.get("/readyz") == (503, b"not ready\n")
    bench.ready = True
    assert await bench.get("/readyz") == (200, b"ready\n")


async def test_metrics_are_what_was_given(bench: Bench) -> None:
    assert await bench.get("/metrics?x=1") == (200, b"resubmit_messages 1\n")


async def test_an_unreadable_journal_is_said_in_one_line(bench: Bench) -> None:
    bench.page = JournalUnreadable("the journal is damaged")

    assert await bench.get("/metrics") == (503, b"the journal is damaged\n")


async def test_head_has_the_length_and_no_body(bench: Bench) -> None:
    answer = await bench.ask(b"HEAD /healthz HTTP/1.1\r\n\r\n")

    assert b"Content-Length: 3\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /healthz\r\n\r\n", 400),
        (b"\x16\x03\x01\r\n\r\n", 400),
        (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n", 431),
    ],
)
async def test_everything_else_is_refused(bench: Bench, request_: bytes, status: int) -> None:
    assert int((await bench.ask(request_)).split()[1]) == status


async def test_a_client_that_goes_away_harms_nothing(bench: Bench) -> None:
    _, writer = await asyncio.open_connection(*bench.server.addresses[0])
    writer.write(b"GET /hea")
    writer.transport.abort()

    assert (await bench.get("/healthz"))[0] == 200


async def test_a_client_that_does_not_read_is_dropped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PATIENCE_S", 0.2)
    bench.page = b"#" * 32_000_000
    reader, writer = await asyncio.open_connection(*bench.server.addresses[0], limit=1024)
    writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")

    async with asyncio.timeout(10):
        await asyncio.wait(bench.server._open)
    writer.transport.abort()


async def test_a_stop_does_not_wait_for_silent_clients(bench: Bench) -> None:
    reader, writer = await asyncio.open_connection(*bench.server.addresses[0])
    writer.write(b"GET ")
    await bench.get("/healthz")  # the first one is being served by now

    async with asyncio.timeout(2):
        await bench.server.stop()
        assert await reader.read() == b""
    writer.close()


async def test_a_port_in_use_says_which_and_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(NotReachable) as raised:
            await WebServer(Web(listen=listen), lambda: True, lambda: b"").start()

    assert raised.value.message == f"web.listen: {listen}: is in use by another program"
    assert "[web]" in raised.value.hint
