"""Whether a chain keeps to the certificate policies that its own CAs demand.

Pure. Nobody who sends mail asks for a policy of his own; a CA may demand one of those below it, and Windows
refuses a chain that has none then (OpenSSL does not look).

Source: RFC 5280 §6.1.2 to §6.1.5, with any policy as the initial set; §4.2.1.5 (mappings), §4.2.1.11
(constraints), §4.2.1.14 (inhibition of any policy).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cryptography import x509

from resubmit.probe.path import Link, Path, extension

ANY = "2.5.29.32.0"
_MAPPINGS = x509.ObjectIdentifier("2.5.29.33")
_NAMES = 64
"""Policies of one certificate that are followed; more are nobody's."""

Nodes = dict[str, set[str]]
"""A policy that holds so far → those that the next certificate may name for it."""


def is_kept(path: Path) -> bool:
    """Whether the way has a policy wherever one of its CAs demands one."""
    links = path.links[:-1] if path.anchor is not None and len(path.links) > 1 else path.links
    downwards = list(reversed(links))
    length = len(downwards)
    explicit = mapping = inhibit = length + 1
    nodes: Nodes = {ANY: {ANY}}
    for place, link in enumerate(downwards, 1):
        is_last, is_own = place == length, link.is_own_issuer
        nodes = _held(nodes, link.certificate, may_be_any=inhibit > 0 or (is_own and not is_last))
        if explicit == 0 and not nodes:
            return False
        if is_last:
            continue
        mapped = list(_mapped(link.certificate))
        if any(ANY in pair for pair in mapped):
            return False
        nodes = _renamed(nodes, mapped, may_map=mapping > 0)
        if not is_own:
            explicit, mapping, inhibit = max(0, explicit - 1), max(0, mapping - 1), max(0, inhibit - 1)
        explicit, mapping, inhibit = _narrowed(link, explicit, mapping, inhibit)
    explicit = max(0, explicit - 1)
    own = extension(downwards[-1].certificate, x509.PolicyConstraints)
    if isinstance(own, x509.PolicyConstraints) and own.require_explicit_policy == 0:
        explicit = 0
    return explicit > 0 or bool(nodes)


def _held(nodes: Nodes, certificate: x509.Certificate, *, may_be_any: bool) -> Nodes:
    """What holds after one more certificate (RFC 5280 §6.1.3 (d), (e))."""
    found = extension(certificate, x509.CertificatePolicies)
    if not isinstance(found, x509.CertificatePolicies) or not nodes:
        return {}
    named = {one.policy_identifier.dotted_string for one in list(found)[:_NAMES]}
    expected = set().union(*nodes.values())
    held: Nodes = {one: {one} for one in named - {ANY} if one in expected or ANY in nodes}
    if ANY in named and may_be_any:
        held |= {one: {one} for one in expected if one not in held}
    return held


def _renamed(nodes: Nodes, mapped: Sequence[tuple[str, str]], *, may_map: bool) -> Nodes:
    """What the CA calls otherwise from here on (RFC 5280 §6.1.4 (b))."""
    renamed = dict(nodes)
    for issuers in {issuers for issuers, _ in mapped}:
        if not may_map:
            renamed.pop(issuers, None)
        elif issuers in nodes or ANY in nodes:
            renamed[issuers] = {subjects for one, subjects in mapped if one == issuers}
    return renamed


def _narrowed(link: Link, explicit: int, mapping: int, inhibit: int) -> tuple[int, int, int]:
    """The three counters after what the CA demands (RFC 5280 §6.1.4 (i), (j))."""
    given = extension(link.certificate, x509.PolicyConstraints)
    if isinstance(given, x509.PolicyConstraints):
        if given.require_explicit_policy is not None:
            explicit = min(explicit, given.require_explicit_policy)
        if given.inhibit_policy_mapping is not None:
            mapping = min(mapping, given.inhibit_policy_mapping)
    skipped = extension(link.certificate, x509.InhibitAnyPolicy)
    if isinstance(skipped, x509.InhibitAnyPolicy):
        inhibit = min(inhibit, skipped.skip_certs)
    return explicit, mapping, inhibit


def _mapped(certificate: x509.Certificate) -> Iterator[tuple[str, str]]:
    """The issuer's policies and what the subject calls them; cryptography leaves that one unread."""
    try:
        found = certificate.extensions.get_extension_for_oid(_MAPPINGS).value
    except (x509.ExtensionNotFound, ValueError, TypeError, x509.DuplicateExtension):
        return
    if not isinstance(found, x509.UnrecognizedExtension):
        return
    whole = list(_parts(found.value))
    for _, pair in list(_parts(whole[0][1]))[:_NAMES] if whole else ():
        oids = [_dotted(octets) for tag, octets in _parts(pair) if tag == 6]
        if len(oids) == 2:
            yield oids[0], oids[1]


def _parts(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each DER element, as far as they are whole."""
    place = 0
    while place + 2 <= len(octets):
        tag, length = octets[place], octets[place + 1]
        place += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(octets[place : place + size], "big")
            place += size
        if place + length > len(octets):
            return
        yield tag, octets[place : place + length]
        place += length


def _dotted(octets: bytes) -> str:
    """An object identifier as text (X.690 §8.19)."""
    numbers, value = [], 0
    for octet in octets:
        value = value << 7 | octet & 0x7F
        if not octet & 0x80:
            numbers.append(value)
            value = 0
    if not numbers:
        return ""
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))
