"""What waits for a route's gate goes when the gate turns, and not when its own retry would have been due."""

from __future__ import annotations

from typing import Any

from resubmit.journal.door import Journal
from resubmit.journal.verbs import Begun, Expect, Haste, JobAsk
from resubmit.model.evidence import Cause, Scope
from resubmit.model.moment import DAY, MINUTE, SECOND, Ms
from resubmit.model.recipient import Event, RecipientKey
from tests.helpers.journals import NOW, arrival, attempt, ended, move, offer, outcome, recipient

LATER = NOW + MINUTE
ROUTE: dict[str, Any] = {"cause": Cause.CONNECTION, "scope": Scope.ROUTE}


async def waits(journal: Journal, due_at: Ms, deadline: Ms = NOW + 5 * DAY, **why: Any) -> int:
    """A message whose first attempt was deferred."""
    message = await journal.record(arrival(recipient(deadline=deadline)))
    about = {**(why or ROUTE), "due_at": due_at}
    await attempt(journal, message, Event.REPLY_DEFERRED, deadline=deadline, **about)
    return message


async def due(journal: Journal, at: Ms) -> list[int]:
    return [one.message for one in await journal.due("eop", at, 100)]


async def turn(journal: Journal, haste: Haste | None, to: str = "open") -> None:
    await journal.turn("route:eop", 0, to, ("as told",), LATER, "{}", None, haste)


async def test_an_open_gate_makes_due_what_failed_by_the_route_one_after_the_other(journal: Journal) -> None:
    second = await waits(journal, NOW + 20 * MINUTE)
    first = await waits(journal, NOW + 30 * MINUTE, NOW + 4 * DAY)
    soon = await waits(journal, LATER + SECOND)
    await turn(journal, Haste("eop", None, 2 * SECOND))
    assert await due(journal, LATER) == [first], "the nearest deadline"
    assert await due(journal, LATER + SECOND) == [first, soon], "never later than it was"
    assert await due(journal, LATER + 2 * SECOND) == [first, soon, second]


async def test_what_the_gate_had_nothing_to_do_with_keeps_its_time(journal: Journal) -> None:
    await waits(journal, NOW + 20 * MINUTE, cause=Cause.MAILBOX, scope=Scope.RECIPIENT)
    await waits(journal, NOW + 20 * MINUTE, cause=Cause.THROTTLE, scope=Scope.ROUTE)
    await turn(journal, Haste("eop", None, 0))
    await journal.turn("route:other", 0, "open", (), LATER, "{}", None, Haste("other", None, 0))
    assert await due(journal, NOW + 19 * MINUTE) == []


async def test_a_trial_takes_one_message_at_once_and_leaves_the_rest(journal: Journal) -> None:
    await waits(journal, NOW + 20 * MINUTE, cause=Cause.MAILBOX, scope=Scope.RECIPIENT)
    late = await waits(journal, NOW + 20 * MINUTE)
    early = await waits(journal, NOW + 20 * MINUTE, NOW + 4 * DAY)
    await turn(journal, Haste("eop", 1, 0), "testing")
    assert await due(journal, LATER) == [early]
    assert late in await due(journal, NOW + 20 * MINUTE)


async def test_a_trial_hastens_nobody_where_mail_is_due_anyway(journal: Journal) -> None:
    fresh = await journal.record(arrival())
    await waits(journal, NOW + 20 * MINUTE)
    await turn(journal, Haste("eop", 1, 0), "testing")
    assert await due(journal, LATER) == [fresh]


async def test_the_recipients_of_a_message_go_together(journal: Journal) -> None:
    message = await journal.record(arrival(recipient(), recipient("bob@contoso.com")))
    for n in (0, 1):
        await attempt(journal, message, Event.REPLY_DEFERRED, n=n, **ROUTE, due_at=NOW + (20 + n) * MINUTE)
    await turn(journal, Haste("eop", None, MINUTE))
    (offered,) = await journal.due("eop", LATER, 100)
    assert [one.n for one in offered.recipients] == [0, 1]


async def test_what_would_come_later_at_that_pace_keeps_its_own_time(journal: Journal) -> None:
    messages = [await waits(journal, NOW + 30 * MINUTE) for _ in range(4)]
    await turn(journal, Haste("eop", None, 20 * MINUTE))
    assert await due(journal, LATER + 20 * MINUTE) == messages[:2]
    assert sorted(await due(journal, NOW + 30 * MINUTE)) == messages


async def test_where_only_a_jobs_mail_waits_it_is_the_trial(journal: Journal) -> None:
    message = await waits(journal, NOW + 20 * MINUTE)
    key = RecipientKey(message, 0)
    await journal.move([move(message, Event.OPERATOR_CANCELLED), move(message, Event.OPERATOR_REOPENED)])
    job = await journal.ask(JobAsk(NOW, "ann", "", "{}", "{}", "hybrid", None, "destination:hybrid", (key,)))
    await journal.make_due([key], NOW, None, job)
    (stands,) = await journal.standing([key])
    begun = await journal.begin(offer(message, Expect(0, stands.state, stands.attempt), job=job))
    assert isinstance(begun, Begun)
    put_off = outcome(Event.REPLY_DEFERRED, due_at=NOW + 20 * MINUTE, **ROUTE)
    await journal.end(ended(begun, put_off, dot_at=None))
    assert await due(journal, LATER) == []
    await turn(journal, Haste("eop", 1, 0), "testing")
    (one,) = await journal.due("eop", LATER, 10)
    assert [(r.n, r.job) for r in one.recipients] == [(0, job)]
