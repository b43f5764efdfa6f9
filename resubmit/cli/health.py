"""`health`: a check for a monitoring system: one line, its figures, and an exit code of its own.

Exit 0 ok, 1 warning, 2 critical, 3 unknown, as the plug-ins of Nagios and its kin have it; so what stops
other commands (no config, no journal) is 3 here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from resubmit.cli.ask import is_running
from resubmit.cli.commands import Command
from resubmit.cli.filters import span_of
from resubmit.cli.output import Output, left_until
from resubmit.cli.reading import add_output, folder_of, now_ms, output_of
from resubmit.cli.table import clean
from resubmit.errors import JournalError, ResubmitError
from resubmit.journal import read
from resubmit.view.health import OK, UNKNOWN, Limits, Ruling, judge, rulings_object

_WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bounces-in", metavar="SPAN", default="2h", help="critical: something bounces so soon (2h)"
    )
    parser.add_argument("--certificate", metavar="SPAN", default="14d", help="warning: it ends so soon (14d)")
    parser.add_argument(
        "--stuck-for", metavar="SPAN", default="0s", help="warning: stuck for so long (at once)"
    )
    add_output(parser)


def _run(args: argparse.Namespace) -> int:
    out = output_of(args)
    try:
        limits = Limits(
            bounces_in=span_of(args.bounces_in, "--bounces-in"),
            certificate=span_of(args.certificate, "--certificate"),
            stuck_for=span_of(args.stuck_for, "--stuck-for"),
        )
        code = _judge(folder_of(args), limits, out)
    except (ResubmitError, OSError) as error:
        said = error.message if isinstance(error, ResubmitError) else str(error)
        if not out.as_json:
            out.line(f"{_WORDS[UNKNOWN]}: {clean(said)}")
        else:
            out.one(rulings_object([Ruling(UNKNOWN, said)], None))
        return UNKNOWN
    return code


def _judge(folder: Path, limits: Limits, out: Output) -> int:
    now = now_ms()
    runs = is_running(folder)
    try:
        conn = read.connect(folder)
    except JournalError as error:
        if runs is not False:
            raise
        raise ResubmitError(f"the service does not run, and {error.message}") from None
    try:
        overview = read.overview(conn, now, folder)
        oldest = read.metrics(conn, now).oldest_stuck
    finally:
        conn.close()
    rulings = judge(overview, limits, runs=runs, oldest=oldest, now=now)
    worst = max((r.level for r in rulings), default=OK)
    if out.as_json:
        out.one(rulings_object(rulings, overview))
        return worst
    said = "; ".join(r.text for r in rulings) or "nothing is stuck, every gate is open"
    figures = {
        "stuck": sum(overview.stuck.values()),
        "incidents": len(overview.incidents),
        "closed": sum(
            g.state != "open" for g in (*(d.gate for d in overview.destinations), *overview.routes)
        ),
        "free": f"{overview.journal.free}B",
    }
    told = " ".join(f"{name}={value}" for name, value in figures.items())
    out.line(f"{_WORDS[worst]}: {clean(said)} | {told}")
    if overview.next_deadline is not None:
        out.line(f"the next one bounces in {left_until(overview.next_deadline, now)}")
    return worst


COMMANDS = {
    "health": Command(
        _add,
        _run,
        "A check for a monitoring system: one line, and exit 0 ok, 1 warning, 2 critical, 3 unknown.\n"
        "Critical: the service is down, the disk is full, or something that is stuck bounces soon.\n"
        "Warning: something is stuck, a gate is not open, a certificate ends soon, a file can't be read.",
        {
            "resubmit health": "",
            "resubmit health --bounces-in 4h --stuck-for 30m": "",
            "resubmit health --json": "one object",
        },
    ),
}
