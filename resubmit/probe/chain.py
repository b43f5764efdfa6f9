"""Everything that is wrong with the certificates as sent, not only the first thing.

Pure: `now` is passed in. OpenSSL gives one verdict and stops at its first reason; this reads the captured
chain and gives all: a certificate that is expired and for another name and without its intermediate has
three flaws. What was fetched by the addresses on the certificates (AIA) only tells apart what is missing: a
chain is judged as sent, because most verifiers fetch nothing.

Source: RFC 5280 (path, key usage, dates), RFC 5246 §7.4.2 (order); `path` and `constraints` for the rest.
Limits: where only the leaf was sent and nothing can be fetched, a missing intermediate and a private root
that issued it directly look the same; `_is_private` says what is taken for a sign.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from resubmit.model.moment import DAY, HOUR, SECOND, Ms, from_datetime, span_text
from resubmit.model.tls import Certificate, Severity
from resubmit.probe import constraints
from resubmit.probe.flaw import Flaw, day, name_text
from resubmit.probe.names import names_of
from resubmit.probe.path import Link, Path, extension, ways
from resubmit.probe.roots import Roots, parsed
from resubmit.probe.seen import clean
from resubmit.probe.signatures import canonical, digest_of, old_digest

SOON: Ms = 30 * DAY
WARNINGS = ("expiring_soon", "chain_misordered")
"""Flaws that nobody refuses a chain for."""
DYING: Ms = 24 * HOUR
SAN_CEILING = 100
_PUBLIC_POLICIES = "2.23.140.1."
"""CA/B Forum policy identifiers, on every public server certificate (Baseline Requirements 7.1.2.7.9)."""


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


def flaws(
    sent: Sequence[x509.Certificate],
    roots: Roots,
    now: Ms,
    *,
    accepted: bool,
    fetched: Sequence[x509.Certificate] = (),
) -> list[Flaw]:
    """All flaws but the names' and revocation's. `accepted`: OpenSSL took the chain over the same roots
    (dates aside). fetched: what stands at the certificates' own addresses for their issuers."""
    return judged(sent, roots, now, accepted=accepted, fetched=fetched)[1]


def judged(
    sent: Sequence[x509.Certificate],
    roots: Roots,
    now: Ms,
    *,
    accepted: bool,
    fetched: Sequence[x509.Certificate] = (),
) -> tuple[Path, list[Flaw]]:
    """The way up that speaks best for the server, and its flaws; see `flaws`."""
    best: tuple[Path, list[Flaw]] | None = None
    for path in ways(sent, roots):
        found = _of_path(path, roots, now, accepted=accepted)
        if best is None or _weight(found) < _weight(best[1]):
            best = path, found
        if not best[1]:
            break
    assert best is not None
    path, found = best
    if (
        path.anchor is not None
        and not _is_in_order(sent)
        and all(f.code != "chain_misordered" for f in found)
    ):
        text = "the certificates are not sent as a chain: each is to certify one sent before it"
        return path, [*found, Flaw("chain_misordered", "intermediate", text)]
    if accepted or path.anchor is not None:
        return best
    further = ways(sent, roots, fetched)[0] if fetched else path
    # what is beyond the chain as sent is not held against the server: only whether it leads to a root is
    return further, [*_trust(path, further, sent, roots), *found]


def _is_in_order(sent: Sequence[x509.Certificate]) -> bool:
    """Whether each certificate is the issuer of one before it (RFC 8446 §4.4.2), by its name. A CA's second
    certificate (cross-signed) may follow its first; the same certificate twice may not."""
    issuers, met = {canonical(sent[0].issuer)}, {_der_of(sent[0])}
    for one in sent[1:]:
        if canonical(one.subject) not in issuers or (der := _der_of(one)) in met:
            return False
        issuers.add(canonical(one.issuer))
        met.add(der)
    return True


def _weight(found: list[Flaw]) -> tuple[int, int]:
    """How much speaks against a way: what keeps it from being taken first."""
    grave = (one for one in found if one.code not in WARNINGS and one.severity is not Severity.WARNING)
    return sum(1 for _ in grave), len(found)


def _of_path(path: Path, roots: Roots, now: Ms, *, accepted: bool) -> list[Flaw]:
    """What is wrong on one way, its missing end aside."""
    found = constraints.flaws(path, accepted=accepted)
    for place, link in enumerate(path.links):
        where = path.where(place)
        found += _dates(link.certificate, where, now)
        if place and path.is_anchor(place):
            # A public root is trusted as a key, whatever it is; OpenSSL weighs the keys of a CA file too.
            found += [] if roots.is_public else _key(link.certificate, where)
        elif link.sent_as is not None:
            found += [*_key(link.certificate, where), *_signature(link, where)]
            found += _purpose(link.certificate, where)
    places = [link.sent_as for link in path.links if link.sent_as is not None]
    if places != sorted(places):
        found.append(Flaw("chain_misordered", "intermediate", "the certificates are sent in the wrong order"))
    if path.anchor is not None:
        limit = roots.limits.get(sha256_of(path.anchor))
        if limit is not None and (issued := not_before(path.links[0].certificate)) > limit:
            text = (
                f"{roots.name} trusts {name_text(path.anchor.subject)} for what it issued until {day(limit)}"
            )
            found.append(Flaw("untrusted_issuer", "root", f"{text}; this certificate is of {day(issued)}"))
    return found


