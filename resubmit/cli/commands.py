"""The list of commands: which module has each, and its one line in the help.

A module is imported only when one of its commands is run: it has a `COMMANDS` of the same names, each a
`Command` that adds its arguments to a parser and runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from resubmit.cli.table import pairs


@dataclass(frozen=True, slots=True)
class Command:
    """How a command takes its arguments and what it does. `run` returns the exit code, or raises.

    examples: whole command lines, each with a word of what it does, shown at the end of its help."""

    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    about: str
    examples: Mapping[str, str]


GROUPS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "look",
        (
            ("list", "mail", "messages with their recipients' states; --stuck for what waits"),
            ("show", "mail", "one message: envelope, each recipient's timeline"),
            ("status", "status", "gates, verdicts, what is stuck, what is under way"),
            (
                "health",
                "health",
                "a check for monitoring: ok, warning, critical or unknown",
            ),
            ("incidents", "incidents", "faults, whom they caught, and the report of each"),
            ("jobs", "jobs", "replay jobs; pause, resume or cancel one"),
            ("probe", "probe", "the TLS doctor: is a destination well, as its connector sees it"),
            ("explain", "explain", "what a trace file or a reply says, and what to do"),
            ("audit", "status", "what people asked for"),
        ),
    ),
    (
        "act",
        (
            ("replay", "replay", "resubmit what is pending, deferred, expired or in doubt"),
            ("hold", "hold", "hold recipients: nothing is sent to them"),
            ("release", "hold", "release held recipients"),
            ("cancel", "hold", "give recipients up for good"),
            ("redirect", "hold", "send the mail of recipients to another address"),
            ("ingest", "ingest", "read evidence files into the journal"),
            ("import", "bring", "messages in files, journaled like mail from a client"),
            ("export", "export", "messages as .eml files, an mbox, or Replay files"),
        ),
    ),
    (
        "run",
        (
            ("serve", "service", "run the service in the foreground"),
            ("config", "config", "check the config, or show it whole"),
            ("journal", "journal", "the journal's size, soundness and backup"),
            ("completion", "completion", "a script that completes commands and options in bash, zsh or fish"),
            ("demo", "service", "the whole story in a minute, in a world of its own"),
        ),
    ),
)

MODULES = {name: module for _, commands in GROUPS for name, module, _ in commands}
"""Each command's module in this folder."""


def overview(total: int) -> str:
    """The commands for the main help, in lines no wider than `total`."""
    lines: list[str] = []
    for title, commands in GROUPS:
        lines.append(f"{title}:")
        lines += pairs(((name, about) for name, _, about in commands), total, at_most=10)
    return "\n".join(lines)
