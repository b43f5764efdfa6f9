"""Looks in a row, and the one to compare them with. (design section 4, *Something must have changed*)

Promises: pure; looks of which the probe could tell nothing are left out by whoever calls.
"""

from __future__ import annotations

from collections.abc import Sequence

from resubmit.model.moment import Ms
from resubmit.model.tls import Health
from resubmit.recovery.facts import Look
from resubmit.recovery.memory import Memory, Reference
from resubmit.recovery.policy import Policy

_LOOK_TAKES = 30_000
"""A look's time is its end: one begun in time may be dated so much later."""


def reference_of(memory: Memory, looks: Sequence[Look], policy: Policy) -> Reference | None:
    """The look at the fault's own time. One that saw the fault is the best there is; else the last one
    before it, else the first after it, within a watch interval."""
    if memory.reference is not None and memory.reference.health == Health.FAULTY:
        return memory.reference
    fault_at = memory.failed_at or memory.fault_at
    if fault_at is None:
        return memory.reference
    reach = policy.watch_interval + _LOOK_TAKES
    after = max(fault_at - reach, memory.failed_at or 0)
    faulty = [look for look in looks if look.health == Health.FAULTY and look.at >= after]
    near = [look for look in looks if look.health == Health.HEALTHY and abs(look.at - fault_at) <= reach]
    before = [look for look in near if look.at <= fault_at]
    chosen = max(faulty, key=_by_time, default=None)
    if chosen is None and memory.reference is not None:
        return memory.reference
    chosen = chosen or max(before, key=_by_time, default=None) or min(near, key=_by_time, default=None)
    return Reference(chosen.at, chosen.health, chosen.fingerprint) if chosen else None


def _by_time(look: Look) -> tuple[Ms, str]:
    return look.at, look.fingerprint


def has_changed(reference: Reference, look: Look) -> bool:
    # What was seen as faulty and is healthy now has changed, even with the same certificate.
    return reference.health == Health.FAULTY or reference.fingerprint != look.fingerprint


def healthy_row(known: Sequence[Look], worst: Ms) -> list[Look]:
    """The healthy looks in a row, newest first, that are later than the worst that is known."""
    return [look for look in leading(known, Health.HEALTHY) if look.at > worst]


def leading(looks: Sequence[Look], health: Health) -> list[Look]:
    run: list[Look] = []
    for look in looks:
        if look.health != health:
            break
        run.append(look)
    return run
