"""What happens in a simulated world, drawn from its seed: faults, repairs, kills, and how the trace tells."""

from __future__ import annotations

import random
from dataclasses import dataclass

from resubmit.lab.script import STEPS
from resubmit.model.moment import MINUTE, SECOND, Ms

FAULTS = ("expired", "expired", "wrong_name", "self_signed", "no_starttls", "refused")
"""What is wrong with the hybrid server; most often its certificate has expired."""

Span = tuple[Ms, Ms]


@dataclass(frozen=True)
class Plot:
    """One story. Times are ms of the world's own clock, chances are for each mail or connection."""

    mails: int
    fault: str
    breaks: Ms
    mended: Ms
    wrong_fix: Ms | None
    """When somebody tries a repair that is none."""
    relapse: Span | None
    """The fault is back for so long, after it was mended."""
    partner_down: Span | None
    """The other destination's server is away, or shows a bad certificate: its route's gate."""
    partner_fault: str
    far_retries: bool
    """Whether Exchange Online tries deferred mail again by itself."""
    heals: Ms
    """When the network's trouble is over."""
    cuts: float
    """Connections to a next hop that break somewhere."""
    client_cuts: float
    """Connections of the sending application that break somewhere."""
    lost: float
    """Replies to the final dot that never arrive."""
    slow: float
    """Replies to the final dot that take a while, or longer than anybody waits."""
    silence: tuple[Ms, str] | None
    """From when on the next hop says nothing any more at this step, once."""
    lag: Ms
    every: Ms
    late: Span | None
    """Nothing is told of the trace meanwhile, and then all at once."""
    twice: bool
    """Each trace file comes a second time, its lines in another order."""
    shuffled: bool
    vouched: bool
    """A person gives the whole trace to `ingest --covers` now and then: a live trace."""
    kills: tuple[str, ...]
    """When the service is killed: `at <ms>`, or `sent <k> <ms>`: so long after the k-th mail that recovery
    sends again is at the next hop, 0 before its reply is out."""

    @property
    def is_calm(self) -> bool:
        """Whether nothing can make a copy too many."""
        troubled = self.cuts or self.client_cuts or self.lost or self.slow or self.kills or self.silence
        return not troubled and not self.far_retries and not self.relapse


def plot_of(seed: int, *, kills: int | None = None) -> Plot:
    """The plot of a seed. Every sixth is calm, and every sixth has so many mails that it comes to a drain;
    `kills` fixes how often the service is killed."""
    chance = random.Random(f"plot {seed}")
    calm, long = seed % 6 == 5, seed % 6 == 4
    breaks = round(chance.uniform(2, 8) * MINUTE)
    mended = breaks + round(chance.uniform(20, 30) * MINUTE)

    def maybe(odds: float, value: float) -> float:
        return value if not calm and chance.random() < odds else 0.0

    def sometime(odds: float, longest: float) -> Span | None:
        start = round(chance.uniform(1, 40) * MINUTE)
        end = start + round(chance.uniform(2, longest) * MINUTE)
        return (start, end) if chance.random() < odds else None

    again = mended + round(chance.uniform(8, 30) * MINUTE)
    count = (0 if calm else (1 + seed // 6) % 4 if long else seed % 4) if kills is None else kills
    return Plot(
        mails=50 if long else 20,
        fault=chance.choice(FAULTS),
        breaks=breaks,
        mended=mended,
        wrong_fix=round(chance.uniform(breaks + MINUTE, mended - 5 * MINUTE))
        if chance.random() < 0.4
        else None,
        relapse=(again, again + 12 * MINUTE) if maybe(0.3, 1) else None,
        partner_down=sometime(0.6, 20),
        partner_fault=chance.choice(("refused", "expired")),
        far_retries=bool(maybe(0.3, 1)),
        heals=mended + round(chance.uniform(10, 50) * MINUTE),
        cuts=maybe(0.7, 0.3),
        client_cuts=maybe(0.4, 0.1),
        lost=maybe(0.4, 0.1),
        slow=maybe(0.3, 0.1),
        silence=(round(chance.uniform(1, 60) * MINUTE), chance.choice(STEPS)) if maybe(0.3, 1) else None,
        lag=round(chance.uniform(0.5, 14) * MINUTE),
        every=round(chance.uniform(2, 6) * MINUTE),
        late=sometime(0.3, 40),
        twice=chance.random() < 0.4,
        shuffled=chance.random() < 0.4,
        vouched=chance.random() < 0.3,
        kills=tuple(_kill(chance, (1, 7, 33, 40) if long else (1, 1, 2, 4, 7, 10)) for _ in range(count)),
    )


def _kill(chance: random.Random, counts: tuple[int, ...]) -> str:
    if chance.random() < 0.4:
        return f"at {round(chance.uniform(1, 70) * MINUTE)}"
    after = 0 if chance.random() < 0.5 else round(chance.uniform(1, 240) * SECOND)
    return f"sent {chance.choice(counts)} {after}"
