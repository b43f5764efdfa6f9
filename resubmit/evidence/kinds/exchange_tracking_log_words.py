"""What a message tracking log is made of: its columns by version, what its events say, its lists.

Source: formats.md section 2; Microsoft's page on message tracking.
"""

from __future__ import annotations

import re

_OLDEST = [
    "date-time",
    "client-ip",
    "client-hostname",
    "server-ip",
    "server-hostname",
    "source-context",
    "connector-id",
    "source",
    "event-id",
    "internal-message-id",
    "message-id",
    "recipient-address",
    "recipient-status",
    "total-bytes",
    "recipient-count",
    "related-recipient-address",
    "reference",
    "message-subject",
    "sender-address",
    "return-path",
    "message-info",
]
_SINCE_2010 = [
    *_OLDEST,
    *["directionality", "tenant-id", "original-client-ip", "original-server-ip", "custom-data"],
]
_MESSAGE_ID = _OLDEST.index("message-id") + 1
_SINCE_2013 = [
    *_SINCE_2010[:_MESSAGE_ID],
    "network-message-id",
    *_SINCE_2010[_MESSAGE_ID:],
    *["transport-traffic-type", "log-id", "schema-version"],
]
LAYOUTS = {len(names): names for names in (_OLDEST, _SINCE_2010, _SINCE_2013[:-3], _SINCE_2013)}
"""The columns of the versions (2007, 2010, 2013 at first, and later) by their number, for rows without a
header."""

_EVENTS = {
    "taken": "RECEIVE SUBMIT CLIENTSUBMISSION",
    "moved": "TRANSFER RESUBMIT MODERATORAPPROVE",
    "delivered": "DELIVER DUPLICATEDELIVER",
    "sent": "SEND SENDEXTERNAL",
    "deferred": "DEFER SUBMITDEFER RESUBMITDEFER POISONMESSAGE",
    "waiting": "THROTTLE SUPPRESSED",
    "failed": """FAIL DELIVERFAIL SUBMITFAIL RESUBMITFAIL BADMAIL MODERATORREJECT MODERATORSALLNDR
        MODERATIONEXPIRE""",
    "dropped": "DROP",
    "expanded": "EXPAND",
    "rewritten": "RESOLVE REDIRECT",
    # What happened to the mail inside, without a word about where a recipient stands. A DSN row is about
    # the notice and whom it goes to.
    "silent": """DSN AGENTINFO HARECEIVE HAREDIRECT HAREDIRECTFAIL HADISCARD INITMESSAGECREATED LOAD
        NOTIFYMAPI PROCESS DUPLICATEEXPAND DUPLICATEREDIRECT MESSAGEINFO CLIENTREQUEST JOURNALREPORT""",
}
_KIND_OF = {event: kind for kind, events in _EVENTS.items() for event in events.split()}
_SOURCES = frozenset(
    [
        "ADMIN",
        "AGENT",
        "APPROVAL",
        "BOOTLOADER",
        "DNS",
        "DSN",
        "GATEWAY",
        "MAILBOXRULE",
        "MEETINGMESSAGEPROCESSOR",
        "ORAR",
        "PICKUP",
        "POISONMESSAGE",
        "PUBLICFOLDER",
        "QUEUE",
        "REDUNDANCY",
        "RESOLVER",
        "ROUTING",
        "SAFETYNET",
        "SMTP",
        "STOREDRIVER",
        "BATCHEDDELIVERY",
        "SMTPCLIENTSUBMISSION",
    ]
)
UNSAID = {
    "POISONMESSAGE": "put into the poison queue",
    "BADMAIL": "neither delivered nor returned: kept in BadMail",
    "MODERATORREJECT": "rejected by the moderator",
    "MODERATORSALLNDR": "no moderator could be asked",
    "MODERATIONEXPIRE": "no moderator answered in time",
    "DROP": "dropped without a notice",
}
"""What an event says itself where its row gives no reason."""

