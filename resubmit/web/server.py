"""A tiny HTTP server for a monitoring system: /healthz, /readyz and /metrics, nothing else.

Promises: GET and HEAD only; a request's head is bounded in size and time, connections in number; one
request a connection. It says nothing about mail but counts, so it asks nobody who they are; it listens on
the loopback unless the config says otherwise.

Source: RFC 9112 (message syntax), RFC 9110 (405 with Allow). Limits: no TLS, no keep-alive.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from http import HTTPStatus

from resubmit.errors import NotReachable, ResubmitError
from resubmit.model.hostport import host_port
from resubmit.web.settings import Web

_LONGEST_HEAD = 16 * 1024
_MOST_CONNECTIONS = 64
_PATIENCE_S = 10.0

_TEXT = "text/plain; charset=utf-8"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"


class WebServer:
    """The web listener. `ready` says whether mail is taken; `metrics` gives the page and may read a disk:
    it is called in a thread, one call at a time."""

    def __init__(self, settings: Web, ready: Callable[[], bool], metrics: Callable[[], bytes]) -> None:
        self._settings = settings
        self._ready = ready
        self._metrics = metrics
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()

    async def start(self) -> None:
        """Listen. Raises NotReachable that says which address, why not and what to do."""
        host, port = host_port(self._settings.listen)
        try:
            self._server = await asyncio.start_server(
                self._client, host or None, port, limit=_LONGEST_HEAD, reuse_address=True
            )
        except OSError as error:
            why = "is in use by another program" if error.errno == errno.EADDRINUSE else error.strerror
            raise NotReachable(
                f"web.listen: {self._settings.listen}: {why}",
                hint='stop what listens there, or set another address in [web] ("" switches it off)',
            ) from None

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every socket bound."""
        return [socket.getsockname()[:2] for socket in self._server.sockets] if self._server else []

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._open) >= _MOST_CONNECTIONS:
                writer.write(_reply(HTTPStatus.SERVICE_UNAVAILABLE, b"too many connections\n"))
                return
            self._open.add(task)
            async with asyncio.timeout(_PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
            writer.write(await self._answer(head))
            async with asyncio.timeout(_PATIENCE_S):
                await writer.drain()
        except asyncio.LimitOverrunError:
            writer.write(_reply(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, b"too long\n"))
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError, asyncio.CancelledError):
            writer.transport.abort()  # the client went or was too slow, or the service stops
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _reply(HTTPStatus.BAD_REQUEST, b"not an HTTP/1 request\n")
        method, target, _ = words
        if method not in (b"GET", b"HEAD"):
            return _reply(HTTPStatus.METHOD_NOT_ALLOWED, b"GET and HEAD only\n", extra="Allow: GET, HEAD\r\n")
        status, body, kind = await self._page(target.split(b"?", 1)[0])
        return _reply(status, body, kind=kind, with_body=method == b"GET")

    async def _page(self, path: bytes) -> tuple[HTTPStatus, bytes, str]:
        if path == b"/healthz":
            return HTTPStatus.OK, b"ok\n", _TEXT
        if path == b"/readyz":
            if self._ready():
                return HTTPStatus.OK, b"ready\n", _TEXT
            return HTTPStatus.SERVICE_UNAVAILABLE, b"not ready\n", _TEXT
        if path == b"/metrics":
            async with self._one_at_a_time:
                try:
                    loop = asyncio.get_running_loop()
                    return HTTPStatus.OK, await loop.run_in_executor(None, self._metrics), _METRICS
                except ResubmitError as error:
                    return HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode(), _TEXT
        return HTTPStatus.NOT_FOUND, b"there are /healthz, /readyz and /metrics\n", _TEXT


def _reply(
    status: HTTPStatus, body: bytes, *, kind: str = _TEXT, extra: str = "", with_body: bool = True
) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n{extra}Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + (body if with_body else b"")
