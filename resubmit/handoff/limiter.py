"""One limiter a route: how soon the next message may go.

Promises: pure, with the time passed in (monotonic ms); over any span no more messages are let through
than rate times span plus a second's burst. New mail takes its turn at once and, when there is none left,
a turn of the future; a job's message goes only with a turn in hand, so jobs yield to new mail. A throttle
(421, 4.7.x and the like from the next hop) halves the rate; without another it doubles every
`GROWS_BACK` until the configured one is reached again.

Source: design, section 4 (*Limits*).
"""

from __future__ import annotations

import math

from resubmit.model.moment import MINUTE, SECOND, Ms

GROWS_BACK: Ms = 5 * MINUTE
SAME_THROTTLE: Ms = 10 * SECOND
"""Throttles closer together than this are one: ten connections that are told so at once halve once."""
SLOWEST = 1 / 60
"""One message a minute: slower, and a route would never find out that the throttle is over."""
UNLIMITED_AGAIN = 1000.0
"""A route without a configured rate forgets a throttle once it has grown back to this many a second."""


class Limiter:
    """A token bucket. `rate`: messages a second, 0 for no limit. `now`: monotonic ms, as in every call."""

    def __init__(self, rate: float, now: Ms) -> None:
        self._full = rate
        self._at = now
        self._turns = self._burst(rate)
        self._halved: float | None = None
        self._halved_at = now
        self._seen = 0.0
        self._seen_at = now

    def rate(self, now: Ms) -> float:
        """Messages a second at this time; 0 for no limit."""
        if self._halved is None:
            return self._full
        grown = self._halved * math.pow(2, min((now - self._halved_at) / GROWS_BACK, 64))
        if grown >= (self._full or UNLIMITED_AGAIN):
            return self._full
        return grown

    def take(self, now: Ms, *, job: bool = False) -> Ms:
        """How long to wait before this message may go, in ms.

        For new mail the turn is its own from here on: wait so long and send, without asking again. For a
        job's message (`job`) 0 means that it goes now; anything else means that nothing was taken: ask again
        after so long, new mail may have come in between.
        """
        rate = self._refill(now)
        if not rate:
            self._count(now)
            return 0
        if self._turns >= 1 or not job:
            self._turns -= 1
            self._count(now)
            return 0 if self._turns >= 0 else _ms(-self._turns / rate)
        return _ms((1 - self._turns) / rate)

    def give_back(self) -> None:
        """A turn that was taken and not used (the offer was stale) may be used by another."""
        self._turns = min(self._turns + 1, self._burst(self._full or UNLIMITED_AGAIN))

    def throttled(self, now: Ms) -> float:
        """The next hop asked for less: the rate halves. Returns the new rate."""
        rate = self._refill(now)
        if self._halved is not None and now - self._halved_at < SAME_THROTTLE:
            return rate
        base = rate or max(self._recent(now), 2 * SLOWEST)
        self._halved = max(base / 2, SLOWEST)
        self._halved_at = now
        self._turns = min(self._turns, self._burst(self._halved))
        return self._halved

    @staticmethod
    def _burst(rate: float) -> float:
        return max(rate, 1.0)

    def _refill(self, now: Ms) -> float:
        rate = self.rate(now)
        if self._halved is not None and rate == self._full:
            self._halved = None
            if not rate:
                self._turns = 1.0
        passed = max(now - self._at, 0)
        self._at = max(now, self._at)
        self._turns = min(self._turns + rate * passed / SECOND, self._burst(rate))
        return rate

    def _count(self, now: Ms) -> None:
        # A moving count of the last seconds: what "half" means on a route that has no rate.
        self._seen = self._recent(now) * 10 + 1
        self._seen_at = now

    def _recent(self, now: Ms) -> float:
        """Messages a second, averaged over about ten seconds."""
        return self._seen / 10 * math.pow(0.5, max(now - self._seen_at, 0) / (7 * SECOND))


def _ms(seconds: float) -> Ms:
    """Rounded up, so that a waiter never comes a moment too early."""
    return max(1, -int(-seconds * SECOND // 1))
