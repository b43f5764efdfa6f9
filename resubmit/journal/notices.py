"""Notices owed to senders: a recipient's row owes one until the message that tells of it is journaled."""

from __future__ import annotations

from collections.abc import Sequence

from resubmit.journal import moves
from resubmit.journal.codec import read_words
from resubmit.journal.connection import sqlite3
from resubmit.journal.verbs import OwedNotice
from resubmit.model.moment import Ms
from resubmit.model.recipient import RecipientKey

_OWED = """
select r.message, r.n, r.notice, r.address, r.parameters, a.code, coalesce(a.enhanced, ''),
    coalesce(a.reply, ''), coalesce(o.remote, ''), r.attempt
from recipient r
left join attempt a on a.message = r.message and a.n = r.n and a.no = r.attempt
left join offer o on o.id = a.offer
where r.notice is not null
order by r.message, r.n
limit ?
"""

_FORGET = """
update recipient
set notice = null
where message = ? and n = ? and notice is not null
"""


def owed(connection: sqlite3.Connection, limit: int) -> list[OwedNotice]:
    """Up to `limit` notices that senders are owed, by message; each with its recipient's last reply."""
    return [
        OwedNotice(RecipientKey(message, n), kind, address, read_words(parameters), *rest)
        for message, n, kind, address, parameters, *rest in connection.execute(_OWED, (limit,))
    ]


def forget(connection: sqlite3.Connection, keys: Sequence[RecipientKey], at: Ms, why: str) -> int:
    """No notice is owed for these any more; history says why. Returns for how many one was."""
    count = 0
    for key in keys:
        if connection.execute(_FORGET, (key.message, key.n)).rowcount == 1:
            row = moves.find(connection, key.message, key.n)
            assert row is not None
            moves.tell(connection, key.message, key.n, at, "notice_settled", row, row.state, why)
            count += 1
    return count
