"""When we try again what the next hop did not take.

Source: design, section 4 (*Limits*); RFC 5321 §4.5.4.1 asks for at least 30 minutes between tries, but
counts on a queue of the sender's own: here the first tries come sooner, because a fault that is mended in
a minute should not cost half an hour.
"""

from __future__ import annotations

from random import Random

from resubmit.model.moment import MINUTE, SECOND, Ms

FIRST: Ms = 30 * SECOND
LONGEST: Ms = 30 * MINUTE
SPREAD = 0.1
"""So much longer or shorter at most, so that what failed together does not come back together."""


def retry_after(failures: int, chance: Random) -> Ms:
    """How long to wait after so many failures in a row (from 1): 30 s, doubling up to 30 m, ±10 %."""
    doublings = min(max(failures, 1) - 1, 16)  # 2**16 is far above LONGEST; unbounded it grows for years
    span = min(FIRST << doublings, LONGEST)
    return round(span * (1 + chance.uniform(-SPREAD, SPREAD)))
