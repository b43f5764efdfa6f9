"""`jobs`: replay jobs, and how to stop one for a while or for good."""

from __future__ import annotations

import argparse

from resubmit.cli.ask import ask
from resubmit.cli.commands import Command
from resubmit.cli.filters import whole
from resubmit.cli.output import Output, age, json_text, when
from resubmit.cli.reading import add_output, journal_of, now_ms, output_of
from resubmit.cli.replay import job_lines
from resubmit.cli.table import Column
from resubmit.errors import NothingMatched, ResubmitError, UsageError
from resubmit.journal import read
from resubmit.view.overview import job_object


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("do", metavar="WHAT", nargs="?", choices=("list", "show", *_CHANGES), default="list",
                        help="list, show, pause, resume or cancel (list)")  # fmt: skip
    parser.add_argument("id", metavar="ID", nargs="?", type=whole, help="a job's number")
    parser.add_argument("--limit", metavar="N", type=whole, default=50, help="at most so many; 0 is all (50)")
    parser.add_argument("--reason", metavar="TEXT", default="", help="why, for the audit")
    parser.add_argument("--fail-empty", action="store_true", help="exit 3 when there is none")
    add_output(parser, quiet="numbers only")


def _run(args: argparse.Namespace) -> int:
    out = output_of(args)
    if args.do != "list" and args.id is None:
        raise UsageError(f"jobs {args.do} needs a job's number", hint="`resubmit jobs` lists them")
    if args.do in _CHANGES:
        return _change(args, out)
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
                    "paused" if v.paused and v.ended_at is None else v.state,
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


def _change(args: argparse.Namespace, out: Output) -> int:
    """Pause, resume or cancel one. One that stands so already is no failure."""
    with journal_of(args) as (conn, _):
        view = read.job(conn, args.id)
    if view is None:
        raise ResubmitError(f"there is no job {args.id}", hint="`resubmit jobs` lists them")
    job = ask(args, f"jobs_{args.do}", options={"job": args.id})
    if out.as_json:
        out.one(job)
    elif out.quiet:
        out.line(str(args.id))
    else:
        out.lines(job_lines(job))
        if args.do == "cancel" and view.state != "cancelled" and view.accepted:
            out.line(f"  what had gone has gone: {view.accepted} were accepted")
    return 0


_CHANGES = ("pause", "resume", "cancel")

COMMANDS = {
    "jobs": Command(
        _add,
        _run,
        "Replay jobs: list them, show one, pause it and let it go on (behind its canary again), or cancel\n"
        "it. What has gone has gone.",
        {
            "resubmit jobs": "all, newest first",
            "resubmit jobs show 7": "",
            "resubmit jobs pause 7 --reason 'wait for the change window'": "",
            "resubmit jobs cancel 7 --reason 'wrong fix'": "",
        },
    ),
}
