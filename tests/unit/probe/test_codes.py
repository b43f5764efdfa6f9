"""A bench of misbehaving servers: each gives exactly its codes, told apart from its neighbours."""

from __future__ import annotations

import asyncio
import socket
import ssl
from datetime import timedelta
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from resubmit.clock import SystemClock
from resubmit.model.tls import Endpoint, Health, Severity, Verdict
from resubmit.probe.look import look
from tests.helpers import certs
from tests.helpers.odd_tls import CUT, HANG, Manners, serving
from tests.unit.probe.conftest import NAME, Look, chain

DAY = timedelta(days=1)
RECIPIENT = "someone@test.invalid"


def healthy_tls() -> ssl.SSLContext:
    return certs.server_context(chain()[2].up())


def where(verdict: Verdict, code: str) -> str:
    return next(f.where for a in verdict.addresses for f in a.findings if f.code == code)


async def test_a_healthy_server_has_no_findings(probed: Look) -> None:
    server = Manners(healthy_tls())
    verdict = await probed(server, recipient=RECIPIENT)
    assert (verdict.health, verdict.codes(), verdict.reached) == (Health.HEALTHY, (), True)
    (one,) = verdict.addresses
    assert (one.address, one.findings) == ("127.0.0.1", ())
    assert one.tls_version == "TLSv1.3"
    assert one.tls_cipher
    assert one.ehlo == NAME
    assert one.banner == "220 mail.test.invalid ESMTP"
    assert [c.sans for c in one.certificates] == [(NAME,), ()]
    assert server.commands[-4:] == ["MAIL FROM:<>", f"RCPT TO:<{RECIPIENT}>", "RSET", "QUIT"]
    assert not any(c.startswith(("DATA", "BDAT")) for c in server.commands)


