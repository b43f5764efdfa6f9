"""Does the health of an endpoint come and go? (design section 4, *Flapping*)

Promises: pure; a look that could tell nothing is none. It begins when more than a third of the last 20 looks
changed, and ends only when less than a sixth did: between the two it stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from resubmit.model.tls import Health
from resubmit.recovery.facts import Look

LAST = 20
"""So many looks are weighed."""
BEGINS = LAST // 3 + 1
"""More than a third of them differ from the one before."""
GOES_ON = LAST // 6 + 1
"""Fewer than so many, and it has calmed down."""


def changes(looks: Sequence[Look]) -> int:
    """How many of the last looks (newest first) differ from the one before."""
    last = [look.health for look in looks if look.health != Health.UNKNOWN][:LAST]
    return sum(one != other for one, other in pairwise(last))


def flaps(looks: Sequence[Look], before: bool) -> bool:
    """Whether it flaps now; `before`: whether it did at the last judgement."""
    return changes(looks) >= (GOES_ON if before else BEGINS)
