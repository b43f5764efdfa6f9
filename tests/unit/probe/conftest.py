"""What the probe's tests share: a root, a name that resolves, one call for a look."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from resubmit.clock import SystemClock
from resubmit.model.tls import Endpoint, Verdict
from resubmit.probe.look import look
from tests.helpers import certs
from tests.helpers.odd_tls import Handler, serving

NAME = "mail.test.invalid"


@functools.cache
def chain() -> tuple[certs.Made, certs.Made, certs.Made]:
    """Root, intermediate, leaf: all well."""
    root = certs.root()
    middle = certs.intermediate(root)
    return root, middle, certs.leaf(middle)


class Look(Protocol):
    async def __call__(
        self, handler: Handler, *, timeout: int = ..., gate_closed: bool = ..., **endpoint: Any
    ) -> Verdict:
        """The verdict on a server that behaves as `handler`."""


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    path = tmp_path / "root.pem"
    path.write_bytes(chain()[0].pem)
    return str(path)


@pytest.fixture
def resolves(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`resolves("127.0.0.1", "::1")`: these are the addresses of every name, on this test's loop."""

    def to(*addresses: str) -> None:
        async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
            return [
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (a, port, 0, 0))
                if ":" in a
                else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port))
                for a in addresses
            ]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)

    return to


@pytest.fixture
def probed(ca_file: str, resolves: Callable[..., None]) -> Look:
    async def run(
        handler: Handler, *, timeout: int = 5_000, gate_closed: bool = False, **endpoint: Any
    ) -> Verdict:
        resolves("127.0.0.1")
        fields = {"host": NAME, "ca_file": ca_file, **endpoint}
        async with serving(handler) as port:
            return await look(
                Endpoint(port=port, **fields),
                clock=SystemClock(),
                timeout=timeout,
                ehlo_name="probe.test.invalid",
                gate_closed=gate_closed,
            )

    return run