BEFORE_TLS: list[tuple[str, dict[str, Any], str, str]] = [
    ("silent", {"greeting": HANG}, "greeting_timeout", "greeting"),
    ("half a greeting", {"greeting": b"220 mail"}, "greeting_timeout", "greeting"),
    ("closed", {"greeting": CUT}, "greeting_closed", "greeting"),
    (
        "busy",
        {"greeting": b"421 4.3.2 system not accepting network messages\r\n"},
        "greeting_refused",
        "greeting",
    ),
    ("no service", {"greeting": b"554 5.3.2 no SMTP service here\r\n"}, "greeting_refused", "greeting"),
    ("a list", {"greeting": b"554 5.7.1 192.0.2.1 is listed at zen\r\n"}, "blocklisted", "greeting"),
    ("banned", {"ehlo": b"550 5.7.606 Access denied, banned sending IP\r\n"}, "blocklisted", "ehlo"),
    ("ssh", {"greeting": b"SSH-2.0-OpenSSH_9.2\r\n"}, "not_smtp", "greeting"),
    ("http", {"greeting": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, "not_smtp", "greeting"),
    ("imap", {"greeting": b"* OK ready\r\n"}, "not_smtp", "greeting"),
    ("octets without a line", {"greeting": b"\x16\x03\x01\x00"}, "not_smtp", "greeting"),
    ("silent at EHLO", {"ehlo": HANG}, "greeting_timeout", "ehlo"),
    ("closed at EHLO", {"ehlo": CUT}, "greeting_closed", "ehlo"),
    ("a reply that stops", {"ehlo": b"250-mail.test.invalid\r\noops\r\n"}, "not_smtp", "ehlo"),
    ("HELO only", {"ehlo": b"502 unknown\r\n"}, "smtp_only", "ehlo"),
    ("neither", {"ehlo": b"502 unknown\r\n", "helo": b"502 unknown\r\n"}, "ehlo_refused", "ehlo"),
    ("not now", {"ehlo": b"451 later\r\n"}, "ehlo_refused", "ehlo"),
    ("no STARTTLS", {"ehlo": b"250-mail.test.invalid\r\n250 SIZE\r\n"}, "starttls_missing", "ehlo"),
    ("one line", {"ehlo": b"250 mail.test.invalid STARTTLS\r\n"}, "starttls_missing", "ehlo"),
    ("Xs", {"ehlo": b"250-a.invalid\r\n250 XXXXXXXA\r\n"}, "firewall_mangled_keyword", "ehlo"),
    ("454", {"starttls": b"454 4.7.0 TLS not available\r\n"}, "starttls_refused", "starttls"),
    ("502", {"starttls": b"502 5.5.1 what?\r\n"}, "starttls_refused", "starttls"),
    ("250 is no 220", {"starttls": b"250 ok\r\n"}, "starttls_refused", "starttls"),
    ("closed at STARTTLS", {"starttls": CUT}, "closed_after_starttls", "starttls"),
    ("silent at STARTTLS", {"starttls": HANG}, "handshake_timeout", "starttls"),
    ("a word behind", {"starttls": b"220 go\r\n250 mine\r\n"}, "starttls_injection", "starttls"),
    ("hung up for the handshake", {"after_hello": CUT}, "closed_after_starttls", "handshake"),
    ("silent for the handshake", {"after_hello": HANG}, "handshake_timeout", "handshake"),
    (
        "a proxy's text",
        {"after_hello": b"500 5.5.1 unrecognised\r\n"},
        "plaintext_after_starttls",
        "handshake",
    ),
    ("an alert", {"after_hello": b"\x15\x03\x03\x00\x02\x02\x28"}, "no_shared_cipher", "handshake"),
    (
        "an alert of its own",
        {"after_hello": b"\x15\x03\x03\x00\x02\x02\x50"},
        "handshake_failed",
        "handshake",
    ),
    ("garbage like TLS", {"after_hello": b"\x16\x03\x03\x00\x04junk"}, "handshake_failed", "handshake"),
    ("half a flight", {"after_hello": b"\x16\x03\x03\x00\x40half"}, "handshake_failed", "handshake"),
]


@pytest.mark.parametrize(
    ("manners", "code", "at"), [c[1:] for c in BEFORE_TLS], ids=[c[0] for c in BEFORE_TLS]
)
async def test_before_and_in_the_handshake(probed: Look, manners: dict[str, Any], code: str, at: str) -> None:
    verdict = await probed(Manners(**manners), timeout=500)
    assert verdict.codes() == (code,)
    assert (verdict.health, verdict.reached) == (Health.FAULTY, True)
    assert where(verdict, code) == at
    (found,) = verdict.addresses[0].findings
    assert found.advice, "every finding says what to do"
    assert found.text.endswith(".")


AFTER_TLS: list[tuple[str, dict[str, Any], str, str]] = [
    ("EHLO refused", {"tls_ehlo": b"503 5.5.1 bad sequence\r\n"}, "ehlo_after_tls_refused", "tls_ehlo"),
    ("closed", {"tls_ehlo": CUT}, "closed_after_tls", "tls_ehlo"),
    ("silent", {"tls_ehlo": HANG}, "closed_after_tls", "tls_ehlo"),
    ("noise", {"tls_ehlo": b"hello\r\n"}, "not_smtp", "tls_ehlo"),
    ("MAIL refused", {"mail": b"530 5.7.1 not authenticated\r\n"}, "sender_refused", "mail"),
    ("MAIL not now", {"mail": b"452 4.3.1 insufficient resources\r\n"}, "sender_refused", "mail"),
    ("MAIL closed", {"mail": CUT}, "closed_after_tls", "mail"),
    ("RCPT refused", {"rcpt": b"550 5.1.1 no such user\r\n"}, "recipient_refused", "rcpt"),
    ("RCPT greylisted", {"rcpt": b"450 4.2.0 come again\r\n"}, "recipient_refused", "rcpt"),
    ("RCPT closed", {"rcpt": CUT}, "closed_after_tls", "rcpt"),
]


@pytest.mark.parametrize("pipelined", [True, False], ids=["pipelined", "one by one"])
@pytest.mark.parametrize(("manners", "code", "at"), [c[1:] for c in AFTER_TLS], ids=[c[0] for c in AFTER_TLS])
async def test_after_the_handshake(
    probed: Look, manners: dict[str, Any], code: str, at: str, pipelined: bool
) -> None:
    if not pipelined:
        manners = {"tls_ehlo": b"250 mail.test.invalid\r\n", **manners}
    verdict = await probed(Manners(healthy_tls(), **manners), timeout=700, recipient=RECIPIENT)
    assert verdict.codes() == (code,)
    assert verdict.health is Health.FAULTY
    assert where(verdict, code) == at
    assert verdict.addresses[0].tls_version == "TLSv1.3"


@pytest.mark.parametrize("manners", [{"rset": CUT}, {"rset": HANG}, {"quit": CUT}, {"quit": b"500 no\r\n"}])
async def test_bad_manners_in_parting_are_no_fault(probed: Look, manners: dict[str, Any]) -> None:
    verdict = await probed(Manners(healthy_tls(), **manners), timeout=4_000)
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, ())


