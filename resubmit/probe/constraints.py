"""What the CAs of a chain may do: issue at all, at this depth, for these names; and what they must be told.

Pure. Source: RFC 5280 §4.2 (critical extensions), §4.2.1.3 (key usage), §4.2.1.9 (path length), §4.2.1.10
(name constraints), §6.1.4; which critical extensions are understood: OpenSSL's list, which a sender's
verifier shares.
Limits: COMPARISONS names against constraints, then the chain is refused, as OpenSSL does.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from resubmit.model.tls import Severity
from resubmit.probe import issuance
from resubmit.probe.flaw import Flaw, name_text
from resubmit.probe.names import common_names
from resubmit.probe.path import UNREADABLE, Path, extension
from resubmit.probe.seen import clean
from resubmit.probe.signatures import canonical, digest_of, is_known

COMPARISONS = 50_000

_UNDERSTOOD = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.NAME_CONSTRAINTS,
    ExtensionOID.CERTIFICATE_POLICIES,
    ExtensionOID.POLICY_CONSTRAINTS,
    ExtensionOID.POLICY_MAPPINGS,
    ExtensionOID.INHIBIT_ANY_POLICY,
    ExtensionOID.CRL_DISTRIBUTION_POINTS,
    x509.ObjectIdentifier("2.16.840.1.113730.1.1"),  # Netscape certificate type
    x509.ObjectIdentifier("1.3.6.1.5.5.7.1.7"),  # IP address blocks (RFC 3779)
    x509.ObjectIdentifier("1.3.6.1.5.5.7.1.8"),  # AS numbers
}


def flaws(path: Path, *, accepted: bool = False) -> list[Flaw]:
    """What the CAs of the way may not do, or what one of its certificates demands that nobody understands.

    accepted: OpenSSL took the chain, so that what only we can't read or check is no fault."""
    found: list[Flaw] = []
    unread = Severity.WARNING if accepted else None
    for place in range(len(path.links)):
        found += _critical(path, place, unread)
        found += () if accepted else _signed(path, place)
        if place:
            found += _may_issue(path, place)
    if not issuance.is_kept(path):
        text = "the chain has no certificate policy, and one of its CAs demands one"
        found.append(Flaw("untrusted_issuer", "intermediate", text))
    held = [list(_held_to(link.certificate, is_leaf=not place)) for place, link in enumerate(path.links)]
    subtrees = [_subtrees(link.certificate) for link in path.links]
    compared = sum(
        len(names) * sum(len(both) for both in subtrees[place])
        for below, names in enumerate(held)
        for place in range(below + 1, len(path.links))
    )
    if compared <= COMPARISONS:
        for place in range(1, len(path.links)):
            found += _names(path, place, *subtrees[place], held)
    else:
        text = "there are more names and name constraints on the chain than a verifier compares"
        found.append(Flaw("untrusted_issuer", "intermediate", text, None, unread))
    return found


def _critical(path: Path, place: int, unread: Severity | None) -> Iterator[Flaw]:
    certificate, where = path.links[place].certificate, path.where(place)
    name = name_text(certificate.subject)
    try:
        unknown = [one.oid for one in certificate.extensions if one.critical and one.oid not in _UNDERSTOOD]
    except UNREADABLE as error:
        text = f"the extensions of {name} can't be read: {clean(str(error))}"
        yield Flaw("untrusted_issuer", where, text, None, unread)
        return
    if unknown:
        words = ", ".join(oid.dotted_string for oid in unknown[:4])
        text = f"the certificate of {name} has a critical extension that verifiers do not know: {words}"
        yield Flaw("untrusted_issuer", where, text)


def _signed(path: Path, place: int) -> Iterator[Flaw]:
    """A signature nobody here can check makes nobody trusted; the anchor's own says nothing."""
    certificate = path.links[place].certificate
    if place and path.is_anchor(place):
        return
    if not is_known(certificate.signature_algorithm_oid, digest_of(certificate)):
        words = certificate.signature_algorithm_oid.dotted_string
        text = f"the certificate of {name_text(certificate.subject)} is signed in an unknown way ({words})"
        yield Flaw("untrusted_issuer", path.where(place), text)


def _may_issue(path: Path, place: int) -> Iterator[Flaw]:
    """Whether the link may issue the one below it."""
    link, where = path.links[place], path.where(place)
    name = name_text(link.certificate.subject)
    basic = extension(link.certificate, x509.BasicConstraints)
    usage = extension(link.certificate, x509.KeyUsage)
    is_ca = isinstance(basic, x509.BasicConstraints) and basic.ca
    if path.is_anchor(place) and link.certificate.version is x509.Version.v1:
        return  # a root of old is trusted as it is
    if not link.certificate.subject.rdns:
        yield Flaw("issuer_not_ca", where, "the issuer of a certificate has no name (an empty subject)")
    elif not is_ca:
        yield Flaw("issuer_not_ca", where, f"{name} issued the certificate below it and is no CA")
    elif isinstance(usage, x509.KeyUsage) and not usage.key_cert_sign:
        text = f"{name} issued the certificate below it, and its key may not sign certificates"
        yield Flaw("issuer_not_ca", where, text)
    if isinstance(basic, x509.BasicConstraints) and basic.ca and basic.path_length is not None:
        below = sum(1 for one in path.links[1:place] if not one.is_own_issuer)
        if below > basic.path_length:
            may = f"{basic.path_length} below it" if basic.path_length else "none below it"
            text = f"the chain is too long: {name} may have {may} that issues, and there are {below}"
            yield Flaw("issuer_not_ca", where, text)


