"""May mail be resubmitted to a destination? (design section 4, *What opens and closes a gate*)

Promises: `decide` is a pure function of what is known now; the order of the facts does not matter; it
never opens while the newest look is faulty, nor by evidence of an attempt taken before the fix.

A gate is `open`, `closed` or `testing`: healthy as far as can be seen, and a canary is to prove it. So
every recovery passes through `testing`; what differs is why the fault is believed to be gone (`basis`):

    changed    enough healthy looks in a row, and something changed since the fault
    unchanged  healthy, but nothing has changed: the probe may look at the wrong place; a person is told
    no_look    healthy, and no look from the fault's time to compare with: the canary alone decides
    unknown    the probe has told nothing for 30 minutes: the canary alone decides
    delivery   mail that was stuck here was delivered, or a delivery names the endpoint

Limits: nodes behind one address and flapping are not told apart here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from resubmit.model.evidence import Cause, Scope, Status
from resubmit.model.moment import DAY, MINUTE, Ms
from resubmit.model.tls import Health
from resubmit.recovery.facts import Fault, Gate, Look
from resubmit.recovery.looks import has_changed, healthy_row, leading, reference_of
from resubmit.recovery.memory import Memory, Reference, memory_of
from resubmit.recovery.policy import Policy
from resubmit.recovery.words import at_text, many

OPEN = "open"
CLOSED = "closed"
TESTING = "testing"

FAULTY_LOOKS = 2
"""Faulty looks of the watch in a row that close a gate."""
UNKNOWN_FOR = 30 * MINUTE
"""So long the probe may tell nothing before the canary is asked instead."""
LOOKS_COUNT_FOR = 3
"""Intervals: looks older than that at start say nothing of the present."""
LONGEST_WAIT = 60 * MINUTE
"""Between two canaries while nothing changes; doubles up to it from trace_lag."""
EVIDENCE_COUNTS_FOR = 2 * DAY
"""Where neither a fault nor a fix is known."""

# fmt: off
_CONNECTION_CODES = frozenset((
    "dns_failed", "connect_timeout", "connect_refused", "greeting_timeout", "greeting_closed",
    "greeting_refused", "not_smtp", "blocklisted",
))
# fmt: on


@dataclass(frozen=True, slots=True)
class Trial:
    """How the canary stands. `proved_at`: when its proof was read; `failed`: with what it failed, "" when it
    has not. `candidates`: recipients that are one, or could be now or after a wait; `unsettled`: members of
    the incident that are not settled."""

    proved_at: Ms | None = None
    failed: str = ""
    candidates: int = 0
    unsettled: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What a gate is to be. `wake_at`: when time alone can change the answer. `tell`: a person has to look.
    `fault_from` and `cause` are set when it closes on a new fault: an incident begins (or goes on)."""

    state: str
    reasons: tuple[str, ...]
    memory: Memory
    wake_at: Ms | None = None
    tell: bool = False
    fault_from: Ms | None = None
    cause: str = ""

    def differs(self, gate: Gate) -> bool:
        """Whether it has to be written down."""
        return (self.state, self.reasons, self.memory.to_text()) != (gate.state, gate.reasons, gate.data)

    def moves(self, gate: Gate) -> bool:
        """Whether the gate itself moves, and not only what is remembered of it."""
        return self.state != gate.state


def decide(
    gate: Gate,
    looks: Sequence[Look],
    faults: Sequence[Fault],
    trial: Trial,
    policy: Policy,
    *,
    live: bool,
    now: Ms,
    started_at: Ms,
) -> Decision:
    """What the gate of a destination is to be. `live`: a live trace is there; `started_at`: of the service.

    Raises nothing; facts from the future count as of now."""
    memory = memory_of(gate.data)
    everything = sorted(looks, key=lambda look: (look.at, look.health, look.fingerprint), reverse=True)
    interval = policy.watch_interval if gate.state == OPEN else policy.probe_interval
    counted = [look for look in everything if look.at >= started_at - LOOKS_COUNT_FOR * interval]
    if gate.state == OPEN:
        if trial.failed:
            return _failed_step(memory, counted, trial, now)
        return _while_open(gate, memory, counted, everything, faults, policy, now)
    if gate.state == TESTING:
        return _while_testing(gate, memory, counted, faults, trial, policy, live, now)
    return _while_closed(gate, memory, counted, everything, faults, policy, now)


