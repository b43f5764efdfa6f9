"""May the wall clock be believed? (design rule 10)

Promises: while it may not, nothing is resubmitted, given up or pruned. The wall clock is compared with the
monotonic one, which never jumps: when they part by a minute, trust is gone until they have agreed for ten
minutes without a break. And with the far side's, where there is one to be heard (Graph's Date): when they
part by five minutes, trust is gone until they have been heard to agree for ten.

Limits: a wall clock that was wrong from the start is found by the far side's only; the anchor moves on every
ten minutes of agreement, so a clock slewed slowly (NTP, 500 ppm) is never called wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

from resubmit.clock import Clock
from resubmit.model.moment import MINUTE, Ms, span_text

PARTED = MINUTE
"""So far apart is not drift any more."""
FAR_PARTED = 5 * MINUTE
"""So far from the far side's clock, the wall clock tells other times than the trace's."""
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


@dataclass(frozen=True, slots=True)
class FarClock:
    """What was heard of the far side's clock, once it had parted from ours. ahead: by how much ours was;
    agreed: since when (monotonic) they agree again, None while they do not."""

    ahead: Ms
    agreed: Ms | None = None

    def trusted_at(self, now: Ms, monotonic: Ms) -> Ms | None:
        """When the wall clock will be believed again if they go on to agree; None: nobody knows."""
        return None if self.agreed is None else now + max(0, self.agreed + AGREED_FOR - monotonic)

    @property
    def why(self) -> str:
        """What to tell a person."""
        way = "ahead of" if self.ahead > 0 else "behind"
        return (
            f"this machine's clock is {span_text(abs(self.ahead))} {way} Microsoft's: nothing is "
            f"resubmitted, given up or pruned until they have agreed for {span_text(AGREED_FOR)}"
        )


def heard_of(before: FarClock | None, ahead: Ms, monotonic: Ms) -> FarClock | None:
    """The far clock after it was heard once more; None: nothing is wrong with ours."""
    if abs(ahead) >= FAR_PARTED:
        return FarClock(ahead)
    if before is None or (before.agreed is not None and monotonic - before.agreed >= AGREED_FOR):
        return None
    return before if before.agreed is not None else FarClock(before.ahead, monotonic)


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
        self._far: FarClock | None = None

    def heard(self, theirs: Ms, ours: Ms) -> None:
        """The far side's clock showed `theirs` when ours showed `ours`."""
        self._far = heard_of(self._far, ours - theirs, self._clock.monotonic())

    def holds(self) -> bool:
        """Whether nothing may be resubmitted, given up or pruned now. Compares the clocks."""
        self._clocks = compare(self._clocks, self._clock.now(), self._clock.monotonic())
        agreed = None if self._far is None else self._far.agreed
        if agreed is not None and self._clock.monotonic() - agreed >= AGREED_FOR:
            self._far = None
        return not self._clocks.trusted or self._far is not None

    @property
    def why(self) -> str:
        """What to tell a person while it holds, "" while it does not."""
        if self._clocks is not None and not self._clocks.trusted:
            return self._clocks.why
        return self._far.why if self._far is not None else ""

    def ends_at(self) -> Ms | None:
        """When it will hold no longer if the clocks agree from now on; None while it does not hold, or while
        nobody can know."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        ends = [one.trusted_at(now, monotonic) for one in (self._clocks, self._far) if one is not None]
        return max((at for at in ends if at is not None), default=None)
