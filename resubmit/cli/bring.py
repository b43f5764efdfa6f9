"""`import`: messages in files, journaled like mail from a client."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resubmit.cli.ask import ask
from resubmit.cli.commands import Command
from resubmit.cli.hold import address_of
from resubmit.cli.output import Output, json_text
from resubmit.cli.reading import add_output, output_of
from resubmit.cli.table import clean
from resubmit.errors import NothingMatched, UsageError

_MAILDIR = ("new", "cur")


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", metavar="DIR|FILE", nargs="+", help="messages, a Maildir, or a folder of .eml files"
    )
    parser.add_argument(
        "--sender", metavar="ADDRESS", help="the reverse-path, '' for none; else what the file says"
    )
    parser.add_argument("--to", metavar="ADDRESS", action="append", default=[],
                        help="who gets them, instead of what the files say; may be repeated")  # fmt: skip
    parser.add_argument("--headers", action="store_true",
                        help="a missing envelope is taken from Delivered-To, or To and Cc")  # fmt: skip
    parser.add_argument("--again", action="store_true", help="also files that were brought before")
    parser.add_argument("--dry-run", action="store_true", help="say what each file is; journal nothing")
    parser.add_argument("--reason", metavar="TEXT", default="", help="why, for the audit")
    parser.add_argument("--fail-empty", action="store_true", help="exit 3 when there is no file")
    add_output(parser, quiet="ids only")


def _run(args: argparse.Namespace) -> int:
    out = output_of(args)
    options: dict[str, Any] = {"to": [address_of(one, "--to") for one in args.to]}
    if args.sender is not None:
        options["sender"] = address_of(args.sender, "--sender") if args.sender else ""
    options |= {name: True for name in ("headers", "again", "dry_run") if getattr(args, name)}
    files = [str(file) for name in args.files for file in _found(name)]
    if not files:
        out.note("no message in there")
        if args.fail_empty:
            raise NothingMatched("nothing to import")
        return 0
    options["files"] = files
    answers: list[dict[str, Any]] = ask(args, "import", options=options)
    for one in answers:
        _tell(one, args, out)
    bad = [one for one in answers if one["error"] or one["refused"]]
    if not out.as_json and not out.quiet:
        came = sum(bool(one["id"]) for one in answers)
        known = sum(one["known"] and not one["id"] for one in answers)
        more = f", {known} brought before and left alone" if known else ""
        out.line(
            f"{came} of {len(answers)} messages journaled{more}"
            if not args.dry_run
            else "nothing was journaled"
        )
    failed = sum(bool(one["error"]) for one in answers)
    return 0 if not bad else 1 if failed == len(answers) else 5


def _tell(one: dict[str, Any], args: argparse.Namespace, out: Output) -> None:
    if out.as_json:
        out.line(json_text(one))
        return
    if one["error"]:
        out.note(f"{one['file']}: {one['error']}")
        return
    for address, why in one["refused"].items():
        out.note(f"{one['file']}: {address}: {why}")
    if out.quiet:
        out.lines([one["id"]] if one["id"] else [])
    elif args.dry_run:
        known = "; was brought before" if one["known"] else ""
        to = ", ".join(one["recipients"])
        out.text(f"{one['file']}: from {one['sender'] or '<>'} to {to}{known}")
    elif one["id"]:
        out.line(f"{one['id']}  {clean(one['file'])}")


def _found(name: str) -> Iterator[Path]:
    """The message files a name stands for, whole paths, in the order of their names. UsageError for none."""
    path = Path(name)
    if not path.exists():
        raise UsageError(f"{name}: no such file")
    if not path.is_dir():
        if not path.is_file():
            raise UsageError(f"{name}: not a file")
        yield path.absolute()
        return
    maildir = all((path / part).is_dir() for part in _MAILDIR)
    folders = [path / part for part in _MAILDIR] if maildir else [path]
    for folder in folders:
        for file in sorted(folder.iterdir()):
            if (
                file.is_file()
                and not file.name.startswith(".")
                and (maildir or file.suffix.lower() == ".eml")
            ):
                yield file.absolute()


COMMANDS = {
    "import": Command(
        _add,
        _run,
        "Messages in files, journaled and handed on like mail from a client: .eml files, a Maildir, files\n"
        "of Exchange's Replay folder. A file's envelope is what is given here, or its X-Sender and\n"
        "X-Receiver lines; its header is believed with --headers only. What was brought before stays.",
        {
            "resubmit import replay": "files with their envelope, such as export writes them",
            "resubmit import mail.eml --sender app@contoso.com --to ann@contoso.com": "",
            "resubmit import Maildir --headers --dry-run": "what it would be",
        },
    ),
}
