"""Rule 3: evidence may come twice, shuffled, split or before the mail: the end of it is the same.

Whole worlds on real journals, by the real filing. What is compared: every recipient with state, cause,
since, holder and deadline; every attempt with the network message ids bound to it; every piece of evidence
with whose it is; but for ids, places and history.
"""

from __future__ import annotations

import io
import random
from dataclasses import replace
from functools import partial
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from resubmit.evidence.reader import read_stream
from resubmit.model.evidence import Evidence, Source, Status
from resubmit.model.moment import MINUTE, rfc3339
from resubmit.model.recipient import Event
from tests.helpers.journals import NOW
from tests.helpers.worlds import (
    ANNA,
    ENVELOPE,
    GROUP,
    End,
    Sent,
    World,
    network,
    play,
    trace_row,
    worlds,
)


def shuffled(world: World, data: st.DataObject) -> list[Evidence]:
    """The rows in another order, some of them twice."""
    again = data.draw(st.lists(st.sampled_from(world.rows), max_size=3)) if world.rows else []
    return [*again, *data.draw(st.permutations(list(world.rows))), *again]


def same_attempts(one: End, other: End) -> bool:
    """What is known early decides whether a second attempt is made: then nothing is to be compared."""
    return [row[:3] for row in one["attempts"]] == [row[:3] for row in other["attempts"]]


@given(worlds(), st.data())
@settings(max_examples=60, deadline=None)
async def test_the_order_of_evidence_does_not_matter(world: World, data: st.DataObject) -> None:
    whole = await play(world, world.rows, [])
    batch = data.draw(st.sampled_from([1, 2, 500]))
    assert await play(world, shuffled(world, data), [], batch) == whole


SOURCES = (
    Source.TRACE_CSV,
    Source.TRACE_GRAPH,
    Source.DSN,
    Source.POSTFIX_LOG,
    Source.EXCHANGE_TRACKING_LOG,
)


@given(worlds(sources=SOURCES), st.data())
@settings(max_examples=60, deadline=None)
async def test_the_order_in_which_sources_tell_of_the_same_mail_does_not_matter(
    world: World, data: st.DataObject
) -> None:
    whole = await play(world, world.rows, [])
    batch = data.draw(st.sampled_from([1, 2, 500]))
    assert await play(world, shuffled(world, data), [], batch) == whole


@given(worlds(twins=False, strangers=True), st.data())
@settings(max_examples=40, deadline=None)
async def test_mail_of_others_with_our_message_id_changes_nothing_of_that(
    world: World, data: st.DataObject
) -> None:
    whole = await play(world, world.rows, [])
    assert await play(world, shuffled(world, data), []) == whole


@given(worlds(attempts=1), st.data())
@settings(max_examples=60, deadline=None)
async def test_evidence_may_come_before_the_mail_and_before_the_reply(
    world: World, data: st.DataObject
) -> None:
    cuts = data.draw(st.lists(st.integers(0, 4), max_size=6))
    whole = await play(world, world.rows, [])
    assert await play(world, shuffled(world, data), cuts) == whole


@given(worlds(), st.data())
@settings(max_examples=40, deadline=None)
async def test_evidence_may_come_between_attempts(world: World, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, 4), max_size=10))
    whole = await play(world, world.rows, [])
    mixed = await play(world, shuffled(world, data), cuts)
    if same_attempts(whole, mixed):
        assert mixed == whole


@given(worlds())
@settings(max_examples=40, deadline=None)
async def test_delivered_absorbs_and_nobody_unasked_becomes_a_recipient(world: World) -> None:
    recipients = (await play(world, world.rows, []))["recipients"]
    assert not any("elsewhere" in str(row[1]) for row in recipients)
    if len(world.messages) > 1:
        return
    states = {row[1]: row[2] for row in recipients}
    for address in ENVELOPE:
        if any(r.recipient == address and r.status is Status.DELIVERED for r in world.rows):
            assert states[address] == "delivered"


