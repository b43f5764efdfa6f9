"""Evidence: stored once, moved once, bound for good, and found again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resubmit.journal import read, reads
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Coverage, Cursor, Destined, Lookup, Member, Observed
from resubmit.model.evidence import Cause, Holder, Scope
from resubmit.model.ids import attempt_key
from resubmit.model.moment import DAY, HOUR, MINUTE
from resubmit.model.recipient import Event, RecipientKey, State
from tests.helpers.journals import NOW, HandClock, arrival, attempt, move, recipient, row, seen, state


async def test_the_same_statement_is_known_whatever_file_it_stands_in(journal: Journal) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message)
    first = seen(message, Event.SEEN_DEFERRED)
    again = replace(first, row=replace(first.row, file="traces/b.csv", place="9", read_at=NOW + DAY))
    (new,) = await journal.observe([first], Cursor("folder", "a.csv", "1"))
    answers = await journal.observe([again, first], Cursor("folder", "b.csv", "2"))
    assert new.outcome == "new"
    assert [move.to for move in new.moved] == [State.DEFERRED]
    assert [(answer.outcome, answer.evidence) for answer in answers] == [("known", new.evidence)] * 2
    assert await journal.cursor("folder", "a.csv") == "1"
    assert await journal.cursor("folder", "b.csv") == "2"
    assert await journal.cursor("folder", "c.csv") is None
    digests = [first.row.digest, b"\0" * 16]
    assert await journal.is_known("trace_csv", digests) == {first.row.digest}
    assert await journal.is_known("dsn", digests) == set()


async def test_what_was_decided_on_an_older_attempt_is_stale_and_not_stored(journal: Journal) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message)
    wrong = seen(message, Event.SEEN_DELIVERED, no=2)
    (answer,) = await journal.observe([wrong])
    assert (answer.outcome, answer.evidence) == ("stale", None)
    assert await journal.is_known("trace_csv", [wrong.row.digest]) == set()


async def test_evidence_of_nobody_is_kept_and_finds_its_owner_later(journal: Journal) -> None:
    early = Observed(row(), "unmatched", "no such message")
    (answer,) = await journal.observe([early])
    (kept,) = await journal.unmatched()
    assert (kept.id, kept.row, kept.match) == (answer.evidence, early.row, "unmatched")
    (again,) = await journal.observe([replace(early, refile=kept.id)])
    assert again.outcome == "new"
    assert await journal.unmatched(keyless=True) == []
    assert await journal.unmatched(after=kept.id) == []
    message = await journal.record(arrival())
    await attempt(journal, message)
    (found,) = await journal.observe([replace(seen(message, Event.SEEN_DEFERRED), refile=kept.id)])
    assert [move.to for move in found.moved] == [State.DEFERRED]
    assert await journal.unmatched() == []
    (late,) = await journal.observe([replace(seen(message, Event.SEEN_DEFERRED), refile=kept.id)])
    assert late.outcome == "known"


async def test_an_unowned_row_that_comes_again_with_an_owner_gets_it(journal: Journal) -> None:
    (answer,) = await journal.observe([Observed(row(), "unmatched", "no such message")])
    message = await journal.record(arrival())
    await attempt(journal, message)
    (again,) = await journal.observe([seen(message, Event.SEEN_DEFERRED)])
    assert (again.outcome, again.evidence) == ("new", answer.evidence)
    assert await state(journal, message) is State.DEFERRED


async def test_ambiguous_bad_news_moves_each_candidate_once(journal: Journal) -> None:
    messages = [await journal.record(arrival()) for _ in range(2)]
    for message in messages:
        await attempt(journal, message)
    moves = tuple(move(message, Event.SEEN_DEFERRED, attempt=1) for message in messages)
    both = Observed(row(), "ambiguous", "two alike", moves=moves)
    (answer,) = await journal.observe([both])
    assert [one.to for one in answer.moved] == [State.DEFERRED, State.DEFERRED]
    (again,) = await journal.observe([replace(both, refile=answer.evidence)])
    assert again.moved == ()
    (gathered,) = await journal.gathered([(["1@example.org"], [])])
    assert [(one.match, len(one.links)) for one in gathered.evidence] == [("ambiguous", 2)]
    assert [candidate.message for candidate in gathered.candidates] == messages


async def test_a_batch_answers_each_in_order_and_the_cursor_waits_for_what_is_stale(journal: Journal) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message)
    answers = await journal.observe(
        [
            seen(message, Event.SEEN_PENDING, "a"),
            seen(message, Event.SEEN_DEFERRED, "b", no=7),
            seen(message, Event.SEEN_PENDING, "a"),
            seen(99, Event.SEEN_PENDING, "c"),
        ],
        Cursor("folder", "f", "5"),
    )
    assert [answer.outcome for answer in answers] == ["new", "stale", "known", "stale"]
    assert await journal.cursor("folder", "f") is None
    await journal.observe([seen(message, Event.SEEN_DEFERRED, "b")], Cursor("folder", "f", "5"))
    assert await journal.cursor("folder", "f") == "5"


async def test_a_binding_stays_and_is_found(journal: Journal) -> None:
    message = await journal.record(arrival())
    begun = await attempt(journal, message)
    bound = seen(message, Event.SEEN_PENDING, binds=True, network_message_id="guid-1")
    await journal.observe([bound])
    ((found,),) = await journal.candidates([Lookup(network_message_id="guid-1")])
    (one,) = found.recipients[0].attempts
    assert found.message == message
    assert (one.no, one.offer, one.network_message_ids) == (1, begun.offer, ("guid-1",))


async def test_a_member_becomes_a_recipient_once(journal: Journal) -> None:
    message = await journal.record(arrival(recipient("all@contoso.com")))
    await attempt(journal, message)
    await journal.observe([seen(message, Event.SEEN_EXPANDED, "x", recipient="all@contoso.com")])
    member = Member("bob@contoso.com", "hybrid", "eop", 0, "guid-1")
    told = seen(
        message, Event.SEEN_DEFERRED, "a", recipient="bob@contoso.com", member=member, cause=Cause.TLS
    )
    (answer,) = await journal.observe([told])
    assert [(one.n, one.from_, one.to) for one in answer.moved] == [(1, State.ACCEPTED, State.DEFERRED)]
    (stands,) = await journal.standing([RecipientKey(message, 1)])
    assert (stands.address, stands.attempt, stands.holder) == ("bob@contoso.com", 1, Holder.FAR)
    assert stands.accepted_at == NOW + 1000
    more = seen(message, Event.SEEN_DELIVERED, "b", recipient="BOB@contoso.com", member=member)
    assert [one.outcome for one in await journal.observe([more])] == ["stale"]
    assert await journal.recipients_of(message) == [(0, "all@contoso.com"), (1, "bob@contoso.com")]
    ((candidate,),) = await journal.candidates([Lookup(key="1@example.org")])
    assert candidate.recipients[1].derived_from == 0
    assert [one.no for one in candidate.recipients[1].attempts] == [1]


async def test_a_member_bounces_when_the_group_would_have(journal: Journal) -> None:
    await journal.mirror([Destined("hybrid", 1, 1, DAY, 1, "eop", "eop")])
    message = await journal.record(arrival(recipient("all@contoso.com")))
    await attempt(journal, message)
    await journal.observe([seen(message, Event.SEEN_EXPANDED, "x", recipient="all@contoso.com")])
    (group,) = await journal.standing([RecipientKey(message, 0)])
    assert group.deadline is None  # settled
    member = Member("bob@contoso.com", "hybrid", "eop", 0, "guid-1")
    await journal.observe([seen(message, Event.SEEN_DEFERRED, recipient="bob@contoso.com", member=member)])
    (stands,) = await journal.standing([RecipientKey(message, 1)])
    assert stands.deadline is not None
    assert NOW + DAY <= stands.deadline <= NOW + DAY + 1000


async def test_a_cancelled_groups_members_are_cancelled(journal: Journal) -> None:
    message = await journal.record(arrival(recipient("all@contoso.com")))
    await attempt(journal, message)
    await journal.move([move(message, Event.OPERATOR_CANCELLED)])
    member = Member("bob@contoso.com", "hybrid", "eop", 0, "")
    await journal.observe([seen(message, Event.SEEN_DEFERRED, member=member)])
    assert await state(journal, message, 1) is State.CANCELLED


async def test_late_words_on_an_older_attempt_are_written_down_once(journal: Journal) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message)
    await journal.observe([seen(message, Event.SEEN_DEFERRED, "a")])
    await journal.make_due([RecipientKey(message, 0)], NOW)
    await attempt(journal, message, at=NOW + HOUR)
    late = seen(message, Event.LATE_OTHER, "b", moves=(move(message, Event.LATE_OTHER, attempt=2),))
    await journal.observe([late])
    await journal.observe([late])
    with read.connect(journal.folder) as connection:
        told = connection.execute("select count(*) from history where event = 'late_other'").fetchone()[0]
    assert told == 1
    assert await state(journal, message) is State.ACCEPTED


async def test_texts_of_evidence_no_database_takes_are_cleaned(journal: Journal) -> None:
    await journal.observe([Observed(row(text="a\0b\udcff", raw="\ud800"), "unmatched", "none")])
    (kept,) = await journal.unmatched()
    assert (kept.row.text, kept.row.raw) == ("a\ufffdb?", "?")


async def test_what_could_not_be_read_is_kept_once_a_place(journal: Journal) -> None:
    for reason in ("torn", "torn still"):
        await journal.unreadable("traces/a.csv", "7", reason, NOW)
    with read.connect(journal.folder) as connection:
        assert [tuple(r) for r in connection.execute("select place, reason from unreadable")] == [
            ("7", "torn still")
        ]


async def test_what_a_later_reading_can_read_is_no_longer_complained_of(journal: Journal) -> None:
    await journal.unreadable("traces/a.csv", "line 2", "a quote never closes", NOW)
    await journal.unreadable("traces/a.csv", "line 9", "no recipient", NOW + MINUTE)
    await journal.unreadable("traces/b.csv", "line 2", "no recipient", NOW)
    await journal.read_again("traces/a.csv", NOW + MINUTE)
    with read.connect(journal.folder) as connection:
        kept = [tuple(r) for r in connection.execute("select file, place from unreadable order by file")]
    assert kept == [("traces/a.csv", "line 9"), ("traces/b.csv", "line 2")]


async def test_a_file_with_much_to_complain_of_does_not_hide_the_others(journal: Journal) -> None:
    await journal.unreadable("traces/other.csv", "", "it can't be opened", NOW)
    for line in range(150):
        await journal.unreadable("traces/a.csv", f"line {line}", "no recipient", NOW)
    with read.connect(journal.folder) as connection:
        shown = [(one.file, one.place) for one in read.unreadable(connection)]
        assert len(read.unreadable(connection, limit=0)) == 151
    assert shown == [*(("traces/a.csv", f"line {n}") for n in range(149, 144, -1)), ("traces/other.csv", "")]


# ── candidates ──────────────────────────────────────────────────────────────────────────────────────


async def test_candidates_are_found_by_each_key(journal: Journal) -> None:
    other = await journal.record(arrival(message_id="<2@example.org>", sender="x@example.org"))
    message = await journal.record(arrival(recipient(parameters=("ORCPT=rfc822;a+2Bb@x",))))
    await attempt(journal, message)
    lookups = [
        Lookup(key="1@example.org"),
        Lookup(key="1@example.org", received_at=NOW + 30 * DAY),
        Lookup(attempt_message=message),
        Lookup(queue_id="4Xyz"),
        Lookup(sender="APP@example.org", recipient="Ann@contoso.com", received_at=NOW + 9 * MINUTE),
        Lookup(sender="app@example.org", recipient="ann@contoso.com", received_at=NOW + HOUR),
        Lookup(sender="else@example.org", recipient="ann@contoso.com", received_at=NOW),
        Lookup(key="nobody@example.org"),
        Lookup(),
    ]
    found = [[one.message for one in answers] for answers in await journal.candidates(lookups)]
    assert found == [[message]] * 5 + [[]] * 4
    assert parse(attempt_key(message, 1)) == message
    ((candidate,),) = await journal.candidates([Lookup(attempt_message=message)])
    (one,) = candidate.recipients
    assert (one.original, one.state, one.attempt) == ("a+b@x", State.ACCEPTED, 1)
    (tried,) = one.attempts
    assert (tried.accepted_at, tried.dot_at, tried.connected) == (NOW + 1000, NOW + 1000, True)
    assert other not in [m for answers in found for m in answers]


def parse(key: str) -> int:
    from resubmit.model.ids import parse_attempt_key

    found = parse_attempt_key(key)
    assert found is not None
    return found[0]


async def test_two_messages_with_one_message_id_are_both_candidates(
    journal: Journal, clock: HandClock
) -> None:
    first = await journal.record(arrival())
    clock.pass_(3 * DAY)
    second = await journal.record(arrival(received_at=clock.now()))
    ((one, two),) = await journal.candidates([Lookup(key="1@example.org", received_at=clock.now())])
    assert (one.message, two.message) == (first, second)
    ((only,),) = await journal.candidates([Lookup(key="1@example.org", received_at=NOW)])
    assert only.message == first


async def test_only_a_message_that_nothing_was_heard_of_and_no_other_is_like_is_alone(
    journal: Journal, clock: HandClock
) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message)
    wanted = [Lookup(key="1@example.org", received_at=clock.now())]

    async def is_alone() -> bool:
        ((candidate,),) = await journal.candidates(wanted)
        return candidate.alone

    assert await is_alone()
    (kept,) = await journal.observe([Observed(row(key="1@example.org"), "unmatched", "not yet")])
    assert not await is_alone()
    await journal.observe([replace(seen(message, Event.SEEN_DEFERRED), refile=kept.evidence)])
    assert not await is_alone()
    other = await journal.record(arrival(message_id="<2@example.org>"))
    clock.pass_(3 * DAY)
    await journal.record(arrival(message_id="<2@example.org>", received_at=clock.now()))
    ((first,),) = await journal.candidates([Lookup(key="2@example.org", received_at=NOW)])
    assert (first.message, first.alone) == (other, False)


async def test_a_journal_that_knows_its_keys_still_finds_what_comes_later(
    journal: Journal, clock: HandClock
) -> None:
    many = [Lookup(key=f"{i}@elsewhere.example", network_message_id=f"n{i}") for i in range(5000)]
    early = await journal.record(arrival())
    assert not any(await journal.candidates(many))
    late = await journal.record(arrival(message_id="<2@example.org>"))
    await attempt(journal, early)
    await attempt(journal, late)
    bound = seen(late, Event.SEEN_DEFERRED, network_message_id="guid-9")
    await journal.observe([replace(bound, binds=True)])
    wanted = [
        Lookup(key="1@example.org"),
        Lookup(key="2@example.org"),
        Lookup(network_message_id="guid-9"),
        Lookup(network_message_id="guid-8"),
    ]
    found = [[one.message for one in answers] for answers in await journal.candidates(wanted)]
    assert found == [[early], [late], [late], []]
    assert len(await journal.candidates([Lookup(queue_id="4Xyz")])) == 1


async def test_keys_that_nobody_asks_for_are_not_kept_for_ever(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "_TOLD_MOST", 1)
    await journal.candidates([Lookup(key=f"{i}@elsewhere.example") for i in range(5000)])
    for _ in range(3):
        await attempt(journal, await journal.record(arrival()))
    assert journal._sieves is None
    assert len(await journal.candidates([Lookup(queue_id="4Xyz")])) == 1


async def test_many_rows_of_nobodys_are_stored_once_in_their_order(journal: Journal) -> None:
    rows = [Observed(row(str(i)), "unmatched", "none") for i in range(9)]
    answers = await journal.observe([*rows[:5], *rows[3:], rows[8]])
    assert [one.outcome for one in answers] == ["new"] * 5 + ["known"] * 2 + ["new"] * 4 + ["known"]
    ids = [one.evidence for one in answers]
    assert ids[5:7] == ids[3:5]
    assert [one.row.digest for one in await journal.unmatched()] == [one.row.digest for one in rows]


async def test_rows_without_a_message_id_are_looked_for_near_their_own_time(journal: Journal) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message)
    about = Lookup(sender="app@example.org", recipient="ann@contoso.com")
    times = [NOW - 30 * MINUTE, NOW - 11 * MINUTE, NOW, NOW + 11 * MINUTE, NOW + 30 * MINUTE]
    found = await journal.candidates([replace(about, received_at=at) for at in times])
    assert [len(answers) for answers in found] == [0, 1, 1, 1, 0]


async def test_an_attempt_that_never_connected_says_so(journal: Journal) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message, Event.REPLY_DEFERRED, stage="connect", due_at=NOW)
    ((candidate,),) = await journal.candidates([Lookup(attempt_message=message)])
    assert [one.connected for one in candidate.recipients[0].attempts] == [False]


# ── faults ──────────────────────────────────────────────────────────────────────────────────────────


async def test_faults_of_a_destination_are_its_deferrals_and_deliveries(journal: Journal) -> None:
    message = await journal.record(arrival())
    await attempt(journal, message)
    elsewhere = await journal.record(arrival(recipient("eve@else.org", destination="rest")))
    await attempt(journal, elsewhere)
    await journal.observe(
        [
            seen(message, Event.SEEN_DEFERRED, "a", cause=Cause.TLS, scope=Scope.DESTINATION),
            seen(elsewhere, Event.SEEN_DEFERRED, "b", cause=Cause.TLS, scope=Scope.DESTINATION),
            seen(message, Event.SEEN_DELIVERED, "c", status="delivered", observed_at=NOW + 2 * HOUR),
        ]
    )
    found = await journal.faults("hybrid", None, NOW)
    told = [(fault.status, fault.scope, fault.was_deferred, fault.attempt_accepted_at) for fault in found]
    assert told == [
        ("delivered", None, True, NOW + 1000),
        ("deferred", Scope.DESTINATION, True, NOW + 1000),
    ]
    assert await journal.faults("hybrid", None, NOW + 3 * HOUR) == []


async def test_faults_of_a_route_are_what_its_attempts_met(journal: Journal) -> None:
    refused = await journal.record(arrival())
    await attempt(
        journal,
        refused,
        Event.REPLY_DEFERRED,
        cause=Cause.CONNECTION,
        scope=Scope.ROUTE,
        reply="refused",
        due_at=NOW,
    )
    own_fault = await journal.record(arrival())
    own: dict[str, Any] = {
        "scope": Scope.RECIPIENT,
        "cause": Cause.RECIPIENT,
        "code": 550,
        "reply": "550 5.1.1 no such user",
    }
    await attempt(journal, own_fault, Event.REPLY_REFUSED, at=NOW + 2000, **own)
    taken = await journal.record(arrival())
    await attempt(journal, taken, at=NOW + MINUTE)
    found = await journal.faults(None, "eop", NOW)
    assert [(fault.status, fault.scope, fault.text) for fault in found] == [
        ("none", None, "250 2.0.0 OK"),
        ("none", None, "550 5.1.1 no such user"),
        ("deferred", Scope.ROUTE, "refused"),
    ]
    assert await journal.faults(None, "other", NOW) == []
    await attempt(journal, await journal.record(arrival()), at=NOW + 2 * MINUTE)
    newest = await journal.faults(None, "eop", NOW, 1, 1)
    assert [fault.status for fault in newest] == ["none", "deferred"], "the newest of each kind"


# ── coverage ────────────────────────────────────────────────────────────────────────────────────────


async def test_coverage_is_kept_as_read_and_its_span_grows_while_there_is_no_gap(journal: Journal) -> None:
    async def span() -> tuple[int, int]:
        with read.connect(journal.folder) as connection:
            return tuple(connection.execute("select since, until from trace").fetchone())

    first = Coverage("graph", NOW, NOW + HOUR, NOW + HOUR)
    await journal.covered(first)
    await journal.covered(replace(first, since=NOW + HOUR, until=NOW + 2 * HOUR))
    assert await span() == (NOW, NOW + 2 * HOUR)
    await journal.covered(replace(first, since=NOW - HOUR, until=NOW))
    assert await span() == (NOW - HOUR, NOW + 2 * HOUR)
    await journal.covered(replace(first, since=NOW + 5 * HOUR, until=NOW + 6 * HOUR))
    assert await span() == (NOW + 5 * HOUR, NOW + 6 * HOUR)
    await journal.covered(replace(first, since=NOW - DAY, until=NOW - HOUR))
    assert await span() == (NOW + 5 * HOUR, NOW + 6 * HOUR)
    assert len(await journal.coverage(NOW - DAY)) == 5
    assert len(await journal.coverage(NOW + 3 * HOUR)) == 1
