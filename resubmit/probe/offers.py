"""What a TLS handshake offers, and which second one tells why the first did not stand. Pure.

The first offer is what Exchange Online is documented to have, first, and behind it what other good clients
have; so a server that takes any of it is spoken to. A second connection is made only where the first leaves
a question: after a failure with everything OpenSSL has (what does the server have at all?), after a success
beyond the documented suites with these alone (would Exchange Online have come through?).

Source: Microsoft, technical reference details about encryption (TLS 1.2: eight suites, all with RSA).
Limits: whether Exchange Online has more than it documents can't be known from here, so that only warns.
What OpenSSL itself no longer has (RC4, 3DES, SSL 3) can't be offered and looks like no cipher in common.
"""

from __future__ import annotations

import functools
import re
import ssl
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa

from resubmit.probe.roots import parsed
from resubmit.probe.seen import Handshake, How, Step, Stop

DOCUMENTED = (
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-SHA384",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-AES128-SHA",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
)
"""Exchange Online's suites for TLS 1.2, in OpenSSL's names."""

_GOOD = "ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:DHE+AESGCM:DHE+CHACHA20:DHE+AES:!aNULL:!eNULL:!aDSS:!aPSK:!AESCCM"
_TLS_RECORDS = (0x14, 0x15, 0x16, 0x17)
"""The content types a TLS record can begin with (RFC 8446 §5.1)."""
_STRONG = re.compile(r"GCM|CCM|POLY1305")
_NAMELESS = re.compile(r"^A(EC)?DH|NULL|^DHE-DSS")


class Offer(StrEnum):
    """What a client offers. Its value is the cipher list in OpenSSL's words."""

    USUAL = f"{':'.join(DOCUMENTED)}:{_GOOD}:@SECLEVEL=2"
    DOCUMENTED = f"{':'.join(DOCUMENTED)}:@SECLEVEL=2"
    """TLS 1.2 with these suites and no other."""
    ANYTHING = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"
    """Every version and cipher OpenSSL has."""


@functools.cache
def names(offer: Offer) -> frozenset[str]:
    """The ciphers of an offer, one by one, in OpenSSL's names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers(offer)
    return frozenset(str(one["name"]) for one in context.get_ciphers())


def after_failure(handshake: Handshake | None, stop: Stop | None) -> Offer | None:
    """The second offer after a handshake that did not stand, None where the first says enough."""
    if handshake is None or handshake.done or stop is None or stop.step is not Step.HANDSHAKE:
        return None
    is_told = handshake.verify_code is not None or handshake.certificate_requested
    if is_told or is_plain_text(handshake) or stop.how not in (How.TLS, How.CLOSED):
        return None
    return Offer.ANYTHING


def after_success(handshake: Handshake) -> Offer | None:
    """The second offer after a handshake that stands, None where Exchange Online would have come through."""
    is_new = handshake.protocol == "TLSv1.3"
    if handshake.chain and not has_rsa_key(handshake.chain[0]):
        return Offer.DOCUMENTED
    return None if is_new or handshake.cipher in DOCUMENTED else Offer.DOCUMENTED


def is_plain_text(handshake: Handshake) -> bool:
    """Whether something else than TLS came after our hello."""
    return bool(handshake.opening) and handshake.opening[0] not in _TLS_RECORDS


def is_weak(cipher: str) -> bool:
    """Whether no good client offers it: no certificate, no encryption, or no AEAD (RFC 7525 §4.2)."""
    return not _STRONG.search(cipher) or bool(_NAMELESS.search(cipher))


def has_rsa_key(der: bytes) -> bool:
    """True as well for a certificate that can't be read: what is wrong with it is told elsewhere."""
    try:
        key = parsed(x509.load_der_x509_certificate, der).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return True
    return isinstance(key, rsa.RSAPublicKey)
