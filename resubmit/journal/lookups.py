"""What evidence may be about: messages by their keys, and stored evidence that has no owner yet. Read only.

Limits: by key as in keys.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from resubmit.journal.codec import day_of, read_words
from resubmit.journal.connection import sqlite3
from resubmit.journal.keys import Keys
from resubmit.journal.observing import COLUMNS
from resubmit.journal.sieve import Sieves
from resubmit.journal.verbs import (
    Candidate,
    CandidateAttempt,
    CandidateRecipient,
    EvidenceRow,
    Gathered,
    Lookup,
    StoredEvidence,
    UnmatchedEvidence,
)
from resubmit.model.envelope import parameter
from resubmit.model.evidence import Cause, Holder, Mend, Scope
from resubmit.model.message import message_key
from resubmit.model.moment import Ms
from resubmit.model.recipient import RecipientKey, State

_MANY = 200
"""So many candidates are looked at for one row; more can't be told apart anyway."""

_MESSAGE = "select received_at, message_id, sender, subject, size from message where id = ?"

_RECIPIENTS = """
select n, address, parameters, destination, route, state, attempt, holder, derived_from,
    state = 'expanded' or exists (
        select 1 from evidence e
        where e.message = r.message and e.n = r.n and e.status = 'expanded' and e.no is not null)
from recipient r
where message = ?
order by n
"""

# An orphan's dot may have left, at a time that died with its process: not before it began, and hardly later.
_ATTEMPTS = """
select a.n, a.no, a.offer, o.begun_at, case when a.accepted then a.ended_at end,
    coalesce(o.dot_at, case when a.event = 'attempt_orphaned' then o.begun_at end), a.ended_at,
    a.stage, coalesce(o.next_key, ''), o.remote
from attempt a
join offer o on o.id = a.offer
where a.message = ?
order by a.n, a.no
"""

_BOUND = """
select b.offer, b.network_message_id
from offer o
join binding b on b.offer = o.id
where o.message = ?
order by b.offer, b.network_message_id
"""

_ALL_UNMATCHED = f"""
select id, match, {COLUMNS}
from evidence
where message is null and id > ?
order by id
limit ?
"""  # noqa: S608

_KEYLESS = f"""
select id, match, {COLUMNS}
from evidence
where message is null and day = ? and key = '' and id > ?
order by id
limit ?
"""  # noqa: S608

_COUNT_UNOWNED = "select count(*) from (select 1 from evidence where message is null limit ?)"

_STIRRED = """
select distinct m.key
from offer o
join message m on m.id = o.message
where o.ended_at >= ? and o.ended_at is not null
"""

_OWNED = f"""
select id, match, message, n, no, {COLUMNS}
from evidence
where message = ?
"""  # noqa: S608

_BY_ID = f"""
select id, match, message, n, no, {COLUMNS}
from evidence
where id = ?
"""  # noqa: S608

_OF_KEY = f"""
select id, match, message, n, no, {COLUMNS}
from (select value as asked from json_each(?1)) d
cross join evidence
where message is null and day = d.asked and key = ?2
"""  # noqa: S608

_LINKED = "select message, n from evidence_link where evidence = ?"

_IS_KNOWN = "select 1 from evidence where source = ? and digest = ?"

_NEVER_CONNECTED = frozenset({"lookup", "connect"})


def candidates(
    connection: sqlite3.Connection, lookups: Sequence[Lookup], sieves: Sieves | None = None
) -> list[list[Candidate]]:
    """For each lookup the messages it may be about, oldest first, with recipients and attempts."""
    if sieves is not None:
        sieves.keep_up(connection)
    keys = Keys(connection, sieves)
    made: dict[int, Candidate | None] = {}
    answers: list[list[Candidate]] = []
    for messages in keys.of_lookups(lookups):
        found: list[Candidate] = []
        for message in sorted(messages)[-_MANY:]:
            if message not in made:
                candidate = _candidate(connection, message)
                if candidate is not None and len(messages) == 1:
                    alone = keys.is_alone(message_key(candidate.message_id), message)
                    candidate = replace(candidate, alone=alone)
                made[message] = candidate
            if (candidate := made[message]) is not None:
                found.append(candidate)
        answers.append(found)
    return answers


def _candidate(connection: sqlite3.Connection, message: int) -> Candidate | None:
    head = connection.execute(_MESSAGE, (message,)).fetchone()
    if head is None:
        return None
    received_at, message_id, sender, subject, size = head
    bound: dict[int, list[str]] = {}
    for offer, network_message_id in connection.execute(_BOUND, (message,)):
        bound.setdefault(offer, []).append(network_message_id)
    attempts: dict[int, list[CandidateAttempt]] = {}
    for n, no, offer, begun_at, accepted_at, dot_at, ended_at, stage, next_key, _ in connection.execute(
        _ATTEMPTS, (message,)
    ):
        connected = ended_at is None or dot_at is not None or stage not in _NEVER_CONNECTED
        ids = tuple(bound.get(offer, ()))
        attempts.setdefault(n, []).append(
            CandidateAttempt(no, offer, begun_at, accepted_at, dot_at, ended_at, connected, ids, next_key)
        )
    recipients = tuple(
        CandidateRecipient(
            n=row[0],
            address=row[1],
            original=_original(read_words(row[2])),
            destination=row[3],
            route=row[4],
            state=State(row[5]),
            attempt=row[6],
            holder=Holder(row[7]),
            derived_from=row[8],
            attempts=tuple(attempts.get(row[0], ())),
            expanded=bool(row[9]),
        )
        for row in connection.execute(_RECIPIENTS, (message,))
    )
    return Candidate(message, received_at, message_id, sender, subject, size, recipients)


