"""Whether a certificate was revoked, and whether that can be known: each way has its code, and no other."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from resubmit.model.tls import Health, Severity, Verdict
from resubmit.probe import gather
from tests.helpers import certs
from tests.helpers.lists import (
    DRIP,
    ENDLESS,
    Entry,
    Page,
    Web,
    answer,
    at_ca,
    at_list,
    crl,
    ocsp_answer,
    redirect,
)
from tests.helpers.odd_tls import HANG, Manners, serving
from tests.unit.probe.conftest import Look, chain

ROOT, MIDDLE, _ = chain()
UNREAD = Severity.UNKNOWN
FAULT = Severity.FAULT
WARNS = Severity.WARNING


def found(verdict: Verdict) -> list[tuple[str, str, Severity]]:
    return [(f.code, f.where, f.severity) for a in verdict.addresses for f in a.findings]


async def looked(
    probed: Look, web: Web, more: Any, pages: Any, *, timeout: int = 5_000, **how: Any
) -> tuple[Verdict, certs.Made]:
    """The verdict on a server whose leaf has the extensions `more(base)`; its CA has `pages`."""
    async with serving(web) as port:
        base = f"http://127.0.0.1:{port}"
        leaf = certs.leaf(MIDDLE, more=more(base))
        web.pages.update(pages(leaf, base))
        server = Manners(certs.server_context([leaf, MIDDLE]))
        return await probed(server, timeout=timeout, **how), leaf


def at(path: str = "/list") -> Any:
    return lambda base: at_list(base + path)


def listing(page: Page) -> Any:
    return lambda leaf, base: {"/list": page}


def good() -> bytes:
    return answer(crl(MIDDLE))


def idp(**given: Any) -> list[tuple[x509.ExtensionType, bool]]:
    fields: dict[str, Any] = {
        "full_name": None, "relative_name": None, "only_contains_user_certs": False,
        "only_contains_ca_certs": False, "only_some_reasons": None, "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }  # fmt: skip
    return [(x509.IssuingDistributionPoint(**{**fields, **given}), True)]


async def test_a_sound_list_that_does_not_know_the_certificate_says_nothing(probed: Look) -> None:
    verdict, _ = await looked(probed, web := Web(), at(), listing(good()))
    assert (verdict.health, found(verdict)) == (Health.HEALTHY, [])
    assert web.asked == ["/list"]


async def test_a_revoked_certificate_is_a_fault(probed: Look) -> None:
    verdict, _ = await looked(
        probed, Web(), at(), lambda leaf, base: {"/list": answer(crl(MIDDLE, Entry(leaf)))}
    )
    assert found(verdict) == [("revoked", "leaf", FAULT)]
    assert verdict.health is Health.FAULTY


async def test_a_revoked_intermediate_is_a_fault_of_the_intermediate(probed: Look) -> None:
    async with serving(web := Web()) as port:
        middle = certs.intermediate(ROOT, "Revoked CA", more=at_list(f"http://127.0.0.1:{port}/cas"))
        leaf = certs.leaf(middle, more=at_list(f"http://127.0.0.1:{port}/leaves"))
        web.pages = {"/cas": answer(crl(ROOT, Entry(middle))), "/leaves": answer(crl(middle))}
        verdict = await probed(Manners(certs.server_context([leaf, middle])))
    assert found(verdict) == [("revoked", "intermediate", FAULT)]


async def test_lists_are_had_though_the_server_is_silent_after_tls(probed: Look) -> None:
    async with serving(web := Web()) as port:
        base = f"http://127.0.0.1:{port}"
        leaf = certs.leaf(MIDDLE, more=at()(base))
        web.pages["/list"] = answer(crl(MIDDLE, Entry(leaf)))
        server = Manners(certs.server_context([leaf, MIDDLE]), tls_ehlo=HANG)
        verdict = await probed(server, timeout=1_500)
    assert [code for code, _, _ in found(verdict)] == ["revoked", "closed_after_tls"]


async def test_a_certificate_that_was_taken_off_the_list_is_not_revoked(probed: Look) -> None:
    off = [x509.CRLReason(x509.ReasonFlags.remove_from_crl)]
    verdict, _ = await looked(
        probed, Web(), at(), lambda leaf, base: {"/list": answer(crl(MIDDLE, Entry(leaf, off)))}
    )
    assert found(verdict) == []


ANNOUNCED = b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"
LISTS: list[tuple[str, Page, str, Severity]] = [
    ("not there", answer(b"", "404 Not Found"), "crl_unreachable", UNREAD),
    ("not allowed", answer(b"", "403 Forbidden"), "crl_unreachable", UNREAD),
    ("ill", answer(b"", "503 Service Unavailable"), "crl_unreachable", UNREAD),
    ("silent", HANG, "crl_unreachable", UNREAD),
    ("octet by octet", DRIP, "crl_unreachable", UNREAD),
    ("no HTTP", b"220 ready\r\n\r\n", "crl_unreachable", UNREAD),
    ("cut off", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n0", "crl_unreachable", UNREAD),
    ("announced too large", ANNOUNCED, "crl_unreadable", UNREAD),
    ("a proxy's page", answer(b"<html>blocked</html>"), "crl_unreadable", FAULT),
    ("empty", answer(b""), "crl_unreadable", FAULT),
    ("a certificate", answer(MIDDLE.der), "crl_unreadable", FAULT),
    ("half of it", answer(crl(MIDDLE)[:-40]), "crl_unreadable", FAULT),
    ("PEM", answer(b"-----BEGIN X509 CRL-----\nMAAA\n-----END X509 CRL-----\n"), "crl_unreadable", FAULT),
    ("out of date", answer(crl(MIDDLE, begins=-9 * certs.DAY, ends=-certs.DAY)), "crl_expired", FAULT),
    ("of another CA", answer(crl(ROOT)), "crl_untrusted", FAULT),
    ("signed by another key", answer(crl(MIDDLE, signer=ROOT)), "crl_untrusted", FAULT),
    ("of the future", answer(crl(MIDDLE, begins=certs.DAY, ends=9 * certs.DAY)), "crl_untrusted", FAULT),
    ("for CAs only", answer(crl(MIDDLE, more=idp(only_contains_ca_certs=True))), "crl_untrusted", FAULT),
    (
        "another part",
        answer(crl(MIDDLE, more=idp(full_name=[x509.UniformResourceIdentifier("http://ca.invalid/other")]))),
        "crl_untrusted",
        FAULT,
    ),
    (
        "a delta",
        answer(crl(MIDDLE, more=[(x509.CRLNumber(2), False), (x509.DeltaCRLIndicator(1), True)])),
        "crl_untrusted",
        FAULT,
    ),
    (
        "for some reasons",
        answer(crl(MIDDLE, more=idp(only_some_reasons=frozenset([x509.ReasonFlags.key_compromise])))),
        "crl_untrusted",
        FAULT,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("page", "code", "severity"), [c[1:] for c in LISTS], ids=[c[0] for c in LISTS])
async def test_what_is_wrong_with_a_list_has_its_code(
    probed: Look, page: Page, code: str, severity: Severity
) -> None:
    verdict, _ = await looked(probed, Web(), at(), listing(page), timeout=1_000)
    assert found(verdict) == [(code, "leaf", severity)]
    assert verdict.health is (Health.UNKNOWN if severity is UNREAD else Health.FAULTY)
    (one,) = verdict.addresses[0].findings
    assert one.advice, "every finding says what to do"
    assert "127.0.0.1" in one.text, "and where"


async def test_a_port_that_refuses_is_no_way_of_ours(probed: Look) -> None:
    async with serving(Web()) as port:
        pass
    verdict, _ = await looked(
        probed, Web(), lambda base: at_list(f"http://127.0.0.1:{port}/list"), listing(b"")
    )
    assert found(verdict) == [("crl_unreachable", "leaf", UNREAD)]


async def test_at_level_encrypt_revocation_only_warns(probed: Look) -> None:
    verdict, _ = await looked(probed, Web(), at(), listing(answer(b"<html>")), level="encrypt")
    assert found(verdict) == [("crl_unreadable", "leaf", WARNS)]
    assert verdict.health is Health.HEALTHY


async def test_a_route_of_our_own_asks_no_list(probed: Look) -> None:
    """Its mail goes on whatever a list says, so a relay that can't reach one still looks healthy."""
    web = Web()
    verdict, _ = await looked(probed, web, at(), listing(answer(b"<html>")), revocation=False)
    assert (verdict.health, found(verdict), web.asked) == (Health.HEALTHY, [], [])


