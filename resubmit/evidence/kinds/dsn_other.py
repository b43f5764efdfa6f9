"""Mail that is no report of a delivery, whatever it looks like: what it is, so that nobody looks for more.

Source: RFC 3834 (automatic answers), RFC 8098 (read receipts), RFC 5965 (complaints).
"""

from __future__ import annotations

import re

from resubmit.evidence.kinds.dsn_dialects import says
from resubmit.evidence.mime import Part, words

_SHOWN = 4_000
_AUTOMATIC = ("x-autoreply", "x-autorespond", "x-auto-response-from", "x-mail-autoreply", "x-vacation")


def report_marks(mail: Part, text: str) -> int:
    """How many things speak for a mail being a report of a delivery; two are enough."""
    subject = words(mail.first("subject"))
    sender = words(mail.first("from")) + " " + mail.first("return-path") + " " + mail.first("sender")
    marks = 0
    if mail.has("x-failed-recipients"):
        marks += 2
    if says("report", "from", sender):
        marks += 1
    if mail.has("return-path") and re.fullmatch(r"<?\s*>?", mail.first("return-path").strip()):
        marks += 1
    if says("report", "subject", subject):
        marks += 1
    if says("report", "text", text[:_SHOWN]):
        marks += 1
    if "delivery-status" in mail.parameters.get("report-type", "").lower():
        marks += 1
    return marks


def from_program(mail: Part) -> bool:
    """Whether the sender is a mail server, by its name."""
    return (
        re.search(r"mailer-?daemon|post_?master|mail delivery", words(mail.first("from")), re.I) is not None
    )


def other_of(mail: Part, text: str) -> str:
    """What a mail without a status part is instead of a report, "" when it may be one."""
    if not mail.fields:
        return ""  # a text alone, which was pasted for its sake
    kinds = set(_kinds(mail))
    report = mail.parameters.get("report-type", "").lower()
    if "message/disposition-notification" in kinds or report == "disposition-notification":
        return "this is a read receipt: the mail was opened or deleted, its delivery is not reported"
    if "message/feedback-report" in kinds or report == "feedback-report":
        return "this is a complaint of a reader about a mail that reached him"
    subject = words(mail.first("subject"))
    head = text[:_SHOWN]
    automatic = mail.first("auto-submitted").lower().startswith("auto-replied")
    automatic = automatic or mail.first("precedence").lower() in ("auto_reply", "auto-reply")
    automatic = automatic or any(mail.has(name) for name in _AUTOMATIC)
    by_program = from_program(mail)
    strong = says("report", "text", head) and (by_program or says("report", "subject", subject))
    if strong or mail.has("x-failed-recipients"):
        return ""
    if (
        says("other", "away", subject)
        or (automatic and not by_program)
        or (says("other", "away", head) and not by_program)
    ):
        return "this is an automatic answer of a recipient: the mail reached him or his server"
    if says("other", "challenge", subject) or (says("other", "challenge", head) and not by_program):
        return "this asks the sender to confirm: the mail waits for that, or reached its server"
    if says("other", "virus", subject):
        return "this tells of a virus, not of a delivery"
    return ""


def _kinds(part: Part, depth: int = 0) -> list[str]:
    if part.kind.startswith("message/rfc822") and depth:
        return [part.kind]
    kinds = [part.kind]
    for inner in part.parts:
        kinds += _kinds(inner, depth + 1)
    return kinds
