"""`status` and `audit`: where everything stands, and who asked for what."""

from __future__ import annotations

import argparse
import json

from resubmit.cli.ask import is_running
from resubmit.cli.commands import Command
from resubmit.cli.filters import WHEN, when_of, whole
from resubmit.cli.output import Output, age, json_text, left_until, size, when
from resubmit.cli.reading import add_output, journal_of, now_ms, output_of
from resubmit.cli.replay import job_lines
from resubmit.cli.table import Column, clean, counted
from resubmit.errors import NothingMatched
from resubmit.journal import read
from resubmit.journal.read import GateView, Overview
from resubmit.model.moment import Ms, rfc3339
from resubmit.view.overview import audit_object, filter_object, job_object, status_object


def _add_status(parser: argparse.ArgumentParser) -> None:
    add_output(parser)


def _status(args: argparse.Namespace) -> int:
    out = output_of(args)
    now = now_ms()
    with journal_of(args) as (conn, folder):
        overview = read.overview(conn, now, folder)
        runs = is_running(folder)
    if out.as_json:
        out.one(status_object(overview) | {"service": _SERVICE[runs]})
    else:
        _show(overview, out, now, runs)
        out.steps(_next(overview, runs))
    return 0


_SERVICE = {True: "running", False: "down", None: None}


def _show(overview: Overview, out: Output, now: Ms, runs: bool | None) -> None:
    total = sum(overview.stuck.values())
    if runs is False:
        out.text("The service does not run: mail is neither taken nor handed on.")
    if total:
        causes = ", ".join(
            f"{n} {cause if cause != 'none' else 'without a cause'}" for cause, n in overview.stuck.items()
        )
        out.line(f"Stuck: {counted(total, 'recipient')}: {causes}")
        left = left_until(overview.next_deadline, now)
        late = overview.next_deadline is not None and overview.next_deadline <= now
        out.line(f"       the next one {'was to bounce' if late else 'bounces in'} {left}")
    else:
        out.line("Stuck: nothing")
    trace = overview.live_trace
    out.line("Trace: " + (f"live until {when(trace[1])} ({clean(trace[0])})" if trace else "none is live"))
    if (minutes := overview.lateness.within(95)) is not None:
        out.text(f"95 % of {overview.lateness.total} rows were there within {minutes} minutes", "       ")
    out.line()
    rows: list[list[object]] = []
    for d in overview.destinations:
        verdict = d.verdict or "not looked yet"
        if d.findings and verdict == "healthy":  # naming them would read as what is wrong
            verdict += f", {counted(len(d.findings), 'warning')}"
        elif d.findings:
            verdict += f": {', '.join(d.findings)}"
        days = "-" if d.days_left is None else f"{d.days_left}d"
        rows.append([f"destination {d.gate.name}", d.gate.state, verdict, days])
    rows += [
        [f"route {gate.name}", gate.state, "-", _days(overview, f"route:{gate.name}")]
        for gate in overview.routes
    ]
    rows += [
        [target.replace(":", " "), "-", "-", _days(overview, target)]
        for target in overview.days_left
        if target.startswith("listener:")
    ]
    if rows:
        out.table(
            (Column("WHERE", 12), Column("GATE", 7), Column("SEEN", 12), Column("CERT", 4, right=True)), rows
        )
    for d in overview.destinations:
        _gate(d.gate, out, now)
    for gate in overview.routes:
        _gate(gate, out, now)
    for incident in overview.incidents:
        place = incident.destination or f"route {incident.route}"
        out.line()
        out.text(
            f"Incident {incident.id}: {incident.state}, {incident.cause} at {place},"
            f" since {when(incident.opened_at)}"
        )
        out.line(f"  stuck {incident.stuck}, recovered {incident.recovered}, failed {incident.failed}")
    for job in overview.jobs:
        out.line()
        out.lines(job_lines(job_object(job)))
    if overview.unreadable:
        out.line()
        out.line(f"Unreadable: {len(overview.unreadable)}")
        for item in overview.unreadable[:5]:
            out.text(f"{item.file} {item.place}: {item.reason}", "  ")
    out.line()
    journal = overview.journal
    out.text(
        f"Journal: {counted(journal.messages, 'message')}, {counted(journal.open, 'recipient')} open,"
        f" {size(journal.octets)}, {size(journal.free)} free"
    )
    out.text(journal.path, "  ")


