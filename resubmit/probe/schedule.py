"""When a target is looked at next, one look a target at a time. Pure: time and chance come in.

While all is well every watch_interval, else every probe_interval, each ±10 % by chance so that many targets
spread; the first look of a target is due at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from resubmit.model.moment import Ms

SPREAD = 0.1


@dataclass(slots=True)
class _Target:
    due_at: Ms
    looked_at: Ms | None = None
    is_looking: bool = False


def interval(*, is_open: bool, watch: Ms, probe: Ms, draw: float) -> Ms:
    """The span to the next look. `draw`: uniform in 0…1, from the clock's chance; 0.5 is the middle."""
    return round((watch if is_open else probe) * (1 + SPREAD * (2 * draw - 1)))


@dataclass(slots=True)
class Schedule:
    """Which targets are due. All times are of one clock that never goes back."""

    watch: Ms
    probe: Ms
    _targets: dict[str, _Target] = field(default_factory=dict)

    def know(self, names: list[str], now: Ms) -> None:
        """The targets are these; new ones are due at once, gone ones are forgotten."""
        for name in names:
            self._targets.setdefault(name, _Target(now))
        for name in set(self._targets) - set(names):
            del self._targets[name]

    def due(self, now: Ms) -> list[str]:
        """Targets to look at now, longest due first; never one that is being looked at."""
        waiting = [(t.due_at, n) for n, t in self._targets.items() if not t.is_looking and t.due_at <= now]
        return [name for _, name in sorted(waiting)]

    def next_due(self) -> Ms | None:
        """When the next one is due; None when there is none, or all are being looked at."""
        return min((t.due_at for t in self._targets.values() if not t.is_looking), default=None)

    def began(self, name: str) -> None:
        """The target is being looked at."""
        if target := self._targets.get(name):
            target.is_looking = True

    def ended(self, name: str, now: Ms, *, is_open: bool, draw: float) -> None:
        """The look is over; the next one counts from its end. A target forgotten meanwhile stays so."""
        if target := self._targets.get(name):
            target.is_looking = False
            target.looked_at = now
            target.due_at = now + interval(is_open=is_open, watch=self.watch, probe=self.probe, draw=draw)

    def hurry(self, name: str, now: Ms, *, draw: float) -> None:
        """Its gate is not open any more: the next look comes by the shorter interval, or at once when
        that has passed since the last; a person's wish or a new fault never waits for the long one."""
        target = self._targets.get(name)
        if target is None or target.is_looking:
            return
        since = target.looked_at
        soon = (
            now
            if since is None
            else since + interval(is_open=False, watch=self.watch, probe=self.probe, draw=draw)
        )
        target.due_at = min(target.due_at, max(now, soon))
