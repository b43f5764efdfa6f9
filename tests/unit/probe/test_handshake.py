"""Why a handshake does not stand, and what stands only with us: versions, ciphers, keys."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from resubmit.model.tls import Health, Severity, Verdict
from tests.helpers import certs
from tests.helpers.odd_tls import CUT, HANG, Handler, Manners, alerting
from tests.unit.probe.conftest import Look, chain

EC_LEAF = "ec leaf"
SHORT_GROUP = (
    "MIGHAoGBAP//////////yQ/aoiFowjTExmKLgNwc0SkCTgiKZ8x0Agu+pjsTmyJRSgh5jjQE3e+VGbPNOkMbMCsKbfJfFDdP"
    "4TVtbVHCReSFtXZiXn7G9ExC6aY37WsL/1y29Aa37e44a/taiZ+lrp8kEXxLH+ZJKGZR7OZTgf//////////AgEC"
)
"""RFC 2409 §6.2: 1024 bits."""
GROUP = (
    "MIIBCAKCAQEA///////////JD9qiIWjCNMTGYouA3BzRKQJOCIpnzHQCC76mOxObIlFKCHmONATd75UZs806QxswKwpt8l8U"
    "N0/hNW1tUcJF5IW1dmJefsb0TELppjftawv/XLb0Brft7jhr+1qJn6WunyQRfEsf5kkoZlHs5Fs9wgB8uKFjvwWY2kg2HFXT"
    "mmkWP6j9JM9fg2VdI9yjrZYcYvNWIIVSu57VKQdwlpZtZww1Tkq8mATxdGwIyhghfDKQXkYuNs474553LBgOhgObJ4Oi7Aei"
    "j7XFXfBvTFLJ3ivL9pVYFxg5lUl86pVq5RXSJhiY+gUQFXKOWoqsqmj//////////wIBAg=="
)
"""RFC 3526 §3: 2048 bits."""


def server(ciphers: str = "", *, leaf: certs.Made | None = None, newest: Any = None) -> ssl.SSLContext:
    """A context with these ciphers for TLS 1.2 and no later version, unless told otherwise."""
    context = certs.server_context((leaf or chain()[2]).up())
    context.maximum_version = newest or ssl.TLSVersion.TLSv1_2
    if ciphers:
        context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    return context


def old(newest: ssl.TLSVersion, leaf: certs.Made | None = None) -> ssl.SSLContext:
    context = server("ALL", leaf=leaf)
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = newest
    return context


def ecdsa() -> certs.Made:
    return certs.leaf(chain()[1], key=EC_LEAF)


def both() -> ssl.SSLContext:
    """An RSA and an ECDSA certificate, of which TLS 1.3 takes the ECDSA one."""
    context = certs.server_context(chain()[2].up())
    certs.add_chain(context, ecdsa().up())
    return context


def with_group(context: ssl.SSLContext, group: str, folder: Path) -> ssl.SSLContext:
    """The context with a Diffie-Hellman group: it has no DHE without."""
    path = folder / "group.pem"
    path.write_text(f"-----BEGIN DH PARAMETERS-----\n{group}\n-----END DH PARAMETERS-----\n")
    context.load_dh_params(str(path))
    return context


def first(verdict: Verdict) -> Any:
    return verdict.addresses[0].findings[0]


MANNERS = [alerting, Manners]
"""With a last word, and without one: asyncio's own TLS hangs up on a handshake that fails."""


@pytest.mark.parametrize("how", MANNERS, ids=["an alert", "hangs up"])
@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_old_versions_are_named(probed: Look, how: Any, newest: ssl.TLSVersion) -> None:
    verdict = await probed(how(old(newest)))
    assert (verdict.health, verdict.codes()) == (Health.FAULTY, ("protocol_too_old",))
    assert {ssl.TLSVersion.TLSv1: "TLSv1 ", ssl.TLSVersion.TLSv1_1: "TLSv1.1 "}[newest] in first(verdict).text


async def test_a_server_of_old_versions_has_its_certificate_judged_too(probed: Look) -> None:
    context = old(ssl.TLSVersion.TLSv1_1, certs.leaf(chain()[1], starts=-90 * certs.DAY, ends=-certs.DAY))
    verdict = await probed(Manners(context))
    assert verdict.codes() == ("protocol_too_old", "certificate_expired")
    assert verdict.addresses[0].certificates


