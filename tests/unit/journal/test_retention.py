"""What may go, and what may not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from resubmit.errors import JournalError
from resubmit.journal import read, retention
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Begun, Coverage, Expect, LookRow, Observed
from resubmit.model.evidence import Cause
from resubmit.model.moment import DAY, HOUR
from resubmit.model.recipient import Event, RecipientKey, State
from tests.helpers.journals import NOW, HandClock, arrival, attempt, move, offer, recipient, row, seen, state
from tests.unit.journal.test_jobs import asked, deferred

LATER = NOW + 40 * DAY


async def left(journal: Journal, messages: list[int]) -> list[int]:
    return [message for message in messages if await journal.message(message) is not None]


async def test_delivered_mail_goes_with_all_that_hangs_on_it(journal: Journal, clock: HandClock) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message)
    incident = await journal.open_incident("hybrid", "eop", "tls", NOW, NOW)
    await journal.join_incident(incident, [RecipientKey(message, 0)], NOW)
    job = await journal.ask(asked(RecipientKey(message, 0), state="done"))
    await journal.observe(
        [seen(message, Event.SEEN_DELIVERED, binds=True, network_message_id="g", status="delivered")]
    )
    await journal.set_job_items(job, [(RecipientKey(message, 0), "proved", 1)])
    clock.pass_(40 * DAY)
    assert await journal.prune("delivered", NOW) == 0
    assert await journal.prune("delivered", LATER) == 1
    assert await journal.prune("delivered", LATER) == 0
    with read.connect(journal.folder) as connection:
        tables = "message body recipient offer attempt binding history evidence evidence_link"
        for table in tables.split():
            assert connection.execute(f"select count(*) from {table}").fetchone()[0] == 0, table
        assert connection.execute("pragma foreign_key_check").fetchall() == []
    counts = await journal.incident_counts(incident)
    assert (counts["stuck"], counts["recovered"]) == (1, 1)
    row_ = await journal.job(job)
    assert row_ is not None
    assert (row_.recipients, row_.delivered) == (1, 1)


async def test_nothing_unsettled_goes(journal: Journal, clock: HandClock) -> None:
    journaled = await journal.record(arrival())
    sending = await journal.record(arrival())
    await journal.begin(offer(sending))
    retrying = await journal.record(arrival())
    await attempt(journal, retrying, Event.REPLY_DEFERRED, due_at=NOW)
    doubt = await journal.record(arrival())
    await attempt(journal, doubt, Event.REPLY_LOST)
    expired = await journal.record(arrival())
    await attempt(journal, expired, Event.REPLY_REFUSED_MENDABLE)
    stuck = (await deferred(journal)).message
    held = await journal.record(arrival())
    await journal.move([move(held, Event.OPERATOR_HELD)])
    accepted = await journal.record(arrival())
    await attempt(journal, accepted)
    half = await journal.record(arrival(recipient("a@x"), recipient("b@x")))
    await attempt(journal, half, Event.REPLY_FINAL)
    owing = await journal.record(arrival())
    await attempt(journal, owing, Event.REPLY_REFUSED, notice="failed")
    overtaken = await journal.record(arrival())
    begun = await journal.begin(offer(overtaken))
    assert isinstance(begun, Begun)
    await journal.observe([seen(overtaken, Event.SEEN_DELIVERED, "o")])
    everything = [journaled, sending, retrying, doubt, expired, stuck, held, accepted, half, owing, overtaken]
    clock.pass_(400 * DAY)
    for rule in ("delivered", "settled"):
        assert await journal.prune(rule, NOW + 399 * DAY) == 0
    assert await left(journal, everything) == everything


async def test_settled_mail_goes_later_than_delivered(journal: Journal) -> None:
    failed = await journal.record(arrival())
    await attempt(journal, failed, Event.REPLY_REFUSED)
    cancelled = await journal.record(arrival())
    await journal.move([move(cancelled, Event.OPERATOR_CANCELLED)])
    assert await journal.prune("delivered", LATER) == 0
    assert await journal.prune("settled", NOW - DAY) == 0
    assert await journal.prune("settled", LATER) == 2


async def test_unproven_mail_loses_its_body_and_says_so(journal: Journal, tmp_path: Path) -> None:
    spool = journal.new_spool()
    await spool.write(os.urandom(200_000))
    large = await journal.record(arrival(body=await spool.finish()))
    small = await journal.record(arrival())
    for message in (large, small):
        await attempt(journal, message)
    assert await journal.prune("unproven", LATER) == 2
    assert await journal.prune("unproven", LATER) == 0
    assert list((journal.folder / "bodies").iterdir()) == []
    for message in (large, small):
        assert await state(journal, message) is State.ACCEPTED
        (stands,) = await journal.standing([RecipientKey(message, 0)])
        assert not stands.body_kept
        with pytest.raises(JournalError, match="pruned"):
            await journal.body(message)
        assert await journal.header(message) == b""
    with read.connect(journal.folder) as connection:
        told = connection.execute("select event, from_state, to_state from history where event = 'pruned'")
        assert [tuple(one) for one in told] == [("pruned", "accepted", "accepted")] * 2


async def test_what_has_no_body_is_shown_and_not_sent(journal: Journal) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message)
    await journal.prune("unproven", LATER)
    await journal.observe([seen(message, Event.SEEN_DEFERRED, cause=Cause.TLS)])
    key = RecipientKey(message, 0)
    job = await journal.ask(asked(key))
    assert await journal.make_due([key], NOW, None, job) == 0
    assert [one.state for one in await journal.job_items(job)] == ["skipped"]
    assert not isinstance(await journal.begin(offer(message, Expect(0, State.DEFERRED, 1))), Begun)


async def test_unproven_mail_that_a_job_released_keeps_its_body(journal: Journal) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message)
    await journal.make_due([RecipientKey(message, 0)], NOW)
    assert await journal.prune("unproven", LATER) == 0


async def test_slices_go_on_where_the_last_ended(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "WINDOW", 7)
    kept: list[int] = []
    for i in range(40):
        message = await journal.record(arrival())
        if i % 3:
            await attempt(journal, message, Event.REPLY_FINAL)
        else:
            kept.append(message)
    gone = []
    while count := await journal.prune("delivered", LATER, limit=5):
        gone.append(count)
    assert sum(gone) == 26
    assert max(gone) <= 5
    assert await left(journal, kept) == kept


async def test_old_evidence_of_nobody_looks_and_coverage_go_with_what_is_settled(journal: Journal) -> None:
    await journal.observe([Observed(row(), "unmatched", "none")])
    for at in (NOW, NOW + HOUR):
        await journal.looked(LookRow("route:eop", at, "healthy", (), "", "{}"))
    await journal.covered(Coverage("graph", NOW, NOW + HOUR, NOW + HOUR))
    assert await journal.prune("settled", LATER) == 3
    assert await journal.prune("settled", LATER) == 0
    assert [look.at for look in await journal.looks("route:eop", 0)] == [NOW + HOUR]


async def test_ambiguous_evidence_that_moved_somebody_is_kept(journal: Journal) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message)
    both = Observed(row(), "ambiguous", "two alike", moves=(move(message, Event.SEEN_DEFERRED, attempt=1),))
    await journal.observe([replace(both)])
    assert await journal.prune("settled", LATER) == 0
    assert len(await journal.unmatched()) == 1


async def test_a_rule_that_is_none_is_refused(journal: Journal) -> None:
    with pytest.raises(JournalError, match="retention rule"):
        await journal.prune("everything", LATER)


async def test_a_backup_is_a_whole_journal(journal: Journal, tmp_path: Path, clock: HandClock) -> None:
    spool = journal.new_spool()
    await spool.write(os.urandom(200_000))
    body = await spool.finish()
    large = await journal.record(arrival(body=body))
    small = await journal.record(arrival())
    to = tmp_path / "backup"
    await journal.backup(to)
    with pytest.raises(JournalError, match="already"):
        await journal.backup(to)
    copy = await Journal.open(to, clock=clock, inline=True)
    assert (await copy.body(small)).octets == (await journal.body(small)).octets
    assert b"".join([part async for part in copy.read_body(await copy.body(large))]) == b"".join(
        [part async for part in journal.read_body(body)]
    )
    await copy.close()