Subtrees = tuple[list[x509.GeneralName], list[x509.GeneralName]]


def _subtrees(certificate: x509.Certificate) -> Subtrees:
    """The permitted and the excluded subtrees of a CA."""
    given = extension(certificate, x509.NameConstraints)
    if not isinstance(given, x509.NameConstraints):
        return [], []
    return list(given.permitted_subtrees or ()), list(given.excluded_subtrees or ())


def _names(
    path: Path,
    place: int,
    permitted: list[x509.GeneralName],
    excluded: list[x509.GeneralName],
    held: list[list[x509.GeneralName]],
) -> Iterator[Flaw]:
    """The first name further down that the link's name constraints forbid."""
    who = name_text(path.links[place].certificate.subject)
    for below in range(place - 1, -1, -1):
        if below and path.links[below].is_own_issuer:
            continue  # RFC 5280 §6.1.3 (b), (c): a self-issued CA is not held to it
        for name in held[below]:
            kind = type(name)
            of_kind = [one for one in permitted if type(one) is kind]
            is_within = not of_kind or any(_within(name, one) for one in of_kind)
            if is_within and not any(_touches(name, one) for one in excluded if type(one) is kind):
                continue
            text = f"{who} may not issue for {_shown(name)} (name constraints)"
            yield Flaw("untrusted_issuer", path.where(place), text)
            return


def _held_to(certificate: x509.Certificate, *, is_leaf: bool) -> Iterator[x509.GeneralName]:
    """The names of a certificate that constraints are compared with."""
    if certificate.subject.rdns:
        yield x509.DirectoryName(certificate.subject)
    for mailbox in certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
        if str(mailbox.value).isascii():
            yield x509.RFC822Name(str(mailbox.value))  # RFC 5280 §4.2.1.10, where it stands in the subject
    names = extension(certificate, x509.SubjectAlternativeName)
    if isinstance(names, x509.SubjectAlternativeName):
        yield from names
    elif is_leaf:
        for common in common_names(certificate):
            if "." in common and " " not in common and common.isascii():
                yield x509.DNSName(common)


def _within(name: x509.GeneralName, base: x509.GeneralName) -> bool:
    """Whether a name lies in a subtree of its own kind; what can't be compared lies in each."""
    match name, base:
        case x509.DNSName(), x509.DNSName():
            return _dns_within(name.value, base.value)
        case x509.IPAddress(), x509.IPAddress():
            return _address_within(name.value, base.value)
        case x509.RFC822Name(), x509.RFC822Name():
            return _mail_within(name.value, base.value)
        case x509.UniformResourceIdentifier(), x509.UniformResourceIdentifier():
            host = name.value.partition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0]
            return _host_within(host, base.value)
        case x509.DirectoryName(), x509.DirectoryName():
            wanted = canonical(base.value)
            return canonical(name.value)[: len(wanted)] == wanted
        case _:
            return True


def _touches(name: x509.GeneralName, base: x509.GeneralName) -> bool:
    """Whether a name, or one that its wildcard stands for, lies in an excluded subtree."""
    if _within(name, base):
        return True
    if isinstance(name, x509.DNSName) and isinstance(base, x509.DNSName) and name.value.startswith("*."):
        return base.value.lower().partition(".")[2] == name.value[2:].lower()
    return False


def _dns_within(name: str, base: str) -> bool:
    """`contoso.com` holds itself and all below; an empty base holds everything."""
    name, base = name.rstrip(".").lower(), base.rstrip(".").lower()
    base = base.removeprefix(".")  # no such form in RFC 5280, and many write it
    return not base or name == base or name.endswith("." + base)


def _address_within(address: object, base: object) -> bool:
    if not isinstance(base, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return False
    if isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return address.version == base.version and address in base
    return False


def _mail_within(name: str, base: str) -> bool:
    mailbox, _, host = name.rpartition("@")
    if "@" in base:
        wanted, _, place = base.rpartition("@")
        return (mailbox, host.lower()) == (wanted, place.lower())
    return _host_within(host, base)


def _host_within(host: str, base: str) -> bool:
    """A base with a dot in front holds what is below it, one without only itself (RFC 5280 §4.2.1.10)."""
    host, base = host.lower(), base.lower()
    return host.endswith(base) if base.startswith(".") else host == base


def _shown(name: x509.GeneralName) -> str:
    value = getattr(name, "value", name)
    return clean(name_text(value) if isinstance(value, x509.Name) else str(value), 120)


def usages(certificate: x509.Certificate) -> Iterable[x509.ObjectIdentifier]:
    """Its extended key usages; none where it has no such extension."""
    found = extension(certificate, x509.ExtendedKeyUsage)
    return tuple(found) if isinstance(found, x509.ExtendedKeyUsage) else ()
