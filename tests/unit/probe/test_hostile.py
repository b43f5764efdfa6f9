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
from tests.helpers.odd_tls import CUT, Manners, serving
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


async def _drip_greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A greeting that could be one, if it ever ended."""
    writer.write(b"220 ")
    while True:
        writer.write(b"a")
        await asyncio.sleep(0.02)


async def _endless_ehlo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 a\r\n")
    await reader.readline()
    while True:
        writer.write(b"250-STARTTLS\r\n" * 4096)
        await writer.drain()


async def _to_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 a\r\n")
    await reader.readline()
    writer.write(b"250-a\r\n250 STARTTLS\r\n")
    await reader.readline()
    writer.write(b"220 go\r\n")
    await reader.read(1)


async def _drip_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A record that could be one, an octet at a time."""
    await _to_handshake(reader, writer)
    writer.write(b"\x16\x03\x03\x40\x00\x02\x00\x3f\x00\x03\x03")
    while True:
        writer.write(b"\x00")
        await asyncio.sleep(0.02)


async def _alerts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Warnings without end: no_renegotiation."""
    await _to_handshake(reader, writer)
    while True:
        writer.write(b"\x15\x03\x03\x00\x02\x01\x64" * 4096)
        await writer.drain()


async def _garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ten megabytes of what is no TLS."""
    await _to_handshake(reader, writer)
    writer.write(bytes(range(0x80, 0x100)) * (10 * MIB // 128))
    await writer.drain()
    await asyncio.Event().wait()


async def _goes_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


HOSTILE = [
    (_drip, "not_smtp"),
    (_drip_greeting, "greeting_timeout"),
    (_endless_ehlo, "not_smtp"),
    (_drip_handshake, "handshake_timeout"),
    (_alerts, "handshake_failed"),
    (_garbage, "plaintext_after_starttls"),
    (_goes_at_once, "greeting_closed"),
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


UNDER_TLS = [
    ("ten megabytes", b"250-" + b"x" * 10 * MIB + b"\r\n250 ok\r\n", "not_smtp"),
    ("lines without end", b"250-PIPELINING\r\n" * 100_000, "not_smtp"),
    ("noise", bytes(range(256)) * 64, "not_smtp"),
]


@pytest.mark.parametrize("step", ["tls_ehlo", "mail", "rcpt"])
@pytest.mark.parametrize(("octets", "code"), [u[1:] for u in UNDER_TLS], ids=[u[0] for u in UNDER_TLS])
async def test_under_tls_too(probed: Look, step: str, octets: bytes, code: str) -> None:
    loop = asyncio.get_running_loop()
    server = Manners(_context(), **{step: octets})  # type: ignore[arg-type]
    began = loop.time()
    verdict = await probed(server, timeout=1_500, recipient="someone@test.invalid")
    assert loop.time() - began < 4
    assert verdict.codes() == (code,)
    assert len(verdict.addresses[0].findings[0].text) < 1000


@pytest.mark.parametrize("step", ["mail", "rcpt"])
async def test_answers_out_of_step_are_not_taken_for_a_yes(probed: Look, step: str) -> None:
    """A reply without its end swallows the next one, and the goodbye stands where an answer should."""
    server = Manners(_context(), **{step: b"250-a"})  # type: ignore[arg-type]
    verdict = await probed(server, timeout=1_500, recipient="someone@test.invalid")
    assert verdict.health is Health.FAULTY


@pytest.mark.parametrize("flood", [b"221 bye\r\n" * MIB, b"x" * 10 * MIB], ids=["lines", "a line"])
async def test_a_flood_in_parting_changes_nothing(probed: Look, flood: bytes) -> None:
    verdict = await probed(Manners(_context(), rset=flood), timeout=5_000)
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, ())


@pytest.mark.parametrize(("second", "code"), HOSTILE, ids=[s.__name__ for s, _ in HOSTILE])
async def test_a_second_connection_is_bounded_like_the_first(probed: Look, second: Any, code: str) -> None:
    """The first one fails in a way that asks for another look."""
    met = 0

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal met
        met += 1
        await (Manners(after_hello=CUT) if met == 1 else second)(reader, writer)

    loop = asyncio.get_running_loop()
    began = loop.time()
    verdict = await probed(server, timeout=700)
    assert loop.time() - began < 3
    assert met == 2
    assert verdict.codes() == ("closed_after_starttls",)


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
