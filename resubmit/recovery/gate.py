"""May mail be resubmitted to a destination? (design section 4, *What opens and closes a gate*)

Promises: `decide` is a pure function of what is known now; the order of the facts does not matter. What
decides is the table of judgement.py, over what sight.py makes of the facts.
"""

from __future__ import annotations

from collections.abc import Sequence

from resubmit.model.moment import DAY, MINUTE, Ms
from resubmit.recovery import judgement
from resubmit.recovery.facts import Fault, Gate, Look
from resubmit.recovery.memory import Memory, memory_of
from resubmit.recovery.policy import Policy
from resubmit.recovery.sight import UNKNOWN_FOR, looks_since, see
from resubmit.recovery.signs import cause_of_codes, speaks_against, speaks_for
from resubmit.recovery.turn import CLOSED, OPEN, TESTING, Decision, Trial

__all__ = [
    "CLOSED",
    "OPEN",
    "TESTING",
    "UNKNOWN_FOR",
    "Decision",
    "Trial",
    "cause_of_codes",
    "decide",
    "faults_since",
    "is_open",
    "looks_since",
    "settle_ends",
    "speaks_against",
    "speaks_for",
]

EVIDENCE_COUNTS_FOR = 2 * DAY
"""Where neither a fault nor a fix is known."""


def decide(
    gate: Gate,
    looks: Sequence[Look],
    faults: Sequence[Fault],
    trial: Trial,
    policy: Policy,
    *,
    live: bool,
    now: Ms,
    started_at: Ms,
) -> Decision:
    """What the gate of a destination is to be. `live`: a live trace is there; `started_at`: of the service.

    Raises nothing; facts from the future count as of now."""
    return judgement.judge(see(gate, looks, faults, trial, policy, live=live, now=now, started_at=started_at))


def settle_ends(memory: Memory, policy: Policy, live: bool) -> Ms | None:
    """When settle is over for what `memory` believes to be fixed; None while nothing is."""
    return judgement.settle_ends(memory, policy.settle_for(live))


def faults_since(gate: Gate, now: Ms) -> Ms:
    """From when on evidence is asked for: what is older says nothing of the present."""
    memory = memory_of(gate.data)
    known = memory.fixed_at if gate.state == OPEN else memory.fault_at
    return (known if known is not None else now - EVIDENCE_COUNTS_FOR) - MINUTE


def is_open(gate: Gate) -> bool:
    """Whether mail may flow."""
    return gate.state == OPEN
