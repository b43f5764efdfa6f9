"""The last look: what the trace says after the fix, before anything goes again.

Promises: it counts only if the trace answered for a recipient's time and was asked after the fix, so that
what the far side delivered by itself has dropped out; it is good for 15 minutes. Without a live trace
there is none to wait for.

Source: design, section 4 (*Duplicates*, *Limits*) and section 2 (*live trace*).
"""

from __future__ import annotations

from collections.abc import Sequence

from resubmit.model.moment import DAY, MINUTE, Ms
from resubmit.recovery.facts import Coverage

GOOD_FOR = 15 * MINUTE
"""So long a last look may be relied on."""
REACH = 3 * DAY
"""Longer than any far side keeps trying (48 h formerly)."""


def since(trace_stale: Ms, now: Ms) -> Ms:
    """From when on coverage is asked for: older spans matter only as part of a live trace's reach."""
    return now - max(trace_stale, REACH)


def newest(coverage: Sequence[Coverage]) -> Coverage | None:
    """The coverage that reaches furthest."""
    return max(coverage, key=lambda c: (c.until, c.read_at, c.source), default=None)


def is_live(coverage: Sequence[Coverage], trace_stale: Ms, now: Ms) -> bool:
    """Whether some source answers for everything, up to less than `trace_stale` ago."""
    found = newest(coverage)
    return found is not None and now - found.until < trace_stale


def live_until(coverage: Sequence[Coverage], trace_stale: Ms) -> Ms | None:
    """When the trace will be live no longer if nothing comes; None where there is none."""
    found = newest(coverage)
    return None if found is None else found.until + trace_stale


def answers_for(coverage: Sequence[Coverage], at: Ms, until: Ms) -> bool:
    """Whether the sources together answer for everything from `at` to `until`, without a gap."""
    reach = at
    for span in sorted(coverage, key=lambda c: (c.since, c.until)):
        if span.since <= reach and span.until >= reach:
            reach = max(reach, span.until)
    return reach >= until and any(c.since <= at <= c.until for c in coverage)


def has_been_had(coverage: Sequence[Coverage], taken_at: Ms, later_than: Ms, now: Ms) -> bool:
    """Whether a last look counts for mail taken at `taken_at`: asked in the last 15 minutes, and reaching
    from then to later than `later_than` (the fix)."""
    recent = [c for c in coverage if c.read_at > later_than and now - c.read_at < GOOD_FOR]
    return answers_for(recent, taken_at, later_than + 1)
