"""Draws docs/states.md from the table in resubmit/model/recipient.py."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from itertools import pairwise

from resubmit.model.recipient import SETTLED, TABLE, Event, State

HEAD = """<!-- Written by docs/generate.py from resubmit/model/recipient.py; change that. -->
# The states of a recipient

A state belongs to one recipient of one message, never to a message.
"""

MOVES = """
## From each state

What leads out of a state, and where to.
Events that are not named leave it as it is, can't happen in it, or are conflicts (see the table).
"""

EVENTS = """
## The events

`seen_…` is evidence about the current attempt, `late_…` about an older one.
"""

MEANING: dict[Event, str] = {
    Event.TAKEN_ELSEWHERE: "an intake saw mail that somebody else hands on",
    Event.ATTEMPT_STARTED: "an offer begins; its intent is on disk before a socket is touched",
    Event.ATTEMPT_ORPHANED: "a start finds an attempt without an end: maybe taken",
    Event.REPLY_ACCEPTED: "the next hop answered 250",
    Event.REPLY_FINAL: "the next hop answered 250 on a route marked final",
    Event.REPLY_DEFERRED: "4xx, unreachable, or lost before the final dot: surely not taken",
    Event.REPLY_REFUSED: "5xx, known to be beyond mending",
    Event.REPLY_REFUSED_MENDABLE: "5xx for a cause that can be mended",
    Event.REPLY_LOST: "the final dot was written and no reply came",
    Event.DOUBT_TIMED_OUT: "in doubt for too long with nothing to tell: it goes again",
    Event.QUEUE_EXPIRED: "held by us past its deadline",
    Event.ATTEMPTS_EXHAUSTED: "all its attempts were answered 250 and none arrived",
    Event.RELAY_PASSED_ON: "the relay beside us handed it on",
    Event.SEEN_ACCEPTED: "evidence that the far side took it",
    Event.SEEN_PENDING: "evidence that it is pending",
    Event.SEEN_DEFERRED: "evidence of a deferral",
    Event.SEEN_GIVEN_UP: "evidence that the far side gave up, for a cause that can be mended",
    Event.SEEN_FAILED: "evidence of a failure beyond mending",
    Event.SEEN_FILTERED: "evidence of quarantine or a spam filter",
    Event.SEEN_EXPANDED: "evidence that it is a group and was expanded",
    Event.SEEN_DELIVERED: "evidence of delivery",
    Event.SEEN_NOWHERE: "a live trace that should know it does not",
    Event.LATE_DELIVERED: "evidence that an older attempt was delivered",
    Event.LATE_EXPANDED: "evidence that an older attempt was expanded",
    Event.LATE_OTHER: "anything else about an older attempt; it never undoes a newer one",
    Event.OPERATOR_HELD: "a person holds it",
    Event.OPERATOR_RELEASED: "a person releases it",
    Event.OPERATOR_CANCELLED: "a person gives it up for good",
    Event.OPERATOR_REDIRECTED: "a person sends it to another address instead",
    Event.OPERATOR_REOPENED: "a person replays what was failed or cancelled",
    Event.PRUNED: "retention removes the message's bytes",
}
"""What each event is, in a few words."""

CELLS = """
## The table

A state's name: it moves there.
`.`: it stays.
`!`: a conflict; it is recorded and reported, and nothing moves.
`x`: it can't happen; that would be a bug.
`below`: a held recipient returns to the state under the hold.
A held recipient that stays held is moved under its hold by evidence, so that a release returns to the truth.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *state_rows(), MOVES, *moves(), EVENTS, *event_rows(), CELLS, *cells()]) + "\n"


def state_rows() -> Iterator[str]:
    """A table of the states with their meaning."""
    words = docstrings(State)
    yield "| state | settled | meaning |\n|-|-|-|"
    for state in State:
        yield f"| `{state}` | {'yes' if state in SETTLED else 'no'} | {words[state.name]} |"


def moves() -> Iterator[str]:
    """For each state the states it moves to, with the events that do it."""
    for state in State:
        targets: dict[str, list[str]] = {}
        for event in Event:
            to = TABLE[event][state]
            if to not in (".", "!", "x", state):
                targets.setdefault(to, []).append(f"`{event}`")
        yield f"- `{state}`" + ("" if targets else ": nothing leads out of it")
        for to, events in targets.items():
            named = "the state below" if to == "below" else f"`{to}`"
            yield f"  - → {named}: {', '.join(events)}"


def event_rows() -> Iterator[str]:
    """A table of the events with their meaning."""
    yield "| event | what happened |\n|-|-|"
    for event in Event:
        yield f"| `{event}` | {MEANING[event]} |"


def cells() -> Iterator[str]:
    """Every cell, as the source has them."""
    yield "| event | " + " | ".join(State) + " |\n" + "|-" * (len(State) + 1) + "|"
    for event, row in TABLE.items():
        yield f"| `{event}` | " + " | ".join(row[state] for state in State) + " |"


def docstrings(of: type) -> dict[str, str]:
    """What stands under each field or member of a class in its source, on one line, by name."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(of))).body
    assert isinstance(body, ast.ClassDef)
    return words_of(body.body)


def words_of(body: Sequence[ast.stmt]) -> dict[str, str]:
    """What stands under each assignment, on one line, by name."""
    found: dict[str, str] = {}
    for line, after in pairwise(body):
        if not isinstance(line, ast.AnnAssign | ast.Assign):
            continue
        target = line.target if isinstance(line, ast.AnnAssign) else line.targets[0]
        if (
            isinstance(target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            found[target.id] = " ".join(str(after.value.value).split()).replace("|", "\\|")
    return found
