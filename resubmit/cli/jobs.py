"""`jobs`: replay jobs, and how to stop one."""

from __future__ import annotations

import argparse

from resubmit.cli.ask import ask
from resubmit.cli.commands import Command
from resubmit.cli.filters import whole
from resubmit.cli.output import age, json_text, when
from resubmit.cli.reading import add_output, journal_of, now_ms, output_of
from resubmit.cli.replay import job_lines
from resubmit.cli.table import Column
from resubmit.errors import NothingMatched, ResubmitError, UsageError
from resubmit.journal import read
from resubmit.view.overview import job_object


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("do", nargs="?", choices=("list", "show", "cancel"), default="list")
    parser.add_argument("id", metavar="ID", nargs="?", type=whole, help="a job's number")
    parser.add_argument("--limit", metavar="N", type=whole, default=50, help="at most so many; 0 is all (50)")
    parser.add_argument("--reason", metavar="TEXT", default="", help="why, for the audit")
    parser.add_argument("--fail-empty", action="store_true", help="exit 3 when there is none")
    add_output(parser, quiet="numbers only")


def _run(args: argparse.Namespace) -> int:
    out = output_of(args)
    if args.do != "list" and args.id is None:
        raise UsageError(f"jobs {args.do} needs a job's number", hint="`resubmit jobs` lists them")
    if args.do == "cancel":
        job = ask(args, "jobs_cancel", options={"job": args.id})
        if out.as_json:
            out.one(job)
        else:
            out.lines(job_lines(job))
        return 0
    with journal_of(args) as (conn, _):
        if args.do == "show" or args.id is not None:
            view = read.job(conn, args.id)
            if view is None:
                raise ResubmitError(f"there is no job {args.id}", hint="`resubmit jobs` lists them")
            plain = job_object(view)
            if out.as_json:
                out.one(plain)
            else:
                out.lines(job_lines(plain))
                out.line(f"  asked {when(view.asked_at)} by {view.asked_by}")
                if view.reason:
                    out.text(f"because: {view.reason}", "  ")
                out.text(f"filter: {json_text(plain['filter'])}", "  ")
                if view.ended_at is not None:
                    out.line(f"  ended {when(view.ended_at)}")
            return 0
        views = read.jobs(conn, limit=args.limit)
    now = now_ms()
    if out.as_json:
        out.lines(json_text(job_object(view)) for view in views)
    elif out.quiet:
        out.lines(str(view.id) for view in views)
    elif views:
        out.table(
            (
                Column("JOB", 3, right=True),
                Column("STATE", 7),
                Column("ASKED", 5, right=True),
                Column("BY", 4),
                Column("DESTINATION", 6),
                Column("RECIPIENTS", 10, right=True),
                Column("ACCEPTED", 8, right=True),
                Column("REFUSED", 7, right=True),
            ),
            [
                [
                    v.id,
                    v.state,
                    age(v.asked_at, now),
                    v.asked_by,
                    v.destination,
                    v.recipients,
                    v.accepted,
                    v.refused,
                ]
                for v in views
            ],
        )
    else:
        out.note("no jobs")
    if not views and args.fail_empty:
        raise NothingMatched("no jobs")
    return 0


COMMANDS = {
    "jobs": Command(
        _add,
        _run,
        "Replay jobs: list them, show one, cancel one (what has gone has gone).",
        {
            "resubmit jobs": "all, newest first",
            "resubmit jobs show 7": "",
            "resubmit jobs cancel 7 --reason 'wrong fix'": "",
        },
    ),
}
