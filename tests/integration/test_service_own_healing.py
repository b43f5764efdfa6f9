"""What Exchange Online does by itself: it delivers, or gives up a copy of what we sent again long ago."""

from __future__ import annotations

import pytest

from resubmit.clock import SystemClock
from resubmit.lab import crowd
from resubmit.lab.stage import Stage
from resubmit.lab.trace import PENDING
from tests.helpers.service import until

pytestmark = pytest.mark.timeout(110)

MAILS = 12


async def stuck(stage: Stage, clock: SystemClock) -> list[crowd.Letter]:
    """So many mails, each to one hybrid recipient, deferred on TLS."""
    stage.expire()
    await stage.serve()
    letters = [crowd.write("stuck", n, crowd.HYBRID[n : n + 1], clock) for n in range(MAILS)]
    letters = await crowd.send(letters, stage.intake_port)
    assert len(letters) == MAILS

    async def deferred() -> bool:
        return len(await stage.ask("list", "--stuck", "--state", "deferred", "--limit", "0")) == MAILS

    await until(deferred, stage.end_of_log)
    return letters


async def states(stage: Stage) -> dict[str, int]:
    found: dict[str, int] = {}
    for message in await stage.ask("list", "--limit", "0"):
        for recipient in message["recipients"]:
            found[recipient["state"]] = found.get(recipient["state"], 0) + 1
    return found


async def healed(stage: Stage) -> bool:
    """The mailbox has a copy a moment before its sender knows."""
    return all(row.status() != PENDING for row in stage.online.trace.rows)


async def test_what_it_delivers_by_itself_is_not_sent_again() -> None:
    clock = SystemClock(7)
    async with Stage(clock) as stage:
        letters = await stuck(stage, clock)
        assert stage.service is not None
        stage.service.terminate()
        await stage.service.wait()

        # While nobody looks it heals, and the trace says so before we are back.
        stage.renew()
        stage.online.retry()
        pairs = crowd.expected(letters, stage.tenant)
        await stage.mailboxes.until(len(pairs))
        await until(lambda: healed(stage), stage.end_of_log)
        # Read while the service is down, so that it is known before anything can be decided.
        stage.publisher.publish(clock.now())
        code, _, told = await stage.command("ingest", *map(str, stage.publisher.files))
        assert code == 0, told
        await stage.serve()

        async def settled() -> bool:
            return await states(stage) == {"delivered": MAILS}

        await until(settled, stage.end_of_log)

        async def closed() -> bool:
            return [one["state"] for one in await stage.ask("incidents", "list")] == ["closed"]

        await until(closed, stage.end_of_log)
        found = crowd.count(pairs, stage.mailboxes)
        assert (found.arrived, found.extra) == (MAILS, 0)
        assert len(stage.online.smtp.mails) == MAILS


async def test_the_report_about_its_old_copy_moves_nobody_who_has_the_mail() -> None:
    clock = SystemClock(7)
    async with Stage(clock) as stage:
        senders = ", ".join(f'"{sender}"' for sender in crowd.SENDERS)
        with stage.config.open("a") as config:
            config.write(f"\n[intake.reports]\naddresses = [{senders}]\n")
        letters = await stuck(stage, clock)
        stage.renew()
        pairs = crowd.expected(letters, stage.tenant)

        async def delivered() -> bool:
            return await states(stage) == {"delivered": MAILS}

        await until(delivered, stage.end_of_log)
        assert len(stage.online.smtp.mails) == 2 * MAILS

        # A day later, by its own count, it gives up what it still has, and tells the senders.
        stage.online.return_to("127.0.0.1", stage.intake_port)
        stage.online.give_up()

        async def told() -> int:
            count = 0
            for message in await stage.ask("list", "--limit", "0"):
                (shown,) = await stage.ask("show", message["id"])
                timeline = [step for recipient in shown["recipients"] for step in recipient["timeline"]]
                count += any("Message expired" in str(step) for step in timeline)
            return count

        async def all_told() -> bool:
            return await told() == MAILS

        await until(all_told, stage.end_of_log)
        (status,) = await stage.ask("status")
        assert status["unreadable"] == []
        assert await states(stage) == {"delivered": MAILS}
        assert len(stage.online.smtp.mails) == 2 * MAILS
        found = crowd.count(pairs, stage.mailboxes)
        assert (found.arrived, found.extra) == (MAILS, 0)
