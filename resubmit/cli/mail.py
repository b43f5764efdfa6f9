"""`list` and `show`: messages, their recipients, and the life of each."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator

from resubmit.cli.commands import Command
from resubmit.cli.filters import add_filters, filter_of, ids_of, whole
from resubmit.cli.output import Output, age, json_text, left_until, size, when
from resubmit.cli.reading import add_output, journal_of, now_ms, output_of
from resubmit.cli.table import Column, clean, counted
from resubmit.errors import JournalUnreadable, NothingMatched, ResubmitError, UsageError
from resubmit.journal import read
from resubmit.journal.read import Group, MessageView, RecipientView, Step
from resubmit.model.envelope import address_key
from resubmit.model.filter import Filter
from resubmit.model.ids import id_text
from resubmit.model.moment import Ms
from resubmit.model.recipient import SETTLED
from resubmit.view.mail import group_object, headers_of, message_object, shown_object

_WATCH_S = 2.0


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stuck", action="store_true", help="only what is stuck; nearest deadline first")
    parser.add_argument("--group-by", choices=list(read.GROUPINGS), help="count recipients instead")
    parser.add_argument("--sort", choices=read.SORTS, help="longest in its state, nearest deadline, largest")
    parser.add_argument("--limit", metavar="N", type=whole, default=50, help="at most so many; 0 is all (50)")
    parser.add_argument("--watch", action="store_true", help="again every two seconds, until interrupted")
    parser.add_argument("--fail-empty", action="store_true", help="exit 3 when nothing matches")
    add_output(parser, quiet="ids only")
    add_filters(parser)


def _list(args: argparse.Namespace) -> int:
    if args.watch and (args.json or args.quiet):
        raise UsageError("--watch is for people", hint="run it without --json and -q")
    out = output_of(args)
    flt = filter_of(args, now_ms(), out)
    while args.watch:
        if sys.stdout.isatty():
            out.line("\033[2J\033[H", end="")
        out.line(when(now_ms()))
        _list_once(args, flt, out)
        sys.stdout.flush()
        time.sleep(_WATCH_S)
    return _list_once(args, flt, out)


def _list_once(args: argparse.Namespace, flt: Filter, out: Output) -> int:
    now = now_ms()
    with journal_of(args) as (conn, _):
        if args.group_by:
            groups = read.grouped(conn, flt, now, args.group_by)
            _show_groups(groups, args.group_by, out, now)
            total = len(groups)
        else:
            ids, total = read.message_ids(conn, flt, now, limit=args.limit, sort=args.sort)
            if out.quiet:
                out.lines(id_text(number) for number in ids)
            elif out.as_json:
                out.lines(json_text(message_object(m)) for m in read.load_messages(conn, ids, now))
            elif ids:
                found = list(read.load_messages(conn, ids, now))
                out.table(_COLUMNS, [_row(m, now) for m in found])
            out.note(_total(total, len(ids), flt))
    if not total and args.fail_empty:
        raise NothingMatched("nothing matched")
    return 0


def _total(total: int, shown: int, flt: Filter) -> str:
    what = "stuck" if flt.stuck else "found"
    if total == shown:
        return f"{total} message{'' if total == 1 else 's'} {what}"
    return f"{shown} of {total} messages {what}; --limit 0 shows all"


_COLUMNS = (
    Column("ID", 13),
    Column("AGE", 6, right=True),
    Column("FROM", 6),
    Column("TO", 8),
    Column("STATE", 13),
    Column("CAUSE", 10),
    Column("BOUNCES IN", 10, right=True),
)


_CAUSES = {
    "tls": "no secure connection",
    "connection": "can't be reached",
    "blocklist": "we are listed",
    "throttle": "told to slow down",
    "size": "too large",
    "policy": "not allowed",
    "recipient": "no such address",
    "mailbox": "full or disabled",
    "expired": "given up",
    "content": "taken for spam or malware",
    "other": "see its reply",
}
"""Beside the cause's one word, by which `--cause` filters, what it means."""


def cause_words(cause: str | None) -> str:
    """A cause as a table shows it."""
    if not cause:
        return "-"
    return f"{cause}: {_CAUSES[cause]}" if cause in _CAUSES else cause


def _row(message: MessageView, now: Ms) -> list[object]:
    """A message in a table: of its recipients the most pressing speaks for the rest."""
    every = list(message.recipients)
    if not every:
        return [
            id_text(message.id),
            age(message.received_at, now),
            message.sender or "<>",
            "-",
            "-",
            "-",
            "-",
        ]
    speakers = [r for r in every if r.stuck] or [r for r in every if r.state not in SETTLED] or every
    first = min(speakers, key=lambda r: (r.deadline is None, r.deadline, r.n))
    same = sum(r.state == first.state for r in every)
    return [
        id_text(message.id),
        age(message.received_at, now),
        message.sender or "<>",
        first.address,
        first.state + (f" {same}/{len(every)}" if len(every) > 1 else ""),
        cause_words(first.cause),
        left_until(first.deadline, now),
    ]


def _show_groups(groups: list[Group], by: str, out: Output, now: Ms) -> None:
    if out.as_json:
        out.lines(json_text(group_object(by, group)) for group in groups)
    elif out.quiet:
        out.lines(clean(group.value) for group in groups)
    elif groups:
        out.table(
            (
                Column(by.upper(), 12, cut="middle"),
                Column("RECIPIENTS", 10, right=True),
                Column("MESSAGES", 8, right=True),
                Column("OLDEST", 6, right=True),
                Column("BOUNCES IN", 10, right=True),
            ),
            [
                [
                    cause_words(g.value) if by == "cause" else g.value or "<>",
                    g.recipients,
                    g.messages,
                    age(g.oldest, now),
                    left_until(g.next_deadline, now),
                ]
                for g in groups
            ],
        )


