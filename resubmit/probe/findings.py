"""What was seen gets its name: `Seen` → `Verdict`.

Pure. The codes are those of docs/findings.md, in the order in which one would mend them: what keeps
the server from being reached first, what only warns last. Healthy is an address only when MAIL (and RCPT,
where a recipient is configured) were answered 2xx on the TLS stream: a handshake alone is not enough (a TLS
1.3 server that demands a client certificate finishes it, and then closes).
"""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509

from resubmit.meaning.advice import advice
from resubmit.model.moment import Ms
from resubmit.model.tls import AddressVerdict, Certificate, Finding, Health, Severity, Verdict
from resubmit.probe import aia, chain, names, own_clock, policy, revocation, talk
from resubmit.probe.chain import DYING
from resubmit.probe.flaw import Flaw
from resubmit.probe.names import Match
from resubmit.probe.revocation import Gathered
from resubmit.probe.roots import Roots
from resubmit.probe.seen import AddressSeen, Handshake, How, Seen, Step, clean, greeted_as

ORDER = (
    "dns_failed",
    "connect_timeout",
    "connect_refused",
    "greeting_timeout",
    "greeting_closed",
    "blocklisted",
    "greeting_refused",
    "not_smtp",
    "firewall_mangled_keyword",
    "firewall_masked_banner",
    "smtp_only",
    "ehlo_refused",
    "starttls_withheld",
    "starttls_missing",
    "starttls_refused",
    "starttls_injection",
    "plaintext_after_starttls",
    "closed_after_starttls",
    "handshake_timeout",
    "protocol_too_old",
    "ciphers_too_weak",
    "no_shared_cipher",
    "client_certificate_required",
    "handshake_failed",
    "certificate_expired",
    "certificate_not_yet_valid",
    "self_signed",
    "untrusted_issuer",
    "name_mismatch",
    "wildcard_too_broad",
    "name_only_in_cn",
    "weak_key",
    "weak_signature",
    "wrong_usage",
    "ecdsa_only",
    "revoked",
    "issuer_not_ca",
    "chain_incomplete",
    "chain_misordered",
    "expiring_soon",
    "crl_unreachable",
    "crl_unreadable",
    "crl_expired",
    "crl_untrusted",
    "crl_not_http",
    "no_revocation_pointer",
    "ocsp_unreachable",
    "ehlo_after_tls_refused",
    "closed_after_tls",
    "sender_refused",
    "recipient_refused",
    "addresses_differ",
    "pool_differs",
    "mta_sts_mismatch",
    "dane_mismatch",
    "own_clock_wrong",
)
"""Every code, in the order one would mend them."""

_RANK = {Severity.FAULT: 0, Severity.UNKNOWN: 1, Severity.WARNING: 2, Severity.INFO: 3}
_PLACE = {code: place for place, code in enumerate(ORDER)}

_BY_VERIFY_CODE = {
    2: ("untrusted_issuer", "leaf"),
    18: ("self_signed", "leaf"),
    19: ("untrusted_issuer", "root"),
    20: ("chain_incomplete", "leaf"),
    21: ("chain_incomplete", "leaf"),
    24: ("issuer_not_ca", "intermediate"),
    25: ("issuer_not_ca", "intermediate"),
    26: ("wrong_usage", "leaf"),
    32: ("issuer_not_ca", "intermediate"),
    34: ("untrusted_issuer", "leaf"),
    47: ("untrusted_issuer", "intermediate"),
    48: ("untrusted_issuer", "intermediate"),
    66: ("weak_key", "leaf"),
    67: ("weak_key", "intermediate"),
    68: ("weak_signature", "leaf"),
    79: ("issuer_not_ca", "intermediate"),
    94: ("weak_key", "leaf"),
}
"""OpenSSL's X509_V_ERR_* where our own reading found no reason; any other is an issuer not trusted."""


_REFUSALS = {
    "self_signed",
    "untrusted_issuer",
    "chain_incomplete",
    "issuer_not_ca",
    "wrong_usage",
    "weak_key",
    "weak_signature",
}
"""What OpenSSL refuses a chain for; dates it is told to leave to us."""


_OUR_WAY = {"crl_unreachable", "ocsp_unreachable"}
"""What a firewall of our own can make, too."""


def judge(
    seen: Seen, roots: Roots, *, gate_closed: bool = False, gathered: Gathered | None = None
) -> Verdict:
    """The whole look's verdict. `gate_closed`: a certificate with less than a day left is no healthy one.

    gathered: what was fetched beside the look; None where nothing was, and then nothing is said of it."""
    endpoint = seen.endpoint
    target = f"{endpoint.host}:{endpoint.port}"
    if seen.unresolved is not None:
        ours = seen.unresolved.ours
        told = (
            f"our resolver could not say whether {endpoint.host} exists"
            if ours
            else f"{endpoint.host} is not found"
        )
        severity = Severity.UNKNOWN if ours else Severity.FAULT
        found = _finding("dns_failed", severity, "dns", f"{told}: {clean(seen.unresolved.detail)}", seen)
        health = Health.UNKNOWN if ours else Health.FAULTY
        return Verdict(target, health, seen.at, endpoint.level, (), (found,), reached=False)
    judged = tuple(_address(one, seen, roots, gate_closed, gathered) for one in seen.addresses)
    counted = [v for v, one in zip(judged, seen.addresses, strict=True) if not _has_no_way(one)] or list(
        judged
    )
    verdict = Verdict(
        target=target,
        health=_worst(v.health for v in counted),
        checked_at=seen.at,
        level=endpoint.level,
        addresses=judged,
        findings=tuple(_differences(counted, seen)),
        reached=any(one.connected for one in seen.addresses),
        roots=seen.roots,
    )
    return own_clock.judged(verdict, seen)


