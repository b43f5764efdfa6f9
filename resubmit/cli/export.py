"""`export`: messages as files: their bytes as journaled, an mbox, or Replay files for an Exchange server."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resubmit.cli.commands import Command
from resubmit.cli.filters import add_filters, add_ids, filter_of, ids_of
from resubmit.cli.output import Output, json_text
from resubmit.cli.reading import add_output, journal_of, now_ms, output_of
from resubmit.errors import JournalUnreadable, NothingMatched, ResubmitError, UsageError
from resubmit.journal import read
from resubmit.model.filter import Filter
from resubmit.model.ids import id_text
from resubmit.model.recipient import SETTLED
from resubmit.view import files

if TYPE_CHECKING:
    from resubmit.journal.connection import sqlite3

MBOX = "resubmit.mbox"


def _add(parser: argparse.ArgumentParser) -> None:
    add_ids(parser)
    about = (
        f"eml: a file a message; mbox: all in DIR/{MBOX}; replay: for the Replay folder of an Exchange"
        " server, with the recipients that are still open (eml)"
    )
    parser.add_argument("--format", choices=tuple(_FORMS), default="eml", help=about)
    parser.add_argument("--out", metavar="DIR", required=True, help="the folder; made when missing")
    parser.add_argument("--stuck", action="store_true", help="only what is stuck")
    parser.add_argument("--fail-empty", action="store_true", help="exit 3 when nothing matches")
    add_output(parser, quiet="file names only")
    add_filters(parser)


class _LeftOut(ResubmitError):
    """A message that is not written, and why."""


@dataclass(slots=True)
class _Desk:
    """What writing a message needs."""

    conn: sqlite3.Connection
    journal: Path
    folder: Path
    flt: Filter

    def body(self, number: int) -> Iterator[bytes]:
        return read.body(self.conn, self.journal, number)


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
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder}: is no folder")
    box = folder / MBOX if args.format == "mbox" else None
    if box is not None and box.exists():
        raise ResubmitError(f"{box} is there already", hint="name another folder, or move it away")
    with journal_of(args) as (conn, journal):
        ids, total = ([], 0) if nobody else read.message_ids(conn, flt, now, limit=0)
        if ids:
            folder.mkdir(parents=True, exist_ok=True)
        desk = _Desk(conn, journal, folder, flt)
        written, failed = _write_all(desk, _FORMS[args.format], ids, out)
    if box is not None and not written:
        box.unlink(missing_ok=True)
    if missing := len(set(flt.ids) - set(ids)):
        failed += missing
        out.note(f"{missing} of the ids named are not in this journal")
    if not out.as_json and not out.quiet:
        out.line(f"{written} of {total} messages written to {folder}")
    if not total and args.fail_empty:
        raise NothingMatched("nothing matched")
    return 0 if not failed else 5 if written else 1


def _write_all(
    desk: _Desk, form: Callable[[_Desk, int], Path], ids: Iterable[int], out: Output
) -> tuple[int, int]:
    """How many were written, and how many could not be."""
    written = failed = 0
    for number in ids:
        try:
            file = form(desk, number)
        except (JournalUnreadable, FileExistsError, _LeftOut) as error:
            failed += 1
            told = (
                f"{error.filename} is there already" if isinstance(error, FileExistsError) else error.message
            )
            out.note(f"{id_text(number)}: {told}")
            continue
        written += 1
        if out.as_json:
            out.line(json_text({"id": id_text(number), "file": str(file)}))
        elif out.quiet:
            out.line(str(file))
    return written, failed


def _eml(desk: _Desk, number: int) -> Path:
    file = desk.folder / f"{id_text(number)}.eml"
    _write(file, desk.body(number))
    return file


def _mbox(desk: _Desk, number: int) -> Path:
    """At the end of the mbox; nothing of a message stays in it when its bytes can't be had."""
    file = desk.folder / MBOX
    sent = read.message(desk.conn, number, now_ms())
    if sent is None:
        raise _LeftOut("gone meanwhile")
    with file.open("ab") as target:
        start = target.tell()
        try:
            for piece in files.mbox(desk.body(number), sent.sender, sent.received_at):
                target.write(piece)
        except BaseException:
            target.flush()
            target.truncate(start)
            raise
    return file


def _replay(desk: _Desk, number: int) -> Path:
    """Written under another name and renamed: the server takes a file as soon as it sees it."""
    given = read.envelope(desk.conn, number)
    chosen = read.recipients(desk.conn, _only(desk.flt, number), now_ms())
    going = [r.n for r in chosen if r.state not in SETTLED or r.state in desk.flt.state]
    if given is None or not going:
        raise _LeftOut("none of its recipients is open; --state names settled ones that are to go")
    head = files.replay_head(
        given.sender, given.parameters, [given.recipients[n] for n in going], id_text(number), now_ms()
    )
    file = desk.folder / f"{id_text(number)}.eml"
    if file.exists():
        raise FileExistsError(17, "File exists", str(file))
    part = file.with_suffix(".part")
    part.unlink(missing_ok=True)
    _write(part, _after(head, desk.body(number)))
    return part.replace(file)


def _only(flt: Filter, number: int) -> Filter:
    """The same for one message."""
    return Filter.from_plain({**flt.to_plain(), "ids": [number]})


def _after(head: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    yield head
    yield from pieces


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


_FORMS: dict[str, Callable[[_Desk, int], Path]] = {"eml": _eml, "mbox": _mbox, "replay": _replay}

COMMANDS = {
    "export": Command(
        _add,
        _run,
        "Messages as files: their bytes as journaled, an mbox, or files with their envelope for the Replay\n"
        "folder of an Exchange server. Files that are there already are left alone.",
        {
            "resubmit export 1N3QK5Z8G4000 --format eml --out mails": "",
            "resubmit export --stuck --destination hybrid --out mails": "",
            "resubmit export --stuck --format replay --out replay": "to be moved into Replay",
        },
    ),
}
