"""What every recipient of one report has in common: which mail it is about, when, and who tells.

Source: RFC 3464 §2.2; RFC 5322 §3.3, §4.3.
"""

from __future__ import annotations

import re

from resubmit.evidence.base import Reading
from resubmit.evidence.kinds.dsn_dialects import says
from resubmit.evidence.kinds.dsn_fields import Report
from resubmit.evidence.kinds.dsn_other import from_program
from resubmit.evidence.kinds.dsn_returned import Original
from resubmit.evidence.mime import Part, words
from resubmit.evidence.stamps import Culture
from resubmit.meaning.classify import is_expiry
from resubmit.model.evidence import Evidence, Holder, Meaning, Source, Status
from resubmit.model.moment import DAY, Ms

_ADDRESS = re.compile(r"[^\s<>\"(),;:\[\]]{1,128}@[^\s<>\"(),;:\[\]]{1,255}")
_SAID_BY = re.compile(
    r"\b(?:host|server|by|from) (?P<host>[\w-]+(?:\.[\w-]+)+)\.?,?\s?[\[(]+(?P<ip>[\d.:A-Fa-f]{3,45})", re.I
)
_LONGEST = 8_192
_RECEIVED = re.compile(r"original message was received (?:at|on) ([A-Z][^\n]{10,60})")
"""Sendmail's and Courier's words."""
_IN_FRONT = re.compile(
    r"(?:.{0,40}\bH=)?(?P<host>[\w-]+(?:\.[\w-]+)+) \[(?P<ip>[\d.:A-Fa-f]{3,45})\](?: did not like|:| said)"
)
_QMAIL = re.compile(r"(?:Connected to )?(\d{1,3}(?:\.\d{1,3}){3}) (?:does not like|failed after|but )")
_TALKING_TO = re.compile(r"\bto (?P<host>[\w-]+(?:\.[\w-]+)+)\[(?P<ip>[\d.:A-Fa-f]{3,45})\]", re.I)


class About:
    """What is the same for every recipient of one report."""

    def __init__(
        self, mail: Part, report: Report, original: Original, reading: Reading, text: str = ""
    ) -> None:
        self.report = report
        self.gave_up_waiting = is_expiry(words(mail.first("subject")))
        self.named = [a for value in mail.all("x-failed-recipients") for a in _ADDRESS.findall(value[:65536])]
        self.reporter = remote_of(report.get("reporting-mta"), "")
        self._original = original
        self._reading = reading
        self._culture = Culture(reading.timezone)
        self._sent_at = self._time(mail.first("date")) or self._received_last(mail)
        told = _RECEIVED.search(text[:8192])
        arrivals = (report.get("arrival-date"), told[1] if told else "", original.received)
        # What reports took the mail at its Arrival-Date, else where its own Received field says so.
        self._received_at = next((at for text in arrivals if (at := self._time(text)) is not None), None)
        if self._received_at and self._sent_at and self._received_at > self._sent_at + DAY:
            self._received_at = None
        own = report.get("original-envelope-id")
        self._envelope_id = own
        if original.attempt and original.attempt not in own.upper():
            self._envelope_id = original.attempt
        named = report.get("x-original-message-id") or report.get("original-message-id")
        reference = mail.first("x-original-message-id") or mail.first("in-reply-to")
        if from_program(mail):  # what a person forwards refers to the report itself
            reference = reference or mail.first("references").rpartition(" ")[2]
        self._message_id = original.message_id or named or _id_in(reference)
        sender = _ADDRESS.search(report.get("x-postfix-sender")) or _ADDRESS.search(original.sender)
        if sender is None and says("report", "from", words(mail.first("from"))):
            sender = _ADDRESS.search(mail.first("to"))  # a report goes to whom the mail came from
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
            text=" ".join(text[:_LONGEST].split()),
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
    return None if status in (Status.DEFERRED, Status.NONE) else Holder.FAR


def remote_of(field_value: str, text: str) -> str:
    """The host that answered: of Remote-MTA, else the one the text names."""
    told = re.sub(r"\s*\((?:tcp|smtp|esmtp)[^()]*\).*", "", field_value.strip(), flags=re.IGNORECASE)
    told = re.sub(r"\.?\s*\(([\d.:A-Fa-f]{3,45}), [^()]*\)", r" [\1]", told)  # as Google has it
    if told := told.strip("<> ").rstrip("."):
        return told[:255]
    shown = text[:4096]
    if found := _SAID_BY.search(shown) or _TALKING_TO.search(shown) or _IN_FRONT.match(shown):
        return f"{found['host']} [{found['ip']}]"
    found = _QMAIL.match(shown)
    return found[1] if found else ""