async def test_a_list_of_a_gigabyte_is_cut_in_bounded_memory(
    probed: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "LIST_CEILING", 4 * 1024 * 1024)
    tracemalloc.start()
    try:
        verdict, _ = await looked(probed, web := Web(), at(), listing(ENDLESS), timeout=20_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found(verdict) == [("crl_unreadable", "leaf", UNREAD)]
    assert web.sent < 3 * gather.LIST_CEILING
    assert peak < 4 * gather.LIST_CEILING


@pytest.mark.parametrize(("hops", "code"), [(1, None), (3, None), (4, "crl_unreachable")])
async def test_redirects_are_followed_three_times(probed: Look, hops: int, code: str | None) -> None:
    def pages(leaf: certs.Made, base: str) -> dict[str, Page]:
        way = {f"/hop{n}": redirect(f"/hop{n + 1}") for n in range(1, hops)}
        return {"/list": redirect(f"{base}/hop1"), **way, f"/hop{hops}": good()}

    verdict, _ = await looked(probed, Web(), at(), pages)
    assert verdict.codes() == ((code,) if code else ())


@pytest.mark.parametrize(
    "to", ["/list", "file:///etc/passwd", "ldap://127.0.0.1/", "https://127.0.0.1/", "//"]
)
async def test_a_redirect_to_nowhere_ends(probed: Look, to: str) -> None:
    web = Web()
    verdict, _ = await looked(probed, web, at(), listing(redirect(to)))
    assert found(verdict) == [("crl_unreachable", "leaf", UNREAD)]
    assert set(web.asked) == {"/list"}
    assert len(web.asked) <= 4


async def test_a_list_in_chunks_is_read(probed: Look) -> None:
    octets = crl(MIDDLE)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"%x\r\n%s\r\n%x;a=b\r\n%s\r\n0\r\n\r\n" % (7, octets[:7], len(octets) - 7, octets[7:])
    verdict, _ = await looked(probed, Web(), at(), listing(chunked))
    assert found(verdict) == []


async def test_the_second_address_of_a_list_stands_in_for_the_first(probed: Look) -> None:
    verdict, _ = await looked(
        probed, Web(), lambda base: at_list(base + "/gone", base + "/list"), listing(good())
    )
    assert found(verdict) == []


@pytest.mark.parametrize(
    "url", ["ldap:///CN=CA,DC=corp?certificateRevocationList", "https://ca.invalid/list"]
)
async def test_a_list_that_is_not_to_be_had_by_http(probed: Look, url: str) -> None:
    verdict, _ = await looked(probed, Web(), lambda base: at_list(url), listing(good()))
    assert found(verdict) == [("crl_not_http", "leaf", FAULT)]


async def test_ldap_beside_http_is_no_fault(probed: Look) -> None:
    verdict, _ = await looked(
        probed, Web(), lambda base: at_list("ldap:///CN=CA", base + "/list"), listing(good())
    )
    assert found(verdict) == []


async def test_a_certificate_that_names_no_way_while_its_ca_does(probed: Look) -> None:
    async with serving(web := Web()) as port:
        middle = certs.intermediate(ROOT, "Naming CA", more=at_list(f"http://127.0.0.1:{port}/cas"))
        web.pages = {"/cas": answer(crl(ROOT))}
        plain = await probed(Manners(certs.server_context([certs.leaf(middle), middle])))
        brief = certs.leaf(middle, ends=timedelta(days=5))
        short = await probed(Manners(certs.server_context([brief, middle])))
    assert found(plain) == [("no_revocation_pointer", "leaf", WARNS)]
    assert [code for code, _, _ in found(short)] == ["expiring_soon"], "it dies before it could be revoked"


def responder(base: str) -> list[tuple[x509.ExtensionType, bool]]:
    return at_ca(responder=base + "/ocsp")


def told(**how: Any) -> Any:
    def pages(leaf: certs.Made, base: str) -> dict[str, Page]:
        return {"/ocsp": lambda question: answer(ocsp_answer(leaf, MIDDLE, **how))}

    return pages


def delegate(**more: Any) -> certs.Made:
    usage = {"usage": ExtendedKeyUsageOID.OCSP_SIGNING, **more}
    return certs.leaf(MIDDLE, common="responder.test.invalid", dns=["responder.test.invalid"], **usage)


ANSWERS: list[tuple[str, Any, list[tuple[str, str, Severity]]]] = [
    ("good", told(), []),
    ("good, says a delegate", told(signer=delegate()), []),
    ("revoked", told(revoked=True), [("revoked", "leaf", FAULT)]),
    ("not known", told(unknown=True), [("ocsp_unreachable", "leaf", UNREAD)]),
    ("of yesterday", told(begins=-2 * certs.DAY, ends=-certs.DAY), [("ocsp_unreachable", "leaf", UNREAD)]),
    ("by another key", told(signer=certs.leaf(ROOT)), [("ocsp_unreachable", "leaf", UNREAD)]),
    (
        "by a server's key",
        told(revoked=True, signer=delegate(usage=ExtendedKeyUsageOID.SERVER_AUTH)),
        [("ocsp_unreachable", "leaf", UNREAD)],
    ),
    ("404", lambda leaf, base: {}, [("ocsp_unreachable", "leaf", UNREAD)]),
    ("no answer", lambda leaf, base: {"/ocsp": answer(b"<html>")}, [("ocsp_unreachable", "leaf", UNREAD)]),
    ("silent", lambda leaf, base: {"/ocsp": HANG}, [("ocsp_unreachable", "leaf", UNREAD)]),
]


@pytest.mark.parametrize(("pages", "expected"), [c[1:] for c in ANSWERS], ids=[c[0] for c in ANSWERS])
async def test_what_a_responder_says(
    probed: Look, pages: Any, expected: Sequence[tuple[str, str, Severity]]
) -> None:
    verdict, _ = await looked(probed, Web(), responder, pages, timeout=1_000)
    assert found(verdict) == expected


async def test_a_sound_list_makes_a_dead_responder_a_warning(probed: Look) -> None:
    verdict, _ = await looked(
        probed, Web(), lambda base: [*responder(base), *at_list(base + "/list")], listing(good())
    )
    assert found(verdict) == [("ocsp_unreachable", "leaf", WARNS)]
    assert verdict.health is Health.HEALTHY


async def test_a_sound_answer_makes_a_dead_list_a_warning(probed: Look) -> None:
    verdict, _ = await looked(
        probed, Web(), lambda base: [*responder(base), *at_list(base + "/gone")], told()
    )
    assert found(verdict) == [("crl_unreachable", "leaf", WARNS)]


async def test_one_of_the_two_that_says_revoked_is_enough(probed: Look) -> None:
    def pages(leaf: certs.Made, base: str) -> dict[str, Page]:
        return {**told()(leaf, base), "/list": answer(crl(MIDDLE, Entry(leaf)))}

    verdict, _ = await looked(probed, Web(), lambda base: [*responder(base), *at_list(base + "/list")], pages)
    assert found(verdict) == [("revoked", "leaf", FAULT)]


async def test_three_faults_with_a_revocation_among_them_are_all_told(probed: Look) -> None:
    async with serving(web := Web()) as port:
        more = at_list(f"http://127.0.0.1:{port}/list")
        leaf = certs.leaf(
            MIDDLE, dns=["other.test.invalid"], starts=-90 * certs.DAY, ends=-certs.DAY, more=more
        )
        web.pages = {"/list": answer(crl(MIDDLE, Entry(leaf)))}
        server = Manners(certs.server_context([leaf, MIDDLE]), tls_ehlo=b"250 other.test.invalid\r\n")
        verdict = await probed(server)
    assert {f.code for f in verdict.addresses[0].findings if f.severity is FAULT} == {
        "certificate_expired",
        "name_mismatch",
        "revoked",
    }


async def test_a_list_is_kept_for_later_looks_and_not_beyond_its_date(
    probed: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(web := Web()) as port:
        leaf = certs.leaf(MIDDLE, more=at_list(f"http://127.0.0.1:{port}/list"))
        server = Manners(certs.server_context([leaf, MIDDLE]))
        web.pages = {"/list": good()}
        await probed(server)
        web.pages = {"/list": answer(crl(MIDDLE, Entry(leaf)))}
        assert (await probed(server)).codes() == ()
        assert web.asked == ["/list"]
        monkeypatch.setattr(gather, "KEPT_IN_NEED", 0)
        assert (await probed(server, gate_closed=True)).codes() == ("revoked",), (
            "while mail waits it is asked"
        )


async def test_a_bad_list_is_not_kept(probed: Look) -> None:
    async with serving(web := Web()) as port:
        leaf = certs.leaf(MIDDLE, more=at_list(f"http://127.0.0.1:{port}/list"))
        server = Manners(certs.server_context([leaf, MIDDLE]))
        web.pages = {"/list": answer(crl(MIDDLE, ends=-timedelta(hours=1)))}
        assert (await probed(server)).codes() == ("crl_expired",)
        web.pages = {"/list": good()}
        assert (await probed(server)).codes() == ()


async def test_addresses_that_share_a_chain_ask_once(probed: Look, resolves: Any, ca_file: str) -> None:
    from resubmit.clock import SystemClock
    from resubmit.model.tls import Endpoint
    from resubmit.probe.look import look

    async with serving(web := Web()) as port:
        leaf = certs.leaf(MIDDLE, more=at_list(f"http://127.0.0.1:{port}/list"))
        web.pages = {"/list": answer(b"<html>")}
        server = Manners(certs.server_context([leaf, MIDDLE]))
        async with serving(server) as one, serving(server, host="127.0.0.2", port=one):
            resolves_host(resolves)
            endpoint = Endpoint("mail.test.invalid", one, ca_file=ca_file)
            verdict = await look(endpoint, clock=SystemClock(), timeout=5_000, ehlo_name="probe.invalid")
    assert [a.findings[0].code for a in verdict.addresses] == ["crl_unreadable", "crl_unreadable"]
    assert web.asked == ["/list"]


def resolves_host(resolves: Any) -> None:
    """The mail server's name has two addresses; the CA's is an address and needs no resolving."""
    loop = asyncio.get_running_loop()
    resolver = loop.getaddrinfo
    resolves("127.0.0.1", "127.0.0.2")
    named = loop.getaddrinfo

    async def either(host: Any, *args: Any, **kwargs: Any) -> Any:
        return await (named if host == "mail.test.invalid" else resolver)(host, *args, **kwargs)

    loop.getaddrinfo = either  # type: ignore[method-assign]


AIA: list[tuple[str, dict[str, Any], str, str]] = [
    ("the intermediate can be had", {"/ca": answer(MIDDLE.der)}, "chain_incomplete", "leaf"),
    ("not there", {}, "chain_incomplete", "leaf"),
    ("a page", {"/ca": answer(b"<html>")}, "chain_incomplete", "leaf"),
    ("too large", {"/ca": answer(bytes(70_000))}, "chain_incomplete", "leaf"),
    ("another certificate", {"/ca": answer(certs.root("Else", key="else").der)}, "chain_incomplete", "leaf"),
]


@pytest.mark.parametrize(("pages", "code", "at"), [c[1:] for c in AIA], ids=[c[0] for c in AIA])
async def test_an_intermediate_that_was_not_sent(
    probed: Look, pages: dict[str, Any], code: str, at: str
) -> None:
    async with serving(web := Web(pages)) as port:
        leaf = certs.leaf(MIDDLE, more=at_ca(issuer=f"http://127.0.0.1:{port}/ca"))
        verdict = await probed(Manners(certs.server_context([leaf])))
    assert [(c, w) for c, w, _ in found(verdict)] == [(code, at)]
    assert ("can be had" in verdict.addresses[0].findings[0].text) is (pages.get("/ca") == answer(MIDDLE.der))
    assert web.asked


async def test_an_issuer_that_turns_out_to_be_a_private_root(probed: Look) -> None:
    """Without what stands at the address this would look like an intermediate that was not sent."""
    private = certs.root("Test CA 2", key="private")
    async with serving(Web({"/ca": answer(private.der)})) as port:
        leaf = certs.leaf(private, more=at_ca(issuer=f"http://127.0.0.1:{port}/ca"))
        verdict = await probed(Manners(certs.server_context([leaf])))
        plain = await probed(Manners(certs.server_context([certs.leaf(private)])))
    assert [(c, w) for c, w, _ in found(verdict)] == [("untrusted_issuer", "root")]
    assert [(c, w) for c, w, _ in found(plain)] == [("chain_incomplete", "leaf")]


async def test_two_intermediates_that_were_not_sent_are_fetched_one_after_the_other(probed: Look) -> None:
    async with serving(web := Web()) as port:
        base = f"http://127.0.0.1:{port}"
        upper = certs.intermediate(ROOT, "Upper CA")
        lower = certs.intermediate(upper, "Lower CA", more=at_ca(issuer=base + "/upper"))
        leaf = certs.leaf(lower, more=at_ca(issuer=base + "/lower"))
        web.pages = {"/upper": answer(upper.der), "/lower": answer(lower.der)}
        verdict = await probed(Manners(certs.server_context([leaf])))
    assert [(c, w) for c, w, _ in found(verdict)] == [("chain_incomplete", "leaf")]
    assert web.asked == ["/lower", "/upper"]


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ldap:///CN=CA", "https://127.0.0.1/ca", "http://"])
async def test_other_ways_to_an_issuer_are_not_gone(probed: Look, url: str) -> None:
    leaf = certs.leaf(MIDDLE, more=at_ca(issuer=url))
    verdict = await probed(Manners(certs.server_context([leaf])))
    assert [(c, w) for c, w, _ in found(verdict)] == [("chain_incomplete", "leaf")]
