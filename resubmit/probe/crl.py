"""What a revocation list says of one certificate. Pure: octets in, a word out.

Source: RFC 5280 §4.2.1.13 (where lists are), §5 (what a list is), §6.3.3 (whether it may be believed). A list
at a web address is DER; one in PEM is not read by those who keep to that, so it counts as unreadable.
Limits: delta lists are no base and are not believed; a list for some reasons only says nothing by silence.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtensionOID

from resubmit.model.moment import Ms, from_datetime
from resubmit.probe.flaw import day, name_text
from resubmit.probe.path import UNREADABLE, extension
from resubmit.probe.seen import clean
from resubmit.probe.signatures import canonical, digest_of, padding_of, verifies

URLS = 3
"""Addresses of one certificate that are asked, one after the other, until a list can be believed."""

_UNDERSTOOD = {
    ExtensionOID.ISSUING_DISTRIBUTION_POINT,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
}


class Word(StrEnum):
    """What a list comes to."""

    GOOD = "good"
    REVOKED = "revoked"
    UNREADABLE = "unreadable"
    EXPIRED = "expired"
    UNTRUSTED = "untrusted"


@dataclass(frozen=True, slots=True)
class Listed:
    """The word of a list, and why, as the end of a sentence about it."""

    word: Word
    why: str = ""


@dataclass(frozen=True, slots=True)
class Points:
    """Where a certificate says its lists are. urls: by HTTP. others: schemes of the rest, `ldap` and such.

    issuers: who signs the lists, where that is not the certificate's own issuer. only_theirs: every point
    names one."""

    urls: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    issuers: tuple[x509.Name, ...] = ()
    only_theirs: bool = False


def points(certificate: x509.Certificate) -> Points:
    """The distribution points of a certificate; empty where it names none."""
    found = extension(certificate, x509.CRLDistributionPoints)
    if not isinstance(found, x509.CRLDistributionPoints):
        return Points()
    urls: dict[str, None] = {}
    others: dict[str, None] = {}
    issuers: list[x509.Name] = []
    for point in found:
        for name in point.full_name or ():
            value = name.value if isinstance(name, x509.UniformResourceIdentifier) else ""
            scheme = value.partition(":")[0].lower() if value else "directory"
            (urls if scheme == "http" else others).setdefault(
                value if scheme == "http" else clean(scheme, 20)
            )
        if point.relative_name is not None:
            others.setdefault("directory")
        issuers += [name.value for name in point.crl_issuer or () if isinstance(name, x509.DirectoryName)]
    only_theirs = all(point.crl_issuer for point in found)
    return Points(tuple(urls), tuple(others), tuple(issuers), only_theirs)


def read(
    octets: bytes,
    *,
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    others: Sequence[x509.Certificate],
    is_ca: bool,
    now: Ms,
) -> Listed:
    """What a list says of a certificate. issuer: the certificate's own; others: any that may have signed a
    list for it (RFC 5280 §5.2.5, indirect lists)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = x509.load_der_x509_crl(octets)
            extensions = list(found.extensions)
            begins, ends = from_datetime(found.last_update_utc), found.next_update_utc
            named = canonical(found.issuer)
    except UNREADABLE:
        return Listed(Word.UNREADABLE, _not_a_list(octets))
    idp = next((e.value for e in extensions if isinstance(e.value, x509.IssuingDistributionPoint)), None)
    if why := _not_for(certificate, idp, is_ca=is_ca) or _odd(extensions):
        return Listed(Word.UNTRUSTED, why)
    signers = [one for one in (issuer, *others) if canonical(one.subject) == named]
    given = points(certificate)
    is_indirect = named != canonical(certificate.issuer)
    is_asked = not given.only_theirs or any(canonical(one) == named for one in given.issuers)
    if not signers or not is_asked or (is_indirect and not _is_named(given, found.issuer, idp)):
        return Listed(Word.UNTRUSTED, f"is of {name_text(found.issuer)}, who did not issue the certificate")
    if not any(_signed(found, one) for one in signers):
        return Listed(Word.UNTRUSTED, "is not signed by the key of its issuer")
    entry = _entry(found, certificate, of_others=bool(idp and idp.indirect_crl))
    if isinstance(entry, str):
        return Listed(Word.UNTRUSTED, entry)
    if entry is not None and (revoked := _revoked(entry)):
        return Listed(Word.REVOKED, revoked)
    if begins > now:
        return Listed(Word.UNTRUSTED, f"is dated {day(begins)}, in the future")
    if ends is not None and from_datetime(ends) < now:
        return Listed(Word.EXPIRED, f"should have been renewed by {day(from_datetime(ends))}")
    if idp is not None and idp.only_some_reasons:
        return Listed(Word.UNTRUSTED, "is for some reasons of revocation only")
    return Listed(Word.GOOD)


