"""A look ends within its time and its memory, whatever the peer does."""

from __future__ import annotations

import asyncio
import ssl
import tracemalloc
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resubmit.clock import SystemClock
from resubmit.model.tls import Endpoint, Health, Verdict
from resubmit.probe import wire
from resubmit.probe.look import look
from tests.helpers import certs
from tests.helpers.loop import SimulatedLoop
from tests.helpers.odd_tls import Manners, serving
from tests.unit.probe.conftest import NAME, Look, chain

MIB = 1024 * 1024


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One octet at a time, for ever."""
    while True:
        writer.write(b"2")
        await asyncio.sleep(0.02)


async def _drip_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        for octet in b"220-welcome\r\n":
            writer.write(bytes([octet]))
            await asyncio.sleep(0.01)


async def _endless_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 ")
    while True:
        writer.write(b"a" * 65536)
        await writer.drain()


async def _endless_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"220-welcome\r\n" * 4096)
        await writer.drain()


async def _ten_megabytes_to_ehlo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.test.invalid\r\n")
    await reader.readline()
    writer.write(b"250-" + b"x" * 10 * MIB + b"\r\n250 STARTTLS\r\n")
    await writer.drain()
    await asyncio.Event().wait()


async def _endless_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Empty TLS handshake records without end."""
    writer.write(b"220 a\r\n")
    await reader.readline()
    writer.write(b"250-a\r\n250 STARTTLS\r\n")
    await reader.readline()
    writer.write(b"220 go\r\n")
    await reader.read(1)
    while True:
        writer.write(b"\x17\x03\x03\x40\x00" + bytes(16384))
        await writer.drain()


async def _deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greets and reads nothing more."""
    writer.write(b"220 a\r\n")
    await asyncio.Event().wait()


HOSTILE = [
    (_drip, "not_smtp"),
    (_drip_lines, "greeting_timeout"),
    (_endless_line, "not_smtp"),
    (_endless_lines, "not_smtp"),
    (_ten_megabytes_to_ehlo, "not_smtp"),
    (_endless_handshake, "handshake_failed"),
    (_deaf, "greeting_timeout"),
]


@pytest.mark.parametrize(("server", "code"), HOSTILE, ids=[s.__name__ for s, _ in HOSTILE])
async def test_it_ends_in_time_and_in_bounds(probed: Look, server: object, code: str) -> None:
    loop = asyncio.get_running_loop()
    tracemalloc.start()
    try:
        began = loop.time()
        verdict = await probed(server, timeout=700)  # type: ignore[arg-type]
        assert loop.time() - began < 3
        # The server runs here too; its own 10 MiB reply is the largest thing in it.
        assert tracemalloc.get_traced_memory()[1] < 32 * MIB
    finally:
        tracemalloc.stop()
    assert verdict.codes() == (code,)
    assert verdict.health is Health.FAULTY


async def test_what_is_not_read_waits_in_the_socket() -> None:
    """Nobody asks for the octets: the transport is paused, and what is held stays below the bounds."""
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    async with serving(flood) as port:
        loop = asyncio.get_running_loop()
        transport, held = await loop.create_connection(wire.Wire, "127.0.0.1", port)
        before = -1
        while before != sent:  # until the far side can write no more
            before = sent
            await asyncio.sleep(0.1)
        assert held.taken < wire.HOLD + 512 * 1024  # asyncio reads 256 KiB at a time
        assert not transport.is_reading()
        await held.close()


async def test_a_chain_of_a_thousand_certificates(probed: Look) -> None:
    many = [certs.intermediate(chain()[0], f"CA {n}", key="the same") for n in range(60)]
    extra = many * 17
    context = certs.server_context([chain()[2], chain()[1], *extra[:1000]])
    verdict = await probed(Manners(context), timeout=3_000)
    assert verdict.health is Health.FAULTY, "OpenSSL takes 100 KiB of certificates and no more"
    assert len(verdict.addresses[0].certificates) <= wire.CHAIN_CEILING


async def test_certificates_of_one_name_and_no_end(probed: Look) -> None:
    """Each of thirty issuers could have issued the next."""
    loop = asyncio.get_running_loop()
    ring = [certs.intermediate(chain()[0], "Ring CA", key=f"ring {n}") for n in range(30)]
    crossed = [
        certs.make(certs.Order("Ring CA", "Test", is_ca=True, key=f"ring {n}"), ring[n - 1])
        for n in range(30)
    ]
    leaf = certs.leaf(ring[0])
    began = loop.time()
    verdict = await probed(Manners(certs.server_context([leaf, *crossed])), timeout=3_000)
    assert loop.time() - began < 3
    assert verdict.health is Health.FAULTY


async def test_far_text_can_not_reach_the_terminal(probed: Look) -> None:
    verdict = await probed(Manners(greeting=b"554 \x1b[2J\x07\xff\xed\xa0\x80 no\r\n"))
    text = verdict.addresses[0].findings[0].text + verdict.addresses[0].banner
    assert text.isprintable()
    assert text.encode()


def _simulated(going: Coroutine[Any, Any, Verdict]) -> Verdict:
    """What it comes to on a loop on which waiting costs nothing."""
    loop = SimulatedLoop()
    try:
        return loop.run_until_complete(going)
    finally:
        loop.close()


def _run(script: list[bytes], *, level: str = "domain") -> Verdict:
    """A look at a server that says these octets, one piece after each thing it hears, then hangs up."""

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in script:
            writer.write(piece)
            await writer.drain()
            if not await reader.read(65536):
                return

    async def go() -> Verdict:
        async with serving(server) as port:
            return await look(
                Endpoint("127.0.0.1", port, level=level, ca_file=ROOTS["file"]),
                clock=SystemClock(),
                timeout=2_000,
                ehlo_name="probe.test.invalid",
            )

    return _simulated(go())


@pytest.fixture(scope="module", autouse=True)
def _roots(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One file for all examples: a fixture per function would not be remade between them."""
    path = tmp_path_factory.mktemp("roots") / "root.pem"
    path.write_bytes(chain()[0].pem)
    ROOTS["file"] = str(path)


