"""One connection, plain and then under TLS, on any event loop, within fixed bounds of memory.

Promises: no more than HOLD octets wait unread (then the socket is paused), no more than CEILING are taken
in a look; what the far side does ends in `Broken`, which says how, and in nothing else. TLS runs over
memory BIOs, because an event loop's own TLS throws the object away when a handshake fails, and with it
the chain that says why.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Callable
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

from resubmit.model.moment import Ms
from resubmit.probe.offers import Offer
from resubmit.probe.seen import Answer, Handshake, How, Step

HOLD = 64 * 1024
CEILING = 1024 * 1024
REPLY_CEILING = 64 * 1024
LINE_CEILING = 256
"""Lines of one reply; EHLO lists of twenty are usual."""
CHAIN_CEILING = 32
_DER = 2
"""`_ssl.ENCODING_DER`."""


class Broken(Exception):
    """The conversation can't go on; inside this room only."""

    def __init__(self, how: How, detail: str = "", partial: bytes = b"") -> None:
        super().__init__(detail)
        self.how = how
        self.detail = detail
        self.partial = partial


class Stream(Protocol):
    """Something octets come from and go to."""

    async def some(self) -> bytes:
        """At least one octet; b"" when the far side has ended. Broken when it can't go on."""

    def write(self, octets: bytes) -> None:
        """Send octets; an end of the connection shows at the next `some`."""


class Wire(asyncio.Protocol):
    """The plain connection."""

    def __init__(self) -> None:
        self._octets = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._is_paused = False
        self._is_over = False
        self.taken = 0
        self.end = ""
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass of it

    def data_received(self, data: bytes) -> None:
        self._octets += data
        self.taken += len(data)
        if len(self._octets) >= HOLD and not self._is_paused and self._transport:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._is_over = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = True
        self.end = self.end or (str(exc) if exc else "")
        self.gone.set()
        self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def some(self) -> bytes:
        while not self._octets and not self._is_over:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self.taken > CEILING:
            raise Broken(How.TOO_MUCH, f"more than {CEILING // 1024} KiB")
        data = bytes(self._octets)
        self._octets.clear()
        if self._is_paused and self._transport and not self._is_over:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    @property
    def waiting(self) -> bytes:
        """What has come and was not asked for yet."""
        return bytes(self._octets)

    def write(self, octets: bytes) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.write(octets)

    def literal(self) -> str:
        """Our own address as an EHLO name (RFC 5321 §4.1.3)."""
        place = self._transport.get_extra_info("sockname") if self._transport else None
        address = str(place[0]).partition("%")[0] if place else "127.0.0.1"
        return f"[IPv6:{address}]" if ":" in address else f"[{address}]"

    async def close(self) -> None:
        """The connection is gone; what the far side won't take is thrown away."""
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()
        await self.gone.wait()


class Replies:
    """Complete SMTP replies out of a stream (RFC 5321 §4.2)."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.buffer = bytearray()

    async def next(self, step: Step) -> Answer:
        """The next reply; a bare LF ends a line too.

        Broken: CLOSED at the end of the stream, NOT_A_REPLY for what is none, TOO_MUCH beyond the bounds;
        `partial` holds the start of what had come.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        lines: list[bytes] = []
        size = 0
        while True:
            line = await self._line(lines)
            size += len(line)
            if not is_reply_line(line):
                raise Broken(How.NOT_A_REPLY, partial=line[:HOLD])
            lines.append(line)
            if line[3:4] != b"-":
                return Answer(step, int(line[:3]), tuple(lines), round((loop.time() - began) * 1000))
            if len(lines) >= LINE_CEILING or size > REPLY_CEILING:
                raise Broken(How.TOO_MUCH, f"a reply of more than {len(lines)} lines", partial=lines[0])

    async def _line(self, so_far: list[bytes]) -> bytes:
        start = 0
        while (end := self.buffer.find(b"\n", start)) < 0:
            start = len(self.buffer)
            if start > REPLY_CEILING:
                raise Broken(
                    How.TOO_MUCH, f"a line of more than {REPLY_CEILING // 1024} KiB", self.partial(so_far)
                )
            data = await self._stream.some()
            if not data:
                raise Broken(How.CLOSED, partial=self.partial(so_far))
            self.buffer += data
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        return line.removesuffix(b"\r")

    def partial(self, so_far: list[bytes] | None = None) -> bytes:
        """The start of what has come of an unfinished reply."""
        return b"\n".join([*(so_far or [])[:1], bytes(self.buffer[:512])])[:512]


def is_reply_line(line: bytes) -> bool:
    """`ddd`, `ddd text` or `ddd-text`, with a first digit that SMTP knows."""
    return len(line) >= 3 and line[:3].isdigit() and line[:1] in b"2345" and line[3:4] in (b"", b" ", b"-")


