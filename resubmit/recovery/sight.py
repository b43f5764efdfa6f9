"""All that a judgement goes by, put together once: looks and evidence as they stand against each other.

Promises: pure; the order of the facts does not matter. A look later than the worst sign that is known may be
part of a row, one before it never is; what could tell nothing neither counts nor resets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from resubmit.model.moment import DAY, MINUTE, Ms
from resubmit.model.tls import Health
from resubmit.recovery.facts import Fault, Gate, Look
from resubmit.recovery.flapping import flaps
from resubmit.recovery.looks import has_changed, healthy_row, leading, reference_of
from resubmit.recovery.memory import Memory, memory_of
from resubmit.recovery.nodes import Hidden, hidden
from resubmit.recovery.policy import Policy
from resubmit.recovery.signs import newest_first, speaks_against, speaks_for
from resubmit.recovery.turn import CLOSED, OPEN, Trial
from resubmit.recovery.words import at_text

UNKNOWN_FOR = 30 * MINUTE
"""So long the probe may tell nothing before the canary is asked instead."""
LOOKS_COUNT_FOR = 3
"""Intervals: looks older than that at start say nothing of the present."""
LONGEST_WAIT = 60 * MINUTE
"""Between two canaries while nothing changes; doubles up to it from trace_lag."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A gate, its facts, and what follows from them alone.

    memory: with what these facts add. looks: those that count, newest first, all of them; known: of these
    the ones that told something. row: the healthy ones in a row, later than the worst sign. against:
    deferrals of the whole destination that are about the present. dark: since when looks have told nothing.
    flapping: whether health comes and goes. hidden: a faulty node that may only not be met.
    """

    gate: Gate
    memory: Memory
    looks: tuple[Look, ...]
    known: tuple[Look, ...]
    row: tuple[Look, ...]
    against: tuple[Fault, ...]
    faults: Sequence[Fault]
    everything: tuple[Look, ...]
    trial: Trial
    policy: Policy
    live: bool
    now: Ms
    flapping: bool
    hidden: Hidden | None

    @property
    def newest(self) -> Look | None:
        """The newest look that told something."""
        return self.known[0] if self.known else None

    @property
    def is_faulty(self) -> bool:
        """Whether the probe sees the fault now."""
        return self.newest is not None and self.newest.health == Health.FAULTY

    @property
    def dark_until(self) -> Ms | None:
        """When the probe will have told nothing for so long that the canary decides; None: it tells."""
        since = self.memory.unknown_since
        return None if since is None else since + UNKNOWN_FOR

    @property
    def has_full_row(self) -> bool:
        """Whether enough healthy looks in a row are there, and the last is of the present."""
        fresh_for = max(LOOKS_COUNT_FOR * self.policy.probe_interval, MINUTE)
        return len(self.row) >= self.policy.healthy_probes and self.now - self.row[0].at <= fresh_for

    def delivery(self) -> Fault | None:
        """The first delivery that speaks for the present, later than every sign against it."""
        faulty = [look.at for look in self.known if look.health == Health.FAULTY]
        after = max([self.memory.worst_at or 0, *faulty])
        good = [f for f in self._good() if f.at > after]
        return min(good, key=lambda f: (f.at, f.read_at, f.remote), default=None)

    def delivery_despite_the_probe(self) -> Fault | None:
        """The newest delivery after the present run of faulty looks began: one of us two sees it wrong."""
        run = leading(self.known, Health.FAULTY)
        good = [f for f in self._good() if run and f.at > run[-1].at]
        return max(good, key=lambda f: (f.at, f.read_at, f.remote), default=None)

    def _good(self) -> list[Fault]:
        return [f for f in self.faults if speaks_for(f, self.policy.names_endpoint(f.remote))]

    def deferred_despite_the_probe(self) -> tuple[Fault, ...]:
        """Deferrals of mail taken while the probe already saw health: evidence beats it. Newest first."""
        healthy = leading(self.known, Health.HEALTHY)
        if not healthy:
            return ()
        return tuple(f for f in newest_first(self.faults) if speaks_against(f, healthy[-1].at))

    def canary_wait(self) -> tuple[Ms, str] | None:
        """After a canary that failed: growing gaps, but for a change that can be seen."""
        memory = self.memory
        if not memory.tries or memory.failed_at is None:
            return None
        if self.row and memory.reference is not None and has_changed(memory.reference, self.row[0]):
            return None
        ends = memory.failed_at + min(LONGEST_WAIT, self.policy.trace_lag * 2 ** (memory.tries - 1))
        if self.now >= ends:
            return None
        return ends, (
            f"the canary failed at {at_text(memory.failed_at)} and nothing has changed since; "
            f"the next may go at {at_text(ends)}"
        )


def see(
    gate: Gate,
    looks: Sequence[Look],
    faults: Sequence[Fault],
    trial: Trial,
    policy: Policy,
    *,
    live: bool,
    now: Ms,
    started_at: Ms,
) -> Sight:
    """The facts of a gate as the table reads them."""
    memory = memory_of(gate.data)
    everything = sorted(looks, key=lambda look: (look.at, look.health, look.fingerprint), reverse=True)
    interval = policy.watch_interval if gate.state == OPEN else policy.probe_interval
    counted = [look for look in everything if look.at >= started_at - LOOKS_COUNT_FOR * interval]
    told = [look for look in everything if look.health != Health.UNKNOWN]
    flapping = flaps(told, memory.flapping_at is not None)
    memory = replace(memory, flapping_at=(memory.flapping_at or now) if flapping else None)
    if gate.state == CLOSED:
        memory = _while_closed(gate, memory, counted, everything, faults, policy, now)
    known = [look for look in counted if look.health != Health.UNKNOWN]
    return Sight(
        gate=gate,
        memory=memory,
        looks=tuple(counted),
        known=tuple(known),
        row=tuple(healthy_row(known, memory.worst_at or memory.fault_at or 0)),
        against=tuple(newest_first([f for f in faults if speaks_against(f, memory.fixed_at)])),
        faults=faults,
        everything=tuple(everything),
        trial=trial,
        policy=policy,
        live=live,
        now=now,
        flapping=flapping,
        hidden=hidden(told),
    )


def _while_closed(
    gate: Gate,
    memory: Memory,
    looks: Sequence[Look],
    everything: Sequence[Look],
    faults: Sequence[Fault],
    policy: Policy,
    now: Ms,
) -> Memory:
    """What is remembered of a fault grows: a look to compare with, the worst sign, how long it is dark."""
    if memory.fault_at is None:  # closed by hand, or by an older version
        memory = replace(memory, fault_at=gate.since, worst_at=gate.since)
    memory = replace(memory, reference=reference_of(memory, everything, policy))
    worst = _worst(memory, looks, faults, now)
    return replace(memory, worst_at=worst, unknown_since=_unknown_since(memory, looks, now))


def _worst(memory: Memory, looks: Sequence[Look], faults: Sequence[Fault], now: Ms) -> Ms:
    """The newest sign against the present: what was known, and any deferral of an attempt that was taken
    after the row of healthy looks had begun."""
    worst = memory.worst_at or memory.fault_at or 0
    known = [look for look in looks if look.health != Health.UNKNOWN]
    row = healthy_row(known, worst)
    while row:
        against = [f for f in faults if speaks_against(f, row[-1].at) and f.at > worst]
        if not against:
            break
        worst = max(min(now, f.at) for f in against)
        shorter = healthy_row(known, worst)
        if len(shorter) == len(row):
            break
        row = shorter
    return worst


def _unknown_since(memory: Memory, looks: Sequence[Look], now: Ms) -> Ms | None:
    """Since when looks have told nothing: kept, because the journal hands out the newest looks only."""
    if looks and looks[0].health != Health.UNKNOWN:
        return None
    run = leading(looks, Health.UNKNOWN)
    if memory.unknown_since is not None and len(run) == len(looks):
        return memory.unknown_since
    if run:
        return run[-1].at if len(run) < len(looks) else min(run[-1].at, now)
    return memory.unknown_since if memory.unknown_since is not None else now


def looks_since(gate: Gate, now: Ms) -> Ms:
    """From when on looks are asked for."""
    return min(memory_of(gate.data).fault_at or now, now) - DAY
