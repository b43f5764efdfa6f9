"""One client's connection: a dialogue with a socket on one side and a spool on the other.

Promises: 250 goes out only after `accept` returned. While the spool or the journal lags nothing is read, so
a client costs a few hundred KiB whatever it sends. Of a message that was refused or never ended nothing is
kept. What can be answered at once is answered without a task switch: that is most of a session.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import cast

import structlog

from resubmit import logbook
from resubmit.clock import Clock
from resubmit.errors import JournalError, JournalFull, Refused
from resubmit.intake import events
from resubmit.intake.base import Accept, NewSpool, Received, Room, Spool, Vet
from resubmit.intake.certificate import Certificate
from resubmit.intake.dialogue import Dialogue, Terms
from resubmit.intake.heading import HeadingReader, Supplement
from resubmit.model.message import Body

HELD = 64 * 1024
"""Octets of a body gathered before they go to the spool, and fed octets above which reading stops."""
HOP_LIMIT = 50
"""Received fields above which a message loops (RFC 5321 §6.3 asks for at least 100 only where nothing else
finds loops; the design says 50)."""
HANDSHAKE_S = 30
CLOSING_S = 10  # how long a closed connection may take to read its last reply

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Desk:
    """What all sessions of a listener share. `timeout_s`: how long a client may be silent."""

    name: str
    terms: Terms
    new_spool: NewSpool
    vet: Vet
    room: Room
    accept: Accept
    supply: Callable[[], Supplement]
    clock: Clock
    timeout_s: float
    certificate: Certificate | None


class Session(asyncio.Protocol):
    """A connection that is let in. `ended` is called once, when nothing of it is left."""

    def __init__(self, desk: Desk, peer: str, ended: Callable[[Session], None]) -> None:
        self._desk = desk
        self._peer = peer
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._dialogue = Dialogue(desk.terms)
        self._transport: asyncio.Transport
        self._work: asyncio.Task[None] | None = None  # the one thing that is waited for
        self._early: list[bytes] | None = None  # decrypted before start_tls has returned
        self._out: list[bytes] = []
        self._accepting = False  # the journal was asked
        self._choked = False  # the client does not read its replies
        self._paused = False
        self._winding = False  # the service stops
        self._eof = False
        self._closing = False
        self._gone = False
        self._clear_message()

    # ── what the transport calls ──────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._heard = self._loop.time()
        self._timer = self._loop.call_later(self._desk.timeout_s, self._look_at_time)
        self._turn()

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        if self._early is not None:
            self._early.append(data)
            return
        self._dialogue.feed(data)
        if self._work is None and not self._choked:
            self._turn()
        else:
            self._pace()

    def eof_received(self) -> bool | None:
        self._eof = True
        # A client that sends all its commands and closes its side still hears the answers.
        return self._work is not None and self._transport.get_extra_info("sslcontext") is None

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        if self._work is None:
            self._turn()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._gone:
            return
        self._gone = True
        self._timer.cancel()
        if self._work is not None:
            return  # it ends by itself, and clears up then
        if self._spool is not None:
            self._begin(self._discard())
        else:
            self._ended(self)

    # ── what the listener calls ───────────────────────────────────────────────────────────────────

    def wind_down(self) -> None:
        """The service stops: 421 now, or after the message that is under way."""
        self._winding = True
        if self._choked and self._work is None:
            self._transport.abort()
        elif self._work is None:
            self._turn()

    async def cut(self) -> None:
        """Nothing of it goes on; when this returns it has ended."""
        self._transport.abort()
        if self._work is not None:
            # Only the journal's answer is not waited for: a write that goes on in its thread must not meet
            # a spool that is closed under it.
            if self._accepting:
                self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        if not self._gone:
            self.connection_lost(None)
        if self._work is not None:
            await asyncio.gather(self._work, return_exceptions=True)

    # ── the turn: everything that needs no waiting ────────────────────────────────────────────────

    def _turn(self) -> None:
        dialogue, desk = self._dialogue, self._desk
        while self._work is None and not self._choked and not self._gone:
            event = dialogue.next()
            if isinstance(event, events.Say):
                self._out.append(event.octets)
            elif isinstance(event, events.Chunk):
                self._keep(event.octets)
            elif event is None:
                if not self._winding or dialogue.in_message or self._closing:
                    break
                dialogue.hang_up(421, "4.3.2", "the service stops, come back later")
                self._winding = False
            elif isinstance(event, events.AskRecipient):
                self._answer(partial(desk.vet, event.address))
            elif isinstance(event, events.AskSender | events.AskBody):
                self._answer(desk.room)
            elif isinstance(event, events.Message):
                self._begin(self._deliver(event))
            elif isinstance(event, events.Drop):
                self._drop()
            elif isinstance(event, events.AskTls):
                self._begin(self._secure())
            elif isinstance(event, events.Close):
                self._closing = True
        if self._out:
            octets = b"".join(self._out)
            self._out.clear()
            self._transport.write(octets)
        if (self._closing or (self._eof and self._work is None)) and not self._gone:
            self._close()
        else:
            self._pace()

    def _answer(self, ask: Room) -> None:
        try:
            refusal = ask()
        except Exception as error:  # a question must not end the session, whatever it met
            refusal = self._failed(error)
        else:
            refusal = refusal and self._failed(refusal)
        if refusal is None:
            self._dialogue.proceed()
        else:
            self._dialogue.refuse(refusal)

    def _pace(self) -> None:
        """Reading goes on only as fast as what was read is used up."""
        lags = self._work is not None or self._choked
        if lags and not self._paused and self._dialogue.waiting_octets > HELD:
            self._paused = True
            self._transport.pause_reading()
        elif self._paused and not lags:
            self._paused = False
            self._transport.resume_reading()

    def _close(self) -> None:
        self._closing = True
        self._timer.cancel()
        self._timer = self._loop.call_later(CLOSING_S, self._transport.abort)
        self._transport.close()

    def _look_at_time(self) -> None:
        left = self._heard + self._desk.timeout_s - self._loop.time()
        if self._work is not None:
            left = self._desk.timeout_s  # we are the ones who lag
        if left > 0:
            self._timer = self._loop.call_later(left, self._look_at_time)
        elif self._choked:
            self._transport.abort()
        else:
            self._dialogue.hang_up(421, "4.4.2", "silent for too long")
            self._turn()

    # ── the message ───────────────────────────────────────────────────────────────────────────────

    def _clear_message(self) -> None:
        self._reader: HeadingReader | None = None
        self._pieces: list[bytes] = []
        self._held = 0
        self._spool: Spool | None = None
        self._refusal: Refused | None = None  # the spool failed; said at the end of the body

    def _keep(self, octets: bytes) -> None:
        if self._refusal is not None:
            return
        if self._reader is None:
            self._reader = HeadingReader(self._desk.supply)
        octets = self._reader.feed(octets)
        if octets:
            self._pieces.append(octets)
            self._held += len(octets)
            if self._held >= HELD:
                self._begin(self._spill())

    def _drop(self) -> None:
        if self._spool is not None:
            self._begin(self._discard())
        else:
            self._clear_message()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        self._work = self._loop.create_task(self._do(work))

    async def _do(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
            if self._gone:
                await self._discard()
        finally:
            self._work = None
            self._heard = self._loop.time()
            if self._gone:
                self._ended(self)
        if not self._gone:
            self._turn()

    async def _spill(self) -> None:
        """What is held goes to the spool."""
        try:
            if self._spool is None:
                self._spool = self._desk.new_spool()
            octets = b"".join(self._pieces)
            self._pieces.clear()
            self._held = 0
            await self._spool.write(octets)
        except Exception as error:  # whatever the spool met: the client keeps its mail and is told so
            refusal = self._failed(error)
            await self._discard()
            self._refusal = refusal

    async def _deliver(self, message: events.Message) -> None:
        """The message is complete: journal it, and answer."""
        try:
            if self._refusal is not None:
                raise self._refusal
            reader = self._reader or HeadingReader(self._desk.supply)
            self._pieces.append(reader.finish())
            if reader.hops > HOP_LIMIT:
                raise Refused(554, "5.4.6", f"mail loop: {reader.hops} Received fields")
            if self._spool is None:
                self._spool = self._desk.new_spool()
            await self._spool.write(b"".join(self._pieces))
            body = await self._spool.finish()
            received = self._received(message, reader, body)
        except Exception as error:  # as in _spill
            await self._refuse(error)
            return
        if self._gone:
            return  # the client did not wait for an answer, so nothing was promised
        # From here on it may be journaled, and then its body must stay, whatever happens to this session.
        spool = self._spool
        self._clear_message()
        self._accepting = True
        try:
            id_text = await self._desk.accept(received)
        except (Refused, JournalError) as error:
            if isinstance(error, Refused) or not error.stored_perhaps:
                self._spool = spool  # surely not journaled; else its file stays, and a start looks at it
            await self._refuse(error)
        except Exception as error:  # the client sends again: a duplicate perhaps, never a loss
            self._dialogue.refuse(self._failed(error))
        else:
            self._dialogue.journaled(id_text)
        finally:
            self._accepting = False

    def _received(self, message: events.Message, reader: HeadingReader, body: Body) -> Received:
        return Received(
            envelope=message.envelope,
            body=body,
            heading=reader.heading,
            received_at=self._desk.clock.now(),
            peer=self._peer,
            helo=message.helo,
            protocol=message.protocol,
            intake=self._desk.name,
            hops=reader.hops,
            traces=reader.traces,
        )

    async def _refuse(self, error: Exception) -> None:
        refusal = self._failed(error)
        await self._discard()
        self._dialogue.refuse(refusal)

    def _failed(self, error: Exception) -> Refused:
        """What the client is told, and the log."""
        if isinstance(error, Refused):
            log.info(logbook.INTAKE_REFUSED, peer=self._peer, code=error.code, enhanced=error.enhanced)
            return error
        if isinstance(error, JournalFull) or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
            log.warning(logbook.INTAKE_REFUSED, peer=self._peer, code=452, enhanced="4.3.1")
            return Refused(452, "4.3.1", "insufficient disk space, try again later")
        if isinstance(error, JournalError):  # what it says is enough; where it was raised adds nothing
            log.error(logbook.INTAKE_FAILED, peer=self._peer, reason=str(error))
        else:
            log.error(logbook.INTAKE_FAILED, peer=self._peer, exc_info=error)
        return Refused(451, "4.3.0", "the message could not be journaled, try again later")

    async def _discard(self) -> None:
        spool = self._spool
        self._clear_message()
        if spool is not None:
            try:
                await spool.discard()
            except (OSError, JournalError) as error:  # the journal sweeps what is left at its next start
                log.error(logbook.INTAKE_FAILED, peer=self._peer, reason=str(error))

    # ── TLS ───────────────────────────────────────────────────────────────────────────────────────

    async def _secure(self) -> None:
        """STARTTLS was read. Whatever else came in clear by now makes the dialogue close the session."""
        assert self._desk.certificate is not None
        context = await self._loop.run_in_executor(None, self._desk.certificate.context)
        self._dialogue.proceed()
        while (event := self._dialogue.next()) is not None:
            if isinstance(event, events.Say):
                self._transport.write(event.octets)
            elif isinstance(event, events.Close):
                self._closing = True
        if self._closing or self._gone:
            return
        self._early = []  # start_tls takes the transport at once: from here on only decrypted octets come
        try:
            transport = await self._loop.start_tls(
                self._transport, self, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
            )
        except OSError as error:  # ssl.SSLError and timeouts among them; asyncio has closed the connection
            log.info(logbook.INTAKE_TLS_FAILED, peer=self._peer, error=str(error))
            transport = None
        early, self._early = self._early, None
        if transport is None:
            self._transport.abort()
            self._closing = True
            return
        self._transport = transport
        self._dialogue.secured()
        self._dialogue.feed(b"".join(early))
