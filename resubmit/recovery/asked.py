"""What people's requests mean in the table's words. Pure.

Source: design 6.1 (`replay`); what operators decide for single recipients is in decided.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

from resubmit.journal.verbs import JobRow
from resubmit.model.filter import Filter
from resubmit.model.moment import rfc3339
from resubmit.model.recipient import Event, State
from resubmit.recovery.eligible import is_again
from resubmit.recovery.facts import Item, Standing
from resubmit.recovery.jobs import options_of
from resubmit.recovery.stage import stage_of

REOPENS = Event.OPERATOR_REOPENED
NO_GATE = "open"
"""How a destination stands that was never faulty."""

_COUNTS = ("recipients", "accepted", "delivered", "refused", "skipped")


class Gate(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def reasons(self) -> tuple[str, ...]: ...


def is_reopened(standing: Standing, asked: Filter) -> bool:
    """Whether a settled recipient is opened again: only where its state was named."""
    return standing.state in (State.FAILED, State.CANCELLED) and standing.state.value in asked.state


def is_ours(standing: Standing) -> bool:
    """Whether it waits here for its own turn: it needs no canary, only its turn now."""
    return standing.state in (State.JOURNALED, State.RETRYING) and not is_again(standing)


CANCELLED = "cancelled"


def pauses(do: str) -> bool:
    """Whether a request about a job stops it; else it lets it go on."""
    return do == "jobs_pause"


def is_open(job_state: str) -> bool:
    """Whether a job in this state can still be cancelled."""
    return job_state in ("waiting", "running")


FINAL = ("done", "cancelled", "failed")


def kept_by(job: JobRow, gates: Sequence[Gate | None], *, known: bool, mode: str) -> str:
    """What a job can't go on for, in words; "" while nothing stands in its way.

    gates: its destination's and the route's that it takes, None for one that never turned. A person's force
    goes through the first, until its canary has failed, and never through the second. known: whether the
    config has its destination.
    """
    if job.state in FINAL:
        return ""
    if not known:
        return f"the destination {job.destination} is no longer in the config"
    if mode == "observe":
        return "recovery only observes (mode is observe)"
    if options_of(job.options).paused:
        return f"it is paused; `resubmit jobs resume {job.id}` lets it go on"
    forced = options_of(job.options).force and not stage_of(job.stage).force_spent
    for gate in gates:
        if gate is None or gate.state == NO_GATE or (forced and gate.name == job.gate):
            continue
        why = f": {'; '.join(gate.reasons)}" if gate.reasons else ""
        return f"gate {gate.name} is {gate.state}{why}"
    return ""


def are_on_their_way(released: Sequence[Item], route: Gate | None) -> bool:
    """Whether replies are still to come for what was made due. Behind a route's gate that is not open only
    what is being sent moves; the rest waits there, and nobody knows until when."""
    is_clear = route is None or route.state == NO_GATE
    return any(is_clear or item.recipient_state is State.SENDING for item in released)


def has_ended(state: str, *, waiting: bool, in_flight: bool, kept: str) -> bool:
    """Whether waiting for a job is over: every recipient has its reply, or those that have not gone are kept
    here (`kept` says by what) and none is on its way. `waiting`, `in_flight`: whether it has such."""
    if state in FINAL or not (waiting or in_flight):
        return True
    return bool(kept) and not in_flight


def together(jobs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several jobs of one replay as one object: the first one's, with the counts of all and their ids."""
    whole = dict(jobs[0])
    for name in _COUNTS:
        whole[name] = sum(job[name] for job in jobs)
    order = ("waiting", "running", "failed", "cancelled", "done")
    whole["state"] = min((job["state"] for job in jobs), key=order.index)
    whole["waits_for"] = "; ".join(dict.fromkeys(job["waits_for"] for job in jobs if job["waits_for"]))
    whole["paused"] = all(job["paused"] for job in jobs)
    whole["ids"] = [job["id"] for job in jobs]
    return whole


def job_plain(row: JobRow, gate: str | None, kept: str = "") -> dict[str, Any]:
    """A job as design 6.1 has it, with its gate's name beside. `waits_for`: what keeps it, "" for nothing."""
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
        "waits_for": kept,
        "paused": options_of(row.options).paused,
    }
