"""`status`, `incidents`, `jobs` and `audit` as objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from resubmit.journal.read import AuditView, FalseNdr, GateView, IncidentView, JobView, Overview
from resubmit.model.lateness import Lateness
from resubmit.model.moment import rfc3339

Plain = dict[str, Any]


def status_object(overview: Overview) -> Plain:
    """The object of `status --json`. `incidents` and `jobs` are those not yet closed or done; `lateness`: how
    late the trace that the service asks tells."""
    trace = overview.live_trace
    return {
        "routes": [
            _gate(gate) | {"days_left": overview.days_left.get(f"route:{gate.name}")}
            for gate in overview.routes
        ],
        "destinations": [
            _gate(d.gate)
            | {
                "verdict": d.verdict,
                "findings": list(d.findings),
                "since": rfc3339(d.gate.since),
                "days_left": d.days_left,
            }
            for d in overview.destinations
        ],
        "stuck": dict(overview.stuck),
        "next_deadline": rfc3339(overview.next_deadline),
        "live_trace": {"source": trace[0], "until": rfc3339(trace[1])} if trace else None,
        "incidents": [incident_object(incident) for incident in overview.incidents],
        "jobs": [job_object(job) for job in overview.jobs],
        "unreadable": [
            {"file": u.file, "reason": u.reason, "at": rfc3339(u.at), "place": u.place}
            for u in overview.unreadable
        ],
        "journal": {
            "path": overview.journal.path,
            "messages": overview.journal.messages,
            "open": overview.journal.open,
            "octets": overview.journal.octets,
            "free": overview.journal.free,
            "schema": overview.journal.schema,
        },
        "listeners": [
            {"name": target.partition(":")[2], "days_left": left}
            for target, left in overview.days_left.items()
            if target.startswith("listener:")
        ],
        "lateness": _lateness(overview.lateness),
    }


def _lateness(late: Lateness) -> Plain | None:
    """Within how many minutes half, and 95 %, of the rows about our mail were there; None: not known."""
    if not late.total:
        return None
    return {"rows": late.total, "minutes_50": late.within(50), "minutes_95": late.within(95)}


def _gate(gate: GateView) -> Plain:
    return {"name": gate.name, "gate": gate.state, "reasons": list(gate.reasons)}


def incident_object(incident: IncidentView) -> Plain:
    """An object of `incidents --json`."""
    return {
        "id": incident.id,
        "destination": incident.destination,
        "route": incident.route,
        "cause": incident.cause,
        "opened_at": rfc3339(incident.opened_at),
        "closed_at": rfc3339(incident.closed_at),
        "state": incident.state,
    }


def report_object(incident: IncidentView, false_ndrs: Sequence[FalseNdr]) -> Plain:
    """The object of `incidents report --json`: the incident with its counts, in recipients.

    `false_ndrs`: the senders due a bounce from a copy the far side still tries, and when. `why`: why the gate
    shut, why it let mail through again, and why the incident closed, each a list of reasons.
    """
    told = incident.report
    return {
        **incident_object(incident),
        "fault_from": rfc3339(incident.fault_from),
        "fault_to": rfc3339(incident.fault_to),
        "fixed_at": rfc3339(incident.fixed_at),
        "stuck": incident.stuck,
        "recovered": incident.recovered,
        "failed": incident.failed,
        "unproven": incident.unproven,
        "unknown": incident.unknown,
        "duplicates": incident.duplicates,
        "why": {
            "shut": _words(told.get("shut_because")),
            "let_through": _words(told.get("let_through_because")),
            "closed": [*_words(told.get("closed_because")), *_words(told.get("explained"))],
        },
        "false_ndrs": [
            {"sender": f.sender, "recipients": f.recipients, "at": rfc3339(f.at)} for f in false_ndrs
        ],
    }


def _words(told: object) -> list[str]:
    found = told if isinstance(told, list) else [told]
    return [str(one) for one in found if one]


def job_object(job: JobView) -> Plain:
    """An object of `jobs --json`. `gate` is how the job's gate stands; counts are recipients."""
    return {
        "id": job.id,
        "state": job.state,
        "asked_at": rfc3339(job.asked_at),
        "asked_by": job.asked_by,
        "reason": job.reason,
        "filter": filter_object(job.filter),
        "gate": job.gate_state,
        "gate_name": job.gate,
        "recipients": job.recipients,
        "accepted": job.accepted,
        "delivered": job.delivered,
        "refused": job.refused,
        "skipped": job.skipped,
        "paused": job.paused,
    }


def filter_object(plain: Mapping[str, object]) -> Plain:
    """A stored filter as it was asked for: times as RFC 3339, ids as they are shown."""
    from resubmit.model.ids import id_text

    shown = dict(plain)
    for name in ("since", "until"):
        if isinstance(value := shown.get(name), int):
            shown[name] = rfc3339(value)
    if isinstance(ids := shown.get("ids"), list):
        shown["ids"] = [id_text(number) for number in ids]
    return shown


def audit_object(audit: AuditView) -> Plain:
    """An object of `audit --json`."""
    return {
        "at": rfc3339(audit.at),
        "who": audit.who,
        "action": audit.action,
        "what": audit.what,
        "reason": audit.reason,
    }
