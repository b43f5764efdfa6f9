"""Who is stuck: the view against the design's words in plain Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resubmit.model.moment import HOUR, MINUTE, Ms
from resubmit.model.recipient import State
from tests.helpers.factory import Shelf, recipient

AFTER = {
    "hybrid": 15,
    "rest": 40,
    "unmirrored": 15,
}  # stuck_after in minutes; the default where none is known
MARGIN, STALE = 120, 60

Row = dict[str, Any]
MINUTES = st.integers(0, 20).map(lambda half_hours: half_hours * 30)
"""Coarse, so that times often coincide and windows often hold."""


@st.composite
def recipients(draw: st.DrawFn) -> Row:
    state = draw(st.sampled_from([*State, *[State.ACCEPTED] * 8]))
    due = None
    if state in (State.JOURNALED, State.RETRYING) or (
        state in (State.PENDING, State.DEFERRED, State.EXPIRED, State.IN_DOUBT) and draw(st.booleans())
    ):
        due = draw(MINUTES)
    return {
        "state": state,
        "below": State.DEFERRED if state is State.HELD else None,
        "destination": draw(st.sampled_from(list(AFTER))),
        "route": draw(st.sampled_from(["eop", "other"])),
        "since": draw(MINUTES),
        "cause": draw(st.sampled_from([None, "tls", "connection", "mailbox", "expired"])),
        "deadline": draw(st.none() | MINUTES),
        "due_at": due,
        "attempt": 0 if state is State.JOURNALED else 1,
        "known": draw(st.booleans()),
    }


GATES = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["open", "closed", "testing"]),
        "since": MINUTES,
        "cause": st.sampled_from([None, "tls", "connection"]),
    }
)
INCIDENTS = st.fixed_dictionaries(
    {
        "destination": st.sampled_from(list(AFTER)),
        "opened_at": MINUTES,
        "fault_from": st.just(0) | MINUTES,
        "fault_to": st.none() | MINUTES,
    }
)
TRACES = st.tuples(st.just(0) | MINUTES, MINUTES).map(sorted)


def oracle(row: Row, gates: dict[str, Row], incidents: list[Row], traces: list[list[Ms]]) -> Ms | None:
    """When the recipient became stuck, in minutes, None for never; `+ms` counts the last millisecond."""
    since: Ms = row["since"] * MINUTE
    state = row["state"]
    after = AFTER[row["destination"]] * MINUTE
    if state in ("pending", "deferred", "retrying", "in_doubt", "expired"):
        return since if row["cause"] in ("tls", "connection") else since + after
    if state == "journaled":
        gate = gates.get(row["route"])
        shut = gate is not None and gate["state"] != "open"
        return max(since, gate["since"] * MINUTE) + after if gate and shut else None
    if state != "accepted":
        return None
    found: list[Ms] = []
    for incident in incidents:
        to = incident["fault_to"] * MINUTE if incident["fault_to"] is not None else since
        if incident["destination"] == row["destination"] and incident["fault_from"] * MINUTE <= since <= to:
            live = [until * MINUTE + STALE * MINUTE + 1 for from_, until in traces if from_ * MINUTE <= since]
            found.append(max([since, incident["opened_at"] * MINUTE, *live]))
    if row["deadline"] is not None and row["destination"] != "unmirrored" and not row["known"]:
        at = (row["deadline"] - MARGIN) * MINUTE
        answered = [until for from_, until in traces if from_ * MINUTE <= since <= until * MINUTE]
        if any(until * MINUTE >= at - STALE * MINUTE for until in answered):
            found.append(at)
    return min(found, default=None)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    folder: Path = tmp_path_factory.mktemp("stuck")
    made = Shelf(folder)
    for name in ("hybrid", "rest"):
        made.destination(
            name,
            stuck_after=AFTER[name] * MINUTE,
            deadline_margin=MARGIN * MINUTE,
            trace_stale=STALE * MINUTE,
        )
    yield made
    made.close()


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(recipients(), min_size=1, max_size=12),
    gates=st.dictionaries(st.sampled_from(["eop", "other"]), GATES, max_size=2),
    incidents=st.lists(INCIDENTS, max_size=3),
    traces=st.lists(TRACES, max_size=2),
    now=MINUTES,
)
def test_the_view_says_who_is_stuck_as_the_design_does(
    shelf: Shelf,
    rows: list[Row],
    gates: dict[str, Row],
    incidents: list[Row],
    traces: list[list[Ms]],
    now: Ms,
) -> None:
    shelf.run("begin")
    try:
        _put(shelf, rows, gates, incidents, traces)
        told = dict(shelf._conn.execute("select n, stuck_at from stuck order by n").fetchall())
        shown = dict(shelf._conn.execute("select n, cause from stuck where state = 'journaled'").fetchall())
        stuck = {
            n for (n,) in shelf._conn.execute("select n from stuck where stuck_at <= ?", (now * MINUTE,))
        }
    finally:
        shelf.run("rollback")
    wanted = {n: oracle(row, gates, incidents, traces) for n, row in enumerate(rows)}
    assert told == {n: at for n, at in wanted.items() if at is not None}
    assert stuck == {n for n, at in wanted.items() if at is not None and at <= now * MINUTE}
    for n, cause in shown.items():
        assert cause == (gates[rows[n]["route"]]["cause"] or "connection")


def _put(
    shelf: Shelf, rows: list[Row], gates: dict[str, Row], incidents: list[Row], traces: list[list[Ms]]
) -> None:
    for name, gate in gates.items():
        cause = None
        if gate["cause"] is not None:
            cause = shelf.incident(destination="elsewhere", cause=gate["cause"], fault_from=0)
        shelf.gate(f"route:{name}", gate["state"], since=gate["since"] * MINUTE, incident=cause)
    shelf.gate("destination:hybrid", "closed", since=0)
    for incident in incidents:
        to = incident["fault_to"]
        shelf.incident(
            destination=incident["destination"],
            opened_at=incident["opened_at"] * MINUTE,
            fault_from=incident["fault_from"] * MINUTE,
            fault_to=to * MINUTE if to is not None else None,
        )
    for number, (since, until) in enumerate(traces):
        shelf.insert("trace", source=f"t{number}", since=since * MINUTE, until=until * MINUTE, read_at=0)
    times = ("since", "deadline", "due_at")
    given_ = [{key: value for key, value in row.items() if key != "known"} for row in rows]
    for row in given_:
        row.update({key: row[key] * MINUTE for key in times if row[key] is not None})
    message = shelf.message(*(recipient(f"u{n}@contoso.com", **row) for n, row in enumerate(given_)))
    for n, row in enumerate(rows):
        if row["known"] and row["attempt"]:
            shelf.evidence(message, n, no=1, status="none", source="trace_graph", at=HOUR)


def test_counting_the_stuck_does_not_walk_through_settled_mail(shelf: Shelf) -> None:
    plan = [str(row[3]) for row in shelf._conn.execute("explain query plan select count(*) from stuck")]
    scans = [line for line in plan if line.startswith("SCAN r") and "recipient_trouble" not in line]
    assert scans == []
