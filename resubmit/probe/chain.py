"""Everything that is wrong with the certificates as sent, not only the first thing.

Pure: `now` is passed in. OpenSSL gives one verdict and stops at its first reason; this reads the captured
chain and gives all: a certificate that is expired and for another name and without its intermediate has
three flaws. A missing intermediate is never fetched to judge (most verifiers do not).

Source: RFC 5280 (path, basic constraints, key usage, dates), RFC 5246 §7.4.2 (order).
Limits: where only the leaf was sent and nothing tells about its issuer, a missing intermediate and a
private root that issued it directly look the same; `_is_private` says what is taken for a sign.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from resubmit.model.moment import DAY, HOUR, Ms, from_datetime, span_text, to_datetime
from resubmit.model.tls import Certificate
from resubmit.probe.names import names_of
from resubmit.probe.roots import Roots, parsed
from resubmit.probe.seen import clean

SOON: Ms = 30 * DAY
DYING: Ms = 24 * HOUR
SAN_CEILING = 100
_PATH_CEILING = 12
_PUBLIC_POLICIES = "2.23.140.1."
"""CA/B Forum policy identifiers, on every public server certificate (Baseline Requirements 7.1.2.7.9)."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing wrong. left: how long it still is valid, where that is what is wrong."""

    code: str
    where: str
    text: str
    left: Ms | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """One certificate on the way up. `sent_as`: its place in what was sent; None: taken from the roots."""

    certificate: x509.Certificate
    sent_as: int | None

    @property
    def is_own_issuer(self) -> bool:
        return self.certificate.subject == self.certificate.issuer


@dataclass(frozen=True, slots=True)
class Path:
    """The way up from the leaf as far as it goes; `anchor`: the trusted root it ends in, or None."""

    links: tuple[Link, ...]
    anchor: x509.Certificate | None

    def where(self, place: int) -> str:
        """`leaf`, `intermediate` or `root`, as findings say it."""
        if place == 0:
            return "leaf"
        link = self.links[place]
        return "root" if link.is_own_issuer or link.certificate is self.anchor else "intermediate"


def read(chain: Sequence[bytes]) -> list[x509.Certificate]:
    """The certificates that can be read, in the order sent; none at all when the leaf can't be."""
    found: list[x509.Certificate] = []
    for place, der in enumerate(chain):
        try:
            found.append(parsed(x509.load_der_x509_certificate, der))
        except ValueError:
            if place == 0:
                return []
    return found


def flaws(sent: Sequence[x509.Certificate], roots: Roots, now: Ms, *, accepted: bool) -> list[Flaw]:
    """All flaws but the names'. `accepted`: OpenSSL took the chain over the same roots (dates aside)."""
    path = build(sent, roots)
    found: list[Flaw] = []
    if not accepted:
        found += _trust(path, sent, roots)
    for place, link in enumerate(path.links):
        where = path.where(place)
        found += _dates(link.certificate, where, now)
        found += _strength(link, where)
        found += _purpose(link, where, roots)
    places = [link.sent_as for link in path.links if link.sent_as is not None]
    if places != sorted(places):
        found.append(Flaw("chain_misordered", "intermediate", "the certificates are sent in the wrong order"))
    if path.anchor is not None:
        limit = roots.limits.get(sha256_of(path.anchor))
        if limit is not None and (issued := not_before(path.links[0].certificate)) > limit:
            text = f"{roots.name} trusts {_name(path.anchor.subject)} for what it issued until {_day(limit)}"
            found.append(Flaw("untrusted_issuer", "root", f"{text}; this certificate is of {_day(issued)}"))
    return found


def build(sent: Sequence[x509.Certificate], roots: Roots) -> Path:
    """The way from the leaf up: trusted roots first, then what was sent."""
    links = [Link(sent[0], 0)]
    used = {sha256_of(sent[0])}
    while len(links) < _PATH_CEILING:
        current = links[-1].certificate
        if (same := _same(current, roots)) is not None and current.subject == current.issuer:
            return Path(tuple(links), same)
        for root in roots.named(current.issuer):
            if sha256_of(root) not in used and issued_by(current, root):
                links.append(Link(root, None))
                if root.subject == root.issuer:
                    return Path(tuple(links), root)
                break
        else:
            for place, candidate in enumerate(sent):
                if (
                    candidate.subject == current.issuer
                    and sha256_of(candidate) not in used
                    and issued_by(current, candidate)
                ):
                    links.append(Link(candidate, place))
                    break
            else:
                break
        used.add(sha256_of(links[-1].certificate))
    return Path(tuple(links), None)


