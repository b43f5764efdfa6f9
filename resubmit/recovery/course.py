"""All the rules of a destination or route put together: facts in, orders out.

Promises: one pure function each; what is ordered depends on the facts and `now` alone, so an order that was
lost in a crash is given again. Orders that need another's result (an incident's id) come in the next round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from resubmit.journal.verbs import Haste
from resubmit.model.moment import Ms
from resubmit.model.recipient import RecipientKey
from resubmit.model.tls import Health
from resubmit.recovery import deadline, eligible, route_gate
from resubmit.recovery import gate as gate_rule
from resubmit.recovery import incident as incident_rule
from resubmit.recovery import jobs as job_rule
from resubmit.recovery.due import Due
from resubmit.recovery.facts import Coverage, Fault, Gate, Incident, Look, Standing
from resubmit.recovery.fate import not_begun
from resubmit.recovery.gate import CLOSED, OPEN, Decision
from resubmit.recovery.incident import Strays, Update
from resubmit.recovery.jobs import Work
from resubmit.recovery.lastlook import is_live
from resubmit.recovery.memory import memory_of
from resubmit.recovery.pace import Plan, plan
from resubmit.recovery.policy import Policy
from resubmit.recovery.stage import Stage
from resubmit.recovery.waits import Times, times_of

AnIncident = TypeVar("AnIncident", bound=Incident)

SIGNS = 500
"""So many pieces of evidence of a kind are weighed, the newest."""
FEW_SIGNS = 20
"""So many where they only make a note."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is known of a destination. `trouble`: its recipients that are not settled; `led`: the stages of
    its jobs that ended last; `route_open`: whether the route resubmissions take lets mail through. `whole`:
    everybody in trouble and everybody of a job was looked at; else only what a job goes on with, and nothing
    that needs all of them (to ask, join, close, end) is decided."""

    gate: Gate
    looks: Sequence[Look]
    faults: Sequence[Fault]
    coverage: Sequence[Coverage]
    incidents: Sequence[Incident]
    trouble: Sequence[Standing]
    caught: int
    led: Sequence[Stage] = ()
    route_open: bool = True
    whole: bool = True

    def live(self, policy: Policy, now: Ms) -> bool:
        """Whether a live trace is there."""
        return is_live(self.coverage, policy.trace_stale, now)

    def times(self, policy: Policy, now: Ms) -> Times:
        """What the waits of its recipients go by."""
        live = self.live(policy, now)
        return times_of(memory_of(self.gate.data), policy, self.faults, live=live, now=now)


@dataclass(frozen=True, slots=True)
class JobOrder:
    """What becomes of one job now. `recall`: made due and not gone, to be called back; `again`: delivered,
    to be sent once more beside themselves, which we try until `again_until`; `ended`: it is over; `restaged`:
    its stage is another one."""

    job: int
    was: str
    state: str
    stage: Stage
    release: tuple[RecipientKey, ...] = ()
    recall: tuple[RecipientKey, ...] = ()
    skip: tuple[RecipientKey, ...] = ()
    used_up: tuple[Due, ...] = ()
    again: tuple[RecipientKey, ...] = ()
    again_until: Ms = 0
    route: str = ""
    reasons: tuple[str, ...] = ()
    ended: bool = False
    restaged: bool = False

    @property
    def leaves_out(self) -> tuple[RecipientKey, ...]:
        """Those of the job that won't go."""
        return (*self.skip, *(due.key for due in self.used_up))

    @property
    def does_something(self) -> bool:
        """Whether anything has to be written."""
        acts = self.release or self.recall or self.skip or self.used_up or self.again or self.ended
        return bool(acts) or self.was != self.state or self.restaged


@dataclass(frozen=True, slots=True)
class Orders:
    """What is to be done for a destination or route. `opens`: (cause, fault from): a new incident, before
    the gate is turned. `strays`: an incident for a fault that is past. `ask`: recipients for a job. `haste`:
    what goes sooner, with the turn."""

    turn: Decision | None = None
    opens: tuple[str, Ms] | None = None
    strays: Strays | None = None
    update: tuple[int, Update] | None = None
    join: tuple[int, tuple[RecipientKey, ...]] | None = None
    ask: tuple[RecipientKey, ...] = ()
    haste: Haste | None = None
    jobs: tuple[JobOrder, ...] = ()
    wake_at: Ms | None = None

    @property
    def changes_who_is_in_trouble(self) -> bool:
        """Whether everybody has to be looked at again after this was written."""
        ended = any(job.ended for job in self.jobs)
        return bool(self.turn or self.opens or self.strays or self.update or self.join or self.ask) or ended

    @property
    def does_something(self) -> bool:
        """Whether anything has to be written, so that the rules have to be asked again."""
        acts = self.turn or self.opens or self.strays or self.update or self.join or self.ask
        return bool(acts) or any(job.does_something for job in self.jobs)


