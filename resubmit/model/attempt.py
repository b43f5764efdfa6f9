"""One offering of a message to a next hop: how far it came, and what each recipient got.

Attempts are numbered per recipient from 1; the number orders them, never the time. Recipients of one
message with the same route and the same number share an SMTP transaction (an *offer*).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from resubmit.model.reply import Reply


class Kind(StrEnum):
    """Why an attempt is made."""

    HANDOFF = "handoff"
    """the first"""
    RETRY = "retry"
    """ours again, after a 4xx or an unreachable next hop"""
    RESUBMISSION = "resubmission"
    """made due by recovery or a person"""


def kind_of(last: int, job: int | None) -> Kind:
    """What the next attempt is, after `last` attempts (0: none yet), for a job or by itself."""
    if job is not None and last > 0:
        return Kind.RESUBMISSION
    return Kind.RETRY if last else Kind.HANDOFF


class Stage(StrEnum):
    """The SMTP step at which an offer stopped. Everything before DOT is surely not taken."""

    LOOKUP = "lookup"
    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "body"
    DOT = "dot"


class Result(StrEnum):
    """What one recipient got from an offer, before anyone says what it means."""

    ACCEPTED = "accepted"
    """a 2xx after the final dot"""
    DEFERRED = "deferred"
    """a 4xx, or never got through: surely not taken"""
    REFUSED = "refused"
    """a 5xx"""
    LOST = "lost"
    """the final dot was written and no reply came: perhaps taken (RFC 1047)"""


@dataclass(frozen=True, slots=True)
class Offered:
    """One recipient's result. `reply` is the next hop's; where there was none, `text` says what happened."""

    n: int
    result: Result
    stage: Stage
    reply: Reply | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Handed:
    """The result of one offer for each of its recipients, and what the next hop said of itself.

    `dot_at`: when the final dot was written, None when it was not. `next_key`: the next hop's own id for
    the mail. `unreachable`: no address of the route could be spoken to. `tls_below`: the configured TLS
    level could not be had. `tls`: version and cipher, "" in clear.
    """

    results: tuple[Offered, ...]
    dot_at: int | None = None
    next_key: str | None = None
    remote: str = ""
    tls: str = ""
    unreachable: bool = False
    tls_below: bool = False
    lacks_dsn: bool = False
