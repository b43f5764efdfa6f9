"""A wake: one loop tells another that there is something to look at."""

from __future__ import annotations

import asyncio

from resubmit.model.moment import Ms


class Wake:
    """Calls may be lost or doubled: who waits looks at the journal, never at the call.

    `wait` returns when somebody called since the last wait, or after `span` ms (None: only when called).
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def __call__(self) -> None:
        self._event.set()

    async def wait(self, span: Ms | None) -> None:
        if not self._event.is_set():
            try:
                async with asyncio.timeout(None if span is None else max(span, 0) / 1000):
                    await self._event.wait()
            except TimeoutError:
                pass
        self._event.clear()
