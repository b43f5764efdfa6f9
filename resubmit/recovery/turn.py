"""The words of a gate: how it can stand, what a trial told, and what is decided of it.

Promises: nothing here decides anything; what does is judgement.py for destinations, route_gate.py for routes.
"""

from __future__ import annotations

from dataclasses import dataclass

from resubmit.model.moment import Ms
from resubmit.recovery.facts import Gate
from resubmit.recovery.memory import Memory

OPEN = "open"
CLOSED = "closed"
TESTING = "testing"


@dataclass(frozen=True, slots=True)
class Trial:
    """How the canary stands. `proved_at`: when its proof was read; `failed`: with what it failed, "" when it
    has not. `candidates`: recipients that are one, or could be now or after a wait; `unsettled`: members of
    the incident that are not settled."""

    proved_at: Ms | None = None
    failed: str = ""
    candidates: int = 0
    unsettled: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What a gate is to be. `wake_at`: when time alone can change the answer. `tell`: a person has to look.
    `fault_from` and `cause` are set when it closes on a new fault: an incident begins (or goes on).
    `row`: the name of the row of the table that decided, "" for a route."""

    state: str
    reasons: tuple[str, ...]
    memory: Memory
    wake_at: Ms | None = None
    tell: bool = False
    fault_from: Ms | None = None
    cause: str = ""
    row: str = ""

    def differs(self, gate: Gate) -> bool:
        """Whether it has to be written down."""
        return (self.state, self.reasons, self.memory.to_text()) != (gate.state, gate.reasons, gate.data)

    def moves(self, gate: Gate) -> bool:
        """Whether the gate itself moves, and not only what is remembered of it."""
        return self.state != gate.state
