"""The header block, read as it streams past.

Promises: never raises; holds at most HEADER_LIMIT octets; what was not missing goes on octet for octet.
Fields are cut from the octets by our own patterns, because `email.policy.default` fails on Message-IDs as
Exchange writes them (`<[guid]@host>`) and a deep structure makes it raise RecursionError.

Source: RFC 5322 §3.6 (fields), RFC 6409 §8 (a submission server may add Date and Message-ID),
RFC 2047 (encoded words).
Limits: a block longer than HEADER_LIMIT is read up to there, and nothing is added to it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass

from resubmit.model.ids import parse_attempt_key
from resubmit.model.message import Heading, message_id_of

HEADER_LIMIT = 256 * 1024
TEXT_LIMIT = 1000
"""Characters kept of a Message-ID, a subject or a date."""

_BLOCK = re.compile(
    rb"(?:>?From [^\n]*+\n)?+"  # left over from an mbox file
    rb"(?:[!-9;-~]++[ \t]*+:[^\n]*+\n(?:[ \t][^\n]*+\n)*+)*+"
)
_BEGUN = re.compile(rb"(?:[!-9;-~]++[ \t]*+(?::[^\n]*+)?)?")
_FIELD = re.compile(
    rb"^(message-id|subject|date|received)[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)", re.IGNORECASE | re.MULTILINE
)
_ENCODED = re.compile(r"=\?([^?\s*]{1,60})(?:\*[^?\s]*)?\?([bBqQ])\?([^?]*)\?=")
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")
_BETWEEN = re.compile(r"(\?=)\s+(?==\?)")
# Control characters, line separators, and marks that turn the direction of what follows on a screen.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]+")
_OUR_ID = re.compile(r"\bid\s+([0-9A-HJKMNP-TV-Z]{13}\.\d{1,5})(?![\w.])")
_OUR_MAC = re.compile(r"\(resubmit\s+([0-9a-f]{32})\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Supplement:
    """What a message gets that lacks it: a Message-ID with its brackets, a date (RFC 5322 §3.3)."""

    message_id: str
    date: str


class HeadingReader:
    """Reads one message. `supply` is asked once, and only when something is missing."""

    def __init__(self, supply: Callable[[], Supplement]) -> None:
        self._supply = supply
        self._held = b""
        self._passing = False
        self.heading = Heading("", "", "")
        self.hops = 0
        self.traces: tuple[tuple[int, int, str], ...] = ()

    def feed(self, chunk: bytes) -> bytes:
        """What is to be kept of the message so far: nothing while its header goes on."""
        if self._passing:
            return chunk
        if self._held:
            start = max(0, len(self._held) - 3)
            self._held += chunk
        else:
            start = 0
            self._held = chunk
        held = self._held
        end = held.find(b"\r\n\r\n", start)
        if end < 0 and not (held.startswith(b"\r\n") or len(held) > HEADER_LIMIT):
            return b""
        return self._decide(end)

    def finish(self) -> bytes:
        """The rest of what is to be kept; now `heading`, `hops` and `traces` are what they are."""
        return b"" if self._passing else self._decide(-1)

    def _decide(self, end: int) -> bytes:
        octets, self._held = self._held, b""
        self._passing = True
        if end > HEADER_LIMIT:  # what is seen must not depend on how the octets were cut
            end = -1
        # The block ends at an empty line, or before a line that is no field.
        block_end = end + 2 if end >= 0 and not octets.startswith(b"\r\n") else min(len(octets), HEADER_LIMIT)
        matched = _BLOCK.match(octets, 0, block_end)
        block = octets[: matched.end()] if matched else b""
        missing_id, missing_date = self._read(block)
        if not (missing_id or missing_date):
            return octets
        if end < 0 and len(octets) > HEADER_LIMIT and _goes_on(octets[len(block) : block_end], block):
            return octets  # beyond the limit there may be more fields: what is not known to be missing stays
        supplement = self._supply()
        top = f"Message-ID: {supplement.message_id}\r\n" if missing_id else ""
        top += f"Date: {supplement.date}\r\n" if missing_date else ""
        self.heading = Heading(
            supplement.message_id if missing_id else self.heading.message_id,
            self.heading.subject,
            supplement.date if missing_date else self.heading.date,
        )
        if not block and not octets.startswith(b"\r\n"):
            top += "\r\n"  # only a body: its first line must not be taken for a field
        return top.encode("ascii", "replace") + octets

    def _read(self, block: bytes) -> tuple[bool, bool]:
        """Takes from the block what is wanted; says whether Message-ID and Date are missing."""
        found: dict[bytes, bytes] = {}
        traces: list[tuple[int, int, str]] = []
        for field in _FIELD.finditer(block):
            name = field[1].lower()
            if name == b"received":
                self.hops += 1
                if b"resubmit" in field[2]:
                    traces += _trace(field[2])
            elif name not in found:  # the first one wins
                found[name] = field[2]
        self.traces = tuple(traces)
        self.heading = Heading(
            clean(message_id_of(_text(found.get(b"message-id", b"")))),
            decode_words(_text(found.get(b"subject", b""))),
            clean(_text(found.get(b"date", b""))),
        )
        return b"message-id" not in found, b"date" not in found


def _goes_on(rest: bytes, block: bytes) -> bool:
    """The block was cut by the limit, not by a line that is no field."""
    return b"\n" not in rest and bool((block and rest[:1] in (b" ", b"\t")) or _BEGUN.fullmatch(rest))


def _trace(body: bytes) -> list[tuple[int, int, str]]:
    """Our own trace in a Received field, in whatever way it was folded on its way."""
    text = _text(body)
    mac = _OUR_MAC.search(text)
    key = _OUR_ID.search(text)
    attempt = parse_attempt_key(key[1]) if key else None
    return [(*attempt, mac[1].lower())] if attempt and mac else []


def _text(body: bytes) -> str:
    """A field body as text, unfolded (RFC 5322 §2.2.3), bounded before anything is made of it."""
    return body[: 4 * TEXT_LIMIT].decode("utf-8", "replace").replace("\r\n", "")


def clean(text: str) -> str:
    """A text that can be shown on one line and stored: no controls, no lone surrogates, bounded."""
    text = " ".join(_UNSEEN.sub(" ", text).split())[:TEXT_LIMIT]
    return text.encode("utf-8", "replace").decode()


def decode_words(text: str) -> str:
    """A field body with its encoded words decoded, as far as they can be; never raises.

    Adjacent words of one charset are joined before decoding, because some clients cut characters in two
    (RFC 2047 §5 forbids it).
    """
    if "=?" not in text:
        return clean(text)
    text = _BETWEEN.sub(r"\1", text)
    parts: list[str] = []
    charset, octets, at = "", b"", 0
    for word in _ENCODED.finditer(text):
        if octets and (word.start() > at or word[1].lower() != charset):
            parts.append(_decode(octets, charset))
            octets = b""
        parts.append(text[at : word.start()])
        charset = word[1].lower()
        octets += _octets(word[2], word[3])
        at = word.end()
    parts.append(_decode(octets, charset))
    parts.append(text[at:])
    return clean("".join(parts))


def _octets(encoding: str, text: str) -> bytes:
    if encoding in "qQ":
        return _HEX.sub(lambda found: bytes([int(found[1], 16)]), text.replace("_", " ").encode())
    letters = re.sub(r"[^A-Za-z0-9+/]", "", text)
    try:
        return base64.b64decode(letters + "=" * (-len(letters) % 4))
    except binascii.Error:  # one letter too many: no octet is lost with it
        return base64.b64decode(letters[:-1])


def _decode(octets: bytes, charset: str) -> str:
    try:
        return octets.decode(charset, "replace")
    except (LookupError, ValueError):  # no such charset, or one that is none (`undefined`, `hex`)
        return octets.decode("utf-8", "replace")
