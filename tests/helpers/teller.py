"""How a world's trace is told: late, once or twice, in order or shuffled."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from resubmit.clock import Clock
from resubmit.lab.trace import Row, Trace
from resubmit.lab.trace_files import EVENTS, SUMMARIES, Form, Publisher
from resubmit.model.moment import Ms
from tests.helpers.plot import Plot


class Teller(Publisher):
    """The trace as a plot has it told."""

    def __init__(
        self, trace: Trace, folder: Path, plot: Plot, *, clock: Clock, chance: random.Random
    ) -> None:
        super().__init__(
            trace,
            folder,
            clock=clock,
            lag=plot.lag,
            every=plot.every,
            summaries=tuple(self._told(form) for form in SUMMARIES),
            events=tuple(self._told(form) for form in EVENTS),
        )
        self._plot = plot
        self._chance = chance
        self._before: list[tuple[Form, list[Row]]] = []

    def publish(self, cutoff: Ms) -> list[Path]:
        again, self._before = self._before, []
        files = super().publish(cutoff)
        if self._plot.twice:
            for number, (form, rows) in enumerate(again):
                self._chance.shuffle(rows)
                self._write(f"{len(self.files):04d}-again-{number}.csv", form(rows))
        return files

    def _told(self, form: Form) -> Form:
        def told(rows: Sequence[Row]) -> bytes:
            lines = list(rows)
            if self._plot.shuffled and form in EVENTS:
                lines = [replace(row, steps=[step]) for row in rows for step in row.steps]
                self._chance.shuffle(lines)
            self._before.append((form, list(rows)))
            return form(lines)

        told.__name__ = form.__name__
        return told
