"""What one source says of one recipient of one message, and what its words mean.

Source: design, sections 2 and 6.1 (`explain`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from resubmit.model.moment import Ms


class Status(StrEnum):
    """What evidence says has become of a recipient."""

    DELIVERED = "delivered"
    PENDING = "pending"
    DEFERRED = "deferred"
    FAILED = "failed"
    EXPIRED = "expired"
    EXPANDED = "expanded"
    FILTERED = "filtered"
    RELAYED = "relayed"
    NONE = "none"
    """the mail was seen, nothing is said of its fate"""


class Source(StrEnum):
    """The kinds of evidence."""

    SMTP = "smtp"
    DSN = "dsn"
    TRACE_CSV = "trace_csv"
    TRACE_GRAPH = "trace_graph"
    POSTFIX_LOG = "postfix_log"
    EXCHANGE_TRACKING_LOG = "exchange_tracking_log"
    EXCHANGE_SMTP_LOG = "exchange_smtp_log"
    IIS_LOG = "iis_log"
    TLS_REPORT = "tls_report"
    JOURNAL_REPORT = "journal_report"


class Cause(StrEnum):
    """The class of a failure."""

    TLS = "tls"
    CONNECTION = "connection"
    BLOCKLIST = "blocklist"
    THROTTLE = "throttle"
    SIZE = "size"
    POLICY = "policy"
    RECIPIENT = "recipient"
    MAILBOX = "mailbox"
    EXPIRED = "expired"
    CONTENT = "content"
    OTHER = "other"


class Scope(StrEnum):
    """Whom a failure concerns."""

    RECIPIENT = "recipient"
    MESSAGE = "message"
    ROUTE = "route"
    DESTINATION = "destination"


class Mend(StrEnum):
    """What ends a failure."""

    GATE = "gate"
    """the fault of a destination or route goes away"""
    TIME = "time"
    """waiting"""
    PERSON = "person"
    """somebody has to do something about this mail or mailbox"""
    NEVER = "never"


class Holder(StrEnum):
    """Who has the mail now."""

    US = "us"
    RELAY = "relay"
    """the MTA beside us, which retries by itself"""
    FAR = "far"
    """Exchange Online or whoever took it"""
    NOBODY = "nobody"
    """given up"""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reply or code means: cause, whom it concerns, what ends it, and what to do.

    `sign` names what is known of it (meaning/causes/), "" when none did (then cause is `other`).
    """

    cause: Cause
    scope: Scope
    mend: Mend
    advice: str = ""
    sign: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One statement about one recipient of one message from one source.

    observed_at: the event's own time, where it has one. received_at: when the far side says it took the
    mail (what tells attempts apart). `recipient` as the source writes it; `original_recipient` before a
    rewriting; `group` the address whose expansion made it a recipient; `domain` whose servers it is about,
    where it is about no recipient. `envelope_id` may hold our own
    `<journal id>.<n>`. `place` is the line or part in `file`; `raw` the bytes it was read from, as text.
    """

    source: Source
    status: Status
    recipient: str = ""
    original_recipient: str = ""
    group: str = ""
    observed_at: Ms | None = None
    received_at: Ms | None = None
    message_id: str = ""
    network_message_id: str = ""
    envelope_id: str = ""
    queue_id: str = ""
    sender: str = ""
    subject: str = ""
    size: int | None = None
    code: int | None = None
    enhanced_code: str = ""
    text: str = ""
    remote: str = ""
    holder: Holder | None = None
    meaning: Meaning | None = None
    domain: str = ""
    file: str = ""
    place: str = ""
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An item a source could not read: set aside with its reason, never dropped."""

    file: str
    place: str
    reason: str
    raw: str = ""