async def test_a_masked_banner_warns_beside_what_it_does(probed: Look) -> None:
    masked = b"220 **********************\r\n"
    verdict = await probed(Manners(healthy_tls(), greeting=masked))
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, ("firewall_masked_banner",))
    without = await probed(Manners(greeting=masked, ehlo=b"250 a.invalid\r\n"))
    assert without.codes() == ("firewall_masked_banner", "starttls_missing")
    assert without.addresses[0].findings[0].severity is Severity.FAULT


def _served(*links: certs.Made) -> ssl.SSLContext:
    return certs.server_context(links)


def _expired() -> ssl.SSLContext:
    return _served(certs.leaf(chain()[1], starts=-90 * DAY, ends=-3 * DAY), chain()[1])


def _old_intermediate() -> ssl.SSLContext:
    middle = certs.intermediate(chain()[0], "Old Issuing CA", starts=-900 * DAY, ends=-2 * DAY)
    return _served(certs.leaf(middle), middle)


def _not_yet() -> ssl.SSLContext:
    return _served(certs.leaf(chain()[1], starts=2 * DAY), chain()[1])


def _soon() -> ssl.SSLContext:
    return _served(certs.leaf(chain()[1], ends=7 * DAY), chain()[1])


def _self_signed() -> ssl.SSLContext:
    return _served(certs.leaf(None))


def _private(*, root_sent: bool) -> ssl.SSLContext:
    root = certs.root("Private Root", key="private root")
    middle = certs.intermediate(root, "Private Issuing CA")
    sent = [certs.leaf(middle), middle, *([root] if root_sent else [])]
    return _served(*sent)


def _private_direct() -> ssl.SSLContext:
    return _served(certs.leaf(certs.root("Private Root", key="private root")))


def _other_organisation() -> ssl.SSLContext:
    return _served(certs.leaf(certs.root("Fabrikam CA", "Fabrikam", key="fabrikam")))


def _same_name_other_key() -> ssl.SSLContext:
    return _served(certs.leaf(certs.root("Test Root", key="another")))


def _no_intermediate() -> ssl.SSLContext:
    return _served(chain()[2])


def _unrelated_intermediate() -> ssl.SSLContext:
    return _served(chain()[2], certs.intermediate(chain()[0], "Other Issuing CA"))


def _other_name() -> ssl.SSLContext:
    return _served(certs.leaf(chain()[1], dns=["other.test.invalid"]), chain()[1])


def _weak() -> ssl.SSLContext:
    return certs.server_context([certs.leaf(chain()[1], key="rsa1024"), chain()[1]], seclevel=0)


def _client_only() -> ssl.SSLContext:
    usage = ExtendedKeyUsageOID.CLIENT_AUTH
    return _served(certs.leaf(chain()[1], usage=usage), chain()[1])


def _leaf_as_issuer() -> ssl.SSLContext:
    lowly = certs.leaf(chain()[1], common="lowly.test.invalid")
    return _served(certs.leaf(lowly), lowly, chain()[1])


def _misordered() -> ssl.SSLContext:
    upper = certs.intermediate(chain()[0], "Upper CA")
    lower = certs.intermediate(upper, "Lower CA")
    return _served(certs.leaf(lower), upper, lower)


def _three() -> ssl.SSLContext:
    return _served(certs.leaf(chain()[1], dns=["other.test.invalid"], starts=-90 * DAY, ends=-DAY))


CERTIFICATES = [
    ("expired", _expired, {"certificate_expired": "leaf"}),
    ("expired intermediate", _old_intermediate, {"certificate_expired": "intermediate"}),
    ("not yet valid", _not_yet, {"certificate_not_yet_valid": "leaf"}),
    ("self-signed", _self_signed, {"self_signed": "leaf"}),
    ("private root, sent", lambda: _private(root_sent=True), {"untrusted_issuer": "root"}),
    ("private root, not sent", lambda: _private(root_sent=False), {"untrusted_issuer": "root"}),
    ("private root, issued directly", _private_direct, {"untrusted_issuer": "leaf"}),
    ("another organisation's CA", _other_organisation, {"untrusted_issuer": "leaf"}),
    ("a root's name with another key", _same_name_other_key, {"untrusted_issuer": "leaf"}),
    ("intermediate not sent", _no_intermediate, {"chain_incomplete": "leaf"}),
    ("unrelated intermediate sent", _unrelated_intermediate, {"chain_incomplete": "leaf"}),
    ("weak key", _weak, {"weak_key": "leaf"}),
    ("client usage", _client_only, {"wrong_usage": "leaf"}),
    ("issued by a leaf", _leaf_as_issuer, {"issuer_not_ca": "intermediate"}),
    (
        "expired, for another name, without its intermediate",
        _three,
        {"certificate_expired": "leaf", "name_mismatch": "host", "chain_incomplete": "leaf"},
    ),
]


