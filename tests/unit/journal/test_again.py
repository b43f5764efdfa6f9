"""A new recipient beside a delivered one: once, in the job's place, told in both histories and audited."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing

import pytest

from resubmit.journal import read
from resubmit.journal.door import Journal
from resubmit.journal.verbs import JobAsk
from resubmit.model.evidence import Cause, Holder, Mend, Scope
from resubmit.model.filter import Filter
from resubmit.model.moment import DAY, HOUR
from resubmit.model.recipient import Event, RecipientKey, State
from tests.helpers.journals import NOW, arrival, attempt, move, recipient, seen

AT = NOW + 2 * HOUR
UNTIL = AT + 5 * DAY


async def delivered(journal: Journal, *more: str) -> int:
    """A message to Ann, delivered by attempt 2."""
    parameters = ("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;old@contoso.com")
    message = await journal.record(
        arrival(recipient(parameters=parameters), *(recipient(address) for address in more))
    )
    await attempt(journal, message)
    await journal.observe([seen(message, Event.SEEN_DEFERRED)])
    await attempt(journal, message)
    await journal.observe([seen(message, Event.SEEN_DELIVERED, "b", no=2)])
    return message


async def job(journal: Journal, *keys: RecipientKey) -> int:
    asked = JobAsk(AT, "ann", "server lost", "{}", '{"include_delivered": true}', "hybrid", None, "g", keys)
    return await journal.ask(asked)


async def test_the_new_one_is_the_same_address_and_waits_in_the_jobs_list(journal: Journal) -> None:
    message = await delivered(journal)
    number = await job(journal, RecipientKey(message, 0))
    made = await journal.send_again(number, [RecipientKey(message, 0)], AT, UNTIL)
    assert made == [RecipientKey(message, 1)]
    assert [(i.key, i.state) for i in await journal.job_items(number, None, None)] == [(made[0], "waiting")]
    old, new = await journal.standing([RecipientKey(message, 0), *made])
    assert (old.state, old.attempt) == (State.DELIVERED, 2)
    assert (new.state, new.attempt, new.address) == (State.JOURNALED, 2, "ann@contoso.com")
    assert (new.holder, new.deadline, new.destination) == (Holder.US, UNTIL, "hybrid")
    assert await journal.due("eop", AT + DAY, 10) == [], "the job says when"
    with closing(read.connect(journal.folder)) as conn:
        view = read.message(conn, message, AT)
        assert view is not None
        assert [(r.again_of, r.attempts) for r in view.recipients] == [(None, 2), ("ann@contoso.com", 0)]
        told = [(s.n, s.event, s.why) for s in read.timeline(conn, message)]
        assert (0, "sent_again", f"as recipient 1, by job {number}") in told
        assert [one for one in told if one[0] == 1] == [
            (1, "added", f"beside recipient 0, which was delivered, by job {number}")
        ]
        (row,) = [row for row in read.audit(conn) if row.action == "send_again"]
        assert (row.who, row.reason) == ("ann", "server lost")
        what = json.loads(row.what)
        assert (what["job"], what["recipient"], what["n"], what["again_of"]) == (
            number, "ann@contoso.com", 1, 0,
        )  # fmt: skip


async def test_its_attempts_go_on_so_that_a_key_and_an_address_name_one(journal: Journal) -> None:
    message = await delivered(journal, "bob@contoso.com")
    number = await job(journal, RecipientKey(message, 0))
    (made,) = await journal.send_again(number, [RecipientKey(message, 0)], AT, UNTIL)
    assert await journal.make_due([made], AT, None, number) == 1
    (due,) = [one for one in await journal.due("eop", AT, 10) if one.recipients[0].job is not None]
    assert [(r.n, r.attempt, r.parameters) for r in due.recipients] == [
        (2, 2, ("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;old@contoso.com"))
    ]
    begun = await attempt(journal, message, n=2)
    assert begun.no == 3


async def test_asked_twice_it_is_made_once(journal: Journal) -> None:
    message = await delivered(journal)
    key = RecipientKey(message, 0)
    number = await job(journal, key)
    assert len(await journal.send_again(number, [key], AT, UNTIL)) == 1
    assert await journal.send_again(number, [key], AT, UNTIL) == []
    late = await job(journal, key)  # asked for before the first had begun
    assert await journal.send_again(late, [key], AT, UNTIL) == []
    assert [i.state for i in await journal.job_items(late, None, None)] == ["skipped"]
    assert len(await journal.recipients_of(message)) == 2


async def test_what_is_not_delivered_any_more_or_has_no_job_gets_none(journal: Journal) -> None:
    message = await delivered(journal, "bob@contoso.com")
    bob = RecipientKey(message, 1)
    number = await job(journal, bob)
    assert await journal.send_again(number, [bob], AT, UNTIL) == []
    await journal.step_job(await job(journal, RecipientKey(message, 0)), "waiting", "cancelled", ended_at=AT)
    assert await journal.send_again(number + 1, [RecipientKey(message, 0)], AT, UNTIL) == []
    assert len(await journal.recipients_of(message)) == 2


async def test_a_cancelled_job_cancels_what_it_made_and_the_next_makes_another(journal: Journal) -> None:
    message = await delivered(journal)
    first = RecipientKey(message, 0)
    number = await job(journal, first)
    (made,) = await journal.send_again(number, [first], AT, UNTIL)
    await journal.make_due([made], AT, None, number)
    await journal.step_job(number, "waiting", "cancelled", ended_at=AT)
    (stands,) = await journal.standing([made])
    assert stands.state is State.CANCELLED
    assert await journal.due("eop", AT + DAY, 10) == []
    again = await job(journal, first)
    assert await journal.send_again(again, [first], AT, UNTIL) == [RecipientKey(message, 2)]


async def test_called_back_it_waits_for_its_job_and_new_mail_goes_on(journal: Journal) -> None:
    message = await delivered(journal, "bob@contoso.com")
    number = await job(journal, RecipientKey(message, 0), RecipientKey(message, 1))
    (made,) = await journal.send_again(number, [RecipientKey(message, 0)], AT, UNTIL)
    await journal.make_due([made, RecipientKey(message, 1)], AT, None, number)
    assert await journal.recall([made, RecipientKey(message, 1)], AT) == 2
    assert [[r.n for r in one.recipients] for one in await journal.due("eop", AT + DAY, 10)] == [[1]]


@pytest.mark.parametrize("state", ["delivered", "cancelled", "failed"])
async def test_a_replay_takes_the_newest_copy_and_the_first_only_where_no_other_went(
    journal: Journal, state: str
) -> None:
    message = await delivered(journal)
    number = await job(journal, RecipientKey(message, 0))
    (made,) = await journal.send_again(number, [RecipientKey(message, 0)], AT, UNTIL)
    if state == "cancelled":
        await journal.move([move(message, Event.OPERATOR_CANCELLED, made.n)])
    else:
        event = Event.REPLY_FINAL if state == "delivered" else Event.REPLY_REFUSED
        await attempt(journal, message, event, n=made.n, holder=None, deadline=None)
    await journal.step_job(number, "waiting", "done", ended_at=AT)
    with closing(read.connect(journal.folder)) as conn:
        plan = read.replayable(conn, Filter(since=0), {"include_delivered": True}, AT)
    taken = made.n if state == "delivered" else 0
    assert plan.keys == ((message, taken),)
    other = {"sent again already, beside it": 1} if state == "delivered" else {state: 1}
    assert Counter(plan.left) == other


async def test_the_members_of_an_incident_stay_who_they_were(journal: Journal) -> None:
    message = await delivered(journal)
    incident = await journal.open_incident("hybrid", "", "tls", NOW, NOW)
    await journal.join_incident(incident, [RecipientKey(message, 0)], NOW)
    before = await journal.incident_counts(incident)
    number = await job(journal, RecipientKey(message, 0))
    (made,) = await journal.send_again(number, [RecipientKey(message, 0)], AT, UNTIL)
    await journal.make_due([made], AT, None, number)
    await attempt(journal, message, n=made.n)
    await journal.observe([seen(message, Event.SEEN_DELIVERED, "c", n=made.n, no=3, network_message_id="N2")])
    assert await journal.incident_counts(incident) == before
    assert before["recovered"] == 1
    assert before["duplicates"] == 0


async def test_a_copy_of_a_groups_member_is_an_attempt_of_ours_to_itself(journal: Journal) -> None:
    """What the group's own attempt was answered was about the group; what its copy is answered is its own."""
    message = await delivered(journal)
    member = await journal.add_recipient(
        message, recipient("eve@contoso.com", due_at=None, derived_from=0), NOW, "a member"
    )
    await attempt(journal, message, Event.REPLY_FINAL, n=member, holder=None, deadline=None)
    number = await job(journal, RecipientKey(message, member))
    (made,) = await journal.send_again(number, [RecipientKey(message, member)], AT, UNTIL)
    why = {"cause": Cause.CONNECTION, "scope": Scope.ROUTE, "mend": Mend.TIME}
    await attempt(journal, message, Event.REPLY_DEFERRED, n=made.n, at=AT, due_at=AT + HOUR, **why)
    (stands,) = await journal.standing([made])
    assert (stands.state, stands.cause, stands.since) == (State.RETRYING, Cause.CONNECTION, AT + 1000)
    with closing(read.connect(journal.folder)) as conn:
        steps = [s.event for s in read.timeline(conn, message) if s.n == made.n]
        assert steps == ["added", "attempt_started", "reply_deferred"]
        view = read.message(conn, message, AT)
        assert view is not None
        assert view.recipients[made.n].derived_from == "ann@contoso.com"


async def test_what_was_redirected_is_no_copy_and_outlives_a_cancelled_job(journal: Journal) -> None:
    """Its numbers go on where the address had some before; it is new mail all the same."""
    message = await delivered(journal, "bob@contoso.com", "eve@contoso.com")
    await attempt(journal, message, n=1)
    await journal.move([move(message, Event.OPERATOR_CANCELLED, 1)])
    to = recipient("bob@contoso.com", due_at=AT)
    await journal.redirect([move(message, Event.OPERATOR_REDIRECTED, 2)], to)
    new = RecipientKey(message, 3)
    number = await job(journal, new)
    assert await journal.make_due([new], AT, None, number) == 1
    await journal.recall([new], AT)
    (due,) = await journal.due("eop", AT, 10)
    assert [(r.n, r.attempt) for r in due.recipients] == [(3, 1)]
    await journal.step_job(number, "waiting", "cancelled", ended_at=AT)
    assert [stands.state for stands in await journal.standing([new])] == [State.JOURNALED]
    (due,) = await journal.due("eop", AT, 10)
    assert [r.n for r in due.recipients] == [3]