class Alerts:
    """What the TLS messages of one connection were, seen by OpenSSL's message callback."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.certificate_requested = False

    def note(self, direction: str, content: str, message: str) -> None:
        if direction != "read":
            return
        if content == "ALERT" and len(self.received) < 8:
            self.received.append(message)
        elif message == "CERTIFICATE_REQUEST":
            self.certificate_requested = True


_watched: WeakKeyDictionary[ssl.SSLObject, Alerts] = WeakKeyDictionary()


def _on_message(
    connection: Any, direction: str, version: Any, content: Any, message: Any, data: bytes
) -> None:
    alerts = _watched.get(connection)
    if alerts is not None:
        alerts.note(direction, getattr(content, "name", ""), getattr(message, "name", str(message)))


def client_context(roots: bytes, *, verify: bool) -> ssl.SSLContext:
    """A context that verifies over `roots` (DER, one after another), TLS 1.2 or later.

    Names and dates are left to us: three names are compared, and dates by the clock that was given.
    Flags are written out, because Python 3.13 adds some of its own to the default, and an upgrade of the
    interpreter must not change a verdict. Level encrypt verifies nothing.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    context.verify_flags = ssl.VerifyFlags(
        ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    )
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(Offer.USUAL)
    context.options |= ssl.OP_NO_RENEGOTIATION | _LEGACY_SERVER_CONNECT
    if roots:
        context.load_verify_locations(cadata=roots)
    _watch(context)
    return context


@functools.cache
def second_context(offer: Offer) -> ssl.SSLContext:
    """A context for the second look's handshake: it verifies nothing, and nothing is said on it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if offer is Offer.ANYTHING:
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    else:
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(offer)
    context.options |= ssl.OP_NO_RENEGOTIATION | _LEGACY_SERVER_CONNECT
    _watch(context)
    return context


def _watch(context: ssl.SSLContext) -> None:
    if hasattr(context, "_msg_callback"):  # private; without it alerts are not seen, all else works
        context._msg_callback = _on_message


_LEGACY_SERVER_CONNECT = 0x4
"""SSL_OP_LEGACY_SERVER_CONNECT (named from 3.12 on): Schannel takes a server without RFC 5746."""
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME; the ssl module has no name for it."""


class Tls:
    """A TLS client over a wire."""

    def __init__(self, wire: Wire, context: ssl.SSLContext, name: str | None) -> None:
        self._wire = wire
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._verifies = context.verify_mode is ssl.CERT_REQUIRED
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._alerts = Alerts()
        _watched[self._object] = self._alerts
        self._opening = b""

    async def handshake(self) -> None:
        """The handshake is done. Broken with TLS (OpenSSL's reason), CLOSED or TOO_MUCH.

        The last flight waits for the first `write`, so that EHLO travels with it.
        """
        await self._turn(self._object.do_handshake)

    async def some(self) -> bytes:
        octets: bytes = await self._turn(lambda: self._object.read(16 * 1024))
        return octets

    def write(self, octets: bytes) -> None:
        try:
            self._object.write(octets)
        except ssl.SSLError:
            pass  # the end shows at the next read, which tells more
        self._flush()

    async def _turn(self, action: Callable[[], Any]) -> Any:
        ended = False
        while True:
            try:
                return action()
            except ssl.SSLWantReadError:
                self._flush()
                if ended:
                    raise Broken(How.CLOSED, self._wire.end) from None
                ended = not await self._feed()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError) as error:
                raise Broken(How.CLOSED, self._wire.end or error.reason or "") from None
            except ssl.SSLCertVerificationError as error:
                self._flush()
                self._verify_error = (error.verify_code, error.verify_message)
                raise Broken(How.TLS, error.reason or "") from None
            except ssl.SSLError as error:
                self._flush()  # our own alert says why
                if "EOF" in (error.reason or ""):
                    raise Broken(How.CLOSED, self._wire.end) from None
                raise Broken(How.TLS, error.reason or str(error)) from None

    _verify_error: tuple[int, str] | None = None

    async def _feed(self) -> bool:
        data = await self._wire.some()
        if not data:
            self._incoming.write_eof()
            return False
        if len(self._opening) < 16:
            self._opening += data[:16]
        self._incoming.write(data)
        return True

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._wire.write(data)

    def goodbye(self) -> None:
        """Our close_notify is on its way (RFC 8446 §6.1)."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass
        self._flush()

    def seen(self, *, done: bool, reason: str, took: Ms) -> Handshake:
        """What there is to tell, after a handshake that was done or failed."""
        code, message = self._verify_error or (None, "")
        cipher = self._object.cipher() if done else None
        return Handshake(
            done=done,
            verified=done and self._verifies,
            protocol=(self._object.version() or "") if done else "",
            cipher=cipher[0] if cipher else "",
            chain=_chain(self._object),
            verify_code=code,
            verify_message=message,
            reason=reason,
            alerts=tuple(self._alerts.received),
            certificate_requested=self._alerts.certificate_requested,
            opening=self._opening[:16],
            took=took,
        )

    @property
    def alerts(self) -> tuple[str, ...]:
        return tuple(self._alerts.received)


def _chain(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """The certificates as sent, DER, the first CHAIN_CEILING of them; also after a failed handshake.

    Public from 3.13 on, private before (cpython#109109).
    """
    public = getattr(tls, "get_unverified_chain", None)
    if public is not None:
        return tuple(public() or ())[:CHAIN_CEILING]
    reader = getattr(getattr(tls, "_sslobj", None), "get_unverified_chain", None)
    if reader is None:
        return ()
    return tuple(link.public_bytes(_DER) for link in (reader() or [])[:CHAIN_CEILING])
