"""The filters of design 6.1, the same in every command: flags in, a Filter out.

A repeated flag is OR, different flags are AND, `*` globs. Times are resolved here, and what they came to is
told on stderr, so that nobody acts on another span than they meant.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from resubmit.cli.output import Output
from resubmit.errors import UsageError
from resubmit.model.evidence import Cause
from resubmit.model.filter import Filter
from resubmit.model.ids import parse_id
from resubmit.model.moment import Ms, parse_span, parse_when, rfc3339
from resubmit.model.recipient import State

WHEN = (
    "2h or 1d12h (ago), today, yesterday, 14:30, 2026-11-24, 2026-11-24T14:30, RFC 3339; local without a zone"
)

_MOST = 10**15
"""The largest number or span (ms) taken: exact in JSON everywhere, and far from what SQLite can't hold."""

_TEXTS = (
    ("sender", "ADDRESS", "the reverse-path; '' for the null one"),
    ("recipient", "ADDRESS", "a recipient"),
    ("domain", "DOMAIN", "a recipient's domain"),
    ("message-id", "ID", "the Message-ID, with or without brackets"),
    ("subject", "TEXT", "the whole subject; *text* for a part of it"),
    ("cause", "CAUSE", ", ".join((*Cause, "none"))),
    ("state", "STATE", ", ".join(State)),
    ("destination", "NAME", "a destination of the config"),
)


def add_filters(parser: argparse.ArgumentParser) -> None:
    """The filter flags, in a group of their own."""
    group = parser.add_argument_group("filters (a repeated flag is OR, different flags are AND, * globs)")
    for name, metavar, about in _TEXTS:
        group.add_argument(f"--{name}", metavar=metavar, action="append", default=[], help=about)
    group.add_argument(
        "--incident", metavar="N", action="append", type=whole, default=[], help="an incident's"
    )
    group.add_argument("--older-than", metavar="SPAN", help="so long in its state at least")
    group.add_argument("--expiring-in", metavar="SPAN", help="bounces within so long")
    group.add_argument("--since", metavar="TIME", help=f"taken at or after: {WHEN}")
    group.add_argument("--until", metavar="TIME", help="taken before")


def add_ids(parser: argparse.ArgumentParser) -> None:
    """Message ids as arguments, `-` to read them from stdin."""
    parser.add_argument("ids", metavar="ID", nargs="*", help="message ids; - reads them from stdin")


def filter_of(args: argparse.Namespace, now: Ms, out: Output, ids: Sequence[int] = ()) -> Filter:
    """The filter of a command line at `now`; the span it came to is noted on stderr. Raises UsageError."""
    since = when_of(args.since, "--since", now)
    until = when_of(args.until, "--until", now)
    if since is not None and until is not None and since >= until:
        raise UsageError(f"--since {args.since} is not before --until {args.until}", hint=f"TIME is {WHEN}")
    if since is not None or until is not None:
        start = rfc3339(since) if since is not None else "the beginning"
        end = rfc3339(until) if until is not None else f"now ({rfc3339(now)})"
        out.note(f"taken from {start} until {end}")
    for flag, known in (("cause", (*Cause, "none")), ("state", tuple(State))):
        for value in getattr(args, flag):
            if "*" not in value and value not in known:
                raise UsageError(
                    f"--{flag} {value}: there is no such {flag}", hint=f"one of {', '.join(known)}"
                )
    return Filter(
        ids=tuple(ids),
        sender=tuple(args.sender),
        recipient=tuple(args.recipient),
        domain=tuple(args.domain),
        message_id=tuple(args.message_id),
        subject=tuple(args.subject),
        cause=tuple(args.cause),
        state=tuple(args.state),
        destination=tuple(args.destination),
        incident=tuple(args.incident),
        older_than=_span(args.older_than, "--older-than"),
        expiring_in=_span(args.expiring_in, "--expiring-in"),
        since=since,
        until=until,
        stuck=bool(getattr(args, "stuck", False)),
    )


def ids_of(words: Sequence[str]) -> tuple[int, ...]:
    """The message ids named, `-` standing for those on stdin (one or more a line). Raises UsageError."""
    named: list[str] = []
    for word in words:
        named += sys.stdin.read().split() if word == "-" else [word]
    try:
        return tuple(dict.fromkeys(parse_id(word) for word in named))
    except ValueError as error:
        raise UsageError(str(error)) from None


def when_of(text: str | None, flag: str, now: Ms) -> Ms | None:
    """A time as a person typed it; None when they did not. UsageError names the flag."""
    if text is None:
        return None
    try:
        at = parse_when(text, now)
        rfc3339(at)  # a time no calendar has, ten thousand years ago, is a slip of the finger
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None
    except OverflowError:
        raise UsageError(f"{flag} {text}: no calendar goes so far", hint=f"TIME is {WHEN}") from None
    return at


def _span(text: str | None, flag: str) -> Ms | None:
    return None if text is None else span_of(text, flag)


def span_of(text: str, flag: str) -> Ms:
    """A span as a person typed it. UsageError names the flag."""
    try:
        span = parse_span(text)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{flag}: {error}") from None
    if span > _MOST:
        raise UsageError(f"{flag} {text}: that long no mail is kept")
    return span


def whole(text: str) -> int:
    """A count or a number of a thing, for argparse: whole, not negative, and such as a journal can hold."""
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(_MOST)) or int(text) > _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {_MOST}")
    return int(text)
