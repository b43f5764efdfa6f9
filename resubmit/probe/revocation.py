"""Whether the certificates of a chain were revoked, and whether that can be known. Pure: `Gathered` → flaws.

A list or a responder that *we* can't reach says nothing of the server (a firewall of our own may be in the
way): severity unknown. A list that is there and can't be believed is the fault that the far side meets too.
Where one of the two ways gives a sound answer, trouble with the other only warns.

Source: RFC 5280 §6.3, RFC 6960; a connector's TlsSettings CertificateValidation means "certificate chain
validation and revocation lists checks" (Set-OutboundConnector).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509

from resubmit.model.moment import DAY, Ms, from_datetime
from resubmit.model.tls import Severity
from resubmit.probe import crl, ocsp
from resubmit.probe.fetch import Fetched, Trouble
from resubmit.probe.flaw import Flaw, name_text
from resubmit.probe.path import Path, extension, issued_by
from resubmit.probe.policy import Published
from resubmit.probe.roots import Roots
from resubmit.probe.seen import clean

SHORT_LIVED: Ms = 10 * DAY
"""A certificate that lives no longer need not be revoked (CA/Browser Forum, short-lived certificates)."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was fetched beside the look itself.

    lists, issuers: address → what stands there. answers: (responder, serial number) → its answer.
    published: what the domain says of its servers, None where that was not asked.
    """

    lists: Mapping[str, Fetched] = field(default_factory=dict)
    answers: Mapping[tuple[str, int], Fetched] = field(default_factory=dict)
    issuers: Mapping[str, Fetched] = field(default_factory=dict)
    published: Published | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A certificate whose revocation is of interest, with its issuer."""

    place: int
    certificate: x509.Certificate
    issuer: x509.Certificate

    @property
    def is_ca(self) -> bool:
        """As a list's scope counts it: by what stands on the certificate, not by its place."""
        basic = extension(self.certificate, x509.BasicConstraints)
        return isinstance(basic, x509.BasicConstraints) and basic.ca


def asked(path: Path) -> list[Asked]:
    """The certificates of a way that may be revoked: those that were sent, whose issuer is known."""
    found = []
    for place, link in enumerate(path.links[:-1]):
        if link.sent_as is not None and not link.is_own_issuer:
            found.append(Asked(place, link.certificate, path.links[place + 1].certificate))
    return found


def signers(path: Path, sent: Sequence[x509.Certificate], roots: Roots) -> list[x509.Certificate]:
    """Who may sign lists for the chain beside the issuers themselves: the CAs of the way, what one of those
    issued, and roots that a certificate names (RFC 5280 §6.3.3 (f): a signer needs a way of its own)."""
    ours = [link.certificate for link in path.links[1:]]
    named = [name for one in asked(path) for name in crl.points(one.certificate).issuers]
    beside = [one for one in sent[1:] if one not in ours and any(issued_by(one, ca) for ca in ours)]
    return [*ours, *(root for name in named for root in roots.named(name)), *beside]


def flaws(
    path: Path, gathered: Gathered, others: Sequence[x509.Certificate], now: Ms, *, is_public: bool
) -> list[Flaw]:
    """What is wrong with the revocation of the chain. others: any certificate that may have signed a list.

    is_public: the roots are the world's; a CA of one's own may publish nothing at all, and is then only asked
    why the server's certificate names no list where the CA's own does."""
    concerned = asked(path)
    publishes = any(one.place and _has_pointer(one.certificate) for one in concerned)
    found: list[Flaw] = []
    for one in concerned:
        if not _has_pointer(one.certificate):
            is_due = is_public or (publishes and not one.place)
            if is_due and not _is_short_lived(one.certificate):
                text = f"the certificate of {_name(one)} names no way to learn of its revocation"
                found.append(
                    Flaw("no_revocation_pointer", path.where(one.place), text, None, Severity.WARNING)
                )
            continue
        found += _of(one, path.where(one.place), gathered, others, now)
    return found


