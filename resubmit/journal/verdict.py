"""What all that is known of a recipient's current attempt comes to, whatever came first.

The table's ranks make a state out of evidence in any order. Two things it leaves open are decided here, from
everything the journal holds: of several words for one state the latest gives the cause, and the earliest
says since when. And evidence that turns out to be another message's is taken back: the table is gone through
anew without it.

Limits: an operator's word and a timer's are not evidence; where one of them stands in the history of the
attempt, nothing is taken back. Delivered is never taken back: it would be sent again.
Source: design, section 3 rules 1, 3 and 8, "Since"; states.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from resubmit.journal.connection import sqlite3
from resubmit.meaning.events import event_of
from resubmit.model.evidence import Cause, Holder, Meaning, Mend, Scope, Source, Status
from resubmit.model.moment import Ms
from resubmit.model.recipient import TABLE, Event, Impossible, Stand, State, step

_EVIDENCE = """
select e.status, e.cause, e.scope, e.mend, e.observed_at, e.no, e.digest, 0, e.source
from evidence e
where e.message = ? and e.n = ?
"""

_LINKED = """
select e.status, e.cause, e.scope, e.mend, e.observed_at, l.no, e.digest, 1, e.source
from evidence_link l
join evidence e on e.id = l.evidence
where l.message = ? and l.n = ?
"""

_HEARD_OF = """
select exists (select 1 from evidence where message = ? and n = ?)
    or exists (select 1 from evidence_link where message = ? and n = ?)
"""

# A member has its group's attempt, whose reply was about the group; what is sent to itself is its own.
_REPLY = """
select a.event, a.cause, a.scope, a.mend, a.ended_at, (
    select 1 from attempt g where g.message = a.message and g.n = r.derived_from and g.offer = a.offer)
from attempt a
join recipient r on r.message = a.message and r.n = a.n
where a.message = ? and a.n = ? and a.no = ?
"""

_OTHER_WORD = """
select 1
from history
where message = ? and n = ? and attempt = ?
    and (substr(event, 1, 5) not in ('seen_', 'late_', 'reply') or event = 'seen_nowhere')
    and event not in ('attempt_orphaned', 'made_due', 'derived', 'added', 'withdrawn')
limit 1
"""

_QUEUED = """
select max(case when status = 'relayed' then observed_at end),
    max(case when status in ('deferred', 'pending') then observed_at end)
from evidence
where message = ? and n = ? and no = ? and source = ? and id <> ?
"""

_RELAYS = frozenset({Source.POSTFIX_LOG, Source.EXCHANGE_TRACKING_LOG})
"""Whose own words are about mail in their queues: first it waits there, then it is passed on. Ranks can't
tell which of the two holds now, only the time can."""

_FAULTY = frozenset({Status.DEFERRED, Status.EXPIRED, Status.FAILED})

_WITH_CAUSE: dict[State, tuple[State, ...]] = {
    State.DEFERRED: (State.DEFERRED,),
    State.EXPIRED: (State.EXPIRED, State.DEFERRED),  # "expired" alone says less than why it was deferred
    State.FAILED: (State.FAILED,),
}
"""Whose cause each state shows, the first that has one."""

_WAITING = frozenset({Status.DEFERRED, Status.PENDING})
_STAYS = frozenset({State.DELIVERED})
_EVENTS = frozenset(Event)


@dataclass(frozen=True, slots=True)
class Word:
    """One thing said of the attempt: the event it is, when, and its cause with scope and mend."""

    event: Event
    at: Ms | None
    cause: tuple[str | None, str | None, str | None]
    reply: bool
    digest: bytes

    @property
    def says(self) -> str:
        """The state it leads to from an open attempt."""
        return TABLE[self.event][State.SENDING]


@dataclass(frozen=True, slots=True)
class Shown:
    """Since when a recipient is what it is, and why; None: nothing that is known says so."""

    since: Ms | None
    cause: tuple[str | None, str | None, str | None] | None


def words(connection: sqlite3.Connection, message: int, n: int, no: int) -> list[Word]:
    """All that is known of attempt `no`, and what older ones' evidence says of the recipient."""
    said: list[Word] = []
    reply = connection.execute(_REPLY, (message, n, no)).fetchone()
    if reply is not None and reply[0] in _EVENTS and reply[5] is None:
        said.append(Word(Event(reply[0]), reply[4], tuple(reply[1:4]), True, b""))
    for query in (_EVIDENCE, _LINKED):
        for status, cause, scope, mend, at, own, digest, linked, source in connection.execute(
            query, (message, n)
        ):
            told = Status(status)
            passed = told in _WAITING and source in _RELAYS and own is not None
            if passed and is_overtaken(connection, message, n, own, source, told, at):
                continue
            why: tuple[str | None, str | None, str | None] = (None, None, None)
            if told in _FAULTY:
                why = (cause, scope, mend)
            if linked and told is Status.FAILED:
                told = Status.EXPIRED  # it may be another's
            meaning = Meaning(Cause(cause), Scope(scope), Mend(mend)) if cause and scope and mend else None
            event = event_of(told, meaning, current=own == no, holder=Holder.FAR)
            if event is not Event.LATE_OTHER:
                said.append(Word(event, at, why, False, digest))
    return said