def settle_ends(memory: Memory, policy: Policy, live: bool) -> Ms | None:
    """When settle is over for what `memory` believes to be fixed; None while nothing is."""
    if memory.healthy_at is None or memory.fixed_at is None:
        return None
    return memory.healthy_at + policy.settle_for(live)


def speaks_against(fault: Fault, fixed_at: Ms | None) -> bool:
    """Whether it is a deferral of the whole destination, and about the present.

    With a known fix only an attempt taken after it is about the present; an NDR never is."""
    if fault.scope is not Scope.DESTINATION or fault.status not in (Status.DEFERRED, Status.PENDING):
        return False
    if fixed_at is None:
        return True
    return fault.attempt_accepted_at is not None and fault.attempt_accepted_at > fixed_at


def speaks_for(fault: Fault, names_endpoint: bool) -> bool:
    """Whether it is a delivery that says something of this endpoint: cloud mailboxes of the same domain
    are delivered all the time."""
    return fault.status == Status.DELIVERED and (fault.was_deferred or names_endpoint)


def cause_of_codes(codes: Sequence[str]) -> Cause:
    """The class of what a faulty look found."""
    return Cause.CONNECTION if codes and codes[0] in _CONNECTION_CODES else Cause.TLS


# ── open ──────────────────────────────────────────────────────────────────────────────────────────


def _while_open(
    gate: Gate,
    memory: Memory,
    looks: Sequence[Look],
    everything: Sequence[Look],
    faults: Sequence[Fault],
    policy: Policy,
    now: Ms,
) -> Decision:
    against = _newest_first([f for f in faults if speaks_against(f, memory.fixed_at)])
    if against:
        first = min(f.at for f in against)
        taken = [f.attempt_accepted_at for f in against if f.attempt_accepted_at is not None]
        return _closed(
            (_deferral_text(against),),
            _new_fault(first, min(now, against[0].at), everything, policy, memory),
            fault_from=min([first, *taken]),
            cause=_cause_text(against),
        )
    known = [look for look in looks if look.health != Health.UNKNOWN]
    row = leading(known, Health.FAULTY)
    if len(row) >= FAULTY_LOOKS and (memory.fixed_at is None or row[1].at > memory.fixed_at):
        first = row[-1].at
        looks_text = f"{many(len(row), 'faulty look')} in a row, the last at {at_text(row[0].at)}"
        return _closed(
            (f"{looks_text}: {_codes(row[0])}",),
            _new_fault(first, row[0].at, everything, policy, memory),
            fault_from=first,
            cause=cause_of_codes(row[0].codes),
        )
    return Decision(OPEN, gate.reasons, memory)


def _failed_step(memory: Memory, looks: Sequence[Look], trial: Trial, now: Ms) -> Decision:
    """A step behind the canary failed: the fault is not gone for all, whatever the looks say."""
    known = next((look for look in looks if look.health != Health.UNKNOWN), None)
    reference = Reference(known.at, known.health, known.fingerprint) if known else None
    since = memory.fault_at if memory.fault_at is not None else now
    shut = Memory(since, now, reference, tries=1, failed_at=now)
    return _closed((f"a step failed: {trial.failed}",), shut, fault_from=since, cause=Cause.OTHER)


def _new_fault(first: Ms, worst: Ms, looks: Sequence[Look], policy: Policy, before: Memory) -> Memory:
    # A gate that was open has had its proof: the failed canaries before it are history.
    fresh = Memory(fault_at=first, worst_at=worst)
    return replace(fresh, reference=reference_of(fresh, looks, policy))


def _closed(reasons: tuple[str, ...], memory: Memory, *, fault_from: Ms, cause: str) -> Decision:
    return Decision(CLOSED, reasons, memory, fault_from=fault_from, cause=cause)


# ── closed ────────────────────────────────────────────────────────────────────────────────────────