def issued_by(child: x509.Certificate, parent: x509.Certificate) -> bool:
    """Whether `parent` signed `child`; for an algorithm cryptography won't check, by key identifiers."""
    try:
        child.verify_directly_issued_by(parent)
        return True
    except InvalidSignature:
        return False
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if child.issuer != parent.subject:
            return False
        wanted, given = _authority_key(child), _subject_key(parent)
        return wanted is None or given is None or wanted == given


def _trust(path: Path, sent: Sequence[x509.Certificate], roots: Roots) -> list[Flaw]:
    if path.anchor is not None:
        return []
    top = path.links[-1].certificate
    issuer = _name(top.issuer)
    if len(path.links) == 1 and top.subject == top.issuer:
        return [Flaw("self_signed", "leaf", f"the certificate of {_name(top.subject)} is signed by itself")]
    if top.subject == top.issuer:
        return [Flaw("untrusted_issuer", "root", f"the chain ends in {issuer}, which is not in {roots.name}")]
    if len(path.links) == 1:
        if _is_private(top, roots):
            text = f"the issuer {issuer} is not in {roots.name}, and was not sent"
            return [Flaw("untrusted_issuer", "leaf", text)]
        others = " (what was sent beside it did not issue it)" if len(sent) > 1 else ""
        text = (
            f"the certificate of the issuer {issuer} was not sent{others}, and it is no root of {roots.name}"
        )
        return [Flaw("chain_incomplete", "leaf", text)]
    if roots.is_public and _is_public(sent[0]):
        text = f"the intermediate {issuer} was not sent, and it is no root of {roots.name}"
        return [Flaw("chain_incomplete", "intermediate", text)]
    text = f"the chain leads to {issuer}, which is not in {roots.name}"
    return [Flaw("untrusted_issuer", "root", text)]


def _is_private(leaf: x509.Certificate, roots: Roots) -> bool:
    """Signs that the unknown issuer of a leaf is a private root, not an intermediate that was left out.

    Its name says root; or the roots are the public ones and the leaf lacks what every public certificate
    has; or it is of an organisation that none of the configured roots is of.
    """
    if re.search(r"\broot\b", _name(leaf.issuer), re.IGNORECASE):
        return True
    if roots.is_public:
        return not _is_public(leaf)
    ours = {organisation for root in roots.certificates if (organisation := _organisation(root.subject))}
    theirs = _organisation(leaf.issuer)
    return bool(theirs and ours and theirs not in ours)


def _is_public(leaf: x509.Certificate) -> bool:
    """Whether a leaf bears the marks of a public CA: signed timestamps (RFC 6962) or a CA/B policy."""
    try:
        for extension in leaf.extensions:
            if extension.oid == ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS:
                return True
            if isinstance(extension.value, x509.CertificatePolicies) and any(
                policy.policy_identifier.dotted_string.startswith(_PUBLIC_POLICIES)
                for policy in extension.value
            ):
                return True
    except (ValueError, x509.DuplicateExtension):
        pass
    return False


def _dates(certificate: x509.Certificate, where: str, now: Ms) -> list[Flaw]:
    name, ends, begins = _name(certificate.subject), not_after(certificate), not_before(certificate)
    if ends < now:
        text = f"the certificate of {name} expired on {_day(ends)}, {span_text(now - ends)} ago"
        return [Flaw("certificate_expired", where, text, ends - now)]
    if begins > now:
        text = f"the certificate of {name} is valid only from {_day(begins)} on, in {span_text(begins - now)}"
        return [Flaw("certificate_not_yet_valid", where, text)]
    if ends - now < SOON:
        text = f"the certificate of {name} expires on {_day(ends)}, in {span_text(ends - now)}"
        return [Flaw("expiring_soon", where, text, ends - now)]
    return []