@pytest.mark.parametrize(
    ("context", "codes"), [c[1:] for c in CERTIFICATES], ids=[c[0] for c in CERTIFICATES]
)
async def test_certificate_faults_are_told_apart(probed: Look, context: Any, codes: dict[str, str]) -> None:
    server = Manners(
        context(), ehlo=b"250-other.test.invalid\r\n250 STARTTLS\r\n", tls_ehlo=b"250 a.b.invalid\r\n"
    )
    verdict = await probed(server)
    faults = {f.code: f.where for f in verdict.addresses[0].findings if f.severity is Severity.FAULT}
    assert faults == codes
    assert list(faults) == list(codes), "in the order one would mend them"
    assert verdict.health is Health.FAULTY
    assert verdict.addresses[0].certificates, "the chain is had although the handshake may have failed"


@pytest.mark.parametrize(
    ("context", "codes"), [c[1:] for c in CERTIFICATES], ids=[c[0] for c in CERTIFICATES]
)
async def test_at_level_encrypt_a_certificate_only_warns(
    probed: Look, context: Any, codes: dict[str, str]
) -> None:
    verdict = await probed(Manners(context()), level="encrypt")
    assert set(verdict.codes()) == set(codes) | ({"name_mismatch"} & set(verdict.codes()))
    assert {f.severity for f in verdict.addresses[0].findings} <= {Severity.WARNING, Severity.INFO}
    assert verdict.health is Health.HEALTHY


async def test_chain_in_the_wrong_order_warns(probed: Look) -> None:
    verdict = await probed(Manners(_misordered()))
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, ("chain_misordered",))


@pytest.mark.parametrize("sent", [(0, 1), (1, 1), (1, 0, 2)], ids=["root first", "twice", "a stranger last"])
async def test_what_was_not_sent_as_a_chain_warns(probed: Look, sent: tuple[int, ...]) -> None:
    authorities = (*chain()[:2], certs.root("Stranger Root"))
    verdict = await probed(Manners(_served(chain()[2], *(authorities[place] for place in sent))))
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, ("chain_misordered",))


async def test_a_root_and_a_second_edition_of_a_ca_are_in_order(probed: Look) -> None:
    root, middle, leaf = chain()
    again = certs.intermediate(certs.root("Elder Root"))
    assert again.certificate.public_key() == middle.certificate.public_key()
    verdict = await probed(Manners(_served(leaf, middle, again, root)))
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, ())


async def test_a_name_is_looked_up_without_its_last_dot(
    ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hosts_file(host: str, port: int, **_: Any) -> list[Any]:
        if host != NAME:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", hosts_file)
    async with serving(Manners(healthy_tls())) as port:
        endpoint = Endpoint(host=f"{NAME}.", port=port, ca_file=ca_file)
        verdict = await look(endpoint, clock=SystemClock(), timeout=5_000, ehlo_name="probe.test.invalid")
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, ())


async def test_a_certificate_soon_to_expire_warns(probed: Look) -> None:
    verdict = await probed(Manners(_soon()))
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, ("expiring_soon",))


@pytest.mark.parametrize(("closed", "health"), [(True, Health.FAULTY), (False, Health.HEALTHY)])
async def test_a_dying_certificate_opens_no_gate(probed: Look, closed: bool, health: Health) -> None:
    dying = _served(certs.leaf(chain()[1], ends=timedelta(hours=23)), chain()[1])
    verdict = await probed(Manners(dying), gate_closed=closed)
    assert (verdict.health, verdict.codes()) == (health, ("expiring_soon",))


NAMES = [
    ("domain", "", Severity.FAULT),
    ("domain", "mail.other.invalid", Severity.INFO),
    ("certificate", "", Severity.WARNING),
    ("encrypt", "", Severity.WARNING),
]


@pytest.mark.parametrize(("level", "tls_domain", "severity"), NAMES)
async def test_how_grave_another_name_is_goes_by_level(
    probed: Look, level: str, tls_domain: str, severity: Severity
) -> None:
    other = _served(certs.leaf(chain()[1], dns=["mail.other.invalid"]), chain()[1])
    server = Manners(other, tls_ehlo=b"250 mail.other.invalid\r\n")
    verdict = await probed(server, level=level, tls_domain=tls_domain)
    (found,) = verdict.addresses[0].findings
    assert (found.code, found.where, found.severity) == ("name_mismatch", "host", severity)
    assert verdict.health is (Health.FAULTY if severity is Severity.FAULT else Health.HEALTHY)


