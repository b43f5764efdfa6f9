# ruff: noqa: E501 (the cases are read as a table)
"""A probe asks for no more TLS than the mail that goes there."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

import pytest

from resubmit.clock import SystemClock
from resubmit.lab.smtpd import Script, ScriptedServer
from resubmit.model.tls import Endpoint, Health, Severity, Verdict
from resubmit.probe.look import look
from tests.helpers import certs
from tests.unit.probe.conftest import NAME

EXPIRED = "expired"
REFUSED_MAIL = "550 5.7.1 not from you"


def _tls(kind: str) -> ssl.SSLContext | None:
    if kind == "":
        return None
    begins, ends = (-9, -2) if kind == EXPIRED else (-9, 60)
    own = certs.leaf(None, dns=["elsewhere.invalid"], starts=begins * certs.DAY, ends=ends * certs.DAY)
    return certs.server_context([own])


@dataclass
class Case:
    name: str
    level: str
    health: Health
    codes: tuple[str, ...] = ()
    script: dict[str, Any] = field(default_factory=dict)
    tls: str = "self-signed"
    tls_used: bool = False
    recipient: str = ""


H, F = Health.HEALTHY, Health.FAULTY
# fmt: off
CASES = [
    Case("clear asked, clear had", "none", H, tls=""),
    Case("clear asked, a broken TLS is nobody's business", "none", H, tls=EXPIRED),
    Case("clear asked, STARTTLS refused is nobody's business", "none", H, script={"starttls_reply": "454 4.7.0 no"}),
    Case("clear asked, the sender is refused", "none", F, ("sender_refused",), {"mail": REFUSED_MAIL}),
    Case("clear asked, the recipient is refused", "none", F, ("recipient_refused",), {"rcpt": "550 5.1.1 nobody"}, recipient="a@b.invalid"),
    Case("clear asked, the server demands TLS", "none", F, ("sender_refused",), {"require_tls": True}),
    Case("clear asked, closed at MAIL", "none", F, ("sender_refused",), {"cut": "mail"}),
    Case("clear asked, silent at MAIL", "none", F, ("sender_refused",), {"hang": "mail"}),
    Case("clear asked, turned away at the greeting", "none", F, ("greeting_refused",), {"greeting": "421 4.3.2 busy"}),
    Case("TLS if it can be had, and it can", "opportunistic", H, ("self_signed", "name_mismatch"), tls_used=True),
    Case("TLS if it can be had, the certificate is old", "opportunistic", H, ("certificate_expired", "self_signed", "name_mismatch"), tls=EXPIRED, tls_used=True),
    Case("TLS if it can be had, it is not offered", "opportunistic", H, ("starttls_missing",), tls=""),
    Case("TLS if it can be had, STARTTLS is refused", "opportunistic", H, ("starttls_refused",), {"starttls_reply": "454 4.7.0 no key"}),
    Case("TLS if it can be had, closed at the handshake", "opportunistic", H, ("closed_after_starttls",), {"cut": "handshake"}),
    Case("TLS if it can be had, the handshake hangs", "opportunistic", H, ("handshake_timeout",), {"hang": "handshake"}),
    Case("TLS fails, and in clear the sender is refused", "opportunistic", F, ("sender_refused", "starttls_refused"), {"starttls_reply": "454 4.7.0 no key", "mail": REFUSED_MAIL}),
    Case("not offered, and the sender is refused", "opportunistic", F, ("sender_refused", "starttls_missing"), {"mail": REFUSED_MAIL}, tls=""),
    Case("TLS stands, and the sender is refused", "opportunistic", F, ("sender_refused", "self_signed", "name_mismatch"), {"mail": REFUSED_MAIL}, tls_used=True),
    Case("TLS asked, and not offered", "encrypt", F, ("starttls_missing",), tls=""),
    Case("TLS asked, any certificate", "encrypt", H, ("self_signed", "name_mismatch"), tls_used=True),
]
# fmt: on


async def looked(case: Case) -> Verdict:
    server = ScriptedServer(Script(**{"starttls": case.tls != "", **case.script}), tls=_tls(case.tls))
    await server.start()
    try:
        endpoint = Endpoint("127.0.0.1", server.port, case.level, tls_domain=NAME, recipient=case.recipient)
        return await look(endpoint, clock=SystemClock(), timeout=1_500, ehlo_name="probe.test.invalid")
    finally:
        await server.stop()
        assert not server.mails, "a look sends no mail"


@pytest.mark.parametrize("case", CASES, ids=[f"{c.level}: {c.name}" for c in CASES])
async def test_a_level(case: Case) -> None:
    verdict = await looked(case)
    assert set(verdict.codes()) == set(case.codes)
    assert verdict.health is case.health
    (one,) = verdict.addresses
    assert bool(one.tls_version) is case.tls_used
    faults = {f.code for f in one.findings if f.severity is Severity.FAULT}
    assert bool(faults) is (case.health is F)
    if case.level == "opportunistic":
        assert faults <= {"sender_refused"}, "what is wrong with the TLS only warns"
