"""The delivery status notifications that are ours to send: failed, and relayed to a hop without DSN.

Promises: pure; the octets have CRLF line ends, end in one, and parse as the report they claim to be.
Nothing a client or a next hop said can break out of its field. Nobody hears of what they did not ask for:
a null sender, NOTIFY=NEVER, and mail we made ourselves never cause a report.

The report is for a person first (text), for programs second (delivery-status), and carries the header of
the message, or all of it with RET=FULL while it is small. It goes with a null reverse-path and never asks
for a report of its own.

Source: RFC 3464 (format), RFC 3461 §4.1, §5.2 and §6 (who is owed what), RFC 6533 (utf-8), RFC 6522
(multipart/report), RFC 3834 §5 (Auto-Submitted). Limits: no `delayed`, no `expanded`; text in English.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import format_datetime
from enum import StrEnum
from hashlib import sha256
from textwrap import wrap

from resubmit.handoff.prepare import asks_success
from resubmit.model.envelope import parameter
from resubmit.model.evidence import Meaning, Mend
from resubmit.model.moment import Ms, to_datetime
from resubmit.model.recipient import Event

INTAKE = "dsn"
"""The intake of the messages made here."""
RCPT_PARAMETERS = ("NOTIFY=NEVER",)
"""A report is never reported on (RFC 3461 §6.2)."""
FULL_UP_TO = 256 * 1024
"""Octets up to which RET=FULL gets the whole message back; above, its header."""

_SILENT_INTAKES = frozenset({INTAKE, "alert", "probe"})
HEADER_UP_TO = 64 * 1024
_LONGEST_LINE = 900  # below the 998 of RFC 5322 §2.1.1, with room for a field's name

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_STATUS = re.compile(r"(?:^|\s)([245]\.\d{1,3}\.\d{1,3})(?=\s|$)")


class Action(StrEnum):
    """What is reported (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    RELAYED = "relayed"


@dataclass(frozen=True, slots=True)
class About:
    """The message reported on: its envelope's sender and MAIL parameters, when we took it, its Message-ID."""

    sender: str
    parameters: tuple[str, ...]
    received_at: Ms
    message_id: str


@dataclass(frozen=True, slots=True)
class Report:
    """A recipient to report on, with the parameters of its RCPT and the last that was said to it.

    `code` and `enhanced` of the next hop's reply, None and "" where there was none; `reply`: the whole line,
    or what happened. `remote`: a name, or name[address]:port. `advice`: what the sender can do.
    """

    address: str
    parameters: tuple[str, ...] = ()
    code: int | None = None
    enhanced: str = ""
    reply: str = ""
    remote: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """A report ready to be journaled and sent to the sender, from a null reverse-path, with `parameters` of
    MAIL. `message_id` with its brackets; `digest`: SHA-256 of the octets."""

    octets: bytes
    digest: bytes
    message_id: str
    subject: str
    parameters: tuple[str, ...]


def owed(
    event: Event, meaning: Meaning | None, parameters: tuple[str, ...], *, no: int, lacks_dsn: bool = False
) -> str:
    """What the sender is to be told after this event of attempt `no`: `failed`, `relayed` or "".

    `parameters` of RCPT. Failed: we gave up, or the next hop refused it and no gate will send it again by
    itself. A refusal that a gate mends is not reported: it goes again, and the report would be false.
    Relayed: taken by a hop without DSN, and SUCCESS was asked for (RFC 3461 §5.2.2).
    """
    match event:
        case Event.REPLY_REFUSED | Event.QUEUE_EXPIRED:
            failed = True
        case Event.REPLY_REFUSED_MENDABLE:
            failed = meaning is None or meaning.mend is not Mend.GATE
        case Event.REPLY_ACCEPTED | Event.REPLY_FINAL:
            return Action.RELAYED.value if lacks_dsn and asks_success(parameters, no) else ""
        case _:
            failed = False
    return Action.FAILED.value if failed and _asks_failure(parameters) else ""


def is_wanted(kind: str, parameters: tuple[str, ...]) -> bool:
    """Whether a report of this kind is wanted, by RCPT's parameters (RFC 3461 §4.1): a failure is, but for
    a NOTIFY that leaves it out. What was relayed is only owed where it was asked for."""
    return kind != Action.FAILED or _asks_failure(parameters)


def is_silent(sender: str, intake: str) -> bool:
    """Whether a message never causes a report: a null sender, or one we made ourselves."""
    return not sender or intake in _SILENT_INTAKES


def _asks_failure(parameters: tuple[str, ...]) -> bool:
    """RFC 3461 §4.1: without NOTIFY a failure is reported."""
    notify = parameter(parameters, "NOTIFY")
    return notify is None or "FAILURE" in (word.strip().upper() for word in notify.split(","))


def wants_full(parameters: tuple[str, ...], size: int) -> bool:
    """Whether the whole message goes back, by MAIL's parameters and its size in octets."""
    return (parameter(parameters, "RET") or "").upper() == "FULL" and size <= FULL_UP_TO


def compose(
    kind: str,
    *,
    by: str,
    at: Ms,
    message: str,
    about: About,
    reports: Sequence[Report],
    header: bytes,
    postmaster: str = "",
) -> Notice:
    """The report of one kind (`failed`, `relayed`) on a message to its sender.

    `by`: our name; `message`: the shown id, which the report's own Message-ID is made of. `header`: the
    message's header block, or all of it where `wants_full`. `postmaster`: who signs; "": postmaster@`by`.
    """
    action = Action(kind)
    by = _one_line(by)
    block, blank, _ = header.partition(b"\r\n\r\n")
    full = bool(blank) and wants_full(about.parameters, len(header))
    asked = parameter(about.parameters, "SMTPUTF8") is not None and not block.isascii()
    utf8 = asked or not all(a.isascii() for a in (about.sender, *(r.address for r in reports)))
    parts = (
        _part("text/plain; charset=utf-8", "Notification", _text(action, about, reports, by)),
        _part(
            "message/global-delivery-status" if utf8 else "message/delivery-status",
            "Delivery report",
            _status(action, about, reports, by, at, utf8=utf8),
        ),
        _original(header if full else _header(block), full=full, utf8=utf8),
    )
    boundary = _boundary(message, parts)
    subject = f"Your message {'could not be delivered' if action is Action.FAILED else 'was passed on'}"
    first = _one_line(min((report.address for report in reports), default=""))
    message_id = f"<{message}.{action.value}.{sha256(f'{at} {first}'.encode()).hexdigest()[:8]}@{by}>"
    original = _one_line(about.message_id)
    fields = [
        f"From: Mail Delivery System <{_one_line(postmaster) or f'postmaster@{by}'}>",
        f"To: <{_one_line(about.sender)}>",
        f"Subject: {subject}",
        f"Date: {format_datetime(to_datetime(at))}",
        f"Message-ID: {message_id}",
        *([f"In-Reply-To: {original}", f"References: {original}"] if original else []),
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"',
    ]
    octets = "\r\n".join(fields).encode() + b"\r\n\r\n"
    for part in parts:
        octets += b"--" + boundary.encode() + b"\r\n" + part + b"\r\n"
    octets += b"--" + boundary.encode() + b"--\r\n"
    words = (() if octets.isascii() else ("BODY=8BITMIME",)) + (("SMTPUTF8",) if utf8 else ())
    return Notice(octets, sha256(octets).digest(), message_id, subject, words)


# ── parts ─────────────────────────────────────────────────────────────────────────────────────────


def _part(kind: str, description: str, content: str) -> bytes:
    octets = content.encode()
    encoding = "7bit" if octets.isascii() else "8bit"
    head = f"Content-Type: {kind}\r\nContent-Description: {description}\r\n"
    return f"{head}Content-Transfer-Encoding: {encoding}\r\n\r\n".encode() + octets


def _original(octets: bytes, *, full: bool, utf8: bool) -> bytes:
    """The message or its header, as it is: no part of a message may be encoded again (RFC 2046 §5.2.1)."""
    if full:
        kind = "message/global" if utf8 else "message/rfc822"
    else:
        kind = "message/global-headers" if utf8 else "text/rfc822-headers"
    head = (
        f"Content-Type: {kind}\r\nContent-Description: Your message{'' if full else ' (header)'}\r\n"
        f"Content-Transfer-Encoding: {'7bit' if octets.isascii() else '8bit'}\r\n\r\n"
    )
    return head.encode() + octets


def _header(header: bytes) -> bytes:
    """A header block, whole lines of it up to a limit, with its last CRLF."""
    if len(header) > HEADER_UP_TO:
        header = header[: header.rfind(b"\r\n", 0, HEADER_UP_TO)]
    return header.removesuffix(b"\r\n") + b"\r\n"


def _text(action: Action, about: About, reports: Sequence[Report], by: str) -> str:
    """What a person reads first: whom it concerns, what was said, what to do."""
    if action is Action.FAILED:
        first = "Your message could not be delivered to the recipients below. It will not be tried again."
    else:
        first = (
            "Your message was handed to the next mail server for the recipients below. That server sends no "
            "confirmations, so this is the last you will hear unless delivery fails."
        )
    lines = [*wrap(first, 76), ""]
    for report in reports:
        lines.append(f"  {_one_line(report.address)}")
        whom = f"{_host(report.remote)} said: " if report.code is not None and report.remote else ""
        lines += [f"    {line}" for line in wrap(whom + _one_line(report.reply), 72)]
        lines += [f"    {line}" for line in wrap(_one_line(report.advice), 72)]
        lines.append("")
    lines.append(f"Message: {_one_line(about.message_id) or 'without Message-ID'}")
    lines.append(f"Taken:   {format_datetime(to_datetime(about.received_at))} by {by}")
    return "".join(f"{line}\r\n" for line in lines)


def _status(action: Action, about: About, reports: Sequence[Report], by: str, at: Ms, *, utf8: bool) -> str:
    """The machine's part: a block for the message, one for each recipient (RFC 3464 §2)."""
    block = [("Reporting-MTA", f"dns; {by}")]
    envid = parameter(about.parameters, "ENVID")
    if envid:
        block.append(("Original-Envelope-Id", _ascii(_from_xtext(envid), utf8)))
    block.append(("Arrival-Date", format_datetime(to_datetime(about.received_at))))
    blocks = [block, *(_recipient(action, report, at, utf8=utf8) for report in reports)]
    return "\r\n".join("".join(f"{k}: {_one_line(v)}\r\n" for k, v in block) for block in blocks)


def _recipient(action: Action, report: Report, at: Ms, *, utf8: bool) -> list[tuple[str, str]]:
    block = []
    orcpt = parameter(report.parameters, "ORCPT")
    if orcpt:
        kind, _, address = orcpt.partition(";")
        decoded = _from_xtext(address)
        block.append(("Original-Recipient", f"{kind}; {decoded if utf8 or decoded.isascii() else address}"))
    block.append(
        ("Final-Recipient", f"{'rfc822' if report.address.isascii() else 'utf-8'}; {report.address}")
    )
    block.append(("Action", action.value))
    block.append(("Status", _code(action, report)))
    if report.remote:
        block.append(("Remote-MTA", f"dns; {_host(report.remote)}"))
    if report.reply:
        kind = "X-Resubmit" if report.code is None else "smtp"
        block.append(("Diagnostic-Code", f"{kind}; {_ascii(report.reply, utf8)}"))
    block.append(("Last-Attempt-Date", format_datetime(to_datetime(at))))
    return block


def _code(action: Action, report: Report) -> str:
    """The status code: of the reply where its class fits the action, else of what happened.

    Failed after a 4xx, or without any reply, is 5.4.7: given up by us (RFC 3463 §3.5).
    """
    if action is Action.RELAYED:
        return "2.0.0"
    if report.enhanced.startswith("5"):
        return report.enhanced
    found = _STATUS.search(report.reply)
    if found and found[1].startswith("5"):
        return found[1]
    return "5.0.0" if report.code is not None and report.code >= 500 else "5.4.7"


def _host(remote: str) -> str:
    """The name in `name[address]:port`, or the address where there is no name."""
    name, bracket, rest = _one_line(remote).partition("[")
    return name or (f"[{rest.partition(']')[0]}]" if bracket else "")


def _boundary(key: str, parts: Sequence[bytes]) -> str:
    """A boundary none of the parts holds; the same for the same report."""
    n = 0
    while any(f"=_{key}.{n}".encode() in part for part in parts):
        n += 1
    return f"=_{key}.{n}"


def _one_line(text: str) -> str:
    """Fit for one header field or line: no controls, no lone surrogates, not too long."""
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return _CONTROL.sub(" ", clean).strip()[:_LONGEST_LINE]


def _ascii(text: str, utf8: bool) -> str:
    """A hop's words where only ASCII may stand (RFC 3464 §2.1.1); as they are in a global report."""
    return text if utf8 else text.encode("ascii", "replace").decode("ascii")


def _from_xtext(text: str) -> str:
    """RFC 3461 §4, undone: what the report shows is the decoded value."""
    return re.sub(r"\+([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), text)
