"""`export`: messages as files, their bytes as journaled."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable
from pathlib import Path

from resubmit.cli.commands import Command
from resubmit.cli.filters import add_filters, add_ids, filter_of, ids_of
from resubmit.cli.output import json_text
from resubmit.cli.reading import add_output, journal_of, now_ms, output_of
from resubmit.errors import JournalUnreadable, NothingMatched, UsageError
from resubmit.journal import read
from resubmit.model.ids import id_text


def _add(parser: argparse.ArgumentParser) -> None:
    add_ids(parser)
    parser.add_argument("--format", choices=("eml",), default="eml", help="a file a message (eml)")
    parser.add_argument("--out", metavar="DIR", required=True, help="the folder; made when missing")
    parser.add_argument("--stuck", action="store_true", help="only what is stuck")
    parser.add_argument("--fail-empty", action="store_true", help="exit 3 when nothing matches")
    add_output(parser, quiet="file names only")
    add_filters(parser)


def _run(args: argparse.Namespace) -> int:
    out = output_of(args)
    now = now_ms()
    named = ids_of(args.ids)
    flt = filter_of(args, now, out, named)
    # `-` with nothing on stdin names no message: without this the other filters alone would choose.
    nobody = bool(args.ids) and not named
    if flt.is_empty() and not nobody:
        raise UsageError("export needs message ids or a filter", hint="see `resubmit export --help`")
    folder = Path(args.out)
    written = failed = 0
    with journal_of(args) as (conn, journal):
        ids, total = ([], 0) if nobody else read.message_ids(conn, flt, now, limit=0)
        if ids:
            folder.mkdir(parents=True, exist_ok=True)
        for number in ids:
            file = folder / f"{id_text(number)}.eml"
            try:
                _write(file, read.body(conn, journal, number))
            except (JournalUnreadable, FileExistsError) as error:
                failed += 1
                why = f"{file} is there already" if isinstance(error, FileExistsError) else error.message
                out.note(f"{id_text(number)}: {why}")
                continue
            written += 1
            if out.as_json:
                out.line(json_text({"id": id_text(number), "file": str(file)}))
            elif out.quiet:
                out.line(str(file))
    if missing := len(set(flt.ids) - set(ids)):
        failed += missing
        out.note(f"{missing} of the ids named are not in this journal")
    if not out.as_json and not out.quiet:
        out.line(f"{written} of {total} messages written to {folder}")
    if not total and args.fail_empty:
        raise NothingMatched("nothing matched")
    return 0 if not failed else 5 if written else 1


def _write(file: Path, pieces: Iterable[bytes]) -> None:
    """The bytes in a new file; no file is left when they can't be had, none is written over."""
    with file.open("xb") as target:
        try:
            for piece in pieces:
                target.write(piece)
        except BaseException:
            with contextlib.suppress(OSError):
                file.unlink()
            raise


COMMANDS = {
    "export": Command(
        _add,
        _run,
        "Messages as files, their bytes as journaled. Files that are there already are left alone.",
        {
            "resubmit export 1N3QK5Z8G4000 --format eml --out mails": "",
            "resubmit export --stuck --destination hybrid --out mails": "",
        },
    ),
}
