"""The config table of recovery."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from resubmit.settings import Rate, Span, Table, Wait

_MINUTE = 60 * 1000
_HOUR = 60 * _MINUTE


class Recovery(Table):
    """`[recovery]`: when and how what is stuck goes again."""

    mode: Literal["automatic", "manual", "observe"] = "automatic"
    """automatic resubmits by itself; manual only people's jobs; observe nothing."""
    stuck_after: Span = 15 * _MINUTE
    """How long a recipient may wait before it counts as stuck."""
    deadline_margin: Span = 2 * _HOUR
    """So close to its deadline, mail a live trace does not know is suspect."""
    watch_interval: Wait = 5 * _MINUTE
    """Between looks while all is well."""
    probe_interval: Wait = 20_000
    """Between looks while a gate is not open."""
    healthy_probes: int = Field(default=3, ge=1, strict=True)
    """Healthy looks in a row before a fault counts as gone."""
    settle: Span | None = None
    """Wait after the fault is gone; none: 10m with a live trace, 0s without."""
    trace_lag: Span = 15 * _MINUTE
    """How late a trace tells."""
    trace_stale: Span = 1 * _HOUR
    """Older coverage is no coverage."""
    canary: int = Field(default=1, ge=1, strict=True)
    """How many go first; then five times as many, and again, then the drain."""
    rate: Rate = 5.0
    """Resubmissions to a destination, unlimited for no limit."""
    max_attempts: int = Field(default=5, ge=1, strict=True)
    """Attempts answered 250 before a recipient is held."""
    in_doubt_wait: Span = 10 * _MINUTE
    """How long an attempt in doubt waits without a live trace."""
    give_up_after: Wait = 5 * 24 * _HOUR
    """How long we try what we hold ourselves."""
    suspect: Literal["ask", "resubmit"] = "ask"
    """What was accepted in a fault window, with no trace to tell."""
    expired: Literal["resubmit", "ask"] = "resubmit"
    """What the far side gave up: the sender has had an NDR."""
