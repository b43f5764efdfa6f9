"""A client for the pure dialogue: feeds octets cut any way, answers what is asked, keeps what came out."""

from __future__ import annotations

from collections.abc import Iterable

from resubmit.errors import Refused
from resubmit.intake import events
from resubmit.intake.dialogue import Dialogue, Terms

ID = "01ABCDEFGHJKM"
TERMS = Terms("mx.test", 1000, max_recipients=3)


class Talk:
    """`said` is what the client hears; `bodies` those of the messages that were complete, in order."""

    def __init__(self, terms: Terms = TERMS, *, full: bool = False, lazy: bool = False) -> None:
        self.dialogue = Dialogue(terms)
        self.full = full
        self.lazy = lazy
        self.said = b""
        self.heard = 0
        self.messages: list[events.Message] = []
        self.bodies: list[bytes] = []
        self.asked: list[events.Event] = []
        self.chunks: list[bytes] = []
        self.drops = 0
        self.closed = False
        self.handshakes = 0
        self.final: Refused | None = None
        self.turn()

    def send(self, octets: bytes, pieces: Iterable[int] | None = None) -> bytes:
        """Feeds it, whole or in pieces of these lengths; returns what was said since the last call."""
        if pieces is None:
            self.dialogue.feed(octets)
            self.turn()
        else:
            at = 0
            for length in pieces:
                self.dialogue.feed(octets[at : at + length])
                self.turn()
                at += length
            self.dialogue.feed(octets[at:])
            self.turn()
        return self.take()

    def take(self) -> bytes:
        said, self.heard = self.said[self.heard :], len(self.said)
        return said

    def turn(self) -> None:
        while (event := self.dialogue.next()) is not None:
            assert not self.closed, f"{event} after the close"
            match event:
                case events.Say():
                    self.said += event.octets
                case events.Chunk():
                    assert event.octets
                    self.chunks.append(event.octets)
                case events.Drop():
                    self.drops += 1
                    self.chunks.clear()
                case events.Close():
                    self.closed = True
                case events.Handshake():
                    self.handshakes += 1
                case events.Message():
                    self.messages.append(event)
                    self.bodies.append(b"".join(self.chunks))
                    self.chunks.clear()
                    if self.lazy:
                        continue
                    if self.final is None:
                        self.dialogue.journaled(ID)
                    else:
                        self.dialogue.refuse(self.final)
                case _:
                    self.asked.append(event)
                    if not self.lazy:
                        self.answer(event)

    def answer(self, event: events.Event) -> None:
        if isinstance(event, events.AskRecipient) and event.address.startswith("nobody@"):
            self.dialogue.refuse(Refused(550, "5.1.1", "no such recipient"))
        elif isinstance(event, events.AskSender | events.AskBody) and self.full:
            self.dialogue.refuse(Refused(452, "4.3.1", "no room"))
        else:
            self.dialogue.proceed()


def stuffed(body: bytes) -> bytes:
    """A body as a client sends it after 354, by RFC 5321 §4.5.2, line by line: nothing shared with ours."""
    wire = bytearray()
    if body:
        lines = body.split(b"\r\n")
        assert lines[-1] == b"", "a body for DATA ends in CRLF"
        for line in lines[:-1]:
            wire += b"." if line[:1] == b"." else b""
            wire += line + b"\r\n"
    return bytes(wire + b".\r\n")
