"""The page of /metrics, in Prometheus' text format, from one reading of the journal.

A registry of its own with one collector: nothing global, nothing of the process but what the service did.
Settled mail is not counted (that would read all of it). Names begin with `resubmit_`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from resubmit import __version__
from resubmit.clock import Clock
from resubmit.journal import read
from resubmit.journal.read import Figures
from resubmit.journal.writer import BUCKETS_S

GATE_STATES = ("open", "testing", "closed")


class WriterStats(Protocol):
    """What the journal's writer tells of itself: counts since it was opened, times in seconds.

    `buckets` counts commits by time, one more than there are bounds."""

    @property
    def calls(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def commits(self) -> int: ...
    @property
    def commit_seconds(self) -> float: ...
    @property
    def buckets(self) -> Sequence[int]: ...


class Metrics:
    """Renders the page. `folder` is the journal's; `bounds` are the upper bounds of `stats().buckets`."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        stats: Callable[[], WriterStats] | None = None,
        bounds: Sequence[float] = BUCKETS_S,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._stats = stats
        self._bounds = bounds
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(self._collect))

    def render(self) -> bytes:
        """The page. Raises JournalUnreadable."""
        return generate_latest(self._registry)

    def _collect(self) -> Iterable[Metric]:
        now = self._clock.now()
        with closing(read.connect(self._folder)) as conn:
            figures = read.metrics(conn, now)
        yield from families(figures, now)
        if self._stats is not None:
            yield from commit_families(self._stats(), self._bounds)


class _Collector(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()

    def describe(self) -> Iterable[Metric]:
        return []  # so that registering reads no journal


def families(figures: Figures, now: int) -> Iterable[Metric]:
    """The journal's figures as metric families. Spans are seconds; what is not there has no sample."""
    yield _gauge("resubmit_build_info", "The version that runs.", [((__version__,), 1)], ["version"])
    stuck = [((cause, destination), n) for (cause, destination), n in figures.stuck.items()]
    yield _gauge("resubmit_stuck_recipients", "Recipients that are stuck.", stuck, ["cause", "destination"])
    yield _gauge("resubmit_stuck_oldest_seconds", "How long the oldest stuck recipient has been so.",
                 _since(figures.oldest_stuck, now))  # fmt: skip
    yield _gauge("resubmit_deadline_seconds", "Until the next stuck recipient bounces.",
                 [((), (figures.next_deadline - now) / 1000)] if figures.next_deadline else [])  # fmt: skip
    states = [((state,), n) for state, n in figures.states.items()]
    yield _gauge("resubmit_recipients", "Recipients not settled, by state.", states, ["state"])
    waiting = [((route,), n) for route, n in figures.waiting.items()]
    yield _gauge("resubmit_waiting_recipients", "Recipients with an attempt to come.", waiting, ["route"])
    gates = [
        ((*name.split(":", 1), state), int(state == is_now))
        for name, is_now in figures.gates.items()
        for state in GATE_STATES
    ]
    yield _gauge("resubmit_gate", "1 for the state a gate is in.", gates, ["kind", "name", "state"])
    yield _gauge("resubmit_attempts_open", "Attempts under way.", [((), figures.offers_open)])
    yield _gauge("resubmit_incidents_open", "Incidents not closed.", [((), figures.incidents_open)])
    yield _gauge("resubmit_messages", "Messages kept.", [((), figures.messages)])
    yield _gauge("resubmit_evidence_unmatched", "Evidence without an owner.", [((), figures.unmatched)])
    yield _gauge("resubmit_unreadable", "Items no source could read.", [((), figures.unreadable)])
    days = [(tuple(target.split(":", 1)), left) for target, left in figures.days_left.items()]
    yield _gauge("resubmit_certificate_days_left", "Until the first certificate seen there ends.", days,
                 ["kind", "name"])  # fmt: skip
    attempts = CounterMetricFamily("resubmit_attempts", "SMTP transactions begun.", value=figures.offers)
    yield attempts


def commit_families(stats: WriterStats, bounds: Sequence[float]) -> Iterable[Metric]:
    """What the journal's writer did since the service started."""
    yield CounterMetricFamily("resubmit_journal_calls", "Verbs written.", value=stats.calls)
    yield CounterMetricFamily("resubmit_journal_calls_failed", "Verbs that failed.", value=stats.failed)
    if not bounds:
        yield CounterMetricFamily("resubmit_journal_commits", "Commits.", value=stats.commits)
        return
    below = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*(repr(b) for b in bounds), "+Inf"), stats.buckets, strict=True):
        below += count
        buckets.append((bound, below))
    yield HistogramMetricFamily(
        "resubmit_journal_commit_seconds",
        "Time of a commit.",
        buckets=buckets,
        sum_value=stats.commit_seconds,
    )


def _since(at: int | None, now: int) -> list[tuple[tuple[str, ...], float]]:
    return [] if at is None else [((), max(0, now - at) / 1000)]


def _gauge(
    name: str,
    text: str,
    samples: Iterable[tuple[tuple[str, ...], float]],
    labels: Sequence[str] = (),
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=list(labels))
    for values, value in samples:
        family.add_metric(values, value)
    return family
