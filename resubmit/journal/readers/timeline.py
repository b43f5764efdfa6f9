"""The life of a message's recipients, step by step, from history, attempts and evidence.

Birth stands in the message's row and "sending" in the attempt's, so the history is put together here.
"""

from __future__ import annotations

from resubmit.journal.connection import sqlite3
from resubmit.journal.readers.answers import Step
from resubmit.journal.readers.reading import Row, reading, reply_text
from resubmit.model.moment import Ms, rfc3339

_MOVES = """
select n, at, event, from_state, to_state, attempt, why, conflict, evidence from history
where message = ? order by n, seq
"""
_ATTEMPTS = """
select a.n, o.begun_at, a.no, o.kind, o.route, o.job from attempt a join offer o on o.id = a.offer
where a.message = ? order by a.n, a.no
"""
_SAID = """
select e.n, e.read_at, e.source, e.status, e.no, e.code, e.enhanced, e.text, e.why, e.id, e.observed_at
from evidence e where e.message = :id
union all
select l.n, e.read_at, e.source, e.status, e.no, e.code, e.enhanced, e.text, e.why, e.id, e.observed_at
from evidence_link l join evidence e on e.id = l.evidence
where l.message = :id and (e.message is null or e.message <> l.message or e.n <> l.n)
order by 1, 2, 10
"""
_EVENT, _FROM, _TO, _ATTEMPT, _WHY, _CONFLICT, _EVIDENCE = 2, 3, 4, 5, 6, 7, 8


def timeline(conn: sqlite3.Connection, wanted: int) -> list[Step]:
    """Everything that happened to a message's recipients: birth, attempts, moves, evidence; one recipient
    after the other, each in the order it was written. Empty when the journal does not have the message."""
    with reading():
        born = conn.execute("select received_at, peer, intake from message where id = ?", [wanted]).fetchone()
        numbers = conn.execute(
            "select n, state, below, derived_from, again_of from recipient where message = ? order by n",
            [wanted],
        ).fetchall()
        moves = conn.execute(_MOVES, [wanted]).fetchall()
        attempts = conn.execute(_ATTEMPTS, [wanted]).fetchall()
        said = conn.execute(_SAID, {"id": wanted}).fetchall()
    steps: list[Step] = []
    for n, state, below, derived_from, again_of in numbers:
        mine = [[row for row in rows if row[0] == n] for rows in (moves, attempts, said)]
        first = mine[0][0] if mine[0] else None
        added = first is not None and first[_EVENT] in ("derived", "added")
        if derived_from is None and again_of is None and not added:
            start = first[_FROM] if first and not mine[1] else "journaled" if mine[1] else below or state
            birth = [Step(n, born[0], "journaled", None, start, 0, f"taken from {born[1] or born[2]}")]
        else:
            birth = []  # who joined later has a birth in the history
        steps += _one(n, birth, *mine)
    return steps


def _one(n: int, steps: list[Step], moves: list[Row], attempts: list[Row], said: list[Row]) -> list[Step]:
    """One recipient's steps: history in its own order, each attempt before the first line that knows it,
    evidence that moved nothing where it was read."""
    waiting = list(attempts)
    caused = {row[_EVIDENCE] for row in moves}
    quiet = [row for row in said if row[9] not in caused]
    told = {row[9]: row for row in said}

    def state() -> str:
        return steps[-1].to if steps else "journaled"

    def start_attempts(until: Ms | None, no: int | None) -> None:
        while waiting and (
            (no is not None and waiting[0][2] <= no) or (until is not None and waiting[0][1] < until)
        ):
            _, at, number, kind, route, job = waiting.pop(0)
            why = f"{kind} over route {route}" + (f" for job {job}" if job else "")
            steps.append(Step(n, at, "attempt_started", state(), "sending", number, why))

    def say_quiet(until: Ms | None) -> None:
        while quiet and (until is None or quiet[0][1] < until):
            row = quiet.pop(0)
            start_attempts(row[1], row[4])
            steps.append(Step(n, row[1], "evidence", state(), state(), row[4] or 0, _words(row)))

    for row in moves:
        say_quiet(row[1])
        start_attempts(None, row[_ATTEMPT])
        why = row[_WHY]
        if evidence := told.get(row[_EVIDENCE]):
            # A move's reason repeats what its evidence says, cut short and without when: that is said once.
            repeats = not why or why.startswith(f"{evidence[2]} says ")
            why = _words(evidence) if repeats else f"{why}; {_words(evidence)}"
        if row[_CONFLICT]:
            why = f"conflict, nothing moved: {why}"
        steps.append(Step(n, row[1], row[_EVENT], row[_FROM], row[_TO], row[_ATTEMPT], why))
    say_quiet(None)
    start_attempts(None, attempts[-1][2] if attempts else 0)
    return steps


def _words(row: Row) -> str:
    """What a piece of evidence says: its source, when, and its own words."""
    _, _, source, status, _, code, enhanced, text, why, _, observed_at = row
    seen = f" at {rfc3339(observed_at)}" if observed_at is not None else ""
    words = reply_text(code, enhanced, text)
    by = f" ({why})" if why else ""
    says = "knows it" if status == "none" else f"says {status}"
    return f"{source} {says}{seen}{by}" + (f": {words}" if words else "")
