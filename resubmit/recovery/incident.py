"""An incident: from the first sign of a fault until its last recipient is settled or explained.

Promises: it closes only behind an open gate, with no job of its own unfinished. A recipient is explained
when nobody here can do or learn more about it: held by an operator, failing on its own account, or taken
again with nothing that could tell its fate. (design sections 2 and 4)
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from resubmit.model.evidence import Holder, Scope
from resubmit.model.moment import DAY, Ms, rfc3339
from resubmit.model.recipient import SETTLED, State
from resubmit.recovery.eligible import OUTAGE, Ruling, taken_at
from resubmit.recovery.facts import Gate, Incident, Standing
from resubmit.recovery.gate import CLOSED, OPEN
from resubmit.recovery.memory import memory_of
from resubmit.recovery.policy import Policy
from resubmit.recovery.words import at_text

STEPS_FOR = DAY
"""So long after an incident closed, whatever is resubmitted there still goes step by step."""


@dataclass(frozen=True, slots=True)
class Update:
    """What is to be written of an incident, and why."""

    state: str
    fault_from: Ms
    fault_to: Ms | None
    fixed_at: Ms | None
    closed_at: Ms | None
    report: str = ""
    why: str = ""

    def fields(self) -> dict[str, object]:
        """The incident's columns."""
        plain = asdict(self)
        del plain["why"]
        return plain if self.report else {k: v for k, v in plain.items() if k != "report"}

    def differs(self, incident: Incident) -> bool:
        """Whether it has to be written down."""
        return (self.state, self.fault_from, self.fault_to, self.fixed_at, self.closed_at) != (
            incident.state,
            incident.fault_from,
            incident.fault_to,
            incident.fixed_at,
            incident.closed_at,
        )


@dataclass(frozen=True, slots=True)
class Strays:
    """Recipients caught in a fault that no open incident knows: what is opened, or opened again, for them."""

    again: int | None
    cause: str
    fault_from: Ms
    fault_to: Ms
    fixed_at: Ms | None = None

    @property
    def update(self) -> Update:
        """What is written of the incident that is opened, or opened again."""
        return Update("recovering", self.fault_from, self.fault_to, self.fixed_at, None)


def course(
    incident: Incident,
    gate: Gate,
    members: Sequence[Standing],
    policy: Policy,
    *,
    busy: bool,
    caught: int,
    live: bool,
    now: Ms,
) -> Update:
    """Where an open incident stands. `members`: those that are not settled; caught: how many there ever
    were; `busy`: a job of it is unfinished."""
    memory = memory_of(gate.data)
    began = min(incident.fault_from, now)
    if gate.state == CLOSED:
        return Update("open", began, None, None, None)
    fixed = memory.fixed_at if memory.fixed_at is not None else incident.fixed_at
    ended = incident.fault_to if fixed is None else max(fixed, began)
    ended = ended if ended is not None else now
    reasons = {"shut_because": memory.shut_why, "believed": memory.basis, "let_through_because": gate.reasons}
    going_on = Update("recovering", began, ended, fixed, None, json.dumps(reasons, sort_keys=True))
    if gate.state != OPEN or busy:
        return going_on
    rulings = [is_explained(member, policy, ended, live=live, now=now) for member in members]
    if not all(ruling.yes for ruling in rulings):
        return going_on
    may_be_more = not caught or (policy.suspect == "resubmit" and not live)
    if may_be_more and now < (fixed or ended) + policy.trace_lag:
        return going_on  # evidence of what was caught may still be on its way, or what is suspect not yet so
    why = "every recipient is settled" if not members else f"{len(members)} explained, the rest settled"
    if not caught:
        why = "the fault is gone, and nobody was caught in it"
    report = json.dumps(
        {
            **reasons,
            "closed_because": why,
            "fault_from": rfc3339(began),
            "fault_to": rfc3339(ended),
            "fixed_at": rfc3339(fixed),
            "closed_at": rfc3339(now),
            "explained": sorted({ruling.why for ruling in rulings}),
        },
        sort_keys=True,
    )
    return Update("closed", began, ended, fixed, now, report, why)


