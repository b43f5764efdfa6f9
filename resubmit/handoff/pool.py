"""Connections kept for each route, and the way a letter takes over them.

Promises: at most `max_connections` at once and `messages_per_connection` over each; an unused one is ended
with QUIT after a while; a kept one that the next hop closed in the meantime costs nobody an attempt. All
addresses of a host are tried in the resolver's order. Nothing is sent in clear where the route forbids it.

Limits: only loop-level I/O, so the pool runs on any loop, a simulated one included. Addresses are looked up
for each new connection: the resolver's own cache is good enough.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Coroutine

import structlog

from resubmit import logbook
from resubmit.clock import Clock
from resubmit.handoff import courier, tls, transaction
from resubmit.handoff.courier import Connection, Gone, Stopped
from resubmit.handoff.letter import Letter
from resubmit.handoff.settings import Route
from resubmit.model.attempt import Handed, Stage
from resubmit.model.moment import SECOND, Ms

log = structlog.get_logger()

IDLE_FOR: Ms = 20 * SECOND
"""How long an unused connection is kept. Shorter than the idle limits of common servers (30 s to 5 min)."""
BEFORE_A_SESSION = (Stage.LOOKUP, Stage.CONNECT, Stage.GREETING)
"""Steps before anything was spoken: failing there at every address is unreachable."""
_ORDER = list(Stage)


class Pool:
    """Hands letters over. `ehlo_name`: what we call ourselves where the route does not say."""

    def __init__(self, clock: Clock, *, ehlo_name: str = "") -> None:
        self._clock = clock
        self._ehlo_name = ehlo_name
        self._lanes: dict[str, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def hand(self, route: Route, letter: Letter) -> Handed:
        """Offer a letter over a route, once a connection is free. The far side's faults are in the result."""
        lane = self._lane(route)
        async with lane.slots:
            connection = lane.kept()
            if connection is not None:
                try:
                    return await self._offer(lane, connection, letter)
                except Gone:
                    pass  # nothing was sent: it is as if it had never been kept
            try:
                connection = await self._reach(lane)
            except _Nowhere as nowhere:
                return transaction.stopped(letter, nowhere.stop, unreachable=nowhere.unreachable)
            return await self._offer(lane, connection, letter)

    async def close(self) -> None:
        """Unused connections are ended with QUIT; those in use end after their letter."""
        self._closed = True
        for lane in self._lanes.values():
            self._drop(lane)
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def connections(self, route: str) -> int:
        """Connections of a route that are kept and unused."""
        lane = self._lanes.get(route)
        return len(lane.idle) if lane else 0

    def _lane(self, route: Route) -> _Lane:
        lane = self._lanes.get(route.name)
        if lane is None or lane.route != route:
            if lane is not None:
                self._drop(lane)  # the route was configured anew
            lane = self._lanes[route.name] = _Lane(route, ehlo_name(route.ehlo_name or self._ehlo_name))
        return lane

    async def _offer(self, lane: _Lane, connection: Connection, letter: Letter) -> Handed:
        handed = await transaction.offer(connection, letter)
        if connection.is_open:
            if self._closed or connection.used >= lane.route.messages_per_connection:
                self._spawn(connection.quit())
            else:
                self._keep(lane, connection)
        else:
            connection.close()
        return handed

    # ── new connections ───────────────────────────────────────────────────────────────────────────

    async def _reach(self, lane: _Lane) -> Connection:
        """A session with the first address that gives one. Raises _Nowhere."""
        route = lane.route
        try:
            context = None if route.tls == "none" else lane.context()
            addresses = await _lookup(route)
        except Stopped as stop:
            raise _Nowhere(stop, unreachable=stop.stage in BEFORE_A_SESSION) from stop
        stops: list[Stopped] = []
        for address in addresses:
            try:
                connection = await self._session(lane, address, context)
            except Stopped as stop:
                stops.append(stop)
                log.debug(logbook.HANDOFF_ADDRESS_FAILED, route=route.name, remote=stop.remote, why=str(stop))
            else:
                log.debug(
                    logbook.HANDOFF_CONNECTED, route=route.name, remote=connection.remote, tls=connection.tls
                )
                return connection
        # The one that came furthest says most; of equals the first.
        furthest = max(stops, key=lambda stop: _ORDER.index(stop.stage))
        if len(stops) > 1:
            furthest.text = f"{furthest.text or furthest.remote} ({len(stops)} addresses tried)"
        raise _Nowhere(furthest, unreachable=all(s.stage in BEFORE_A_SESSION for s in stops))

    async def _session(self, lane: _Lane, address: str, context: ssl.SSLContext | None) -> Connection:
        route, clock = lane.route, self._clock
        try:
            return await courier.reach(route, address, ehlo_name=lane.ehlo_name, context=context, clock=clock)
        except Stopped as stop:
            if route.tls != "opportunistic" or stop.stage not in (Stage.STARTTLS, Stage.TLS):
                raise
            # RFC 3207 §4.2 leaves no way back to clear on a session whose handshake failed.
            connection = await courier.reach(
                route, address, ehlo_name=lane.ehlo_name, context=None, clock=clock
            )
            connection.note = f"sent in clear, because TLS failed: {stop}"
            log.warning(logbook.HANDOFF_IN_CLEAR, route=route.name, remote=connection.remote, why=str(stop))
            return connection

    # ── kept connections ──────────────────────────────────────────────────────────────────────────

    def _keep(self, lane: _Lane, connection: Connection) -> None:
        connection.idle_since = self._clock.monotonic()
        lane.idle.append(connection)
        if lane.timer is None:
            loop = asyncio.get_running_loop()
            lane.timer = loop.call_later(IDLE_FOR / SECOND, self._tire, lane)

    def _tire(self, lane: _Lane) -> None:
        """Ends what was unused too long; comes again while there is something to end."""
        lane.timer = None
        oldest = self._clock.monotonic() - IDLE_FOR
        tired = [connection for connection in lane.idle if connection.idle_since <= oldest]
        lane.idle = [connection for connection in lane.idle if connection.idle_since > oldest]
        for connection in tired:
            self._spawn(connection.quit())
        if lane.idle:
            next_at = min(connection.idle_since for connection in lane.idle) - oldest
            lane.timer = asyncio.get_running_loop().call_later(max(next_at, 1) / SECOND, self._tire, lane)

    def _drop(self, lane: _Lane) -> None:
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        while lane.idle:
            self._spawn(lane.idle.pop().quit())

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Nowhere(Exception):
    """No address of the route gave a session; `stop` is the one that came furthest."""

    def __init__(self, stop: Stopped, *, unreachable: bool) -> None:
        super().__init__(str(stop))
        self.stop = stop
        self.unreachable = unreachable


