"""Bytes to and from the wire that need no socket: dot stuffing, reply texts, the next hop's own ids.

Promises: pure. What comes out of the stuffer, unstuffed, is what went in, wherever the chunks begin and end.

Source: RFC 5321 §4.5.2 (transparency), §2.3.8 (line ends), §4.2 (replies).
"""

from __future__ import annotations

import re

from resubmit.model.reply import Reply

DOT = b".\r\n"
"""The end of the data, after a line's end."""

_LONGEST_TEXT = 4096  # a reply is shown and stored; more than this is no explanation any more
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class BareNewline(ValueError):
    """A CR or LF stands alone in the data: sent, it could end the message early at the next hop."""


class Stuffer:
    """Doubles the dot at the start of a line; keeps its place over chunk borders."""

    def __init__(self) -> None:
        self._at_start = True
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """The chunk as it goes out. A CR at its end is held back. BareNewline for a lone CR or LF."""
        if self._held:
            chunk = self._held + chunk
            self._held = b""
        if chunk.endswith(b"\r"):
            self._held = b"\r"
            chunk = chunk[:-1]
        if not chunk:
            return b""
        ends = chunk.count(b"\r\n")
        if chunk.count(b"\n") != ends or chunk.count(b"\r") != ends:
            raise BareNewline("a CR or LF stands alone")
        stuffed = chunk.replace(b"\r\n.", b"\r\n..")
        if self._at_start and chunk.startswith(b"."):
            stuffed = b"." + stuffed
        self._at_start = chunk.endswith(b"\r\n")
        return stuffed

    def end(self) -> bytes:
        """What has to follow before the dot: the CRLF a last line may lack. BareNewline for a last CR."""
        if self._held:
            raise BareNewline("a CR stands alone at the end")
        return b"" if self._at_start else b"\r\n"


def reply_of(code: int, text: str) -> Reply:
    """A reply whose text is fit for database, log and screen: valid Unicode, no controls but newline."""
    clean = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return Reply(code, _CONTROL.sub(" ", clean)[:_LONGEST_TEXT].strip())


# ── the next hop's own id ─────────────────────────────────────────────────────────────────────────

_EXCHANGE = re.compile(r"\[InternalId=(\d+), ?Hostname=([^\],\s]+)")
_OURS = re.compile(r"^2\.\d+\.\d+ ([0-9A-HJKMNP-TV-Z]{13}) journaled\b")
_KEYS = (
    re.compile(r"\bqueued as ([A-Za-z0-9.@_-]+)", re.IGNORECASE),  # Postfix, Haraka, many others
    re.compile(r"^(?:2\.\d+\.\d+ )?OK id=([A-Za-z0-9-]+)", re.IGNORECASE),  # Exim
    re.compile(r"^2\.0\.0 ([A-Za-z0-9]{10,20}) Message accepted for delivery"),  # Sendmail
    re.compile(r"^2\.0\.0 OK\s+\d+ ([A-Za-z0-9.-]+) - gsmtp"),  # Google
    re.compile(r"^Ok ([0-9a-f]{16}-[0-9a-f-]{30,})$", re.IGNORECASE),  # Amazon SES
    re.compile(r"\bqp (\d+)$"),  # qmail
)


def next_key(text: str) -> str | None:
    """The next hop's own id for the mail, from the text of its final 2xx.

    Exchange: `<InternalId>@<Hostname>` (the id alone counts per server). None: no known form fits.
    Source: RFC 5321 §4.2: the text is free; the forms are products' own.
    Limits: an id is unique for the hop only while it holds the mail (Postfix's short ids come again).
    """
    if found := _EXCHANGE.search(text):
        return f"{found[1]}@{found[2]}"
    if found := _OURS.search(text):
        return found[1]
    for pattern in _KEYS:
        if found := pattern.search(text):
            return found[1].rstrip(".")
    return None
