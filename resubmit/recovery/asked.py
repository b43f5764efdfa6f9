"""What people's requests mean in the table's words. Pure.

Source: design 6.1 (`replay`, `hold|release|cancel`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from resubmit.journal.verbs import JobRow
from resubmit.model.filter import Filter
from resubmit.model.moment import rfc3339
from resubmit.model.recipient import Event, State
from resubmit.recovery.facts import Standing

OPERATOR_EVENTS = {
    "hold": Event.OPERATOR_HELD,
    "release": Event.OPERATOR_RELEASED,
    "cancel": Event.OPERATOR_CANCELLED,
}
REOPENS = Event.OPERATOR_REOPENED
NO_GATE = "open"
"""How a destination stands that was never faulty."""

_COUNTS = ("recipients", "accepted", "delivered", "refused", "skipped")


class Gate(Protocol):
    @property
    def state(self) -> str: ...


def is_reopened(standing: Standing, asked: Filter) -> bool:
    """Whether a settled recipient is opened again: only where its state was named."""
    return standing.state in (State.FAILED, State.CANCELLED) and standing.state.value in asked.state


def is_ours(standing: Standing) -> bool:
    """Whether it waits here for its own turn: it needs no canary, only its turn now."""
    return standing.state in (State.JOURNALED, State.RETRYING)


CANCELLED = "cancelled"


def is_open(job_state: str) -> bool:
    """Whether a job in this state can still be cancelled."""
    return job_state in ("waiting", "running")


def has_ended(job: Mapping[str, Any], gate: Gate | None) -> bool:
    """Whether waiting for a job is over: it is done, or it waits for a gate that is not open."""
    if job["state"] in ("done", "cancelled", "failed"):
        return True
    return job["state"] == "waiting" and gate is not None and gate.state != "open"


def together(jobs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several jobs of one replay as one object: the first one's, with the counts of all and their ids."""
    whole = dict(jobs[0])
    for name in _COUNTS:
        whole[name] = sum(job[name] for job in jobs)
    order = ("waiting", "running", "failed", "cancelled", "done")
    whole["state"] = min((job["state"] for job in jobs), key=order.index)
    whole["ids"] = [job["id"] for job in jobs]
    return whole


def job_plain(row: JobRow, gate: str | None) -> dict[str, Any]:
    """A job as design 6.1 has it, with its gate's name beside."""
    return {
        "id": row.id,
        "state": row.state,
        "asked_at": rfc3339(row.asked_at),
        "asked_by": row.asked_by,
        "reason": row.reason,
        "filter": json.loads(row.filter or "{}"),
        "gate": gate or NO_GATE,
        "gate_name": row.gate,
        "recipients": row.recipients,
        "accepted": row.accepted,
        "delivered": row.delivered,
        "refused": row.refused,
        "skipped": row.skipped,
    }