WEAK = ["AES128-SHA", "AES256-SHA256", "CAMELLIA256-SHA", "NULL-SHA256", "AECDH-AES256-SHA"]


@pytest.mark.parametrize("how", MANNERS, ids=["an alert", "hangs up"])
@pytest.mark.parametrize("cipher", WEAK)
async def test_ciphers_of_yesterday_are_named(probed: Look, how: Any, cipher: str) -> None:
    verdict = await probed(how(server(cipher)))
    assert (verdict.health, verdict.codes()) == (Health.FAULTY, ("ciphers_too_weak",))
    assert cipher in first(verdict).text


async def test_a_short_diffie_hellman_key_is_too_weak(probed: Look, tmp_path: Path) -> None:
    context = with_group(server("DHE-RSA-AES128-GCM-SHA256"), SHORT_GROUP, tmp_path)
    verdict = await probed(alerting(context))
    assert verdict.codes() == ("ciphers_too_weak",)
    assert "Diffie-Hellman" in first(verdict).text


@pytest.mark.parametrize("cipher", ["AES128-CCM", "ECDHE-ARIA256-GCM-SHA384"])
async def test_a_good_cipher_nobody_has_is_none_in_common(probed: Look, cipher: str) -> None:
    verdict = await probed(alerting(server(cipher)))
    assert (verdict.health, verdict.codes()) == (Health.FAULTY, ("no_shared_cipher",))
    assert cipher in first(verdict).text


async def test_ciphers_the_key_does_not_fit_are_none_in_common(probed: Look) -> None:
    """An ECDSA certificate with RSA suites: the server can agree to nothing."""
    verdict = await probed(alerting(server("ECDHE-RSA-AES128-GCM-SHA256", leaf=ecdsa())))
    assert (verdict.health, verdict.codes()) == (Health.FAULTY, ("no_shared_cipher",))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_demanded_client_certificate_is_told_from_no_cipher_in_common(
    probed: Look, version: ssl.TLSVersion
) -> None:
    strict = server(newest=version)
    strict.minimum_version = version
    strict.verify_mode = ssl.CERT_REQUIRED
    strict.load_verify_locations(cadata=chain()[0].der)
    verdict = await probed(Manners(strict))
    assert (verdict.health, verdict.codes()) == (Health.UNKNOWN, ("client_certificate_required",))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_behind_a_demanded_client_certificate_the_servers_own_is_judged(
    probed: Look, version: ssl.TLSVersion
) -> None:
    strict = server(leaf=certs.leaf(chain()[1], starts=-9 * certs.DAY, ends=-certs.DAY), newest=version)
    strict.verify_mode = ssl.CERT_REQUIRED
    strict.load_verify_locations(cadata=chain()[0].der)
    verdict = await probed(Manners(strict))
    assert verdict.health is Health.FAULTY
    assert verdict.codes() == ("certificate_expired", "client_certificate_required")


@pytest.mark.parametrize("level", ["encrypt", "certificate", "domain"])
async def test_what_does_not_stand_is_a_fault_at_every_level(probed: Look, level: str) -> None:
    cases = [(old(ssl.TLSVersion.TLSv1_1), "protocol_too_old"), (server("AES128-SHA"), "ciphers_too_weak")]
    for context, code in cases:
        verdict = await probed(alerting(context), level=level)
        assert (verdict.health, verdict.codes()) == (Health.FAULTY, (code,))


FINE = ["AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-GCM-SHA384"]


@pytest.mark.parametrize("cipher", FINE)
async def test_each_documented_cipher_is_enough(probed: Look, cipher: str) -> None:
    verdict = await probed(Manners(server(cipher)))
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, ())
    assert verdict.addresses[0].tls_cipher == cipher


@pytest.mark.parametrize(
    ("cipher", "code"),
    [
        ("ECDHE-RSA-CHACHA20-POLY1305", "no_shared_cipher"),
        ("DHE-RSA-AES256-GCM-SHA384", "no_shared_cipher"),
        ("DHE-RSA-AES256-SHA", "ciphers_too_weak"),
    ],
)
async def test_a_cipher_only_we_have_warns(probed: Look, tmp_path: Path, cipher: str, code: str) -> None:
    verdict = await probed(Manners(with_group(server(cipher), GROUP, tmp_path)))
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, (code,))
    assert cipher in first(verdict).text


