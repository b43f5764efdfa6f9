"""One thing wrong with a certificate, a chain or what tells of its revocation, before it is a finding."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from resubmit.model.moment import Ms, to_datetime
from resubmit.model.tls import Severity
from resubmit.probe.seen import clean


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing wrong. left: how long it still is valid, where that is what is wrong. severity: how grave
    it is where certificates are judged; None leaves that to the code."""

    code: str
    where: str
    text: str
    left: Ms | None = None
    severity: Severity | None = None


def name_text(name: x509.Name) -> str:
    """A subject or issuer for a sentence."""
    return clean(name.rfc4514_string(), 200) or "(no subject)"


def day(at: Ms) -> str:
    """A moment for a sentence."""
    return to_datetime(at).strftime("%Y-%m-%d %H:%M UTC")
