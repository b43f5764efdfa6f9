"""Evidence in any order, twice, in any batches, before the reply or after: the journal ends the same."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from resubmit.journal import read
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Begun, Observed
from resubmit.model.evidence import Cause, Holder
from resubmit.model.moment import DAY
from resubmit.model.recipient import Event
from tests.helpers.journals import NOW, HandClock, arrival, ended, offer, outcome, seen

STATEMENTS = {
    Event.SEEN_ACCEPTED: "none",
    Event.SEEN_PENDING: "pending",
    Event.SEEN_DEFERRED: "deferred",
    Event.SEEN_GIVEN_UP: "expired",
    Event.SEEN_FAILED: "failed",
    Event.SEEN_FILTERED: "filtered",
    Event.SEEN_DELIVERED: "delivered",
}

HOLDERS = {
    Event.REPLY_ACCEPTED: Holder.FAR,
    Event.REPLY_LOST: Holder.FAR,
    Event.REPLY_FINAL: None,
}
DEADLINES = {Event.REPLY_ACCEPTED: NOW + DAY, Event.REPLY_LOST: NOW + DAY, Event.REPLY_FINAL: None}

_END = """
select state, below, cause, holder, deadline, due_at, attempt
from recipient
"""


async def told(folder: Path, statements: list[Observed], reply: Event, seed: int) -> tuple[object, ...]:
    """The recipient's row after the statements came in an order of their own, some twice."""
    chance = random.Random(seed)
    left: list[Observed | None] = [*statements, *statements[: chance.randint(0, 2)], None]
    if seed:
        chance.shuffle(left)
    journal = await Journal.open(folder, clock=HandClock(), inline=True)
    message = await journal.record(arrival())
    begun = await journal.begin(offer(message))
    assert isinstance(begun, Begun)
    while left:
        size = chance.randint(1, 3)
        batch, left = left[:size], left[size:]
        if None in batch:
            await journal.end(ended(begun, outcome(reply, holder=HOLDERS[reply], deadline=DEADLINES[reply])))
        await journal.observe([_for(one, message) for one in batch if one is not None])
    await journal.close()
    with read.connect(folder) as connection:
        (row,) = connection.execute(_END).fetchall()
        stored = connection.execute("select count(distinct digest), count(*) from evidence").fetchone()
    assert tuple(stored) == (len(statements), len(statements))
    return tuple(row)


def _for(one: Observed, message: int) -> Observed:
    event = one.moves[0].event
    return seen(message, event, event, status=STATEMENTS[event], cause=one.moves[0].cause)


@settings(max_examples=40, deadline=None)
@given(
    events=st.lists(st.sampled_from(list(STATEMENTS)), unique=True, max_size=4),
    reply=st.sampled_from([Event.REPLY_ACCEPTED, Event.REPLY_FINAL, Event.REPLY_LOST]),
    seed=st.integers(1, 1 << 30),
)
async def test_evidence_ends_alike_in_any_order(events: list[Event], reply: Event, seed: int) -> None:
    causes = {Event.SEEN_DEFERRED: Cause.TLS, Event.SEEN_GIVEN_UP: Cause.TLS}
    statements = [seen(0, event, event, cause=causes.get(event)) for event in events]
    with tempfile.TemporaryDirectory() as folder:
        plain = await told(Path(folder) / "a", statements, reply, 0)
        mixed = await told(Path(folder) / "b", statements, reply, seed)
    assert mixed == plain
