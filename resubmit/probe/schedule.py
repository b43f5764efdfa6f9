"""When a target is looked at next. Pure: time and chance come in.

While all is well every watch_interval, else every probe_interval, each ±10 % by chance so that many targets
spread; the first look is due at once. A route whose gate is open is not looked at: its own traffic tells.
One look a target at a time is kept by whoever asks: a span counts from the last look's beginning, and is
asked for only when that look has ended.
"""

from __future__ import annotations

import random

from resubmit.model.moment import SECOND, Ms

SPREAD = 0.1


def wait_for(
    last: Ms | None,
    now: Ms,
    *,
    target: str,
    gate: str | None,
    watch_interval: Ms,
    probe_interval: Ms,
    chance: random.Random,
) -> Ms | None:
    """The span to the next look, 0 when it is due, None when none is to come while the gate stays so.

    last: when the last look began, None for never; of the same monotonic clock as `now`. gate: its state,
    None for one that never turned. Whoever is woken within the spread looks at once, so that a wait that
    was slept through is never drawn anew.
    """
    is_open = not is_strict(gate)
    if is_open and target.startswith("route:"):
        return None
    if last is None:
        return 0
    interval = watch_interval if is_open else probe_interval
    since = now - last
    if since >= interval * (1 - SPREAD):
        return 0
    return max(1, round(interval * (1 + SPREAD * (2 * chance.random() - 1)) - since))


def is_strict(gate: str | None) -> bool:
    """Whether mail waits for the look: the gate is closed or testing."""
    return gate not in (None, "open")


def limit(probe_interval: Ms) -> Ms:
    """The time limit of one look: no longer than the interval while a gate is closed, but 5 to 30 s."""
    return min(max(probe_interval, 5 * SECOND), 30 * SECOND)
