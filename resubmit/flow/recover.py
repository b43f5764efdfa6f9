"""Gates, incidents and jobs: facts are read, the rules are asked, what they order is written.

Only this loop moves gates, incidents and jobs, and only it acts on time alone. It never sends: it makes
recipients due, and `deliver` hands them on. Every order follows from facts in the journal, so what a crash
cut off is ordered again.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from resubmit import logbook
from resubmit.clock import Clock, sleep
from resubmit.flow.facts import Facts, Judged
from resubmit.flow.timers import Timers, bring
from resubmit.flow.wake import Wake
from resubmit.handoff.routes import Table
from resubmit.journal.door import Journal
from resubmit.journal.verbs import JobAsk, Stale
from resubmit.model.filter import Filter
from resubmit.model.moment import Ms
from resubmit.recovery import course, fate, incident, jobs, pace
from resubmit.recovery.clockrule import ClockRule
from resubmit.recovery.gate import Decision
from resubmit.recovery.policy import policies_of, policy_of_routes
from resubmit.recovery.settings import Recovery
from resubmit.recovery.stage import Stage

log = structlog.get_logger()

_ROUNDS = 8
"""So often in one pass the rules are asked again after what they ordered was written."""


class Recover:
    """The loop of recovery. `told`: called by whoever wrote a fact; `turned`: called when a gate turns."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        recovery: Recovery,
        table: Table,
        clock_rule: ClockRule,
        *,
        told: Wake | None = None,
        turned: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._clock_rule = clock_rule
        self._told = told or Wake()
        self._turned = turned
        self._policies = policies_of(recovery, table.destinations.values(), table.routes)
        self._routes = list(table.routes)
        self._facts = Facts(journal, clock, self._policies, policy_of_routes(recovery))
        self._led: dict[str, list[Stage]] = {}
        self._distrusted = False
        final = frozenset(name for name, route in table.routes.items() if route.final)
        self._timers = Timers(journal, policy_of_routes(recovery), final)
        self._restless = 0
        self._unrest = ""

    def wake(self) -> None:
        """There is a new fact: a look, evidence, the end of an attempt, a job."""
        self._told()

    async def run(self) -> None:
        """Until cancelled."""
        await self.close_what_has_no_place(self._clock.now())
        while True:
            begun = self._clock.monotonic()
            wake_at = await self.tick(self._clock.now())
            self._restless = self._restless + 1 if self._unrest else 0
            if self._restless == pace.RESTLESS:
                log.warning(logbook.RECOVERY_RESTLESS, gate=self._unrest)
            over = self._clock.monotonic()
            rest, wait = pace.rest_until(wake_at, self._clock.now(), begun, over, self._restless)
            await sleep(rest)
            await self._told.wait(wait)

    async def tick(self, now: Ms) -> Ms:
        """One pass over everything; when to come again if nobody wakes the loop."""
        holds = self._clock_rule.holds()
        if holds and not self._distrusted:
            log.error(logbook.CLOCK_DISTRUSTED, why=self._clock_rule.why)
        self._distrusted, self._unrest = holds, ""
        judges = [partial(self._facts.route, name, now=now) for name in self._routes]
        for policy in self._policies:
            led = self._led.setdefault(policy.name, [])
            judges.append(partial(self._facts.destination, policy, led, holds=holds, now=now))
        wakes = [pace.at_the_latest(now), self._clock_rule.ends_at()]
        wakes += [*[await self._settle(judge, now) for judge in judges], self._facts.spared_until(now)]
        if not holds:
            wakes.append(await self._timers.ring(now))
        return min(at for at in wakes if at is not None)

    async def conclude(self, now: Ms) -> None:
        """One last pass, in which nobody is spared a look: what is over is ended."""
        for policy in self._policies:
            self._facts.forget(policy.name)
        await self.tick(now)

    async def _settle(self, judge: Callable[[], Awaitable[Judged]], now: Ms) -> Ms | None:
        """Ask and carry out until the rules order nothing new."""
        for _ in range(_ROUNDS):
            judged = await judge()
            if not judged.orders.does_something:
                return judged.orders.wake_at
            await self._carry_out(judged, now)
            if judged.orders.changes_who_is_in_trouble:
                self._facts.forget(judged.name)
        self._unrest = judged.gate.name
        return now

    async def _carry_out(self, judged: Judged, now: Ms) -> None:
        """In this order a crash anywhere leaves facts from which the rest is ordered again."""
        orders, gate = judged.orders, judged.gate
        number = judged.incident.id if judged.incident else gate.incident
        if orders.opens:
            number = await self._open(*course.place(gate.name), *orders.opens, now)
        if orders.strays:
            await self._take_in(judged.name, orders.strays, now)
        if orders.turn and not await self._turn(judged, orders.turn, number, now):
            return
        for order in orders.jobs:
            if order.does_something:
                await self._step(order, judged.name, now)
        if orders.join:
            caught = await self._journal.join_incident(orders.join[0], list(orders.join[1]), now)
            if caught:
                log.info(logbook.INCIDENT_JOINED, incident=orders.join[0], recipients=caught)
        if orders.ask and number is not None:
            asked = JobAsk(
                asked_at=now,
                asked_by=jobs.BY,
                reason=jobs.REASON,
                filter=json.dumps(Filter(incident=(number,)).to_plain()),
                options="{}",
                destination=judged.name,
                incident=number,
                gate=gate.name,
                recipients=orders.ask,
            )
            log.info(logbook.JOB_ASKED, job=await self._journal.ask(asked), recipients=len(orders.ask))
        if orders.update:
            await self._update(*orders.update)

    # ── gates and incidents ─────────────────────────────────────────────────────────────────────────

    async def _turn(self, judged: Judged, to: Decision, number: int | None, now: Ms) -> bool:
        gate, facts = judged.gate, (to.memory.to_text(), number, judged.orders.haste)
        done = await self._journal.turn(gate.name, gate.version, to.state, to.reasons, now, *facts)
        if isinstance(done, Stale):
            return False
        if to.moves(gate):
            log.warning(
                logbook.GATE_TURNED, gate=gate.name, before=gate.state, now=to.state, reasons=to.reasons
            )
            for tell in self._turned:
                tell()
        if to.tell:
            log.error(logbook.GATE_DOUBTED, gate=gate.name, reasons=to.reasons)
        return True

    async def _open(self, destination: str, route: str, cause: str, fault_from: Ms, now: Ms) -> int:
        number = await self._journal.open_incident(destination, route, cause, now, fault_from)
        log.warning(
            logbook.INCIDENT_OPENED, incident=number, destination=destination, route=route, cause=cause
        )
        return number

    async def _take_in(self, destination: str, strays: incident.Strays, now: Ms) -> None:
        number = strays.again
        if number is None:
            number = await self._open(destination, "", strays.cause, strays.fault_from, now)
        await self._update(number, strays.update)

    async def close_what_has_no_place(self, now: Ms) -> None:
        """Incidents of what left the config end: a destination, a route. It changes at a start only."""
        known = await self._journal.incidents(True)
        names = {policy.name for policy in self._policies}
        for number, update in incident.without_a_place(known, names, self._routes, now):
            await self._update(number, update)

    async def _update(self, number: int, update: incident.Update) -> None:
        await self._journal.update_incident(number, **update.fields())
        if update.closed_at is not None:
            counts = await self._journal.incident_counts(number)
            log.warning(logbook.INCIDENT_CLOSED, incident=number, why=update.why, **counts)

    # ── jobs ────────────────────────────────────────────────────────────────────────────────────────

    async def _step(self, order: course.JobOrder, destination: str, now: Ms) -> None:
        """The stage is written before anybody is made due: after a crash in between they are made due
        again, and nobody else goes in their place."""
        journal, job = self._journal, order.job
        if order.recall:
            await journal.recall(order.recall, now)
            await journal.set_job_items(job, [(key, fate.WAITING, None) for key in order.recall])
        await bring(journal, order.used_up, now)
        if order.leaves_out:
            await journal.set_job_items(job, [(key, fate.SKIPPED, None) for key in order.leaves_out])
        if order.again:
            made = await journal.send_again(job, order.again, now, order.again_until)
            log.info(logbook.JOB_SENDS_AGAIN, job=job, recipients=len(made))
        ended_at = now if order.ended else None
        stepped = await journal.step_job(job, order.was, order.state, order.stage.to_text(), ended_at)
        if isinstance(stepped, Stale):
            return
        if order.release:
            due = await journal.make_due(list(order.release), now, order.route, job)
            log.info(logbook.JOB_RELEASED, job=job, recipients=due, reasons=order.reasons)
        if order.ended:
            self._led[destination] = [order.stage]
            log.info(logbook.JOB_ENDED, job=job, state=order.state)
