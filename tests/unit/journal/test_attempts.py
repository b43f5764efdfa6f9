"""Attempts: begun only for those who stand as expected, ended by the table, adopted when orphaned."""

from __future__ import annotations

import asyncio

import pytest

from resubmit.evidence import ownership
from resubmit.journal import moves, read
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Begun, Destined, Expect, Lookup, Moved, Stale
from resubmit.model.evidence import Cause, Evidence, Holder, Mend, Scope, Source, Status
from resubmit.model.moment import DAY, HOUR, MINUTE, SECOND
from resubmit.model.recipient import Event, Impossible, RecipientKey, State
from tests.helpers.journals import (
    NOW,
    arrival,
    attempt,
    ended,
    move,
    moved,
    offer,
    outcome,
    recipient,
    seen,
    state,
)


def history(journal: Journal, message: int, n: int = 0) -> list[tuple[str, str, str]]:
    with read.connect(journal.folder) as connection:
        rows = connection.execute(
            "select event, from_state, to_state from history where message = ? and n = ? order by seq",
            (message, n),
        ).fetchall()
    return [tuple(row) for row in rows]


async def test_an_attempt_is_open_until_it_ends(journal: Journal) -> None:
    message = await journal.record(arrival(recipient("a@x"), recipient("b@x")))
    begun = await journal.begin(offer(message, Expect(0, State.JOURNALED, 0), Expect(1, State.JOURNALED, 0)))
    assert isinstance(begun, Begun)
    assert (begun.no, begun.recipients) == (1, (0, 1))
    assert await state(journal, message) is State.SENDING
    assert await journal.due("eop", NOW, 10) == []
    answers = moved(
        await journal.end(
            ended(
                begun,
                outcome(n=0),
                outcome(Event.REPLY_DEFERRED, 1, due_at=NOW + MINUTE, cause=Cause.THROTTLE),
            )
        )
    )
    assert [answer.to for answer in answers] == [State.ACCEPTED, State.RETRYING]
    first, second = await journal.standing([RecipientKey(message, 0), RecipientKey(message, 1)])
    assert (first.accepted_at, first.dot_at, first.holder) == (NOW + 1000, NOW + 1000, Holder.FAR)
    assert (first.deadline, first.accepted_attempts) == (NOW + DAY, 1)
    assert (second.cause, second.holder, second.accepted_at) == (Cause.THROTTLE, Holder.US, None)
    assert history(journal, message, 0) == [("reply_accepted", "sending", "accepted")]


@pytest.mark.parametrize(
    "expect",
    [Expect(0, State.RETRYING, 0), Expect(0, State.JOURNALED, 1), Expect(5, State.JOURNALED, 0)],
    ids=["another state", "another number", "nobody"],
)
async def test_who_does_not_stand_as_expected_is_not_begun(journal: Journal, expect: Expect) -> None:
    message = await journal.record(arrival())
    assert isinstance(await journal.begin(offer(message, expect)), Stale)
    assert await state(journal, message) is State.JOURNALED
    assert len(await journal.due("eop", NOW, 1)) == 1


async def test_only_those_who_still_stand_so_are_begun(journal: Journal) -> None:
    message = await journal.record(arrival(recipient("a@x"), recipient("b@x")))
    await journal.move([move(message, Event.OPERATOR_HELD, 0)])
    begun = await journal.begin(offer(message, Expect(0, State.JOURNALED, 0), Expect(1, State.JOURNALED, 0)))
    assert isinstance(begun, Begun)
    assert begun.recipients == (1,)


async def test_two_that_want_the_same_recipient_get_it_once(journal: Journal) -> None:
    message = await journal.record(arrival())
    answers = await asyncio.gather(*(journal.begin(offer(message)) for _ in range(5)))
    assert [isinstance(answer, Begun) for answer in answers] == [True, False, False, False, False]


async def test_a_gate_that_turned_stops_the_attempt(journal: Journal) -> None:
    message = await journal.record(arrival())
    assert await journal.turn("route:eop", 0, "closed", ("connect_refused",), NOW) == 1
    assert isinstance(await journal.begin(offer(message, gates=(("route:eop", 0),))), Stale)
    assert isinstance(await journal.begin(offer(message, gates=(("route:eop", 1),))), Begun)