def _while_closed(
    gate: Gate,
    memory: Memory,
    looks: Sequence[Look],
    everything: Sequence[Look],
    faults: Sequence[Fault],
    policy: Policy,
    now: Ms,
) -> Decision:
    if memory.fault_at is None:  # closed by hand, or by an older version
        memory = replace(memory, fault_at=gate.since, worst_at=gate.since)
    memory = replace(memory, reference=reference_of(memory, everything, policy))
    worst = _worst(memory, looks, faults, now)
    memory = replace(memory, worst_at=worst, unknown_since=_unknown_since(gate, memory, looks, now))
    known = [look for look in looks if look.health != Health.UNKNOWN]
    row = healthy_row(known, worst)
    dark = memory.unknown_since
    if dark is not None and now >= dark + UNKNOWN_FOR and not _canary_wait(memory, row, policy, now):
        text = f"the probe has told nothing since {at_text(dark)}: the canary decides"
        before = replace(memory, worst_at=max([worst, *(look.at for look in known[:1])]))
        return replace(_testing(before, "unknown", now, now, text), tell=True)
    ends = dark + UNKNOWN_FOR if dark is not None else None
    if known and known[0].health == Health.FAULTY:
        text = f"the look at {at_text(known[0].at)} is faulty: {_codes(known[0])}"
        return Decision(CLOSED, (text,), memory, wake_at=ends)
    if wait := _canary_wait(memory, row, policy, now):
        return Decision(CLOSED, (wait[1],), memory, wake_at=wait[0])
    if standing_in := _delivery(faults, worst, known, policy):
        fixed = min([standing_in.at, *(look.at for look in row)])
        text = f"mail that was stuck here was delivered at {at_text(standing_in.at)}"
        if not standing_in.was_deferred:
            text = f"a delivery at {at_text(standing_in.at)} names the endpoint {standing_in.remote}"
        return _testing(memory, "delivery", fixed, min(now, standing_in.read_at), text)
    fresh_for = max(LOOKS_COUNT_FOR * policy.probe_interval, MINUTE)
    if len(row) >= policy.healthy_probes and now - row[0].at <= fresh_for:
        return _healthy(memory, row, policy)
    if row:
        text = (
            f"{many(len(row), 'healthy look')} in a row of {policy.healthy_probes}, "
            f"the last at {at_text(row[0].at)}"
        )
        return Decision(CLOSED, (text,), memory, wake_at=ends)
    if dark is not None and looks:
        text = f"no look has told anything since {at_text(dark)}: {_codes(looks[0])}"
        return Decision(CLOSED, (text,), memory, wake_at=ends)
    return Decision(CLOSED, gate.reasons, memory, wake_at=ends)


def _worst(memory: Memory, looks: Sequence[Look], faults: Sequence[Fault], now: Ms) -> Ms:
    """The newest sign against the present: what was known, and any deferral of an attempt that was taken
    after the row of healthy looks had begun."""
    worst = memory.worst_at or memory.fault_at or 0
    known = [look for look in looks if look.health != Health.UNKNOWN]
    row = healthy_row(known, worst)
    while row:
        against = [f for f in faults if speaks_against(f, row[-1].at) and f.at > worst]
        if not against:
            break
        worst = max(min(now, f.at) for f in against)
        shorter = healthy_row(known, worst)
        if len(shorter) == len(row):
            break
        row = shorter
    return worst


def _healthy(memory: Memory, row: Sequence[Look], policy: Policy) -> Decision:
    complete = row[-policy.healthy_probes]  # the oldest is last: this one made the row complete
    text = f"{many(policy.healthy_probes, 'healthy look')} in a row, the last at {at_text(complete.at)}"
    reference = memory.reference
    if reference is None:
        note = "no look from the time of the fault to compare with: the canary decides"
        return _testing(memory, "no_look", row[-1].at, complete.at, text, note)
    if has_changed(reference, row[0]):
        return _testing(memory, "changed", row[-1].at, complete.at, text)
    note = "healthy, but nothing has changed since the fault: is the probe looking at the right place?"
    return replace(_testing(memory, "unchanged", row[-1].at, complete.at, text, note), tell=True)


def _testing(memory: Memory, basis: str, fixed: Ms, healthy: Ms, *reasons: str) -> Decision:
    believed = replace(memory, fixed_at=fixed, healthy_at=healthy, basis=basis, unknown_since=None)
    return Decision(TESTING, reasons, believed)


def _canary_wait(memory: Memory, row: Sequence[Look], policy: Policy, now: Ms) -> tuple[Ms, str] | None:
    """After a canary that failed: growing gaps, but for a change that can be seen."""
    if not memory.tries or memory.failed_at is None:
        return None
    if row and memory.reference is not None and has_changed(memory.reference, row[0]):
        return None
    ends = memory.failed_at + min(LONGEST_WAIT, policy.trace_lag * 2 ** (memory.tries - 1))
    if now >= ends:
        return None
    return ends, (
        f"the canary failed at {at_text(memory.failed_at)} and nothing has changed since; "
        f"the next may go at {at_text(ends)}"
    )


