"""A message's envelope as it was given: what stands nowhere in its bytes."""

from __future__ import annotations

from dataclasses import dataclass

from resubmit.journal.codec import read_words
from resubmit.journal.connection import sqlite3
from resubmit.journal.readers.reading import reading


@dataclass(frozen=True, slots=True)
class EnvelopeView:
    """The sender with MAIL's parameters, and of each recipient's number the address with RCPT's."""

    sender: str
    parameters: tuple[str, ...]
    recipients: dict[int, tuple[str, tuple[str, ...]]]


def envelope(conn: sqlite3.Connection, message: int) -> EnvelopeView | None:
    """The envelope of a message, None when there is no such message."""
    with reading():
        row = conn.execute("select sender, parameters from message where id = ?", [message]).fetchone()
        if row is None:
            return None
        found = conn.execute(
            "select n, address, parameters from recipient where message = ? order by n", [message]
        ).fetchall()
    recipients = {n: (address, read_words(parameters)) for n, address, parameters in found}
    return EnvelopeView(row[0], read_words(row[1]), recipients)
