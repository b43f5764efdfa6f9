"""One recipient of a status part → its evidence, completed by the words and servers' answers beside it.

Source: RFC 3464 §2.3; formats.md section 7.1.
"""

from __future__ import annotations

import re

from resubmit.evidence.base import RAW_LIMIT
from resubmit.evidence.kinds.dsn_about import About, remote_of
from resubmit.evidence.kinds.dsn_admin import Answer
from resubmit.evidence.kinds.dsn_codes import BAD, chosen, has_expired, meant
from resubmit.evidence.kinds.dsn_fields import Record, address_of, status_of, untyped
from resubmit.evidence.kinds.dsn_text import (
    Notice,
    Told,
    any_reply,
    is_telling,
    replies_of,
    success_of,
    telling_line,
)
from resubmit.meaning.classify import meaning_of
from resubmit.model.evidence import Evidence, Status

_ADDRESS = re.compile(r"[^\s<>\"(),;:\[\]]{1,128}@[^\s<>\"(),;:\[\]]{1,255}")
_USUAL = re.compile(
    r"[^\s<>|/,:;]{1,128}@[^\s<>,:;/]{1,255}|\"[^\"@]{1,128}\"@[^\s<>,:;]{1,255}|[^\s@|]{1,64}/[^\s@|]{0,64}@\S{1,255}"
)
_SUPPLEMENTARY = re.compile(
    r"\s*<?(?P<host>[\w.-]*)\s*#[\d.]*\s*(?:smtp\s*;)?\s*(?P<text>.*?)>?\s*$", re.I | re.S
)
"""Exchange 2007: `<host #5.1.1 smtp;550 5.1.1 …>`."""
_ACTIONS = {
    "failed": Status.FAILED,
    "failure": Status.FAILED,
    "fail": Status.FAILED,
    "error": Status.FAILED,
    "expired": Status.EXPIRED,
    "undeliverable": Status.FAILED,
    "permanent-failure": Status.FAILED,
    "delayed": Status.DEFERRED,
    "delay": Status.DEFERRED,
    "deferred": Status.DEFERRED,
    "delivered": Status.DELIVERED,
    "deliverable": Status.NONE,  # Postfix was asked for an address: no mail was sent
    "delivery": Status.DELIVERED,
    "relayed": Status.RELAYED,
    "relay": Status.RELAYED,
    "expanded": Status.EXPANDED,
}


def raw_of(record: Record) -> str:
    return "\n".join(f"{name}: {value}" for name, value in record.fields.items())[:RAW_LIMIT]


def evidence_of_record(
    record: Record,
    about: About,
    notice: Notice,
    told: dict[str, Told],
    answers: dict[str, list[Answer]],
) -> Evidence | None:
    final = address_of(record.fields.get("final-recipient", ""))
    original = address_of(record.fields.get("original-recipient", ""))
    recipient = _recipient(record, final, original, about, told)
    if not recipient:
        return None
    said = told.get(recipient.lower()) or told.get(original.lower())
    if said is None and len(told) == 1 and len(about.report.recipients) == 1:
        said = next(iter(told.values()))
    entries = answers.get(recipient.lower()) or answers.get(original.lower()) or answers.get("") or []
    if not entries and len(answers) == 1 and len(about.report.recipients) == 1:
        entries = next(iter(answers.values()))
    diagnostic, remote = record.get("diagnostic-code"), ""
    if not diagnostic and (found := _SUPPLEMENTARY.match(record.fields.get("x-supplementary-info", ""))):
        diagnostic, remote = found["text"], found["host"]
    exit_status = ""
    if not re.search(r"[^\W\d_]{2}", diagnostic):
        diagnostic, exit_status = "", diagnostic  # `x-unix; 77`
    extra = untyped(record.fields.get("status", ""))
    text = diagnostic
    if not text and entries:
        text, remote = entries[0].text, entries[0].remote
    if not text and said is not None and (said.beside or is_telling(said.text)):
        text = said.text
    if not text and len(about.report.recipients) == 1:
        text = any_reply(notice.text) or telling_line(notice.text)
    if not text and re.search(r"[^\W\d_]{4}", extra):
        text = extra
    text = text or exit_status
    status = _action(record, notice)
    code, enhanced = _codes(record, text, status)
    waited = about.gave_up_waiting and not enhanced.startswith("5")  # `Cannot send message for 5 days`
    if status is Status.FAILED and (
        waited or has_expired(text, enhanced, meaning_of(text, enhanced=enhanced))
    ):
        status = Status.EXPIRED
    words_of = said.text if said else ""
    if len(about.report.recipients) == 1 and not is_telling(words_of):
        words_of = telling_line(notice.text)
    meaning, text, remote = meant(text, enhanced, entries, words_of, status, remote)
    return about.evidence(
        status,
        recipient,
        original_recipient=original if original.lower() != recipient.lower() else "",
        code=code,
        enhanced_code=enhanced,
        text=text,
        remote=remote_of(record.get("remote-mta"), text) or remote or about.reporter,
        meaning=meaning if status in BAD else None,
        observed_at=about.at(record.get("last-attempt-date")),
        log_id=record.get("final-log-id"),
    )


def _recipient(record: Record, final: str, original: str, about: About, told: dict[str, Told]) -> str:
    """The address that is meant: the final one, unless that is a pipe, a file, or a directory's name."""
    if _USUAL.fullmatch(final) and not final.upper().startswith("IMCEA"):
        # `anna@sims-ms-daemon` is a channel of the server's own.
        inner = "." not in final.rpartition("@")[2] and "." in original.rpartition("@")[2]
        return original if inner else final
    named = [original, address_of(record.fields.get("x-actual-recipient", ""))]
    if len(about.report.recipients) == 1:
        named += about.named if len(about.named) == 1 else []
        named += [next(iter(told.values())).address] if len(told) == 1 else []
    inside = _ADDRESS.search(final)
    named.append(inside[0] if inside and not final.upper().startswith("IMCEA") else "")
    return next((one for one in named if _USUAL.fullmatch(one)), "") or final or original


def _action(record: Record, notice: Notice) -> Status:
    """By its Action; without one by its Status and what the words say."""
    word = re.sub(r"\(.*?\)", "", untyped(record.fields.get("action", ""))).strip().lower().split(" ")[0]
    known = _ACTIONS.get(word)
    if known is not None:
        return known
    enhanced = status_of(record.fields.get("status", ""))
    if enhanced.startswith("2"):
        return notice.status if notice.status in (Status.RELAYED, Status.EXPANDED) else Status.DELIVERED
    if notice.status is Status.DEFERRED or (enhanced.startswith("4") and not word):
        return Status.DEFERRED
    return Status.FAILED


def _codes(record: Record, text: str, status: Status) -> tuple[int | None, str]:
    """The reply code, and the enhanced code: the report's own unless the reply has a better one, since what
    reports writes `5.0.0` or `4.4.7` where it knows no more."""
    stated = status_of(record.fields.get("status", ""))
    if status not in BAD:
        code, enhanced = success_of(text)
        return code, stated or enhanced
    replies = replies_of(text)
    code = next((code for code, _ in replies if code), None)
    if code is None and (found := re.match(r"\s*([45]\d\d)\b", record.fields.get("status", ""))):
        code = int(found[1])
    told = [enhanced for _, enhanced in replies if enhanced]
    best = chosen(stated, told)
    if best != stated:
        code = next((code for code, enhanced in replies if code and enhanced == best), code)
    return code, best