def is_overtaken(
    connection: sqlite3.Connection,
    message: int,
    n: int,
    no: int,
    source: str,
    told: Status,
    at: Ms | None,
    evidence: int = 0,
) -> bool:
    """Whether what a relay says of a mail in its queue is older than what is known of it there: that it was
    passed on since, or waits since. evidence: the row it stands in, which says nothing against itself."""
    if source not in _RELAYS or at is None or told not in _WAITING | {Status.RELAYED}:
        return False
    passed, waiting = connection.execute(_QUEUED, (message, n, no, source, evidence)).fetchone()
    if told is Status.RELAYED:
        return waiting is not None and waiting > at
    return passed is not None and passed >= at


def shown(said: list[Word], told: State) -> Shown:
    """Since when and why a recipient that stands as `told`. The reply's own time goes before a trace's; of
    several causes the latest, a trace's before our reply's at one time, is shown."""
    same = [word for word in said if word.says == told and word.at is not None]
    since = min((w.at for w in same if w.reply and w.at is not None), default=None)
    if since is None:
        since = min((w.at for w in same if w.at is not None), default=None)
    if told not in _WITH_CAUSE:
        return Shown(since, None)
    if not any(word.says == told for word in said):
        return Shown(None, None)
    for state in _WITH_CAUSE[told]:
        having = [word for word in said if word.says == state and word.cause[0] is not None]
        if having:
            return Shown(since, max(having, key=_latest).cause)
    return Shown(since, (None, None, None))


def _latest(word: Word) -> tuple[object, ...]:
    known = word.at is not None
    return known, word.at if known else 0, not word.reply, tuple(part or "" for part in word.cause)


def without_withdrawn(connection: sqlite3.Connection, message: int, n: int, no: int) -> State | None:
    """The state the recipient has by all that is (still) known of its attempt; None where more than evidence
    and replies has moved it since the attempt began."""
    if connection.execute(_OTHER_WORD, (message, n, no)).fetchone():
        return None
    said = words(connection, message, n, no)
    stand = Stand(State.ACCEPTED if _is_derived(connection, message, n, no) else State.SENDING)
    ranked = sorted(said, key=lambda word: (not word.reply, _RANKS.index(State(word.says)), word.digest))
    try:
        for word in ranked:
            stand = step(stand, word.event).stand
    except Impossible:
        return None
    return stand.state


_RANKS = (
    State.RETRYING,
    State.IN_DOUBT,
    State.ACCEPTED,
    State.PENDING,
    State.DEFERRED,
    State.EXPIRED,
    State.FAILED,
    State.FILTERED,
    State.EXPANDED,
    State.DELIVERED,
)


def _is_derived(connection: sqlite3.Connection, message: int, n: int, no: int) -> bool:
    found = connection.execute(_REPLY, (message, n, no)).fetchone()
    return found is None or found[5] is not None


def is_heard_of(connection: sqlite3.Connection, message: int, n: int) -> bool:
    """Whether there is any evidence of a recipient."""
    return bool(connection.execute(_HEARD_OF, (message, n, message, n)).fetchone()[0])


def stays(state: State) -> bool:
    """Whether evidence for that state is never taken back."""
    return state in _STAYS
