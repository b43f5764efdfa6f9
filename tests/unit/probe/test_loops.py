"""A look is the same on uvloop, whose transports are no subclass of asyncio's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from resubmit.clock import SystemClock
from resubmit.model.tls import Endpoint, Health, Verdict
from resubmit.probe.look import look
from tests.helpers import certs
from tests.helpers.odd_tls import CUT, HANG, Manners, serving
from tests.unit.probe.conftest import chain

uvloop = pytest.importorskip("uvloop")

ECDSA = certs.leaf(chain()[1], key="ec leaf")
WEAK = certs.server_context(chain()[2].up(), ciphers="AES128-SHA")
CASES: list[tuple[Manners, Health, tuple[str, ...]]] = [
    (Manners(certs.server_context(chain()[2].up())), Health.HEALTHY, ()),
    (Manners(certs.server_context([chain()[2]])), Health.FAULTY, ("chain_incomplete",)),
    (Manners(certs.server_context(ECDSA.up())), Health.HEALTHY, ("ecdsa_only",)),
    (
        Manners(certs.server_context(chain()[2].up(), ciphers="AES128-SHA")),
        Health.FAULTY,
        ("ciphers_too_weak",),
    ),
    (Manners(ehlo=b"250 mail.test.invalid\r\n"), Health.FAULTY, ("starttls_missing",)),
    (Manners(greeting=HANG), Health.FAULTY, ("greeting_timeout",)),
    (Manners(greeting=CUT), Health.FAULTY, ("greeting_closed",)),
    (Manners(greeting=b"220-a\r\n" * 200_000), Health.FAULTY, ("not_smtp",)),
    (Manners(after_hello=CUT), Health.FAULTY, ("closed_after_starttls",)),
]


@pytest.mark.parametrize(("server", "health", "codes"), CASES, ids=[str(c[2]) for c in CASES])
def test_on_uvloop(tmp_path: Path, server: Manners, health: Health, codes: tuple[str, ...]) -> None:
    ca_file = tmp_path / "root.pem"
    ca_file.write_bytes(chain()[0].pem)

    async def go() -> Verdict:
        async with serving(server) as port:
            endpoint = Endpoint("127.0.0.1", port, tls_domain="*.test.invalid", ca_file=str(ca_file))
            return await look(endpoint, clock=SystemClock(), timeout=800, ehlo_name="probe.test.invalid")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        verdict = runner.run(go())
    assert (verdict.health, verdict.codes()) == (health, codes)


async def test_somebody_elses_server_is_healthy(tmp_path: Path) -> None:
    """aiosmtpd has no PIPELINING, and takes MAIL only on TLS."""
    from aiosmtpd.handlers import Debugging
    from aiosmtpd.smtp import SMTP

    ca_file = tmp_path / "root.pem"
    ca_file.write_bytes(chain()[0].pem)
    context = certs.server_context(chain()[2].up())

    def factory() -> asyncio.Protocol:
        server: asyncio.Protocol = SMTP(
            Debugging(), hostname="mail.test.invalid", tls_context=context, require_starttls=True, loop=loop
        )
        return server

    loop = asyncio.get_running_loop()
    async with await loop.create_server(factory, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        endpoint = Endpoint(
            "127.0.0.1",
            port,
            tls_domain="mail.test.invalid",
            ca_file=str(ca_file),
            recipient="a@test.invalid",
        )
        verdict = await look(endpoint, clock=SystemClock(), timeout=4_000, ehlo_name="probe.test.invalid")
        await asyncio.sleep(0.05)  # aiosmtpd ends its session by itself
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, ())
