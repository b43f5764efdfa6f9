"""One route's pump: what it has under way, what waits for a place, and its limiter."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any

from resubmit.flow.wake import Wake
from resubmit.handoff.limiter import Limiter
from resubmit.handoff.settings import Route
from resubmit.journal.verbs import NOBODY_BARRED, DueMessage
from resubmit.model.moment import Ms


class Pump:
    """What one route has under way."""

    def __init__(self, route: Route, now: Ms) -> None:
        self.route = route
        self.limiter = Limiter(route.rate, now)
        self.wake = Wake()
        self.waiting: deque[DueMessage] = deque()
        self.barred = NOBODY_BARRED
        self.under_way: dict[tuple[int, int, int | None], asyncio.Task[None]] = {}
        self.ending: set[tuple[int, int, int | None]] = set()
        self.resting: dict[tuple[int, int, int | None], Ms] = {}
        self.tried: int | None = None

    @staticmethod
    def key(due: DueMessage) -> tuple[int, int, int | None]:
        first = due.recipients[0]
        return due.message, first.n, first.job

    def room(self, together: int | None) -> int:
        for key in [key for key, task in self.under_way.items() if task.done() and not task.exception()]:
            del self.under_way[key]
            self.ending.discard(key)
        most = self.route.max_connections if together is None else min(together, self.route.max_connections)
        ending = len(self.ending) if together is None else 0
        return most - len(self.under_way) + ending

    def answered(self, due: DueMessage) -> None:
        """The next hop is done with it, only the journal is not: its connection is free for another."""
        self.ending.add(self.key(due))
        self.wake()

    def fill(self, found: list[DueMessage], now: Ms) -> Ms | None:
        """Those of `found` that can be started wait for their place; when the first of those that rest may
        be asked for again (monotonic)."""
        self.resting = {key: until for key, until in self.resting.items() if until > now}
        for due in found:
            key = self.key(due)
            if key not in self.under_way and key not in self.resting:
                self.waiting.append(due)
        return min(self.resting.values(), default=None)

    def rest(self, due: DueMessage, until: Ms) -> None:
        """It was due and could not begin: something turned or moved just now. Asked at once again and again
        it would keep the loop busy."""
        self.resting[self.key(due)] = until

    def start(self, due: DueMessage, offer: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(offer)
        self.under_way[self.key(due)] = task
        task.add_done_callback(lambda _: self.wake())
