"""A pool, and a scripted next hop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from resubmit.clock import SystemClock
from resubmit.handoff.pool import Pool
from tests.helpers.relay import Script, ScriptedServer


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    pool = Pool(SystemClock(seed=1), ehlo_name="us.invalid")
    yield pool
    await pool.close()


@pytest.fixture
async def hop() -> AsyncIterator[ScriptedServer]:
    """A next hop that takes everything, until its script is changed."""
    async with ScriptedServer(Script(name="hop.invalid")) as server:
        yield server
