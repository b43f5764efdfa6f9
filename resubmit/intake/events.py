"""What comes out of a dialogue, in the order it is to be acted on.

An `Ask…` or a `Message` is answered before anything else comes out.
"""

from __future__ import annotations

from dataclasses import dataclass

from resubmit.model.envelope import Envelope


@dataclass(frozen=True, slots=True)
class Say:
    """Octets for the client."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class AskSender:
    """MAIL was read: may a message come in now? `size` as declared."""

    sender: str
    size: int | None


@dataclass(frozen=True, slots=True)
class AskRecipient:
    """RCPT was read: may it be sent to?"""

    address: str


@dataclass(frozen=True, slots=True)
class AskBody:
    """DATA or the first BDAT was read: is there room for a body?"""


@dataclass(frozen=True, slots=True)
class AskTls:
    """STARTTLS was read. Proceed, and `Handshake` comes unless the client has sent more already."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Octets of the body: dots taken away, line ends right."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Drop:
    """What came as chunks is void; what still comes of it is not given out."""


@dataclass(frozen=True, slots=True)
class Message:
    """The body is complete. Answer with `journaled` or `refuse`."""

    envelope: Envelope
    helo: str
    protocol: str


@dataclass(frozen=True, slots=True)
class Handshake:
    """Say what is to be said, do the TLS handshake, then call `secured`."""


@dataclass(frozen=True, slots=True)
class Close:
    """Say what is to be said, then close. Nothing comes after it."""


Event = Say | AskSender | AskRecipient | AskBody | AskTls | Chunk | Drop | Message | Handshake | Close

Question = AskSender | AskRecipient | AskBody | AskTls
