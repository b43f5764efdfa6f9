"""`replay`: a job that resubmits what is pending, deferred, expired or in doubt."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from typing import Any

from resubmit.cli.ask import ask, user
from resubmit.cli.commands import Command
from resubmit.cli.filters import add_filters, add_ids, filter_of, ids_of, whole
from resubmit.cli.output import Output, left_until
from resubmit.cli.reading import add_output, journal_of, known_route, missing, now_ms, output_of
from resubmit.cli.table import Column
from resubmit.errors import NothingMatched, RefusedBySafety, ResubmitError, UsageError
from resubmit.journal import read
from resubmit.journal.read import RecipientView, Replayable
from resubmit.model.filter import Filter
from resubmit.model.ids import id_text
from resubmit.model.moment import rfc3339
from resubmit.view.mail import replay_sample
from resubmit.view.overview import filter_object

_SAMPLE = 10
_BAR = 30
_MOST_CANARIES = 1000
_MOST_RATE = 100_000.0
"""Messages a second; more is a slip of the finger."""
_FINAL = ("done", "cancelled", "failed")


def _add(parser: argparse.ArgumentParser) -> None:
    add_ids(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what it would take; change nothing")
    parser.add_argument("--canary", metavar="N", type=whole, help="how many go first")
    parser.add_argument("--rate", metavar="RATE", help="300/m, 5/s, 1000/h or unlimited")
    parser.add_argument("--route", metavar="NAME", help="over this route instead")
    parser.add_argument(
        "--include-accepted", action="store_true", help="also what was taken and not heard of"
    )
    parser.add_argument(
        "--include-delivered",
        action="store_true",
        help="a second copy of what was delivered: its mailbox server was lost",
    )
    parser.add_argument("--force", action="store_true", help="through a closed gate; not past the canary")
    parser.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="until every attempt has its reply",
    )
    parser.add_argument("--reason", metavar="TEXT", default="", help="why, for the audit")
    parser.add_argument("--yes", action="store_true", help="don't ask on a terminal")
    parser.add_argument("--fail-empty", action="store_true", help="exit 3 when nothing matches")
    add_output(parser, quiet="the job's id only")
    add_filters(parser)


def _run(args: argparse.Namespace) -> int:
    out = output_of(args)
    options = _options(args)
    if args.route is not None:
        known_route(args, args.route)
    now = now_ms()
    ids = ids_of(args.ids)
    flt = filter_of(args, now, out, ids)
    # `-` with nothing on stdin names no message: without this the other filters alone would choose.
    nobody = bool(args.ids) and not ids
    if flt.is_empty() and not nobody:
        raise UsageError(
            "replay needs a filter or message ids: without one it would take everything",
            hint="say --since 6h, --destination NAME or the ids; --dry-run shows what it would take",
        )
    with journal_of(args) as (conn, _):
        lost = missing(conn, ids, out)
        plan = Replayable((), (), {}) if nobody else read.replayable(conn, flt, options, now)
        sample = read.recipients_of(conn, plan.keys[:_SAMPLE], now)
        gate = _gate(read.gates(conn), read.destination_routes(conn), plan, args.route)
    planned = _planned(args, flt, plan, sample, gate, now)
    if not plan.keys or args.dry_run:
        _show_plan(planned, plan, sample, out, now)
        if not plan.keys and args.fail_empty:
            raise NothingMatched("nothing to replay")
        return 1 if lost and lost == len(ids) else 0
    if not args.yes and sys.stdin.isatty() and sys.stderr.isatty():
        _confirm(plan, sample, out, now)
    else:
        out.note(f"resubmitting {_recipients(len(plan.keys))} to {', '.join(plan.destinations)}")
    bar = Bar(len(plan.keys)) if args.wait and not args.json else None

    try:
        job = ask(args, "replay", flt, options, bar.show if bar else None)
    except ResubmitError as error:
        if error.exit_code != NothingMatched.exit_code or args.fail_empty:
            raise
        out.note(f"{error.message}: all have moved on meanwhile")
        return 0
    if bar:
        bar.end()
    job["filter"] = filter_object(job.get("filter") or {})
    if out.as_json:
        out.one(job)
    elif out.quiet:
        out.lines(str(one) for one in job.get("ids") or [job.get("id", "")])
    else:
        out.lines(job_lines(job))
    kept = job.get("waits_for") or ""
    if args.wait and job.get("state") not in _FINAL and (kept or job.get("state") == "waiting"):
        raise RefusedBySafety(
            f"job {job.get('id')} waits: {kept or f'{gate[0]} was {gate[1]}'}",
            hint="it goes by itself once the gate opens; --force sends it through, behind its canary",
        )
    code = _exit_code(job) if args.wait or job.get("state") in _FINAL else 0
    return code or (5 if lost else 0)


def _options(args: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {"wait": args.wait}
    if args.canary is not None:
        if not 1 <= args.canary <= _MOST_CANARIES:
            raise UsageError(f"--canary {args.canary}: a number from 1 to {_MOST_CANARIES}")
        options["canary"] = args.canary
    if args.rate is not None:
        options["rate"] = per_second(args.rate)
    if args.route is not None:
        options["route"] = args.route
    for name in ("include_accepted", "include_delivered", "force"):
        if getattr(args, name):
            options[name] = True
    return options


def per_second(text: str) -> float:
    """A rate as messages a second, 0 for unlimited. UsageError says what is allowed."""
    if text.strip().lower() == "unlimited":
        return 0.0
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*/\s*([smh])\s*", text.lower())
    if not found or float(found[1]) <= 0:
        raise UsageError(f"--rate {text}: a rate is a text like 300/m, 5/s or 1000/h, or unlimited")
    rate = float(found[1]) / {"s": 1, "m": 60, "h": 3600}[found[2]]
    if rate > _MOST_RATE:
        raise UsageError(f"--rate {text}: at most {_MOST_RATE:.0f}/s", hint="or unlimited")
    return rate


def _gate(
    gates: dict[str, str], routes: dict[str, str], plan: Replayable, route: str | None
) -> tuple[str, str]:
    """The first gate that is not open on the plan's way, else its destination's, and its state."""
    names = [f"destination:{name}" for name in plan.destinations]
    names += [f"route:{route or routes.get(name, '')}" for name in plan.destinations]
    shut = [name for name in names if gates.get(name, "open") != "open"]
    name = (shut or names or [""])[0]
    return name, gates.get(name, "open")


def _planned(
    args: argparse.Namespace,
    flt: Filter,
    plan: Replayable,
    sample: list[RecipientView],
    gate: tuple[str, str],
    now: int,
) -> dict[str, Any]:
    """The job's object without an id: what `--dry-run` prints."""
    waits = gate[1] != "open" and not args.force
    return {
        "state": "waiting" if plan.keys and waits else "running" if plan.keys else "done",
        "asked_at": rfc3339(now),
        "asked_by": user(),
        "reason": args.reason,
        "filter": filter_object(flt.to_plain()),
        "gate": gate[1],
        "gate_name": gate[0],
        "recipients": len(plan.keys),
        "accepted": 0,
        "delivered": 0,
        "refused": 0,
        "skipped": 0,
        "sample": [replay_sample(r) for r in sample],
        "left": plan.left,
    }


