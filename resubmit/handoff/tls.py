"""What a route's TLS level asks for, and what was wrong when it could not be had.

Levels: `none`; `opportunistic`: any TLS, unverified, rather than none; `required`: TLS 1.2 or better,
unverified; `verified`: also a chain to the public roots or `ca_file`, valid dates, and a certificate for
`tls_name` or the host (SAN only, a wildcard for its left-most label only; RFC 6125 §6.4, RFC 9525).

Source: RFC 3207, RFC 8314 §3; Python's ssl for the checks.
Limits: no revocation and no DANE here; the probe looks at revocation.
"""

from __future__ import annotations

import ssl
from ipaddress import ip_address

from resubmit.handoff.settings import Route

_CERTIFICATE = {
    # X509_V_ERR_… of OpenSSL's x509_vfy.h
    9: "the certificate, or one above it, is not valid yet",
    10: "the certificate, or one above it, has expired",
    18: "the certificate is self-signed",
    19: "the chain ends in a root that is not trusted here",
    20: "the certificate's issuer is not trusted here, or an intermediate certificate is missing",
    21: "the certificate's issuer is not trusted here, or an intermediate certificate is missing",
    23: "the certificate is revoked",
    24: "a certificate in the chain may not sign others",
    26: "the certificate is not meant for servers",
    62: "the certificate is not for this name",
    64: "the certificate is not for this address",
    66: "a key in the chain is too weak",
    67: "a signature in the chain is too weak",
    68: "a signature in the chain is too weak",
}
_HANDSHAKE = {
    "WRONG_VERSION_NUMBER": "what came was not TLS",
    "UNSUPPORTED_PROTOCOL": "the server's TLS version is too old",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the server refuses our TLS versions",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "no cipher in common, or a client certificate is wanted",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server wants a client certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the server does not take our client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the server does not trust our client certificate",
    "UNEXPECTED_EOF_WHILE_READING": "the connection was closed in the handshake",
    "DH_KEY_TOO_SMALL": "the server's key exchange is too weak",
}


def is_needed(route: Route) -> bool:
    """Whether mail over this route never goes in clear."""
    return route.tls in ("required", "verified")


def server_name(route: Route) -> str:
    """The name asked for in the handshake (SNI), and checked at level verified."""
    name = route.tls_name if route.tls_name and not route.tls_name.startswith("*.") else route.host
    return name.rstrip(".").removeprefix("[").removesuffix("]")


def own_name(route: Route) -> str:
    """The wildcard to be checked by ourselves, "" where OpenSSL checks the name.

    `tls_name = "*.contoso.com"`: the certificate must be for that wildcard or for a name right below it.
    """
    return route.tls_name.rstrip(".") if route.tls == "verified" and route.tls_name.startswith("*.") else ""


def context_of(route: Route) -> ssl.SSLContext:
    """The client's TLS context for a route that wants TLS. OSError (SSLError too) when a file is unusable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    if route.tls == "verified":
        context.check_hostname = not own_name(route)
        if route.ca_file is not None:
            context.load_verify_locations(cafile=route.ca_file)
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if route.tls == "opportunistic":
        # An old server's TLS 1.0 is still better than clear text (RFC 7435 §3).
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    else:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    if route.client_certificate is not None:
        context.load_cert_chain(route.client_certificate)
    return context


def is_for(wildcard: str, names: list[str]) -> bool:
    """Whether a certificate's DNS names fit `*.domain`: that wildcard itself, or a name one label below."""
    domain = wildcard.removeprefix("*.").lower()
    return any(name.lower().rstrip(".").partition(".")[2] == domain for name in names)


def explained(error: BaseException, name: str) -> str:
    """A TLS failure as a sentence a person can act on, with OpenSSL's own words behind it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        said = _CERTIFICATE.get(error.verify_code, "the certificate can't be verified")
        return f"TLS with {name}: {said} ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or ""  # not set on errors Python itself raises
        said = _HANDSHAKE.get(reason, "the handshake failed")
        own = (reason or str(error)).replace("_", " ").lower()
        return f"TLS with {name}: {said} ({own})"
    return f"TLS with {name}: {error}"


def is_address(host: str) -> bool:
    """Whether a host is an IP address and no name."""
    try:
        ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