def _still(standing: Standing, incident: Incident, policy: Policy, live: bool, now: Ms) -> bool:
    """Whether a member is caught by what its current attempt met: one that was sent again after the fix and
    is only being processed yet is not to be sent a third time."""
    return eligible.belongs(standing, incident, policy, live=live, now=now).yes


def destination(
    scene: Scene, works: Sequence[Work], policy: Policy, *, holds: bool, now: Ms, started_at: Ms
) -> Orders:
    """What is to be done for a destination. `holds`: the clock rule holds, nothing is released."""
    live, times = scene.live(policy, now), scene.times(policy, now)
    incident = incident_of(scene.incidents, policy.name)
    members = [s for s in scene.trouble if incident is not None and incident.id in s.incidents]
    taken = frozenset(key for work in works for key in _keys(work))
    still = [] if incident is None else [s for s in members if _still(s, incident, policy, live, now)]
    ask = job_rule.members_to_ask_for(still, taken, policy)
    plans = {} if holds else _plans(scene, works, policy, times, now)
    unseen = 0 if scene.whole else 1
    trial = job_rule.trial_of(works, plans, len(members) + unseen, len(ask) + unseen)
    decision = gate_rule.decide(
        scene.gate, scene.looks, scene.faults, trial, policy, live=live, now=now, started_at=started_at
    )
    turn = decision if decision.differs(scene.gate) else None
    opens = None
    if incident is None and decision.state != OPEN and decision.moves(scene.gate):
        opens = (decision.cause, decision.fault_from if decision.fault_from is not None else now)
    moves = decision.moves(scene.gate)
    strays = None
    if incident is None and decision.state == OPEN and not moves and scene.whole:
        found = [s for s in scene.trouble if incident_rule.is_stray(s)]
        strays = incident_rule.for_strays(found, scene.incidents, policy.name, now)
    update = join = None
    if incident is not None and not moves and scene.whole:
        found_now = job_rule.joins(scene.trouble, incident, policy, live=live, now=now)
        busy = any(w.job.incident == incident.id for w in works) or bool(ask and policy.mode == "automatic")
        # Who joins now is weighed with the others first: it may have to go.
        busy = busy or bool(found_now)
        course = incident_rule.course(
            incident, scene.gate, members, policy, busy=busy, caught=scene.caught, live=live, now=now
        )
        update = (incident.id, course) if course.differs(incident) else None
        join = (incident.id, found_now) if found_now else None
    alone = not any(w.automatic for w in works)
    may_ask = alone and scene.whole and not moves and not holds and job_rule.may_ask(scene.gate.state, policy)
    orders = tuple(_order(w, plans.get(w.job.id), decision, scene, policy, now) for w in works)
    return Orders(
        turn=turn,
        opens=opens,
        strays=strays,
        update=update,
        join=join,
        ask=ask if may_ask else (),
        jobs=orders,
        wake_at=_earliest(
            decision.wake_at,
            *(p.wake_at for p in plans.values()),
            *(w.sorted.wake_at for w in works),
            now if any(p.again for p in plans.values()) else None,
        ),
    )


def route(
    gate: Gate,
    looks: Sequence[Look],
    faults: Sequence[Fault],
    incident: Incident | None,
    trouble: Sequence[Standing],
    caught: int,
    policy: Policy,
    name: str,
    *,
    idle: bool,
    live: bool,
    now: Ms,
) -> Orders:
    """What is to be done for the route `name`: its gate, and the incident of what waits behind it. `idle`:
    no mail waits to go over it."""
    decision = route_gate.decide(gate, looks, faults, policy, now, idle=idle)
    moves = decision.moves(gate)
    opens = None
    if incident is None and decision.state == CLOSED and moves:
        opens = (decision.cause, decision.fault_from if decision.fault_from is not None else now)
    update = join = None
    if incident is not None and not moves:
        members = [s for s in trouble if incident.id in s.incidents]
        behind = tuple(
            s.key for s in trouble if incident.id not in s.incidents and route_gate.waits_behind(s, name)
        )
        course = incident_rule.course(
            incident, gate, members, policy, busy=bool(behind), caught=caught, live=live, now=now
        )
        update = (incident.id, course) if course.differs(incident) else None
        join = (incident.id, behind) if behind else None
    return Orders(
        turn=decision if decision.differs(gate) else None,
        opens=opens,
        update=update,
        join=join,
        haste=route_gate.haste(name, decision, gate, policy.rate),
        wake_at=decision.wake_at,
    )


