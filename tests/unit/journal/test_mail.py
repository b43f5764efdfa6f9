"""Messages into the journal, and what is due of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from resubmit.errors import JournalError
from resubmit.journal import read
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Begun, Expect, Move, OwedNotice
from resubmit.model.evidence import Holder
from resubmit.model.moment import DAY, HOUR, MINUTE
from resubmit.model.recipient import Event, RecipientKey, State
from tests.helpers.journals import (
    NOW,
    HandClock,
    arrival,
    attempt,
    ended,
    move,
    offer,
    outcome,
    recipient,
    state,
)


async def test_a_recorded_message_comes_back_as_it_was(journal: Journal) -> None:
    octets = bytes(range(256)) * 20
    message = await journal.record(
        arrival(
            recipient("ann@contoso.com", parameters=("NOTIFY=FAILURE", "ORCPT=rfc822;a+2Bb@x")),
            recipient("bob@contoso.com"),
            octets=octets,
            sender="",
            subject="Grüße",
        )
    )
    (due,) = await journal.due("eop", NOW, 10)
    assert due.message == message
    assert (due.sender, due.parameters, due.protocol) == ("", ("BODY=8BITMIME",), "ESMTP")
    assert [r.address for r in due.recipients] == ["ann@contoso.com", "bob@contoso.com"]
    assert due.recipients[0].parameters == ("NOTIFY=FAILURE", "ORCPT=rfc822;a+2Bb@x")
    assert (await journal.body(message)).octets == octets
    assert b"".join([chunk async for chunk in journal.read_body(due.body, message)]) == octets


async def test_ids_grow_though_the_clock_goes_back(journal: Journal, clock: HandClock) -> None:
    first = await journal.record(arrival())
    clock.wall -= HOUR
    second = await journal.record(arrival())
    assert second > first


async def test_ids_go_on_growing_after_a_restart(tmp_path: Path, clock: HandClock) -> None:
    journal = await Journal.open(tmp_path / "j", clock=clock, inline=True)
    first = await journal.record(arrival())
    await journal.close()
    clock.wall -= DAY
    journal = await Journal.open(tmp_path / "j", clock=clock, inline=True)
    assert await journal.record(arrival()) > first
    await journal.close()


async def test_texts_no_database_takes_are_cleaned_and_the_bytes_are_not(journal: Journal) -> None:
    octets = b"\x00\xff\xfe"
    message = await journal.record(arrival(octets=octets, subject="a\udcffb\0c", helo="\ud800"))
    assert (await journal.body(message)).octets == octets
    (due,) = await journal.due("eop", NOW, 1)
    assert due.helo == "?"


async def test_a_message_somebody_else_took_is_born_accepted_by_attempt_one(
    journal: Journal, tmp_path: Path
) -> None:
    taken = recipient(state=State.ACCEPTED, holder=Holder.RELAY, due_at=None, deadline=NOW + DAY)
    message = await journal.record(arrival(taken))
    (stands,) = await journal.standing([RecipientKey(message, 0)])
    assert (stands.state, stands.attempt, stands.holder) == (State.ACCEPTED, 1, Holder.RELAY)
    assert stands.accepted_at == NOW
    assert await journal.due("eop", NOW + DAY, 10) == []
    with read.connect(journal.folder) as connection:
        steps = connection.execute("select event, from_state, to_state from history").fetchall()
    assert [tuple(step) for step in steps] == [("taken_elsewhere", "journaled", "accepted")]


async def test_unknown_messages_are_said_to_be(journal: Journal) -> None:
    assert await journal.message(1) is None
    with pytest.raises(JournalError):
        await journal.body(1)
    with pytest.raises(JournalError):
        await journal.add_recipient(1, recipient(), NOW, "redirected")


async def test_an_added_recipient_is_due_and_told_of(journal: Journal) -> None:
    message = await journal.record(arrival())
    n = await journal.add_recipient(
        message, recipient("eve@contoso.com", again_of=0), NOW, "redirected by pat"
    )
    assert n == 1
    assert await journal.recipients_of(message) == [(0, "ann@contoso.com"), (1, "eve@contoso.com")]
    (due,) = await journal.due("eop", NOW, 10)
    assert [r.n for r in due.recipients] == [0, 1]


async def test_the_header_is_what_stands_above_the_empty_line(journal: Journal) -> None:
    message = await journal.record(arrival(octets=b"A: 1\r\nB: 2\r\n\r\nbody\r\n"))
    assert await journal.header(message) == b"A: 1\r\nB: 2\r\n"
    assert await journal.header(message + 1) == b""


# ── due ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_recipients_that_share_route_number_and_job_are_one_offer(journal: Journal) -> None:
    message = await journal.record(
        arrival(recipient("a@x"), recipient("b@x"), recipient("c@x", route="other"), recipient("d@x"))
    )
    begun = await journal.begin(offer(message, Expect(3, State.JOURNALED, 0)))
    assert isinstance(begun, Begun)
    await journal.end(ended(begun, outcome(Event.REPLY_DEFERRED, 3, due_at=NOW + MINUTE), dot_at=None))
    offers = await journal.due("eop", NOW + HOUR, 10)
    assert [[r.n for r in due.recipients] for due in offers] == [[0, 1], [3]]
    assert [due.failures for due in offers] == [0, 1]
    assert [[r.n for r in due.recipients] for due in await journal.due("other", NOW, 10)] == [[2]]


async def test_what_is_not_due_yet_waits(journal: Journal) -> None:
    await journal.record(arrival(recipient(due_at=NOW + HOUR)))
    assert await journal.due("eop", NOW, 10) == []
    assert await journal.next_due("eop") == NOW + HOUR
    assert await journal.next_due("other") is None
    assert await journal.routes_with_work() == ["eop"]


async def test_new_mail_goes_before_a_jobs(journal: Journal) -> None:
    old = await journal.record(arrival())
    await attempt(journal, old, Event.REPLY_REFUSED_MENDABLE)
    await journal.make_due([RecipientKey(old, 0)], NOW, None, None)
    from tests.unit.journal.test_jobs import asked

    job = await journal.ask(asked(RecipientKey(old, 0)))
    assert await journal.make_due([RecipientKey(old, 0)], NOW, "eop", job) == 1
    new = await journal.record(arrival(recipient(due_at=NOW + HOUR)))
    offers = await journal.due("eop", NOW + HOUR, 10)
    assert [due.message for due in offers] == [new, old]
    assert [due.recipients[0].job for due in offers] == [None, job]
    assert [due.message for due in await journal.due("eop", NOW + HOUR, 1)] == [new]


async def test_retries_to_a_dead_route_cost_the_others_nothing(journal: Journal) -> None:
    many = arrival(*(recipient(f"u{i}@x", route="dead") for i in range(20_000)))
    await journal.record(many)
    message = await journal.record(arrival())
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    assert journal._reading is not None or await journal.next_due("eop")
    assert journal._reading is not None
    journal._reading.set_progress_handler(count, 100)
    assert [due.message for due in await journal.due("eop", NOW, 10)] == [message]
    assert await journal.routes_with_work() == ["dead", "eop"]
    journal._reading.set_progress_handler(None, 0)
    assert steps < 20


async def test_timers_are_those_in_doubt_and_those_of_ours_past_their_deadline(journal: Journal) -> None:
    doubt = await journal.record(arrival())
    await attempt(journal, doubt, Event.REPLY_LOST)
    late = await journal.record(arrival(recipient(deadline=NOW + HOUR)))
    await journal.record(arrival())
    found = await journal.timers(NOW + HOUR)
    assert [one.key.message for one in found] == [doubt, late]


# ── notices ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_notice_is_owed_until_its_message_is_journaled(journal: Journal) -> None:
    message = await journal.record(arrival(recipient("ann@contoso.com", parameters=("NOTIFY=FAILURE",))))
    await attempt(
        journal,
        message,
        Event.REPLY_REFUSED,
        code=550,
        enhanced="5.1.1",
        reply="550 5.1.1 unknown",
        notice="failed",
    )
    key = RecipientKey(message, 0)
    assert await journal.notices_owed() == [
        OwedNotice(
            key,
            "failed",
            "ann@contoso.com",
            ("NOTIFY=FAILURE",),
            550,
            "5.1.1",
            "550 5.1.1 unknown",
            "mx.example.net [198.51.100.1]",
            1,
        )
    ]
    await journal.record(arrival(sender="", intake="dsn", tells=(key,)))
    assert await journal.notices_owed() == []


async def test_an_event_that_moves_nothing_owes_no_notice(journal: Journal) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message)
    await journal.move([move(message, Event.QUEUE_EXPIRED, notice="failed")])
    assert await state(journal, message) is State.ACCEPTED
    assert await journal.notices_owed() == []


async def test_an_excused_notice_is_owed_no_more(journal: Journal) -> None:
    message = await journal.record(arrival())
    await journal.move([Move(message, 0, Event.QUEUE_EXPIRED, NOW, "given up", notice="failed")])
    assert len(await journal.notices_owed()) == 1
    assert await journal.excuse([RecipientKey(message, 0), RecipientKey(message, 7)]) == 1
    assert await journal.notices_owed() == []


async def test_a_change_is_told_once_a_commit(journal: Journal) -> None:
    heard: list[str] = []
    journal.on_change = heard.append
    await asyncio.gather(*(journal.record(arrival()) for _ in range(5)))
    assert heard == ["due"]
