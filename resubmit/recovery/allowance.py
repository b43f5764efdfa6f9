"""How much a gate lets through now. Pure: a table of three rows.

Source: design, section 4 (*What opens and closes a gate*).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from resubmit.recovery.jobs import options_of

_TOGETHER: dict[str, int | None] = {"open": None, "testing": 1, "closed": 0}


def together(gate: str | None) -> int | None:
    """How many offers may be under way at once over a route whose gate stands so; None for no limit.

    A route without a gate row was never faulty: open.
    """
    return _TOGETHER[gate or "open"]


def is_trial(gate: str | None) -> bool:
    """Whether what goes now is a trial, whose result must be judged before the next may go."""
    return gate == "testing"


class Asked(Protocol):
    """As much of a job as counts here; `options` as in its row."""

    @property
    def id(self) -> int: ...
    @property
    def options(self) -> str: ...


def closed(gates: Mapping[str, str]) -> frozenset[str]:
    """The destinations whose gate is closed. `gates`: name → state."""
    kind = "destination:"
    return frozenset(
        name.removeprefix(kind)
        for name, state in gates.items()
        if name.startswith(kind) and together(state) == 0
    )


def forced(jobs: Iterable[Asked]) -> frozenset[int]:
    """The jobs that go through a closed gate all the same: what another one made due just before the gate
    closed stays here, unless a person forced its job through."""
    return frozenset(job.id for job in jobs if options_of(job.options).force)
