"""May mail be handed on over a route? (design section 4, *A route's gate*)

Promises: it closes when no address of the route can be spoken to, when TLS is below the route's level, or
by a refusal that concerns the whole route; then a dry run tries it, and after a healthy one a single
message. It opens when that is taken, or refused for its own sake. Pure; the order of the facts does not
matter.

A trial that failed is followed by growing waits, 30 s doubling to 30 minutes, since the dry run can't see
every refusal (5.7.64 comes at RCPT). Limits: a route whose probe never tells anything is tried with a
message after 30 minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from resubmit.journal.verbs import Haste
from resubmit.model.evidence import Cause, Scope, Status
from resubmit.model.moment import MINUTE, SECOND, Ms
from resubmit.model.recipient import State
from resubmit.model.tls import Health
from resubmit.recovery import signs
from resubmit.recovery.facts import Fault, Gate, Look, Standing
from resubmit.recovery.gate import CLOSED, OPEN, TESTING, UNKNOWN_FOR, Decision
from resubmit.recovery.memory import Memory, memory_of
from resubmit.recovery.policy import Policy
from resubmit.recovery.words import at_text

FIRST_WAIT = 30 * SECOND
LONGEST_WAIT = 30 * MINUTE
"""Between two trials that fail; doubles from FIRST_WAIT."""
UNPACED: Ms = 2
"""From one message to the next where no rate is set: all due at once, new mail would wait behind them."""


def decide(
    gate: Gate,
    looks: Sequence[Look],
    faults: Sequence[Fault],
    policy: Policy,
    now: Ms,
    *,
    idle: bool = False,
) -> Decision:
    """What the gate of a route is to be. `idle`: no mail waits to go over it.

    faults: what our own attempts over it met, refusals of scope route and successes alike, by when they
    ended (`at`)."""
    memory = memory_of(gate.data)
    against = sorted((f for f in faults if speaks_against(f)), key=_by_time)
    good = sorted((f for f in faults if speaks_for(f)), key=_by_time)
    if gate.state == OPEN:
        return _while_open(gate, memory, against, good, now)
    if gate.state == TESTING:
        return _while_testing(gate, memory, against, good, idle, now)
    return _while_closed(gate, memory, looks, good, policy, now)


def speaks_against(fault: Fault) -> bool:
    """Whether it failed for a reason that concerns the whole route."""
    failed = (Status.DEFERRED, Status.FAILED, Status.EXPIRED)
    return fault.scope is Scope.ROUTE and fault.status in failed and fault.cause is not Cause.THROTTLE


def speaks_for(fault: Fault) -> bool:
    """Whether something got through: an attempt that was answered 250, or refused for its own sake only."""
    return fault.scope is None and fault.status in (Status.NONE, Status.DELIVERED, Status.RELAYED)


def waits_behind(standing: Standing, route: str) -> bool:
    """Whether a recipient is stuck with us because of the route."""
    return standing.route == route and standing.state is State.RETRYING and standing.scope is Scope.ROUTE


def haste(name: str, decision: Decision, gate: Gate, rate: float) -> Haste | None:
    """What of the mail that waits need not wait for its own retry, now that the gate turns: the one message
    that tries the route, or all that failed by it, at `rate` messages a second (0: no limit of ours)."""
    if not decision.moves(gate) or decision.state == CLOSED:
        return None
    if decision.state == TESTING:
        return Haste(name, 1, 0)
    return Haste(name, None, round(SECOND / rate) if rate else UNPACED)


def _by_time(fault: Fault) -> tuple[Ms, Ms, str]:
    return fault.at, fault.read_at, fault.text


def _while_open(
    gate: Gate, memory: Memory, against: Sequence[Fault], good: Sequence[Fault], now: Ms
) -> Decision:
    after = max([memory.fixed_at or 0, *(f.at for f in good)])
    fresh = [f for f in against if f.at > after]
    if not fresh:
        if against and against[-1].at > (memory.fixed_at or 0):
            # What got through after it is remembered, so that a fault that is over is not weighed for ever.
            memory = replace(memory, fixed_at=after)
        return Decision(OPEN, gate.reasons, memory)
    text = _text(fresh[-1])
    shut = Memory(fault_at=fresh[0].at, worst_at=fresh[-1].at, shut_why=text)
    return Decision(CLOSED, (text,), shut, fault_from=fresh[0].at, cause=_cause(fresh[-1]))


def _while_closed(
    gate: Gate, memory: Memory, looks: Sequence[Look], good: Sequence[Fault], policy: Policy, now: Ms
) -> Decision:
    if memory.fault_at is None:
        memory = replace(memory, fault_at=gate.since, worst_at=gate.since)
    worst = memory.worst_at or 0
    waited = memory.failed_at or worst
    ends = waited + (min(LONGEST_WAIT, FIRST_WAIT * 2 ** (memory.tries - 1)) if memory.tries else 0)
    if through := [f for f in good if f.at > worst]:
        # An attempt that had begun before the gate shut, or one by hand, got through.
        return _open(memory, through[-1])
    known = [look for look in looks if look.at > worst and look.health != Health.UNKNOWN]
    newest = max(known, key=lambda look: (look.at, look.fingerprint), default=None)
    if newest is not None and newest.health == Health.FAULTY:
        why = f"the dry run at {at_text(newest.at)} failed: {signs.codes_text(newest)}"
        return Decision(CLOSED, (why,), memory)
    if newest is None:
        ends = max(ends, worst + UNKNOWN_FOR)
    if now < ends:
        reasons = gate.reasons
        if newest is not None:
            reasons = (f"the dry run works; one message tries it at {at_text(ends)}", _last(gate, memory))
        return Decision(CLOSED, reasons, memory, wake_at=ends)
    told = f"the dry run at {at_text(newest.at)} works" if newest else "no dry run has told anything"
    tried = replace(memory, fixed_at=newest.at if newest else now, healthy_at=now, basis="dry_run")
    return Decision(TESTING, (f"{told}: one message tries it",), tried)


def _while_testing(
    gate: Gate, memory: Memory, against: Sequence[Fault], good: Sequence[Fault], idle: bool, now: Ms
) -> Decision:
    since = memory.healthy_at or gate.since
    failed = [f for f in against if f.at > since]
    through = [f for f in good if f.at > since]
    if failed and (not through or failed[-1].at > through[-1].at):
        text, at = _text(failed[-1]), failed[-1].at
        shut = Memory(memory.fault_at, at, tries=memory.tries + 1, failed_at=at, shut_why=text)
        return Decision(CLOSED, (text,), shut)
    if through:
        return _open(memory, through[-1])
    if not idle:
        return Decision(TESTING, gate.reasons, memory)
    # What waited was settled in other ways. An attempt under way would have ended by then.
    if now < since + LONGEST_WAIT:
        return Decision(TESTING, gate.reasons, memory, wake_at=since + LONGEST_WAIT)
    kept = Memory(fault_at=memory.fault_at, fixed_at=memory.fixed_at, shut_why=memory.shut_why)
    return Decision(OPEN, (*gate.reasons[:1], "nobody was here to try it"), kept)


def _open(memory: Memory, through: Fault) -> Decision:
    kept = Memory(fault_at=memory.fault_at, fixed_at=through.at, shut_why=memory.shut_why)
    return Decision(OPEN, (f"the next hop answered a message at {at_text(through.at)}",), kept)


def _last(gate: Gate, memory: Memory) -> str:
    if memory.failed_at is None:
        return "it has failed since " + at_text(memory.fault_at or gate.since)
    return f"the last try failed at {at_text(memory.failed_at)}"


def _cause(fault: Fault) -> str:
    return str(fault.cause or Cause.OTHER)


def _text(fault: Fault) -> str:
    words = " ".join(fault.text.split())
    return f"{at_text(fault.at)}: {words if len(words) <= 200 else words[:199] + '…'}"
