"""SMTP replies and deferral reasons as a person pastes them: one a line, multi-line ones joined.

Source: RFC 5321 §4.2; microsoft.md sections 3.3 and 4.1 (the 250 2.6.0 line); Postfix's `queued as`.
Limits: a reply names no message and mostly no recipient: it is explained, it moves nothing.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from resubmit.evidence.base import RAW_LIMIT, Item, Reading
from resubmit.evidence.csvrows import encoding_of_head
from resubmit.evidence.led import parse_reason
from resubmit.meaning.classify import codes, is_expiry, layers, meaning_of
from resubmit.model.evidence import Evidence, Holder, Source, Status

SOURCE = Source.SMTP

_START = re.compile(
    r"\s*(?:Reason:\s*)?(?:[\[{\s]*\{?\s*(?:LED|LRT)\s*=|[245]\d\d(?:[ -]|$)|[245]\.\d\.\d{1,3} )"
)
_CONTINUED = re.compile(r"\s*([245]\d\d)-")
_QUEUED = re.compile(
    r"(?:(?P<id><[^>]*>) )?\[InternalId=(?P<queue>\d+), Hostname=(?P<host>[^\]]+)\] (?P<size>\d+) bytes"
)
_QUEUED_AS = re.compile(r"\bqueued as ([0-9A-Za-z]{5,24})\b", re.IGNORECASE)
_ADDRESS = re.compile(r"<([^<>\s@]+@[^<>\s@]+)>")
_LONGEST = 16_384
_MOST_LINES = 100_000


def sniff(head: bytes, name: str) -> bool:
    """Whether the first line that says anything begins with a reply code or a LED block."""
    text = head[:4096].decode(encoding_of_head(head), errors="replace").lstrip("\ufeff")
    first = next((line for line in text.splitlines() if line.strip()), "")
    return _START.match(first) is not None


def read(stream: BinaryIO, reading: Reading) -> Iterator[Item]:
    """What each reply says; lines that are none, with their number."""
    stream.seek(0)
    encoding = encoding_of_head(stream.read(4096))
    stream.seek(0)
    text = io.TextIOWrapper(stream, encoding, errors="replace")
    held: list[str] = []
    first = 0
    try:
        for number in range(1, _MOST_LINES + 1):
            line = text.readline(_LONGEST)
            if not line:
                break
            if held and _belongs(held, line):
                held.append(line)
                continue
            if held:
                yield _explained(held, f"line {first}", reading)
                held = []
            if not line.strip("\ufeff \t\r\n"):
                continue
            if _START.match(line.lstrip("\ufeff")):
                held, first = [line.lstrip("\ufeff")], number
            else:
                yield reading.unreadable(f"line {number}", "this is no SMTP reply", line.rstrip())
        if held:
            yield _explained(held, f"line {first}", reading)
    finally:
        text.detach()


def explained(text: str, reading: Reading) -> Item:
    """What a text says that somebody takes for a reply: `host … said: 550 …` too, and words without a code,
    whose meaning is said and their fate (`none`) not."""
    item = _explained([line + "\n" for line in text.splitlines()] or [text], "text", reading)
    if not isinstance(item, Evidence) or item.code is not None or item.enhanced_code:
        return item
    reply = next((layer for layer in layers(text) if layer.code or layer.enhanced), None)
    if reply is None:
        return replace(item, status=Status.NONE, holder=None)
    code = int(reply.code) if reply.code else None
    status = _status(code, reply.enhanced, text)
    return replace(item, code=code, enhanced_code=reply.enhanced, status=status, holder=_holder(status))


def _belongs(held: list[str], line: str) -> bool:
    """Whether a line goes on with the reply: after `450-`, or folded, or inside a block not yet closed."""
    if len(held) >= 100 or not line.strip():
        return False
    before = _CONTINUED.match(held[-1])
    if before and line.lstrip().startswith(before[1]):
        return True
    return line[:1] in " \t" or ("{LED=" in held[0] and "]" not in held[-1] and not _START.match(line))


def _explained(held: list[str], place: str, reading: Reading) -> Item:
    raw = "".join(held).rstrip()
    parts = [re.sub(r"^\s*[245]\d\d[- ]", "", line) if i else line for i, line in enumerate(held)]
    joined = re.sub(r"^(\s*[245]\d\d)-", r"\1 ", " ".join(part.strip() for part in parts))
    reason = parse_reason(joined)
    code, enhanced = codes(reason.text)
    status = _status(code, enhanced, reason.text)
    bad = status in (Status.DEFERRED, Status.FAILED, Status.EXPIRED)
    queued = _QUEUED.search(reason.text)
    relayed = _QUEUED_AS.search(reason.text) if status is Status.RELAYED else None
    named = _ADDRESS.search(reason.text) if bad else None
    remote = f"{reason.host} [{reason.ip}]" if reason.host and reason.ip else reason.host or reason.ip
    return Evidence(
        source=SOURCE,
        status=status,
        recipient=named[1] if named else "",
        message_id=(queued["id"] or "") if queued else "",
        queue_id=queued["queue"] if queued else relayed[1] if relayed else "",
        size=int(queued["size"][:15]) if queued else None,
        code=code,
        enhanced_code=enhanced,
        text=reason.text,
        remote=queued["host"] if queued else remote,
        holder=_holder(status),
        meaning=meaning_of(reason.text) if bad else None,
        file=reading.name,
        place=place,
        raw=raw[:RAW_LIMIT],
    )


def _status(code: int | None, enhanced: str, text: str) -> Status:
    digit = str(code)[0] if code is not None else enhanced[:1]
    if digit == "2":
        if "GRP.Expanded" in text:
            return Status.EXPANDED
        return Status.RELAYED if enhanced == "2.6.0" or re.search(r"queued", text, re.I) else Status.NONE
    if digit == "5":
        return Status.EXPIRED if is_expiry(text) else Status.FAILED
    return Status.DEFERRED


def _holder(status: Status) -> Holder | None:
    """Who has the mail: nobody beyond the one that was refused; nothing is said by a bare 2xx or 4xx."""
    if status is Status.RELAYED or status is Status.EXPANDED:
        return Holder.FAR
    return Holder.NOBODY if status in (Status.FAILED, Status.EXPIRED) else None