# ── show ──────────────────────────────────────────────────────────────────────────────────────────


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="a message id, as list shows it")
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--headers", action="store_true", help="its header fields, as journaled")
    some.add_argument("--raw", action="store_true", help="its bytes, as journaled")
    add_output(parser)


def _show(args: argparse.Namespace) -> int:
    if args.raw and args.json:
        raise UsageError("--raw gives bytes, --json an object: one of them")
    out = output_of(args)
    (number,) = ids_of([args.id])
    now = now_ms()
    with journal_of(args) as (conn, folder):
        message = read.message(conn, number, now)
        if message is None:
            raise ResubmitError(
                f"there is no message {id_text(number)} in this journal",
                hint="`resubmit list --limit 0` shows those there are; settled ones go after [retention]",
            )
        if args.raw:
            for piece in read.body(conn, folder, number):
                sys.stdout.buffer.write(piece)
            return 0
        headers: list[tuple[str, str]] = []
        if message.body_kept:
            try:
                headers = headers_of(b"".join(_head(read.body(conn, folder, number))))
            except JournalUnreadable as error:
                out.note(error.message)
        if args.headers and not args.json:
            out.lines(f"{clean(name)}: {clean(value)}" for name, value in headers)
            return 0
        steps = read.timeline(conn, number)
    if out.as_json:
        out.one(shown_object(message, steps, headers))
    else:
        _show_message(message, steps, out, now)
    return 0


def _head(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces of a body up to the end of its header block."""
    last = b""
    for piece in pieces:
        yield piece
        if b"\n\r\n" in last[-3:] + piece or b"\n\n" in last[-3:] + piece:
            return
        last = piece


def _show_message(message: MessageView, steps: list[Step], out: Output, now: Ms) -> None:
    facts = [
        ("Message", id_text(message.id)),
        ("Message-ID", message.message_id),
        ("Taken", f"{when(message.received_at)}, {age(message.received_at, now)} ago"),
        ("By", _way(message)),
        ("From", message.sender or "<>"),
        ("Subject", message.subject),
        ("Size", size(message.size) + ("" if message.body_kept else "; its body is no longer kept")),
    ]
    for name, value in facts:
        out.line(f"{name + ':':<12}{clean(value)}")
    counts = Counter(r.state for r in message.recipients)
    out.line(f"{'To:':<12}" + ", ".join(f"{n} {state}" for state, n in counts.items()))
    for recipient in message.recipients:
        out.line()
        _show_recipient(recipient, [s for s in steps if s.n == recipient.n], out, now)


def _way(message: MessageView) -> str:
    """How a message came: by a client, from a file, or made by us."""
    if not message.peer:
        return message.intake
    return f"{message.intake} from {message.peer} ({message.helo}), {message.protocol}"


_HOLDERS = {"relay": "the relay", "far": "the far side"}


def _show_recipient(recipient: RecipientView, steps: list[Step], out: Output, now: Ms) -> None:
    out.text(recipient.address)
    state = recipient.state + (f" (below: {recipient.below})" if recipient.below else "")
    words = [f"{state} for {age(recipient.since, now)}"]
    if recipient.cause:
        words.append(f"cause {cause_words(recipient.cause)}")
    if recipient.state not in SETTLED:
        nobody = recipient.holder == "nobody"
        holder = _HOLDERS.get(recipient.holder, recipient.holder)
        words.append("held by nobody any more" if nobody else f"held by {holder}")
    if recipient.deadline is not None:
        words.append(f"bounces in {left_until(recipient.deadline, now)}")
    if recipient.stuck:
        words.append("STUCK")
    out.text(", ".join(words), "  ")
    where = f"destination {recipient.destination}, route {recipient.route}"
    where += f", {counted(recipient.attempts, 'attempt')}"
    if recipient.derived_from:
        where += f", member of {recipient.derived_from}"
    if recipient.again_of:
        other = address_key(recipient.again_of) != address_key(recipient.address)
        where += f", redirected from {recipient.again_of}" if other else ", beside the delivered one"
    out.text(where, "  ")
    for step in steps:
        if step.from_ is None:
            moved = step.to
        else:
            moved = f"{step.from_} → {step.to}" if step.from_ != step.to else "stays"
        number = f" #{step.attempt}" if step.attempt else ""
        out.text(f"{when(step.at)}  {step.event}{number}: {moved}", "    ")
        if step.why:
            out.text(step.why, "        ")


COMMANDS = {
    "list": Command(
        _add_list,
        _list,
        "Messages with their recipients' states; newest first, with --stuck nearest deadline first.",
        {
            "resubmit list --stuck": "what waits, and until when",
            "resubmit list --stuck --group-by cause": "what it waits for",
            "resubmit list --domain contoso.com --since 6h": "",
            "resubmit list --state expired --json --limit 0": "all that bounced and can still be saved",
            "resubmit list --stuck --expiring-in 2h -q": "ids only, for another command's -",
        },
    ),
    "show": Command(
        _add_show,
        _show,
        "One message: envelope, each recipient's timeline: attempts and evidence.",
        {
            "resubmit show 1N3QK5Z8G4000": "",
            "resubmit show 1N3QK5Z8G4000 --raw > mail.eml": "the bytes as journaled",
        },
    ),
}