def signs_for(gate: Gate, looks: Sequence[Look]) -> int:
    """How many deliveries the rules can use as a sign for health: of a route the newest success; of a
    destination all while its gate is shut, and a few while the newest look is faulty: they open nothing then,
    but that mail is delivered all the same is worth saying."""
    if gate.name.startswith("route:"):
        return 1
    newest = max(looks, key=lambda look: look.at, default=None)
    if newest is not None and newest.health == Health.FAULTY:
        return FEW_SIGNS
    return SIGNS if gate.state == CLOSED else 0


def place(gate: str) -> tuple[str, str]:
    """(destination, route) of a gate by its name; the one it is not for is ""."""
    kind, _, name = gate.partition(":")
    return (name, "") if kind == "destination" else ("", name)


def incident_of(incidents: Sequence[AnIncident], destination: str, route: str = "") -> AnIncident | None:
    """The open incident of a destination, or of a route where `destination` is ""."""
    mine = (
        i
        for i in incidents
        if i.state != "closed" and i.destination == destination and (destination or i.route == route)
    )
    return max(mine, key=lambda i: i.id, default=None)


def _plans(scene: Scene, works: Sequence[Work], policy: Policy, times: Times, now: Ms) -> dict[int, Plan]:
    """What each job that may release something would do."""
    steps = incident_rule.takes_steps(scene.incidents, policy.name, now)
    plans: dict[int, Plan] = {}
    for work in job_rule.carriers(works, scene.gate.state, policy):
        others = [w.stage for w in works if w is not work]
        stage = job_rule.inherited(work.stage, [*scene.led, *others], policy, now)
        terms = job_rule.terms_of(work, scene.gate.state, policy, times, steps=steps)
        pool = work.sorted.pool if scene.route_open or work.options.route else ()
        plans[work.job.id] = plan(
            stage, work.going, pool, policy, terms, delivered=work.job.delivered, now=now
        )
    return plans


def _order(
    work: Work, planned: Plan | None, decision: Decision, scene: Scene, policy: Policy, now: Ms
) -> JobOrder:
    """What becomes of a job, given where its gate goes."""
    moves = decision.moves(scene.gate)
    stage = planned.stage if planned else work.stage
    release = planned.release if planned else ()
    recall: tuple[RecipientKey, ...] = ()
    failed = planned is not None and bool(planned.failed)
    if work.options.paused or (decision.state == CLOSED and (failed or not work.forced)):
        stage, release = job_rule.shut(work, failed=failed), ()
        recall = tuple(not_begun(work.going))
    elif moves:
        # What was decided behind the old gate is decided again behind the new one.
        stage, release = (stage if planned and planned.proved_at is not None else work.stage), ()
    # As the job begins, and later whenever those it had made are on their way.
    way = scene.route_open or bool(work.options.route)
    begins = planned is not None and way and not moves and not recall and not work.sorted.pool
    again = work.sorted.again if begins else ()
    skip = work.sorted.skip
    over = scene.whole and job_rule.is_done(work, scene.gate.state) and not release and not moves
    state = (
        job_rule.DONE
        if over
        else job_rule.next_state(work, bool(release), planned is not None and not recall)
    )
    return JobOrder(
        job=work.job.id,
        was=work.job.state,
        state=state,
        stage=stage,
        release=release,
        recall=recall,
        skip=skip,
        used_up=work.sorted.used_up,
        again=again,
        again_until=deadline.ours(now, policy.give_up_after),
        route=work.options.route or policy.route,
        reasons=(*(planned.reasons if planned else ()), *((work.sorted.why,) if work.sorted.why else ())),
        ended=over,
        restaged=stage != work.stage,
    )


def _keys(work: Work) -> tuple[RecipientKey, ...]:
    flight = (g.key for g in work.going if g.item_state in ("waiting", "released"))
    return (*work.waiting, *flight)


def _earliest(*times: Ms | None) -> Ms | None:
    return min((at for at in times if at is not None), default=None)
