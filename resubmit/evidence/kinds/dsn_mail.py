"""One mail → what it reports of each recipient: status part first, then words, then the mail it carries.

Source: RFC 3464 §2; formats.md section 7; microsoft.md section 6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from resubmit.evidence.base import RAW_LIMIT, Item, Reading
from resubmit.evidence.kinds.dsn_admin import Answer, answers_of
from resubmit.evidence.kinds.dsn_fields import Record, Report, address_of, report_of, status_of, untyped
from resubmit.evidence.kinds.dsn_other import other_of, report_marks
from resubmit.evidence.kinds.dsn_returned import Original, is_header, original_in, original_of
from resubmit.evidence.kinds.dsn_text import (
    Notice,
    Told,
    any_reply,
    notice_of,
    replies_of,
    says,
    success_of,
)
from resubmit.evidence.mime import Part, header_of, without_marks, words
from resubmit.evidence.stamps import Culture
from resubmit.meaning.classify import is_expiry, meaning_of
from resubmit.model.evidence import Cause, Evidence, Holder, Meaning, Source, Status
from resubmit.model.moment import DAY, Ms

_DEEPEST = 6
_MOST_TEXT = 256 * 1024
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
_INLINE = re.compile(r"^[ \t>]*(?:reporting-mta|final-recipient|original-recipient)[ \t]*:", re.I | re.M)
_INLINE_NEEDED = re.compile(r"^[ \t>]*(?:final|original)-recipient[ \t]*:", re.I | re.M)
_ADDRESS = re.compile(r"[^\s<>\"(),;:\[\]]{1,128}@[^\s<>\"(),;:\[\]]{1,255}")
_SAID_BY = re.compile(
    r"\b(?:host|server|by|from) (?P<host>[\w-]+(?:\.[\w-]+)+)\.?,?\s?[\[(]+(?P<ip>[\d.:A-Fa-f]{3,45})", re.I
)
_QMAIL = re.compile(r"(?:Connected to )?(\d{1,3}(?:\.\d{1,3}){3}) (?:does not like|failed after|but )")
_TALKING_TO = re.compile(r"\bto (?P<host>[\w-]+(?:\.[\w-]+)+)\[(?P<ip>[\d.:A-Fa-f]{3,45})\]", re.I)
_EXPIRED_STATUS = re.compile(r"[45]\.4\.7")
_ADMIN = re.compile(r"['’‘\"“«]\s?[245]\d\d[ -][245]\.\d|##|#SMTP#")
_VAGUE = re.compile(r"[245]\.\d\.0")
"""Codes that name a field of trouble and no trouble (RFC 3463: x.y.0 is "other")."""
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
    "deliverable": Status.DELIVERED,
    "delivery": Status.DELIVERED,
    "relayed": Status.RELAYED,
    "relay": Status.RELAYED,
    "expanded": Status.EXPANDED,
}
_SAY_NOTHING = (Cause.EXPIRED, Cause.OTHER)
"""Causes behind which there may be another."""
_BAD = frozenset({Status.DEFERRED, Status.FAILED, Status.EXPIRED})


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
    items = list(_reported(mail, found, text, place, reading)) if found.statuses else []
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
    if re.match(
        r"\s*(?:[A-Z][a-z]{2} [ \d]\d \d\d:|\d{4}-\d\d-\d\d|[#{\[]|[245]\d\d[ -]|[245]\.\d\.\d)", text
    ):
        return False
    if _INLINE_NEEDED.search(text):
        return True
    return says("report", "text", text) and bool(notice_of(text).told)


def _gather(part: Part, found: _Found, *, top: bool = False) -> None:
    if part.kind in _STATUS_KINDS:
        found.statuses.append(part.text())
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
    for place_of, status in enumerate(found.statuses):
        report = report_of(status)
        returned = found.returned[min(place_of, len(found.returned) - 1)] if found.returned else None
        original = original_of(returned) if returned else original_in(notice.returned)
        if returned and not original.is_known and notice.returned:
            original = original_in(notice.returned)
        about = _About(mail, report, original, reading)
        for record in report.recipients:
            number += 1
            item = _of_record(record, about, notice, told, answers)
            if item is not None:
                yield replace(item, place=_place(place, number), raw=_raw(record))


def _place(place: str, number: int) -> str:
    return f"{place}, recipient {number}" if place else f"recipient {number}"


def _raw(record: Record) -> str:
    return "\n".join(f"{name}: {value}" for name, value in record.fields.items())[:RAW_LIMIT]


def _of_record(
    record: Record,
    about: _About,
    notice: Notice,
    told: dict[str, Told],
    answers: dict[str, list[Answer]],
) -> Evidence | None:
    final, original = address_of(record.fields.get("final-recipient", "")), ""
    original = address_of(record.fields.get("original-recipient", ""))
    recipient = final
    if original and ("@" not in final or final.upper().startswith(("IMCEA", "X400"))):
        recipient = original
    if not recipient and len(told) == 1:
        recipient = next(iter(told.values())).address
    actual = address_of(record.fields.get("x-actual-recipient", ""))
    if "@" not in recipient and "@" in actual:
        recipient = actual
    if not recipient:
        return None
    said = told.get(recipient.lower()) or told.get(original.lower())
    if said is None and len(told) == 1 and len(about.report.recipients) == 1:
        said = next(iter(told.values()))
    entries = answers.get(recipient.lower()) or answers.get(original.lower()) or answers.get("") or []
    if not entries and len(answers) == 1 and len(about.report.recipients) == 1:
        entries = next(iter(answers.values()))
    diagnostic = record.get("diagnostic-code") or record.get("x-supplementary-info")
    if not re.search(r"[^\W\d_]{2}", diagnostic) and (said is not None or entries):
        diagnostic = ""  # `x-unix; 77` is an exit status
    extra = untyped(record.fields.get("status", ""))
    text, remote = diagnostic, ""
    if not text and entries:
        text, remote = entries[0].text, entries[0].remote
    if not text and said is not None:
        text = said.text
    if not text and len(about.report.recipients) == 1:
        text = any_reply(notice.text)
    if not text and re.search(r"[^\W\d_]{4}", extra):
        text = extra
    status = _action(record, notice)
    code, enhanced = _codes(record, text, status)
    meaning, text, remote = _meant(text, enhanced, entries, said.text if said else "", status, remote)
    if status is Status.FAILED and (
        is_expiry(text, enhanced=enhanced) or _EXPIRED_STATUS.fullmatch(enhanced)
    ):
        status = Status.EXPIRED
    return about.evidence(
        status,
        recipient,
        original_recipient=original if original.lower() != recipient.lower() else "",
        code=code,
        enhanced_code=enhanced,
        text=text,
        remote=_remote(record.get("remote-mta"), text) or remote or about.reporter,
        meaning=meaning if status in _BAD else None,
        observed_at=about.at(record.get("last-attempt-date")),
        log_id=record.get("final-log-id"),
    )


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
    if status not in _BAD:
        code, enhanced = success_of(text)
        return code, stated or enhanced
    replies = replies_of(text)
    code = next((code for code, _ in replies if code), None)
    if code is None and (found := re.match(r"\s*([45]\d\d)\b", record.fields.get("status", ""))):
        code = int(found[1])
    told = [enhanced for _, enhanced in replies if enhanced]
    chosen = _chosen(stated, told)
    if chosen != stated:
        code = next((code for code, enhanced in replies if code and enhanced == chosen), code)
    return code, chosen


def _chosen(stated: str, told: list[str]) -> str:
    """Which enhanced code counts: that of the report, or one of its reply's."""
    exact = [one for one in told if not _VAGUE.fullmatch(one) and not _EXPIRED_STATUS.fullmatch(one)]
    if not stated:
        return exact[0] if exact else (told[0] if told else "")
    if _VAGUE.fullmatch(stated) or _EXPIRED_STATUS.fullmatch(stated):
        if exact:
            return exact[-1]
        better = [one for one in told if not one.endswith(".0.0")]
        return better[0] if better and stated not in better else stated
    return stated if stated in told or not exact else exact[0]


