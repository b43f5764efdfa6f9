"""What reading commands share: the journal opened read-only, the output flags."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from resubmit.cli.output import Output
from resubmit.configfile import find_config, journal_folder, read_tables
from resubmit.errors import UsageError
from resubmit.model.filter import Filter
from resubmit.model.ids import id_text
from resubmit.model.moment import Ms

if TYPE_CHECKING:
    from resubmit.journal.connection import sqlite3


def now_ms() -> Ms:
    """The time at which a command was run: commands are no part of the service and its clock."""
    return time.time_ns() // 1_000_000


def folder_of(args: argparse.Namespace) -> Path:
    """The journal's folder, by the config's TOML alone."""
    return journal_folder(find_config(args.config))


@contextmanager
def journal_of(args: argparse.Namespace) -> Iterator[tuple[sqlite3.Connection, Path]]:
    """A read-only connection to the config's journal, and its folder."""
    from resubmit.journal import read

    folder = folder_of(args)
    connection = read.connect(folder)
    try:
        yield connection, folder
    finally:
        connection.close()


def missing(connection: sqlite3.Connection, ids: Sequence[int], out: Output) -> int:
    """How many of the ids named are no message of this journal; said on stderr."""
    from resubmit.journal import read

    there = set(read.message_ids(connection, Filter(ids=tuple(ids)), now_ms(), limit=0)[0]) if ids else set()
    lost = [number for number in ids if number not in there]
    if len(lost) == 1:
        out.note(f"there is no message {id_text(lost[0])} in this journal")
    elif lost:
        out.note(f"{len(lost)} of the {len(ids)} ids named are not in this journal, {id_text(lost[0])} first")
    return len(lost)


def known_route(args: argparse.Namespace, name: str) -> None:
    """UsageError when the config has no route of that name; by its TOML alone."""
    found = read_tables(find_config(args.config)).get("route", [])
    names = [r.get("name") for r in found if isinstance(r, dict)] if isinstance(found, list) else []
    if name not in names:
        there = ", ".join(str(one) for one in names)
        raise UsageError(f"--route {name}: the config has no such route", hint=f"it has {there or 'none'}")


def add_output(parser: argparse.ArgumentParser, *, quiet: str = "") -> None:
    """`--json`, and `-q` where there are ids to print."""
    parser.add_argument(
        "--json", action="store_true", help="JSON: an object a line for lists, else one object"
    )
    if quiet:
        parser.add_argument("-q", "--quiet", action="store_true", help=quiet)


def output_of(args: argparse.Namespace) -> Output:
    return Output(as_json=args.json, quiet=getattr(args, "quiet", False))
