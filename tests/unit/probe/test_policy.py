"""What a domain published about its servers, and whether the server fits it."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from hashlib import sha256, sha512
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from resubmit.clock import SystemClock
from resubmit.model.moment import from_datetime
from resubmit.model.tls import Endpoint, Health, Severity
from resubmit.probe import policy, published
from resubmit.probe.fetch import Ask, Fetched, Trouble, fetch
from resubmit.probe.findings import judge
from resubmit.probe.policy import Policy, Published, Sts, Tlsa
from resubmit.probe.revocation import Gathered
from resubmit.probe.roots import Roots
from resubmit.probe.seen import AddressSeen, Answer, Handshake, Seen, Step
from tests.helpers import certs
from tests.helpers.lists import Web, answer, redirect

HOST = "mail.contoso.com"
ROOT = certs.root()
MIDDLE = certs.intermediate(ROOT)
LEAF = certs.leaf(MIDDLE, dns=[HOST])
ROOTS = Roots("the list", (ROOT.certificate,))
NOW = from_datetime(certs.now())
ENFORCED = b"version: STSv1\r\nmode: enforce\r\nmx: %s\r\nmax_age: 604800\r\n"


def stands(octets: bytes | None, trouble: Trouble | None = None) -> Sts:
    return Sts("contoso.com", Fetched("https://mta-sts.contoso.com/", NOW, octets, trouble, "HTTP 404"))


def flaws(
    given: Published, leaf: certs.Made = LEAF, **endpoint: Any
) -> list[tuple[str, str, Severity | None]]:
    found = policy.flaws(
        given, Endpoint(HOST, **endpoint), leaf.certificate, [MIDDLE.certificate, ROOT.certificate]
    )
    return [(f.code, f.where, f.severity) for f in found]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (ENFORCED % b"mail.contoso.com", Policy("enforce", ("mail.contoso.com",))),
        (b"version:STSv1\nmode:TESTING\nmx:A.b.\nmx: *.b\n", Policy("testing", ("a.b", "*.b"))),
        (b"version: STSv1\nmode: none\nmax_age: 1", Policy("none", ())),
        (b"version: STSv1\nmode: enforce\n", None),
        (b"version: STSv2\nmode: enforce\nmx: a.invalid", None),
        (b"version: STSv1\nmode: hard\nmx: a.invalid", None),
        (b"<html>", None),
        (b"", None),
        (bytes(range(256)), None),
    ],
)  # fmt: skip
def test_a_policy_is_read(text: bytes, read: Policy | None) -> None:
    assert policy.read(text) == read


@pytest.mark.parametrize(
    ("pattern", "ok"),
    [
        ("mail.contoso.com", True),
        ("*.contoso.com", True),
        ("contoso.com", False),
        ("*.com", False),
        ("*.mail.contoso.com", False),
        ("*.eu.contoso.com", False),
    ],
)
def test_a_pattern_allows_a_host(pattern: str, ok: bool) -> None:
    assert policy.allows(Policy("enforce", (pattern,)), "Mail.Contoso.com.") is ok


MX = ("contoso.com",)
FITS = ENFORCED % b"*.contoso.com"
OTHER = ENFORCED % b"old.contoso.com"


def test_a_policy_that_fits_says_nothing() -> None:
    assert flaws(Published(MX, (stands(FITS),))) == []


def test_a_policy_that_does_not_allow_the_host_is_a_fault_where_mail_goes_by_mx() -> None:
    assert flaws(Published(MX, (stands(OTHER),))) == [("mta_sts_mismatch", "mx", Severity.FAULT)]
    by_connector = flaws(Published(MX, (stands(OTHER),)), tls_domain="*.contoso.com")
    assert by_connector == [("mta_sts_mismatch", "mx", Severity.WARNING)]
    tested = OTHER.replace(b"enforce", b"testing")
    assert flaws(Published(MX, (stands(tested),))) == [("mta_sts_mismatch", "mx", Severity.WARNING)]
    assert flaws(Published(MX, (stands(b"version: STSv1\nmode: none"),))) == []


def test_a_policy_demands_the_hosts_own_name_on_the_certificate() -> None:
    other = certs.leaf(MIDDLE, dns=["other.contoso.com"])
    assert flaws(Published(MX, (stands(FITS),)), other) == [("mta_sts_mismatch", "leaf", Severity.FAULT)]


@pytest.mark.parametrize(
    ("octets", "trouble", "severity"),
    [
        (None, Trouble.REFUSED, Severity.WARNING),
        (None, Trouble.TOO_LARGE, Severity.WARNING),
        (None, Trouble.NO_WAY, Severity.INFO),
        (b"<html>", None, Severity.WARNING),
    ],
)
def test_a_policy_that_is_announced_and_can_not_be_had(
    octets: bytes | None, trouble: Trouble | None, severity: Severity
) -> None:
    assert flaws(Published(MX, (stands(octets, trouble),))) == [("mta_sts_mismatch", "policy", severity)]


def spki(made: certs.Made) -> bytes:
    return made.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


STRANGER = certs.leaf(ROOT, key="a stranger's")
TLSA = [
    ("the key's SHA-256", [Tlsa(3, 1, 1, sha256(spki(LEAF)).digest())], True),
    ("the certificate's SHA-512", [Tlsa(3, 0, 2, sha512(LEAF.der).digest())], True),
    ("the key itself", [Tlsa(3, 1, 0, spki(LEAF))], True),
    ("the issuer's key", [Tlsa(2, 1, 1, sha256(spki(MIDDLE)).digest())], True),
    ("the root", [Tlsa(2, 0, 1, sha256(ROOT.der).digest())], True),
    ("the leaf as an issuer", [Tlsa(2, 1, 1, sha256(spki(LEAF)).digest())], False),
    ("the issuer as a leaf", [Tlsa(3, 1, 1, sha256(spki(MIDDLE)).digest())], False),
    ("the old key", [Tlsa(3, 1, 1, sha256(spki(STRANGER)).digest())], False),
    ("old and new", [Tlsa(3, 1, 1, bytes(32)), Tlsa(3, 1, 1, sha256(spki(LEAF)).digest())], True),
    ("usages that count for nothing", [Tlsa(1, 1, 1, bytes(32)), Tlsa(0, 0, 1, bytes(32))], True),
    ("a digest that is not known", [Tlsa(3, 1, 9, bytes(32))], True),
    ("none", [], True),
]


@pytest.mark.parametrize(("records", "fits"), [c[1:] for c in TLSA], ids=[c[0] for c in TLSA])
def test_tlsa_records_fit_or_do_not(records: list[Tlsa], fits: bool) -> None:
    expected = [] if fits else [("dane_mismatch", "tlsa", Severity.FAULT)]
    assert flaws(Published(MX, (), tuple(records))) == expected
    by_connector = [] if fits else [("dane_mismatch", "tlsa", Severity.WARNING)]
    assert flaws(Published((), (), tuple(records))) == by_connector


def test_an_issuers_record_does_not_stand_in_for_the_name() -> None:
    other = certs.leaf(MIDDLE, dns=["other.contoso.com"])
    records = (Tlsa(2, 1, 1, sha256(spki(MIDDLE)).digest()),)
    assert flaws(Published(MX, (), records), other) == [("dane_mismatch", "tlsa", Severity.FAULT)]
    own = (Tlsa(3, 1, 1, sha256(spki(other)).digest()),)
    assert flaws(Published(MX, (), own), other) == [], "a record of the very key does"


@pytest.mark.parametrize(("level", "health"), [("domain", Health.FAULTY), ("encrypt", Health.HEALTHY)])
def test_what_does_not_fit_is_a_finding_of_the_address(level: str, health: Health) -> None:
    ok = Answer(Step.MAIL, 250, (b"250 ok",), 1)
    chain = tuple(one.der for one in LEAF.up())
    one = AddressSeen("192.0.2.1", "IPv4", True, (ok,), handshake=Handshake(True, verified=True, chain=chain))
    seen = Seen(Endpoint(HOST, level=level), NOW, 1_000, (one,))
    given = Gathered(published=Published(MX, (stands(OTHER),), (Tlsa(3, 1, 1, bytes(32)),)))
    verdict = judge(seen, ROOTS, gathered=given)
    assert (verdict.health, verdict.codes()) == (health, ("mta_sts_mismatch", "dane_mismatch"))
    assert all(f.advice for f in verdict.addresses[0].findings)


@dataclass
class Zone:
    """DNS as a table."""

    exchanges: dict[str, list[str]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    records: dict[str, list[Tlsa]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def mx(self, name: str) -> list[str]:
        self.asked.append(f"MX {name}")
        return self.exchanges.get(name, [])

    async def txt(self, name: str) -> list[str]:
        self.asked.append(f"TXT {name}")
        return self.texts.get(name, [])

    async def tlsa(self, name: str) -> list[Tlsa]:
        self.asked.append(f"TLSA {name}")
        return self.records.get(name, [])


async def asked(zone: Any, endpoint: Endpoint, seconds: float = 5) -> Published | None:
    deadline = asyncio.get_running_loop().time() + seconds
    return await published.ask(endpoint, zone, ROOTS, clock=SystemClock(), deadline=deadline)


@pytest.fixture
def policies(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Domains whose policy was fetched; each stands."""
    fetched: list[str] = []

    async def one(domain: str, *_: Any) -> Fetched:
        fetched.append(domain)
        return Fetched(domain, NOW, FITS)

    monkeypatch.setattr(published, "_fetch", one)
    return fetched


