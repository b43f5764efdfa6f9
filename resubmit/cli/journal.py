"""`journal`: how large it is, whether it is sound, what may go, and a copy of it."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import asdict
from pathlib import Path

from resubmit.cli.ask import ask
from resubmit.cli.commands import Command
from resubmit.cli.output import size
from resubmit.cli.reading import add_output, journal_of, output_of
from resubmit.cli.table import counted
from resubmit.errors import UsageError
from resubmit.journal import read


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("do", metavar="WHAT", choices=tuple(_DO), help="stats, verify, prune or backup")
    parser.add_argument("to", metavar="DIR", nargs="?", help="backup: the new folder")
    parser.add_argument("--reason", metavar="TEXT", default="", help="prune: why, for the audit")
    add_output(parser)


def _run(args: argparse.Namespace) -> int:
    if args.to is not None and args.do != "backup":
        raise UsageError(
            f"journal {args.do} takes no folder: {args.to}", hint="see `resubmit journal --help`"
        )
    return _DO[args.do](args)


def _stats(args: argparse.Namespace) -> int:
    out = output_of(args)
    with journal_of(args) as (conn, folder):
        found = read.size(conn, folder)
    if out.as_json:
        out.one(asdict(found))
    else:
        out.line(f"{found.path}: schema {found.schema}")
        out.line(f"  {counted(found.messages, 'message')}, {counted(found.open, 'recipient')} open")
        out.line(f"  {size(found.octets)} used, {size(found.free)} free on its disk")
    return 0


def _verify(args: argparse.Namespace) -> int:
    out = output_of(args)
    with journal_of(args) as (conn, folder):
        problems = list(read.verify(conn, folder))
    if out.as_json:
        out.one({"path": str(folder), "sound": not problems, "problems": problems})
    else:
        for problem in problems:
            out.text(problem)
        out.line(f"{folder}: {'sound' if not problems else f'{len(problems)} problem(s)'}")
    return 0 if not problems else 1


def _backup(args: argparse.Namespace) -> int:
    if not args.to:
        raise UsageError(
            "journal backup needs the folder to make", hint="resubmit journal backup /backup/today"
        )
    out = output_of(args)
    target = Path(args.to)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target}: is there already and not empty", hint="name a new folder")
    with journal_of(args) as (conn, folder):
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            copied = read.backup(conn, folder, target)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
    if out.as_json:
        out.one({"path": str(target), "bodies": copied})
    else:
        out.line(f"{target}: a whole copy, {copied} bodies in files of their own")
    return 0


def _prune(args: argparse.Namespace) -> int:
    """What [retention] lets go, goes now; the service does the same every ten minutes."""
    out = output_of(args)
    found = ask(args, "prune")
    if out.as_json:
        out.one(found)
    else:
        count = found["messages"]
        out.line(f"{count} message{'' if count == 1 else 's'} pruned, as [retention] says")
    return 0


_DO = {"stats": _stats, "verify": _verify, "prune": _prune, "backup": _backup}

COMMANDS = {
    "journal": Command(
        _add,
        _run,
        "The journal itself: its size; whether every row and body is sound; what [retention] lets go, gone\n"
        "now; a whole copy, while it is used.",
        {
            "resubmit journal stats": "",
            "resubmit journal verify": "reads everything: may take a while",
            "resubmit journal prune --reason 'the disk is filling'": "",
            "resubmit journal backup /backup/today": "",
        },
    ),
}
