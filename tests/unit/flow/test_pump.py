"""What a route's pump has room for, and what it asks for again."""

from __future__ import annotations

import asyncio

from resubmit.flow.pump import Pump
from resubmit.handoff.settings import Route
from resubmit.journal.verbs import DueMessage, DueRecipient
from resubmit.model.recipient import State
from tests.helpers.journals import NOW, body


def message(number: int) -> DueMessage:
    one = DueRecipient(number, 0, "ann@contoso.com", (), "hybrid", "eop", State.JOURNALED, 0, NOW, None, None)
    about = ("app@example.org", (), "<1@example.org>", "smtp", "192.0.2.7", "app", "ESMTP")
    return DueMessage(number, NOW, *about, body(), (one,))


def pump() -> Pump:
    return Pump(Route(name="eop", host="mx.example.org", max_connections=2), 0)


async def test_an_answered_offer_leaves_its_connection_to_another_before_it_is_written_down() -> None:
    eop, written = pump(), asyncio.Event()
    for number in (1, 2):
        eop.start(message(number), written.wait())  # type: ignore[arg-type]
    assert eop.room(None) == 0
    eop.answered(message(1))
    assert eop.room(None) == 1
    assert eop.room(1) == -1, "a trial is alone until its result is on the disk"
    written.set()
    await asyncio.gather(*eop.under_way.values())
    assert eop.room(None) == 2
    assert not eop.ending


async def test_what_could_not_begin_rests_and_the_others_go() -> None:
    eop = pump()
    eop.rest(message(1), until=1000)
    assert eop.fill([message(1), message(2)], now=10) == 1000
    assert [due.message for due in eop.waiting] == [2]
    eop.waiting.clear()
    assert eop.fill([message(1)], now=1000) is None
    assert [due.message for due in eop.waiting] == [1]