def _days(overview: Overview, target: str) -> str:
    left = overview.days_left.get(target)
    return "-" if left is None else f"{left}d"


def _gate(gate: GateView, out: Output, now: Ms) -> None:
    """Why a gate is not open, and since when."""
    if gate.state == "open":
        return
    since = f" for {age(gate.since, now)}, since {when(gate.since)}" if gate.since is not None else ""
    out.text(
        f"gate {gate.name} is {gate.state}{since}: {'; '.join(gate.reasons) or 'no reason was kept'}", "  "
    )


def _next(overview: Overview, runs: bool | None) -> list[tuple[str, str]]:
    """What a person can do now, as commands to type."""
    steps: list[tuple[str, str]] = []
    if runs is False:
        steps.append(("resubmit serve", "start it, or ask its manager: systemctl status resubmit"))
    steps += [
        (f"resubmit probe {d.gate.name}", "what is wrong there, and how it is mended")
        for d in overview.destinations
        if d.gate.state == "closed" or (d.verdict == "faulty" and overview.stuck)
    ]
    steps += [
        (f"resubmit jobs resume {job.id}", "a person paused it: let it go on")
        for job in overview.jobs
        if job.paused
    ]
    if overview.stuck:
        steps.append(("resubmit list --stuck", "which mail, and until when"))
        if all(d.gate.state == "open" for d in overview.destinations) and not overview.jobs:
            steps.append(("resubmit replay --since 1d --dry-run", "what a replay would send again"))
    if overview.unreadable:
        steps.append(("resubmit explain FILE", "why a file can't be read"))
    return steps


def _meant(what: str) -> str:
    """What a request was about, for people: `ids 38GD8GGTC0000, to eve@example.net`."""
    try:
        plain = json.loads(what)
    except ValueError:
        return what
    if not isinstance(plain, dict):
        return what
    if "again_of" in plain:
        return f"{plain['recipient']} in {plain['message']}, by job {plain['job']}"
    asked = {**filter_object(plain.get("filter") or {}), **(plain.get("options") or {})}
    words = []
    for name, value in asked.items():
        if value is True:
            words.append(name)
        elif value not in (None, False, [], ""):
            words.append(f"{name} {' '.join(map(str, value)) if isinstance(value, list) else value}")
    return ", ".join(words)


def _add_audit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--since", metavar="TIME", help=WHEN)
    parser.add_argument("--fail-empty", action="store_true", help="exit 3 when there is nothing")
    parser.add_argument("--limit", metavar="N", type=whole, default=50, help="at most so many; 0 is all (50)")
    add_output(parser)


def _audit(args: argparse.Namespace) -> int:
    out = output_of(args)
    since = when_of(args.since, "--since", now_ms()) or 0
    if args.since is not None:
        out.note(f"since {rfc3339(since)}")
    with journal_of(args) as (conn, _):
        rows = read.audit(conn, since=since, limit=args.limit)
    if out.as_json:
        out.lines(json_text(audit_object(row)) for row in rows)
    elif rows:
        out.table(
            (Column("WHEN", 19), Column("WHO", 4), Column("DID", 6), Column("TO WHAT", 10), Column("WHY", 6)),
            [[when(row.at), row.who, row.action, _meant(row.what), row.reason] for row in rows],
        )
    else:
        out.note("nobody asked for anything")
    if not rows and args.fail_empty:
        raise NothingMatched("nobody asked for anything")
    return 0


COMMANDS = {
    "status": Command(
        _add_status,
        _status,
        "Where everything stands: what is stuck, gates and verdicts, incidents, jobs, the journal.",
        {"resubmit status": "", "resubmit status --json": "one object, for a script"},
    ),
    "audit": Command(
        _add_audit,
        _audit,
        "What people asked for, newest first.",
        {"resubmit audit --since yesterday": ""},
    ),
}
