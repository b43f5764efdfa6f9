"""What recovery knows now: the journal's facts of one destination or route, put together for the rules.

Reads only. What is read is bounded by what is open: settled mail costs nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass

from resubmit.clock import Clock
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Coverage, Fault, GateRow, IncidentRow, JobRow, LookRow, Standing
from resubmit.model.moment import Ms
from resubmit.recovery import course, eligible, fate, jobs, lastlook
from resubmit.recovery import gate as gate_rule
from resubmit.recovery.pace import Sparing
from resubmit.recovery.policy import Policy
from resubmit.recovery.stage import Stage, stage_of

_MANY = 20_000


@dataclass(frozen=True, slots=True)
class Judged:
    """A gate with its open incident, and what the rules order for it."""

    gate: GateRow
    name: str
    incident: IncidentRow | None
    orders: course.Orders


class Facts:
    """Asks the rules about destinations and routes as the journal has them, from the service's start on.

    Everybody in trouble is looked at only as often as that is worth its cost; a job goes on meanwhile."""

    def __init__(self, journal: Journal, clock: Clock, policies: list[Policy], every_route: Policy) -> None:
        self._journal = journal
        self._clock = clock
        self._policies = policies
        self._every_route = every_route
        self._started_at = clock.now()
        self._sparing = {policy.name: Sparing() for policy in policies}
        self._spared: set[str] = set()

    def forget(self, name: str) -> None:
        """Something was written of a destination: everybody is looked at again."""
        if name in self._sparing:
            self._sparing[name].forget()

    def spared_until(self, now: Ms) -> Ms | None:
        """When everybody is to be looked at who was not the last time, for its cost; None: all were. What
        came meanwhile is seen only then, and nobody else may wake the loop for it."""
        monotonic = self._clock.monotonic()
        return min((now + self._sparing[name].due_in(monotonic) for name in self._spared), default=None)

    async def destination(self, policy: Policy, led: list[Stage], *, holds: bool, now: Ms) -> Judged:
        """`led`: the stages of its jobs that ended last; `holds`: the clock rule does."""
        journal = self._journal
        gate = await self._gate("destination", policy.name, now)
        incidents = await journal.incidents(False)
        incident = course.incident_of(incidents, policy.name)
        begun, sparing = self._clock.monotonic(), self._sparing[policy.name]
        whole = sparing.is_due(begun)
        trouble = await self._trouble(policy.name, incident) if whole else []
        over = await journal.gate(f"route:{policy.route}")
        looks = await journal.looks(gate.name, gate_rule.looks_since(gate, now))
        scene = course.Scene(
            gate=gate,
            looks=looks,
            faults=await self._faults(gate, looks, policy.name, None, now),
            coverage=await self._coverage(policy, now),
            incidents=incidents,
            trouble=trouble,
            caught=await self._caught(incident) if whole else 0,
            led=led,
            route_open=over is None or gate_rule.is_open(over),
            whole=whole,
        )
        works = [
            await self._work(job, scene, policy, now)
            for job in await journal.jobs(jobs.UNFINISHED)
            if job.gate == gate.name
        ]
        if whole:
            sparing.took(begun, self._clock.monotonic())
            self._spared.discard(policy.name)
        else:
            self._spared.add(policy.name)
        orders = course.destination(scene, works, policy, holds=holds, now=now, started_at=self._started_at)
        return Judged(gate, policy.name, incident, orders)

    async def route(self, name: str, *, now: Ms) -> Judged:
        """A route's gate, and who waits behind it."""
        journal, policy = self._journal, self._every_route
        gate = await self._gate("route", name, now)
        incident = course.incident_of(await journal.incidents(True), "", name)
        trouble: list[Standing] = []
        for one in self._policies if incident else ():
            trouble += await self._trouble(one.name, incident)
        looks = await journal.looks(gate.name, gate_rule.looks_since(gate, now))
        orders = course.route(
            gate,
            looks,
            await self._faults(gate, looks, None, name, now),
            incident,
            trouble,
            await self._caught(incident),
            policy,
            name,
            idle=await journal.next_due(name) is None,
            live=lastlook.is_live(await self._coverage(policy, now), policy.trace_stale, now),
            now=now,
        )
        return Judged(gate, name, incident, orders)

    async def _gate(self, kind: str, name: str, now: Ms) -> GateRow:
        found = await self._journal.gate(f"{kind}:{name}")
        return found or GateRow(f"{kind}:{name}", gate_rule.OPEN, 0, now, (), None)

    async def _faults(
        self, gate: GateRow, looks: list[LookRow], destination: str | None, route: str | None, now: Ms
    ) -> list[Fault]:
        since, good = gate_rule.faults_since(gate, now), course.signs_for(gate, looks)
        return await self._journal.faults(destination, route, since, course.SIGNS, good)

    async def _coverage(self, policy: Policy, now: Ms) -> list[Coverage]:
        return await self._journal.coverage(lastlook.since(policy.trace_stale, now))

    async def _caught(self, incident: IncidentRow | None) -> int:
        if incident is None:
            return 0
        return await self._journal.caught(incident.id)

    async def _trouble(self, name: str, incident: IncidentRow | None) -> list[Standing]:
        """Who is stuck at a destination, and of the incident who may have been caught or is not settled."""
        ask = self._journal.standings
        found = await ask(name, states=eligible.STUCK, limit=_MANY)
        if incident is not None:
            span = {"since": incident.fault_from, "until": incident.fault_to}
            found += await ask(name, states=eligible.SUSPECT, limit=_MANY, **span)
            found += await ask(name, incident=incident.id, states=eligible.CAUGHT, limit=_MANY)
        return list({one.key: one for one in found}.values())

    async def _work(self, job: JobRow, scene: course.Scene, policy: Policy, now: Ms) -> jobs.Work:
        """A job with those of its recipients that matter now."""
        ask, stage = self._journal.job_items, stage_of(job.stage)
        waiting = await ask(job.id, fate.WAITING, None if scene.whole else jobs.AT_A_TIME)
        flight = await ask(job.id, fate.RELEASED)
        for state in fate.TOLD_OF:
            flight += await ask(job.id, state, None if scene.whole else fate.SAMPLE)
        weighed = [item.key for item in waiting[: jobs.AT_A_TIME]]
        keys = {*weighed, *fate.worth_weighing(flight), *(out.key for out in stage.out)}
        standings = {one.key: one for one in await self._journal.standing(sorted(keys))}
        return jobs.work_of(
            job,
            stage,
            fate.going_of(stage, [*waiting, *flight], standings),
            tuple(item.key for item in waiting),
            jobs.weigh(job, weighed, standings, scene.times(policy, now), scene.coverage, policy, now),
        )