async def test_a_gate_that_never_turned_is_at_version_nought(journal: Journal) -> None:
    message = await journal.record(arrival())
    assert isinstance(await journal.begin(offer(message, gates=(("route:eop", 1),))), Stale)
    assert isinstance(await journal.begin(offer(message, gates=(("route:eop", 0),))), Begun)


async def test_a_new_attempt_starts_without_the_cause_of_the_last(journal: Journal) -> None:
    message = await journal.record(arrival())
    await attempt(
        journal,
        message,
        Event.REPLY_DEFERRED,
        cause=Cause.TLS,
        scope=Scope.ROUTE,
        mend=Mend.GATE,
        due_at=NOW + MINUTE,
    )
    await journal.begin(offer(message, Expect(0, State.RETRYING, 1), kind="retry"))
    (stands,) = await journal.standing([RecipientKey(message, 0)])
    assert (stands.cause, stands.scope, stands.mend, stands.attempt) == (None, None, None, 2)


async def test_evidence_that_overtook_the_reply_is_not_undone_by_it(journal: Journal) -> None:
    message = await journal.record(arrival())
    begun = await journal.begin(offer(message))
    assert isinstance(begun, Begun)
    await journal.observe([seen(message, Event.SEEN_DEFERRED, cause=Cause.TLS, holder=Holder.FAR)])
    (answer,) = moved(await journal.end(ended(begun)))
    assert (answer.from_, answer.to, answer.conflict) == (State.DEFERRED, State.DEFERRED, False)
    (stands,) = await journal.standing([RecipientKey(message, 0)])
    assert (stands.cause, stands.accepted_at) == (Cause.TLS, NOW + 1000)


async def test_no_second_attempt_begins_while_one_is_open(journal: Journal) -> None:
    message = await journal.record(arrival())
    begun = await journal.begin(offer(message))
    assert isinstance(begun, Begun)
    await journal.observe([seen(message, Event.SEEN_DEFERRED)])
    assert isinstance(await journal.begin(offer(message, Expect(0, State.DEFERRED, 1))), Stale)
    assert await journal.make_due([RecipientKey(message, 0)], NOW) == 0
    await journal.end(ended(begun))
    assert isinstance(await journal.begin(offer(message, Expect(0, State.DEFERRED, 1))), Begun)


async def test_a_conflict_moves_nothing_and_is_written_down(journal: Journal) -> None:
    message = await journal.record(arrival())
    begun = await journal.begin(offer(message))
    assert isinstance(begun, Begun)
    await journal.observe([seen(message, Event.SEEN_PENDING)])
    (answer,) = moved(await journal.end(ended(begun, outcome(Event.REPLY_DEFERRED), dot_at=None)))
    assert answer.conflict
    assert history(journal, message)[-1] == ("reply_deferred", "pending", "pending")


async def test_an_offer_ends_once(journal: Journal) -> None:
    message = await journal.record(arrival())
    begun = await journal.begin(offer(message))
    assert isinstance(begun, Begun)
    assert isinstance((await journal.end(ended(begun)))[0], Moved)
    assert isinstance((await journal.end(ended(begun)))[0], Stale)


async def test_a_recipient_without_an_outcome_is_in_doubt(journal: Journal) -> None:
    message = await journal.record(arrival(recipient("a@x"), recipient("b@x")))
    begun = await journal.begin(offer(message, Expect(0, State.JOURNALED, 0), Expect(1, State.JOURNALED, 0)))
    assert isinstance(begun, Begun)
    await journal.end(ended(begun, outcome(n=0)))
    assert await state(journal, message, 1) is State.IN_DOUBT


async def test_orphans_are_in_doubt_and_adopted_once(journal: Journal) -> None:
    message = await journal.record(arrival(recipient("a@x"), recipient("b@x")))
    overtaken = await journal.record(arrival())
    await journal.begin(offer(message, Expect(0, State.JOURNALED, 0), Expect(1, State.JOURNALED, 0)))
    await journal.begin(offer(overtaken))
    await journal.observe([seen(overtaken, Event.SEEN_DELIVERED)])
    assert await journal.adopt_orphans(NOW + HOUR) == 3
    assert await state(journal, message) is State.IN_DOUBT
    assert await state(journal, overtaken) is State.DELIVERED
    assert await journal.adopt_orphans(NOW + HOUR) == 0


