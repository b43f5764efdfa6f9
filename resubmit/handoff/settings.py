"""The config tables of routes and destinations."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from resubmit.settings import Rate, Span, Table, Wait

_MINUTE = 60 * 1000


class Route(Table):
    """`[[route]]`: how mail leaves."""

    name: str = Field(min_length=1, strict=True)
    """What destinations and reports call it."""
    host: str = Field(min_length=1, strict=True)
    """The smart host: a name or an address."""
    port: int = Field(default=25, ge=1, le=65535, strict=True)
    """Its port."""
    tls: Literal["none", "opportunistic", "required", "verified"] = "verified"
    """The least TLS that will do; mail never leaves with less."""
    final: bool = Field(default=False, strict=True)
    """Whether a 250 on this route is a delivery."""
    tls_name: str = ""
    """The name the certificate must be for; empty: the host."""
    ca_file: Path | None = None
    """PEM roots to verify against; none: the public ones."""
    client_certificate: Path | None = None
    """A PEM chain with its key that is shown to the next hop (an inbound connector by certificate)."""
    username: str = ""
    """For AUTH; only over TLS."""
    password_file: Path | None = None
    """A file with the password in its first line."""
    source_address: str = ""
    """The local address to connect from."""
    ehlo_name: str = ""
    """The name in EHLO; empty: this machine's."""
    max_connections: int = Field(default=10, ge=1, strict=True)
    """Connections at once."""
    messages_per_connection: int = Field(default=100, ge=1, strict=True)
    """Messages before a connection is closed and made anew."""
    rate: Rate = 0.0
    """Messages over this route, unlimited for no limit."""
    connect_timeout: Wait = 30_000
    """To connect to one address."""
    timeout: Wait = 5 * _MINUTE
    """For a reply to a command (RFC 5321 §4.5.3.2: 5 minutes)."""
    data_timeout: Wait = 10 * _MINUTE
    """For the reply to the final dot (RFC 5321 §4.5.3.2.6: 10 minutes)."""


class Destination(Table):
    """`[[destination]]`: where mail ends."""

    name: str = Field(min_length=1, strict=True)
    """What commands and reports call it."""
    domains: list[str] = Field(min_length=1)
    """Recipient domains: `contoso.com`, `*.contoso.com` for those below it, `*` for the rest."""
    handoff: str
    """The route of the first attempt."""
    resubmit: str = ""
    """The route of a resubmission; empty: that of the handoff."""
    exchange: bool = Field(default=True, strict=True)
    """Whether the far side drops a second copy by Message-ID and date, as Exchange mailboxes do."""
    expires_after: Wait = 24 * 60 * _MINUTE
    """How long the far side keeps trying before it bounces."""
    far_retry: Span = 60 * _MINUTE
    """How long the far side may take to try again by itself."""
    probe: str = ""
    """HOST:PORT whose TLS decides; empty: the resubmission route's host."""
    probe_level: Literal["encrypt", "certificate", "domain"] = "domain"
    """How strictly, as the Outbound Connector's TlsSettings; without this and `probe`: as the route's tls."""
    probe_name: str = ""
    """The connector's TlsDomain; empty: the host's own name."""
    probe_recipient: str = ""
    """Whom the dry run names in RCPT; empty: it stops before."""
    ca_file: Path | None = None
    """PEM roots the probe verifies against; none: the public ones."""
    duplicates: Literal["accept", "avoid"] | None = None
    """Resubmit after settle, or only when the far side's own retry is over; none: accept for Exchange."""
    recipients_file: Path | None = None
    """Known recipients, one a line; others get 550 5.1.1 at RCPT."""
    rate: Rate | None = None
    """Resubmissions to it; none: that of [recovery]."""
