"""`explain`: what a file or a reply says. Reads nothing else, changes nothing, needs no config."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

from resubmit.cli.commands import Command
from resubmit.cli.output import Output, json_text, when
from resubmit.cli.reading import add_output, now_ms
from resubmit.cli.table import clean
from resubmit.cli.zones import zone_of
from resubmit.errors import UsageError
from resubmit.evidence.base import Item, Reading
from resubmit.evidence.kinds.smtp_reply import explained
from resubmit.evidence.reader import explain_file, sniff
from resubmit.meaning.table import known
from resubmit.model.evidence import Evidence, Unreadable
from resubmit.view.evidence import evidence_object


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="files; a reply or log line itself, in quotes; - is stdin"
    )
    parser.add_argument("--timezone", metavar="TZ", default="UTC", help="of stamps without a zone (UTC)")
    add_output(parser)


def _run(args: argparse.Namespace) -> int:
    out = Output(as_json=args.json)
    zone = zone_of(args.timezone)
    now = now_ms()
    read = unreadable = 0
    for name in args.files:
        for item in _items(name, zone, now):
            if isinstance(item, Unreadable):
                unreadable += 1
                place = f" {item.place}" if item.place else ""
                out.note(f"{item.file}{place}: {item.reason}")
                continue
            read += 1
            if out.as_json:
                out.line(json_text(evidence_object(item)))
            else:
                if read > 1:
                    out.line()
                _show(item, out)
    return 0 if not unreadable else 5 if read else 1


def _items(name: str, zone: ZoneInfo, now: int) -> Iterator[Item]:
    if name == "-":
        yield from explain_file(sys.stdin.buffer, "-", timezone=zone, now=now)
        return
    if not _is_there(name):
        if " " not in name.strip():
            raise UsageError(f"{name}: no such file", hint="a reply is given in quotes, with its text")
        yield from _of_text(name, zone, now)
        return
    if Path(name).is_dir():
        raise UsageError(f"{name}: a folder", hint=f"name its files: {name}/*")
    with Path(name).open("rb") as file:
        yield from explain_file(file, name, timezone=zone, now=now)


def _of_text(text: str, zone: ZoneInfo, now: int) -> Iterator[Item]:
    """What a pasted text says: a line of a log or the like, else a reply."""
    octets = text.encode("utf-8", "surrogateescape")
    if sniff(octets, "") in (None, "smtp_reply"):
        yield explained(text, Reading(""))
    else:
        yield from explain_file(io.BytesIO(octets), "text", timezone=zone, now=now)


def _is_there(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # too long to be a name, or a NUL in it
        return False


def _show(evidence: Evidence, out: Output) -> None:
    meaning = evidence.meaning
    code = " ".join(str(word) for word in (evidence.code, evidence.enhanced_code) if word)
    facts = [
        ("Says", evidence.status.value + (f", cause {meaning.cause}" if meaning else "")),
        ("Of", evidence.recipient),
        ("From", evidence.sender),
        ("Message-ID", evidence.message_id),
        ("Network id", evidence.network_message_id),
        ("Envelope id", evidence.envelope_id),
        ("Queue id", evidence.queue_id),
        ("At", when(evidence.observed_at) if evidence.observed_at is not None else ""),
        ("Code", code),
        ("Remote", evidence.remote),
        ("Held by", evidence.holder.value if evidence.holder else ""),
        ("Source", " ".join(filter(None, (evidence.source, evidence.file, evidence.place)))),
    ]
    for name, value in facts:
        if value:
            out.line(f"{name + ':':<13}{clean(value)}")
    if evidence.text:
        out.text(f"“{evidence.text}”", "  ")
    if meaning and meaning.sign in known():
        out.text(known()[meaning.sign].what, "  ")
    if meaning and meaning.advice:
        out.text(f"→ {meaning.advice}", "  ")


COMMANDS = {
    "explain": Command(
        _add,
        _run,
        "What a trace, bounce, log, TLS report or SMTP reply says: source, recipient, status, cause, and\n"
        "what to do; a reply or a line of a log can be pasted in quotes.\n"
        "Reads nothing else, changes nothing, needs no config.",
        {
            "resubmit explain MessageTrace.csv": "",
            "resubmit explain '450 4.7.320 Certificate validation failed'": "",
            "resubmit explain trace.csv --timezone Europe/Berlin --json": "",
        },
    ),
}
