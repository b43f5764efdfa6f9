"""Facts for the rules, a builder a fact; times are seconds after T, so that a case reads like a story."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from resubmit.journal.verbs import Coverage, Fault, GateRow, IncidentRow, JobItem, JobRow, LookRow, Standing
from resubmit.model.evidence import Cause, Holder, Mend, Scope
from resubmit.model.moment import DAY, SECOND, Ms, parse_rfc3339
from resubmit.model.recipient import RecipientKey, State
from resubmit.recovery.memory import Memory
from resubmit.recovery.policy import Policy

T: Ms = parse_rfc3339("2026-11-24T12:00:00Z")
POLICY = Policy(name="hybrid", handoff="eop", route="eop", endpoint="mail.contoso.com:25", settle=0)


def at(seconds: float) -> Ms:
    return T + round(seconds * SECOND)


def look(seconds: float, health: str = "healthy", fingerprint: str = "new", *codes: str) -> LookRow:
    return LookRow("destination:hybrid", at(seconds), health, codes, fingerprint, "{}")


def fault(seconds: float, status: str = "deferred", *, taken: float | None = None, **values: Any) -> Fault:
    """Evidence dated `seconds`, of an attempt taken at `taken`."""
    plain = Fault(
        evidence=1,
        at=at(seconds),
        read_at=at(values.pop("read", seconds)),
        status=status,
        cause=Cause.TLS,
        scope=Scope.DESTINATION,
        text="450 4.4.317 certificate expired",
        attempt_accepted_at=None if taken is None else at(taken),
    )
    return replace(plain, **values)


def delivery(seconds: float, **values: Any) -> Fault:
    return fault(seconds, "delivered", **{"cause": None, "scope": None, "text": "", **values})


def gate(state: str = "open", memory: Memory | None = None, since: float = 0, **values: Any) -> GateRow:
    data = (memory or Memory()).to_text()
    plain = GateRow("destination:hybrid", state, 3, at(since), ("as told",), None, data)
    return replace(plain, **values)


def standing(n: int = 1, state: State = State.DEFERRED, **values: Any) -> Standing:
    """A recipient taken at T − 60 s and deferred by TLS since."""
    plain = Standing(
        key=RecipientKey(n, 0),
        destination="hybrid",
        route="eop",
        address=f"r{n}@contoso.com",
        state=state,
        since=at(-30),
        cause=Cause.TLS if state is State.DEFERRED else None,
        scope=Scope.DESTINATION if state is State.DEFERRED else None,
        mend=Mend.GATE if state is State.DEFERRED else None,
        holder=Holder.FAR,
        deadline=at(-60) + DAY + n,
        attempt=1,
        accepted_attempts=1,
        accepted_at=at(-60),
        dot_at=at(-60),
        body_kept=True,
        job=None,
        incidents=frozenset({1}),
    )
    return replace(plain, **values)


def incident(**values: Any) -> IncidentRow:
    plain = IncidentRow(
        id=1,
        destination="hybrid",
        route="",
        cause="tls",
        opened_at=at(0),
        closed_at=None,
        state="open",
        fault_from=at(-60),
        fault_to=None,
    )
    return replace(plain, **values)


def job(number: int = 1, options: dict[str, Any] | None = None, **values: Any) -> JobRow:
    plain = JobRow(
        id=number,
        state="waiting",
        asked_at=at(0),
        asked_by="recovery",
        reason="",
        filter="{}",
        options=json.dumps(options or {}),
        destination="hybrid",
        incident=1,
        gate="destination:hybrid",
        stage="{}",
        recipients=0,
        accepted=0,
        delivered=0,
        refused=0,
        skipped=0,
    )
    return replace(plain, **values)


def item(n: int = 1, state: str = "released", **values: Any) -> JobItem:
    plain = JobItem(
        job=1,
        key=RecipientKey(n, 0),
        state=state,
        no=2,
        released_at=at(0),
        recipient_state=State.ACCEPTED,
        cause=None,
        scope=None,
        deadline=None,
        since=at(0),
        due_at=None,
    )
    return replace(plain, **values)


def coverage(since: float, until: float, read: float | None = None, source: str = "trace_csv") -> Coverage:
    return Coverage(source, at(since), at(until), at(until if read is None else read))
