"""The table by which a destination's gate opens and closes. (design 4, *What opens and closes a gate*)

Read it from the top of its state: the first row that holds decides, and each gives its reasons, those that
speak for it and those that speak against. What is not in the table does not move a gate.

Three laws are built into the order of the rows: a gate never opens with the newest look faulty; it never
closes on a single look while it is open; from closed it never opens but through testing, behind a canary.
A gate is `open`, `closed` or `testing`; why a fault is believed to be gone is its `basis`:

    changed    enough healthy looks in a row, and something changed since the fault
    unchanged  healthy, but nothing has changed: the probe may look at the wrong place; a person is told
    no_look    healthy, and no look from the fault's time to compare with: the canary alone decides
    unknown    the probe has told nothing for 30 minutes: the canary alone decides
    delivery   mail that was stuck here was delivered, or a delivery names the endpoint
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from resubmit.model.evidence import Cause
from resubmit.model.moment import Ms
from resubmit.model.tls import Health
from resubmit.recovery import flapping, signs
from resubmit.recovery.facts import Look
from resubmit.recovery.looks import has_changed, leading, reference_of
from resubmit.recovery.memory import Memory, Reference
from resubmit.recovery.sight import LOOKS_COUNT_FOR, Sight
from resubmit.recovery.turn import CLOSED, OPEN, TESTING, Decision
from resubmit.recovery.words import at_text, many

FAULTY_LOOKS = 2
"""Faulty looks of the watch in a row that close a gate."""

Judge = Callable[[Sight], Decision | None]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: where the gate stands, what is the case, where it goes. `judge` gives None when
    it is not the case."""

    state: str
    name: str
    to: str
    judge: Judge

    @property
    def case(self) -> str:
        """What is the case, in words."""
        return " ".join((self.judge.__doc__ or "").split())


def judge(sight: Sight) -> Decision:
    """What the first row that holds says."""
    for row in TABLE:
        if row.state == sight.gate.state and (decision := row.judge(sight)) is not None:
            return replace(decision, row=row.name)
    raise AssertionError("the last row of each state always holds")


# ── open ──────────────────────────────────────────────────────────────────────────────────────────


def _step_failed(sight: Sight) -> Decision | None:
    """A step behind the canary failed: the fault is not gone for all, whatever the looks say."""
    if not sight.trial.failed:
        return None
    known, memory, now = sight.newest, sight.memory, sight.now
    reference = Reference(known.at, known.health, known.fingerprint) if known else None
    since = memory.fault_at if memory.fault_at is not None else now
    fresh = Memory(since, now, reference, tries=1, failed_at=now)
    return _shut(sight, fresh, f"a step failed: {sight.trial.failed}", fault_from=since, cause=Cause.OTHER)


def _deferred(sight: Sight) -> Decision | None:
    """A deferral of scope destination, of an attempt taken after the fix; where no fix is known, of any."""
    if not (against := sight.against):
        return None
    first = min(f.at for f in against)
    taken = [f.attempt_accepted_at for f in against if f.attempt_accepted_at is not None]
    reasons = [signs.deferrals_text(against)]
    if sight.newest is not None and sight.newest.health == Health.HEALTHY:
        reasons.append(f"the look at {at_text(sight.newest.at)} was healthy: evidence beats the probe")
    fresh = _new_fault(sight, first, min(sight.now, against[0].at))
    cause = signs.cause_of(against)
    return _shut(sight, fresh, *reasons, fault_from=min([first, *taken]), cause=cause)


def _two_faulty_looks(sight: Sight) -> Decision | None:
    """Two faulty looks of the watch in a row, both after the fix; one that told nothing is no look."""
    run, fixed = leading(sight.known, Health.FAULTY), sight.memory.fixed_at
    if len(run) < FAULTY_LOOKS or (fixed is not None and run[1].at <= fixed):
        return None
    looks = f"{many(len(run), 'faulty look')} in a row, the last at {at_text(run[0].at)}"
    reasons = [f"{looks}: {signs.codes_text(run[0])}"]
    if (good := sight.delivery_despite_the_probe()) is not None:
        reasons.append(f"and yet {signs.delivery_text(good)}: does the probe come in by another way?")
    fresh = _new_fault(sight, run[-1].at, run[0].at)
    cause = signs.cause_of_codes(run[0].blamed)
    # It began after the last healthy look, not with the first faulty one: mail taken between may be lost too.
    began = sight.known[len(run)].at if len(run) < len(sight.known) else run[-1].at
    began = max(began, run[-1].at - LOOKS_COUNT_FOR * sight.policy.watch_interval)
    return _shut(sight, fresh, *reasons, fault_from=min(began, run[-1].at), cause=cause)


