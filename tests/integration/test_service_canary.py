"""The whole service in the lab, killed between its canary and what follows it, and in the middle of that."""

from __future__ import annotations

import asyncio
import signal

import pytest

from resubmit.clock import SystemClock
from resubmit.lab import crowd
from resubmit.lab.stage import Stage
from tests.helpers.service import until

pytestmark = pytest.mark.timeout(110)

MAILS = 40
LOOKS = 5
"""Three looks opened the gate for the first canary."""


async def kill(stage: Stage) -> None:
    assert stage.service is not None
    stage.service.kill()
    assert await stage.service.wait() == -signal.SIGKILL


async def gate_is(stage: Stage, wanted: str) -> None:
    async def holds() -> bool:
        (status,) = await stage.ask("status")
        return bool({one["name"]: one["gate"] for one in status["destinations"]}["hybrid"] == wanted)

    await until(holds, stage.end_of_log)


async def arrived(stage: Stage, pairs: list[tuple[str, str]]) -> bool:
    return not crowd.count(pairs, stage.mailboxes).missing


async def test_kills_behind_the_canary_and_in_the_steps_send_nobody_twice() -> None:
    clock = SystemClock(7)
    async with Stage(clock) as stage:
        # Long enough that without proof nothing would follow the canary by itself.
        # What a kill leaves in doubt goes again when the trace has had its time to know it.
        spans = 'trace_lag = "10m"\nin_doubt_wait = "8s"'
        stage.config.write_text(stage.config.read_text().replace('trace_lag = "3s"', spans))
        stage.expire()
        await stage.serve()
        letters = [crowd.write("stuck", n, crowd.HYBRID[n % 12 : n % 12 + 1], clock) for n in range(MAILS)]
        letters = await crowd.send(letters, stage.intake_port)
        assert len(letters) == MAILS

        async def stuck() -> bool:
            found = await stage.ask("list", "--stuck", "--state", "deferred", "--limit", "0")
            return len(found) == MAILS

        await until(stuck, stage.end_of_log)
        taken = stage.online.smtp.mails
        assert len(taken) == MAILS

        # From now on nothing is told: no proof comes.
        assert stage._publishing is not None
        stage._publishing.cancel()
        stage.renew()
        await stage.online.smtp.until(lambda: len(taken) == MAILS + 1)
        await gate_is(stage, "testing")
        await kill(stage)
        enough = stage.hybrid.connections + LOOKS
        await stage.serve()
        await stage.hybrid.until(lambda: stage.hybrid.connections >= enough)
        await gate_is(stage, "testing")
        assert len(taken) == MAILS + 1, "a second canary"
        await kill(stage)

        # What was held back is told: proof and steps follow. In the middle of them it is killed once more.
        await stage.serve()
        stage._publishing = asyncio.get_running_loop().create_task(stage.publisher.run())
        await stage.online.smtp.until(lambda: len(taken) >= MAILS + 15)
        await kill(stage)
        assert len(taken) < 2 * MAILS, "too late for the middle"
        await stage.serve()
        pairs = crowd.expected(letters, stage.tenant)
        await until(lambda: arrived(stage, pairs), stage.end_of_log)
        await gate_is(stage, "open")

        async def closed() -> bool:
            return [one["state"] for one in await stage.ask("incidents", "list")] == ["closed"]

        await until(closed, stage.end_of_log)
        found = crowd.count(pairs, stage.mailboxes)
        assert (found.arrived, found.extra) == (MAILS, 0), "each once, those in doubt at the kill too"
        (report,) = await stage.ask("incidents", "report", "1")
        assert (report["stuck"], report["recovered"], report["duplicates"]) == (MAILS, MAILS, 0)
