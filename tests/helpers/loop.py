"""An asyncio loop with a clock and a net of its own: real protocol bytes, real TLS, no waiting.

Time moves only when nothing is left to do, and then at once to the next timer. Connections are pairs of
memory transports with latency, cuts and refusals from a seeded source. Executors run in place. The same
seed gives the same run: ties between timers are broken by the order they were made in.

Limits: OpenSSL judges dates by the real clock, so certificates are dated from it.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import random
import socket
from collections.abc import Callable
from typing import Any

_Address = tuple[str, int]


class Deadlock(RuntimeError):
    """Nothing is ready, no timer is set, and somebody still waits."""


class _Selector:
    """Stands where a selector stands: instead of waiting, it moves the clock."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Deadlock("the simulated world stands still")
        self._loop.now += timeout
        return []

    def close(self) -> None:
        pass


class SimulatedLoop(asyncio.BaseEventLoop):
    """The loop. `names` maps host names to addresses. `cut_odds`: the chance that a connection to an address
    breaks; after so many writes, so that it does not hang on the lengths of signatures. `owner`: what is
    noted of who opens a connection."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.now = 0.0
        self.chance = random.Random(f"net {seed}")
        self.names: dict[str, list[str]] = {}
        self.servers: dict[_Address, _Server] = {}
        self.pipes: dict[_Pipe, None] = {}
        self.latency = (0.001, 0.02)
        self.cut_odds: Callable[[_Address], float] = lambda address: 0.0
        self.owner: Callable[[], object] = lambda: None
        self.host = ""
        self.cuts = 0
        self._ties = 0
        self._selector = _Selector(self)

    # ── time ──

    def time(self) -> float:
        return self.now

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        # asyncio's heap does not keep equal times in order: a tie is made a later time, too small to matter.
        self._ties += 1
        return super().call_at(when + self._ties * 1e-12, callback, *args, context=context)

    # ── executors and threads run in place ──

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self.create_future()
        try:
            future.set_result(func(*args))
        except BaseException as error:
            future.set_exception(error)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        pass

    # ── the net ──

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        addresses = self.names.get(host) or ([host] if _is_literal(host) else [])
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(port))) for address in addresses]

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any
    ) -> _Server:
        hosts = [host] if isinstance(host, str) else list(host or ["127.0.0.1"])
        port = port or 20_000 + len(self.servers)
        server = _Server(self, protocol_factory, [(name, port) for name in hosts])
        for address in server.addresses:
            if address in self.servers:
                raise OSError(98, "Address already in use")
            self.servers[address] = server
        return server

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, *, ssl: Any = None, **_: Any
    ) -> tuple[Any, Any]:
        assert not ssl, "the simulated net starts in clear"
        infos = await self.getaddrinfo(host, port)
        await asyncio.sleep(self.chance.uniform(*self.latency))
        error: OSError = ConnectionRefusedError(111, f"Connection refused by {host}:{port}")
        for *_rest, address in infos:
            server = self.servers.get(tuple(address[:2]))
            if server is None or server.closed:
                continue
            cut_after = None
            if self.chance.random() < self.cut_odds(tuple(address[:2])):
                cut_after = int(self.chance.paretovariate(0.8))
                self.cuts += 1
            near, far = _Pipe.pair(self, tuple(address[:2]), cut_after)
            near.owner = self.owner()
            # What a server does for a connection is its own, not its client's.
            far.context = server.context.copy()
            far.context.run(far.accept, server.factory)
            protocol = protocol_factory()
            near.set_protocol(protocol)
            protocol.connection_made(near)
            return near, protocol
        raise error


def _is_literal(host: object) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, str(host))
    except OSError:
        return host == "::1"
    return True


class _Server:
    """What create_server returns: as much of asyncio.Server as is used."""

    def __init__(self, loop: SimulatedLoop, factory: Any, addresses: list[_Address]) -> None:
        self.loop = loop
        self.factory = factory
        self.addresses = addresses
        self.closed = False
        self.context = contextvars.copy_context()

    @property
    def sockets(self) -> list[_Named]:
        return [_Named(address) for address in self.addresses]

    def close(self) -> None:
        self.closed = True
        for address in self.addresses:
            if self.loop.servers.get(address) is self:
                del self.loop.servers[address]

    async def wait_closed(self) -> None:
        await asyncio.sleep(0)

    async def start_serving(self) -> None:
        pass

    def is_serving(self) -> bool:
        return not self.closed

    async def __aenter__(self) -> _Server:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class _Named:
    def __init__(self, address: _Address) -> None:
        self._address = address

    def getsockname(self) -> _Address:
        return self._address


class _Pipe(asyncio.Transport):
    """One end of a connection in memory."""

    _start_tls_compatible = True

    def __init__(self, loop: SimulatedLoop, address: _Address, local: _Address) -> None:
        super().__init__(
            {"peername": address, "sockname": local, "socket": None, "sslcontext": None, "compression": None}
        )
        self.loop = loop
        self.address = address
        self.local = local
        self.owner: object = None
        self.context = contextvars.copy_context()
        self.protocol: Any = None
        self.other: _Pipe
        self.inbox: collections.deque[bytes | None] = collections.deque()
        self.paused = False
        self.closing = False
        self.lost = False
        self.cut_after: int | None = None
        self.arrives_at = 0.0
        self._scheduled = False
        loop.pipes[self] = None

    @classmethod
    def pair(cls, loop: SimulatedLoop, server: _Address, cut_after: int | None) -> tuple[_Pipe, _Pipe]:
        client = ("127.0.0.1", 40_000 + loop.chance.randrange(20_000))
        near, far = cls(loop, server, client), cls(loop, client, server)
        near.other, far.other = far, near
        near.cut_after = far.cut_after = cut_after
        return near, far

    def accept(self, factory: Callable[[], Any]) -> None:
        """A server's protocol has this end."""
        self.protocol = factory()
        self.protocol.connection_made(self)

    # ── as a transport ──

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return not self.paused and not self.closing

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        self._deliver_later(0.0)

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.other._arrive(None)

    def write(self, data: Any) -> None:
        if self.lost or self.closing or not data:
            return
        octets = bytes(data)
        if self.cut_after is not None:
            self.cut_after -= 1
            self.other.cut_after = self.cut_after
            if self.cut_after <= 0:
                # The last write may still arrive, whole or in part, and be read or not before the end.
                self.other._arrive(octets[: self.loop.chance.choice((0, len(octets) // 2, len(octets)))])
                self.loop.call_later(self.loop.chance.uniform(0, 2 * self.loop.latency[1]), self._cut)
                self.cut_after = self.other.cut_after = None
                self.closing = True
                return
        self.other._arrive(octets)

    def close(self) -> None:
        if self.closing:
            return
        self.closing = True
        self.other._arrive(None)
        self.loop.call_soon(self._lose, None)

    def abort(self) -> None:
        self._cut()

    def _force_close(self, error: BaseException | None) -> None:
        # asyncio's TLS ends the transport below it so when a handshake fails.
        self._cut()

    # ── inside ──

    def _cut(self) -> None:
        for end in (self, self.other):
            if not end.lost:
                end.closing = True
                self.loop.call_soon(end._lose, ConnectionResetError(104, "Connection reset by peer"))

    def _lose(self, error: Exception | None) -> None:
        if self.lost:
            return
        self.lost = True
        self.loop.pipes.pop(self, None)
        if self.protocol is not None:
            self.protocol.connection_lost(error)

    def _arrive(self, octets: bytes | None) -> None:
        if octets == b"":
            return
        self.inbox.append(octets)
        delay = self.loop.chance.uniform(*self.loop.latency)
        self.arrives_at = max(self.arrives_at, self.loop.now + delay)
        self._deliver_later(self.arrives_at - self.loop.now)

    def _deliver_later(self, delay: float) -> None:
        if not self._scheduled and self.inbox:
            self._scheduled = True
            self.loop.call_later(delay, self._deliver, context=self.context)

    def _deliver(self) -> None:
        self._scheduled = False
        if self.paused or self.lost or not self.inbox:
            return
        octets = self.inbox.popleft()
        if octets is None:
            keep_open = self.protocol.eof_received() if not self.closing else None
            if not keep_open:
                self.close()
        elif not self.closing:
            _feed(self.protocol, octets)
        self._deliver_later(0.0)


def _feed(protocol: Any, octets: bytes) -> None:
    if isinstance(protocol, asyncio.BufferedProtocol):
        left = memoryview(octets)
        while left:
            buffer = protocol.get_buffer(len(left))
            room = memoryview(buffer)
            count = min(len(room), len(left))
            room[:count] = left[:count]
            protocol.buffer_updated(count)
            left = left[count:]
    else:
        protocol.data_received(octets)