_INTERNAL = re.compile(
    r"intra-organization smtp send connector|inbound proxy internal send connector|smtprelaywithin"
    r"|client proxy send connector|mailbox ?delivery|组织内 SMTP 发送连接器",
    re.IGNORECASE,
)
_STATUS_BEGINS = re.compile(r"\s*(?:[245]\d\d(?:[ -]|$)|[\[{]+LED|\[\{|(?:To|Cc|Bcc)\s*$|$)", re.IGNORECASE)
_REPLY = re.compile(r"(?:^|[;\s\"'\[{=])([2345]\d\d[ -](?:[245]\.\d{1,3}\.\d{1,3}\b)?.*)", re.DOTALL)
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z?")
_MANNER = re.compile(r"\s*(?:To|Cc|Bcc)?\s*", re.IGNORECASE)


def kind_of(event: str) -> str:
    """What sort of event it is; "" for one not known here."""
    return _KIND_OF.get(event.upper(), "")


def is_tracking(source: str, event: str) -> bool:
    """Whether these two stand in a row of a tracking log."""
    return source in _SOURCES and event in _KIND_OF


def rejoined(fields: list[str], columns: list[str]) -> list[str]:
    """The fields of a row with too many of them: a subject whose commas nobody quoted is one again."""
    extra = len(fields) - len(columns)
    known = {"source", "event-id", "message-subject"} <= set(columns)
    if extra <= 0 or not known:
        return fields
    source, event = (fields[columns.index(name)] for name in ("source", "event-id"))
    if not is_tracking(source, event):
        return fields
    at = columns.index("message-subject")
    return [*fields[:at], ",".join(fields[at : at + extra + 1]), *fields[at + extra + 1 :]]


def is_internal(connector: str) -> bool:
    """Whether a send connector only goes to another server of the organisation."""
    return bool(_INTERNAL.search(connector))


def addresses(cell: str) -> list[str]:
    """The addresses of a list, as written; `;` within quotes is part of one."""
    parts = re.findall(r'(?:"[^"]*"|[^;"]|")+', cell)
    return [part.strip() for part in parts if part.strip()]


def statuses(cell: str, count: int) -> list[str]:
    """The statuses of a list as long as the recipients' one; what can't be told apart belongs to all.

    A status may hold `;` itself, and blocks of `[{LED=…};{MSG=…}]`.
    """
    if count <= 1:
        return [cell.strip()] * count
    pieces = _split(cell)
    told = [bool(_STATUS_BEGINS.match(piece)) for piece in pieces]
    if len(pieces) != count or (any(told) and not all(told)):
        joined: list[str] = []
        for piece in pieces:
            if joined and not _STATUS_BEGINS.match(piece):
                joined[-1] += ";" + piece
            else:
                joined.append(piece)
        pieces = joined
    return [piece.strip() for piece in pieces] if len(pieces) == count else [cell.strip()] * count


def _split(cell: str) -> list[str]:
    """A cell at the `;` that are in no bracket."""
    pieces, depth = [""], 0
    for char in cell:
        if char == ";" and depth <= 0:
            pieces.append("")
            continue
        depth = max(0, depth + (char in "[{") - (char in "]}"))
        pieces[-1] += char
    return pieces


def reason_in(status: str, context: str) -> str:
    """The reason of a deferral or failure: the recipient's status, else what the row's context says."""
    if not _MANNER.fullmatch(status):
        return status
    return context if ("LED=" in context or _REPLY.search(context)) else ""


def reply_in(context: str) -> str:
    """The next hop's reply in the context of a SEND: `08DE…;250 2.6.0 <…> […] Queued mail for delivery;…`."""
    found = _REPLY.search(context)
    return re.sub(r";ClientSubmitTime:.*$", "", found[1], flags=re.DOTALL).strip() if found else ""


def stamp_in(info: str) -> str:
    """The time the organisation took the mail, with which message-info begins; "" for none."""
    found = _STAMP.match(info)
    return found[0] if found else ""
