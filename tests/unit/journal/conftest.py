"""A journal in a real file, in the test's own thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from resubmit.journal import moves
from resubmit.journal.door import Journal
from tests.helpers.journals import HandClock


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "strict", True)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest_asyncio.fixture
async def journal(tmp_path: Path, clock: HandClock) -> AsyncIterator[Journal]:
    opened = await Journal.open(tmp_path / "journal", clock=clock, inline=True)
    yield opened
    await opened.close()
