"""`incidents`: faults, whom they caught, and what became of them."""

from __future__ import annotations

import argparse
import csv
import sys

from resubmit.cli.commands import Command
from resubmit.cli.filters import whole
from resubmit.cli.output import Output, json_text, when
from resubmit.cli.reading import add_output, journal_of, now_ms, output_of
from resubmit.cli.table import Column, clean, cut
from resubmit.errors import NothingMatched, ResubmitError, UsageError
from resubmit.journal import read
from resubmit.journal.read import FalseNdr, IncidentView
from resubmit.model.filter import Filter
from resubmit.model.ids import id_text
from resubmit.model.moment import rfc3339, span_text
from resubmit.view.mail import replay_sample
from resubmit.view.overview import incident_object, report_object
from resubmit.view.page import COUNTS, incident_page


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("do", metavar="WHAT", nargs="?", choices=("list", "show", "report"), default="list",
                        help="list, show or report (list)")  # fmt: skip
    parser.add_argument(
        "id", metavar="ID", nargs="?", type=whole, help="its number; the newest when left out"
    )
    parser.add_argument("--format", choices=("text", "csv", "html"), help="of the report (text)")
    parser.add_argument("--open", action="store_true", help="only those not closed")
    parser.add_argument("--limit", metavar="N", type=whole, default=50, help="at most so many; 0 is all (50)")
    parser.add_argument("--fail-empty", action="store_true", help="exit 3 when there is none")
    add_output(parser, quiet="numbers only")


def _run(args: argparse.Namespace) -> int:
    out = output_of(args)
    if args.format is not None and (args.do != "report" or args.json):
        why = "--json is a format of its own" if args.json else "write `incidents report`"
        raise UsageError("--format is for the report", hint=why)
    if args.do != "list" or args.id is not None:
        return _one(args, out)
    with journal_of(args) as (conn, _):
        found = read.incidents(conn, open_only=args.open, limit=args.limit)
    if out.as_json:
        out.lines(json_text(incident_object(i)) for i in found)
    elif out.quiet:
        out.lines(str(i.id) for i in found)
    elif found:
        out.table(
            (
                Column("NO", 2, right=True),
                Column("STATE", 6),
                Column("WHERE", 6),
                Column("CAUSE", 5),
                Column("OPENED", 16),
                Column("STUCK", 5, right=True),
                Column("RECOVERED", 9, right=True),
                Column("FAILED", 6, right=True),
            ),
            [
                [
                    i.id,
                    i.state,
                    i.destination or f"route {i.route}",
                    i.cause,
                    when(i.opened_at),
                    i.stuck,
                    i.recovered,
                    i.failed,
                ]
                for i in found
            ],
        )
    else:
        out.note("no incidents")
    if not found and args.fail_empty:
        raise NothingMatched("no incidents")
    return 0


def _one(args: argparse.Namespace, out: Output) -> int:
    with journal_of(args) as (conn, _):
        number = args.id
        if number is None:
            newest = read.incidents(conn, limit=1)
            number = newest[0].id if newest else None
        incident = read.incident(conn, number) if number is not None else None
        if incident is None:
            what = "there is no incident" + (f" {number}" if number is not None else " yet")
            raise ResubmitError(what, hint="`resubmit incidents` lists them")
        false_ndrs = read.false_ndrs(conn, incident.id)
        if args.format == "csv" and args.do == "report":
            flt = Filter(incident=(incident.id,))
            writer = csv.writer(sys.stdout)
            writer.writerow(("id", "address", "state", "cause", "since", "attempts", "last_reply"))
            for r in read.recipients(conn, flt, now_ms()):
                row = (id_text(r.message), r.address, r.state, r.cause or "", rfc3339(r.since), r.attempts)
                writer.writerow([_cell(value) for value in (*row, r.last_reply)])
            return 0
        if args.format == "html":
            found = read.recipients(conn, Filter(incident=(incident.id,)), now_ms())
            rows = (replay_sample(r) for r in found)
            out.lines(incident_page(report_object(incident, false_ndrs), rows, rfc3339(now_ms())))
            return 0
    if out.as_json:
        out.one(report_object(incident, false_ndrs) if args.do == "report" else incident_object(incident))
    elif out.quiet:
        out.line(str(incident.id))
    else:
        _show(incident, report_object(incident, false_ndrs)["why"], false_ndrs, out)
    return 0


def _cell(value: object) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = clean(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


_WHY = {"shut": "its gate shut", "let_through": "mail was let through again", "closed": "it closed"}


def _show(incident: IncidentView, why: dict[str, list[str]], false_ndrs: list[FalseNdr], out: Output) -> None:
    out.line(f"Incident {incident.id}: {incident.state}")
    at = [f"destination {clean(incident.destination)}"] if incident.destination else []
    at += [f"route {clean(incident.route)}"] if incident.route else []
    out.line(f"  {incident.cause} at {', '.join(at)}")
    until = when(incident.fault_to) if incident.fault_to is not None else "now"
    out.line(f"  fault seen   {when(incident.fault_from)} to {until}")
    out.line(f"  opened       {when(incident.opened_at)}")
    if incident.fixed_at is not None:
        out.line(f"  mended       {when(incident.fixed_at)}")
    if incident.closed_at is not None:
        lasted = span_text(incident.closed_at - incident.opened_at)
        out.line(f"  closed       {when(incident.closed_at)}, after {lasted}")
    for what, reasons in why.items():
        if reasons:
            out.text(f"{_WHY[what]}: {'; '.join(reasons)}", "  ")
    out.line()
    for name in ("stuck", "recovered", "failed", "unproven", "unknown", "duplicates"):
        line = f"  {name:<11}{getattr(incident, name):>8}  {COUNTS[name]}"
        out.line(cut(line, out.columns))
    if false_ndrs:
        out.line()
        out.text(
            "Senders who will get a bounce for mail that went again, from a copy the far side still tries:"
        )
        out.table(
            (Column("SENDER", 12, cut="middle"), Column("RECIPIENTS", 10, right=True), Column("UNTIL", 16)),
            [[f.sender, f.recipients, when(f.at)] for f in false_ndrs],
        )
    out.steps(_next(incident))


def _next(incident: IncidentView) -> list[tuple[str, str]]:
    """What a person can do now, as commands to type."""
    steps: list[tuple[str, str]] = []
    if incident.state != "closed" and incident.fixed_at is None and incident.destination:
        steps.append((f"resubmit probe {incident.destination}", "what is wrong, and how it is mended"))
    if incident.unknown:
        steps.append((f"resubmit list --incident {incident.id}", "whom it holds"))
    if incident.unproven:
        steps.append(
            (f"resubmit list --incident {incident.id} --state accepted", "of whom nothing was heard")
        )
    if incident.failed:
        steps.append((f"resubmit list --incident {incident.id} --state failed", "who was given up"))
    return steps


COMMANDS = {
    "incidents": Command(
        _add,
        _run,
        "Faults, whom they caught, and what became of them, counted in recipients.",
        {
            "resubmit incidents": "all, newest first",
            "resubmit incidents report": "the newest one's",
            "resubmit incidents report 3 --json": "",
            "resubmit incidents report 3 --format csv": "a line a recipient",
            "resubmit incidents report 3 --format html > report.html": "a page to pass on",
        },
    ),
}
