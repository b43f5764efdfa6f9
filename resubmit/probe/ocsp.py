"""One certificate's standing, asked of its CA's responder. Pure: the question's octets, the answer's word.

Source: RFC 6960; RFC 5019 §2.1.1 (SHA-1 names the issuer: it is what every responder knows).
Limits: Python's TLS gives no stapled answer, so the responder is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from resubmit.model.moment import MINUTE, Ms, from_datetime
from resubmit.probe.flaw import day
from resubmit.probe.path import UNREADABLE, extension, http_access, issued_by
from resubmit.probe.signatures import canonical, verifies

CONTENT_TYPE = "application/ocsp-request"
CEILING = 64 * 1024
_LEEWAY: Ms = 5 * MINUTE


class Standing(StrEnum):
    """What an answer comes to."""

    GOOD = "good"
    REVOKED = "revoked"
    NONE = "none"
    """Nothing that could be believed."""


@dataclass(frozen=True, slots=True)
class Told:
    """The word of an answer, and why, as the end of a sentence about it."""

    standing: Standing
    why: str = ""


def urls(certificate: x509.Certificate) -> tuple[str, ...]:
    """The responders a certificate names, by HTTP."""
    return http_access(certificate, AuthorityInformationAccessOID.OCSP)


def request(certificate: x509.Certificate, issuer: x509.Certificate) -> bytes | None:
    """The question about a certificate, DER; None where it can't be put."""
    try:
        builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA1())  # noqa: S303
        return builder.build().public_bytes(Encoding.DER)
    except (ValueError, UnsupportedAlgorithm):
        return None


def read(octets: bytes, *, certificate: x509.Certificate, issuer: x509.Certificate, now: Ms) -> Told:
    """What an answer says of the certificate."""
    try:
        answer = ocsp.load_der_ocsp_response(octets)
        if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return Told(Standing.NONE, f"says {answer.response_status.name.lower().replace('_', ' ')}")
        if not any(_signed(answer, one) for one in _signers(answer, issuer, now)):
            return Told(Standing.NONE, "gives an answer that is not signed by the CA")
        for one in answer.responses:
            if one.serial_number == certificate.serial_number and _is_of(one, issuer):
                return _standing(one, now)
    except UNREADABLE:
        return Told(Standing.NONE, "gives no OCSP answer")
    return Told(Standing.NONE, "answers for another certificate")


def _standing(one: ocsp.OCSPSingleResponse, now: Ms) -> Told:
    if one.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        at = one.revocation_time_utc
        return Told(Standing.REVOKED, f"since {day(from_datetime(at))}" if at else "")
    if from_datetime(one.this_update_utc) > now + _LEEWAY:
        return Told(Standing.NONE, "gives an answer of the future")
    if one.next_update_utc is not None and from_datetime(one.next_update_utc) < now - _LEEWAY:
        return Told(
            Standing.NONE, f"gives an answer that was good until {day(from_datetime(one.next_update_utc))}"
        )
    if one.certificate_status is ocsp.OCSPCertStatus.UNKNOWN:
        return Told(Standing.NONE, "does not know the certificate")
    return Told(Standing.GOOD)


def _is_of(one: ocsp.OCSPSingleResponse, issuer: x509.Certificate) -> bool:
    digest = hashes.Hash(one.hash_algorithm)
    digest.update(issuer.subject.public_bytes())
    return digest.finalize() == one.issuer_name_hash


def _signers(answer: ocsp.OCSPResponse, issuer: x509.Certificate, now: Ms) -> Iterator[x509.Certificate]:
    """The CA itself, or whom it let sign answers (RFC 6960 §4.2.2.2)."""
    yield issuer
    for one in answer.certificates[:4]:
        usages = extension(one, x509.ExtendedKeyUsage)
        if (
            isinstance(usages, x509.ExtendedKeyUsage)
            and ExtendedKeyUsageOID.OCSP_SIGNING in usages
            and canonical(one.issuer) == canonical(issuer.subject)
            and from_datetime(one.not_valid_before_utc) <= now <= from_datetime(one.not_valid_after_utc)
            and issued_by(one, issuer)
        ):
            yield one


def _signed(answer: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    try:
        key, digest = signer.public_key(), answer.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return False
    oid = answer.signature_algorithm_oid
    return verifies(key, answer.signature, answer.tbs_response_bytes, oid, digest) is True
