"""Certificates for the lab: a root of its own, and leaves that are good or bad in one way.

Promises: PEM files that OpenSSL and Exchange Online would judge as the lab says; keys are P-256, made anew
each time, so nothing here is worth keeping.

Source: RFC 5280; the names are under `.invalid` (RFC 2606), which no resolver knows.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from resubmit.model.moment import DAY, HOUR, Ms, to_datetime


@dataclass(frozen=True, slots=True)
class Leaf:
    """A server's certificate with its chain, and its key, as PEM files."""

    name: str
    chain_file: Path
    key_file: Path

    def context(self) -> ssl.SSLContext:
        """A server's TLS context that shows this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain_file, self.key_file)
        return context


class Authority:
    """A root and an intermediate under it; leaves are signed by the intermediate.

    `root_file` is what a verifier is given; the root itself is never sent.
    """

    def __init__(self, folder: Path, now: Ms, *, name: str = "Lab") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.now = now
        self._root_key = ec.generate_private_key(ec.SECP256R1())
        self._root = _signed(f"{name} Root CA", self._root_key, None, now, now + 3650 * DAY, depth=1)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._issuer = _signed(
            f"{name} Issuing CA", self._key, (self._root, self._root_key), now, now + 1825 * DAY, depth=0
        )
        self.root_file = folder / f"{name.lower()}-root.pem"
        self.root_file.write_bytes(self._root.public_bytes(Encoding.PEM))

    def good(self, name: str, *, lasts: Ms = 90 * DAY) -> Leaf:
        """Valid since an hour ago, for `lasts` from now."""
        return self.leaf(f"{name}-good", name, self.now - HOUR, self.now + lasts)

    def expired(self, name: str, *, since: Ms = HOUR) -> Leaf:
        """Its last day was 90 days after its first, and `since` ago."""
        return self.leaf(f"{name}-expired", name, self.now - since - 90 * DAY, self.now - since)

    def wrong_name(self, name: str, other: str) -> Leaf:
        """Valid, but for another name."""
        return self.leaf(f"{name}-wrong-name", other, self.now - HOUR, self.now + 90 * DAY)

    def self_signed(self, name: str) -> Leaf:
        """Valid and for the name, but vouched for by nobody else."""
        key = _server_key()
        leaf = _signed(name, key, None, self.now - HOUR, self.now + 90 * DAY, names=(name,))
        return self._written(f"{name}-self-signed", [leaf], key)

    def leaf(self, file: str, name: str, not_before: Ms, not_after: Ms, *, intermediate: bool = True) -> Leaf:
        """A leaf for one name and span; `intermediate` False leaves the issuing certificate out."""
        key = _server_key()
        leaf = _signed(name, key, (self._issuer, self._key), not_before, not_after, names=(name,))
        return self._written(file, [leaf, self._issuer] if intermediate else [leaf], key)

    def _written(self, file: str, chain: list[x509.Certificate], key: rsa.RSAPrivateKey) -> Leaf:
        safe = file.replace("*", "_")
        chain_file, key_file = self.folder / f"{safe}.pem", self.folder / f"{safe}.key"
        chain_file.write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in chain))
        key_file.touch(mode=0o600)
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Leaf(file, chain_file, key_file)


def _server_key() -> rsa.RSAPrivateKey:
    """RSA, as Exchange has it and as the ciphers that Exchange Online documents ask for."""
    return rsa.generate_private_key(65537, 2048)


def thumbprint(der: bytes) -> str:
    """SHA-1 in hex, capitals: how Microsoft names a certificate."""
    digest = x509.load_der_x509_certificate(der).fingerprint(hashes.SHA1())  # noqa: S303
    return digest.hex().upper()


def subject_of(der: bytes) -> str:
    """The subject as one line, `CN=mail.contoso.invalid`."""
    return x509.load_der_x509_certificate(der).subject.rfc4514_string()


def _signed(
    name: str,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
    not_before: Ms,
    not_after: Ms,
    *,
    names: tuple[str, ...] = (),
    depth: int | None = None,
) -> x509.Certificate:
    """A certificate: an authority's when `depth` is given, else a server's for `names`."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by, by_key = (issuer[0].subject, issuer[1]) if issuer else (subject, key)
    authority = depth is not None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(to_datetime(not_before) - (timedelta(days=1) if authority else timedelta()))
        .not_valid_after(to_datetime(not_after))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=depth), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(by_key.public_key()), critical=False
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=authority,
                crl_sign=authority,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if not authority:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False
        ).add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(by_key, hashes.SHA256())
