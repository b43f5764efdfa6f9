"""Whether a server fits what its domain published: an MTA-STS policy, TLSA records. Pure.

Both are for mail that goes by MX records: where the host is no MX, or a connector with a TlsDomain leads to
it, what does not fit only warns.

Source: RFC 8461 §3.2 (the policy), §4.1 (which MX it allows), RFC 6698 §2.1 (what a TLSA record holds), RFC
7672 §3.1 (usages 2 and 3 count for SMTP); Exchange Online: 4/5.7.323 tlsa-invalid, 5.4.8 for MTA-STS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256, sha512

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from resubmit.model.tls import Endpoint, Severity
from resubmit.probe.fetch import Fetched, Trouble
from resubmit.probe.flaw import Flaw
from resubmit.probe.names import Match, match_host, names_of, shown
from resubmit.probe.seen import clean

_TRUST_ANCHOR, _END_ENTITY = 2, 3
_MODES = ("enforce", "testing", "none")


@dataclass(frozen=True, slots=True)
class Tlsa:
    """One TLSA record, its numbers as RFC 6698 has them."""

    usage: int
    selector: int
    kind: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Sts:
    """A domain with an MTA-STS record, and what stands at its policy's address."""

    domain: str
    policy: Fetched


@dataclass(frozen=True, slots=True)
class Published:
    """What is published about a host. mx_of: the domains whose MX it is."""

    mx_of: tuple[str, ...] = ()
    sts: tuple[Sts, ...] = ()
    tlsa: tuple[Tlsa, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that can be read. mx: patterns, lower case."""

    mode: str
    mx: tuple[str, ...]


def flaws(
    published: Published,
    endpoint: Endpoint,
    leaf: x509.Certificate,
    issuers: Sequence[x509.Certificate],
) -> list[Flaw]:
    """What does not fit. issuers: the certificates above the leaf, as sent and as far as they are known."""
    is_routed = bool(published.mx_of) and not endpoint.tls_domain
    return [
        *(flaw for sts in published.sts for flaw in _sts(sts, endpoint, leaf, is_routed=is_routed)),
        *_dane(published.tlsa, endpoint, leaf, issuers, is_routed=is_routed),
    ]


def read(octets: bytes) -> Policy | None:
    """The policy in a text; None where it is none (RFC 8461 §3.2)."""
    fields: dict[str, list[str]] = {}
    for line in octets.decode("utf-8", "replace").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), []).append(value.strip().lower())
    version, mode = fields.get("version", [""])[0], fields.get("mode", [""])[0]
    mx = tuple(one.rstrip(".") for one in fields.get("mx", []))
    if version != "stsv1" or mode not in _MODES or (mode != "none" and not mx):
        return None
    return Policy(mode, mx)


def allows(policy: Policy, host: str) -> bool:
    """Whether the host is one of the policy's MX hosts; `*.` stands for one label (RFC 8461 §4.1)."""
    host = host.rstrip(".").lower()
    below = host.partition(".")[2]
    return any(one == host or (one.startswith("*.") and one[2:] == below) for one in policy.mx)


def _sts(sts: Sts, endpoint: Endpoint, leaf: x509.Certificate, *, is_routed: bool) -> list[Flaw]:
    place = f"the MTA-STS policy of {clean(sts.domain, 100)}"
    if sts.policy.octets is None:
        is_ours = sts.policy.trouble is Trouble.NO_WAY
        severity = Severity.INFO if is_ours else Severity.WARNING
        text = f"{place} is announced and can't be had: {sts.policy.words}"
        return [Flaw("mta_sts_mismatch", "policy", text, None, severity)]
    policy = read(sts.policy.octets)
    if policy is None:
        text = f"{place} is announced, and what stands at its address is no policy"
        return [Flaw("mta_sts_mismatch", "policy", text, None, Severity.WARNING)]
    if policy.mode == "none":
        return []
    grave = Severity.FAULT if policy.mode == "enforce" and is_routed else Severity.WARNING
    words = f"{place} (mode {policy.mode})"
    host = clean(endpoint.host, 100)
    if not allows(policy, endpoint.host):
        text = f"{words} allows {clean(shown(policy.mx))}, not {host}"
        return [Flaw("mta_sts_mismatch", "mx", text, None, grave)]
    if match_host(endpoint.host, names_of(leaf)) is not Match.YES:
        text = f"{words} demands a certificate for {host}, and this one is for other names"
        return [Flaw("mta_sts_mismatch", "leaf", text, None, grave)]
    return []


def _dane(
    records: Sequence[Tlsa],
    endpoint: Endpoint,
    leaf: x509.Certificate,
    issuers: Sequence[x509.Certificate],
    *,
    is_routed: bool,
) -> list[Flaw]:
    usable = [one for one in records if one.usage in (_TRUST_ANCHOR, _END_ENTITY) and _is_known(one)]
    if not usable:
        return []
    is_named = match_host(endpoint.host, names_of(leaf)) is Match.YES
    for one in usable:
        if one.usage == _END_ENTITY and _holds(one, leaf):
            return []  # RFC 7672 §3.1.1: its name and dates do not matter
        if one.usage == _TRUST_ANCHOR and is_named and any(_holds(one, issuer) for issuer in issuers):
            return []
    severity = Severity.FAULT if is_routed else Severity.WARNING
    text = f"none of the {len(usable)} TLSA records of {clean(endpoint.host, 100)} fits the certificate"
    return [Flaw("dane_mismatch", "tlsa", text, None, severity)]


def _is_known(one: Tlsa) -> bool:
    return one.selector in (0, 1) and one.kind in (0, 1, 2)


def _holds(one: Tlsa, certificate: x509.Certificate) -> bool:
    try:
        octets = (
            certificate.public_bytes(Encoding.DER)
            if one.selector == 0
            else certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )
    except (ValueError, UnsupportedAlgorithm):
        return False
    held = {0: octets, 1: sha256(octets).digest(), 2: sha512(octets).digest()}[one.kind]
    return held == one.data
