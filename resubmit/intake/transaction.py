"""One mail transaction: what the client has said of it so far.

Source: RFC 5321 §3.3 (order), RFC 3030 §2 and §4.2 (chunks, and what a failed one leaves behind).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from resubmit.errors import Refused
from resubmit.intake.content import Chunked, Dotted
from resubmit.intake.parameters import MailParameters
from resubmit.model.envelope import Envelope, EnvelopeRecipient


@dataclass(slots=True)
class Transaction:
    """`sender` is None before MAIL. `body` is there once it is begun. `failure` is why a chunk was refused:
    everything but RSET is in vain then; `told`: the client has heard it. `dropped`: what was given out of
    the body was called back. `complete`: the answer to the whole is due."""

    sender: str | None = None
    parameters: MailParameters = field(default_factory=MailParameters)
    recipients: dict[EnvelopeRecipient, None] = field(default_factory=dict)  # in order, each once
    in_chunks: bool = False
    body: Dotted | Chunked | None = None
    failure: Refused | None = None
    told: bool = False
    dropped: bool = False
    complete: bool = False

    def envelope(self) -> Envelope:
        """The envelope as it is journaled."""
        return Envelope(self.sender or "", self.parameters.words, tuple(self.recipients))

    def need_sender(self) -> None:
        """Refused 503 before MAIL."""
        if self.sender is None:
            raise Refused(503, "5.5.1", "MAIL must come first")

    def need_recipients(self) -> None:
        """Refused before a body may come: 503 without MAIL, 554 when no RCPT was taken."""
        self.need_sender()
        if not self.recipients:
            raise Refused(554, "5.5.1", "no valid recipients")

    def need_no_chunks(self) -> None:
        """Refused 503 once a BDAT was begun."""
        if self.in_chunks:
            raise Refused(503, "5.5.1", "BDAT was begun")

    def protocol(self, extended: bool, secure: bool) -> str:
        """How the message came, by the registered names (RFC 3848, RFC 6531 §4.3)."""
        if not extended:
            return "SMTP"
        return ("UTF8SMTP" if self.parameters.smtputf8 else "ESMTP") + ("S" if secure else "")
