"""The config tables of evidence: where the world's statements are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from resubmit.settings import Span, Table, Wait


class Folder(Table):
    """`[[evidence.folder]]`: a folder that is watched; its files stay where they are."""

    path: Path
    """The folder; relative to the config file."""
    timezone: str = "UTC"
    """Of stamps that carry no zone: a name like Europe/Berlin."""
    poll: Wait | None = None
    """Look this often instead of being told by the system: for network shares."""
    still: Span = 1_000
    """A file is read once its size and time have not changed for so long."""


class Log(Table):
    """`[[evidence.log]]`: a log that is followed."""

    kind: Literal["postfix_log", "exchange_tracking_log", "exchange_smtp_log", "iis_log"]
    """What wrote it."""
    path: Path
    """The file, or the folder for logs that come as many files."""
    position: Literal["before", "beside", "behind"] = "beside"
    """Where on the mail's way the program that wrote it stands: before, beside or behind us."""
    timezone: str = "UTC"
    """Of stamps that carry no zone."""
    flush: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    """A program with arguments that makes it try again what it holds, such as `postqueue -f`; run, without
    a shell, when a destination's gate opens."""


class Graph(Table):
    """`[evidence.graph]`: Exchange Online's message trace."""

    tenant: str = Field(min_length=1)
    """The tenant's id or domain."""
    client_id: str = Field(min_length=1)
    """The registered application."""
    client_secret_file: Path | None = None
    """A file whose first line is the application's secret (its value, not its id)."""
    certificate_file: Path | None = None
    """A PEM file with the application's certificate and its RSA key, instead of a secret."""
    endpoint: str = "https://graph.microsoft.com/v1.0"
    """The Graph endpoint. The national clouds have no message trace there."""
    login: str = "https://login.microsoftonline.com"
    """Where the token comes from."""
    ca_file: Path | None = None
    """PEM roots for both, instead of the public ones: where a proxy inspects TLS."""
    poll: Wait = 120_000
    """So often what came in is asked for while anything is open."""
    budget: int = Field(default=90, ge=10, le=100)
    """Requests in 5 minutes at most; the tenant's limit for all its tools together is 100."""
    from_ip: str = ""
    """Only mail that Exchange Online got from this address: for tenants with much other mail."""
