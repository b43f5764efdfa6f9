"""Recipients that are sent again beside the one that was delivered: a mailbox server was lost.

Promises: the new recipient, its place in the job, the word in both histories and the audit are one commit, so
that a crash makes it once or not at all; the delivered one stays delivered, with its attempts and evidence.
Nobody is made anew whom another replay has sent again already.
Source: design, section 3 rule 1; section 6.1 (`--include-delivered`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from resubmit.journal import gates, mail, moves
from resubmit.journal.codec import read_words
from resubmit.journal.connection import sqlite3
from resubmit.journal.readers.replayable import SENT_AGAIN
from resubmit.journal.verbs import ArrivingRecipient, AuditRow
from resubmit.model.ids import id_text
from resubmit.model.moment import Ms
from resubmit.model.recipient import RecipientKey, State

_DELIVERED = f"""
select r.address, r.parameters, r.destination, r.route, r.derived_from
from recipient r
join message m on m.id = r.message
where r.message = ? and r.n = ? and r.state = '{State.DELIVERED}' and m.body_kept = 1 and not {SENT_AGAIN}
"""  # noqa: S608

_JOB = "select asked_by, reason from job where id = ? and state in ('waiting', 'running')"

_IN_ITS_LANE = "update recipient set lane = 1 where message = ? and n = ?"

_ITEM_SKIPPED = """
update job_item
set state = 'skipped'
where job = ? and message = ? and n = ? and state = 'waiting'
"""

_ITEM_IS_NOW = """
update job_item
set n = ?
where job = ? and message = ? and n = ? and state = 'waiting'
"""


def make(
    connection: sqlite3.Connection, job: int, keys: Sequence[RecipientKey], at: Ms, deadline: Ms
) -> list[RecipientKey]:
    """For each delivered recipient that waits in the job a new one of the same address, which waits there in
    its place; returns the new ones. `deadline`: until when we try to hand them on. Whoever is not delivered
    any more, has no bytes or was sent again by somebody else is skipped."""
    asked = connection.execute(_JOB, (job,)).fetchone()
    if asked is None:
        return []
    made = []
    for key in keys:
        found = connection.execute(_DELIVERED, (key.message, key.n)).fetchone()
        row = moves.find(connection, key.message, key.n)
        if found is None or row is None:
            connection.execute(_ITEM_SKIPPED, (job, key.message, key.n))
            continue
        address, parameters, destination, route, derived_from = found
        new = ArrivingRecipient(
            address=address,
            parameters=read_words(parameters),
            destination=destination,
            route=route,
            due_at=None,
            deadline=deadline,
            derived_from=derived_from,
            again_of=key.n,
        )
        n = mail.add_recipient(
            connection, key.message, new, at, f"beside recipient {key.n}, which was delivered, by job {job}"
        )
        connection.execute(_IN_ITS_LANE, (key.message, n))
        why = f"as recipient {n}, by job {job}"
        moves.tell(connection, key.message, key.n, at, "sent_again", row, row.state, why)
        connection.execute(_ITEM_IS_NOW, (n, job, key.message, key.n))
        what = {"job": job, "message": id_text(key.message), "recipient": address, "n": n, "again_of": key.n}
        gates.audit(connection, AuditRow(at, asked[0], "send_again", json.dumps(what), asked[1]))
        made.append(RecipientKey(key.message, n))
    return made
