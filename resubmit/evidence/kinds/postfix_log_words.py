"""What the words of a Postfix line say: the delivery line's fields, refusals, TLS faults.

Source: formats.md sections 1.3 to 1.5 (smtp_trouble.c, log_adhoc.c, tls_verify.c of 3.5 to 3.11).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from resubmit.meaning.classify import codes, layers
from resubmit.model.evidence import Status
from resubmit.model.moment import Ms

QUEUE_ID = re.compile(r"(?P<id>NOQUEUE|[A-Za-z0-9_]{1,30}): ?(?P<rest>.*)", re.DOTALL)
_WORDS = frozenset(
    ["warning", "error", "fatal", "panic", "info", "statistics", "message", "table", "connect", "TLSRPT"]
)

_NEXT = r"(?:relay|conn_use|delays?|dsn|tls|status)="
_TO = re.compile(rf"to=<(.*?)>, (?=orig_to=<|{_NEXT})", re.DOTALL)
_ORIGINAL = re.compile(rf"orig_to=<(.*?)>, (?={_NEXT})", re.DOTALL)
_STATUS = re.compile(r"(?<![^ ,])status=([A-Za-z-]+)(?:,? \(?(.*))?$", re.DOTALL)
_FIELD = re.compile(r"(\w+)=([^,]*), ")
_HOST_SAID = re.compile(
    r"(?:host|connect to|connection with|conversation with|server) (\S+\[[^\]]*\](?::\d+)?)"
)
_REFUSAL = re.compile(
    r"(?P<what>(?:milter-)?(?:reject|hold|discard)): (?P<stage>.*?) from (?P<client>[^\s;:]\S*?)[:;]+ "
    r"(?P<said>.*)$",
    re.DOTALL,
)
_ENVELOPE = re.compile(
    r"(?:^|; ?)(?:from=<(?P<sender>.*?)>)?(?:,? ?to=<(?P<to>.*?)>(?=,? \w+=|$))?"
    r"(?:,? ?\b(?:proto|helo|orig_to|sasl_\w+)=(?:<.*?>|[^\s:,]*)(?=[\s:,]|$))*(?P<behind>(?::.*)?\s*)$",
    re.DOTALL,
)
_LONGEST_REFUSAL = 4_096
_HEADER = re.compile(r"\b((?:header|body|mime-header|nested-header) )\S.*?( from \S+; from=<)", re.DOTALL)
QUEUED_AS = re.compile(r"\bqueued as ([A-Za-z0-9]{5,25})\b")
_FORWARDED_AS = re.compile(r"^forwarded as ([A-Za-z0-9]{5,25})\b")
_DISCARDED = re.compile(r"\bOk, discarded\b|\bdiscarded, (?:id|UBE)\b|^silently$", re.IGNORECASE)
_PASSED_ON = re.compile(r"\bqueued (?:as|mail|for)\b|\bfrom MTA\b|\bforwarded as\b", re.IGNORECASE)
_MAILBOX = re.compile(
    r"dovecot|cyrus|maildrop|procmail|mailbox|maildir|\bdeliver\b|lmtp|sieve|dbmail|mailman", re.I
)
_SOCKET = re.compile(r"\[(?:private/|/)")

_VERIFY = re.compile(r"certificate verification failed for (?P<peer>\S+?): ?(?P<why>(?!\d+:).+)", re.DOTALL)
_ERROR_TO = re.compile(r"SSL_connect error to (?P<peer>\S+): (?P<why>.*)", re.DOTALL)
_LIBRARY = re.compile(r"TLS library problem: (?:\S+:)?error:[0-9A-F]+:[^:]*:[^:]*:(?P<why>[^:]+)")
_SESSION = re.compile(
    r"(?P<how>Anonymous|Untrusted|Trusted|Verified) TLS connection \w+ to (?P<peer>\S+?):? "
)
_TLSRPT = re.compile(r"status=failure, .*receiving_mx=(?P<peer>[^,]+), .*failure_type=(?P<why>[\w-]+)")
_REPORTED = {
    "certificate-expired": "certificate has expired",
    "certificate-host-mismatch": "hostname mismatch",
    "certificate-not-trusted": "certificate not trusted",
}
"""RFC 8460's words for what the other lines call otherwise."""
_BROKEN = "SSL_connect error"
_TLS_TEXT = re.compile(r"certificate not (?:verified|trusted)|Cannot start TLS|TLS handshake", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery line. took: how long after Postfix had taken the mail; tls: the `tls=` field of 3.11."""

    to: str
    original: str
    relay: str
    status: str
    text: str
    dsn: str
    took: Ms | None
    tls: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A mail refused, held or dropped on its way in. what: reject, hold or discard."""

    what: str
    sender: str
    to: str
    text: str


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a line says of TLS with a peer. why: "" when all was well; peer "" where the line names none."""

    peer: str
    why: str


def queue_id(text: str) -> tuple[str, str]:
    """The queue id that a line begins with and the rest of it; "" where it begins with none."""
    found = QUEUE_ID.match(text)
    if found is None or found["id"] in _WORDS:
        return "", text
    return found["id"], found["rest"]


def delivery(text: str) -> Delivery | None:
    """The fields of a delivery line, its queue id taken off; None when it is none or was cut off."""
    # Step by step, each in one direction: an address may hold `>`, and the time must not grow with tries.
    to = _TO.match(text)
    if to is None:
        return None
    original = _ORIGINAL.match(text, to.end())
    begins = original.end() if original else to.end()
    found = _STATUS.search(text, begins)
    if found is None:
        return None
    fields = dict(_FIELD.findall(text[begins : found.start()]))
    said = (found[2] or "").strip()
    said = said[:-1] if said.endswith(")") else said
    try:
        took = round(float(fields["delay"]) * 1000)
    except (KeyError, ValueError, OverflowError):
        took = None
    dsn = fields.get("dsn", "")
    return Delivery(
        to=to[1],
        original=original[1] if original else "",
        relay=fields.get("relay", "none"),
        status=found[1].lower(),
        text=said.strip(),
        dsn=dsn if re.fullmatch(r"[245]\.\d{1,3}\.\d{1,3}", dsn) else "",
        took=took if took is not None and 0 <= took < 10**11 else None,
        tls=fields.get("tls", ""),
    )


def refusal(text: str) -> Refusal | None:
    """What was refused, held or dropped on its way in; the reason alone, never a header's text."""
    found = _REFUSAL.match(text[:_LONGEST_REFUSAL])
    if found is None:
        return None
    envelope = _ENVELOPE.search(found["said"])
    said = found["said"][: envelope.start()] if envelope else found["said"]
    behind = envelope["behind"].strip() if envelope else ""
    return Refusal(
        what=found["what"].rpartition("-")[2],
        sender=(envelope["sender"] or "") if envelope else "",
        to=(envelope["to"] or "") if envelope else "",
        text=behind[1:].strip() or said.strip(" ;"),
    )


def without_headers(text: str) -> str:
    """A line without the header or body line that a content rule quotes."""
    return _HEADER.sub(r"\1…\2", text, count=1) if "; from=<" in text else text


def handshake(text: str) -> Handshake | None:
    """What a line without a queue id tells of TLS."""
    if found := _TLSRPT.search(text):
        return Handshake(found["peer"], _REPORTED.get(found["why"], found["why"]))
    for form in (_VERIFY, _ERROR_TO):
        if found := form.search(text):
            why = found["why"].strip()
            return Handshake(found["peer"], why if re.search(r"[a-z]", why) else _BROKEN)
    if found := _LIBRARY.search(text):
        return Handshake("", found["why"].strip())
    if found := _SESSION.search(text):
        return Handshake(found["peer"], "") if found["how"] in ("Trusted", "Verified") else None
    return None


def is_vague(why: str) -> bool:
    """Whether a reason says only that the handshake broke."""
    return why == _BROKEN or why == "certificate verify failed"


def is_peer(peer: str, relay: str) -> bool:
    """Whether a TLS line is about a delivery's relay; Postfix of old names only the host."""
    return peer == relay or ("[" not in peer and relay.startswith(f"{peer}["))


def is_unexplained(text: str) -> bool:
    """Whether a delivery line's text says that TLS failed and leaves out why."""
    return _TLS_TEXT.search(text) is not None


def fate(daemon: str, one: Delivery) -> Status:
    """What has become of a recipient whose line says `sent`."""
    if daemon == "discard" or _DISCARDED.search(one.text):
        return Status.FILTERED
    if _PASSED_ON.search(one.text):
        return Status.RELAYED
    if (
        daemon in ("local", "virtual", "lmtp")
        or one.relay in ("local", "virtual")
        or _SOCKET.search(one.relay)
    ):
        return Status.DELIVERED
    if (daemon == "pipe" or "[" not in one.relay) and _MAILBOX.search(f"{one.relay} {one.text}"):
        return Status.DELIVERED
    return Status.RELAYED


def next_id(text: str) -> str:
    """The queue id under which the mail goes on in this or another Postfix, "" for none."""
    found = _FORWARDED_AS.search(text) or QUEUED_AS.search(text)
    return found[1] if found else ""


def remote(one: Delivery) -> str:
    """Who answered: the relay, else whom the text names."""
    if one.relay not in ("none", ""):
        return one.relay
    found = _HOST_SAID.search(one.text)
    return found[1] if found else ""


@lru_cache(maxsize=4096)  # a queue that is tried again and again says the same
def reply(text: str) -> tuple[int | None, str]:
    """The codes of the innermost reply in a text."""
    code, enhanced = codes(text)
    if code is not None:
        return code, enhanced
    for layer in layers(text):
        if layer.code:
            return int(layer.code), layer.enhanced
    return None, enhanced
