"""The delivery status notifications that are ours to send: failed, and relayed to a hop without DSN.

Promises: pure; the octets have CRLF line ends, end in one, and parse as the report they claim to be. None
where nobody is owed one: a null sender, NOTIFY=NEVER, or a NOTIFY that does not ask for this. Nothing a
client or a next hop said can break out of its field.

The report is for a person first (text), for programs second (delivery-status), and carries the header of
the message, or all of it with RET=FULL while it is small. Its own envelope has a null reverse-path and
`parameters`; it never asks for a report of its own.

Source: RFC 3464 (format), RFC 3461 §4.1 and §6 (who is owed what), RFC 6533 (utf-8), RFC 6522
(multipart/report), RFC 3834 §5 (Auto-Submitted). Limits: no `delayed`, no `expanded`; text in English.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import format_datetime
from enum import StrEnum
from textwrap import wrap

from resubmit.model.envelope import parameter
from resubmit.model.moment import Ms, to_datetime
from resubmit.model.reply import Reply

FULL_UP_TO = 256 * 1024
"""Octets up to which RET=FULL gets the whole message back; above, its header."""
_HEADER_UP_TO = 64 * 1024
_LONGEST_LINE = 900  # below the 998 of RFC 5322 §2.1.1, with room for a field's name

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_STATUS = re.compile(r"(?:^|\s)([245]\.\d{1,3}\.\d{1,3})(?=\s|$)")


class Action(StrEnum):
    """What is reported (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    RELAYED = "relayed"


@dataclass(frozen=True, slots=True)
class Reported:
    """A recipient to report on, with the parameters of its RCPT.

    `reply`: the next hop's, if it was asked; else `text` says what happened. `status`: an enhanced status
    code where it is neither in reply nor text. `remote`: the next hop's name. `advice`: what the sender can do.
    """

    address: str
    parameters: tuple[str, ...] = ()
    reply: Reply | None = None
    text: str = ""
    status: str = ""
    remote: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """A report ready to be sent to `recipient` from a null reverse-path, with `parameters` of MAIL."""

    recipient: str
    parameters: tuple[str, ...]
    octets: bytes


def is_owed(action: Action, sender: str, parameters: tuple[str, ...]) -> bool:
    """Whether the sender is to hear of this for a recipient with these RCPT parameters (RFC 3461 §4.1)."""
    if not sender:
        return False
    notify = parameter(parameters, "NOTIFY")
    if notify is None:
        return action is Action.FAILED
    words = {word.strip().upper() for word in notify.split(",")}
    if "NEVER" in words:
        return False
    return ("FAILURE" if action is Action.FAILED else "SUCCESS") in words


def wants_full(parameters: tuple[str, ...], size: int) -> bool:
    """Whether the whole message goes back, by MAIL's parameters and its size in octets."""
    return (parameter(parameters, "RET") or "").upper() == "FULL" and size <= FULL_UP_TO


def compose(
    action: Action,
    *,
    sender: str,
    parameters: tuple[str, ...],
    recipients: Sequence[Reported],
    message: bytes,
    message_id: str,
    key: str,
    by: str,
    postmaster: str,
    received_at: Ms,
    now: Ms,
) -> Notice | None:
    """The report to a message's sender on those of the recipients it is owed for; None when for none.

    `message`: its header block, or all of it where `wants_full`. `message_id`: its own, "" for none. `key`:
    names the report (its Message-ID is made of it); `by`: our name; `postmaster`: who signs.
    """
    owed = [r for r in recipients if is_owed(action, sender, r.parameters)]
    if not owed:
        return None
    header, blank, _ = message.partition(b"\r\n\r\n")
    full = bool(blank) and wants_full(parameters, len(message))
    original = message if full else _header(header)
    asked = parameter(parameters, "SMTPUTF8") is not None and not header.isascii()
    utf8 = asked or not all(a.isascii() for a in (sender, *(r.address for r in owed)))
    parts = (
        _part("text/plain; charset=utf-8", "Notification", _text(action, owed, message_id, received_at, by)),
        _part(
            "message/global-delivery-status" if utf8 else "message/delivery-status",
            "Delivery report",
            _status(action, owed, parameters, by, received_at, now, utf8=utf8),
        ),
        _original(original, full=full, utf8=utf8),
    )
    boundary = _boundary(key, parts)
    subject = "could not be delivered" if action is Action.FAILED else "was passed on"
    about = _one_line(message_id)
    fields = [
        f"From: Mail Delivery System <{_one_line(postmaster)}>",
        f"To: <{_one_line(sender)}>",
        f"Subject: Your message {subject}",
        f"Date: {format_datetime(to_datetime(now))}",
        f"Message-ID: <{key}.{action.value}@{_one_line(by)}>",
        *([f"In-Reply-To: {about}", f"References: {about}"] if about else []),
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"',
    ]
    octets = "\r\n".join(fields).encode() + b"\r\n\r\n"
    for part in parts:
        octets += b"--" + boundary.encode() + b"\r\n" + part + b"\r\n"
    octets += b"--" + boundary.encode() + b"--\r\n"
    words = (() if octets.isascii() else ("BODY=8BITMIME",)) + (("SMTPUTF8",) if utf8 else ())
    return Notice(sender, words, octets)


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
    if len(header) > _HEADER_UP_TO:
        header = header[: header.rfind(b"\r\n", 0, _HEADER_UP_TO)]
    return header.removesuffix(b"\r\n") + b"\r\n"


def _text(action: Action, recipients: Sequence[Reported], message_id: str, at: Ms, by: str) -> str:
    """What a person reads first: whom it concerns, what was said, what to do."""
    if action is Action.FAILED:
        first = "Your message could not be delivered to the recipients below. Nobody will try again."
    else:
        first = (
            "Your message was handed to the next mail server for the recipients below. That server sends no "
            "confirmations, so this is the last you will hear unless delivery fails."
        )
    lines = [*wrap(first, 76), ""]
    for recipient in recipients:
        lines.append(f"  {_one_line(recipient.address)}")
        said = _one_line(recipient.reply.line() if recipient.reply else recipient.text)
        if said:
            whom = f"{_one_line(recipient.remote)} said: " if recipient.reply and recipient.remote else ""
            lines += [f"    {line}" for line in wrap(whom + said, 72)]
        if recipient.advice:
            lines += [f"    {line}" for line in wrap(_one_line(recipient.advice), 72)]
        lines.append("")
    lines.append(f"Message: {_one_line(message_id) or 'without Message-ID'}")
    lines.append(f"Taken:   {format_datetime(to_datetime(at))} by {_one_line(by)}")
    return "".join(f"{line}\r\n" for line in lines)


def _status(
    action: Action,
    recipients: Sequence[Reported],
    parameters: tuple[str, ...],
    by: str,
    received_at: Ms,
    now: Ms,
    *,
    utf8: bool,
) -> str:
    """The machine's part: a block for the message, one for each recipient (RFC 3464 §2)."""
    block = [("Reporting-MTA", f"dns; {by}")]
    envid = parameter(parameters, "ENVID")
    if envid:
        block.append(("Original-Envelope-Id", _from_xtext(envid)))
    block.append(("Arrival-Date", format_datetime(to_datetime(received_at))))
    blocks = [block]
    for recipient in recipients:
        block = []
        orcpt = parameter(recipient.parameters, "ORCPT")
        if orcpt:
            kind, _, address = orcpt.partition(";")
            decoded = _from_xtext(address)
            block.append(
                ("Original-Recipient", f"{kind}; {decoded if utf8 or decoded.isascii() else address}")
            )
        kind = "rfc822" if recipient.address.isascii() else "utf-8"
        block.append(("Final-Recipient", f"{kind}; {recipient.address}"))
        block.append(("Action", action.value))
        block.append(("Status", _code(action, recipient)))
        if recipient.remote:
            block.append(("Remote-MTA", f"dns; {recipient.remote}"))
        if recipient.reply:
            block.append(("Diagnostic-Code", f"smtp; {_ascii(recipient.reply.line(), utf8)}"))
        elif recipient.text:
            block.append(("Diagnostic-Code", f"X-Resubmit; {_ascii(recipient.text, utf8)}"))
        block.append(("Last-Attempt-Date", format_datetime(to_datetime(now))))
        blocks.append(block)
    return "\r\n".join("".join(f"{k}: {_one_line(v)}\r\n" for k, v in block) for block in blocks)


def _code(action: Action, recipient: Reported) -> str:
    """The status code: as given, else from the reply, else from the text, else of the action's class.

    The class follows the action: a failed recipient whose last reply was 4xx is 5.4.7, given up by us
    (RFC 3463 §3.5).
    """
    if action is Action.RELAYED:
        return "2.0.0"
    if recipient.status:
        return recipient.status
    found = _STATUS.search(recipient.reply.text if recipient.reply else recipient.text)
    if found and found[1].startswith("5"):
        return found[1]
    return "5.4.7" if recipient.reply and recipient.reply.transient else "5.0.0"


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
