"""One mail → what it reports of each recipient: status part first, then words, then the mail it carries.

Source: RFC 3464 §2; formats.md section 7; microsoft.md section 6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from resubmit.evidence.base import RAW_LIMIT, Item, Reading
from resubmit.evidence.kinds.dsn_about import About, remote_of
from resubmit.evidence.kinds.dsn_admin import answers_of
from resubmit.evidence.kinds.dsn_codes import BAD, chosen, has_expired, is_vague, meaning_for, meant
from resubmit.evidence.kinds.dsn_dialects import says
from resubmit.evidence.kinds.dsn_fields import Report, report_of
from resubmit.evidence.kinds.dsn_other import from_program, other_of, report_marks
from resubmit.evidence.kinds.dsn_record import evidence_of_record, raw_of
from resubmit.evidence.kinds.dsn_returned import Original, is_header, original_in, original_of
from resubmit.evidence.kinds.dsn_ses import is_notification, items_of_json
from resubmit.evidence.kinds.dsn_text import (
    Notice,
    Told,
    any_reply,
    notice_of,
    replies_of,
    returned_in,
    success_of,
)
from resubmit.evidence.mime import Part, header_of, parsed, without_marks, words
from resubmit.meaning.classify import is_expiry, meaning_of
from resubmit.model.evidence import Evidence, Status

_DEEPEST = 6
_MOST_TEXT = 1 << 20
_STATUS_KINDS = frozenset(
    {
        "message/delivery-status",
        "message/global-delivery-status",
        "text/delivery-status",
        "message/delivery-report",
    }
)
_HEADER_KINDS = frozenset({"text/rfc822-headers", "message/global-headers", "message/rfc822-headers"})
_MAIL_KINDS = frozenset({"message/rfc822", "message/global"})
_LOCAL = re.compile(
    r"following recipients?\b[^\n]*(?:\n[^\n]+){0,3}?:[ \t]*\n+[ \t]+(?P<name>[\w.-]{2,64})[ \t]*(?:\n|$)",
    re.IGNORECASE,
)
"""AOL names its members without a domain."""
_STATUS_START = re.compile(
    rb"\s*(?:reporting-mta|original-envelope-id|final-recipient|original-recipient)[ \t]*:", re.I
)
_INLINE = re.compile(r"^[ \t>]*(?:reporting-mta|final-recipient|original-recipient)[ \t]*:", re.I | re.M)
_INLINE_NEEDED = re.compile(r"^[ \t>]*(?:final|original)-recipient[ \t]*:", re.I | re.M)
_ADDRESS = re.compile(r"[^\s<>\"(),;:\[\]]{1,128}@[^\s<>\"(),;:\[\]]{1,255}")
_ADMIN = re.compile(r"['’‘\"“«]\s?[245]\d\d[ -][245]\.\d|##|#SMTP#")


class NoReport(Exception):
    """A mail that reports of no delivery, with what it is."""


@dataclass(slots=True)
class _Found:
    """What a mail is made of. carried: whole mails in it, in order; headers: those that came back alone."""

    texts: list[str] = field(default_factory=list)
    html: list[str] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    returned: list[Part] = field(default_factory=list)
    carried: list[Part] = field(default_factory=list)


def items_of(mail: Part, place: str, reading: Reading, depth: int = 0) -> Iterator[Item]:
    """The items of a mail. Raises NoReport when it is none."""
    found = _Found()
    _gather(mail, found, top=True)
    text = "\n".join(found.texts)[:_MOST_TEXT] or without_marks("\n".join(found.html)[:_MOST_TEXT])
    text = _as_text(mail, text)
    items = list(_reported(mail, found, text, place, reading)) if found.statuses else []
    if not items and is_notification(text):
        items = list(items_of_json(text, reading))
    if not items:
        if reason := other_of(mail, text):
            raise NoReport(reason)
        items = list(_in_words(mail, found, text, place, reading))
    if not items and depth < _DEEPEST:
        for number, carried in enumerate(found.carried, 1):
            inner = f"{place}, mail {number} in it" if place else f"mail {number} in it"
            try:
                items += items_of(carried, inner if len(found.carried) > 1 else place, reading, depth + 1)
            except NoReport:
                continue
    if not items:
        items = list(_by_its_header(mail, found, text, place, reading))
    if not items:
        if report_marks(mail, text) >= 2:
            raise NoReport("this report names no recipient in a way known here")
        raise NoReport("this mail is no report of a delivery")
    yield from items


def looks_like_report(text: str) -> bool:
    """Whether a text without a mail's header is a report's."""
    text = _as_text(Part((), "text/plain"), text)
    if re.match(
        r"\s*(?:[A-Z][a-z]{2} [ \d]\d \d\d:|\d{4}-\d\d-\d\d|[#{\[]|[245]\d\d[ -]|[245]\.\d\.\d)", text
    ):
        return False
    if _INLINE_NEEDED.search(text):
        return True
    return says("report", "text", text) and bool(notice_of(text).told)


def _is_mail_file(part: Part) -> bool:
    """Whether a part is a mail that somebody attached as a file."""
    name = part.parameters.get("name", "") + " " + part.first("content-disposition")
    return part.kind.startswith("application/") and re.search(r"\.eml\b", name, re.I) is not None


def _as_text(mail: Part, text: str) -> str:
    """A page that somebody saved out of a mail program, as text."""
    is_page = not mail.fields and text.lstrip("\ufeff \t\n")[:1] == "<" and "<html" in text[:4096].lower()
    return without_marks(text) if is_page else text


def _gather(part: Part, found: _Found, *, top: bool = False) -> None:
    if part.kind in _STATUS_KINDS or (not top and _STATUS_START.match(part.content)):
        found.statuses.append(part.text())  # a gateway may have made it `ATT00001.txt`
    elif _is_mail_file(part):
        inner = parsed(part.content)
        found.carried.append(inner)
        found.returned.append(inner)
    elif part.kind in _MAIL_KINDS:
        for inner in part.parts:
            found.carried.append(inner)
            found.returned.append(inner)
    elif part.kind in _HEADER_KINDS:
        fields, _ = header_of(part.content.lstrip(b"\n"))
        found.returned.append(Part(fields or part.fields, part.kind))
    elif part.parts:
        for inner in part.parts:
            _gather(inner, found)
    elif not top and is_header(part):
        fields, _ = header_of(part.content.lstrip(b"\n"))
        returned = Part(fields, part.kind)
        found.returned.append(returned if returned.has("message-id") or returned.has("from") else part)
    elif part.kind == "text/html":
        found.html.append(part.text())
    elif part.kind.startswith(("text/", "message/")) or top:
        found.texts.append(part.text())


# ── the status part ───────────────────────────────────────────────────────────────────────────────


def _reported(mail: Part, found: _Found, text: str, place: str, reading: Reading) -> Iterator[Item]:
    notice = notice_of(text, words(mail.first("subject")))
    answers = answers_of(text) if "#" in text or "'" in text or "’" in text or '"' in text else {}
    told = {one.address.lower(): one for one in notice.told}
    number = 0
    seen: set[Evidence] = set()
    for place_of, status in enumerate(found.statuses):
        report = report_of(status)
        returned = found.returned[min(place_of, len(found.returned) - 1)] if found.returned else None
        original = original_of(returned) if returned else Original()
        if not original.is_known:  # it stands in a text, or behind a boundary that is none
            original = original_in(notice.returned or returned_in(status))
        about = About(mail, report, original, reading, text)
        for record in report.recipients:
            item = evidence_of_record(record, about, notice, told, answers)
            if item is not None and item not in seen:  # an alias that loops reports the same many times
                number += 1
                seen.add(item)
                yield replace(item, place=_place(place, number), raw=raw_of(record))


def _place(place: str, number: int) -> str:
    return f"{place}, recipient {number}" if place else f"recipient {number}"


# ── words ─────────────────────────────────────────────────────────────────────────────────────────


def _in_words(mail: Part, found: _Found, text: str, place: str, reading: Reading) -> Iterator[Item]:
    """What a report without a status part says."""
    subject = words(mail.first("subject"))
    pasted = not mail.fields
    inline = text
    if not text and mail.has("final-recipient"):
        inline = "\n".join(f"{name}: {value}" for name, value in mail.fields)
    if mail.has("final-recipient") or mail.has("reporting-mta"):  # the status part alone, saved as a file
        inline = "\n".join(f"{name}: {value}" for name, value in mail.fields) + "\n\n" + text
    if (begins := _INLINE.search(inline)) and _INLINE_NEEDED.search(inline):
        block = re.sub(r"^[ \t>]+(?=[\w-]+[ \t]*:)", "", inline[begins.start() :], flags=re.M)
        alone = _with_status(found, inline[: begins.start()], block)
        items = list(_reported(mail, alone, inline[: begins.start()], place, reading))
        if items:
            yield from items
            return
    notice = notice_of(text, subject)
    marks = report_marks(mail, text)
    if (
        not pasted
        and marks < 2
        and not (marks and from_program(mail) and any(not t.weak for t in notice.told))
    ):
        return
    original = _original(found, notice)
    told = _told_by_servers(text) or notice.told
    named = [a for value in mail.all("x-failed-recipients") for a in _ADDRESS.findall(value[:65536])]
    if named:
        told = _completed(told, named, notice)
    own = {original.sender.lower(), *(a.lower() for a in _ADDRESS.findall(mail.first("to")))}
    others = [one for one in told if one.address.lower() not in own]
    if others and not named:
        told = others
    about = About(mail, Report(), original, reading, text)
    for number, one in enumerate(told, 1):
        yield _of_told(one, about, notice, subject, _place(place, number))


def _with_status(found: _Found, text: str, block: str) -> _Found:
    """The same mail with the status part that stands in its text."""
    returned = list(found.returned)
    if not returned:
        tail = notice_of(block).returned
        if tail:
            fields, _ = header_of(tail.lstrip("\n").encode("utf-8", "replace"))
            returned = [Part(fields, "text/rfc822-headers")]
            block = block[: len(block) - len(tail)]
    return _Found([text], [], [block], returned, found.carried)


def _original(found: _Found, notice: Notice) -> Original:
    for returned in found.returned:
        original = original_of(returned)
        if original.is_known:
            return original
    return original_in(notice.returned) if notice.returned else Original()


def _told_by_servers(text: str) -> list[Told]:
    """The recipients of Exchange's block for administrators, where the status part was lost."""
    told = []
    for address, entries in answers_of(text).items() if _ADMIN.search(text) else ():
        if address:
            first, *others = entries
            _, whole, remote = meant(first.text, "", others, "", Status.FAILED, first.remote)
            told.append(Told(address, whole, remote=remote))
    return told


