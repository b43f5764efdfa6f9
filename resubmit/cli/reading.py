"""What reading commands share: the journal opened read-only, the output flags."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from resubmit.cli.output import Output
from resubmit.configfile import find_config, journal_folder
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


def add_output(parser: argparse.ArgumentParser, *, quiet: str = "") -> None:
    """`--json`, and `-q` where there are ids to print."""
    parser.add_argument(
        "--json", action="store_true", help="JSON: an object a line for lists, else one object"
    )
    if quiet:
        parser.add_argument("-q", "--quiet", action="store_true", help=quiet)


def output_of(args: argparse.Namespace) -> Output:
    return Output(as_json=args.json, quiet=getattr(args, "quiet", False))
