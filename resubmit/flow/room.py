"""What a full disk makes wait: nothing that was to be written is given up for it.

New mail is refused at intake and no attempt is begun below the floors; this is for a disk that somebody
else filled faster than that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from resubmit import logbook
from resubmit.clock import sleep
from resubmit.errors import JournalFull
from resubmit.model.moment import SECOND, Ms

T = TypeVar("T")

log = structlog.get_logger()

AGAIN: Ms = SECOND
"""How long until the disk is tried again."""


async def with_room(write: Callable[[], Awaitable[T]], loop: str) -> T:
    """What `write` returns, tried again as long as the disk is full; said once."""
    told = False
    while True:
        try:
            return await write()
        except JournalFull as full:
            if not told:
                log.warning(logbook.JOURNAL_FOUND_FULL, loop=loop, reason=str(full))
            told = True
        await sleep(AGAIN)


async def run_with_room(run: Callable[[], Awaitable[None]], loop: str) -> None:
    """A loop that starts anew from the journal's facts whenever a full disk ended it."""
    while True:
        try:
            await run()
            return
        except* JournalFull as full:
            log.warning(logbook.JOURNAL_FOUND_FULL, loop=loop, reason=str(full.exceptions[0]))
        await sleep(AGAIN)
