"""Messages as files that other programs read: mbox, and the Replay folder of an Exchange server. Pure.

Source: RFC 4155 (mbox) with the quoting of mboxrd; Microsoft, *Pickup directory and Replay directory*
(Exchange Server). Limits: in an mbox lines end in LF; of MAIL's parameters a Replay file carries BODY, RET
and ENVID, of RCPT's NOTIFY and ORCPT.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from email.utils import format_datetime

from resubmit.model.envelope import parameter
from resubmit.model.moment import Ms, to_datetime

_FROM = re.compile(rb"^>*From ")
_UNSAFE = re.compile(r"[^\x21-\x7e]")


def mbox(pieces: Iterable[bytes], sender: str, at: Ms) -> Iterator[bytes]:
    """A message as an mbox has it: its From line, its lines with LF, and an empty one.

    `sender`: the reverse-path, "" for the null one; `at`: when it was taken.
    """
    who = _UNSAFE.sub("_", sender) or "MAILER-DAEMON"
    yield f"From {who} {to_datetime(at):%a %b %d %H:%M:%S %Y}\n".encode()
    last = b"\n"
    for line in _lines(pieces):
        last = line
        yield b">" + line if _FROM.match(line) else line
    yield b"\n" if last.endswith(b"\n") else b"\n\n"


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Lines with LF for CRLF, whole however the pieces were cut."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line.removesuffix(b"\r") + b"\n" for line in whole)
    if rest:
        yield rest


def replay_head(
    sender: str,
    parameters: tuple[str, ...],
    recipients: Sequence[tuple[str, tuple[str, ...]]],
    shown: str,
    at: Ms,
) -> bytes:
    """What stands on top of a message in a Replay file: its envelope, and a Received field that ends it.

    The server takes X-Sender and X-Receiver fields for the envelope as long as they come first; the Received
    field sees to it that none of the message's own is among them. `shown`: the message's id; `at`: now.
    """
    lines = [" ".join([f"X-Sender: <{sender}>", *_kept(parameters, ("BODY", "RET", "ENVID"))])]
    for address, its in recipients:
        notify = _kept(its, ("NOTIFY",))
        original = parameter(its, "ORCPT")
        orcpt = [f"ORcpt={original.partition(';')[2]}"] if original and ";" in original else []
        lines.append(" ".join([f"X-Receiver: <{address}>", *notify, *orcpt]))
    lines.append("X-CreatedBy: resubmit")
    lines.append(f"Received: by resubmit with LOCAL id {shown};")
    lines.append(f"\t{format_datetime(to_datetime(at))}")
    return "".join(f"{_one_line(line)}\r\n" for line in lines).encode("utf-8", "replace")


def _kept(parameters: tuple[str, ...], names: Sequence[str]) -> list[str]:
    return [f"{name}={value}" for name in names if (value := parameter(parameters, name))]


def _one_line(text: str) -> str:
    """Nothing of an envelope can begin a field of its own."""
    return re.sub(r"[\r\n\0]", "", text)