def _completed(told: list[Told], named: list[str], notice: Notice) -> list[Told]:
    """The recipients that the header names, with the reasons that the text gives them."""
    by_address = {one.address.lower(): one for one in told}
    by_local = {one.address.lower().partition("@")[0]: one for one in told}
    complete: dict[str, Told] = {}
    for address in named:
        key = address.lower()
        one = by_address.get(key) or by_local.get(key.partition("@")[0])
        if one is None and len(told) == 1 == len(named):
            one = told[0]
        if one is None:
            text = " ".join(notice.text.split())[:2_000]
            one = Told(address, text)
        complete.setdefault(key, replace(one, address=address))
    for one in told:
        if not one.weak and "@" in one.address and one.original == "" and len(named) > 1:
            complete.setdefault(one.address.lower(), one)
    return list(complete.values())


def _of_told(one: Told, about: About, notice: Notice, subject: str, place: str) -> Evidence:
    status = notice.status or Status.FAILED
    if status in BAD:
        replies = replies_of(one.text)
        code = next((code for code, _ in replies if code), None)
        enhanced = chosen("", [enhanced for _, enhanced in replies if enhanced])
    else:
        code, enhanced = success_of(one.text)
    meaning = meaning_for(one.text, code, enhanced, status)
    expired = has_expired(one.text, enhanced, meaning)
    alone = len(notice.told) <= 1
    words_of = " ".join(notice.text.split())[:4096] if alone else notice.preface
    for wider in (subject, words_of) if is_vague(meaning) else ():
        better = meaning_of(wider)
        if not is_vague(better):
            meaning = better
            break
    if status is Status.FAILED and (expired or (code is None and is_expiry(words_of))):
        status = Status.EXPIRED
    return about.evidence(
        status,
        one.address,
        original_recipient=one.original if one.original.lower() != one.address.lower() else "",
        code=code,
        enhanced_code=enhanced,
        text=one.text,
        remote=one.remote or remote_of("", one.text) or remote_of("", words_of),
        meaning=meaning if status in BAD else None,
        observed_at=about.at(""),
        place=place,
        raw=notice.text[:RAW_LIMIT] or one.text[:RAW_LIMIT] or one.address,
    )


def _by_its_header(mail: Part, found: _Found, text: str, place: str, reading: Reading) -> Iterator[Item]:
    """A report that names no recipient, of a message with a single one."""
    if report_marks(mail, text) < 2:
        return
    notice = notice_of(text, words(mail.first("subject")))
    original = _original(found, notice)
    local = _LOCAL.search(notice.text)
    domain = _ADDRESS.search(mail.first("from"))
    if local and domain:
        recipient = f"{local['name']}@{domain[0].rpartition('@')[2]}"
    elif len(original.recipients) == 1:
        recipient = original.recipients[0]
    else:
        return
    told = Told(recipient, any_reply(notice.text) or " ".join(notice.text.split())[:2_000])
    about = About(mail, Report(), original, reading, text)
    yield _of_told(told, about, notice, words(mail.first("subject")), _place(place, 1))