def _flaps_while_open(sight: Sight) -> Decision | None:
    """Flapping: more than a third of the last 20 looks changed, with a faulty one after the fix."""
    faulty = [look for look in sight.known if look.health == Health.FAULTY]
    if not sight.flapping or not faulty or faulty[0].at <= (sight.memory.fixed_at or 0):
        return None
    fresh = replace(_new_fault(sight, faulty[-1].at, faulty[0].at), flapping_at=sight.memory.flapping_at)
    cause = signs.cause_of_codes(faulty[0].blamed)
    text = f"{_flapping_text(sight)}; faulty last at {at_text(faulty[0].at)}: {signs.codes_text(faulty[0])}"
    return _told(sight, _shut(sight, fresh, text, fault_from=faulty[-1].at, cause=cause), "flapping")


def _stays_open(sight: Sight) -> Decision:
    """Nothing of this."""
    return Decision(OPEN, sight.gate.reasons, sight.memory)


# ── closed ────────────────────────────────────────────────────────────────────────────────────────


def _flaps_while_closed(sight: Sight) -> Decision | None:
    """Flapping, until less than a sixth of the last 20 looks changed."""
    if not sight.flapping:
        return None
    reasons = [_flapping_text(sight)]
    if sight.newest is not None and sight.is_faulty:
        reasons.append(signs.look_text(sight.newest))
    return _told(sight, _stays_shut(sight, *reasons), "flapping")


def _dark(sight: Sight) -> Decision | None:
    """The probe has told nothing for 30 minutes, and no canary failed lately."""
    until = sight.dark_until
    if until is None or sight.now < until or sight.canary_wait():
        return None
    memory = sight.memory
    worst = max([memory.worst_at or 0, *(look.at for look in sight.known[:1])])
    text = (
        f"the probe has told nothing since {at_text(memory.unknown_since or sight.now)}: the canary decides"
    )
    tried = _testing(sight, "unknown", sight.now, sight.now, text)
    return replace(tried, memory=replace(tried.memory, worst_at=worst), tell=True)


def _faulty_now(sight: Sight) -> Decision | None:
    """The newest look is faulty; a delivery does nothing then, but a person is told."""
    if sight.newest is None or not sight.is_faulty:
        return None
    shut = _stays_shut(sight, signs.look_text(sight.newest))
    good = sight.delivery_despite_the_probe()
    if good is None:
        return shut
    # The newest time of several would be a new reason with each delivery: the first one's is kept.
    text = "mail is delivered while the probe from here fails: does it come in by another way?"
    return _told(sight, replace(shut, reasons=(*shut.reasons, text)), "delivered_despite_the_probe")


def _canary_failed_lately(sight: Sight) -> Decision | None:
    """A canary failed and nothing has changed since: its wait (trace_lag, doubling to an hour) goes on."""
    wait = sight.canary_wait()
    return None if wait is None else replace(_stays_shut(sight, wait[1]), wake_at=wait[0])


def _node_hidden(sight: Sight) -> Decision | None:
    """A faulty node was met by turns with others, and has not been absent from 7 connections yet."""
    return None if sight.hidden is None else _stays_shut(sight, sight.hidden.text())


def _delivered(sight: Sight) -> Decision | None:
    """A delivery that speaks for health, later than every sign against it."""
    good = sight.delivery()
    if good is None:
        return None
    fixed = min([good.at, *(look.at for look in sight.row)])
    return _testing(sight, "delivery", fixed, min(sight.now, good.read_at), signs.delivery_text(good))


def _healthy_changed(sight: Sight) -> Decision | None:
    """Enough healthy looks in a row on every address, and something changed since the fault."""
    reference = sight.memory.reference
    if not sight.has_full_row or reference is None or not has_changed(reference, sight.row[0]):
        return None
    return _healthy(sight, "changed")


def _healthy_unchanged(sight: Sight) -> Decision | None:
    """Enough healthy looks in a row, and nothing has changed since the fault."""
    if not sight.has_full_row or sight.memory.reference is None:
        return None
    note = "healthy, but nothing has changed since the fault: is the probe looking at the right place?"
    return replace(_healthy(sight, "unchanged", note), tell=True)


def _healthy_unknown_before(sight: Sight) -> Decision | None:
    """Enough healthy looks in a row, and no look from the time of the fault."""
    if not sight.has_full_row:
        return None
    return _healthy(
        sight, "no_look", "no look from the time of the fault to compare with: the canary decides"
    )