def _trust(path: Path, further: Path, sent: Sequence[x509.Certificate], roots: Roots) -> list[Flaw]:
    """Why the chain ends nowhere. path: as sent. further: with what could be fetched."""
    top = path.top
    issuer = name_text(top.certificate.issuer)
    if top.is_own_issuer and len(path.links) == 1:
        name = name_text(top.certificate.subject)
        return [Flaw("self_signed", "leaf", f"the certificate of {name} is signed by itself")]
    if top.is_own_issuer:
        return [Flaw("untrusted_issuer", "root", f"the chain ends in {issuer}, which is not in {roots.name}")]
    where = "leaf" if len(path.links) == 1 else "intermediate"
    others = " (what was sent beside it did not issue it)" if where == "leaf" and len(sent) > 1 else ""
    if further.anchor is not None:
        text = f"the intermediate {issuer} was not sent{others}; the certificate names where it can be had"
        return [Flaw("chain_incomplete", where, f"{text}, which not every verifier goes to")]
    if further.is_fetched and further.top.is_own_issuer:
        root = name_text(further.top.certificate.subject)
        return [Flaw("untrusted_issuer", "root", f"the chain leads to {root}, which is not in {roots.name}")]
    if where == "leaf":
        if _is_private(top.certificate, roots):
            text = f"the issuer {issuer} is not in {roots.name}, and was not sent"
            return [Flaw("untrusted_issuer", "leaf", text)]
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
    if re.search(r"\broot\b", name_text(leaf.issuer), re.IGNORECASE):
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
    name, ends, begins = name_text(certificate.subject), not_after(certificate), not_before(certificate)
    if ends < now - now % SECOND:  # valid to the end of that second (RFC 5280 §4.1.2.5)
        text = f"the certificate of {name} expired on {day(ends)}, {span_text(now - ends)} ago"
        return [Flaw("certificate_expired", where, text, ends - now)]
    if begins > now:
        text = f"the certificate of {name} is valid only from {day(begins)} on, in {span_text(begins - now)}"
        return [Flaw("certificate_not_yet_valid", where, text)]
    if ends - now < SOON:
        text = f"the certificate of {name} expires on {day(ends)}, in {span_text(ends - now)}"
        return [Flaw("expiring_soon", where, text, ends - now)]
    return []


def _key(certificate: x509.Certificate, where: str) -> list[Flaw]:
    short = _short(certificate)
    return (
        [Flaw("weak_key", where, f"the key of {name_text(certificate.subject)} is {short}")] if short else []
    )


def _signature(link: Link, where: str) -> list[Flaw]:
    certificate = link.certificate
    old = old_digest(certificate.signature_algorithm_oid, digest_of(certificate))
    if old is None or link.is_own_issuer:
        return []
    text = f"the certificate of {name_text(certificate.subject)} is signed with {old}"
    return [Flaw("weak_signature", where, text)]


def _short(certificate: x509.Certificate) -> str | None:
    """Why the key is too weak; None where it is not, or where nobody here can tell."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None  # OpenSSL's verdict stands for kinds of key cryptography does not know
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
        return f"RSA of {key.key_size} bits, fewer than 2048"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < 224:
        return f"EC of {key.key_size} bits, fewer than 224"
    if isinstance(key, dsa.DSAPublicKey):
        return "DSA, which TLS no longer uses"
    return None


def _purpose(certificate: x509.Certificate, where: str) -> list[Flaw]:
    """Whether it is for servers; whether it may issue is for `constraints`."""
    name = name_text(certificate.subject)
    found: list[Flaw] = []
    given = constraints.usages(certificate)
    servers = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if given and where != "root" and not servers & set(given):
        text = f"the certificate of {name} is not for servers (its usages lack server authentication)"
        found.append(Flaw("wrong_usage", where, text))
    usage = extension(certificate, x509.KeyUsage)
    if (
        where == "leaf"
        and isinstance(usage, x509.KeyUsage)
        and not (usage.digital_signature or usage.key_encipherment or usage.key_agreement)
    ):
        text = f"the key of {name} may neither sign nor agree on keys, so it is not for servers"
        found.append(Flaw("wrong_usage", where, text))
    return found


def described(certificate: x509.Certificate) -> Certificate:
    """A certificate as verdicts show it."""
    der = _der_of(certificate)
    return Certificate(
        subject=name_text(certificate.subject),
        issuer=name_text(certificate.issuer),
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
    return certificate.public_bytes(Encoding.DER)


def _organisation(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(found[0].value).strip().lower() if found else ""
