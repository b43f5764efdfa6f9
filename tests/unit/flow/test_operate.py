"""What an operator decides for single recipients, on a real journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from resubmit.errors import UsageError
from resubmit.flow.operate import Operate
from resubmit.handoff.routes import Table
from resubmit.handoff.settings import Destination, Route
from resubmit.journal import moves
from resubmit.journal.door import Journal
from resubmit.journal.settings import JournalSettings
from resubmit.journal.verbs import Begun
from resubmit.model.filter import Filter
from resubmit.model.moment import DAY
from resubmit.model.recipient import Event, RecipientKey, State
from tests.helpers.journals import HandClock, arrival, attempt, ended, offer, outcome, recipient, state


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "strict", True)


class Desk:
    """A journal and an operator before it."""

    def __init__(self, journal: Journal, clock: HandClock) -> None:
        self.journal = journal
        routes = (Route(name="eop", host="192.0.2.1"), Route(name="out", host="192.0.2.2"))
        table = Table(
            routes,
            (
                Destination(name="hybrid", domains=["contoso.com"], handoff="eop"),
                Destination(name="others", domains=["example.net"], handoff="out"),
            ),
            {"others": frozenset({"bob@example.net", "ann@example.net"})},
        )
        self.operate = Operate(journal, clock, table, give_up_after=5 * DAY)

    async def ask(self, do: str, *messages: int, **options: Any) -> dict[str, Any]:
        plain = Filter(ids=messages).to_plain()
        return await self.operate({"do": do, "filter": plain, "options": options, "by": "pat", "reason": "x"})


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    clock = HandClock()
    none = JournalSettings(intake_floor="0B", attempt_floor="0B", reserve="0B")  # type: ignore[arg-type]
    journal = await Journal.open(tmp_path / "journal", clock=clock, settings=none, inline=True)
    yield Desk(journal, clock)
    await journal.close()


async def test_what_is_held_already_is_no_failure(desk: Desk) -> None:
    message = await desk.journal.record(arrival(recipient("ann@contoso.com"), recipient("eve@contoso.com")))

    assert await desk.ask("hold", message) == {"matched": 2, "changed": 2, "already": 0, "left": {}}
    assert await desk.ask("hold", message) == {"matched": 2, "changed": 0, "already": 2, "left": {}}
    assert await desk.ask("release", message) == {"matched": 2, "changed": 2, "already": 0, "left": {}}
    assert await desk.ask("release", message) == {"matched": 2, "changed": 0, "already": 2, "left": {}}
    assert await desk.ask("cancel", message) == {"matched": 2, "changed": 2, "already": 0, "left": {}}
    assert await desk.ask("hold", message) == {
        "matched": 2, "changed": 0, "already": 0, "left": {"cancelled": 2},
    }  # fmt: skip


async def test_an_open_attempt_is_waited_for(desk: Desk) -> None:
    """Its end decides where the mail is: cancelled in between, it would be cancelled and delivered."""
    message = await desk.journal.record(arrival())
    begun = await desk.journal.begin(offer(message))
    assert isinstance(begun, Begun)

    asked = asyncio.create_task(desk.ask("hold", message))
    await asyncio.sleep(0)
    assert await state(desk.journal, message) is State.SENDING
    assert not asked.done()
    await desk.journal.end(ended(begun, outcome(Event.REPLY_ACCEPTED)))

    assert (await asked)["changed"] == 1
    assert await state(desk.journal, message) is State.HELD


async def test_a_redirect_cancels_the_one_and_adds_the_other(desk: Desk) -> None:
    message = await desk.journal.record(
        arrival(recipient("ann@contoso.com", parameters=("ORCPT=rfc822;ann@contoso.com", "NOTIFY=NEVER")))
    )
    await attempt(desk.journal, message)

    assert (await desk.ask("redirect", message, to="bob@example.net"))["changed"] == 1

    assert await state(desk.journal, message) is State.CANCELLED
    (due,) = await desk.journal.due("out", HandClock().now(), 9)
    (new,) = due.recipients
    assert (new.n, new.address) == (1, "bob@example.net")
    assert new.parameters == ("ORCPT=rfc822;ann@contoso.com", "NOTIFY=NEVER")
    (stands,) = await desk.journal.standing([RecipientKey(message, 1)])
    assert (stands.destination, stands.state) == ("others", State.JOURNALED)


async def test_two_redirected_to_one_address_are_sent_to_it_once(desk: Desk) -> None:
    message = await desk.journal.record(arrival(recipient("ann@contoso.com"), recipient("eve@contoso.com")))

    assert (await desk.ask("redirect", message, to="bob@example.net"))["changed"] == 2
    assert (await desk.ask("redirect", message, to="BOB@example.net"))["matched"] == 2

    addresses = [address for _, address in await desk.journal.recipients_of(message)]
    assert addresses == ["ann@contoso.com", "eve@contoso.com", "bob@example.net"]


async def test_a_redirect_to_nowhere_changes_nothing(desk: Desk) -> None:
    message = await desk.journal.record(arrival())

    for to in ("bob@fabrikam.com", "nobody@example.net", ""):
        with pytest.raises(UsageError):
            await desk.ask("redirect", message, to=to)

    assert await state(desk.journal, message) is State.JOURNALED


async def test_the_address_itself_is_not_redirected_to_itself(desk: Desk) -> None:
    message = await desk.journal.record(arrival())

    assert (await desk.ask("redirect", message, to="ann@contoso.com"))["matched"] == 0
    assert await state(desk.journal, message) is State.JOURNALED