def _deferred_still(sight: Sight) -> Decision | None:
    """The probe is healthy, and mail taken since is deferred all the same: evidence beats the probe."""
    against = sight.deferred_despite_the_probe()
    if not against:
        return None
    text = f"the probe is healthy, and yet: {signs.deferrals_text(against)}"
    return _stays_shut(sight, text, *_row_text(sight))


def _row_grows(sight: Sight) -> Decision | None:
    """Healthy looks in a row, and not enough, or none of the present."""
    return _stays_shut(sight, *_row_text(sight)) if sight.row else None


def _dims(sight: Sight) -> Decision | None:
    """Looks that told nothing, for less than 30 minutes."""
    since = sight.memory.unknown_since
    if since is None or not sight.looks:
        return None
    text = f"no look has told anything since {at_text(since)}: {signs.codes_text(sight.looks[0])}"
    return _stays_shut(sight, text)


def _stays_closed(sight: Sight) -> Decision:
    """Nothing of this."""
    return _stays_shut(sight, *sight.gate.reasons)


# ── testing ───────────────────────────────────────────────────────────────────────────────────────


def _canary_failed(sight: Sight) -> Decision | None:
    """The canary failed."""
    if not sight.trial.failed:
        return None
    return _failed(sight, f"the canary failed: {sight.trial.failed}", sight.now)


def _deferred_again(sight: Sight) -> Decision | None:
    """A deferral of scope destination, of an attempt taken after the fix."""
    if not (against := sight.against):
        return None
    return _failed(sight, signs.deferrals_text(against), min(sight.now, against[0].at))


def _faulty_again(sight: Sight) -> Decision | None:
    """A faulty look after the healthy ones."""
    newest = _after_the_worst(sight)
    if newest is None or newest.health != Health.FAULTY:
        return None
    text = signs.look_text(newest)
    back = replace(
        sight.memory,
        worst_at=newest.at,
        reference=Reference(newest.at, newest.health, newest.fingerprint),
        fixed_at=None,
        healthy_at=None,
        basis="",
        shut_why=text,
    )
    return Decision(CLOSED, (text,), back)


def _proved(sight: Sight) -> Decision | None:
    """The canary's proof is there."""
    if sight.trial.proved_at is None:
        return None
    return _opens(sight, f"the canary's proof was read at {at_text(sight.trial.proved_at)}")


def _settles(sight: Sight) -> Decision | None:
    """Nobody may go as a canary yet, and settle is not over."""
    ends = settle_ends(sight.memory, sight.policy.settle_for(sight.live))
    if ends is None or sight.now >= ends or sight.trial.candidates:
        return None
    return Decision(TESTING, sight.gate.reasons, sight.memory, wake_at=ends)


def _nobody_to_go(sight: Sight) -> Decision | None:
    """Nobody is here to go as a canary, and the fault is believed to be gone (or nobody is unsettled)."""
    believed = sight.memory.basis in ("changed", "delivery")
    if sight.trial.candidates or not (believed or not sight.trial.unsettled):
        return None
    return _opens(sight, *sight.gate.reasons[:1], "nobody is here to go as a canary")


def _waits_for_proof(sight: Sight) -> Decision:
    """The canary is out, or about to go."""
    ends = settle_ends(sight.memory, sight.policy.settle_for(sight.live))
    wake_at = ends if ends is not None and ends > sight.now else None
    return Decision(TESTING, sight.gate.reasons, sight.memory, wake_at=wake_at)


TABLE: tuple[Row, ...] = (
    Row(OPEN, "step_failed", CLOSED, _step_failed),
    Row(OPEN, "deferred", CLOSED, _deferred),
    Row(OPEN, "two_faulty_looks", CLOSED, _two_faulty_looks),
    Row(OPEN, "flaps_while_open", CLOSED, _flaps_while_open),
    Row(OPEN, "stays_open", OPEN, _stays_open),
    Row(CLOSED, "flaps_while_closed", CLOSED, _flaps_while_closed),
    Row(CLOSED, "dark", TESTING, _dark),
    Row(CLOSED, "faulty_now", CLOSED, _faulty_now),
    Row(CLOSED, "canary_failed_lately", CLOSED, _canary_failed_lately),
    Row(CLOSED, "node_hidden", CLOSED, _node_hidden),
    Row(CLOSED, "delivered", TESTING, _delivered),
    Row(CLOSED, "healthy_changed", TESTING, _healthy_changed),
    Row(CLOSED, "healthy_unchanged", TESTING, _healthy_unchanged),
    Row(CLOSED, "healthy_unknown_before", TESTING, _healthy_unknown_before),
    Row(CLOSED, "deferred_still", CLOSED, _deferred_still),
    Row(CLOSED, "row_grows", CLOSED, _row_grows),
    Row(CLOSED, "dims", CLOSED, _dims),
    Row(CLOSED, "stays_closed", CLOSED, _stays_closed),
    Row(TESTING, "canary_failed", CLOSED, _canary_failed),
    Row(TESTING, "deferred_again", CLOSED, _deferred_again),
    Row(TESTING, "faulty_again", CLOSED, _faulty_again),
    Row(TESTING, "proved", OPEN, _proved),
    Row(TESTING, "settles", TESTING, _settles),
    Row(TESTING, "nobody_to_go", OPEN, _nobody_to_go),
    Row(TESTING, "waits_for_proof", TESTING, _waits_for_proof),
)
"""Every row, in the order they are asked."""