def _of(
    one: Asked, where: str, gathered: Gathered, others: Sequence[x509.Certificate], now: Ms
) -> list[Flaw]:
    by_list = list(_by_lists(one, where, gathered, others, now))
    by_answer = list(_by_answers(one, where, gathered, now))
    both = [*by_list, *by_answer]
    if revoked := [flaw for flaw in both if flaw.code == "revoked"]:
        return revoked[:1]
    given = crl.points(one.certificate)
    is_known = (bool(given.urls) and not by_list) or (bool(ocsp.urls(one.certificate)) and not by_answer)
    if not is_known:
        return both
    return [Flaw(f.code, f.where, f.text, None, Severity.WARNING) for f in both]


def _by_lists(
    one: Asked, where: str, gathered: Gathered, others: Sequence[x509.Certificate], now: Ms
) -> Iterator[Flaw]:
    """Nothing where a list says that all is well; else what is wrong with the first that was asked."""
    given = crl.points(one.certificate)
    if not given.urls:
        if given.others:
            schemes = ", ".join(given.others)
            text = f"the revocation list of {_name(one)} can only be had by {schemes}, not by HTTP"
            yield Flaw("crl_not_http", where, text)
        return
    first: Flaw | None = None
    for url in given.urls[: crl.URLS]:
        fetched = gathered.lists.get(url)
        if fetched is None:
            continue
        flaw = _by_list(one, where, fetched, others, now)
        if flaw is None:
            return
        if flaw.code == "revoked":
            yield flaw
            return
        first = first or flaw
    if first is not None:
        yield first


def _by_list(
    one: Asked, where: str, fetched: Fetched, others: Sequence[x509.Certificate], now: Ms
) -> Flaw | None:
    place = f"the revocation list for {_name(one)} at {clean(fetched.url, 120)}"
    if fetched.octets is None:
        if fetched.trouble is Trouble.TOO_LARGE:
            # A limit of ours: Windows reads up to 100 MB.
            return Flaw(
                "crl_unreadable", where, f"{place} is not read: {fetched.words}", None, Severity.UNKNOWN
            )
        return Flaw("crl_unreachable", where, f"{place} can't be fetched from here: {fetched.words}")
    listed = read_list(one, fetched.octets, others, now)
    match listed.word:
        case crl.Word.GOOD:
            return None
        case crl.Word.REVOKED:
            return Flaw("revoked", where, f"the certificate of {_name(one)} is revoked {listed.why}")
        case crl.Word.UNREADABLE:
            return Flaw("crl_unreadable", where, f"{place} {listed.why}")
        case crl.Word.EXPIRED:
            return Flaw("crl_expired", where, f"{place} {listed.why}")
        case crl.Word.UNTRUSTED:
            return Flaw("crl_untrusted", where, f"{place} {listed.why}")


def read_list(one: Asked, octets: bytes, others: Sequence[x509.Certificate], now: Ms) -> crl.Listed:
    """What a list says of one certificate of the chain."""
    return crl.read(
        octets, certificate=one.certificate, issuer=one.issuer, others=others, is_ca=one.is_ca, now=now
    )


def _by_answers(one: Asked, where: str, gathered: Gathered, now: Ms) -> Iterator[Flaw]:
    """Nothing where a responder says that all is well, or none was asked."""
    for url in ocsp.urls(one.certificate)[:1]:
        fetched = gathered.answers.get((url, one.certificate.serial_number))
        if fetched is None:
            return
        place = f"the OCSP responder for {_name(one)} at {clean(url, 120)}"
        if fetched.octets is None:
            yield Flaw("ocsp_unreachable", where, f"{place} gives no answer: {fetched.words}")
            return
        told = ocsp.read(fetched.octets, certificate=one.certificate, issuer=one.issuer, now=now)
        if told.standing is ocsp.Standing.REVOKED:
            yield Flaw("revoked", where, f"the certificate of {_name(one)} is revoked {told.why}".rstrip())
        elif told.standing is ocsp.Standing.NONE:
            yield Flaw("ocsp_unreachable", where, f"{place} {told.why}")


def _has_pointer(certificate: x509.Certificate) -> bool:
    given = crl.points(certificate)
    return bool(given.urls or given.others or ocsp.urls(certificate))


def _is_short_lived(certificate: x509.Certificate) -> bool:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return from_datetime(ends) - from_datetime(begins) <= SHORT_LIVED


def _name(one: Asked) -> str:
    return name_text(one.certificate.subject)
