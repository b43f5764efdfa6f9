"""What a scripted SMTP server says and does, and the mail it was given.

A script is data: replies as text, octets or callables, and the step at which it cuts or falls silent.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from resubmit.model.moment import Ms

Reply: TypeAlias = str | bytes
"""Text: `250 2.1.0 ok`, more lines behind \\n (the code is put on each). Bytes go out word for word."""

STEPS = (
    "connect",  # accepted, and then nothing
    "greeting",  # in the middle of the greeting
    "ehlo",  # at EHLO or HELO
    "starttls",  # at STARTTLS, before its 220
    "handshake",  # after the 220, before the handshake
    "ehlo_after_tls",
    "mail",
    "rcpt",
    "before_354",  # at DATA
    "in_body",  # after `after` octets of the body
    "after_dot",  # the whole mail is there, its reply is not
)
"""Where a script may cut or hang."""


class Cut(Exception):
    """Raised by a script's callable: the connection is dropped there, without a reply."""


class Hang(Exception):
    """Raised by a script's callable: silence from there on, until the client goes."""


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail as it came: envelope words verbatim, `data` with the dots of transparency taken off.

    `tls` is "" without TLS, else version and cipher. `connection` counts from 1.
    """

    sender: str
    parameters: tuple[str, ...]
    recipients: tuple[tuple[str, tuple[str, ...]], ...]
    data: bytes
    at: Ms
    tls: str
    peer: str
    helo: str = ""
    connection: int = 0
    user: str = ""

    def header(self, name: str) -> str:
        """The first header field of that name, unfolded; "" when there is none."""
        return header(self.data, name)


@dataclass
class Script:
    """What the server says and does. Each reply may be a callable; async ones are awaited.

    A reply that starts with 421 closes the connection; an empty one is never sent. `cut` and `hang` name one
    of STEPS; `times` is how often they are played (0: always), after that the server behaves.
    """

    name: str = "lab.invalid"
    greeting: Reply = ""
    keywords: list[str] = field(
        default_factory=lambda: [
            "PIPELINING",
            "SIZE 157286400",
            "8BITMIME",
            "ENHANCEDSTATUSCODES",
            "DSN",
            "SMTPUTF8",
        ]
    )
    ehlo: Reply | Callable[[str], Reply | Awaitable[Reply]] = ""
    """Instead of the usual answer to EHLO; gets the client's name."""
    mail: Reply | Callable[[str], Reply | Awaitable[Reply]] = "250 2.1.0 Sender OK"
    rcpt: Reply | Callable[[str], Reply | Awaitable[Reply]] = "250 2.1.5 Recipient OK"
    data: Reply = "354 Start mail input; end with <CRLF>.<CRLF>"
    dot: Reply | Callable[[Mail], Reply | Awaitable[Reply]] = "250 2.0.0 taken"
    rset: Reply = "250 2.0.0 reset"
    quit: Reply = "221 2.0.0 bye"
    starttls: bool = True
    """Whether STARTTLS is offered, where the server has a context."""
    starttls_reply: Reply = "220 2.0.0 SMTP server ready"
    require_tls: bool = False
    users: dict[str, str] = field(default_factory=dict)
    """Name to password; when there are any, AUTH is offered."""
    cut: str = ""
    hang: str = ""
    times: int = 0
    after: int = 1
    """Octets of the body before `in_body` and `early` are played."""
    taken_when_cut: bool = True
    """Whether a mail whose reply was cut or held back after the dot counts as taken."""
    early: Reply = ""
    """Said in the middle of the body. The rest is read and forgotten, then the connection is closed."""
    plaintext_after_starttls: bytes = b""
    """Put behind the 220 of STARTTLS, before the handshake."""
    banner_flood: int = 0
    """So many greeting lines before the last one."""
    one_byte_writes: bool = False
    delays: dict[str, Ms] = field(default_factory=dict)
    """How long to wait before the reply of a step of STEPS."""


def wire(reply: Reply) -> bytes:
    """A reply as it goes out: lines with CRLF, the first line's code on each."""
    if isinstance(reply, bytes):
        return reply
    lines = reply.split("\n")
    code = lines[0][:3]
    bare = [line[4:] if line[:3] == code and line[3:4] in ("-", " ") else line for line in lines]
    out = [f"{code}{'-' if i < len(bare) - 1 else ' '}{text}" for i, text in enumerate(bare)]
    return "\r\n".join(out).encode("utf-8", "surrogateescape") + b"\r\n"


def header(data: bytes, name: str) -> str:
    """The first header field of that name, unfolded; "" when there is none."""
    head = data.partition(b"\r\n\r\n")[0].decode("utf-8", "surrogateescape")
    found = re.search(rf"(?mi)^{re.escape(name)}:[ \t]*((?:.*\r\n[ \t])*.*?)\r?$", head)
    return re.sub(r"\r\n(?=[ \t])", "", found[1]).strip() if found else ""


def path(rest: str) -> tuple[str, tuple[str, ...]]:
    """`FROM:<a@x> SIZE=1` → the address without brackets and the parameters verbatim."""
    found = re.match(r"(?i)(?:FROM|TO):\s*(?:<((?:\"(?:\\.|[^\"\\])*\"|[^>\"])*)>|(\S*))\s*(.*)", rest)
    if not found:
        return "", ()
    return found[1] if found[1] is not None else found[2], tuple(found[3].split())


def is_good(reply: Reply) -> bool:
    """Whether it is a 2xx."""
    return wire(reply)[:1] == b"2"


async def asked(answer: Any, argument: Any) -> Reply:
    """The reply itself, from a reply, a callable or an async one."""
    if callable(answer):
        answer = answer(argument)
        if inspect.isawaitable(answer):
            answer = await answer
    reply: Reply = answer
    return reply
