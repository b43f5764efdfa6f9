"""The ways up from a leaf: over what was sent, what was fetched, and the trusted roots.

Pure. A certificate may have several issuers of one name (a CA signed by two others, a root renewed): every
way is tried, within bounds, so that a server is not blamed for the wrong one of two.

Source: RFC 4158 (path building), RFC 5280 §6.1.
Limits: BUDGET checks of signatures for a chain, STEPS steps and WAYS ways: a chain made to have more is
judged by those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from resubmit.probe.roots import Roots
from resubmit.probe.signatures import canonical, digest_of, padding_of, verifies

CEILING = 12
UNREADABLE = (
    ValueError,
    TypeError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises for what is not as it should be."""
BUDGET = 256
STEPS = 1024
WAYS = 48


@dataclass(frozen=True, slots=True)
class Link:
    """One certificate on the way up. `sent_as`: its place in what was sent; None: not sent.

    fetched: it was had by the address its child names for it (AIA), not from the roots."""

    certificate: x509.Certificate
    sent_as: int | None
    fetched: bool = False

    @property
    def is_own_issuer(self) -> bool:
        return canonical(self.certificate.subject) == canonical(self.certificate.issuer)


@dataclass(frozen=True, slots=True)
class Path:
    """The way up from the leaf as far as it goes; `anchor`: the trusted root it ends in, or None."""

    links: tuple[Link, ...]
    anchor: x509.Certificate | None

    @property
    def top(self) -> Link:
        return self.links[-1]

    @property
    def is_fetched(self) -> bool:
        """Whether it goes over a certificate that was not sent and is in no list of roots."""
        return any(link.fetched for link in self.links)

    def where(self, place: int) -> str:
        """`leaf`, `intermediate` or `root`, as findings say it."""
        if place == 0:
            return "leaf"
        return "root" if self.links[place].is_own_issuer or self.is_anchor(place) else "intermediate"

    def is_anchor(self, place: int) -> bool:
        """Whether this link is the trusted root, be it the sender's copy or another edition of it."""
        return self.anchor is not None and place == len(self.links) - 1


def ways(
    sent: Sequence[x509.Certificate], roots: Roots, fetched: Sequence[x509.Certificate] = ()
) -> list[Path]:
    """Every way that ends in a trusted root, likelier ones first; without one the longest that does not."""
    search = _Search(sent, roots, fetched)
    found = []
    for path in search.up((Link(sent[0], 0),)):
        found.append(path)
        if len(found) >= WAYS:
            break
    return found or [Path(search.longest, None)]


def issued_by(child: x509.Certificate, parent: x509.Certificate) -> bool:
    """Whether `parent` signed `child`; where the signature can't be checked here, by key identifiers."""
    if canonical(child.issuer) != canonical(parent.subject):
        return False
    try:
        key = parent.public_key()
        octets = child.tbs_certificate_bytes
    except (ValueError, UnsupportedAlgorithm):
        return _by_key_ids(child, parent)
    known = verifies(
        key, child.signature, octets, child.signature_algorithm_oid, digest_of(child), padding_of(child)
    )
    return _by_key_ids(child, parent) if known is None else known


def same_key(one: x509.Certificate, other: x509.Certificate) -> bool:
    """Whether both hold one key (a root may be sent in another edition of itself)."""
    try:
        return one == other or one.public_key() == other.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False


@dataclass
class _Search:
    """One search; `checked` remembers who signed whom."""

    sent: Sequence[x509.Certificate]
    roots: Roots
    fetched: Sequence[x509.Certificate]
    checked: dict[tuple[int, int], bool] = field(default_factory=dict)
    longest: tuple[Link, ...] = ()
    steps: int = 0

    def up(self, links: tuple[Link, ...]) -> Iterator[Path]:
        """Every way on from here that ends in a trusted root."""
        if len(links) > len(self.longest):
            self.longest = links
        here = links[-1]
        for root in self.roots.named(here.certificate.subject):
            if here.certificate == root or (here.is_own_issuer and same_key(here.certificate, root)):
                yield Path(links, root)
                return
        self.steps += 1
        if len(links) >= CEILING or self.steps > STEPS:
            return
        for candidate in self._candidates(here.certificate):
            if any(_is_loop(link.certificate, candidate.certificate) for link in links):
                continue
            if not self._signed(here.certificate, candidate.certificate):
                continue
            is_root = candidate.sent_as is None and not candidate.fetched
            if not (is_root and candidate.is_own_issuer):
                yield from self.up((*links, candidate))
            if is_root:  # somebody's CA file may hold an intermediate only: it is trusted as it stands
                yield Path((*links, candidate), candidate.certificate)

    def _candidates(self, child: x509.Certificate) -> Iterator[Link]:
        """Certificates with the issuer's name: roots first, as OpenSSL does; then the likelier key first."""
        wanted = canonical(child.issuer)
        yield from (Link(root, None) for root in self.roots.named(child.issuer))
        others = [Link(c, place) for place, c in enumerate(self.sent) if place]
        others += [Link(c, None, fetched=True) for c in self.fetched]
        named = [link for link in others if canonical(link.certificate.subject) == wanted]
        yield from sorted(named, key=lambda link: not _by_key_ids(child, link.certificate))

    def _signed(self, child: x509.Certificate, parent: x509.Certificate) -> bool:
        pair = (id(child), id(parent))
        if pair not in self.checked:
            if len(self.checked) >= BUDGET:
                return False
            self.checked[pair] = issued_by(child, parent)
        return self.checked[pair]


def _is_loop(one: x509.Certificate, other: x509.Certificate) -> bool:
    """The same subject with the same key is not passed twice (RFC 4158 §2.4.2)."""
    return canonical(one.subject) == canonical(other.subject) and same_key(one, other)


def _by_key_ids(child: x509.Certificate, parent: x509.Certificate) -> bool:
    wanted, given = _authority_key(child), _subject_key(parent)
    return wanted is None or given is None or wanted == given


def extension(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> x509.ExtensionType | None:
    """An extension's value; None where there is none or it can't be read."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return None


def http_access(certificate: x509.Certificate, method: x509.ObjectIdentifier) -> tuple[str, ...]:
    """The HTTP addresses that a certificate's Authority Information Access names for a method.
    (RFC 5280 §4.2.2.1)"""
    found = extension(certificate, x509.AuthorityInformationAccess)
    if not isinstance(found, x509.AuthorityInformationAccess):
        return ()
    named = (
        one.access_location.value
        for one in found
        if one.access_method == method and isinstance(one.access_location, x509.UniformResourceIdentifier)
    )
    return tuple(url for url in named if url.lower().startswith("http://"))


def _authority_key(certificate: x509.Certificate) -> bytes | None:
    found = extension(certificate, x509.AuthorityKeyIdentifier)
    return found.key_identifier if isinstance(found, x509.AuthorityKeyIdentifier) else None


def _subject_key(certificate: x509.Certificate) -> bytes | None:
    found = extension(certificate, x509.SubjectKeyIdentifier)
    return found.digest if isinstance(found, x509.SubjectKeyIdentifier) else None