async def test_a_trace_of_an_orphan_tells_that_it_was_taken(journal: Journal) -> None:
    message = await journal.record(arrival())
    begun = await journal.begin(offer(message))
    assert isinstance(begun, Begun)
    await journal.adopt_orphans(NOW + HOUR)
    ((candidate,),) = await journal.candidates([Lookup(key="1@example.org")])
    (orphan,) = candidate.recipients[0].attempts
    # Its dot may have left, and died with the process: by now it is known only when it began.
    assert (orphan.accepted_at, orphan.dot_at) == (None, orphan.begun_at)
    row = Evidence(
        Source.TRACE_CSV, Status.RELAYED, received_at=orphan.begun_at + SECOND, network_message_id="guid-1"
    )
    owned = ownership.own(row, candidate.recipients[0])
    assert owned is not None
    assert (owned.no, owned.binds) == (1, True)


async def test_failures_count_attempts_without_acceptance_in_a_row(journal: Journal) -> None:
    message = await journal.record(arrival())
    for _ in range(3):
        await attempt(journal, message, Event.REPLY_DEFERRED, due_at=NOW)
    assert (await journal.due("eop", NOW, 1))[0].failures == 3
    await attempt(journal, message)
    await journal.observe([seen(message, Event.SEEN_GIVEN_UP, no=4)])
    await journal.make_due([RecipientKey(message, 0)], NOW)
    assert (await journal.due("eop", NOW, 1))[0].failures == 0


async def test_an_impossible_event_raises_when_strict_and_does_nothing_when_not(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = await journal.record(arrival())
    wrong = move(message, Event.REPLY_ACCEPTED)
    with pytest.raises(Impossible):
        await journal.move([wrong])
    monkeypatch.setattr(moves, "strict", False)
    (answer,) = moved(await journal.move([wrong]))
    assert (answer.from_, answer.to) == (State.JOURNALED, State.JOURNALED)
    assert history(journal, message) == []


# ── what goes with a move ───────────────────────────────────────────────────────────────────────────


async def test_since_is_the_evidences_own_time(journal: Journal) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message)
    await journal.move([move(message, Event.SEEN_DEFERRED, at=NOW + HOUR, since=NOW + 5, cause=Cause.TLS)])
    (stands,) = await journal.standing([RecipientKey(message, 0)])
    assert (stands.since, stands.cause, stands.deadline) == (NOW + 5, Cause.TLS, NOW + DAY)


async def test_a_move_decided_on_an_older_attempt_is_stale(journal: Journal) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message)
    answers = await journal.move(
        [move(message, Event.SEEN_DELIVERED, attempt=2), move(message, Event.SEEN_DELIVERED, 9)]
    )
    assert [type(answer) for answer in answers] == [Stale, Stale]


async def test_a_stay_takes_a_cause_where_there_was_none(journal: Journal) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message)
    await journal.move([move(message, Event.SEEN_DEFERRED)])
    await journal.move([move(message, Event.SEEN_DEFERRED, cause=Cause.TLS, scope=Scope.DESTINATION)])
    await journal.move([move(message, Event.SEEN_DEFERRED, cause=Cause.MAILBOX, scope=Scope.RECIPIENT)])
    (stands,) = await journal.standing([RecipientKey(message, 0)])
    assert (stands.cause, stands.scope) == (Cause.TLS, Scope.DESTINATION)
    assert history(journal, message)[1:] == [("seen_deferred", "accepted", "deferred")]


async def test_what_is_settled_has_no_deadline_no_due_and_no_cause_of_before(journal: Journal) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message, Event.REPLY_DEFERRED, cause=Cause.CONNECTION, due_at=NOW)
    await journal.move([move(message, Event.SEEN_DELIVERED)])
    (stands,) = await journal.standing([RecipientKey(message, 0)])
    assert (stands.state, stands.deadline, stands.cause) == (State.DELIVERED, None, None)
    assert await journal.due("eop", NOW + DAY, 10) == []


