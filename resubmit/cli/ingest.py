"""`ingest`: evidence files read into the journal."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from resubmit.cli.ask import ask
from resubmit.cli.commands import Command
from resubmit.cli.filters import WHEN
from resubmit.cli.output import json_text
from resubmit.cli.reading import add_output, folder_of, now_ms, output_of
from resubmit.cli.table import Column
from resubmit.cli.zones import zone_of
from resubmit.errors import UsageError
from resubmit.model.moment import Ms, parse_when, rfc3339

_FIELDS = ("file", "source", "rows", "matched", "ambiguous", "unmatched", "known", "unreadable")


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", help="files that explain understands; - is stdin")
    parser.add_argument(
        "--covers", metavar="A..B", help=f"vouch that they are complete for that span; A and B: {WHEN}"
    )
    parser.add_argument("--timezone", metavar="TZ", default="UTC", help="of stamps without a zone (UTC)")
    parser.add_argument("--reason", metavar="TEXT", default="", help="why, for the audit")
    add_output(parser)


def _run(args: argparse.Namespace) -> int:
    out = output_of(args)
    zone_of(args.timezone)
    if args.files.count("-") > 1:
        raise UsageError("- stands twice, and stdin can be read once only")
    covers = _span(args.covers, now_ms()) if args.covers else None
    if covers:
        out.note(f"vouched for: {rfc3339(covers[0])} to {rfc3339(covers[1])}")
    with tempfile.TemporaryDirectory(prefix="resubmit-") as spare:
        files = {_absolute(name, args, Path(spare)): name for name in args.files}
        options = {"files": list(files), "covers": covers, "timezone": args.timezone}
        if "-" in args.files:  # what it is called in the journal: its file is gone in a moment
            options["names"] = {path: name for path, name in files.items() if name == "-"}
        answers: list[dict[str, Any]] = ask(args, "ingest", options=options)
    shown = [
        {name: files.get(a["file"], a["file"]) if name == "file" else a.get(name) for name in _FIELDS}
        | {"by": a.get("by") or {}}
        for a in answers
    ]
    if out.as_json:
        out.lines(json_text(one) for one in shown)
    else:
        out.table(
            [
                Column("FILE", 10, cut="middle"),
                Column("SOURCE", 6),
                *(Column(name.upper(), len(name), right=True) for name in _FIELDS[2:]),
            ],
            [[one[name] if one[name] is not None else "-" for name in _FIELDS] for one in shown],
        )
        whys: Counter[str] = Counter()
        for one in shown:
            whys.update(one["by"])
        for why, count in whys.most_common():
            out.note(f"{count} by {why}" if not why.startswith("several ") else f"{count} ambiguous: {why}")
    good = sum((one["rows"] or 0) - (one["unreadable"] or 0) for one in shown)
    bad = sum(one["unreadable"] or 0 for one in shown)
    return 0 if not bad else 5 if good > 0 else 1


def _absolute(name: str, args: argparse.Namespace, spare: Path) -> str:
    """The file's whole path, as the service sees it; what comes on stdin is put into a file first."""
    if name == "-":
        file = spare / "stdin"
        with file.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        owner = folder_of(args)
        if os.geteuid() == 0 and owner.exists():  # the service may be another user
            about = owner.stat()
            for path in (spare, file):
                os.chown(path, about.st_uid, about.st_gid)
        return str(file)
    path = Path(name)
    if not path.exists():
        raise UsageError(f"{name}: no such file")
    if not path.is_file():
        raise UsageError(
            f"{name}: not a file", hint=f"name the files in it: {name}/*" if path.is_dir() else ""
        )
    if not os.access(path, os.R_OK):
        raise UsageError(f"{name}: this user may not read it")
    return str(path.absolute())


def _span(text: str, now: Ms) -> tuple[Ms, Ms]:
    """`A..B` as times. UsageError says what is allowed."""
    first, dots, last = text.partition("..")
    try:
        since, until = parse_when(first, now), parse_when(last or "now", now)
    except ValueError as error:
        raise UsageError(f"--covers {text}: {error}") from None
    if not dots or since >= until:
        raise UsageError(f"--covers {text}: write it A..B, A before B", hint=f"A and B: {WHEN}")
    return since, until


COMMANDS = {
    "ingest": Command(
        _add,
        _run,
        "Reads evidence files into the journal: each line moves the recipient it is about.\n"
        "Says what was matched, ambiguous, unmatched, known already, or unreadable.",
        {
            "resubmit ingest MessageTrace.csv": "",
            "resubmit ingest trace.csv --covers 02:00..06:00": "it is complete for that span",
            "resubmit ingest traces/*.csv --timezone Europe/Berlin --json": "",
        },
    ),
}