def _delivery(faults: Sequence[Fault], worst: Ms, known: Sequence[Look], policy: Policy) -> Fault | None:
    against = max([worst, *(look.at for look in known if look.health == Health.FAULTY)])
    good = [f for f in faults if speaks_for(f, policy.names_endpoint(f.remote)) and f.at > against]
    return min(good, key=lambda f: (f.at, f.read_at, f.remote)) if good else None


def _unknown_since(gate: Gate, memory: Memory, looks: Sequence[Look], now: Ms) -> Ms | None:
    """Since when looks have told nothing: kept, because the journal hands out the newest looks only."""
    if looks and looks[0].health != Health.UNKNOWN:
        return None
    run = leading(looks, Health.UNKNOWN)
    if memory.unknown_since is not None and len(run) == len(looks):
        return memory.unknown_since
    if run:
        return run[-1].at if len(run) < len(looks) else min(run[-1].at, now)
    return memory.unknown_since if memory.unknown_since is not None else now


# ── testing ───────────────────────────────────────────────────────────────────────────────────────


def _while_testing(
    gate: Gate,
    memory: Memory,
    looks: Sequence[Look],
    faults: Sequence[Fault],
    trial: Trial,
    policy: Policy,
    live: bool,
    now: Ms,
) -> Decision:
    known = [look for look in looks if look.health != Health.UNKNOWN and look.at > (memory.worst_at or 0)]
    newest = known[0] if known else None
    reference = Reference(newest.at, newest.health, newest.fingerprint) if newest else memory.reference
    against = _newest_first([f for f in faults if speaks_against(f, memory.fixed_at)])
    if trial.failed or against:
        text = f"the canary failed: {trial.failed}" if trial.failed else _deferral_text(against)
        worst = now if trial.failed else min(now, against[0].at)
        shut = Memory(memory.fault_at, worst, reference, tries=memory.tries + 1, failed_at=now)
        return Decision(CLOSED, (text,), shut)
    if newest is not None and newest.health == Health.FAULTY:
        text = f"the look at {at_text(newest.at)} is faulty: {_codes(newest)}"
        shut = replace(
            memory, worst_at=newest.at, reference=reference, fixed_at=None, healthy_at=None, basis=""
        )
        return Decision(CLOSED, (text,), shut)
    if trial.proved_at is not None:
        return _open(memory, f"the canary's proof was read at {at_text(trial.proved_at)}")
    ends = settle_ends(memory, policy, live)
    if ends is not None and now < ends and not trial.candidates:
        return Decision(TESTING, gate.reasons, memory, wake_at=ends)
    if not trial.candidates and (memory.basis in ("changed", "delivery") or not trial.unsettled):
        return _open(memory, *gate.reasons[:1], "nobody is here to go as a canary")
    return Decision(TESTING, gate.reasons, memory, wake_at=ends if ends is not None and ends > now else None)


def _open(memory: Memory, *reasons: str) -> Decision:
    # What settle counts from stays: an urgent canary may have been proved before settle was over.
    kept = Memory(memory.fault_at, fixed_at=memory.fixed_at, healthy_at=memory.healthy_at, basis=memory.basis)
    return Decision(OPEN, reasons, kept)


# ── shared ────────────────────────────────────────────────────────────────────────────────────────


def _newest_first(faults: Sequence[Fault]) -> list[Fault]:
    return sorted(faults, key=lambda f: (f.at, f.read_at, f.text), reverse=True)


def _deferral_text(against: Sequence[Fault]) -> str:
    newest = against[0]
    words = " ".join(newest.text.split())
    shown = words if len(words) <= 200 else words[:199] + "…"
    count = many(len(against), "deferral")
    return f"{count} of the whole destination, the last at {at_text(newest.at)}: {shown}"


def _cause_text(against: Sequence[Fault]) -> str:
    causes = [f.cause for f in against if f.cause is not None]
    return causes[0] if causes else Cause.OTHER


def _codes(look: Look) -> str:
    return " ".join(look.codes) or "no code"


def faults_since(gate: Gate, now: Ms) -> Ms:
    """From when on evidence is asked for: what is older says nothing of the present."""
    memory = memory_of(gate.data)
    known = memory.fixed_at if gate.state == OPEN else memory.fault_at
    return (known if known is not None else now - EVIDENCE_COUNTS_FOR) - MINUTE


def looks_since(gate: Gate, now: Ms) -> Ms:
    """From when on looks are asked for."""
    memory = memory_of(gate.data)
    return min(memory.fault_at or now, now) - DAY


def is_open(gate: Gate) -> bool:
    """Whether mail may flow."""
    return gate.state == OPEN
