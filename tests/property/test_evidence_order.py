"""Rule 3: evidence may come twice, shuffled, split or before the mail: the end of it is the same.

Whole worlds on real journals, by the real filing. What is compared: every recipient with state, cause,
since, holder and deadline; every attempt with the network message ids bound to it; every piece of evidence
with whose it is; but for ids, places and history.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from resubmit.model.evidence import Evidence, Status
from tests.helpers.worlds import ENVELOPE, End, World, play, worlds


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


@given(worlds(strangers=True), st.data())
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
