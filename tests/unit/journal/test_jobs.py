"""Jobs and incidents: one unfinished job a recipient, items that follow, counts that add up."""

from __future__ import annotations

from typing import Any

import pytest

from resubmit.journal.door import Journal
from resubmit.journal.verbs import Begun, Expect, JobAsk, Stale
from resubmit.model.evidence import Cause
from resubmit.model.moment import HOUR, MINUTE
from resubmit.model.recipient import Event, RecipientKey, State
from tests.helpers.journals import NOW, arrival, attempt, ended, move, offer, outcome, seen, state


def asked(*keys: RecipientKey, **values: Any) -> JobAsk:
    filled: dict[str, Any] = {
        "asked_at": NOW,
        "asked_by": "pat",
        "reason": "certificate renewed",
        "filter": "{}",
        "options": "{}",
        "destination": "hybrid",
        "incident": None,
        "gate": "destination:hybrid",
        **values,
    }
    return JobAsk(recipients=keys, **filled)


async def deferred(journal: Journal) -> RecipientKey:
    message = await journal.record(arrival())
    await attempt(journal, message)
    await journal.observe([seen(message, Event.SEEN_DEFERRED, str(message), cause=Cause.TLS)])
    return RecipientKey(message, 0)


async def released(journal: Journal, key: RecipientKey) -> int:
    job = await journal.ask(asked(key))
    assert await journal.make_due([key], NOW, "eop", job) == 1
    return job


async def sending(journal: Journal, key: RecipientKey, job: int) -> Begun:
    (stands,) = await journal.standing([key])
    expect = Expect(key.n, stands.state, stands.attempt)
    begun = await journal.begin(offer(key.message, expect, kind="resubmission", job=job))
    assert isinstance(begun, Begun)
    return begun


async def item(journal: Journal, job: int) -> tuple[str, int | None]:
    (one,) = await journal.job_items(job)
    return one.state, one.no


async def test_a_job_is_followed_to_its_proof(journal: Journal) -> None:
    key = await deferred(journal)
    job = await journal.ask(asked(key))
    assert await item(journal, job) == ("waiting", None)
    await journal.make_due([key], NOW, "eop", job)
    assert await item(journal, job) == ("released", None)
    begun = await sending(journal, key, job)
    assert await item(journal, job) == ("released", 2)
    await journal.end(ended(begun))
    assert await item(journal, job) == ("sent", 2)
    (stands,) = await journal.standing([key])
    assert (stands.job, stands.accepted_attempts) == (None, 2)
    await journal.observe([seen(key.message, Event.SEEN_DELIVERED, "b", no=2)])
    assert await item(journal, job) == ("proved", 2)
    row = await journal.job(job)
    assert row is not None
    assert (row.recipients, row.accepted, row.delivered, row.refused, row.skipped) == (1, 1, 1, 0, 0)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (Event.REPLY_FINAL, "proved"),
        (Event.REPLY_REFUSED, "refused"),
        (Event.REPLY_REFUSED_MENDABLE, "refused"),
        (Event.REPLY_LOST, "lost"),
    ],
)
async def test_an_item_takes_the_end_of_its_attempt(journal: Journal, event: Event, expected: str) -> None:
    key = await deferred(journal)
    job = await released(journal, key)
    await journal.end(ended(await sending(journal, key, job), outcome(event)))
    assert await item(journal, job) == (expected, 2)


async def test_a_throttled_message_stays_its_jobs(journal: Journal) -> None:
    key = await deferred(journal)
    job = await released(journal, key)
    begun = await sending(journal, key, job)
    await journal.end(ended(begun, outcome(Event.REPLY_DEFERRED, due_at=NOW + MINUTE), dot_at=None))
    assert await item(journal, job) == ("released", 2)
    (due,) = await journal.due("eop", NOW + HOUR, 1)
    assert (due.recipients[0].job, due.recipients[0].state) == (job, State.RETRYING)


async def test_what_settles_before_its_turn_is_skipped(journal: Journal) -> None:
    key = await deferred(journal)
    job = await released(journal, key)
    await journal.observe([seen(key.message, Event.SEEN_DELIVERED, "b")])
    assert await item(journal, job) == ("skipped", None)
    assert await journal.due("eop", NOW + HOUR, 1) == []


async def test_what_stays_open_before_its_turn_goes_all_the_same(journal: Journal) -> None:
    key = await deferred(journal)
    job = await released(journal, key)
    await journal.observe([seen(key.message, Event.SEEN_GIVEN_UP, "b")])
    assert await item(journal, job) == ("released", None)
    assert (await journal.due("eop", NOW + HOUR, 1))[0].recipients[0].state is State.EXPIRED


async def test_a_recipient_of_another_unfinished_job_is_skipped_in_the_second(journal: Journal) -> None:
    key = await deferred(journal)
    first = await journal.ask(asked(key))
    second = await journal.ask(asked(key))
    assert (await item(journal, first))[0] == "waiting"
    assert (await item(journal, second))[0] == "skipped"