async def test_a_retry_that_was_taken_after_all_is_not_due(journal: Journal) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message, Event.REPLY_DEFERRED, due_at=NOW)
    await journal.move([move(message, Event.SEEN_PENDING)])
    assert await journal.due("eop", NOW + DAY, 10) == []


async def test_a_doubt_that_timed_out_is_due_at_once(journal: Journal) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message, Event.REPLY_LOST)
    await journal.move([move(message, Event.DOUBT_TIMED_OUT, at=NOW + HOUR)])
    assert await journal.next_due("eop") == NOW + HOUR


async def test_release_returns_to_the_truth_under_the_hold(journal: Journal) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message)
    await journal.move([move(message, Event.OPERATOR_HELD)])
    await journal.move([move(message, Event.SEEN_DEFERRED, cause=Cause.TLS)])
    assert await state(journal, message) is State.HELD
    await journal.move([move(message, Event.OPERATOR_RELEASED)])
    (stands,) = await journal.standing([RecipientKey(message, 0)])
    assert (stands.state, stands.cause) == (State.DEFERRED, Cause.TLS)


async def test_a_released_new_mail_is_due_again(journal: Journal) -> None:
    message = await journal.record(arrival())
    await journal.move([move(message, Event.OPERATOR_HELD)])
    assert await journal.due("eop", NOW + DAY, 10) == []
    await journal.move([move(message, Event.OPERATOR_RELEASED, at=NOW + HOUR)])
    assert await journal.next_due("eop") == NOW + HOUR


async def test_only_what_may_be_sent_is_made_due(journal: Journal) -> None:
    delivered = await journal.record(arrival())
    await attempt(journal, delivered, Event.REPLY_FINAL)
    deferred = await journal.record(arrival())
    await attempt(journal, deferred)
    await journal.move([move(deferred, Event.SEEN_DEFERRED)])
    keys = [RecipientKey(delivered, 0), RecipientKey(deferred, 0), RecipientKey(deferred, 3)]
    assert await journal.make_due(keys, NOW, "other") == 1
    (due,) = await journal.due("other", NOW, 10)
    assert (due.message, due.recipients[0].state, due.recipients[0].attempt) == (deferred, State.DEFERRED, 1)
    assert history(journal, deferred)[-1] == ("made_due", "deferred", "deferred")


async def test_what_the_relay_passed_on_the_far_side_has(journal: Journal) -> None:
    taken = recipient(state=State.ACCEPTED, holder=Holder.RELAY, due_at=None, deadline=NOW + 5 * DAY)
    message = await journal.record(arrival(taken))
    await journal.move([move(message, Event.SEEN_DEFERRED, cause=Cause.CONNECTION)])
    (stands,) = await journal.standing([RecipientKey(message, 0)])
    assert stands.holder is Holder.RELAY
    await journal.move([move(message, Event.RELAY_PASSED_ON)])
    (stands,) = await journal.standing([RecipientKey(message, 0)])
    assert (stands.state, stands.holder, stands.cause) == (State.ACCEPTED, Holder.FAR, None)


async def test_evidence_that_overtook_the_reply_leaves_the_deadline_to_it(journal: Journal) -> None:
    message = await journal.record(arrival())
    begun = await journal.begin(offer(message))
    assert isinstance(begun, Begun)
    await journal.observe([seen(message, Event.SEEN_PENDING)])
    await journal.end(ended(begun, outcome(deadline=NOW + DAY)))
    (stands,) = await journal.standing([RecipientKey(message, 0)])
    assert (stands.state, stands.holder, stands.deadline) == (State.PENDING, Holder.FAR, NOW + DAY)


async def test_a_retry_that_was_taken_has_the_far_sides_deadline(journal: Journal) -> None:
    await journal.mirror([Destined("hybrid", 1, 1, DAY, 1, "eop", "eop")])
    message = await journal.record(arrival())
    await attempt(
        journal, message, Event.REPLY_DEFERRED, due_at=NOW, deadline=NOW + 5 * DAY, holder=Holder.US
    )
    await journal.move([move(message, Event.SEEN_PENDING)])
    (stands,) = await journal.standing([RecipientKey(message, 0)])
    assert (stands.holder, stands.deadline) == (Holder.FAR, NOW + DAY)