def _strength(link: Link, where: str) -> list[Flaw]:
    certificate, found = link.certificate, []
    if link.sent_as is None:
        return []  # a root in a list is trusted as a key, whatever it is
    name = _name(certificate.subject)
    try:
        key = certificate.public_key()
        if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
            found.append(
                Flaw("weak_key", where, f"the RSA key of {name} has {key.key_size} bits, fewer than 2048")
            )
        elif isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < 224:
            found.append(
                Flaw("weak_key", where, f"the EC key of {name} has {key.key_size} bits, fewer than 224")
            )
        hashed = certificate.signature_hash_algorithm
        if not link.is_own_issuer and hashed is not None and hashed.name in ("sha1", "md5"):
            text = f"the certificate of {name} is signed with {hashed.name.upper()}"
            found.append(Flaw("weak_signature", where, text))
    except (ValueError, UnsupportedAlgorithm):
        pass  # OpenSSL's verdict stands for kinds of key cryptography does not know
    return found


def _purpose(link: Link, where: str, roots: Roots) -> list[Flaw]:
    if link.sent_as is None:
        return []
    certificate = link.certificate
    name = _name(certificate.subject)
    found: list[Flaw] = []
    usages = _extension(certificate, x509.ExtendedKeyUsage)
    servers = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if isinstance(usages, x509.ExtendedKeyUsage) and where != "root" and not servers & set(usages):
        text = f"the certificate of {name} is not for servers (its usages lack server authentication)"
        found.append(Flaw("wrong_usage", where, text))
    if where != "leaf":
        basic = _extension(certificate, x509.BasicConstraints)
        usage = _extension(certificate, x509.KeyUsage)
        is_ca = isinstance(basic, x509.BasicConstraints) and basic.ca
        may_sign = not isinstance(usage, x509.KeyUsage) or usage.key_cert_sign
        if not (is_ca and may_sign):
            found.append(Flaw("issuer_not_ca", where, f"{name} issued the certificate below it and is no CA"))
    return found


def described(certificate: x509.Certificate) -> Certificate:
    """A certificate as verdicts show it."""
    der = _der_of(certificate)
    return Certificate(
        subject=_name(certificate.subject),
        issuer=_name(certificate.issuer),
        sans=tuple(clean(name, 255) for name in _san_names(certificate)[:SAN_CEILING]),
        not_before=not_before(certificate),
        not_after=not_after(certificate),
        sha256=sha256(der).hexdigest(),
        der=der,
    )


def not_after(certificate: x509.Certificate) -> Ms:
    return from_datetime(certificate.not_valid_after_utc)


def not_before(certificate: x509.Certificate) -> Ms:
    return from_datetime(certificate.not_valid_before_utc)


def sha256_of(certificate: x509.Certificate) -> str:
    return sha256(_der_of(certificate)).hexdigest()


def _san_names(certificate: x509.Certificate) -> tuple[str, ...]:
    names = names_of(certificate)
    return () if names.is_common else names.all()


def _der_of(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


def _same(certificate: x509.Certificate, roots: Roots) -> x509.Certificate | None:
    """The trusted root with the same subject and key (a root may be sent in another edition of itself)."""
    for root in roots.named(certificate.subject):
        try:
            if root == certificate or root.public_key() == certificate.public_key():
                return root
        except (ValueError, UnsupportedAlgorithm):
            continue
    return None


def _extension(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> x509.ExtensionType | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None


def _authority_key(certificate: x509.Certificate) -> bytes | None:
    found = _extension(certificate, x509.AuthorityKeyIdentifier)
    return found.key_identifier if isinstance(found, x509.AuthorityKeyIdentifier) else None


def _subject_key(certificate: x509.Certificate) -> bytes | None:
    found = _extension(certificate, x509.SubjectKeyIdentifier)
    return found.digest if isinstance(found, x509.SubjectKeyIdentifier) else None


def _organisation(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(found[0].value).strip().lower() if found else ""


def _name(name: x509.Name) -> str:
    return clean(name.rfc4514_string(), 200) or "(no subject)"


def _day(at: Ms) -> str:
    return to_datetime(at).strftime("%Y-%m-%d %H:%M UTC")
