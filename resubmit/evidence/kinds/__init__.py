"""The sources of evidence that are files: one line a kind, asked in this order; each is imported on use."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from resubmit.evidence.base import Kind

KINDS = (
    "trace_csv",  # message traces of Exchange Online as CSV
    "trace_graph",  # message traces of Exchange Online as JSON: Graph, PowerShell
    "tls_report",  # TLS reports (RFC 8460): JSON, or the mail that carries it
    "journal_report",  # Exchange's journal reports: who a mail really goes to
    "dsn",  # bounces and delivery reports: mails, mailboxes, or their text
    "postfix_log",  # Postfix: syslog, its own file, journald
    "exchange_tracking_log",  # Exchange Server's message tracking logs
    "exchange_smtp_log",  # Exchange Server's SMTP protocol logs
    "iis_log",  # the SMTP service of IIS: W3C, NCSA or IIS file
    "smtp_reply",  # SMTP replies, a line each
)


def kind(name: str) -> Kind:
    """The module of a kind."""
    return cast(Kind, import_module(f"resubmit.evidence.kinds.{name}"))
