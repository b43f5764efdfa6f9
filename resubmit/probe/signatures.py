"""Whether a key signed a certificate, a revocation list or an OCSP answer; names as RFC 5280 compares them.

Pure. cryptography's own check refuses old digests without looking; a chain signed with SHA-1 is to be told as
that and not as one whose issuer is unknown, so the octets are checked here with the digest they name.

Source: RFC 5280 §4.1.1.3, §7.1 (names: case and runs of spaces do not count), RFC 6960 §4.2.1.
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import SignatureAlgorithmOID

Canonical = tuple[frozenset[tuple[str, str]], ...]

_OLD = {
    "1.2.840.113549.1.1.2": "MD2",
    "1.2.840.113549.1.1.3": "MD4",
    "1.2.840.113549.1.1.4": "MD5",
    "1.2.840.113549.1.1.5": "SHA-1",
    "1.3.14.3.2.29": "SHA-1",
    "1.2.840.10040.4.3": "SHA-1",
    "1.2.840.10045.4.1": "SHA-1",
}
"""Signature algorithms that rest on a digest nobody takes any more."""
_DIGESTS: dict[str, hashes.HashAlgorithm] = {"SHA-1": hashes.SHA1(), "MD5": hashes.MD5()}  # noqa: S303


def canonical(name: x509.Name) -> Canonical:
    """A name in the form in which two are the same (RFC 5280 §7.1)."""
    return tuple(
        frozenset((part.oid.dotted_string, " ".join(str(part.value).split()).casefold()) for part in rdn)
        for rdn in name.rdns
    )


def old_digest(oid: x509.ObjectIdentifier, digest: hashes.HashAlgorithm | None = None) -> str | None:
    """`SHA-1`, `MD5` … for a signature that rests on one; None for those still taken."""
    if digest is not None and digest.name in ("sha1", "md5"):  # RSA-PSS names its digest beside
        return {"sha1": "SHA-1", "md5": "MD5"}[digest.name]
    return _OLD.get(oid.dotted_string)


def is_known(oid: x509.ObjectIdentifier, digest: Any) -> bool:
    """Whether a signature of that algorithm can be checked here at all."""
    without = (SignatureAlgorithmOID.ED25519, SignatureAlgorithmOID.ED448)
    return digest is not None or oid in without or oid.dotted_string in _OLD


def verifies(
    key: Any, signature: bytes, octets: bytes, oid: x509.ObjectIdentifier, digest: Any, how: Any = None
) -> bool | None:
    """Whether the key made the signature over the octets; None where that can't be checked here.

    digest: what the signature says it rests on, None where unknown. how: the RSA padding, PKCS #1 v1.5
    where none is given.
    """
    digest = digest or _DIGESTS.get(_OLD.get(oid.dotted_string, ""))
    try:
        if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, octets)
        elif digest is None:
            return None
        elif isinstance(key, rsa.RSAPublicKey):
            is_padding = isinstance(how, padding.PSS | padding.PKCS1v15)
            key.verify(signature, octets, how if is_padding else padding.PKCS1v15(), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, octets, ec.ECDSA(digest))
        elif isinstance(key, dsa.DSAPublicKey):
            key.verify(signature, octets, digest)
        else:
            return None
        return True
    except InvalidSignature:
        return False
    except (UnsupportedAlgorithm, ValueError, TypeError):
        return None


def digest_of(signed: Any) -> Any:
    """The digest a certificate or a list was signed with; None where cryptography does not know it."""
    try:
        return signed.signature_hash_algorithm
    except (UnsupportedAlgorithm, ValueError):
        return None


def padding_of(signed: Any) -> Any:
    """The RSA padding a certificate or a list was signed with, where it says one."""
    try:
        return signed.signature_algorithm_parameters
    except (UnsupportedAlgorithm, ValueError):
        return None