def _has_no_way(one: AddressSeen) -> bool:
    """This machine has no route of that family: another address is looked at in its stead."""
    return one.stop is not None and one.stop.step is Step.CONNECT and one.stop.how is How.OWN


def _worst(healths: Iterable[Health]) -> Health:
    given = set(healths)
    return next((h for h in (Health.FAULTY, Health.UNKNOWN) if h in given), Health.HEALTHY)


def _address(
    one: AddressSeen, seen: Seen, roots: Roots, gate_closed: bool, gathered: Gathered | None
) -> AddressVerdict:
    certificates: tuple[Certificate, ...] = ()
    found = [_finding(f.code, f.severity, f.where, f.text, seen) for f in talk.read(one, seen)]
    if one.shown is not None and one.shown.chain:
        sent = chain.read(one.shown.chain)
        certificates = tuple(chain.described(c) for c in sent)
        found += _certificates(one, sent, seen, roots, gate_closed, gathered)
    found += _unexplained(one, found, seen)
    greeting = one.answer(Step.GREETING)
    return AddressVerdict(
        address=one.address,
        health=_health(found),
        findings=tuple(sorted(found, key=lambda f: (_RANK[f.severity], _PLACE[f.code], f.where))),
        tls_version=one.handshake.protocol if one.handshake else "",
        tls_cipher=one.handshake.cipher if one.handshake else "",
        certificates=certificates,
        banner=greeting.text() if greeting else "",
        ehlo=_ehlo_name(one),
    )


def _health(found: Iterable[Finding]) -> Health:
    severities = {f.severity for f in found}
    if Severity.FAULT in severities:
        return Health.FAULTY
    return Health.UNKNOWN if Severity.UNKNOWN in severities else Health.HEALTHY


def _ehlo_name(one: AddressSeen) -> str:
    return greeted_as(one.answer(Step.TLS_EHLO)) or greeted_as(one.answer(Step.EHLO))


def _certificates(
    one: AddressSeen,
    sent: list[x509.Certificate],
    seen: Seen,
    roots: Roots,
    gate_closed: bool,
    gathered: Gathered | None,
) -> list[Finding]:
    endpoint, handshake = seen.endpoint, one.shown
    assert handshake is not None
    if not sent:
        text = "the server's certificate can't be read, so no name on it can be compared"
        return [_finding("name_mismatch", _at_level(Severity.FAULT, endpoint.level), "host", text, seen)]
    issuers = (
        [] if gathered is None else [c for f in gathered.issuers.values() for c in aia.read(f.octets or b"")]
    )
    path, flaws = chain.judged(sent, roots, seen.at, accepted=handshake.verified, fetched=issuers)
    if gathered is not None:
        if endpoint.revocation:
            others = revocation.signers(path, sent, roots)
            flaws = [*flaws, *revocation.flaws(path, gathered, others, seen.at, is_public=roots.is_public)]
        if gathered.published is not None:
            above = [*sent[1:], *(link.certificate for link in path.links[1:])]
            flaws += policy.flaws(gathered.published, endpoint, sent[0], above)
    found = [_of_flaw(flaw, seen, roots, gate_closed) for flaw in flaws]
    if handshake.verify_code is not None and not any(
        f.code in _REFUSALS and f.severity is None for f in flaws
    ):
        code, where = _BY_VERIFY_CODE.get(handshake.verify_code, ("untrusted_issuer", "leaf"))
        text = (
            f"the chain does not verify: {clean(handshake.verify_message)} (OpenSSL {handshake.verify_code})"
        )
        found.append(_finding(code, _at_level(Severity.FAULT, endpoint.level), where, text, seen))
    return found + _names(one, sent[0], seen)


def _of_flaw(flaw: Flaw, seen: Seen, roots: Roots, gate_closed: bool) -> Finding:
    severity = flaw.severity or Severity.FAULT
    if flaw.severity is None and flaw.code in _OUR_WAY:
        severity = Severity.UNKNOWN
    elif flaw.code in chain.WARNINGS:
        is_dying = gate_closed and flaw.left is not None and flaw.left < DYING
        severity = Severity.FAULT if is_dying else Severity.WARNING
    elif flaw.code in ("untrusted_issuer", "chain_incomplete") and not roots.certificates:
        severity = Severity.UNKNOWN  # nothing to verify against is a fault of ours
    return _finding(flaw.code, _at_level(severity, seen.endpoint.level), flaw.where, flaw.text, seen)


