"""One session with a next hop: connected, greeted, at the route's TLS level, and what is said over it.

Promises: whatever the far side or the net does wrong comes out of here as `Stopped`, with the step at
which it happened and a sentence for a person, or as a `Sent` that tells whether the final dot was written.
TLS is never below the route's level. This is the only module that speaks to aiosmtplib: that connects and
upgrades to TLS; commands and data are our own, because its `mail()`, `rcpt()` and `data()` rewrite
addresses and line ends, and hide where a loss happened.

Source: RFC 5321, RFC 3207 §4.2, RFC 4954.
Limits: no PIPELINING, no CHUNKING. Uses aiosmtplib's `_drain_helper`, `_paused` and `_buffer`, which 5.x
has; a test holds them.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass

import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol

from resubmit.clock import Clock
from resubmit.handoff import prepare, tls, wire
from resubmit.handoff.letter import Letter as Letter
from resubmit.handoff.prepare import Hop
from resubmit.handoff.settings import Route
from resubmit.model.attempt import Stage
from resubmit.model.moment import Ms
from resubmit.model.reply import Reply

QUIT_WITHIN = 5.0
"""Seconds a next hop has to answer QUIT."""

_DOOR = (aiosmtplib.SMTPException, OSError)
"""What aiosmtplib raises: its own tree, TimeoutError and ConnectionError (both OSError), raw ssl errors."""
_PROHIBITED = re.compile(rb"[\x00-\x1f\x7f]")
_REPLIES = (aiosmtplib.SMTPResponseException,)
_TIMEOUTS = (TimeoutError, aiosmtplib.SMTPTimeoutError)


@dataclass(frozen=True, slots=True)
class Sent:
    """How far the data went. `dot_at`: when the final dot was written, None when it surely was not.

    `reply`: what the next hop said, None when nothing (or no reply) came; then `text` says what happened.
    """

    dot_at: Ms | None
    reply: Reply | None
    text: str = ""


class Stopped(Exception):
    """The way ended at a step, for every recipient not yet answered: by a reply, or as `text` says."""

    def __init__(
        self, stage: Stage, text: str = "", reply: Reply | None = None, *, tls_below: bool = False
    ) -> None:
        super().__init__(text or (reply.line() if reply else str(stage)))
        self.stage = stage
        self.text = text
        self.reply = reply
        self.tls_below = tls_below
        self.remote = ""
        self.lost = False
        """Whether the connection ended, without a word and before a time-out."""


class Gone(Exception):
    """A kept connection turned out to be closed before anything was sent: use another."""


class Connection:
    """A session after EHLO, at the route's TLS level, that can take one message after another.

    `tls`: version and cipher, "" in clear; `note`: why it is in clear though TLS was wanted. `used`: messages
    offered so far.
    """

    def __init__(self, smtp: aiosmtplib.SMTP, route: Route, clock: Clock, remote: str) -> None:
        self._smtp = smtp
        self.route = route
        self.clock = clock
        self.remote = remote
        self.hop = Hop()
        self.tls = ""
        self.note = ""
        self.used = 0
        self.idle_since: Ms = 0

    @property
    def is_open(self) -> bool:
        """Whether the next hop has not closed it, and nothing unasked has come."""
        protocol = self._smtp.protocol
        return self._smtp.is_connected and protocol is not None and not protocol._buffer

    @property
    def protocol(self) -> SMTPProtocol | None:
        """aiosmtplib's protocol while connected."""
        return self._smtp.protocol

    def close(self) -> None:
        """Dropped as it is. What is still buffered never goes out: half a message is no message."""
        abort = getattr(self._smtp.transport, "abort", None)  # uvloop's transports have no common base
        if abort is not None:
            abort()
        self._smtp.close()

    async def quit(self) -> None:
        """Ended in order; within a few seconds in any case."""
        with contextlib.suppress(*_DOOR):
            await self._smtp.execute_command(b"QUIT", timeout=QUIT_WITHIN)
        self.close()

    async def say(self, stage: Stage, verb: bytes, *words: bytes) -> Reply:
        """A command and its reply. Raises Stopped when none came, when it was no reply, and for 421."""
        protocol = self._smtp.protocol
        if protocol is not None and protocol._buffer:
            # A second reply to one command: from here on we could not tell which belongs to what.
            unasked = bytes(protocol._buffer[:200])
            self.close()
            raise self.stopped(stage, f"said something unasked: {unasked.decode('utf-8', 'replace').strip()}")
        command = b" ".join((verb, *words))
        if protocol is None or _PROHIBITED.search(command):
            self.close()
            raise self.stopped(stage, "the connection was lost" if protocol is None else "unfit command")
        try:
            # Its own way, by a lock, costs twice as much; nobody else speaks on this connection.
            protocol.write(command + b"\r\n")
            code, text = await protocol.read_response(timeout=self.route.timeout / 1000)
        except _DOOR as error:
            self.close()
            raise self.told(stage, error) from error
        reply = wire.reply_of(code, text)
        if code == 421:
            self.close()
            raise self.stopped(stage, reply=reply)
        if not 200 <= code < 600:
            self.close()
            raise self.stopped(stage, f"answered what is no SMTP reply: {reply.line()}")
        return reply

    async def send_whole(self, octets: bytes) -> Sent:
        """Data and final dot in one write. Nothing can be answered before its end was written."""
        protocol = self._ready_for_data()
        if isinstance(protocol, Sent):
            return protocol
        dot_at = self.clock.now()
        if not _written(protocol, octets):
            self.close()
            return Sent(None, None, self.stopped(Stage.BODY, "the connection was lost").text)
        # Nothing was awaited since the write, so the reply can't have come before it is waited for.
        return await self._answer(dot_at, protocol.read_response(timeout=self.route.data_timeout / 1000))

    async def send_blocks(self, blocks: AsyncIterator[bytes]) -> Sent:
        """Data block by block, then the final dot, unless a reply comes first. `blocks` end with a CRLF.

        An exception of `blocks` closes the connection (so the message is never ended) and goes on up.
        """
        protocol = self._ready_for_data()
        if isinstance(protocol, Sent):
            return protocol
        # Armed before the first write: aiosmtplib throws away what comes while nobody waits.
        reply = asyncio.ensure_future(protocol.read_response())
        await asyncio.sleep(0)
        dot_at = None
        try:
            try:
                async for block in blocks:
                    if reply.done():
                        break
                    if not _written(protocol, block):
                        break
                    await self._room(protocol, reply)
                else:
                    if not reply.done():
                        dot_at = self.clock.now()
                        if not _written(protocol, wire.DOT):
                            dot_at = None
            except _Stalled:
                self.close()
                return Sent(
                    None, None, self.stopped(Stage.BODY, "took no more data in time (timed out)").text
                )
            sent = await self._answer(dot_at, asyncio.wait_for(reply, self.route.data_timeout / 1000))
        except BaseException:
            self.close()
            raise
        finally:
            if not reply.done():
                reply.cancel()
        if dot_at is None:
            self.close()  # half a message is in the pipe: no further one can follow
        return sent

    def _ready_for_data(self) -> SMTPProtocol | Sent:
        protocol = self._smtp.protocol
        if protocol is None or protocol._buffer:
            self.close()
            return Sent(None, None, self.stopped(Stage.BODY, "the connection was lost or out of step").text)
        return protocol

    async def _room(self, protocol: SMTPProtocol, reply: asyncio.Future[aiosmtplib.SMTPResponse]) -> None:
        """Returns when more may be written, or a reply has come."""
        if not protocol._paused:
            await asyncio.sleep(0)
            return
        drain = asyncio.ensure_future(protocol._drain_helper())
        try:
            waited: set[asyncio.Future[object]] = {drain, reply}  # type: ignore[arg-type]
            done, _ = await asyncio.wait(
                waited, timeout=self.route.timeout / 1000, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            drain.cancel()
        if not done:
            raise _Stalled

    async def _answer(self, dot_at: Ms | None, waiting: Awaitable[aiosmtplib.SMTPResponse]) -> Sent:
        """The reply to the data. Anything but a plain yes ends the session: it may be out of step."""
        try:
            code, text = await waiting
        except _DOOR as error:
            self.close()
            return Sent(dot_at, None, self.told(Stage.DOT if dot_at else Stage.BODY, error).text)
        reply = wire.reply_of(code, text)
        if not reply.positive:
            self.close()
        if not 200 <= code < 600 or 300 <= code < 400:
            return Sent(dot_at, None, f"{self.remote}: answered the data with {reply.line()}")
        return Sent(dot_at, reply)

    def stopped(
        self, stage: Stage, text: str = "", reply: Reply | None = None, *, tls_below: bool = False
    ) -> Stopped:
        """Stopped, with the remote's name in its text."""
        stop = Stopped(stage, f"{self.remote}: {text}" if text else "", reply, tls_below=tls_below)
        stop.remote = self.remote
        return stop

    def told(self, stage: Stage, error: BaseException, *, tls_below: bool = False) -> Stopped:
        """An exception of aiosmtplib, ssl or the socket as a stop at this stage."""
        if isinstance(error, _REPLIES) and 200 <= error.code < 600:
            return self.stopped(stage, reply=wire.reply_of(error.code, error.message), tls_below=tls_below)
        stop = self.stopped(stage, in_words(error, tls.server_name(self.route)), tls_below=tls_below)
        stop.lost = isinstance(error, ConnectionError)
        return stop


class _Stalled(Exception):
    """The far side reads no more."""


def _written(protocol: SMTPProtocol, octets: bytes) -> bool:
    """Whether the octets were given to the transport; False when the connection is already gone."""
    try:
        protocol.write(octets)
    except aiosmtplib.SMTPServerDisconnected:
        return False
    return True


def in_words(error: BaseException, name: str = "") -> str:
    """What an error of the wire means, for a person."""
    cause = error.__cause__
    if isinstance(error, ssl.SSLError):
        return tls.explained(error, name)
    if isinstance(cause, ssl.SSLError):
        return tls.explained(cause, name)
    if isinstance(error, _TIMEOUTS):
        return "no answer in time (timed out)"
    if isinstance(error, _REPLIES):
        return f"answered what is no SMTP reply: {wire.reply_of(0, error.message).text}"
    if isinstance(error, aiosmtplib.SMTPServerDisconnected):
        return "the connection was lost" + (f" ({_reason(cause)})" if isinstance(cause, OSError) else "")
    if isinstance(error, aiosmtplib.SMTPConnectError) and isinstance(cause, aiosmtplib.SMTPException):
        return in_words(cause, name)
    if isinstance(error, aiosmtplib.SMTPConnectError) and isinstance(cause, OSError):
        return _reason(cause)
    if isinstance(error, aiosmtplib.SMTPException):
        return wire.reply_of(0, str(getattr(error, "message", ""))).text or type(error).__name__
    return _reason(error)


def _reason(error: BaseException) -> str:
    match error:
        case ConnectionRefusedError():
            return "connection refused"
        case ConnectionResetError():
            return "connection reset"
        case OSError(strerror=str(text)):
            return text.lower()
        case _:
            return str(error) or type(error).__name__


# ── the way to a session ──────────────────────────────────────────────────────────────────────────


async def reach(
    route: Route, address: str, *, ehlo_name: str, context: ssl.SSLContext | None, clock: Clock
) -> Connection:
    """A session with one address of a route's host. `context` None: in clear. Raises Stopped.

    At level opportunistic a failed TLS is a stop too: whoever then wants to go in clear makes a new
    connection without context.
    """
    smtp = aiosmtplib.SMTP(
        hostname=address,
        port=route.port,
        local_hostname=ehlo_name,
        start_tls=False,
        source_address=(route.source_address, 0) if route.source_address else None,
        timeout=route.timeout / 1000,
    )
    remote = f"{route.host}[{address}]:{route.port}" if route.host != address else f"[{address}]:{route.port}"
    connection = Connection(smtp, route, clock, remote)
    try:
        await _connect(connection, smtp)
        await _hello(connection, smtp, may_helo=not tls.is_needed(route))
        if context is not None and await _secure(connection, smtp, context):
            await _hello(connection, smtp, may_helo=False)
        if route.username:
            await _login(connection, smtp)
    except BaseException:
        connection.close()
        raise
    connection.hop = prepare.hop_of(smtp.esmtp_extensions)
    return connection


async def _connect(connection: Connection, smtp: aiosmtplib.SMTP) -> None:
    """Connected and greeted. Connecting has its own, shorter time; the greeting has a command's."""
    route = connection.route
    task = asyncio.ensure_future(smtp.connect(timeout=route.timeout / 1000))
    try:
        await asyncio.wait({task}, timeout=route.connect_timeout / 1000)
        if not task.done() and smtp.transport is None:
            raise connection.stopped(Stage.CONNECT, "no connection in time (timed out)")
        await task
    except aiosmtplib.SMTPException as error:
        cause = error.__cause__
        greeted = isinstance(error, _REPLIES) or isinstance(cause, aiosmtplib.SMTPException)
        raise connection.told(Stage.GREETING if greeted else Stage.CONNECT, error) from error
    except OSError as error:
        raise connection.told(Stage.CONNECT, error) from error
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # when we are cancelled ourselves, nobody else asks for it


async def _hello(connection: Connection, smtp: aiosmtplib.SMTP, *, may_helo: bool) -> None:
    """EHLO, and HELO for a server that knows no better where the route allows a session without TLS."""
    try:
        try:
            await smtp.ehlo()
        except aiosmtplib.SMTPHeloError as error:
            if not (may_helo and 500 <= error.code < 600):
                raise
            await smtp.helo()
    except _DOOR as error:
        # TLS 1.3: a server judges our certificate after the handshake; its alert comes instead of a reply.
        stage = Stage.TLS if connection.tls and isinstance(error.__cause__, ssl.SSLError) else Stage.EHLO
        below = stage is Stage.TLS and tls.is_needed(connection.route)
        stop = connection.told(stage, error, tls_below=below)
        if connection.tls and stop.lost and stage is Stage.EHLO:
            stop.text += " right after the TLS handshake; does the server want a client certificate?"
        raise stop from error


async def _secure(connection: Connection, smtp: aiosmtplib.SMTP, context: ssl.SSLContext) -> bool:
    """TLS at the route's level; False when it is not offered and the level does not ask for it."""
    route = connection.route
    needed = tls.is_needed(route)
    name = tls.server_name(route)
    if not smtp.supports_extension("starttls"):
        if needed:
            text = f"STARTTLS is not offered, and the route's level is {route.tls}"
            raise connection.stopped(Stage.STARTTLS, text, tls_below=True)
        connection.note = "sent in clear: STARTTLS is not offered"
        return False
    try:
        await smtp.starttls(server_hostname=name, tls_context=context)
    except aiosmtplib.SMTPResponseException as error:
        # A 421 is about the server, not about TLS.
        raise connection.told(Stage.STARTTLS, error, tls_below=needed and error.code != 421) from error
    except aiosmtplib.SMTPException as error:
        upgrading = "upgrading transport" in error.message
        stop = connection.told(Stage.TLS if upgrading else Stage.STARTTLS, error, tls_below=needed)
        if upgrading:
            stop.text = f"{connection.remote}: TLS with {name}: closed or silent in the handshake"
        raise stop from error
    except OSError as error:
        raise connection.stopped(Stage.TLS, tls.explained(error, name), tls_below=needed) from error
    wildcard = tls.own_name(route)
    if wildcard:
        shown = smtp.get_transport_info("ssl_object").getpeercert() or {}
        names = [value for kind, value in shown.get("subjectAltName", ()) if kind == "DNS"]
        if not tls.is_for(wildcard, names):
            text = f"TLS with {name}: the certificate is for {', '.join(names) or 'no name'}, not {wildcard}"
            raise connection.stopped(Stage.TLS, text, tls_below=True)
    cipher = smtp.get_transport_info("cipher")
    connection.tls = f"{smtp.get_transport_info('ssl_object').version()} {cipher[0]}"
    return True


async def _login(connection: Connection, smtp: aiosmtplib.SMTP) -> None:
    """Authenticated, over TLS only: in clear the password would be everybody's."""
    route = connection.route
    if not connection.tls:
        raise connection.stopped(Stage.AUTH, "AUTH is only used over TLS, and this session has none")
    try:
        password = _password(route)
        if "plain" in smtp.server_auth_methods:
            await smtp.auth_plain(route.username, password)
        elif "login" in smtp.server_auth_methods:
            await smtp.auth_login(route.username, password)
        else:
            raise connection.stopped(Stage.AUTH, "neither AUTH PLAIN nor LOGIN is offered")
    except (*_DOOR, UnicodeError) as error:
        raise connection.told(Stage.AUTH, error) from error


def _password(route: Route) -> str:
    """The first line of the route's password file, read each time: it may be changed while we run."""
    if route.password_file is None:
        return ""
    with route.password_file.open(encoding="utf-8") as file:
        return file.readline().rstrip("\r\n")