async def test_policies_are_read_of_the_domains_whose_mx_it_is(policies: list[str]) -> None:
    announced = ["v=STSv1; id=1"]
    zone = Zone(
        {"contoso.com": ["MAIL.contoso.com."], "fabrikam.com": ["mx.fabrikam.com."]},
        {"_mta-sts.contoso.com": ["something else", *announced], "_mta-sts.fabrikam.com": announced},
        {"_25._tcp.mail.contoso.com": [Tlsa(3, 1, 1, b"")]},
    )
    found = await asked(zone, Endpoint(HOST, domains=("fabrikam.com",), recipient="a@contoso.com"))
    assert found is not None
    assert (found.mx_of, found.tlsa) == (("contoso.com",), (Tlsa(3, 1, 1, b""),))
    assert [one.domain for one in found.sts] == ["contoso.com"] == policies


@pytest.mark.parametrize(
    "texts", [[], ["v=STSv1; id=1", "v=STSv1; id=2"], ["v=spf1 -all"], ["v=STSv10; id=1"]]
)
async def test_without_one_record_there_is_no_policy(policies: list[str], texts: list[str]) -> None:
    zone = Zone({"contoso.com": [HOST]}, {"_mta-sts.contoso.com": texts})
    assert await asked(zone, Endpoint(HOST)) == Published(("contoso.com",))
    assert policies == []


