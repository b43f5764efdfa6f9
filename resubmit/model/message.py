"""A message's bytes and what is read off its header.

Source: RFC 5322 §3.6. The bytes are those that are sent again: never changed after journaling.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

INLINE_LIMIT = 128 * 1024
"""Bodies up to this many octets live in the database, larger ones in a file each (journal facts §1)."""

_MESSAGE_ID = re.compile(r"<[^<>\s]+>")


@dataclass(frozen=True, slots=True)
class Body:
    """A message as journaled. Either `octets` or `file` (a name in the journal's bodies folder) is set.

    `digest` is SHA-256 of the bytes; `size` counts octets.
    """

    size: int
    digest: bytes
    octets: bytes | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Heading:
    """What the journal keeps of a header block: texts as found, decoded for search, cleaned of controls."""

    message_id: str
    subject: str
    date: str


def message_id_of(text: str) -> str:
    """The Message-ID in a field body, folded lines joined, with its angle brackets; the stripped text when
    it has none (Exchange makes `<[guid]@host>`, some senders no brackets)."""
    joined = "".join(text.split())
    found = _MESSAGE_ID.search(joined)
    return found[0] if found else joined


def message_key(message_id: str) -> str:
    """A Message-ID as it is compared: no blanks, brackets or case."""
    return "".join(message_id.split()).strip("<>").lower()