class _Lane:
    """A route's connections: `slots` bounds those in use, `idle` keeps the others, the freshest last."""

    def __init__(self, route: Route, ehlo_name: str) -> None:
        self.route = route
        self.ehlo_name = ehlo_name
        self.slots = asyncio.Semaphore(route.max_connections)
        self.idle: list[Connection] = []
        self.timer: asyncio.TimerHandle | None = None
        self._context: ssl.SSLContext | None = None
        self._files: tuple[int, ...] = ()

    def kept(self) -> Connection | None:
        """The freshest kept connection that is still open."""
        while self.idle:
            connection = self.idle.pop()
            if connection.is_open:
                return connection
            connection.close()
        return None

    def context(self) -> ssl.SSLContext:
        """The route's TLS context, made anew when its files changed (a renewed client certificate).

        Raises Stopped when a file can't be used: mail then waits, and never goes without.
        """
        try:
            paths = (self.route.ca_file, self.route.client_certificate)
            files = tuple(path.stat().st_mtime_ns for path in paths if path is not None)
            if self._context is None or files != self._files:
                self._context = tls.context_of(self.route)
                self._files = files
        except OSError as error:
            where = getattr(error, "filename", None) or self.route.client_certificate or self.route.ca_file
            text = f"route {self.route.name}: a TLS file can't be used ({where}: {courier.in_words(error)})"
            raise Stopped(Stage.TLS, text, tls_below=tls.is_needed(self.route)) from error
        return self._context


async def _lookup(route: Route) -> list[str]:
    """The host's addresses, each once, in the resolver's order; those our source address can reach."""
    loop = asyncio.get_running_loop()
    host = route.host.removeprefix("[").removesuffix("]")
    family = socket.AF_UNSPEC
    if route.source_address:
        family = socket.AF_INET6 if ":" in route.source_address else socket.AF_INET
    try:
        async with asyncio.timeout(route.connect_timeout / SECOND):
            found = await loop.getaddrinfo(
                host, route.port, family=family, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
            )
    except TimeoutError as error:
        raise Stopped(Stage.LOOKUP, f"{host}: the resolver gave no answer in time (timed out)") from error
    except socket.gaierror as error:
        nowhere = error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
        said = "the name has no address" if nowhere else "the resolver gave no answer"
        raise Stopped(Stage.LOOKUP, f"{host}: {said} ({error.strerror})") from error
    except (OSError, UnicodeError) as error:
        raise Stopped(Stage.LOOKUP, f"{host}: it can't be looked up ({error})") from error
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    if not addresses:
        raise Stopped(Stage.LOOKUP, f"{host}: the name has no address")
    return addresses


def ehlo_name(wanted: str) -> str:
    """The name for EHLO: what was configured, else this machine's, in letters a server takes.

    RFC 5321 §4.1.1.1 asks for a full name; a machine that has none says what it is called.
    """
    name = re.sub(r"[^A-Za-z0-9.:\[\]-]", "-", wanted or socket.gethostname()).strip("-.")
    return name or "localhost"
