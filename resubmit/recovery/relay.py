"""When the relay beside us is told to try again: design, section 3 rule 7."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from resubmit.recovery.gate import OPEN


class Gate(Protocol):
    """A gate as the journal has it."""

    @property
    def name(self) -> str: ...

    @property
    def state(self) -> str: ...


def states(gates: Iterable[Gate]) -> dict[str, str]:
    """The state of each destination's gate, by its name."""
    return {gate.name: gate.state for gate in gates if gate.name.startswith("destination:")}


def opened(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """The destinations whose gate has opened since: what the relay holds for them may go at once instead of
    when its own time comes. A gate that was not known before has not opened."""
    return tuple(
        name.partition(":")[2]
        for name, state in now.items()
        if state == OPEN and before.get(name, OPEN) != OPEN
    )
