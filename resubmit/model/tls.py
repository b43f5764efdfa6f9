"""What a probe saw, what it is called, and what follows.

`Seen` holds observations without opinion; `Finding` names one of them with a code of docs/findings.md;
`Verdict` is the whole look. What was seen is kept apart from what it is called.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from resubmit.model.moment import Ms

UNCERTIFIED = "none"
"""The level at which no certificate is seen."""


class Health(StrEnum):
    """A verdict's three values. Unknown is a fault of our own: resolver, clock, way to a CRL."""

    HEALTHY = "healthy"
    FAULTY = "faulty"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    FAULT = "fault"
    WARNING = "warning"
    INFO = "info"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate as the server sent it. Times in ms UTC; `sha256` is the fingerprint in hex."""

    subject: str
    issuer: str
    sans: tuple[str, ...]
    not_before: Ms
    not_after: Ms
    sha256: str
    der: bytes = b""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing seen, with its code; `where` names the certificate, the name or the step."""

    code: str
    severity: Severity
    where: str
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a probe looks at, and how strictly.

    level: `encrypt`, `certificate` or `domain`, as an Outbound Connector's TlsSettings; or, as a route that
    forces no TLS, `none` (the dialogue in clear) or `opportunistic` (with TLS where it can be had; what is
    wrong with it only warns). `tls_domain`: the connector's TlsDomain, "" for none. `ca_file`: a PEM file
    of roots instead of the public ones. `recipient`: whom the dry run names in RCPT, "" to stop before it.
    `domains`: mail domains that end there, whose published policies (MTA-STS) are read if it is their MX.
    `revocation`: whether lists and responders are asked, as a connector does that validates; our own routes
    ask none, so that a relay without a way to them still hands on.
    """

    host: str
    port: int = 25
    level: str = "domain"
    tls_domain: str = ""
    ca_file: str = ""
    recipient: str = ""
    domains: tuple[str, ...] = ()
    revocation: bool = True


@dataclass(frozen=True, slots=True)
class AddressVerdict:
    """The look at one address of the name."""

    address: str
    health: Health
    findings: tuple[Finding, ...]
    tls_version: str = ""
    tls_cipher: str = ""
    certificates: tuple[Certificate, ...] = ()
    banner: str = ""
    ehlo: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One look at an endpoint. `findings` that belong to no single address stand at the top.

    reached: at least one address was spoken to (else `probe` exits 7). roots: name and date of the list that
    certificates were verified against.
    """

    target: str
    health: Health
    checked_at: Ms
    level: str
    addresses: tuple[AddressVerdict, ...]
    findings: tuple[Finding, ...] = ()
    reached: bool = True
    roots: str = ""

    def codes(self) -> tuple[str, ...]:
        """The codes of every finding that is not `info`, each once, in the order they would be mended."""
        seen: dict[str, None] = {}
        for finding in (*self.findings, *(f for a in self.addresses for f in a.findings)):
            if finding.severity is not Severity.INFO:
                seen.setdefault(finding.code)
        return tuple(seen)