def _show_plan(
    planned: dict[str, Any], plan: Replayable, sample: list[RecipientView], out: Output, now: int
) -> None:
    if out.as_json:
        out.one(planned)
        return
    if out.quiet:
        return
    if not plan.keys:
        out.line("nothing to replay")
    else:
        out.line(f"would resubmit {_recipients(len(plan.keys))} to {', '.join(plan.destinations)}")
        _show_sample(plan, sample, out, now)
        if planned["state"] == "waiting":
            out.line(f"the job would wait: gate {planned['gate_name']} is {planned['gate']}")
    for why, count in plan.left.items():
        out.text(f"left out: {_recipients(count)}: {why}")


def _show_sample(plan: Replayable, sample: list[RecipientView], out: Output, now: int) -> None:
    out.table(
        (Column("ID", 13), Column("TO", 12, cut="middle"), Column("STATE", 8), Column("CAUSE", 5),
         Column("BOUNCES IN", 10, right=True)),
        [
            [id_text(r.message), r.address, r.state, r.cause or "-", left_until(r.deadline, now)]
            for r in sample
        ],
    )  # fmt: skip
    if len(plan.keys) > len(sample):
        out.line(f"… and {len(plan.keys) - len(sample)} more")


def _confirm(plan: Replayable, sample: list[RecipientView], out: Output, now: int) -> None:
    _show_sample(plan, sample, out, now)
    print(f"resubmit {_recipients(len(plan.keys))}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise RefusedBySafety("not confirmed; nothing was changed")


def _exit_code(job: dict[str, Any]) -> int:
    """0 when all went, 5 when some did, 1 when none did."""
    wanted, accepted, skipped = (int(job.get(k) or 0) for k in ("recipients", "accepted", "skipped"))
    if accepted + skipped >= wanted and job.get("state") != "failed":
        return 0
    return 5 if accepted else 1


def job_lines(job: dict[str, Any]) -> list[str]:
    """A job in a few lines, for people."""
    state = f"{job.get('state')}{', paused' if job.get('paused') and job.get('state') not in _FINAL else ''}"
    lines = [f"{_name(job)}: {state}, {_recipients(int(job.get('recipients') or 0))}"]
    if kept := job.get("waits_for"):
        lines += textwrap.wrap(f"waits: {kept}", 78, initial_indent="  ", subsequent_indent="    ")
    elif job.get("paused") and job.get("state") not in _FINAL:
        lines.append(f"  a person stopped it; `resubmit jobs resume {job.get('id')}` lets it go on")
    elif job.get("state") == "waiting" and job.get("gate") != "open":
        gate = f"its gate ({job.get('gate_name')}) is {job.get('gate')}"
        lines.append(f"  {gate}; `resubmit jobs show {job.get('id')}` tells more")
    counts = [f"{job.get(k)} {k}" for k in ("accepted", "delivered", "refused", "skipped") if job.get(k)]
    return [*lines, *([f"  {', '.join(counts)}"] if counts else [])]


def _name(job: dict[str, Any]) -> str:
    """`job 7`, or `jobs 7, 8` of a replay to several destinations."""
    ids = job.get("ids") or [job.get("id")]
    return f"job{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"


class Bar:
    """A progress bar on stderr, on a terminal only."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._drawn = False

    def show(self, job: dict[str, Any]) -> None:
        """Draw how far the job is."""
        if not sys.stderr.isatty():
            return
        total = int(job.get("recipients") or self._total) or 1
        done = sum(int(job.get(k) or 0) for k in ("accepted", "refused", "skipped"))
        full = min(_BAR, done * _BAR // total)
        print(f"\r[{'#' * full}{'-' * (_BAR - full)}] {done}/{total} {job.get('state', '')}    ",
              end="", file=sys.stderr, flush=True)  # fmt: skip
        self._drawn = True

    def end(self) -> None:
        if self._drawn:
            print(file=sys.stderr)
            self._drawn = False


def _recipients(count: int) -> str:
    return f"{count} recipient{'' if count == 1 else 's'}"


COMMANDS = {
    "replay": Command(
        _add,
        _run,
        "A job that resubmits what is pending, deferred, expired or in doubt, whether stuck or not yet.\n"
        "Nearest deadline first, behind a canary; with a gate that is not open it waits for it.",
        {
            "resubmit replay --since 6h --dry-run": "what it would take",
            "resubmit replay --since 03:00 --destination hybrid --wait": "",
            "resubmit list --stuck -q | resubmit replay - --reason 'new certificate'": "",
            "resubmit replay --state failed --since today": "reopens what was given up",
        },
    ),
}