async def test_a_member_read_before_its_group_was_expanded_finds_it_in_any_batches() -> None:
    """The id is bound already when the group's own row comes: that row alone makes the member's an owner."""
    row = partial(trace_row, "<0@x>", network(0, 1), at=NOW)
    rows = (
        row(ANNA, Status.DELIVERED),
        row("eva@contoso.com", Status.DELIVERED),
        row(GROUP, Status.EXPANDED),
    )
    world = World((Sent("<0@x>", ((NOW, Event.REPLY_ACCEPTED),)),), rows)
    whole = await play(world, rows, [])
    assert ("eva@contoso.com", "delivered") in [r[1:3] for r in whole["recipients"]]
    for order in permutations(rows):
        assert await play(world, order, [], 1) == whole


async def test_a_rewritten_address_is_followed_in_any_order_and_over_two_steps() -> None:
    """The rows of a mail after its rewriting name the new address alone."""
    row = partial(trace_row, "<0@x>", network(0, 1), at=NOW)
    rows = (
        replace(row("a.berg@eu.contoso.com", Status.NONE), original_recipient=ANNA),
        replace(row("berg@mail.contoso.com", Status.NONE), original_recipient="a.berg@eu.contoso.com"),
        row("berg@mail.contoso.com", Status.DELIVERED),
    )
    world = World((Sent("<0@x>", ((NOW, Event.REPLY_ACCEPTED),)),), rows)
    whole = await play(world, rows, [])
    assert [r[1:3] for r in whole["recipients"] if r[2] == "delivered"] == [(ANNA, "delivered")]
    for order in permutations(rows):
        assert await play(world, order, [], 1) == whole
        assert await play(world, order, [2]) == whole


async def test_a_delivery_that_tells_of_a_time_to_come_waits_for_the_message_it_may_be_about() -> None:
    """It names no time of receipt, and a Message-ID that a later message has too."""
    told = replace(
        trace_row("<same@x>", network(1, 1), GROUP, Status.DELIVERED, NOW + 6 * MINUTE), received_at=None
    )
    sent = tuple(Sent("<same@x>", ((at, Event.REPLY_ACCEPTED),)) for at in (NOW, NOW + 5 * MINUTE))
    world = World(sent, (told,))
    whole = await play(world, world.rows, [])
    for early in range(6):
        assert await play(world, world.rows, [0] * early + [1]) == whole


HEADER = "Received,SenderAddress,RecipientAddress,Subject,Status,MessageId,MessageTraceId"
WORDS = {Status.DELIVERED: "Delivered", Status.PENDING: "Pending", Status.FAILED: "Failed"}


def lines_of(world: World) -> list[str]:
    """A trace's lines that tell of a world, one a row."""
    return [
        f"{rfc3339(row.received_at)},app@example.org,{row.recipient},a letter,{WORDS[row.status]},"
        f"{row.message_id},{row.network_message_id}"
        for row in world.rows
        if row.status in WORDS and row.received_at is not None
    ]


def read_file(lines: list[str]) -> list[Evidence]:
    """What a CSV of these lines says."""
    data = "\r\n".join([HEADER, *lines, ""]).encode()
    items = list(read_stream(io.BytesIO(data), "trace.csv", now=NOW))
    assert all(isinstance(item, Evidence) for item in items)
    return [item for item in items if isinstance(item, Evidence)]


@given(worlds(attempts=1), st.randoms(use_true_random=False), st.integers(0, 6))
@settings(max_examples=30, deadline=None)
async def test_one_csv_twice_shuffled_split_and_before_the_mail(
    world: World, chance: random.Random, early: int
) -> None:
    lines = lines_of(world)
    whole = await play(world, read_file(lines), [])
    mixed = chance.sample(lines, len(lines))
    half = chance.randint(0, len(mixed))
    parts = [*read_file(mixed[half:]), *read_file(lines), *read_file(mixed[:half])]
    assert await play(world, parts, [early]) == whole