def _not_a_list(octets: bytes) -> str:
    head = octets.lstrip()[:64].lower()
    if head.startswith(b"-----begin x509 crl"):
        return "is in PEM, and a list at a web address must be DER"
    if head.startswith(b"<"):
        return "is a web page"
    return "is no revocation list" if octets else "is empty"


def _not_for(
    certificate: x509.Certificate, idp: x509.IssuingDistributionPoint | None, *, is_ca: bool
) -> str | None:
    """Why the list does not cover the certificate (RFC 5280 §5.2.5, §6.3.3 (b))."""
    if idp is None:
        return None
    if idp.only_contains_attribute_certs:
        return "is for attribute certificates"
    if idp.only_contains_user_certs and is_ca:
        return "is not for the certificates of CAs"
    if idp.only_contains_ca_certs and not is_ca:
        return "is only for the certificates of CAs"
    mine = set(_names_of_points(certificate))
    theirs = {_comparable(name) for name in idp.full_name or ()}
    if idp.relative_name is not None:
        theirs.add(_relative(idp.relative_name, certificate.issuer))
    if theirs and not theirs & mine:
        return "is for another part of the CA's certificates (its distribution point)"
    return None


def _names_of_points(certificate: x509.Certificate) -> Iterator[object]:
    """Every name by which the certificate knows its lists; a list's issuer where a point has no other."""
    found = extension(certificate, x509.CRLDistributionPoints)
    for point in found if isinstance(found, x509.CRLDistributionPoints) else ():
        yield from (_comparable(name) for name in point.full_name or ())
        named = [name.value for name in point.crl_issuer or () if isinstance(name, x509.DirectoryName)]
        if point.relative_name is not None:
            for base in named or [certificate.issuer]:
                yield _relative(point.relative_name, base)
        elif not point.full_name:
            yield from (canonical(name) for name in named)


def _comparable(name: x509.GeneralName) -> object:
    return canonical(name.value) if isinstance(name, x509.DirectoryName) else getattr(name, "value", name)


def _relative(rdn: x509.RelativeDistinguishedName, base: x509.Name) -> object:
    return canonical(x509.Name([*base.rdns, rdn]))


def _odd(extensions: Iterable[x509.Extension[x509.ExtensionType]]) -> str | None:
    for one in extensions:
        if isinstance(one.value, x509.DeltaCRLIndicator):
            return "is a delta, of changes only"
        if one.critical and one.oid not in _UNDERSTOOD:
            return f"has a critical extension that is not known: {one.oid.dotted_string}"
    return None


def _is_named(given: Points, issuer: x509.Name, idp: x509.IssuingDistributionPoint | None) -> bool:
    """Whether the certificate names that issuer for its lists, and the list says that it is for others."""
    wanted = canonical(issuer)
    return bool(idp and idp.indirect_crl) and any(canonical(name) == wanted for name in given.issuers)


def _signed(found: x509.CertificateRevocationList, signer: x509.Certificate) -> bool:
    usage = extension(signer, x509.KeyUsage)
    if isinstance(usage, x509.KeyUsage) and not usage.crl_sign:
        return False
    try:
        key = signer.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
    octets, how = found.tbs_certlist_bytes, padding_of(found)
    oid = found.signature_algorithm_oid
    return verifies(key, found.signature, octets, oid, digest_of(found), how) is True


def _entry(
    found: x509.CertificateRevocationList, certificate: x509.Certificate, *, of_others: bool
) -> x509.RevokedCertificate | str | None:
    """The entry of the certificate; a text where the list can't be read to its end."""
    try:
        if not of_others:
            return found.get_revoked_certificate_by_serial_number(certificate.serial_number)
        issuer, wanted = canonical(found.issuer), canonical(certificate.issuer)
        for entry in found:
            for one in entry.extensions:  # an entry's issuer holds for those after it (RFC 5280 §5.3.3)
                if isinstance(one.value, x509.CertificateIssuer):
                    named = one.value.get_values_for_type(x509.DirectoryName)
                    issuer = canonical(named[0]) if named else issuer
            if entry.serial_number == certificate.serial_number and issuer == wanted:
                return entry
    except UNREADABLE as error:
        return f"can't be read to its end: {clean(str(error), 80)}"
    return None


def _revoked(entry: x509.RevokedCertificate) -> str | None:
    """When and why it was revoked; None for an entry that takes one off the list."""
    reason = ""
    try:
        for one in entry.extensions:
            if isinstance(one.value, x509.CRLReason):
                if one.value.reason is x509.ReasonFlags.remove_from_crl:
                    return None
                reason = f" ({one.value.reason.value})"
    except UNREADABLE:
        pass  # revoked all the same, for a reason that can't be read
    return f"since {day(from_datetime(entry.revocation_date_utc))}{reason}"
