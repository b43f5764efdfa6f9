"""What one look saw, without opinion.

`Seen` keeps every raw observation: reply lines as octets, what lay behind the 220 to STARTTLS, alerts,
OpenSSL's own verdict, the whole chain as sent (also when the handshake failed), times. `findings` names
them; nothing here says good or bad.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from resubmit.model.moment import Ms
from resubmit.model.tls import Endpoint

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_TEXT_CEILING = 300
NULL_SENDER = "MAIL FROM:<>"
"""What a look says as sender: no address of ours is named, and no bounce can come of it."""


class Step(StrEnum):
    """The steps of a look, in their order."""

    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    HELO = "helo"
    CLEAR_MAIL = "clear_mail"
    """MAIL in clear where TLS is wanted and STARTTLS is not offered: its refusal says why."""
    STARTTLS = "starttls"
    HANDSHAKE = "handshake"
    TLS_EHLO = "tls_ehlo"
    MAIL = "mail"
    RCPT = "rcpt"
    RSET = "rset"
    QUIT = "quit"


class How(StrEnum):
    """How a conversation came to its end before it was over."""

    TIMEOUT = "timeout"
    CLOSED = "closed"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    """The far host or its network does not answer, so a router says."""
    OWN = "own"
    """This machine could not: no route of that family, no local port, not permitted."""
    NOT_A_REPLY = "not_a_reply"
    TOO_MUCH = "too_much"
    LEFTOVER = "leftover"
    """Octets lay behind the 220 to STARTTLS before the handshake began."""
    TLS = "tls"
    """OpenSSL stopped it; the handshake holds its words."""


def clean(octets: bytes | str, ceiling: int = _TEXT_CEILING) -> str:
    """Far text fit for a terminal, a log and UTF-8: no control characters, at most `ceiling` characters."""
    text = octets.decode("utf-8", "replace") if isinstance(octets, bytes) else octets
    text = _CONTROLS.sub(" ", text).encode("utf-8", "replace").decode("utf-8").strip()
    return text if len(text) <= ceiling else text[: ceiling - 1] + "…"


@dataclass(frozen=True, slots=True)
class Answer:
    """One reply: its lines as they came, without line ends. `code`: that of the last line."""

    step: Step
    code: int
    lines: tuple[bytes, ...]
    took: Ms

    @property
    def positive(self) -> bool:
        """Whether EHLO, HELO, MAIL or RCPT is taken (RFC 5321 §4.3.2): a 221 would be another's answer."""
        return 250 <= self.code < 260

    def text(self) -> str:
        """The reply on one line for people, its code first."""
        rest = " ".join(line[4:].decode("utf-8", "replace") for line in self.lines)
        return clean(f"{self.code} {rest}")


@dataclass(frozen=True, slots=True)
class Stop:
    """Where and how the conversation ended early; `detail` in the system's or OpenSSL's words."""

    step: Step
    how: How
    detail: str = ""
    partial: bytes = b""
    """What had come of a reply that never was complete (its start)."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """A TLS handshake, done or not.

    verified: OpenSSL accepted the chain over our roots (dates aside: those are judged by our own clock).
    verify_code: OpenSSL's X509_V_ERR_* when it did not. reason: its error, `WRONG_VERSION_NUMBER` and such.
    chain: DER as sent, leaf first as sent. opening: the first octets that came after our hello.
    """

    done: bool
    verified: bool = False
    protocol: str = ""
    cipher: str = ""
    chain: tuple[bytes, ...] = ()
    verify_code: int | None = None
    verify_message: str = ""
    reason: str = ""
    alerts: tuple[str, ...] = ()
    certificate_requested: bool = False
    opening: bytes = b""
    took: Ms = 0


@dataclass(frozen=True, slots=True)
class AddressSeen:
    """What was seen at one address; `took`: how long each step lasted.

    clear: the second conversation, without TLS, where TLS failed and the level lets mail go in clear.
    anything: one up to the handshake that offered every version and cipher, after a failure; documented: one
    that offered only what Exchange Online documents, where another suite or key came of the first."""

    address: str
    family: str
    connected: bool
    answers: tuple[Answer, ...] = ()
    leftover: bytes = b""
    handshake: Handshake | None = None
    stop: Stop | None = None
    took: tuple[tuple[Step, Ms], ...] = ()
    clear: AddressSeen | None = None
    anything: AddressSeen | None = None
    documented: AddressSeen | None = None

    @property
    def shown(self) -> Handshake | None:
        """The handshake whose certificates count: the first, else the one that offered everything."""
        second = self.anything.handshake if self.anything else None
        has_chain = self.handshake is not None and self.handshake.chain
        return second if second is not None and second.chain and not has_chain else self.handshake

    @property
    def lacks_tls(self) -> bool:
        """Whether STARTTLS was offered and TLS could not be had."""
        answer = self.answer(Step.STARTTLS)
        refused = answer is not None and answer.code != 220
        return refused or (self.stop is not None and self.stop.step in (Step.STARTTLS, Step.HANDSHAKE))

    def answer(self, step: Step) -> Answer | None:
        """The reply at a step, None when none came."""
        return next((a for a in self.answers if a.step is step), None)


@dataclass(frozen=True, slots=True)
class Unresolved:
    """The name gave no address. `ours`: our resolver failed; else the name does not exist."""

    ours: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at every address of a name. `roots`: name and date of the list it was verified against."""

    endpoint: Endpoint
    at: Ms
    timeout: Ms
    addresses: tuple[AddressSeen, ...]
    unresolved: Unresolved | None = None
    roots: str = ""
    left_out: int = 0
    """Addresses beyond the ceiling, not looked at."""


def keywords(answer: Answer | None) -> tuple[str, ...]:
    """The EHLO keywords of a reply in capitals, without parameters (RFC 5321 §4.1.1.1)."""
    if answer is None or not answer.positive:
        return ()
    words = (line[4:].decode("ascii", "replace").split() for line in answer.lines[1:])
    return tuple(clean(found[0]).upper() for found in words if found)


def greeted_as(answer: Answer | None) -> str:
    """The name a server gives itself in its EHLO reply, lower case; "" when it gives none."""
    if answer is None or not answer.positive:
        return ""
    words = answer.lines[0][4:].split()
    return clean(words[0], 255).rstrip(".").lower() if words else ""