async def test_a_cipher_only_we_have_is_no_matter_where_the_server_prefers_it(probed: Look) -> None:
    context = server("ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256")
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    verdict = await probed(Manners(context))
    assert verdict.addresses[0].tls_cipher == "ECDHE-RSA-CHACHA20-POLY1305"
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, ())


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("level", ["encrypt", "domain"])
async def test_an_ecdsa_certificate_alone_warns(probed: Look, newest: Any, level: str) -> None:
    verdict = await probed(Manners(server(leaf=ecdsa(), newest=newest)), level=level)
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, ("ecdsa_only",))
    assert (first(verdict).severity, first(verdict).where) == (Severity.WARNING, "leaf")


async def test_an_ecdsa_certificate_beside_an_rsa_one_is_no_finding(probed: Look) -> None:
    verdict = await probed(Manners(both()))
    assert b"1.2.840.10045" not in verdict.addresses[0].certificates[0].der
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, ())


class Once:
    """Another server on the second connection."""

    def __init__(self, first: Handler, then: Handler) -> None:
        self.handlers = [first, then]
        self.met = 0

    async def __call__(self, reader: Any, writer: Any) -> None:
        self.met += 1
        await self.handlers[min(self.met, 2) - 1](reader, writer)


BUSY = b"421 4.7.0 too many connections\r\n"


@pytest.mark.parametrize("greeting", [CUT, BUSY, HANG], ids=["cut", "busy", "silent"])
async def test_a_second_connection_that_is_not_had_leaves_it_said_with_a_doubt(
    probed: Look, greeting: bytes
) -> None:
    servers = Once(Manners(server(leaf=ecdsa())), Manners(greeting=greeting))
    verdict = await probed(servers, timeout=10_000)
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, ("ecdsa_only",))
    assert "could not be seen" in first(verdict).text


@pytest.mark.parametrize("greeting", [CUT, HANG], ids=["cut", "silent"])
async def test_after_a_failure_a_second_connection_that_is_not_had_changes_nothing(
    probed: Look, greeting: bytes
) -> None:
    servers = Once(Manners(after_hello=CUT), Manners(greeting=greeting))
    assert (await probed(servers, timeout=700)).codes() == ("closed_after_starttls",)
    assert servers.met == 2


async def test_a_second_handshake_that_stands_with_what_was_offered_says_so(probed: Look) -> None:
    servers = Once(alerting(server("AES128-SHA")), alerting(server()))
    verdict = await probed(servers)
    assert verdict.codes() == ("handshake_failed",)
    assert "a second one came to TLSv1.2" in first(verdict).text


@pytest.mark.parametrize(
    ("manners", "met"),
    [
        ({"tls": "good"}, 1),
        ({"tls": "self-signed"}, 1),
        ({"after_hello": b"500 what?\r\n"}, 1),
        ({"after_hello": HANG}, 1),
        ({"starttls": CUT}, 1),
        ({"after_hello": CUT}, 2),
    ],
    ids=str,
)
async def test_a_second_connection_is_made_only_where_it_tells_something(
    probed: Look, manners: dict[str, Any], met: int
) -> None:
    contexts = {"good": server(), "self-signed": server(leaf=certs.leaf(None))}
    one = Manners(**{**manners, "tls": contexts.get(manners.get("tls", ""))})
    servers = Once(one, one)
    await probed(servers, timeout=700)
    assert servers.met == met


async def test_a_server_without_secure_renegotiation_is_none_of_our_business() -> None:
    """Schannel takes it, so Exchange Online does."""
    from resubmit.probe import offers, wire

    for context in (wire.client_context(b"", verify=True), wire.second_context(offers.Offer.ANYTHING)):
        assert context.options & 0x4


def test_each_documented_suite_is_one_openssl_has() -> None:
    from resubmit.probe.offers import DOCUMENTED, Offer, names

    assert set(DOCUMENTED) <= names(Offer.USUAL)
    assert {n for n in names(Offer.DOCUMENTED) if not n.startswith("TLS_")} == set(DOCUMENTED)
    assert names(Offer.USUAL) < names(Offer.ANYTHING)
