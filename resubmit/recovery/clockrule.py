"""May the wall clock be believed? (design rule 10)

Promises: while it may not, nothing is resubmitted, given up or pruned. The wall clock is compared with the
monotonic one, which never jumps: when they part by a minute, trust is gone until they have agreed for ten
minutes without a break.

Limits: a wall clock that was wrong from the start can't be found this way; the anchor moves on every ten
minutes of agreement, so a clock slewed slowly (NTP, 500 ppm) is never called wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

from resubmit.clock import Clock
from resubmit.model.moment import MINUTE, Ms, span_text

PARTED = MINUTE
"""So far apart is not drift any more."""
AGREED_FOR = 10 * MINUTE
"""So long they must agree before the wall clock is believed again."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """What is remembered between two comparisons. `offset`: wall − monotonic at `anchored` (monotonic);
    `parted`: monotonic time at which they parted last, None while trusted; `jump`: by how much."""

    offset: Ms
    anchored: Ms
    parted: Ms | None = None
    jump: Ms = 0

    @property
    def trusted(self) -> bool:
        return self.parted is None

    def trusted_at(self, now: Ms, monotonic: Ms) -> Ms | None:
        """When the wall clock will be believed again if it stays as it is; None while it is."""
        return None if self.parted is None else now + max(0, self.parted + AGREED_FOR - monotonic)

    @property
    def why(self) -> str:
        """What to tell a person while it is not trusted, "" while it is."""
        if self.trusted:
            return ""
        way = "forward" if self.jump > 0 else "back"
        return (
            f"this machine's clock jumped {way} by {span_text(abs(self.jump))}: nothing is resubmitted, "
            f"given up or pruned until it has run evenly for {span_text(AGREED_FOR)}"
        )


def compare(before: Clocks | None, now: Ms, monotonic: Ms) -> Clocks:
    """The clocks after one more comparison. `before` None: the first one, which trusts."""
    offset = now - monotonic
    if before is None:
        return Clocks(offset, monotonic)
    jump = offset - before.offset
    if abs(jump) >= PARTED:
        return Clocks(offset, monotonic, parted=monotonic, jump=jump)
    if monotonic - before.anchored < AGREED_FOR:
        return before
    return Clocks(offset, monotonic)


class ClockRule:
    """The rule in force: one for the whole service, asked before anything that can't be taken back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._clocks: Clocks | None = None

    def holds(self) -> bool:
        """Whether nothing may be resubmitted, given up or pruned now. Compares the clocks."""
        self._clocks = compare(self._clocks, self._clock.now(), self._clock.monotonic())
        return not self._clocks.trusted

    @property
    def why(self) -> str:
        """What to tell a person while it holds, "" while it does not."""
        return self._clocks.why if self._clocks else ""

    def ends_at(self) -> Ms | None:
        """When it will hold no longer if the clocks agree from now on; None while it does not hold."""
        if self._clocks is None:
            return None
        return self._clocks.trusted_at(self._clock.now(), self._clock.monotonic())
