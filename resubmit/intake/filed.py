"""A message in a file, and the envelope that goes with it. Pure.

The envelope is what was given; else the X-Sender and X-Receiver lines on top of a file for Exchange's Replay
or Pickup folder or from IIS' Drop (they are no part of the message); else, where the asker allows it, what
the header says: Delivered-To and its kin, or To and Cc. Bcc is never used: whom it names the others must not
see.

Source: Microsoft, *Pickup directory and Replay directory* (Exchange Server); RFC 5321 §4.1.2; RFC 5322 §3.6.
Limits: of the parameters in an X-Sender or X-Receiver line those that break their RFC are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import getaddresses

from resubmit.errors import Refused
from resubmit.intake.content import Sieve
from resubmit.intake.parameters import read_mail, read_recipient
from resubmit.intake.paths import read_path
from resubmit.model.envelope import Envelope, EnvelopeRecipient, address_key

HEAD = 256 * 1024
"""So much of a file is looked at for its envelope."""

_INJECTED = re.compile(
    rb"(X-Sender|X-Receiver|X-CreatedBy|X-EndOfInjectedXHeaders|X-ExtendedMessageProps|X-HeloDomain|X-Source"
    rb"|X-SourceIPAddress|X-HeadersVersion)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)\n",
    re.IGNORECASE,
)
_MBOX_LINE = re.compile(rb"From [^\n]*\n")
_FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)", re.MULTILINE)
_BRACKETED = re.compile(r"\s*<([^<>]*)>(.*)", re.DOTALL)
_HAD = (b"x-original-to", b"envelope-to", b"delivered-to")
"""Who a delivered copy was for, the most exact first."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the asker says. sender: None where it is for the file to say; headers: whether its header may."""

    sender: str | None = None
    recipients: tuple[str, ...] = ()
    headers: bool = False


@dataclass(frozen=True, slots=True)
class Filed:
    """The envelope of a file, and how many of its first octets are no part of the message."""

    envelope: Envelope
    skip: int


def read(head: bytes, given: Given) -> Filed:
    """The envelope of a file that begins so. Refused says what is wrong with it, or that it has none."""
    skip = found.end() if (found := _MBOX_LINE.match(head)) else 0
    sender: tuple[str, str] | None = None
    receivers: list[tuple[str, str]] = []
    at = skip
    while field := _INJECTED.match(head, at):
        name, value = field[1].lower(), _text(field[2])
        if name == b"x-sender":
            if sender is not None:
                raise Refused(501, "5.5.4", "it has more than one X-Sender")
            sender = _split(value)
        elif name == b"x-receiver":
            receivers.append(_split(value))
        at = field.end()
    if sender is not None or receivers:
        skip = at
    fields = _fields(head[skip:])
    wanted = [(one, "") for one in given.recipients] or receivers
    if not wanted and given.headers:
        wanted = [(address, "") for address in _named(fields)]
    if not wanted:
        raise Refused(
            550, "5.1.3", "no envelope in it; name the recipients with --to, or take them by --headers"
        )
    path, words = (given.sender, "") if given.sender is not None else sender or (_sender(fields), "")
    parameters = _mail(words)
    utf8 = not "".join([path, *(address for address, _ in wanted)]).isascii()
    if utf8:
        parameters = (*parameters, "SMTPUTF8")
    recipients: dict[str, EnvelopeRecipient] = {}
    for address, said in wanted:
        whole = _path(address, sender=False)
        recipients.setdefault(address_key(whole), EnvelopeRecipient(whole, _rcpt(said, utf8)))
    return Filed(Envelope(_path(path, sender=True), parameters, tuple(recipients.values())), skip)


def lines(pieces: Iterator[bytes], limit: int) -> Iterator[bytes]:
    """The octets with CRLF at every line's end, as mail has it. Refused above `limit` octets."""
    sieve = Sieve(limit, "crlf")
    rest, last = b"", b""
    for piece in pieces:
        octets = rest + piece
        rest = octets[-1:] if octets.endswith(b"\r") else b""  # a CRLF is never cut in two
        kept = sieve.sift(octets[: len(octets) - len(rest)])
        if sieve.fault:
            raise sieve.fault
        last = kept[-2:] or last
        yield kept
    end = sieve.sift(rest) or b""
    last = end or last
    yield end if last.endswith(b"\r\n") or not last else end + b"\r\n"


def _fields(head: bytes) -> list[tuple[bytes, str]]:
    block = re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0]
    return [(field[1].lower(), _text(field[2])) for field in _FIELD.finditer(block)]


def _named(fields: Sequence[tuple[bytes, str]]) -> list[str]:
    """Who the header says the message is for."""
    for name in _HAD:
        if had := [value for field, value in fields if field == name]:
            return [had[0].strip().removeprefix("<").removesuffix(">")]
    return [address for _, address in getaddresses([v for f, v in fields if f in (b"to", b"cc")]) if address]


def _sender(fields: Sequence[tuple[bytes, str]]) -> str:
    """Whom a bounce goes to: the Return-Path, else who wrote it."""
    for name in (b"return-path", b"sender", b"from"):
        for field, value in fields:
            if field == name:
                if name == b"return-path":
                    return value.strip().removeprefix("<").removesuffix(">").strip()
                found = getaddresses([value])
                if found and found[0][1]:
                    return found[0][1]
    return ""


def _split(value: str) -> tuple[str, str]:
    """`<a@b> BODY=7bit`, or a bare `a@b`: the address, and what follows it."""
    if found := _BRACKETED.fullmatch(value):
        return found[1].strip(), found[2].strip()
    address, _, rest = value.strip().partition(" ")
    return address, rest.strip()


def _path(address: str, *, sender: bool) -> str:
    """The address, read as strictly as one in MAIL or RCPT."""
    path, rest = read_path(f"<{address}>", sender=sender)
    if rest:
        raise Refused(501, "5.1.7" if sender else "5.1.3", "bad address syntax")
    return path


def _mail(words: str) -> tuple[str, ...]:
    kept: list[str] = []
    for word in words.split():
        name, _, value = word.partition("=")
        known = (
            f"{name.upper()}={value.upper()}"
            if name.upper() in ("BODY", "RET")
            else f"{name.upper()}={value}"
        )
        if name.upper() in ("BODY", "RET", "ENVID") and _is_good(lambda w=known: read_mail(f" {w}")):
            kept.append(known)
    return tuple(kept)


def _rcpt(words: str, utf8: bool) -> tuple[str, ...]:
    kept: list[str] = []
    for word in words.split():
        name, _, value = word.partition("=")
        if name.upper() == "ORCPT" and ";" not in value:  # written without its type in such files
            value = f"rfc822;{value}"
        known = f"{name.upper()}={value}"
        if name.upper() in ("NOTIFY", "ORCPT") and _is_good(lambda w=known: read_recipient(f" {w}", utf8)):
            kept.append(known)
    return tuple(kept)


def _is_good(read_it: object) -> bool:
    try:
        read_it()  # type: ignore[operator]
    except Refused:
        return False
    return True


def _text(value: bytes) -> str:
    return re.sub(r"\r?\n", "", value.decode("utf-8", "replace")).strip()