async def test_a_job_that_takes_over_gets_those_that_wait_and_not_those_under_way(journal: Journal) -> None:
    waiting, going = await deferred(journal), await deferred(journal)
    first = await journal.ask(asked(waiting, going))
    await journal.make_due([going], NOW, None, first)
    second = await journal.ask(asked(waiting, going, takes_over=True))
    states = {one.key: one.state for one in await journal.job_items(second)}
    assert states == {waiting: "waiting", going: "skipped"}
    states = {one.key: one.state for one in await journal.job_items(first)}
    assert states == {waiting: "skipped", going: "released"}


async def test_a_cancelled_job_lets_its_recipients_go(journal: Journal) -> None:
    due, under_way = await deferred(journal), await deferred(journal)
    job = await journal.ask(asked(due, under_way))
    await journal.make_due([due, under_way], NOW, None, job)
    begun = await sending(journal, under_way, job)
    assert await journal.step_job(job, "waiting", "cancelled", ended_at=NOW) is None
    assert await journal.due("eop", NOW + HOUR, 10) == []
    assert {one.key: one.state for one in await journal.job_items(job)} == {
        due: "skipped",
        under_way: "released",
    }
    await journal.end(ended(begun, outcome(Event.REPLY_DEFERRED, due_at=NOW), dot_at=None))
    assert {one.state for one in await journal.job_items(job)} == {"skipped"}
    (again,) = await journal.due("eop", NOW, 10)
    assert (again.message, again.recipients[0].job) == (under_way.message, None)
    assert isinstance(await journal.ask(asked(due)), int)


async def test_a_job_steps_only_from_where_it_stands(journal: Journal) -> None:
    job = await journal.ask(asked())
    assert isinstance(await journal.step_job(job, "running", "done"), Stale)
    assert await journal.step_job(job, "waiting", "running", stage='{"step": 1}') is None
    assert await journal.step_job(job, "running", "running", stage='{"step": 2}') is None
    (row,) = await journal.jobs(["running"])
    assert (row.id, row.stage, row.ended_at) == (job, '{"step": 2}', None)


async def test_items_can_be_set(journal: Journal) -> None:
    key = await deferred(journal)
    job = await journal.ask(asked(key))
    await journal.set_job_items(job, [(key, "released", 2)])
    (one,) = await journal.job_items(job, "released")
    assert (one.no, one.released_at) == (2, NOW)
    assert await journal.job_items(job, "waiting") == []


# ── incidents ───────────────────────────────────────────────────────────────────────────────────────


async def test_an_incident_counts_all_it_caught(journal: Journal) -> None:
    keys = [await deferred(journal) for _ in range(4)]
    incident = await journal.open_incident("hybrid", "eop", "tls", NOW, NOW - HOUR)
    assert await journal.join_incident(incident, keys, NOW) == 4
    commits = journal.stats.commits
    assert await journal.join_incident(incident, keys[:2], NOW) == 0
    assert journal.stats.commits == commits, "members that join again cost no write"
    assert await journal.caught(incident) == 4
    await journal.observe(
        [
            seen(keys[0].message, Event.SEEN_DELIVERED, "b", network_message_id="one", status="delivered"),
            seen(keys[0].message, Event.SEEN_DELIVERED, "c", network_message_id="two", status="delivered"),
            seen(keys[1].message, Event.SEEN_FAILED, "d"),
        ]
    )
    await journal.end(ended(await sending(journal, keys[2], await released(journal, keys[2]))))
    assert await state(journal, keys[2].message) is State.ACCEPTED
    assert await journal.incident_counts(incident) == {
        "stuck": 4,
        "recovered": 1,
        "failed": 1,
        "unproven": 1,
        "unknown": 1,
        "duplicates": 1,
    }
    assert [one.key for one in await journal.standings(incident=incident)] == keys
    assert [one.incidents for one in await journal.standing(keys)] == [{incident}] * 4


async def test_an_incident_is_closed_with_its_report(journal: Journal) -> None:
    incident = await journal.open_incident("hybrid", "eop", "tls", NOW, NOW - HOUR)
    await journal.update_incident(incident, fault_to=NOW, fixed_at=NOW, state="recovering")
    (row,) = await journal.incidents(open_only=True)
    assert (row.state, row.fault_from, row.fault_to) == ("recovering", NOW - HOUR, NOW)
    await journal.update_incident(incident, state="closed", closed_at=NOW + 1, report="{}")
    assert await journal.incidents(open_only=True) == []
    assert [one.report for one in await journal.incidents(open_only=False)] == ["{}"]
    with pytest.raises(ValueError, match="colour"):
        await journal.update_incident(incident, colour="red")


async def test_an_empty_incident_counts_nothing(journal: Journal) -> None:
    assert (await journal.incident_counts(7))["stuck"] == 0


async def test_a_move_outside_any_job_touches_no_item(journal: Journal) -> None:
    key = await deferred(journal)
    await journal.move([move(key.message, Event.OPERATOR_CANCELLED)])
    assert await journal.jobs() == []