def _at_level(severity: Severity, level: str) -> Severity:
    """At level encrypt, or below, nobody looks at the certificate: nothing on it is more than a warning."""
    return severity if level in ("certificate", "domain") else Severity.WARNING


def _names(one: AddressSeen, leaf: x509.Certificate, seen: Seen) -> list[Finding]:
    """The three names: the host's, the EHLO reply's, the connector's TlsDomain."""
    endpoint = seen.endpoint
    given = names.names_of(leaf)
    on_it = f"the certificate is for {clean(names.shown(given.all()))}"
    found: list[Finding] = []

    def note(match: Match, where: str, severity: Severity, wanted: str) -> None:
        if match is Match.NO:
            found.append(_finding("name_mismatch", severity, where, f"{on_it}, not for {wanted}", seen))
        elif match is Match.TOO_BROAD:
            text = f"{on_it}; for {wanted} only by a wildcard over a top-level domain, which verifiers refuse"
            found.append(_finding("wildcard_too_broad", severity, where, text, seen))

    strict = {"domain": Severity.FAULT}.get(endpoint.level, Severity.WARNING)
    if endpoint.tls_domain:
        wanted = f"the connector's TlsDomain {clean(endpoint.tls_domain)}"
        note(names.match_tls_domain(endpoint.tls_domain, given), "tls_domain", strict, wanted)
    # With a TlsDomain the connector does not compare the host it connects to.
    for_host = Severity.INFO if endpoint.tls_domain else strict
    note(names.match_host(endpoint.host, given), "host", for_host, f"the host {clean(endpoint.host)}")
    if ehlo := _ehlo_name(one):
        note(names.match_host(ehlo, given), "ehlo", Severity.WARNING, f"the name {ehlo} in the EHLO reply")
    if given.is_common and given.dns and not any(f.severity is Severity.FAULT for f in found):
        text = f"the name {clean(names.shown(given.dns))} stands only in the common name; there is no SAN"
        found.append(_finding("name_only_in_cn", Severity.WARNING, "leaf", text, seen))
    return found


def _unexplained(one: AddressSeen, found: list[Finding], seen: Seen) -> list[Finding]:
    """Never healthy by silence: an address without a fault whose dry run was not answered 2xx is faulty."""
    if any(f.severity in (Severity.FAULT, Severity.UNKNOWN) for f in found):
        return []
    if _has_no_way(one) or seen.endpoint.level == "none":
        return []  # in clear every answer that is missing has its finding already
    if seen.endpoint.level == "opportunistic" and not (one.handshake and one.handshake.done):
        return []
    wanted = [Step.MAIL, Step.RCPT] if seen.endpoint.recipient else [Step.MAIL]
    if one.handshake and one.handshake.done and all((a := one.answer(s)) and a.positive for s in wanted):
        return []
    words = _words(one.handshake)
    return [
        _finding("handshake_failed", Severity.FAULT, "handshake", f"the TLS handshake failed{words}", seen)
    ]


def _words(handshake: Handshake | None) -> str:
    return f": {clean(handshake.reason)}" if handshake and handshake.reason else ""


def _differences(judged: list[AddressVerdict], seen: Seen) -> list[Finding]:
    if len(judged) < 2:
        return []
    told: list[str] = []
    if len({v.health for v in judged}) > 1:
        told.append("; ".join(f"{v.address} is {v.health.value}" for v in judged))
    elif len({_codes(v) for v in judged}) > 1:
        told.append("; ".join(f"{v.address} has {', '.join(_codes(v)) or 'no finding'}" for v in judged))
    if len(ehlos := {v.ehlo for v in judged if v.ehlo}) > 1:
        told.append(f"EHLO names: {names.shown(sorted(ehlos))}")
    if len({v.certificates[0].sha256 for v in judged if v.certificates}) > 1:
        leaves = (f"{v.address} {v.certificates[0].sha256[:12]}…" for v in judged if v.certificates)
        told.append(f"certificates: {', '.join(leaves)}")
    if not told:
        return []
    text = clean(f"the {len(judged)} addresses of {seen.endpoint.host} differ: {'; '.join(told)}", 600)
    return [_finding("addresses_differ", Severity.WARNING, "addresses", text, seen)]


def _codes(one: AddressVerdict) -> tuple[str, ...]:
    return tuple(sorted({f.code for f in one.findings if f.severity is not Severity.INFO}))


def _finding(code: str, severity: Severity, where: str, text: str, seen: Seen) -> Finding:
    said = text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
    return Finding(code, severity, where, said, advice(code, where=where, host=seen.endpoint.host))


def unknown(seen_target: str, level: str, at: Ms, text: str) -> Verdict:
    """The verdict when we ourselves could not look."""
    found = Finding("untrusted_issuer", Severity.UNKNOWN, "root", text, advice("own_roots"))
    return Verdict(seen_target, Health.UNKNOWN, at, level, (), (found,), reached=False)
