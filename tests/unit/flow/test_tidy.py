"""Who is told that mail was given up, and who asked not to be."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from resubmit.flow.tidy import Tidy
from resubmit.handoff.routes import Table
from resubmit.handoff.settings import Destination, Route
from resubmit.journal.door import Journal
from resubmit.journal.settings import JournalSettings, Retention
from resubmit.model.moment import DAY, HOUR
from resubmit.model.recipient import Event
from resubmit.recovery.clockrule import ClockRule
from tests.helpers.journals import HandClock, arrival, move, recipient

FLOOR = JournalSettings(intake_floor="0B", attempt_floor="0B", reserve="0B")  # type: ignore[arg-type]


async def test_given_up_mail_is_told_of_but_for_those_who_asked_for_silence(tmp_path: Path) -> None:
    """RFC 3461 §4.1: NEVER, and a NOTIFY without FAILURE, are orders."""
    clock = HandClock()
    journal = await Journal.open(tmp_path / "journal", clock=clock, settings=FLOOR, inline=True)
    table = Table(
        (Route(name="eop", host="192.0.2.1"),),
        (Destination(name="hybrid", domains=["*"], handoff="eop"),),
    )
    tidy = Tidy(journal, clock, table, Retention(), ClockRule(clock), by="relay", give_up_after=5 * DAY)
    message = await journal.record(
        arrival(
            recipient("ann@contoso.com"),
            recipient("bob@contoso.com", parameters=("NOTIFY=NEVER",)),
            recipient("eve@contoso.com", parameters=("NOTIFY=SUCCESS,DELAY",)),
            recipient("dan@contoso.com", parameters=("NOTIFY=SUCCESS,FAILURE",)),
        )
    )
    clock.pass_(HOUR)
    await journal.move([move(message, Event.QUEUE_EXPIRED, n, notice="failed") for n in range(4)])

    with capture_logs():
        await tidy.tell()

    assert await journal.notices_owed(limit=9) == []
    (due,) = [d for d in await journal.due("eop", clock.now(), 9) if d.message != message]
    report = b"".join([chunk async for chunk in journal.read_body(await journal.body(due.message))])
    await journal.close()
    assert b"ann@contoso.com" in report
    assert b"dan@contoso.com" in report
    assert b"bob@contoso.com" not in report
    assert b"eve@contoso.com" not in report
