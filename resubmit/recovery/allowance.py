"""How much a gate lets through now. Pure: a table of three rows.

Source: design, section 4 (*What opens and closes a gate*).
"""

from __future__ import annotations

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


def passes(gate: str | None, job_options: str) -> bool:
    """Whether a job's recipient may still go to a destination whose gate stands so: what was made due just
    before the gate closed stays here, unless a person forced the job through it."""
    return gate != "closed" or options_of(job_options).force
