"""What an operator decides for single recipients, and what came of it. Pure.

Source: design 6.1 (`hold|release|cancel|redirect`); states.md, the `operator_…` rows and their notes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from resubmit.journal.verbs import Moved
from resubmit.model.recipient import Event, State
from resubmit.recovery.facts import Standing

EVENTS = {
    "hold": Event.OPERATOR_HELD,
    "release": Event.OPERATOR_RELEASED,
    "cancel": Event.OPERATOR_CANCELLED,
    "redirect": Event.OPERATOR_REDIRECTED,
}
REDIRECT = "redirect"
BUSY = "an attempt is under way"
NO_BODY = "its body is no longer kept"

_GOAL = {"hold": State.HELD, "cancel": State.CANCELLED, "redirect": State.CANCELLED}


def is_busy(standing: Standing) -> bool:
    """Whether an attempt is open, so that the operator's word has to wait for its end."""
    return standing.state is State.SENDING


def outcome(do: str, answers: Sequence[Moved], kept_back: Sequence[str] = ()) -> dict[str, Any]:
    """The result of a request, in recipients: `matched`, `changed`, `already` (stood so before), and `left`:
    how many were left alone, by the reason: the state they are in, or one of `kept_back`."""
    left = Counter(kept_back)
    changed = already = 0
    for answer in answers:
        if answer.from_ is not answer.to:
            changed += 1
        elif _was_so(do, answer.from_):
            already += 1
        else:
            left[answer.from_.value] += 1
    return {
        "matched": changed + already + left.total(),
        "changed": changed,
        "already": already,
        "left": dict(sorted(left.items())),
    }


def _was_so(do: str, state: State) -> bool:
    if do == "release":
        return state is not State.HELD
    return do != REDIRECT and state is _GOAL[do]
