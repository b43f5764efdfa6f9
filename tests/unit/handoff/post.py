"""Letters and routes for the handoff's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from resubmit.handoff.letter import Letter
from resubmit.handoff.settings import Route
from tests.helpers.relay import Script

HEAD = b"Received: by us.invalid\r\n\tid 01ARZ3NDEKTSV.1;\r\n\tTue, 24 Nov 2026 12:00:00 +0000\r\n"
BODY = b"Subject: a letter\r\nMessage-ID: <1@app.invalid>\r\n\r\nGood day.\r\n"


def script(**values: Any) -> Script:
    """A script of which only this is told."""
    return Script(**values)


def route(port: int, **values: Any) -> Route:
    """A route to 127.0.0.1, in clear unless told otherwise, with short times."""
    return Route(
        **{
            "name": "next",
            "host": "127.0.0.1",
            "port": port,
            "tls": "none",
            "connect_timeout": "2s",
            "timeout": "2s",
            "data_timeout": "2s",
            "ehlo_name": "us.invalid",
            **values,
        }
    )


def letter(
    body: bytes = BODY,
    *recipients: str,
    sender: str = "app@app.invalid",
    parameters: tuple[str, ...] = (),
    of_each: tuple[str, ...] = (),
    head: bytes = HEAD,
    block: int = 65536,
    no: int = 1,
    size: int | None = None,
) -> Letter:
    """A letter whose body comes in blocks; to one recipient when none is named."""

    async def blocks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), block):
            yield body[start : start + block]

    named = recipients or ("anna@contoso.invalid",)
    return Letter(
        sender=sender,
        parameters=parameters,
        recipients=tuple((n, address, of_each) for n, address in enumerate(named)),
        head=head,
        size=len(body) if size is None else size,
        open_body=blocks,
        key="01ARZ3NDEKTSV.1",
        no=no,
    )


async def until(holds: Callable[[], bool], within: float = 5.0) -> None:
    """Returns once it holds; for what no event tells of. TimeoutError after a while."""
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.005)