# ── shared ────────────────────────────────────────────────────────────────────────────────────────


def settle_ends(memory: Memory, settle: Ms) -> Ms | None:
    """When settle is over for what `memory` believes to be fixed; None while nothing is."""
    if memory.healthy_at is None or memory.fixed_at is None:
        return None
    return memory.healthy_at + settle


def _new_fault(sight: Sight, first: Ms, worst: Ms) -> Memory:
    # A gate that was open has had its proof: the failed canaries before it are history.
    fresh = Memory(fault_at=first, worst_at=worst)
    return replace(fresh, reference=reference_of(fresh, sight.everything, sight.policy))


def _shut(sight: Sight, memory: Memory, *reasons: str, fault_from: Ms, cause: str) -> Decision:
    kept = replace(memory, shut_why=reasons[0], flapping_at=sight.memory.flapping_at)
    return Decision(CLOSED, reasons, kept, fault_from=fault_from, cause=cause)


def _stays_shut(sight: Sight, *reasons: str) -> Decision:
    return Decision(CLOSED, reasons, sight.memory, wake_at=sight.dark_until)


def _told(sight: Sight, decision: Decision, what: str) -> Decision:
    """A person is told once of what does not change by itself."""
    is_new = sight.memory.told != what
    return replace(decision, tell=is_new, memory=replace(decision.memory, told=what))


def _flapping_text(sight: Sight) -> str:
    count = flapping.changes(sight.everything)
    return (
        f"flapping: {count} of the last {flapping.LAST} looks changed; nothing goes by itself until it is "
        f"fewer than {flapping.GOES_ON}"
    )


def _row_text(sight: Sight) -> tuple[str, ...]:
    if not sight.row:
        return ()
    last = at_text(sight.row[0].at)
    count = many(len(sight.row), "healthy look")
    return (f"{count} in a row of {sight.policy.healthy_probes}, the last at {last}",)


def _healthy(sight: Sight, basis: str, *notes: str) -> Decision:
    complete = sight.row[-sight.policy.healthy_probes]  # the oldest is last: this one made the row complete
    count = many(sight.policy.healthy_probes, "healthy look")
    text = f"{count} in a row, the last at {at_text(complete.at)}"
    return _testing(sight, basis, sight.row[-1].at, complete.at, text, *notes)


def _testing(sight: Sight, basis: str, fixed: Ms, healthy: Ms, *reasons: str) -> Decision:
    believed = replace(
        sight.memory, fixed_at=fixed, healthy_at=healthy, basis=basis, unknown_since=None, told=""
    )
    return Decision(TESTING, reasons, believed)


def _after_the_worst(sight: Sight) -> Look | None:
    worst = sight.memory.worst_at or 0
    return next((look for look in sight.known if look.at > worst), None)


def _failed(sight: Sight, text: str, worst: Ms) -> Decision:
    newest, memory = _after_the_worst(sight), sight.memory
    reference = (
        Reference(newest.at, newest.health, newest.fingerprint) if newest is not None else memory.reference
    )
    shut = Memory(
        memory.fault_at,
        worst,
        reference,
        tries=memory.tries + 1,
        failed_at=sight.now,
        flapping_at=memory.flapping_at,
        shut_why=text,
    )
    return Decision(CLOSED, (text,), shut)


def _opens(sight: Sight, *reasons: str) -> Decision:
    # What settle counts from stays: an urgent canary may have been proved before settle was over.
    memory = sight.memory
    kept = Memory(
        memory.fault_at,
        fixed_at=memory.fixed_at,
        healthy_at=memory.healthy_at,
        basis=memory.basis,
        shut_why=memory.shut_why,
    )
    return Decision(OPEN, reasons, kept)
