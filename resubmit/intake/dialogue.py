"""The server's side of an SMTP session as a pure machine: octets in, events and replies out.

No I/O, no clock. The caller feeds octets, cut any way, and takes one event after the other with `next`.
What the outside decides (is there room, may this recipient be sent to, is it journaled) comes out as an
`Ask…` event or a `Message`; until it is answered with `proceed`, `refuse` or `journaled`, nothing more comes
out, so pipelined commands wait in order. The body comes out in chunks as it arrives and is never held.

Promises: any octets give events and replies, never an exception. Only CRLF.CRLF ends DATA. Nothing said
before TLS is remembered inside it, and an octet between STARTTLS and the handshake ends the session.

Source: RFC 5321; 2920 PIPELINING; 1870 SIZE; 6152 8BITMIME; 6531 SMTPUTF8; 3461 DSN; 2034 enhanced codes;
3030 CHUNKING; 3207 STARTTLS.
Limits: BINARYMIME is not offered, because the next hop may not take it and octets are never recoded. VRFY
and EXPN tell nothing. No AUTH.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from resubmit.errors import Refused
from resubmit.intake.content import Chunked, Dotted, Sieve, too_large
from resubmit.intake.events import (
    AskBody,
    AskRecipient,
    AskSender,
    AskTls,
    Chunk,
    Close,
    Drop,
    Event,
    Handshake,
    Message,
    Question,
    Say,
)
from resubmit.intake.inlet import Inlet
from resubmit.intake.parameters import read_mail, read_recipient
from resubmit.intake.paths import read_path
from resubmit.intake.transaction import Transaction
from resubmit.model.envelope import EnvelopeRecipient

ERROR_LIMIT = 20
"""Protocol errors since the last message taken, after which the session ends with 421."""
REPLY_LIMIT = 510  # and CRLF

_BDAT = re.compile(r"([0-9]{1,20})(?: +(LAST))? *", re.IGNORECASE)
_CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_OFFERED = frozenset({"EXPN", "AUTH", "ETRN", "TURN", "SEND", "SOML", "SAML", "XCLIENT", "XFORWARD"})
# A web page can make a browser post to a port on its own machine; no mail client starts like this.
_NOT_MAIL = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "CONNECT", "HOST:"})


@dataclass(frozen=True, slots=True)
class Terms:
    """What this server offers and how far it goes. Sizes in octets; `bare_newline`: `reject` or `crlf`;
    `tls`: a certificate is there."""

    hostname: str
    max_message_size: int
    max_recipients: int = 1000
    bare_newline: str = "reject"
    tls: bool = False


_ASK_BODY, _ASK_TLS, _DROP, _HANDSHAKE, _CLOSE = AskBody(), AskTls(), Drop(), Handshake(), Close()
_GO_AHEAD = Say(b"354 end with <CR><LF>.<CR><LF>\r\n")
_SENDER_TAKEN = Say(b"250 2.1.0 sender taken\r\n")
_RECIPIENT_TAKEN = Say(b"250 2.1.5 recipient taken\r\n")


class Dialogue:
    """One session. Its first event is the greeting."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._inlet = Inlet()
        self._events: deque[Event] = deque()
        self._read: Callable[[], bool] = self._read_command
        self._question: Question | None = None  # an answer from outside is due
        self._open = True
        self._secure = False
        self._errors = 0
        self._helo = ""
        self._extended = False
        self._mail = Transaction()
        self._recipient = EnvelopeRecipient("")  # the one that is asked about
        self._chunk_size = self._chunk_left = 0
        self._chunk_last = False
        self._chunk_fault: Refused | None = None  # this chunk came out of order
        self._events.append(Say(f"220 {terms.hostname} ESMTP resubmit\r\n".encode()))

    # ── the caller's side ─────────────────────────────────────────────────────────────────────────

    @property
    def in_message(self) -> bool:
        """The client is sending a body that may still be taken, or waits for the answer to one."""
        return self._open and self._mail.body is not None and self._mail.failure is None

    @property
    def waiting_octets(self) -> int:
        """How much was fed and not yet used."""
        return len(self._inlet)

    def feed(self, octets: bytes) -> None:
        """The client sent these."""
        if self._open:
            self._inlet.feed(octets)

    def next(self) -> Event | None:
        """The next event; None when more octets, or an answer, must come first."""
        while not self._events:
            if self._question is not None or self._mail.complete or not self._open or not self._read():
                return None
        return self._events.popleft()

    def proceed(self) -> None:
        """The answer to an `Ask…`: yes."""
        question, self._question = self._question, None
        if isinstance(question, AskRecipient):
            self._mail.recipients[self._recipient] = None
            self._events.append(_RECIPIENT_TAKEN)
        elif isinstance(question, AskSender):
            self._mail.sender = question.sender
            self._events.append(_SENDER_TAKEN)
        elif isinstance(question, AskBody):
            sieve = Sieve(self._terms.max_message_size, self._terms.bare_newline)
            if self._mail.in_chunks:
                self._mail.body = Chunked(sieve)
                self._read = self._read_chunk
            else:
                self._mail.body = Dotted(sieve)
                self._read = self._read_data
                self._events.append(_GO_AHEAD)
        elif isinstance(question, AskTls):
            self._read = self._read_injected
            if not len(self._inlet):
                self._say(220, "2.0.0", "ready for TLS")
                self._events.append(_HANDSHAKE)

    def refuse(self, refusal: Refused) -> None:
        """The answer to an `Ask…` or a `Message`: no, and why."""
        question, self._question = self._question, None
        if isinstance(question, AskBody) and self._mail.in_chunks:
            self._mail.failure = refusal  # said when the chunk is over
            self._read = self._read_chunk
            return
        if self._mail.complete or isinstance(question, AskSender):
            self._forget()
        self._say(refusal.code, refusal.enhanced, refusal.text)
        if refusal.code in (421, 521):
            self._end()

    def journaled(self, id_text: str) -> None:
        """The answer to a `Message`: it is durable, and this is its id."""
        self._forget()
        self._errors = 0
        self._events.append(Say(b"250 2.0.0 %b journaled\r\n" % id_text.encode()))

    def secured(self) -> None:
        """The handshake is done: everything that was said before it is forgotten (RFC 3207 §4.2)."""
        self._forget()
        self._secure = True
        self._helo = ""
        self._errors = 0
        self._inlet.clear()

    def hang_up(self, code: int, enhanced: str, text: str) -> None:
        """The server ends the session, at any moment (RFC 5321 §3.8)."""
        if self._open:
            self._say(code, enhanced, text)
            self._end()

    # ── commands ──────────────────────────────────────────────────────────────────────────────────

    def _read_command(self) -> bool:
        line = self._inlet.line()
        if line is None:
            return False
        if not line:
            self._wrong(500, "5.5.2", "line too long")
        elif line[-2:] != b"\r\n" or _CONTROLS.search(line, 0, len(line) - 2):
            self._wrong(500, "5.5.2", "a command is one line without control characters, ended by CRLF")
        else:
            try:
                self._obey(line[:-2].decode())
            except UnicodeDecodeError:
                self._wrong(501, "5.5.2", "neither ASCII nor UTF-8")
            except Refused as refusal:
                self._wrong(refusal.code, refusal.enhanced, refusal.text)
        return True

    def _obey(self, line: str) -> None:
        word, _, argument = line.partition(" ")
        verb = word.upper()
        handler = _HANDLERS.get(verb)
        if handler is not None:
            handler(self, argument)
        elif verb in _NOT_MAIL:
            self.hang_up(421, "4.7.0", "this is a mail server")
        elif verb in _NOT_OFFERED:
            raise Refused(502, "5.5.1", "command not implemented")
        else:
            raise Refused(500, "5.5.1", "command not recognized")

    def _do_ehlo(self, argument: str) -> None:
        self._greeted(argument)
        self._extended = True
        terms = self._terms
        words = [terms.hostname, "PIPELINING", f"SIZE {terms.max_message_size}", "8BITMIME", "SMTPUTF8"]
        words += ["DSN", "ENHANCEDSTATUSCODES", "CHUNKING"]
        if terms.tls and not self._secure:
            words.append("STARTTLS")
        lines = [f"250-{word}\r\n" for word in words[:-1]]
        self._events.append(Say(f"{''.join(lines)}250 {words[-1]}\r\n".encode()))

    def _do_helo(self, argument: str) -> None:
        self._greeted(argument)
        self._extended = False
        self._events.append(Say(f"250 {self._terms.hostname}\r\n".encode()))

    def _greeted(self, argument: str) -> None:
        name = argument.strip()
        if not name:
            raise Refused(501, "5.5.4", "a name must follow")
        self._reset()
        # It goes into Received fields: what can't stand there is not worth refusing mail for.
        self._helo = re.sub(r"[^!-~]", "?", name)[:255]

    def _do_mail(self, argument: str) -> None:
        if not self._helo:
            raise Refused(503, "5.5.1", "say EHLO first")
        if self._mail.sender is not None:
            raise Refused(503, "5.5.1", "a message is begun already")
        if argument[:5].upper() != "FROM:":
            raise Refused(501, "5.5.4", "write MAIL FROM:<address>")
        sender, rest = read_path(argument[5:], sender=True)
        parameters = read_mail(rest)
        if not (parameters.smtputf8 or sender.isascii()):
            raise _needs_utf8()
        if parameters.size is not None and parameters.size > self._terms.max_message_size:
            refusal = too_large(self._terms.max_message_size)
            self._say(refusal.code, refusal.enhanced, refusal.text)
            return
        self._mail.parameters = parameters
        self._ask(AskSender(sender, parameters.size))

    def _do_rcpt(self, argument: str) -> None:
        mail = self._mail
        mail.need_sender()
        mail.need_no_chunks()
        if argument[:3].upper() != "TO:":
            raise Refused(501, "5.5.4", "write RCPT TO:<address>")
        address, rest = read_path(argument[3:], sender=False)
        words = read_recipient(rest, mail.parameters.smtputf8)
        if not (mail.parameters.smtputf8 or address.isascii()):
            raise _needs_utf8()
        self._recipient = EnvelopeRecipient(address, words)
        if self._recipient in mail.recipients:
            self._events.append(_RECIPIENT_TAKEN)  # named twice, word for word: one delivery
        elif len(mail.recipients) >= self._terms.max_recipients:
            self._say(452, "4.5.3", "too many recipients; send the rest in another transaction")
        else:
            self._ask(AskRecipient(address))

    def _do_data(self, argument: str) -> None:
        _bare(argument)
        self._mail.need_no_chunks()
        self._mail.need_recipients()
        self._ask(_ASK_BODY)

    def _do_bdat(self, argument: str) -> None:
        found = _BDAT.fullmatch(argument.lstrip(" "))
        if not found:
            # Where the next command begins can't be known: what follows may be a message's octets.
            self.hang_up(521, "5.5.4", "BDAT needs a count; closing")
            return
        self._chunk_size = self._chunk_left = int(found[1])
        self._chunk_last = found[2] is not None
        self._chunk_fault = None
        try:
            self._mail.need_recipients()
        except Refused as refusal:
            self._chunk_fault = refusal
        if self._chunk_fault is None and not self._mail.in_chunks:
            self._mail.in_chunks = True
            self._ask(_ASK_BODY)
        else:
            self._read = self._read_chunk

    def _do_rset(self, argument: str) -> None:
        _bare(argument)
        self._reset()
        self._say(250, "2.0.0", "forgotten")

    def _do_noop(self, argument: str) -> None:
        self._say(250, "2.0.0", "here")

    def _do_quit(self, argument: str) -> None:
        _bare(argument)
        self._reset()
        self.hang_up(221, "2.0.0", "goodbye")

    def _do_vrfy(self, argument: str) -> None:
        if not argument.strip():
            raise Refused(501, "5.5.4", "a name must follow")
        self._say(252, "2.0.0", "not verified here; send it and see")

    def _do_help(self, argument: str) -> None:
        self._say(214, "2.0.0", " ".join(_HANDLERS))

    def _do_starttls(self, argument: str) -> None:
        if self._secure:
            raise Refused(503, "5.5.1", "TLS is on already")
        if not self._terms.tls:
            raise Refused(502, "5.5.1", "STARTTLS is not offered")
        _bare(argument)
        self._reset()
        self._ask(_ASK_TLS)

    # ── the body ──────────────────────────────────────────────────────────────────────────────────

    def _read_data(self) -> bool:
        octets = self._inlet.take()
        if not octets:
            return False
        body = self._mail.body
        assert isinstance(body, Dotted)
        kept, used = body.take(octets)
        self._give_out(kept, body.sieve)
        if used >= 0:
            self._inlet.put_back(octets, used)
            self._complete(body.sieve)
        return True

    def _read_chunk(self) -> bool:
        octets = self._inlet.take(self._chunk_left)
        if self._chunk_left and not octets:
            return False
        self._chunk_left -= len(octets)
        body = self._mail.body
        if self._chunk_fault is None and self._mail.failure is None:
            assert isinstance(body, Chunked)
            self._give_out(body.take(octets, self._chunk_last and not self._chunk_left), body.sieve)
        if not self._chunk_left:
            self._read = self._read_command
            self._end_chunk(body)
        return True

    def _end_chunk(self, body: Dotted | Chunked | None) -> None:
        mail = self._mail
        if self._chunk_fault is not None:
            self._wrong(self._chunk_fault.code, self._chunk_fault.enhanced, self._chunk_fault.text)
            return
        if mail.failure is None:
            assert body is not None
            if self._chunk_last:
                self._complete(body.sieve)
                return
            mail.failure = body.sieve.fault
        if mail.failure is None:
            self._say(250, "2.0.0", f"{self._chunk_size} octets received")
        elif mail.told:  # sent along with the one that failed
            self._say(503, "5.5.1", "an earlier BDAT failed; RSET first")
        else:
            mail.told = True
            self._say(mail.failure.code, mail.failure.enhanced, mail.failure.text)

    def _complete(self, sieve: Sieve) -> None:
        """The body is here to its last octet."""
        self._read = self._read_command
        fault = sieve.fault
        if fault is not None:
            self._forget()
            self._say(fault.code, fault.enhanced, fault.text)
            return
        mail = self._mail
        mail.complete = True
        protocol = mail.protocol(self._extended, self._secure)
        self._events.append(Message(mail.envelope(), self._helo, protocol))

    def _give_out(self, kept: bytes, sieve: Sieve) -> None:
        if kept:
            self._events.append(Chunk(kept))
        elif not self._mail.dropped and sieve.fault is not None:
            self._mail.dropped = True
            self._events.append(_DROP)

    # ── helps ─────────────────────────────────────────────────────────────────────────────────────

    def _read_injected(self) -> bool:
        """Commands were put in before the handshake (CVE-2011-0411): none of them is carried out."""
        if not len(self._inlet):
            return False
        self.hang_up(554, "5.5.1", "octets between STARTTLS and the handshake; closing")
        return True

    def _ask(self, question: Question) -> None:
        self._question = question
        self._events.append(question)

    def _reset(self) -> None:
        if self._mail.body is not None and not self._mail.dropped:
            self._events.append(_DROP)
        self._forget()

    def _forget(self) -> None:
        """No transaction (RFC 5321 §4.1.1.5)."""
        self._mail = Transaction()
        self._read = self._read_command

    def _wrong(self, code: int, enhanced: str, text: str) -> None:
        self._errors += 1
        self._say(code, enhanced, text)
        if self._errors > ERROR_LIMIT:
            self.hang_up(421, "4.7.0", "too many errors")

    def _say(self, code: int, enhanced: str, text: str) -> None:
        # One line of ASCII, whatever the outside gave (RFC 5321 §4.2: at most 512 octets).
        line = f"{code} {enhanced} {' '.join(text.split())}"[:REPLY_LIMIT]
        self._events.append(Say(line.encode("ascii", "replace") + b"\r\n"))

    def _end(self) -> None:
        self._events.append(_CLOSE)
        self._open = False
        self._inlet.clear()


def _bare(argument: str) -> None:
    if argument.strip():
        raise Refused(501, "5.5.4", "the command takes no argument")


def _needs_utf8() -> Refused:
    return Refused(553, "5.6.7", "an address outside ASCII needs SMTPUTF8")


_HANDLERS: dict[str, Callable[[Dialogue, str], None]] = {
    "EHLO": Dialogue._do_ehlo,
    "HELO": Dialogue._do_helo,
    "MAIL": Dialogue._do_mail,
    "RCPT": Dialogue._do_rcpt,
    "DATA": Dialogue._do_data,
    "BDAT": Dialogue._do_bdat,
    "RSET": Dialogue._do_rset,
    "NOOP": Dialogue._do_noop,
    "QUIT": Dialogue._do_quit,
    "VRFY": Dialogue._do_vrfy,
    "HELP": Dialogue._do_help,
    "STARTTLS": Dialogue._do_starttls,
}
