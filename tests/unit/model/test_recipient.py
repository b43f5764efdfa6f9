"""Every cell of the recipient's table, against the table as it was designed."""

from __future__ import annotations

import pytest

from resubmit.model.recipient import (
    SETTLED,
    TABLE,
    Event,
    Impossible,
    RecipientKey,
    Stand,
    State,
    step,
)

# As designed; `.` stays, `!` is a conflict, `x` cannot happen, `below` is the state under the hold.
DESIGNED = """
|event|journaled|sending|retrying|in_doubt|accepted|pending|deferred|expired|held|delivered|expanded|filtered|failed|cancelled|
|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|
|taken_elsewhere|accepted|x|x|x|x|x|x|x|x|x|x|x|x|x|
|attempt_started|sending|x|sending|sending|sending|sending|sending|sending|x|x|x|x|x|x|
|attempt_orphaned|x|in_doubt|x|x|.|.|.|.|x|.|.|.|.|x|
|reply_accepted|x|accepted|x|x|.|.|.|.|x|.|.|.|.|x|
|reply_final|x|delivered|x|x|delivered|delivered|delivered|delivered|x|.|delivered|delivered|delivered|x|
|reply_deferred|x|retrying|x|x|!|!|!|!|x|.|.|!|!|x|
|reply_refused|x|failed|x|x|failed|failed|failed|failed|x|.|.|!|.|x|
|reply_refused_mendable|x|expired|x|x|expired|expired|expired|.|x|.|.|!|!|x|
|reply_lost|x|in_doubt|x|x|.|.|.|.|x|.|.|.|.|x|
|doubt_timed_out|x|.|.|retrying|.|.|.|.|.|.|.|.|.|.|
|queue_expired|expired|.|expired|.|.|.|.|.|.|.|.|.|.|.|
|attempts_exhausted|x|x|held|held|.|held|held|held|.|.|.|.|.|.|
|relay_passed_on|x|x|x|accepted|.|x|accepted|accepted|.|x|x|x|x|.|
|seen_accepted|!|accepted|accepted|accepted|.|.|.|.|.|.|.|.|.|.|
|seen_pending|!|pending|pending|pending|pending|.|.|.|.|.|.|.|.|.|
|seen_deferred|!|deferred|deferred|deferred|deferred|deferred|.|.|.|.|.|.|.|.|
|seen_given_up|!|expired|expired|expired|expired|expired|expired|.|.|!|!|!|.|.|
|seen_failed|!|failed|failed|failed|failed|failed|failed|failed|failed|!|!|!|.|.|
|seen_filtered|!|filtered|filtered|filtered|filtered|filtered|filtered|filtered|filtered|!|!|.|filtered|.|
|seen_expanded|!|expanded|expanded|expanded|expanded|expanded|expanded|expanded|expanded|.|.|expanded|expanded|.|
|seen_delivered|!|delivered|delivered|delivered|delivered|delivered|delivered|delivered|delivered|.|delivered|delivered|delivered|delivered|
|seen_nowhere|.|.|.|retrying|.|.|.|.|.|.|.|.|.|.|
|late_delivered|x|delivered|delivered|delivered|delivered|delivered|delivered|delivered|delivered|.|delivered|delivered|delivered|delivered|
|late_expanded|x|expanded|expanded|expanded|expanded|expanded|expanded|expanded|expanded|.|.|expanded|expanded|.|
|late_other|x|.|.|.|.|.|.|.|.|.|.|.|.|.|
|operator_held|held|x|held|held|held|held|held|held|.|!|!|!|!|!|
|operator_released|!|x|!|!|!|!|!|!|below|!|!|!|!|!|
|operator_cancelled|cancelled|x|cancelled|cancelled|cancelled|cancelled|cancelled|cancelled|cancelled|!|!|!|!|.|
|operator_redirected|cancelled|x|cancelled|cancelled|cancelled|cancelled|cancelled|cancelled|cancelled|!|!|!|cancelled|!|
|operator_reopened|.|x|.|.|.|.|.|.|!|!|!|!|expired|expired|
|pruned|x|x|x|x|.|x|x|x|x|.|.|.|.|.|
"""


def _cells() -> list[tuple[Event, State, str]]:
    header, _, *rows = [line.strip("|").split("|") for line in DESIGNED.strip().splitlines()]
    states = [State(name) for name in header[1:]]
    return [(Event(row[0]), state, cell) for row in rows for state, cell in zip(states, row[1:], strict=True)]


CELLS = _cells()


def test_the_table_has_a_cell_for_every_event_in_every_state() -> None:
    assert {(event, state) for event, state, _ in CELLS} == {(e, s) for e in Event for s in State}
    assert {(e, s) for e, row in TABLE.items() for s in row} == {(e, s) for e in Event for s in State}


@pytest.mark.parametrize(("event", "state", "cell"), CELLS, ids=[f"{e}-{s}" for e, s, _ in CELLS])
def test_a_step_does_what_the_table_says(event: Event, state: State, cell: str) -> None:
    stand = Stand(state, State.DEFERRED if state is State.HELD else None)
    if cell == "x":
        with pytest.raises(Impossible):
            step(stand, event)
        return
    done = step(stand, event)
    if cell == "!":
        assert (done.stand, done.moved, done.conflict) == (stand, False, True)
    elif cell == "below":
        assert (done.stand, done.moved) == (Stand(State.DEFERRED), True)
    elif cell == ".":
        assert done.stand.state is state
        assert not done.conflict
    else:
        to = State(cell)
        assert done.stand == Stand(to, state if to is State.HELD else None)
        assert done.moved is (to is not state)


@pytest.mark.parametrize("event", Event)
def test_a_delivered_recipient_stays_delivered(event: Event) -> None:
    """Rule 1: delivered absorbs."""
    try:
        done = step(Stand(State.DELIVERED), event)
    except Impossible:
        return
    assert done.stand == Stand(State.DELIVERED)


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("below", sorted(set(State) - SETTLED - {State.HELD, State.SENDING}))
def test_truth_moves_what_lies_under_a_hold_and_operators_do_not(event: Event, below: State) -> None:
    done = step(Stand(State.HELD, below), event) if TABLE[event][State.HELD] != "x" else None
    if done is None or done.stand.state is not State.HELD:
        return
    if done.moved:
        assert event.startswith(("seen_", "late_", "relay_")) or event is Event.DOUBT_TIMED_OUT
        assert done.stand.below == step(Stand(below), event).stand.state
    else:
        assert done.stand.below is below


def test_every_state_is_reached_and_every_open_one_can_be_settled() -> None:
    moves = {(state, State(cell)) for _, state, cell in CELLS if cell not in (".", "!", "x", "below")} | {
        (State.HELD, state) for state in State if TABLE[Event.OPERATOR_HELD][state] == State.HELD
    }

    def reach(start: State) -> set[State]:
        found, left = {start}, [start]
        while left:
            here = left.pop()
            for from_, to in moves:
                if from_ is here and to not in found:
                    found.add(to)
                    left.append(to)
        return found

    assert reach(State.JOURNALED) == set(State)
    for state in set(State) - SETTLED:
        assert reach(state) & SETTLED, state


def test_keys_are_in_the_order_of_messages_then_recipients() -> None:
    keys = [RecipientKey(2, 0), RecipientKey(1, 1), RecipientKey(1, 0)]
    assert sorted(keys) == [RecipientKey(1, 0), RecipientKey(1, 1), RecipientKey(2, 0)]
