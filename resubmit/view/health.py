"""What a monitoring system is told: how bad it is, and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resubmit.journal.read import Overview
from resubmit.model.moment import DAY, Ms, rfc3339, span_text

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
NAMES = ("ok", "warning", "critical", "unknown")

_LITTLE = 128 * 1024 * 1024
"""Octets free below which no new attempt is begun (attempt_floor as it is when left out)."""
_RECENT = DAY
"""How long an unreadable file is worth a warning."""


@dataclass(frozen=True, slots=True)
class Limits:
    """bounces_in: what is stuck and bounces so soon is critical; certificate: one that ends so soon is a
    warning; stuck_for: what has been stuck for so long is a warning."""

    bounces_in: Ms
    certificate: Ms
    stuck_for: Ms


@dataclass(frozen=True, slots=True)
class Ruling:
    """One thing that is not well."""

    level: int
    text: str


def judge(
    overview: Overview, limits: Limits, *, runs: bool | None, oldest: Ms | None, now: Ms
) -> list[Ruling]:
    """All that is not well, the worst first. `runs`: whether the service answers, None when that can't be
    asked; `oldest`: since when the oldest stuck recipient is in its state."""
    found: list[Ruling] = []
    if runs is False:
        found.append(Ruling(CRITICAL, "the service does not run"))
    if 0 < overview.journal.free < _LITTLE:
        found.append(Ruling(CRITICAL, f"{overview.journal.free // 2**20} MiB free at the journal"))
    stuck = sum(overview.stuck.values())
    if stuck and overview.next_deadline is not None and overview.next_deadline - now <= limits.bounces_in:
        left = overview.next_deadline - now
        when = f"bounces in {span_text(left)}" if left > 0 else f"was to bounce {span_text(-left)} ago"
        found.append(Ruling(CRITICAL, f"{_stuck(overview)}, the next one {when}"))
    elif stuck and (oldest is None or now - oldest >= limits.stuck_for):
        found.append(Ruling(WARNING, _stuck(overview)))
    for d in overview.destinations:
        name, seen = d.gate.name, f" ({', '.join(d.findings)})" if d.findings else ""
        if d.gate.state != "open":
            found.append(Ruling(WARNING, f"gate {name} is {d.gate.state}{seen}"))
        elif d.verdict == "faulty":
            found.append(Ruling(WARNING, f"{name} is faulty{seen}"))
        if d.days_left is not None and d.days_left * DAY <= limits.certificate:
            ends = f"ends in {d.days_left}d" if d.days_left >= 0 else f"ended {-d.days_left}d ago"
            found.append(Ruling(WARNING, f"the certificate of {name} {ends}"))
    found += [
        Ruling(WARNING, f"gate of route {gate.name} is {gate.state}")
        for gate in overview.routes
        if gate.state != "open"
    ]
    fresh = [item for item in overview.unreadable if now - item.at < _RECENT]
    if fresh:
        found.append(Ruling(WARNING, f"{len(fresh)} unreadable, {fresh[0].file} last"))
    return sorted(found, key=lambda one: -one.level)


def rulings_object(rulings: Sequence[Ruling], overview: Overview | None) -> dict[str, Any]:
    """The object of `health --json`."""
    worst = max((r.level for r in rulings), default=OK)
    return {
        "status": NAMES[worst],
        "problems": [{"level": NAMES[r.level], "text": r.text} for r in rulings],
        "stuck": dict(overview.stuck) if overview else None,
        "next_deadline": rfc3339(overview.next_deadline) if overview else None,
        "incidents": len(overview.incidents) if overview else None,
        "free": overview.journal.free if overview else None,
    }


def _stuck(overview: Overview) -> str:
    causes = ", ".join(f"{n} {cause}" for cause, n in overview.stuck.items())
    total = sum(overview.stuck.values())
    return f"{total} recipient{'' if total == 1 else 's'} stuck ({causes})"