def without_a_place(
    known: Sequence[Incident], destinations: Collection[str], routes: Collection[str], now: Ms
) -> list[tuple[int, Update]]:
    """The open incidents whose destination or route the config has no longer: nobody would ever close them.
    Who was caught there belongs to another destination now, and to an incident of that one."""
    closed = []
    for one in known:
        there = one.destination in destinations if one.destination else one.route in routes
        if one.state == "closed" or there:
            continue
        what = f"destination {one.destination}" if one.destination else f"route {one.route}"
        why = f"the {what} is no longer in the config"
        report = json.dumps({"closed_because": why, "closed_at": rfc3339(now)}, sort_keys=True)
        ended = one.fault_to if one.fault_to is not None else now
        closed.append((one.id, Update("closed", one.fault_from, ended, one.fixed_at, now, report, why)))
    return closed


def is_explained(standing: Standing, policy: Policy, ended: Ms, *, live: bool, now: Ms) -> Ruling:
    """Whether nothing more can be done or learnt about it here. `ended`: when the fault was gone."""
    if standing.state in SETTLED:
        return Ruling(True, f"{standing.state}")
    if standing.state is State.HELD:
        return Ruling(True, "an operator holds it")
    if standing.holder is Holder.RELAY:
        return Ruling(False, "the relay beside us retries it")
    if standing.scope in (Scope.RECIPIENT, Scope.MESSAGE):
        return Ruling(True, f"fails on its own account: {standing.cause or 'no cause told'}")
    if standing.state is State.EXPIRED and standing.cause not in OUTAGE and taken_at(standing) > ended:
        # The fault is gone, so this is not its doing. A summary export does not say whose.
        return Ruling(
            True, f"given up again after the fix, {standing.cause or 'no cause told'}: for a person"
        )
    if standing.state is State.ACCEPTED:
        # Twice: a trace is told within trace_lag of its being asked, and then has to be read here.
        ends = taken_at(standing) + (policy.expires_after if live else 0) + 2 * policy.trace_lag
        if now >= ends:
            return Ruling(True, "taken, and nothing tells what became of it: unproven")
        return Ruling(False, f"taken, news may come until {at_text(ends)}")
    return Ruling(False, f"{standing.state}")


def is_stray(standing: Standing) -> bool:
    """Whether it is caught in a fault, so that it needs an incident where its destination has none open.

    One of its route may be open and know it: that one waits for the route only, and sends nobody again."""
    return (
        standing.state in (State.DEFERRED, State.EXPIRED)
        and standing.cause in OUTAGE
        and standing.scope is Scope.DESTINATION
        and standing.holder is not Holder.RELAY
    )


def for_strays(
    strays: Sequence[Standing], known: Sequence[Incident], destination: str, now: Ms
) -> Strays | None:
    """What is opened for recipients whose fault is past: evidence that came late, or an NDR. The incident
    they were in, or the destination's last one of the last 24 hours, goes on; else there is a new one."""
    if not strays:
        return None
    mine = [i for i in known if i.destination == destination and i.state == "closed"]
    been_in = frozenset[int]().union(*(s.incidents for s in strays))
    recent = [i for i in mine if i.id in been_in or _is_recent(i, now)]
    last = max(recent, key=lambda i: i.id, default=None)
    first = min(taken_at(s) for s in strays)
    return Strays(
        again=last.id if last else None,
        cause=str(min(s.cause for s in strays if s.cause is not None)),
        fault_from=min(first, last.fault_from) if last else first,
        fault_to=max([*(s.since for s in strays), last.fault_to or 0 if last else 0]),
        fixed_at=last.fixed_at if last else None,
    )


def takes_steps(known: Sequence[Incident], destination: str, now: Ms) -> bool:
    """Whether what goes to a destination goes step by step: an incident is open, or was not long ago."""
    mine = [i for i in known if i.destination == destination]
    return any(i.state != "closed" or _is_recent(i, now) for i in mine)


def _is_recent(incident: Incident, now: Ms) -> bool:
    return incident.closed_at is not None and now - incident.closed_at < STEPS_FOR
