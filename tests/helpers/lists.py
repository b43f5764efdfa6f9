"""A CA's other face: a web server for its lists and certificates, a responder, and what they serve.

The web server is as bad as it is told to be; it shares nothing with the probe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID

from tests.helpers import certs
from tests.helpers.odd_tls import HANG, say

ENDLESS = b"\0endless"
DRIP = b"\0drip"

Page = bytes | Callable[[bytes], bytes]


@dataclass
class Web:
    """What stands at which path: whole HTTP answers, or HANG, ENDLESS, DRIP; a callable gets the body of a
    POST. Anything else is 404."""

    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    sent: int = 0
    """Octets that went out for ENDLESS."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1].decode()
        self.asked.append(path)
        page = self.pages.get(path, answer(b"not here", "404 Not Found"))
        if callable(page):
            length = next(
                int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line
            )
            page = page(await reader.readexactly(length))
        if page in (ENDLESS, DRIP):
            await say(writer, b"HTTP/1.1 200 OK\r\nContent-Type: application/pkix-crl\r\n\r\n")
            while not writer.is_closing():
                block = bytes(65536) if page == ENDLESS else b"0"
                writer.write(block)
                await writer.drain()
                self.sent += len(block)
                await asyncio.sleep(0 if page == ENDLESS else 0.05)
            return
        if page == HANG:
            await say(writer, HANG)
        await say(writer, page)


def answer(body: bytes, status: str = "200 OK", *fields: str) -> bytes:
    """An HTTP answer with its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


def redirect(to: str) -> bytes:
    return answer(b"", "302 Found", f"Location: {to}")


def at_list(*urls: str) -> list[tuple[x509.ExtensionType, bool]]:
    """The extension that names where lists are; one point with several addresses."""
    names = [x509.UniformResourceIdentifier(url) for url in urls]
    point = x509.DistributionPoint(full_name=names, relative_name=None, reasons=None, crl_issuer=None)
    return [(x509.CRLDistributionPoints([point]), False)]


def at_ca(*, responder: str = "", issuer: str = "") -> list[tuple[x509.ExtensionType, bool]]:
    """The extension that names a responder and where the issuer's certificate is."""
    kinds = [
        (AuthorityInformationAccessOID.OCSP, responder),
        (AuthorityInformationAccessOID.CA_ISSUERS, issuer),
    ]
    given = [x509.AccessDescription(k, x509.UniformResourceIdentifier(url)) for k, url in kinds if url]
    return [(x509.AuthorityInformationAccess(given), False)]


@dataclass(frozen=True)
class Entry:
    """One revoked certificate in a list."""

    of: certs.Made
    more: Sequence[x509.ExtensionType] = ()


def crl(
    issuer: certs.Made,
    *entries: Entry,
    begins: timedelta = -certs.DAY,
    ends: timedelta = certs.DAY,
    signer: certs.Made | None = None,
    more: Sequence[tuple[x509.ExtensionType, bool]] = (),
    at: datetime | None = None,
) -> bytes:
    """A revocation list, DER. signer: whose key signs it, the issuer's own unless told."""
    at = at or certs.now()
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(at + begins)
        .next_update(at + ends)
    )
    for entry in entries:
        revoked = (
            x509.RevokedCertificateBuilder()
            .serial_number(entry.of.certificate.serial_number)
            .revocation_date(at - timedelta(hours=3))
        )
        for extension in entry.more:
            revoked = revoked.add_extension(extension, isinstance(extension, x509.CertificateIssuer))
        builder = builder.add_revoked_certificate(revoked.build())
    for extension, critical in more:
        builder = builder.add_extension(extension, critical)
    return builder.sign((signer or issuer).key, hashes.SHA256()).public_bytes(Encoding.DER)


def ocsp_answer(
    of: certs.Made,
    issuer: certs.Made,
    *,
    revoked: bool = False,
    unknown: bool = False,
    signer: certs.Made | None = None,
    begins: timedelta = -timedelta(hours=1),
    ends: timedelta = certs.DAY,
) -> bytes:
    """A responder's answer, DER."""
    at = certs.now()
    status = ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD
    signer = signer or issuer
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=of.certificate,
        issuer=issuer.certificate,
        algorithm=hashes.SHA1(),
        cert_status=ocsp.OCSPCertStatus.UNKNOWN if unknown else status,
        this_update=at + begins,
        next_update=at + ends,
        revocation_time=at - timedelta(hours=2) if revoked else None,
        revocation_reason=None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
    if signer is not issuer:
        builder = builder.certificates([signer.certificate])
    return builder.sign(signer.key, hashes.SHA256()).public_bytes(Encoding.DER)
