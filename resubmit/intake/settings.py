"""The config tables of the ways in."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from resubmit.settings import Octets, Table, Wait

_LOOPBACK: list[IPv4Network | IPv6Network] = [IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")]


def _address(value: str) -> str:
    local, at, domain = value.strip().rpartition("@")
    if not (local and at and domain) or any(c.isspace() or c in "<>," for c in value.strip()):
        raise ValueError("an address, like bounces@relay.contoso.com")
    return value.strip()


class Reports(Table):
    """`[intake.reports]`: mail that is read and not handed on. Off when left out."""

    addresses: list[Annotated[str, AfterValidator(_address)]] = Field(min_length=1)
    """Where bounces, delivery reports, TLS reports and journal reports are sent to. Mail to such an address
    is kept on disk, read as evidence, and never handed on, whatever domain it is in."""


class SmtpIntake(Table):
    """`[intake.smtp]`: the SMTP listener."""

    listen: list[str] = Field(default=["127.0.0.1:2525"])
    """Addresses to listen on; [] switches it off."""
    allow: list[IPv4Network | IPv6Network] = _LOOPBACK
    """Networks that may relay. Everybody else gets 554 5.7.1."""
    max_message_size: Octets = 35 * 1024 * 1024
    """The largest message taken; announced as SIZE."""
    hostname: str = ""
    """The name in the greeting and in Received fields; empty: this machine's."""
    tls_certificate: Path | None = None
    """A PEM chain; with tls_key, STARTTLS is offered."""
    tls_key: Path | None = None
    """The PEM key of tls_certificate."""
    max_connections: int = Field(default=200, ge=1, strict=True)
    """Connections at once; more get 421 4.3.2."""
    max_recipients: int = Field(default=1000, ge=100, strict=True)
    """Recipients a message (RFC 5321 §4.5.3.1.8 asks for at least 100); more get 452 4.5.3."""
    timeout: Wait = 5 * 60 * 1000
    """How long a client may be silent (RFC 5321 §4.5.3.2.7: 5 minutes)."""
    bare_newline: Literal["reject", "crlf"] = "reject"
    """A CR or LF that stands alone: refuse the message with 550 5.6.0, or make it CRLF before journaling."""
