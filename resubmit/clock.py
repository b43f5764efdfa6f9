"""Time and chance: the only source of both, so that a whole service can run in a simulated world.

Promises: `now()` is UTC in milliseconds since 1970; waits run on the loop's monotonic clock (design
rule 10), so a wall clock that jumps never shortens or stretches one.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Protocol

from resubmit.model.moment import Ms


class Clock(Protocol):
    """Wall time, monotonic time and a seeded source of chance."""

    chance: random.Random

    def now(self) -> Ms:
        """Wall time, UTC, in milliseconds since 1970."""

    def monotonic(self) -> Ms:
        """Time that never goes back, in milliseconds from an arbitrary start."""


class SystemClock:
    """The machine's own clocks."""

    def __init__(self, seed: int | None = None) -> None:
        self.chance = random.Random(seed)

    def now(self) -> Ms:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> Ms:
        return time.monotonic_ns() // 1_000_000


class LoopClock:
    """Wall = base + the running loop's time: what the simulated world uses."""

    def __init__(self, base: Ms, seed: int = 0) -> None:
        self.base = base
        self.chance = random.Random(seed)

    def now(self) -> Ms:
        return self.base + self.monotonic()

    def monotonic(self) -> Ms:
        return round(asyncio.get_running_loop().time() * 1000)


async def sleep(span: Ms) -> None:
    """Return after `span` milliseconds of monotonic time."""
    await asyncio.sleep(span / 1000)
