"""A large body streams: what it costs does not grow with it."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from resubmit.handoff.letter import Letter
from resubmit.handoff.pool import Pool
from resubmit.model.attempt import Result
from tests.unit.handoff.post import HEAD, route
from tests.unit.handoff.test_levels import CA, shown

SIZE = 30_000_000
LINE = b"0123456789abcdef" * 4 + b"\r\n"
BLOCK = LINE * 1000


class Sink:
    """A next hop that keeps nothing but a digest."""

    def __init__(self, tls: trustme.CA | None = None) -> None:
        self.digest = hashlib.sha256()
        self.context = shown(tls.issue_cert("localhost")) if tls else None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hop\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                writer.write(b"250-hop\r\n250 STARTTLS\r\n")
            elif verb == b"STAR" and self.context:
                writer.write(b"220 go\r\n")
                await writer.start_tls(self.context)
            elif verb == b"DATA":
                writer.write(b"354 go\r\n")
                while (line := await reader.readline()) != b".\r\n":
                    self.digest.update(line.removeprefix(b"."))
                writer.write(b"250 2.0.0 ok\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"250 ok\r\n")
        writer.close()


@pytest.mark.parametrize("level", ["none", "verified"])
async def test_thirty_megabytes_cost_next_to_nothing(pool: Pool, tmp_path: Path, level: str) -> None:
    expected = hashlib.sha256(HEAD)
    count = SIZE // len(BLOCK)
    for _ in range(count):
        expected.update(BLOCK)

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield bytes(BLOCK)

    sink = Sink(CA)
    CA.cert_pem.write_to_path(tmp_path / "root.pem")
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0)
    to = route(server.sockets[0].getsockname()[1], host="localhost", tls=level, ca_file=tmp_path / "root.pem")
    letter = Letter("a@x.invalid", (), ((0, "b@x.invalid", ()),), HEAD, count * len(BLOCK), blocks, "K.1", 1)
    tracemalloc.start()
    try:
        handed = await pool.hand(to, letter)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert handed.results[0].result is Result.ACCEPTED
    assert sink.digest.digest() == expected.digest()
    assert peak < 5_000_000
    await pool.close()
    server.close()
    await server.wait_closed()