async def test_a_tls_domain_that_is_not_met_is_the_fault(probed: Look) -> None:
    verdict = await probed(Manners(healthy_tls()), tls_domain="*.contoso.invalid")
    (found,) = verdict.addresses[0].findings
    assert (found.code, found.where, found.severity) == ("name_mismatch", "tls_domain", Severity.FAULT)


async def test_an_ehlo_name_not_on_the_certificate_warns(probed: Look) -> None:
    verdict = await probed(Manners(healthy_tls(), tls_ehlo=b"250 EX01.corp.local Hello\r\n"))
    (found,) = verdict.addresses[0].findings
    assert (found.code, found.where, found.severity) == ("name_mismatch", "ehlo", Severity.WARNING)
    assert verdict.health is Health.HEALTHY
    assert verdict.addresses[0].ehlo == "ex01.corp.local"


async def test_a_name_only_in_the_common_name_warns(probed: Look) -> None:
    plain = _served(certs.leaf(chain()[1], has_san=False), chain()[1])
    verdict = await probed(Manners(plain))
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, ("name_only_in_cn",))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_demanded_client_certificate_can_not_be_judged(probed: Look, version: ssl.TLSVersion) -> None:
    """On TLS 1.3 the handshake itself succeeds, and the next read fails."""
    strict = healthy_tls()
    strict.minimum_version = strict.maximum_version = version
    strict.verify_mode = ssl.CERT_REQUIRED
    strict.load_verify_locations(cadata=chain()[0].der)
    verdict = await probed(Manners(strict))
    assert (verdict.health, verdict.codes()) == (Health.UNKNOWN, ("client_certificate_required",))


async def test_a_client_certificate_that_is_only_asked_for_is_no_finding(probed: Look) -> None:
    asking = healthy_tls()
    asking.verify_mode = ssl.CERT_OPTIONAL
    asking.load_verify_locations(cadata=chain()[0].der)
    verdict = await probed(Manners(asking))
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, ())


async def test_tls_1_2_alone_is_healthy(probed: Look) -> None:
    only = healthy_tls()
    only.maximum_version = ssl.TLSVersion.TLSv1_2
    verdict = await probed(Manners(only))
    assert (verdict.health, verdict.addresses[0].tls_version) == (Health.HEALTHY, "TLSv1.2")


async def _plain_look(host: str, port: int, timeout: int = 2_000) -> Verdict:
    endpoint = Endpoint(host, port)
    return await look(endpoint, clock=SystemClock(), timeout=timeout, ehlo_name="probe.test.invalid")


async def test_a_closed_port_refuses() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        verdict = await _plain_look("127.0.0.1", taken.getsockname()[1])
    assert (verdict.health, verdict.codes()) == (Health.FAULTY, ("connect_refused",))
    assert not verdict.reached


async def test_a_port_that_swallows_connections_times_out() -> None:
    """A full accept queue drops what comes, like a firewall."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        loop = asyncio.get_running_loop()
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            began = loop.time()
            verdict = await _plain_look("127.0.0.1", full.getsockname()[1], timeout=400)
            assert loop.time() - began < 3
        finally:
            for filler in fillers:
                filler.close()
    assert (verdict.health, verdict.codes(), verdict.reached) == (Health.FAULTY, ("connect_timeout",), False)


RESOLVERS = [
    (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Health.FAULTY),
    (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), Health.UNKNOWN),
    (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"), Health.UNKNOWN),
    (UnicodeError("label too long"), Health.FAULTY),
    (OSError(24, "Too many open files"), Health.UNKNOWN),
]


@pytest.mark.parametrize(("error", "health"), RESOLVERS, ids=[repr(e) for e, _ in RESOLVERS])
async def test_a_missing_name_is_a_fault_and_a_failing_resolver_is_ours(
    monkeypatch: pytest.MonkeyPatch, error: Exception, health: Health
) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        raise error

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    verdict = await _plain_look("nowhere.invalid", 25)
    assert (verdict.health, verdict.codes(), verdict.reached) == (health, ("dns_failed",), False)


async def test_a_resolver_that_hangs_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    verdict = await _plain_look("nowhere.invalid", 25, timeout=100)
    assert (verdict.health, verdict.codes()) == (Health.UNKNOWN, ("dns_failed",))


async def test_a_ca_file_that_is_gone_makes_it_unknown(probed: Look) -> None:
    verdict = await probed(Manners(healthy_tls()), ca_file="/nowhere/roots.pem")
    assert verdict.health is Health.UNKNOWN
    assert "/nowhere/roots.pem" in verdict.findings[0].text
