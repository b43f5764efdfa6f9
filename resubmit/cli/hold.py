"""`hold`, `release`, `cancel` and `redirect`: what an operator decides for single recipients."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from resubmit.cli.ask import ask
from resubmit.cli.commands import Command
from resubmit.cli.filters import add_filters, add_ids, filter_of, ids_of
from resubmit.cli.output import Output
from resubmit.cli.reading import add_output, journal_of, missing, now_ms, output_of
from resubmit.errors import NothingMatched, RefusedBySafety, UsageError
from resubmit.journal import read
from resubmit.model.recipient import SETTLED

_MANY = 1
"""More recipients than this are asked about before they are cancelled or redirected on a terminal."""

_NOTHING: dict[str, Any] = {"matched": 0, "changed": 0, "already": 0, "left": {}}


def _add(parser: argparse.ArgumentParser) -> None:
    add_ids(parser)
    parser.add_argument("--stuck", action="store_true", help="only what is stuck")
    parser.add_argument("--reason", metavar="TEXT", default="", help="why, for timeline and audit")
    parser.add_argument("--yes", action="store_true", help="don't ask on a terminal")
    parser.add_argument("--fail-empty", action="store_true", help="exit 3 when nothing matches")
    add_output(parser)
    add_filters(parser)


def _add_redirect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", metavar="ADDRESS", required=True, help="who gets the mail instead")
    _add(parser)


def _run(do: str) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        out = output_of(args)
        now = now_ms()
        options = {"to": address_of(args.to, "--to")} if do == "redirect" else None
        ids = ids_of(args.ids)
        flt = filter_of(args, now, out, ids)
        # `-` with nothing on stdin names no message: without this the other filters alone would choose.
        nobody = bool(args.ids) and not ids
        if flt.is_empty() and not nobody:
            raise UsageError(f"{do} needs message ids or a filter", hint=f"see `resubmit {do} --help`")
        with journal_of(args) as (conn, _):
            matched = 0 if nobody else len(read.recipients(conn, flt, now))
            lost = missing(conn, ids, out)
        result = dict(_NOTHING)
        if matched:
            if do in ("cancel", "redirect") and matched > _MANY and not args.yes and sys.stdin.isatty():
                _confirm(do, matched)
            result |= ask(args, do, flt, options)
        if out.as_json:
            out.one(result)
        elif matched or not lost:
            _tell(do, result, out)
        if not matched and not lost and args.fail_empty:
            raise NothingMatched("nothing matched")
        return _exit_code(result, lost)

    return run


def address_of(text: str, flag: str) -> str:
    """An address that can stand in RCPT. UsageError says what is allowed."""
    local, at, domain = text.strip().removeprefix("<").removesuffix(">").rpartition("@")
    wrong = any(c.isspace() or c in '<>"' or not c.isprintable() for c in local + domain)
    if not at or not local or not domain or "@" in local or wrong:
        raise UsageError(f"{flag} {text}: not an address", hint="write it like ann@contoso.com")
    return f"{local}@{domain}"


def _confirm(do: str, matched: int) -> None:
    """Cancelling can't be undone, and mail that was redirected has gone."""
    last = " for good" if do == "cancel" else ""
    print(f"{do} {matched} recipients{last}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise RefusedBySafety("not confirmed; nothing was changed")


def _tell(do: str, result: dict[str, Any], out: Output) -> None:
    out.line(f"{result['changed']} of {result['matched']} recipients {_DONE[do]}")
    if result["already"]:
        was = "were not held" if do == "release" else f"were {_DONE[do]} already"
        out.line(f"  {result['already']} {was}")
    for why, count in result["left"].items():
        out.line(f"  {count} left alone: {why}")


def _exit_code(result: dict[str, Any], lost: int) -> int:
    """0 when all stand as asked; those that are settled need nothing, as long as others did. 5 when some
    could not be had, 1 when none could."""
    good = result["changed"] + result["already"]
    settled = sum(count for why, count in result["left"].items() if why in SETTLED)
    bad = sum(result["left"].values()) - settled + lost
    if good:
        return 5 if bad else 0
    return 1 if bad or settled else 0


_DONE = {"hold": "held", "release": "released", "cancel": "cancelled", "redirect": "redirected"}
_ABOUT = {
    "hold": "Hold recipients: nothing is sent to them until they are released. Evidence is still taken.",
    "release": "Release held recipients: they are again what evidence says they are.",
    "cancel": "Give recipients up for good: nothing more is sent to them. (replay --state cancelled.)",
    "redirect": "Send the mail of these recipients to another address: each is cancelled, and the address\n"
    "stands beside it as a recipient of its own. An attempt that is under way is waited for.",
}
_TO = {"redirect": " --to bob@contoso.com"}

COMMANDS = {
    do: Command(
        _add_redirect if do == "redirect" else _add,
        _run(do),
        _ABOUT[do],
        {
            f"resubmit {do} 1N3QK5Z8G4000{_TO.get(do, '')} --reason 'asked by the sender'": "",
            f"resubmit {do} --recipient ann@contoso.com{_TO.get(do, '')} --since today": "these, no others",
            f"resubmit list --stuck -q | resubmit {do} -{_TO.get(do, '')}": "",
        },
    )
    for do in _DONE
}
