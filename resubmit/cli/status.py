"""`status` and `audit`: where everything stands, and who asked for what."""

from __future__ import annotations

import argparse

from resubmit.cli.commands import Command
from resubmit.cli.filters import WHEN, when_of, whole
from resubmit.cli.output import Output, json_text, left_until, size, when
from resubmit.cli.reading import add_output, journal_of, now_ms, output_of
from resubmit.cli.replay import job_lines
from resubmit.cli.table import Column, clean
from resubmit.journal import read
from resubmit.journal.read import Overview
from resubmit.model.moment import Ms
from resubmit.view.overview import audit_object, job_object, status_object


def _add_status(parser: argparse.ArgumentParser) -> None:
    add_output(parser)


def _status(args: argparse.Namespace) -> int:
    out = output_of(args)
    now = now_ms()
    with journal_of(args) as (conn, folder):
        overview = read.overview(conn, now, folder)
    if out.as_json:
        out.one(status_object(overview))
    else:
        _show(overview, out, now)
    return 0


def _show(overview: Overview, out: Output, now: Ms) -> None:
    total = sum(overview.stuck.values())
    if total:
        causes = ", ".join(f"{n} {cause}" for cause, n in overview.stuck.items())
        out.line(f"Stuck: {total} recipient(s): {causes}")
        out.line(f"       the next one bounces in {left_until(overview.next_deadline, now)}")
    else:
        out.line("Stuck: nothing")
    trace = overview.live_trace
    out.line("Trace: " + (f"live until {when(trace[1])} ({clean(trace[0])})" if trace else "none is live"))
    out.line()
    rows: list[list[object]] = []
    for d in overview.destinations:
        verdict = d.verdict or "not looked yet"
        if d.findings:
            verdict += f": {', '.join(d.findings)}"
        days = "-" if d.days_left is None else f"{d.days_left}d"
        rows.append([f"destination {d.gate.name}", d.gate.state, verdict, days])
    rows += [
        [f"route {gate.name}", gate.state, ", ".join(gate.reasons) or "-", "-"] for gate in overview.routes
    ]
    if rows:
        out.table(
            (Column("WHERE", 12), Column("GATE", 7), Column("SEEN", 12), Column("CERT", 4, right=True)), rows
        )
    for d in overview.destinations:
        if d.gate.state != "open" and d.gate.reasons:
            out.text(f"gate {d.gate.name}: {'; '.join(d.gate.reasons)}", "  ")
    for incident in overview.incidents:
        place = incident.destination or f"route {incident.route}"
        out.line()
        out.line(
            f"Incident {incident.id}: {incident.state}, {incident.cause} at {clean(place)},"
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
    out.line(
        f"Journal: {journal.messages} messages, {journal.open} recipients open, {size(journal.octets)},"
        f" {size(journal.free)} free"
    )
    out.text(journal.path, "  ")


def _add_audit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--since", metavar="TIME", help=WHEN)
    parser.add_argument("--limit", metavar="N", type=whole, default=50, help="at most so many; 0 is all (50)")
    add_output(parser)


def _audit(args: argparse.Namespace) -> int:
    out = output_of(args)
    since = when_of(args.since, "--since", now_ms()) or 0
    with journal_of(args) as (conn, _):
        rows = read.audit(conn, since=since, limit=args.limit)
    if out.as_json:
        out.lines(json_text(audit_object(row)) for row in rows)
    elif rows:
        out.table(
            (Column("WHEN", 19), Column("WHO", 4), Column("DID", 6), Column("TO WHAT", 10), Column("WHY", 6)),
            [[when(row.at), row.who, row.action, row.what, row.reason] for row in rows],
        )
    else:
        out.note("nobody asked for anything")
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
