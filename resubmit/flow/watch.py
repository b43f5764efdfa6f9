"""Destinations, routes and our own listener are looked at: what was seen goes to the journal.

A look is a dry run; no mail is sent. `recover` reads the looks and moves the gates.
"""

from __future__ import annotations

import asyncio
import json

import structlog

from resubmit import logbook
from resubmit.clock import Clock
from resubmit.flow.wake import Wake
from resubmit.journal.door import Journal
from resubmit.journal.verbs import LookRow
from resubmit.model.moment import DAY, Ms
from resubmit.model.tls import UNCERTIFIED, Endpoint, Verdict
from resubmit.probe import fingerprint, horizon, plain, schedule
from resubmit.probe.look import look
from resubmit.probe.published import Dns
from resubmit.recovery.settings import Recovery

log = structlog.get_logger()

_COMPARED_WITH: Ms = 60 * DAY
_LOOKS_COMPARED = 20
"""A look is compared with so many before it."""
_EVENTS = {
    horizon.Change.RENEWED: logbook.CERTIFICATE_RENEWED,
    horizon.Change.WENT_BACK: logbook.CERTIFICATE_WENT_BACK,
}


class Watch:
    """Looks at each target when its time has come, several side by side, one look a target at a time.

    targets: gate name → endpoint. `ehlo_name`: how the probe calls itself. dns: where to ask what domains
    published; None: that is left aside.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        targets: dict[str, Endpoint],
        recovery: Recovery,
        *,
        ehlo_name: str,
        seen: Wake,
        dns: Dns | None = None,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._targets = targets
        self._recovery = recovery
        self._ehlo_name = ehlo_name
        self._dns = dns
        self._seen = seen
        self.wakes = {target: Wake() for target in targets}

    def wake(self) -> None:
        """A gate turned: when to look next is another question now."""
        for wake in self.wakes.values():
            wake()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for target in self._targets:
                group.create_task(self._watch(target))

    async def _watch(self, target: str) -> None:
        last: Ms | None = None
        begun = self._clock.monotonic()
        certified = self._targets[target].level != UNCERTIFIED
        while True:
            gate = await self._journal.gate(target)
            span = schedule.wait_for(
                last,
                self._clock.monotonic() - begun,
                target=target,
                certified=certified,
                gate=gate.state if gate else None,
                watch_interval=self._recovery.watch_interval,
                probe_interval=self._recovery.probe_interval,
                chance=self._clock.chance,
            )
            if span is None or span > 0:
                await self.wakes[target].wait(span)
                continue
            last = self._clock.monotonic() - begun
            await self.look(target, gate_closed=schedule.is_strict(gate.state if gate else None))

    async def look(self, target: str, *, gate_closed: bool) -> None:
        """One look at a target, kept."""
        endpoint = self._targets[target]
        since = self._clock.now() - _COMPARED_WITH
        before = await self._journal.looks(target, since, _LOOKS_COMPARED)
        seen = await look(
            endpoint,
            clock=self._clock,
            timeout=schedule.limit(self._recovery.probe_interval),
            ehlo_name=self._ehlo_name,
            gate_closed=gate_closed,
            dns=self._dns,
        )
        verdict = horizon.with_pool(seen, [one.fingerprint for one in before])
        self._tell(target, verdict, before)
        await self._journal.looked(
            LookRow(
                target=target,
                at=verdict.checked_at,
                health=verdict.health,
                codes=verdict.codes(),
                fingerprint=fingerprint.of(verdict),
                verdict_json=json.dumps(plain.verdict_plain(verdict)),
                days_left=plain.days_left(verdict),
            )
        )
        log.info(
            logbook.PROBE_FINISHED, target=target, verdict=verdict.health, findings=list(verdict.codes())
        )
        self._seen()

    def _tell(self, target: str, verdict: Verdict, before: list[LookRow]) -> None:
        """What a person may want to know of certificates before they are a fault."""
        now, left = fingerprint.of(verdict), plain.days_left(verdict)
        past = horizon.days_before([(one.fingerprint, one.days_left) for one in before], now)
        if (step := horizon.step_reached(past, left)) is not None:
            log.warning(logbook.CERTIFICATE_NEARS_END, target=target, days_left=left, step=step)
        for one in horizon.changes([row.fingerprint for row in before], now):
            event = _EVENTS[one.how]
            log.warning(event, target=target, address=one.address, before=one.before.until, now=one.now.until)
