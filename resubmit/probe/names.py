"""Whether a certificate is for a name: two different rules, told apart.

A certificate's wildcard stands for exactly one left-most label (RFC 6125 §6.4.3, RFC 9525 §6.3). A
connector's TlsDomain `*.contoso.com` is a suffix: any name on the certificate below contoso.com does
(Set-OutboundConnector -TlsDomain). A common name counts only where there is no SAN (it still does for
Exchange: "common name or subject alternative name").
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from cryptography import x509
from cryptography.x509.oid import NameOID


class Match(Enum):
    """How a name was met."""

    YES = "yes"
    NO = "no"
    TOO_BROAD = "too_broad"
    """Only by a wildcard with a single label after it, such as `*.test`, which verifiers refuse."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names a certificate is for: lower case, ASCII. `is_common`: they come from the CN, for want of
    a SAN extension."""

    dns: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    is_common: bool = False

    def all(self) -> tuple[str, ...]:
        return self.dns + self.addresses


def names_of(certificate: x509.Certificate) -> Names:
    """The names of a certificate; none when its extensions can't be read."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Names(tuple(_plain(name) for name in common_names(certificate)), is_common=True)
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return Names(())
    return Names(
        tuple(_plain(name) for name in found.get_values_for_type(x509.DNSName)),
        tuple(str(address) for address in found.get_values_for_type(x509.IPAddress)),
    )


def common_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        return tuple(str(a.value) for a in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
    except ValueError:
        return ()


def match_host(host: str, names: Names) -> Match:
    """Whether the certificate is for a host name or an address."""
    address = _address(host)
    if address is not None:
        given = names.addresses if not names.is_common else names.dns
        return Match.YES if address in {_address(one) for one in given} else Match.NO
    wanted = _plain(host)
    if not wanted:
        return Match.NO
    verdicts = {_match_one(wanted, one) for one in names.dns}
    return next((m for m in (Match.YES, Match.TOO_BROAD) if m in verdicts), Match.NO)


def match_tls_domain(tls_domain: str, names: Names) -> Match:
    """Whether the certificate is what a connector's TlsDomain asks for."""
    wanted = _plain(tls_domain)
    if not wanted.startswith("*."):
        return match_host(wanted, names)
    suffix = wanted[1:]
    return (
        Match.YES if any(len(one) > len(suffix) and one.endswith(suffix) for one in names.dns) else Match.NO
    )


def _match_one(host: str, name: str) -> Match:
    if not name.startswith("*."):
        return Match.YES if host == name else Match.NO
    label, dot, rest = host.partition(".")
    if not dot or not label or "*" in rest or rest != name[2:]:
        return Match.NO
    return Match.YES if "." in rest else Match.TOO_BROAD


def _plain(name: str) -> str:
    name = name.strip().rstrip(".").lower()
    if name.isascii():
        return name
    prefix, rest = ("*.", name[2:]) if name.startswith("*.") else ("", name)
    try:
        return prefix + rest.encode("idna").decode("ascii")
    except UnicodeError:
        return name


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text.strip("[]").partition("%")[0]))
    except ValueError:
        return None


def shown(names: Iterable[str], ceiling: int = 4) -> str:
    """Names for a sentence: a few, then how many more."""
    given = list(names)
    if not given:
        return "no name at all"
    more = f" and {len(given) - ceiling} more" if len(given) > ceiling else ""
    return ", ".join(given[:ceiling]) + more
