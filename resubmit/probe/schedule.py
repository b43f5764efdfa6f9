"""When a target is looked at next. Pure: time and chance come in.

While all is well every watch_interval, else every probe_interval, each ±10 % by chance so that many targets
spread; the first look is due at once. Of a route whose gate is open its own traffic tells, and of our
listener whoever sends: these are looked at every HORIZON for the sake of their certificates, and not at once.
One look a target at a time is kept by whoever asks: a span counts from the last look's beginning, and is
asked for only when that look has ended.
"""

from __future__ import annotations

import random

from resubmit.model.moment import HOUR, SECOND, Ms

SPREAD = 0.1
HORIZON: Ms = 12 * HOUR
"""Between looks that are made for a certificate's days alone."""


def wait_for(
    last: Ms | None,
    now: Ms,
    *,
    target: str,
    certified: bool,
    gate: str | None,
    watch_interval: Ms,
    probe_interval: Ms,
    chance: random.Random,
) -> Ms | None:
    """The span to the next look, 0 when it is due, None when none is to come while the gate stays so.

    last: when the last look began, None for never; of the same monotonic clock as `now`, which begins with
    the watch. gate: its state, None for one that never turned. certified: whether there is a certificate to
    see; a route without TLS is not looked at while its gate is open. Whoever is woken within the spread
    looks at once, so that a wait that was slept through is never drawn anew.
    """
    is_open = not is_strict(gate)
    is_watched = target.startswith("destination:")
    if is_open and not is_watched:
        if not certified:
            return None
        if last is None:
            return max(0, watch_interval - now)
    if last is None:
        return 0
    interval = probe_interval if not is_open else watch_interval if is_watched else HORIZON
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