def _original(parameters: tuple[str, ...]) -> str:
    """ORCPT's address (RFC 3461 §4.2: `rfc822;` and xtext), "" when there is none."""
    value = parameter(parameters, "ORCPT")
    if not value:
        return ""
    _, _, text = value.partition(";")
    out, place = "", 0
    while place < len(text):
        code = text[place + 1 : place + 3]
        if text[place] == "+" and len(code) == 2 and all(c in "0123456789ABCDEF" for c in code):
            out += chr(int(code, 16))
            place += 3
        else:
            out += text[place]
            place += 1
    return out


def unmatched(
    connection: sqlite3.Connection, after: int, limit: int, keyless: bool, since: Ms | None = None
) -> list[UnmatchedEvidence]:
    """Stored evidence without an owner, by id from `after` on; keyless: only what has no Message-ID, and
    tells of the time from the day before `since` on."""
    if not keyless:
        rows = connection.execute(_ALL_UNMATCHED, (after, limit)).fetchall()
    else:
        rows = []
        first = 0 if since is None else day_of(since) - 1
        for day in Keys(connection).days("evidence"):
            if day < first:
                continue
            rows += connection.execute(_KEYLESS, (day, after, limit)).fetchall()
        rows = sorted(rows, key=lambda row: row[0])[:limit]
    return [_unmatched(row) for row in rows]


def count_unowned(connection: sqlite3.Connection, limit: int) -> int:
    """How much evidence is nobody's, as far as `limit`."""
    (count,) = connection.execute(_COUNT_UNOWNED, (limit,)).fetchone()
    return int(count)


def unowned_of_ours(connection: sqlite3.Connection, sieves: Sieves | None) -> list[str]:
    """The Message-ID keys of which there is evidence of nobody's, and a message."""
    if sieves is not None:
        sieves.keep_up(connection)
    return Keys(connection, sieves).unowned_of_ours()


def stirred(connection: sqlite3.Connection, since: Ms) -> list[str]:
    """The Message-ID keys of which evidence has no owner, and a message had an attempt end since then."""
    keys = Keys(connection)
    if not keys.days("evidence"):
        return []
    return [key for (key,) in connection.execute(_STIRRED, (since,)) if key and keys.is_unowned(key)]


def gathered(
    connection: sqlite3.Connection, wanted: Sequence[tuple[Sequence[str], Sequence[int]]]
) -> list[Gathered]:
    """For each group of Message-ID keys and evidence ids: the messages of those keys and of the owners of
    that evidence, and all evidence that is theirs, or is of those keys and nobody's, or is named by id."""
    answers = []
    by_key = Keys(connection)
    days = json.dumps(by_key.days("evidence"))
    for keys, ids in wanted:
        found = {identity: _stored(connection, _BY_ID, (identity,)) for identity in ids}
        rows = {each.id: each for stored in found.values() for each in stored}
        messages = {each.owner.message for each in rows.values() if each.owner is not None}
        for key in keys:
            messages.update(by_key.messages("message", key))
            rows |= {each.id: each for each in _stored(connection, _OF_KEY, (days, key))}
        for message in messages:
            rows |= {each.id: each for each in _stored(connection, _OWNED, (message,))}
        candidates = [_candidate(connection, message) for message in sorted(messages)[-_MANY:]]
        answers.append(Gathered(tuple(c for c in candidates if c), tuple(rows.values())))
    return answers


def _stored(
    connection: sqlite3.Connection, query: str, parameters: tuple[object, ...]
) -> list[StoredEvidence]:
    found = []
    for identity, match, message, n, no, *columns in connection.execute(query, parameters).fetchall():
        owner = None if message is None else RecipientKey(message, n)
        links: frozenset[RecipientKey] = frozenset()
        if match == "ambiguous":
            links = frozenset(RecipientKey(*key) for key in connection.execute(_LINKED, (identity,)))
        found.append(StoredEvidence(identity, evidence_row(columns), match, owner, no, links))
    return found


def _unmatched(row: tuple[object, ...]) -> UnmatchedEvidence:
    identity, match, *columns = row
    return UnmatchedEvidence(int(str(identity)), evidence_row(columns), str(match))


def evidence_row(columns: list[object]) -> EvidenceRow:
    """The columns of COLUMNS as an EvidenceRow."""
    plain = list(columns)
    for place, kind in ((20, Cause), (21, Scope), (22, Mend)):
        if plain[place] is not None:
            plain[place] = kind(str(plain[place]))
    plain[1] = bytes(plain[1])  # type: ignore[call-overload]
    return EvidenceRow(*plain)  # type: ignore[arg-type]


def is_known(connection: sqlite3.Connection, source: str, digests: Sequence[bytes]) -> set[bytes]:
    """Those of a source's digests that are stored."""
    return {
        digest for digest in digests if connection.execute(_IS_KNOWN, (source, digest)).fetchone() is not None
    }
