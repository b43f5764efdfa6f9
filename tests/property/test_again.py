"""Two rows of one address in one message: evidence of either's attempts is that one's, in any order.

The first was delivered and stays so; the second, sent again beside it, is where its own evidence puts it,
whatever else is told of the first (design, section 3 rules 1 and 2).
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from resubmit.model.evidence import Evidence, Holder, Source, Status
from resubmit.model.ids import attempt_key
from resubmit.model.moment import MINUTE, SECOND, Ms
from resubmit.model.recipient import Event
from tests.helpers.ledger import Ledger

ANNA = "anna@contoso.com"
STATUSES = (Status.PENDING, Status.DEFERRED, Status.EXPIRED, Status.FILTERED, Status.DELIVERED)
STATES = {
    Status.PENDING: "pending",
    Status.DEFERRED: "deferred",
    Status.EXPIRED: "expired",
    Status.FILTERED: "filtered",
    Status.DELIVERED: "delivered",
}


def told(no: int, status: Status, taken: Ms, off: Ms, by: str, at: Ms) -> Evidence:
    """A row about attempt `no`. by: `time` alone, its network message `id` too, our own `key`, or `nothing`
    that could say which attempt it is about."""
    return Evidence(
        Source.TRACE_CSV,
        status,
        recipient=ANNA,
        observed_at=taken + at,
        received_at=None if by in ("key", "nothing") else taken + off,
        message_id="<1@x>",
        network_message_id=f"net-{no}" if by == "id" else "",
        envelope_id=attempt_key(1, no) if by == "key" else "",
        holder=Holder.FAR,
        file="f",
        place="line 2",
        raw=f"{no} {status} {by} {off} {at}",
    )


@dataclass(frozen=True)
class Story:
    """When the second row's attempt was taken, and what is told of each."""

    gap: Ms
    first: tuple[Evidence, ...]
    second: tuple[Evidence, ...]
    lost: tuple[Evidence, ...]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    gap = draw(st.sampled_from([20 * SECOND, 4 * MINUTE, 300 * MINUTE]))

    def rows(no: int, taken: Ms, ways: list[str]) -> tuple[Evidence, ...]:
        one = st.builds(
            told,
            st.just(no),
            st.sampled_from(STATUSES),
            st.just(taken),
            st.integers(-5 * SECOND, 5 * SECOND),
            st.sampled_from(ways),
            st.integers(0, 10 * MINUTE),
        )
        return tuple(draw(st.lists(one, max_size=4)))

    ways = ["time", "id", "key"]
    return Story(gap, rows(1, 0, ways), rows(2, gap, ways), rows(1, 0, ["nothing"]))


def begun(story: Story) -> Ledger:
    """Anna's mail, delivered by attempt 1 and sent again as attempt 2."""
    ledger = Ledger()
    ledger.journal(1, [ANNA])
    ledger.begin(1, -SECOND)
    ledger.end(1, 0, Event.REPLY_ACCEPTED)
    ledger.see(told(1, Status.DELIVERED, 0, 0, "id", 0))
    n = ledger.again(1, 0)
    ledger.begin(1, story.gap - SECOND, [n])
    return ledger


@given(stories(), st.data())
@settings(max_examples=150, deadline=None)
def test_each_row_is_where_its_own_evidence_puts_it(story: Story, data: st.DataObject) -> None:
    ledger = begun(story)
    rows = data.draw(st.permutations([*story.first, *story.second, *story.lost]))
    early = data.draw(st.integers(0, len(rows)))
    ledger.see(*rows[:early])  # some of it before the next hop's own reply
    ledger.end(1, story.gap, Event.REPLY_ACCEPTED)
    ledger.see(*rows[early:], *rows)
    best = max((row.status for row in story.second), key=STATUSES.index, default=None)
    assert str(ledger.stands[1, 0].state) == "delivered"
    assert str(ledger.stands[1, 1].state) == (STATES[best] if best else "accepted")


@given(stories())
@settings(max_examples=50, deadline=None)
def test_before_it_goes_nothing_that_is_told_moves_the_second(story: Story) -> None:
    ledger = Ledger()
    ledger.journal(1, [ANNA])
    ledger.begin(1, -SECOND)
    ledger.end(1, 0, Event.REPLY_ACCEPTED)
    ledger.see(told(1, Status.DELIVERED, 0, 0, "id", 0))
    n = ledger.again(1, 0)
    ledger.see(*story.first, *story.lost)
    assert str(ledger.stands[1, n].state) == "journaled"
