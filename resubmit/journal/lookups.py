"""What evidence may be about: messages by their keys, and stored evidence that has no owner yet. Read only.

Limits: keys are indexed by day (no index in random order at intake), so a look-up goes through the days the
journal holds: 11 µs for 4 of them, 59 for 32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from resubmit.journal.codec import day_of, read_words
from resubmit.journal.connection import sqlite3
from resubmit.journal.observing import COLUMNS
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
from resubmit.model.envelope import address_key, parameter
from resubmit.model.evidence import Cause, Holder, Mend, Scope
from resubmit.model.moment import MINUTE, Ms
from resubmit.model.recipient import RecipientKey, State

_NEAR: Ms = 12 * MINUTE
"""How far from a row's time of receipt an attempt is looked for: the 10 minutes of rule 2, whole seconds,
and clocks that differ."""

_MANY = 200
"""So many candidates are looked at for one row; more can't be told apart anyway."""

# One aggregate a query: only then SQLite reads an end of the index and not all of it.
_DAYS = {
    "message": "select (select min(day) from message), (select max(day) from message)",
    "binding": "select (select min(day) from binding), (select max(day) from binding)",
    "offer": """select (select min(day) from offer where next_key is not null),
        (select max(day) from offer where next_key is not null)""",
    "evidence": """select (select min(day) from evidence where message is null),
        (select max(day) from evidence where message is null)""",
}

_BY_KEY = "select id from message where day = ? and key = ?"

_BY_NETWORK_ID = """
select o.message
from binding b
join offer o on o.id = b.offer
where b.day = ? and b.network_message_id = ?
"""

_BY_NEXT_KEY = "select message from offer where day = ? and next_key = ? and next_key is not null"

_BY_TIME = """
select distinct o.message
from offer o
join message m on m.id = o.message
where o.ended_at between ? and ? and o.ended_at is not null
    and lower(m.sender) = ?
    and exists (
        select 1 from recipient r
        where r.message = o.message and lower(r.address) = ?)
order by o.ended_at
limit ?
"""

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

_STIRRED = """
select distinct m.key
from offer o
join message m on m.id = o.message
where o.ended_at >= ? and o.ended_at is not null
"""

_IS_UNOWNED = "select 1 from evidence where message is null and day = ? and key = ? limit 1"

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
from evidence
where message is null and day = ? and key = ?
"""  # noqa: S608

_LINKED = "select message, n from evidence_link where evidence = ?"

_IS_KNOWN = "select 1 from evidence where source = ? and digest = ?"

_NEVER_CONNECTED = frozenset({"lookup", "connect"})


def candidates(connection: sqlite3.Connection, lookups: Sequence[Lookup]) -> list[list[Candidate]]:
    """For each lookup the messages it may be about, oldest first, with recipients and attempts."""
    made: dict[int, Candidate | None] = {}
    answers: list[list[Candidate]] = []
    for lookup in lookups:
        found: list[Candidate] = []
        for message in sorted(set(_messages(connection, lookup)))[-_MANY:]:
            if message not in made:
                made[message] = _candidate(connection, message)
            if (candidate := made[message]) is not None:
                found.append(candidate)
        answers.append(found)
    return answers


def _messages(connection: sqlite3.Connection, lookup: Lookup) -> Iterator[int]:
    if lookup.attempt_message is not None:
        yield lookup.attempt_message
    if lookup.network_message_id:
        yield from _through(connection, "binding", _BY_NETWORK_ID, lookup.network_message_id, None)
    if lookup.queue_id:
        yield from _through(connection, "offer", _BY_NEXT_KEY, lookup.queue_id, None)
    if lookup.key:
        yield from _through(connection, "message", _BY_KEY, lookup.key, lookup.received_at)
    elif lookup.received_at is not None and lookup.recipient:
        span = (lookup.received_at - _NEAR, lookup.received_at + _NEAR)
        who = (address_key(lookup.sender), address_key(lookup.recipient))
        yield from (row[0] for row in connection.execute(_BY_TIME, (*span, *who, _MANY)))


def _through(
    connection: sqlite3.Connection, table: str, query: str, key: str, until: Ms | None
) -> Iterator[int]:
    """Ask day by day, from the oldest the table holds to the day after `until` (None: to its newest)."""
    for day in _days(connection, table, until):
        yield from (row[0] for row in connection.execute(query, (day, key)))


def _days(connection: sqlite3.Connection, table: str, until: Ms | None) -> Iterable[int]:
    first, last = connection.execute(_DAYS[table]).fetchone()
    if first is None:
        return ()
    if until is not None:
        last = min(last, day_of(until) + 1)
    return range(first, last + 1)


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
    connection: sqlite3.Connection, after: int, limit: int, keyless: bool
) -> list[UnmatchedEvidence]:
    """Stored evidence without an owner, by id from `after` on; keyless: only what has no Message-ID."""
    if not keyless:
        rows = connection.execute(_ALL_UNMATCHED, (after, limit)).fetchall()
    else:
        rows = []
        for day in _days(connection, "evidence", None):
            rows += connection.execute(_KEYLESS, (day, after, limit)).fetchall()
        rows = sorted(rows, key=lambda row: row[0])[:limit]
    return [_unmatched(row) for row in rows]


def stirred(connection: sqlite3.Connection, since: Ms) -> list[str]:
    """The Message-ID keys of which evidence has no owner, and a message had an attempt end since then."""
    days = _days(connection, "evidence", None)
    if not days:
        return []
    return [
        key
        for (key,) in connection.execute(_STIRRED, (since,)).fetchall()
        if key and any(connection.execute(_IS_UNOWNED, (day, key)).fetchone() for day in days)
    ]


def gathered(
    connection: sqlite3.Connection, wanted: Sequence[tuple[Sequence[str], Sequence[int]]]
) -> list[Gathered]:
    """For each group of Message-ID keys and evidence ids: the messages of those keys and of the owners of
    that evidence, and all evidence that is theirs, or is of those keys and nobody's, or is named by id."""
    answers = []
    for keys, ids in wanted:
        found = {identity: _stored(connection, _BY_ID, (identity,)) for identity in ids}
        rows = {each.id: each for stored in found.values() for each in stored}
        messages = {each.owner.message for each in rows.values() if each.owner is not None}
        for key in keys:
            messages.update(_through(connection, "message", _BY_KEY, key, None))
            for day in _days(connection, "evidence", None):
                rows |= {each.id: each for each in _stored(connection, _OF_KEY, (day, key))}
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
