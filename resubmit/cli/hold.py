"""`hold`, `release` and `cancel`: what an operator decides for single recipients."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from resubmit.cli.ask import ask
from resubmit.cli.commands import Command
from resubmit.cli.filters import add_filters, add_ids, filter_of, ids_of
from resubmit.cli.reading import add_output, journal_of, now_ms, output_of
from resubmit.errors import NothingMatched, RefusedBySafety, UsageError
from resubmit.journal import read

_MANY = 1
"""More recipients than this are asked about before they are cancelled on a terminal."""


def _add(parser: argparse.ArgumentParser) -> None:
    add_ids(parser)
    parser.add_argument("--stuck", action="store_true", help="only what is stuck")
    parser.add_argument("--reason", metavar="TEXT", default="", help="why, for timeline and audit")
    parser.add_argument("--yes", action="store_true", help="don't ask on a terminal")
    parser.add_argument("--fail-empty", action="store_true", help="exit 3 when nothing matches")
    add_output(parser)
    add_filters(parser)


def _run(do: str) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        out = output_of(args)
        now = now_ms()
        ids = ids_of(args.ids)
        flt = filter_of(args, now, out, ids)
        # `-` with nothing on stdin names no message: without this the other filters alone would choose.
        nobody = bool(args.ids) and not ids
        if flt.is_empty() and not nobody:
            raise UsageError(f"{do} needs message ids or a filter", hint=f"see `resubmit {do} --help`")
        with journal_of(args) as (conn, _):
            matched = 0 if nobody else len(read.recipients(conn, flt, now))
        result: dict[str, int] = {"matched": 0, "changed": 0}
        if matched:
            if do == "cancel" and matched > _MANY and not args.yes and sys.stdin.isatty():
                print(f"cancel {matched} recipients for good? [y/N] ", end="", file=sys.stderr, flush=True)
                if sys.stdin.readline().strip().lower() not in ("y", "yes"):
                    raise RefusedBySafety("not confirmed; nothing was changed")
            result = ask(args, do, flt)
        if out.as_json:
            out.one(result)
        else:
            out.line(f"{result.get('changed', 0)} of {result.get('matched', 0)} recipients {_DONE[do]}")
        if not matched and args.fail_empty:
            raise NothingMatched("nothing matched")
        return 0 if result.get("changed", 0) == result.get("matched", 0) else 5

    return run


_DONE = {"hold": "held", "release": "released", "cancel": "cancelled"}
_ABOUT = {
    "hold": "Hold recipients: nothing is sent to them until they are released. Evidence is still taken.",
    "release": "Release held recipients: they are again what evidence says they are.",
    "cancel": "Give recipients up for good: nothing more is sent to them. (replay --state cancelled.)",
}

COMMANDS = {
    do: Command(
        _add,
        _run(do),
        _ABOUT[do],
        {
            f"resubmit {do} 1N3QK5Z8G4000 --reason 'asked by the sender'": "",
            f"resubmit {do} --recipient ann@contoso.com --since today": "these recipients, no others",
            f"resubmit list --stuck -q | resubmit {do} -": "",
        },
    )
    for do in _DONE
}