def _meant(
    text: str, enhanced: str, entries: list[Answer], said: str, status: Status, remote: str
) -> tuple[Meaning, str, str]:
    """What the diagnostic text means; where it says no more than that time ran out, the text is completed by
    what the servers answered before, or what the words say."""
    meaning = meaning_of(text, enhanced=enhanced)
    says_when = meaning.cause in _SAY_NOTHING or is_expiry(text, enhanced=enhanced)
    if status not in _BAD or not says_when:
        return meaning, text, remote
    flat = _key(text)
    for entry in entries:
        if _key(entry.text) in flat:
            continue
        better = meaning_of(entry.text)
        if better.cause not in _SAY_NOTHING or not text:
            return better, (f"{text}; {entry.text}" if text else entry.text), entry.remote or remote
    if said and meaning.cause in _SAY_NOTHING and _key(said) not in flat:
        better = meaning_of(said)
        if better.cause not in _SAY_NOTHING:
            return better, (f"{text}; {said}" if text else said)[:4096], remote
    return meaning, text, remote


def _key(text: str) -> str:
    return re.sub(r"\W+", "", text).lower()


def _remote(field_value: str, text: str) -> str:
    """The host that answered: of Remote-MTA, else the one the text names."""
    told = re.sub(r"\s*\((?:tcp|smtp|esmtp)[^()]*\).*", "", field_value.strip(), flags=re.IGNORECASE)
    if told := told.strip("<> ").rstrip("."):
        return told[:255]
    shown = text[:4096]
    if found := _SAID_BY.search(shown) or _TALKING_TO.search(shown):
        return f"{found['host']} [{found['ip']}]"
    found = _QMAIL.match(shown)
    return found[1] if found else ""


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
        alone = replace_texts(found, inline[: begins.start()], block)
        items = list(_reported(mail, alone, inline[: begins.start()], place, reading))
        if items:
            yield from items
            return
    if not pasted and report_marks(mail, text) < 2:
        return
    notice = notice_of(text, subject)
    original = _original(found, notice)
    told = _told_by_servers(text) or notice.told
    named = [a for value in mail.all("x-failed-recipients") for a in _ADDRESS.findall(value[:65536])]
    if named:
        told = _completed(told, named, notice)
    own = {original.sender.lower(), *(a.lower() for a in _ADDRESS.findall(mail.first("to")))}
    others = [one for one in told if one.address.lower() not in own]
    if others and not named:
        told = others
    about = _About(mail, Report(), original, reading)
    for number, one in enumerate(told, 1):
        yield _of_told(one, about, notice, subject, _place(place, number))