@pytest.mark.parametrize(
    "endpoint",
    [
        Endpoint("192.0.2.1"),
        Endpoint("::1"),
        Endpoint("localhost"),
        Endpoint("mail.test.invalid"),
        Endpoint("ex01.corp.local"),
        Endpoint(HOST, 587),
        Endpoint(HOST, level="none"),
    ],
)
async def test_nothing_is_asked_about_what_nothing_can_be_published_of(endpoint: Endpoint) -> None:
    assert await asked(zone := Zone(), endpoint) is None
    assert zone.asked == []


async def test_a_resolver_that_hangs_ends_with_the_look() -> None:
    class Hanging(Zone):
        async def mx(self, name: str) -> list[str]:
            await asyncio.Event().wait()
            return []

    assert await asked(Hanging(), Endpoint(HOST), seconds=0.05) is None


async def test_without_a_resolver_on_this_machine_no_tlsa_is_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import dns.asyncresolver

    class Far:
        nameservers = ("192.0.2.53",)

        async def resolve(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("asked all the same")

    monkeypatch.setattr(dns.asyncresolver, "Resolver", Far)
    assert await published.SystemDns().tlsa("_25._tcp.mail.contoso.com") == []


async def test_a_resolver_that_fails_is_an_empty_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    import dns.asyncresolver
    import dns.resolver

    class Failing:
        def __init__(self) -> None:
            raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.asyncresolver, "Resolver", Failing)
    system = published.SystemDns()
    assert (await system.mx("contoso.com"), await system.txt("contoso.com")) == ([], [])


WEB = certs.leaf(MIDDLE, dns=["mta-sts.test"])


@pytest.mark.parametrize(
    ("page", "name", "trouble"),
    [
        (answer(FITS), "mta-sts.test", None),
        (answer(FITS), "other.test", Trouble.NO_WAY),
        (redirect("/elsewhere"), "mta-sts.test", Trouble.REFUSED),
        (answer(b"x" * 70_000), "mta-sts.test", Trouble.TOO_LARGE),
    ],
    ids=["there", "another certificate", "a redirect", "too large"],
)
async def test_a_policy_is_fetched_by_https_with_a_certificate_for_its_name(
    resolves: Any, page: bytes, name: str, trouble: Trouble | None
) -> None:
    resolves("127.0.0.1")
    server = await asyncio.start_server(
        Web({"/p": page}), "127.0.0.1", 0, ssl=certs.server_context([WEB, MIDDLE])
    )
    try:
        port = server.sockets[0].getsockname()[1]
        context = published.web_context(ROOTS)
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED
        url = f"https://{name}:{port}/p"
        found = await fetch(
            Ask(url, published.POLICY_CEILING, schemes=("https",), redirects=0, context=context),
            at=NOW,
            seconds=5,
        )
    finally:
        server.close()
        await server.wait_closed()
    assert found.trouble is trouble
    assert (found.octets == FITS) is (trouble is None)
