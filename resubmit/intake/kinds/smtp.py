"""The SMTP listener: who may come in, where it listens, when it stops.

Promises: as `resubmit.intake.base` says for every intake. Nobody outside `allow` gets further than a 554.
Source: RFC 5321 §3.1 (554 as a greeting), §3.8 (421).
"""

from __future__ import annotations

import asyncio
import errno
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from email.utils import format_datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, cast

import structlog

from resubmit import logbook
from resubmit.clock import Clock
from resubmit.errors import NotReachable, UsageError
from resubmit.intake.base import Accept, NewSpool, Received, Room, Vet
from resubmit.intake.certificate import Certificate
from resubmit.intake.dialogue import Terms
from resubmit.intake.heading import Supplement
from resubmit.intake.session import Desk, Session
from resubmit.intake.settings import SmtpIntake
from resubmit.model.moment import SECOND, Ms, to_datetime

BACKLOG = 1024
GRACE: Ms = 3 * SECOND
"""What `run` allows when it is cancelled without a `stop` before."""

log = structlog.get_logger()


class SmtpListener:
    """`[intake.smtp]`."""

    def __init__(
        self, settings: SmtpIntake, *, new_spool: NewSpool, vet: Vet, clock: Clock, room: Room
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._hostname = settings.hostname or _own_name()
        self._is_allowed = lru_cache(maxsize=4096)(self._find_allowed)
        self._servers: list[asyncio.Server] = []
        self._sessions: dict[Session, None] = {}
        self._accept: Accept | None = None
        self._running = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._stopping: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()
        self._certificate = (
            Certificate(settings.tls_certificate, settings.tls_key) if settings.tls_certificate else None
        )
        self._desk = Desk(
            name="smtp",
            terms=Terms(
                self._hostname,
                settings.max_message_size,
                settings.max_recipients,
                settings.bare_newline,
                self._certificate is not None,
            ),
            new_spool=new_spool,
            vet=vet,
            room=room,
            accept=self._hand_over,
            supply=self._supplement,
            clock=clock,
            timeout_s=settings.timeout / 1000,
            certificate=self._certificate,
        )

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every socket that listens, ports as the system gave them."""
        return [made.getsockname()[:2] for server in self._servers for made in server.sockets]

    async def bind(self) -> None:
        """It listens on every address; clients that come before `run` wait for their 250 until then.

        Raises NotReachable where an address can't be had, UsageError where it, or the certificate, is wrong.
        """
        if self._certificate is not None:
            self._certificate.load()
        loop = asyncio.get_running_loop()
        try:
            for address in self._settings.listen:
                host, port = _split(address)
                try:
                    server = await loop.create_server(self._connected, host, port, backlog=BACKLOG)
                except OSError as error:
                    raise _not_bound(address, error) from error
                self._servers.append(server)
        except BaseException:
            self._close_servers()
            raise

    async def run(self, accept: Accept) -> None:
        """Serves until cancelled or stopped."""
        self._accept = accept
        if not self._servers:
            await self.bind()
        self._running.set()
        try:
            await self._stopped.wait()
        finally:
            await self.stop(GRACE)

    async def stop(self, grace: Ms) -> None:
        """No new clients; idle ones hear 421 at once, those in a message after it, at the latest cut after
        `grace`. Returns when no session is left; a second call waits for the first."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._wind_down(grace))
        await asyncio.shield(self._stopping)

    async def _wind_down(self, grace: Ms) -> None:
        self._close_servers()
        for session in tuple(self._sessions):
            session.wind_down()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace / 1000):
                await self._empty.wait()
        for session in tuple(self._sessions):
            await session.cut()
        self._stopped.set()

    def _close_servers(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

    def _connected(self) -> asyncio.Protocol:
        return _Door(self._let_in)

    def _let_in(self, transport: asyncio.Transport) -> asyncio.Protocol | None:
        """The session of a new client, or None when it was told why not."""
        peer, allowed = self._is_allowed(_host(transport.get_extra_info("peername")))
        if not allowed:
            log.warning(logbook.INTAKE_CLIENT_REFUSED, peer=peer)
            reply = f"554 5.7.1 {self._hostname} does not take mail from you\r\n"
        elif self._stopping is not None:
            reply = f"421 4.3.2 {self._hostname} stops, come back later\r\n"
        elif len(self._sessions) >= self._settings.max_connections:
            log.warning(logbook.INTAKE_CLIENT_REFUSED, peer=peer, connections=len(self._sessions))
            reply = f"421 4.3.2 {self._hostname} has too many connections, come back later\r\n"
        else:
            session = Session(self._desk, peer, self._ended)
            self._sessions[session] = None
            self._empty.clear()
            return session
        transport.write(reply.encode("ascii", "replace"))
        transport.close()
        return None

    def _find_allowed(self, host: str) -> tuple[str, bool]:
        """How a client's address is written, and whether it may come in."""
        peer = _address(host)
        return str(peer), peer is not None and any(peer in network for network in self._settings.allow)

    def _ended(self, session: Session) -> None:
        self._sessions.pop(session, None)
        if not self._sessions:
            self._empty.set()

    async def _hand_over(self, received: Received) -> str:
        await self._running.wait()
        assert self._accept is not None
        return await self._accept(received)

    def _supplement(self) -> Supplement:
        now = self._clock.now()
        unique = f"{now:x}.{self._clock.chance.getrandbits(64):016x}"
        return Supplement(f"<{unique}@{self._hostname}>", format_datetime(to_datetime(now)))


class _Door(asyncio.Protocol):
    """Stands until a connection is made, because only then it is known who comes."""

    def __init__(self, let_in: Callable[[asyncio.Transport], asyncio.Protocol | None]) -> None:
        self._let_in = let_in

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        session = self._let_in(cast(asyncio.Transport, transport))
        if session is not None:
            transport.set_protocol(session)
            session.connection_made(transport)


def _host(peername: Any) -> str:
    """What the system calls the client; "" when it does not know."""
    return str(peername[0]) if isinstance(peername, tuple) and peername else ""


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """The client's address; an IPv4 address that came by an IPv6 socket is an IPv4 address."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _split(address: str) -> tuple[str | None, int]:
    """`127.0.0.1:2525`, `[::1]:2525`, `host:25`, `:25` (every address) → host and port."""
    found = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]*)):([0-9]{1,5})", address.strip())
    if not found or int(found[3]) > 65535:
        raise UsageError(
            f"intake.smtp: {address!r} is not an address to listen on",
            hint="write host:port, like 127.0.0.1:2525 or [::1]:2525",
        )
    return found[1] or found[2] or None, int(found[3])


def _not_bound(address: str, error: OSError) -> Exception:
    if isinstance(error, socket.gaierror):
        return UsageError(f"intake.smtp: {address} can't be resolved: {error.strerror}")
    if error.errno == errno.EADDRINUSE:
        return NotReachable(
            f"intake.smtp: {address} is in use by another program",
            hint="stop that program (ss -ltnp shows it) or set intake.smtp.listen to a free port",
        )
    if error.errno == errno.EACCES:
        return NotReachable(
            f"intake.smtp: this user may not listen on {address}",
            hint="use a port from 1024 up, or give the service CAP_NET_BIND_SERVICE",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return NotReachable(
            f"intake.smtp: this machine has no address {address}",
            hint="set intake.smtp.listen to one of its own addresses",
        )
    return NotReachable(f"intake.smtp: can't listen on {address}: {error.strerror or error}")


def _own_name() -> str:
    """This machine's name as a greeting and a Message-ID can hold it."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()).strip(".-") or "localhost"