ROOTS: dict[str, str] = {}


PIECES = st.one_of(
    st.binary(max_size=80),
    st.sampled_from(
        [
            b"220 mail\r\n",
            b"220\r\n",
            b"250-a\r\n250 STARTTLS\r\n",
            b"250-a\r\n250-STARTTLS\r\n",
            b"220 go\r\n",
            b"\x16\x03\x03\x00\x02\x02\x00",
            b"\x15\x03\x03\x00\x02\x02\x28",
            b"\r\n",
            b"999 what\r\n",
            b"250-\xff\xfe\r\n250 STARTTLS\r\n",
        ]
    ),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(PIECES, max_size=6))
def test_any_octets_end_in_a_verdict(script: list[bytes]) -> None:
    verdict = _run(script)
    assert verdict.health is Health.FAULTY
    assert verdict.codes()
    assert all(f.text.isprintable() for a in verdict.addresses for f in a.findings)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.binary(max_size=200), max_size=3), st.sampled_from(["encrypt", "certificate", "domain"]))
def test_any_octets_in_the_handshake_end_in_a_verdict(octets: list[bytes], level: str) -> None:
    verdict = _run([b"220 a\r\n", b"250-a\r\n250 STARTTLS\r\n", b"220 go\r\n", *octets], level=level)
    assert verdict.health is Health.FAULTY
    assert verdict.codes()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(reply=st.binary(max_size=120), step=st.sampled_from(["tls_ehlo", "mail", "rcpt", "rset"]))
def test_any_octets_under_tls_end_in_a_verdict(reply: bytes, step: str) -> None:
    manners = Manners(_context(), **{step: reply + b"\r\n"})  # type: ignore[arg-type]

    async def go() -> Verdict:
        async with serving(manners) as port:
            return await look(
                Endpoint(
                    "127.0.0.1", port, tls_domain=NAME, ca_file=ROOTS["file"], recipient="a@test.invalid"
                ),
                clock=SystemClock(),
                timeout=400,
                ehlo_name="probe.test.invalid",
            )

    verdict = _simulated(go())
    if step == "rset":
        assert verdict.health is Health.HEALTHY
    elif not (reply[:1] == b"2" and wire.is_reply_line(reply.split(b"\n")[0])):
        assert verdict.health is Health.FAULTY


def _context() -> ssl.SSLContext:
    return certs.server_context(chain()[2].up())


async def test_a_name_of_ours_that_cannot_be_sent_is_no_verdict_on_the_far_side() -> None:
    """The watch loop lives on: what is wrong is our config, and the verdict says so."""
    for endpoint, ehlo in (
        (Endpoint("127.0.0.1", 9), "our relay"),
        (Endpoint("127.0.0.1", 9, recipient="<a>"), "x"),
    ):
        verdict = await look(endpoint, clock=SystemClock(), timeout=1000, ehlo_name=ehlo)

        assert verdict.health is Health.UNKNOWN
