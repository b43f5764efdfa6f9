"""How late a source tells: counts of what came within so many minutes of having happened.

Promises: bounded; the past fades, so that what changed is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resubmit.model.moment import MINUTE, Ms

BOUNDS = (1, 2, 5, 10, 15, 30, 60)
"""Minutes: the counts are of what came within these, and one of what came later."""
BEYOND = 120
"""Minutes that stand for later than the last bound."""
_FADES = 10_000
_ENOUGH = 20


@dataclass(frozen=True, slots=True)
class Lateness:
    """Counts by BOUNDS, and one beyond."""

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)

    @classmethod
    def of(cls, counts: object) -> Lateness:
        """From stored counts; none where they are no such counts."""
        if not isinstance(counts, list | tuple) or len(counts) != len(BOUNDS) + 1:
            return cls()
        return cls(tuple(counts)) if all(isinstance(n, int) and n >= 0 for n in counts) else cls()

    @property
    def total(self) -> int:
        """How many were counted."""
        return sum(self.counts)

    def with_spans(self, spans: Sequence[Ms]) -> Lateness:
        """These were so late, too."""
        counts = list(self.counts)
        for span in spans:
            counts[next((i for i, bound in enumerate(BOUNDS) if span <= bound * MINUTE), len(BOUNDS))] += 1
        return Lateness(tuple(count // 2 for count in counts) if sum(counts) > _FADES else tuple(counts))

    def within(self, percent: int) -> int | None:
        """Within how many minutes so many percent were there; None: nothing is known."""
        so_far = 0
        for count, bound in zip(self.counts, (*BOUNDS, BEYOND), strict=True):
            so_far += count
            if so_far and so_far * 100 >= self.total * percent:
                return bound
        return None

    def is_beyond(self, span: Ms) -> bool:
        """Whether more than one in twenty came surely later than a span; of a few, nothing is said."""
        lower = (0, *BOUNDS)
        late = sum(n for n, bound in zip(self.counts, lower, strict=True) if bound and bound * MINUTE >= span)
        return self.total >= _ENOUGH and late * 20 > self.total
