"""Where a job's canary and steps stand: the pace rules' own memory, kept as JSON with the job.

Promises: a restart finds the canary in flight, so that no second one goes. Times are ms UTC.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from resubmit.model.moment import Ms
from resubmit.model.recipient import RecipientKey

DRAIN = 3
"""The step behind the last one: canary 0, five times as many 1, and again 2, then the drain."""


@dataclass(frozen=True, slots=True)
class Out:
    """A recipient that was made due for a step; `no`: the number its attempt will have."""

    key: RecipientKey
    no: int


@dataclass(frozen=True, slots=True)
class Stage:
    """A job's stage.

    step: see DRAIN. out: the recipients of the step that is under way. released_at: when they were made due.
    proofs: deliveries counted so far; proof_at: when the newest was read. unproven: a step was passed
    without any, for want of a trace. passed_at: when the last step was passed. next_at: when the limiter
    lets the next message go. force_spent: a canary that was forced through a shut gate has failed.
    """

    step: int = 0
    out: tuple[Out, ...] = ()
    released_at: Ms | None = None
    proofs: int = 0
    proof_at: Ms | None = None
    unproven: bool = False
    passed_at: Ms | None = None
    next_at: Ms = 0
    force_spent: bool = False

    @property
    def drains(self) -> bool:
        return self.step >= DRAIN

    def leads_until(self, trace_lag: Ms) -> Ms:
        """Until when what it reached may be relied on by another job of the same destination."""
        return max(self.proof_at or 0, self.passed_at or 0) + 2 * trace_lag if self.drains else 0

    def to_text(self) -> str:
        """As the job's `stage`."""
        plain = asdict(self) | {"out": [[out.key.message, out.key.n, out.no] for out in self.out]}
        return json.dumps(plain, sort_keys=True)


def stage_of(text: str) -> Stage:
    """The stage in a job's `stage`; the first one where there is none."""
    known = {f.name for f in fields(Stage)}
    plain = {name: value for name, value in json.loads(text or "{}").items() if name in known}
    plain["out"] = tuple(Out(RecipientKey(message, n), no) for message, n, no in plain.get("out", ()))
    return Stage(**plain)
