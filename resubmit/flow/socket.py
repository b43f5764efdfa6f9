"""The service's door for commands: a Unix socket in the journal's folder, a JSON object a line.

A client sends one request and reads lines until `{"result": …}` or `{"error": …, "hint": …, "exit": n}`;
`{"progress": …}` lines may come before. The socket is 0600: who may write the journal may ask.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog

from resubmit import logbook
from resubmit.errors import ResubmitError, UsageError

log = structlog.get_logger()

Progress = Callable[[dict[str, Any]], None]
CarryOut = Callable[[dict[str, Any], Progress], Awaitable[Any]]

_LONGEST_PATH = 100
"""Octets; sun_path holds 108 (unix(7))."""
_LONGEST_REQUEST = 16 * 1024 * 1024
"""`replay -` may name very many ids."""


class RequestSocket:
    """Serves requests, each in its own connection, by `carry_out`."""

    def __init__(self, path: Path, carry_out: CarryOut) -> None:
        self._path = path
        self._carry_out = carry_out
        self._server: asyncio.Server | None = None
        self._busy: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen. A socket left by a killed service is taken over: the journal's lock says it is dead."""
        self._path.unlink(missing_ok=True)
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _bind(door, self._path)
            self._path.chmod(0o600)
            self._server = await asyncio.start_unix_server(self._client, sock=door, limit=_LONGEST_REQUEST)
        except BaseException:
            door.close()
            raise

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client went, or the service stops: a job that was asked for goes on without it
        finally:
            self._busy.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(line: dict[str, Any]) -> None:
            writer.write(json.dumps(line).encode() + b"\n")

        try:
            request = json.loads(await reader.readline())
            if not isinstance(request, dict):
                raise UsageError("a request is a JSON object")
            say({"result": await self._carry_out(request, lambda progress: say({"progress": progress}))})
        except ResubmitError as error:
            say({"error": error.message, "hint": error.hint, "exit": error.exit_code})
        except ValueError as error:
            say({"error": f"not a request: {error}", "hint": "", "exit": UsageError.exit_code})
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            # The one place where a request must not end the service: it is logged and the asker told.
            log.error(logbook.REQUEST_FAILED, exc_info=error)
            say({"error": "the service met an error it did not expect", "hint": "see its log", "exit": 1})
        await writer.drain()


def _bind(door: socket.socket, path: Path) -> None:
    """Bind, also where the path is longer than a socket address holds: by way of its folder's descriptor."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        door.bind(str(path))
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        door.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
