"""The issuer's certificate, where a certificate says it can be had. Pure: addresses and octets.

It is fetched only to tell a missing intermediate from a private CA, never to judge the chain.

Source: RFC 5280 §4.2.2.1 (caIssuers: DER, or a PKCS #7 bundle of certificates).
"""

from __future__ import annotations

import warnings

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import AuthorityInformationAccessOID

from resubmit.probe.path import UNREADABLE, http_access
from resubmit.probe.roots import parsed

CEILING = 64 * 1024
ROUNDS = 3
"""Certificates fetched on the way up, one after the other."""
URLS = 2
_BUNDLE = 8


def urls(certificate: x509.Certificate) -> tuple[str, ...]:
    """Where the issuer's certificate can be had by HTTP, the first few."""
    return http_access(certificate, AuthorityInformationAccessOID.CA_ISSUERS)[:URLS]


def read(octets: bytes) -> list[x509.Certificate]:
    """The certificates in what was fetched: DER, PEM or a bundle; none where it is something else."""
    for reader in (x509.load_der_x509_certificate, x509.load_pem_x509_certificate):
        try:
            return [parsed(reader, octets)]
        except UNREADABLE:
            continue
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bundle = pkcs7.load_der_pkcs7_certificates(octets)[:_BUNDLE]
            return [parsed(x509.load_der_x509_certificate, one.public_bytes(Encoding.DER)) for one in bundle]
    except (*UNREADABLE, UnsupportedAlgorithm):
        return []
