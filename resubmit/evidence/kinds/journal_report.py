"""Journal reports: what Exchange tells of a mail it took, and to whom it really goes.

A mail whose first part lists the sender, the subject, the Message-ID and every recipient, with the original
attached. It is written before delivery: it proves that the mail was taken, never that it arrived. Each
recipient is one item of status `none`; one that came out of a group names it, and where the report knows
Exchange's own id of the mail the group is told to be expanded. Several reports about one mail are normal.

Promises: those of evidence/base.py.
Source: [MS-XJRNL] §2.1; formats.md section 6.
Limits: an address that is an X.500 name is shown as it stands; translated labels are not known (Exchange
writes the English ones, whatever its language).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from resubmit.evidence.base import RAW_LIMIT, Item, Reading
from resubmit.evidence.kinds.dsn_returned import original_of
from resubmit.evidence.mime import Part, header_of, mails, parsed
from resubmit.evidence.stamps import Culture
from resubmit.model.evidence import Evidence, Holder, Source, Status
from resubmit.model.message import message_id_of
from resubmit.model.moment import Ms

SOURCE = Source.JOURNAL_REPORT

_FIELDS = frozenset({"x-ms-journal-report", "x-ms-exchange-organization-journal-report"})
_GENERATOR = "@journal.report.generator"
_LINE = re.compile(r"([A-Za-z][A-Za-z-]{0,30})[ \t]*:[ \t]*(.*)")
_TARGETS = frozenset({"to", "cc", "bcc", "recipient"})
_VIA = re.compile(r"(?:,\s*|\s+)(Expanded|Forwarded)\s*:\s*(.+)$", re.IGNORECASE)
_MOST_LINES = 100_000


def sniff(head: bytes, name: str) -> bool:
    """Whether it begins with the header of a journal report."""
    first = next(mails(io.BytesIO(head)), None)
    if first is None:
        return False
    fields, _ = header_of(first[1])
    names = {known for known, _ in fields}
    if names & _FIELDS:
        return True
    identity = next((value for known, value in fields if known == "message-id"), "")
    return len(names) >= 3 and _GENERATOR in identity.lower()


def read(stream: BinaryIO, reading: Reading) -> Iterator[Item]:
    """What each report says of each recipient, in its order."""
    for line, mail in mails(stream):
        place = f"line {line}"
        report = parsed(mail)
        listed = _list_of(report)
        if listed is None:
            yield reading.unreadable(
                place,
                "a journal report without its list of recipients",
                mail[:RAW_LIMIT].decode("utf-8", "replace"),
            )
            continue
        yield from _items(report, listed, place, reading)


def _list_of(part: Part) -> str | None:
    """The text that lists the recipients: the first part that has such lines."""
    if part.kind == "message/rfc822":
        return None  # the original, which may itself be a report
    if part.parts:
        return next((text for inner in part.parts if (text := _list_of(inner)) is not None), None)
    if not part.kind.startswith("text/"):
        return None
    text = part.text()
    names = {found[1].lower() for line in text.split("\n", 200)[:200] if (found := _LINE.match(line))}
    return text if "sender" in names and names & (_TARGETS | {"message-id"}) else None


def _items(report: Part, text: str, place: str, reading: Reading) -> Iterator[Item]:
    sender = subject = message_id = ""
    targets: list[tuple[int, str, str]] = []
    for number, line in enumerate(text.split("\n", _MOST_LINES)[:_MOST_LINES], 1):
        if (found := _LINE.match(line)) is None:
            continue
        name, value = found[1].lower(), found[2].strip()
        if name == "sender" and not sender:
            sender = _address(value)
        elif name == "subject" and not subject:
            subject = value[:1000]
        elif name == "message-id" and not message_id:
            message_id = message_id_of(value)
        elif name in _TARGETS and value:
            targets.append((number, line, value))
    inner = next((part for part in _within(report) if part.parts), None)
    original = original_of(inner.parts[0]) if inner is not None else original_of(Part((), "text/plain"))
    base = Evidence(
        SOURCE,
        Status.NONE,
        observed_at=_moment(report.first("date"), reading),
        message_id=message_id or original.message_id,
        network_message_id=original.network_message_id,
        envelope_id=original.attempt,
        sender=sender,
        subject=subject,
        holder=Holder.FAR,
        file=reading.name,
    )
    if not targets:
        yield reading.unreadable(place, "a journal report that names no recipient", text[:RAW_LIMIT])
        return
    told: set[str] = set()
    for number, line, value in targets:
        via = _VIA.search(value)
        address = _address(value[: via.start()] if via else value)
        before = _address(via[2]) if via else ""
        here = replace(
            base, recipient=address, place=f"{place}, line {number} of its list", raw=line[:RAW_LIMIT]
        )
        if via and via[1].lower() == "expanded":
            # Without Exchange's id the members can't be followed, and a group is not settled by its name.
            if before.lower() not in told and base.network_message_id:
                told.add(before.lower())
                yield replace(here, recipient=before, status=Status.EXPANDED)
            yield replace(here, group=before)
        else:
            yield replace(here, original_recipient=before)


def _within(part: Part) -> Iterator[Part]:
    """The attached mails of a report, not those inside them."""
    for inner in part.parts:
        if inner.kind in ("message/rfc822", "message/global"):
            yield inner
        else:
            yield from _within(inner)


def _address(value: str) -> str:
    value = value.strip()
    if value.startswith("<") and value.endswith(">"):
        value = value[1:-1].strip()
    return value[:1000]


def _moment(value: str, reading: Reading) -> Ms | None:
    try:
        return Culture(reading.timezone).parse(value)
    except ValueError:
        return None
