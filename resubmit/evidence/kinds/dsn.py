"""Delivery status notifications: bounces and delays, as RFC 3464 has them and as programs really write them.

A mail file, an mbox, the text of a report alone, or the JSON of Amazon SES (dsn_ses.py).
What is machine-readable counts first (dsn_fields.py); Exchange's block for administrators completes it
(dsn_admin.py); what has no such part is read in words (dsn_text.py). A report that was forwarded as an
attachment is read inside the mail that carries it.
Answers of people and their programs (vacation, read receipts, challenges, complaints) are no reports:
set aside with the reason.

Promises: those of evidence/base.py.
Source: RFC 3464, RFC 6533; formats.md section 7; microsoft.md section 6.
Limits: who reports is not told apart: a delay leaves open who holds the mail.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

from resubmit.evidence.base import RAW_LIMIT, Item, Reading
from resubmit.evidence.kinds.dsn_mail import NoReport, items_of, looks_like_report
from resubmit.evidence.kinds.dsn_ses import LIMIT, is_notification, items_of_json
from resubmit.evidence.mime import decoded, header_of, mails, parsed
from resubmit.model.evidence import Source, Unreadable

SOURCE = Source.DSN

_HEAD = 4_096
_OF_MAIL = frozenset(
    {
        "from",
        "to",
        "subject",
        "date",
        "message-id",
        "received",
        "return-path",
        "mime-version",
        "content-type",
        "delivered-to",
        "x-failed-recipients",
        "reporting-mta",
        "final-recipient",
        "action",
        "status",
        "diagnostic-code",
        "arrival-date",
        "original-recipient",
    }
)
_OF_OTHERS = frozenset(
    {
        "x-ms-journal-report",
        "x-ms-exchange-organization-journal-report",
        "tls-report-domain",
        "tls-report-submitter",
    }
)


def sniff(head: bytes, name: str) -> bool:
    """Whether it begins with a mail's header that is no other source's, or is a report's text."""
    first = next(mails(io.BytesIO(head)), None)
    if first is None:
        return False
    if first[1].lstrip()[:1] in (b"{", b"["):
        return is_notification(decoded(head, ""))
    fields, _ = header_of(first[1])
    names = {known for known, _ in fields}
    identity = next((value for known, value in fields if known == "message-id"), "").lower()
    if names & _OF_OTHERS or "@journal.report.generator" in identity:
        return False
    kind = next((value for known, value in fields if known == "content-type"), "").lower()
    subject = next((value for known, value in fields if known == "subject"), "").lower()
    if "tlsrpt" in kind or subject.startswith("report domain:"):
        return False
    if len(names & _OF_MAIL) >= 2:
        return True
    return looks_like_report(decoded(first[1], ""))


def read(stream: BinaryIO, reading: Reading) -> Iterator[Item]:
    """What each mail says of each recipient it reports on."""
    stream.seek(0)
    head = stream.read(_HEAD).lstrip(b"\xef\xbb\xbf \t\r\n")
    if head[:1] in (b"{", b"["):
        stream.seek(0)
        yield from _notifications(decoded(stream.read(LIMIT), ""), reading)
        return
    several = False
    number = 0
    held: tuple[int, bytes] | None = None
    for mail in mails(stream):
        number += 1
        if held is not None:
            several = True
            yield from _of_mail(held[1], number - 1, several, reading)
        held = mail
    if held is not None:
        yield from _of_mail(held[1], number, several, reading)
    else:
        yield reading.unreadable("message 1", "there is no mail in it")


def _notifications(text: str, reading: Reading) -> Iterator[Item]:
    found = False
    for item in items_of_json(text, reading):
        found = True
        yield item
    if not found:
        yield reading.unreadable("text", "no notification of a delivery is in it", text)


def _of_mail(mail: bytes, number: int, several: bool, reading: Reading) -> Iterator[Item]:
    place = f"message {number}"
    try:
        yield from items_of(parsed(mail), place if several else "", reading)
    except NoReport as reason:
        yield Unreadable(reading.name, place, str(reason), decoded(mail[:RAW_LIMIT], ""))