def replace_texts(found: _Found, text: str, block: str) -> _Found:
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
            _, whole, _ = _meant(first.text, "", others, "", Status.FAILED, "")
            told.append(Told(address, whole))
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


def _of_told(one: Told, about: _About, notice: Notice, subject: str, place: str) -> Evidence:
    status = notice.status or Status.FAILED
    if status in _BAD:
        replies = replies_of(one.text)
        code = next((code for code, _ in replies if code), None)
        enhanced = _chosen("", [enhanced for _, enhanced in replies if enhanced])
    else:
        code, enhanced = success_of(one.text)
    meaning = meaning_of(one.text, code=code, enhanced=enhanced)
    alone = len(notice.told) <= 1
    words_of = " ".join(notice.text.split())[:4096] if alone else ""
    for wider in (subject, words_of) if meaning.cause in _SAY_NOTHING else ():
        better = meaning_of(wider, code=code, enhanced=enhanced)
        if better.cause not in _SAY_NOTHING:
            meaning = better
            break
    if status is Status.FAILED and (
        is_expiry(one.text, enhanced=enhanced) or (code is None and is_expiry(words_of))
    ):
        status = Status.EXPIRED
    return about.evidence(
        status,
        one.address,
        original_recipient=one.original if one.original.lower() != one.address.lower() else "",
        code=code,
        enhanced_code=enhanced,
        text=one.text,
        remote=_remote("", one.text) or _remote("", words_of),
        meaning=meaning if status in _BAD else None,
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
    if len(original.recipients) != 1:
        return
    reply = notice_of(text).told
    told = Told(original.recipients[0], reply[0].text if reply else " ".join(notice.text.split())[:2_000])
    about = _About(mail, Report(), original, reading)
    yield _of_told(told, about, notice, words(mail.first("subject")), _place(place, 1))


# ── both ──────────────────────────────────────────────────────────────────────────────────────────


class _About:
    """What is the same for every recipient of one report."""

    def __init__(self, mail: Part, report: Report, original: Original, reading: Reading) -> None:
        self.report = report
        self.reporter = _remote(report.get("reporting-mta"), "")
        self._original = original
        self._reading = reading
        self._culture = Culture(reading.timezone)
        self._sent_at = self._time(mail.first("date")) or self._received_last(mail)
        self._received_at = self._time(report.get("arrival-date"))
        if self._received_at and self._sent_at and self._received_at > self._sent_at + DAY:
            self._received_at = None
        own = report.get("original-envelope-id")
        self._envelope_id = own
        if original.attempt and original.attempt not in own.upper():
            self._envelope_id = original.attempt
        told = report.get("x-original-message-id") or report.get("original-message-id")
        reference = mail.first("x-original-message-id") or mail.first("in-reply-to")
        self._message_id = original.message_id or told or _id_in(reference)
        sender = _ADDRESS.search(report.get("x-postfix-sender")) or _ADDRESS.search(original.sender)
        sender = sender or _ADDRESS.search(mail.first("to"))
        self._sender = sender[0] if sender else ""
        self._queue_id = report.get("x-postfix-queue-id")

    def _received_last(self, mail: Part) -> Ms | None:
        return self._time(mail.first("received").rpartition(";")[2])

    def _time(self, text: str) -> Ms | None:
        clean = re.sub(r"\([^()]*\)", " ", text).strip()
        if not clean:
            return None
        clean = re.sub(r"\b(?:GMT|UT)\b", "UTC", clean)
        for name, offset in _ZONES.items():
            clean = re.sub(rf"\b{name}$", offset, clean)
        try:
            at = self._culture.parse(re.sub(r"^[A-Za-z]{3,9}[.,]+\s*", "", clean))
        except ValueError:
            return None
        return at if self._reading.now is None or at <= self._reading.now + DAY else None

    def at(self, last_attempt: str) -> Ms | None:
        """When it happened: the last attempt's time, else the report's own."""
        at = self._time(last_attempt)
        if at is not None and (self._sent_at is None or at <= self._sent_at + DAY):
            return at
        return self._sent_at

    def evidence(
        self,
        status: Status,
        recipient: str,
        *,
        original_recipient: str,
        code: int | None,
        enhanced_code: str,
        text: str,
        remote: str,
        meaning: Meaning | None,
        observed_at: Ms | None,
        log_id: str = "",
        place: str = "",
        raw: str = "",
    ) -> Evidence:
        """One recipient's evidence."""
        return Evidence(
            source=Source.DSN,
            status=status,
            recipient=recipient,
            original_recipient=original_recipient,
            observed_at=observed_at,
            received_at=self._received_at,
            message_id=self._message_id,
            network_message_id=self._original.network_message_id,
            envelope_id=self._envelope_id,
            queue_id=self._queue_id or log_id,
            sender=self._sender,
            subject=self._original.subject,
            code=code,
            enhanced_code=enhanced_code,
            text=text,
            remote=remote,
            holder=_holder(status),
            meaning=meaning,
            file=self._reading.name,
            place=place,
            raw=raw,
        )


_ZONES = {
    "EST": "-0500",
    "EDT": "-0400",
    "CST": "-0600",
    "CDT": "-0500",
    "MST": "-0700",
    "MDT": "-0600",
    "PST": "-0800",
    "PDT": "-0700",
    "JST": "+0900",
}
"""RFC 5322 §4.3's, and the one that Japanese servers write."""


def _id_in(text: str) -> str:
    found = re.search(r"<[^<>\s]+>", text)
    return found[0] if found else ""


def _holder(status: Status) -> Holder | None:
    """Nobody has what was given up; what is delayed is with whoever reports, which the report leaves open."""
    if status in (Status.FAILED, Status.EXPIRED):
        return Holder.NOBODY
    return None if status is Status.DEFERRED else Holder.FAR
