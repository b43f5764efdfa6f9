"""Rule 3: evidence may come twice, shuffled, split or before the mail: the end state is the same."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from resubmit.meaning.classify import meaning_of
from resubmit.model.evidence import Evidence, Holder, Source, Status
from resubmit.model.moment import HOUR, MINUTE, SECOND, Ms
from resubmit.model.recipient import Event
from tests.helpers.ledger import Ledger

ENVELOPE = ["anna@contoso.com", "all@contoso.com", "pat@fabrikam.example"]
MEMBERS = ["eva@contoso.com", "udo@contoso.com", "stranger@elsewhere.example"]
TEXTS = {
    Status.DEFERRED: "450 4.4.317 Cannot connect to remote server [Message=CertificateExpired x]",
    Status.EXPIRED: "550 5.4.316 Message expired, connection refused(Socket error code 10061)",
    Status.FAILED: "550 5.1.10 RESOLVER.ADR.RecipientNotFound; x",
}
STATUSES = st.sampled_from([s for s in Status if s is not Status.EXPANDED])


@dataclass(frozen=True)
class World:
    """Messages with when each attempt of theirs was taken, and all that is ever told of them."""

    messages: tuple[tuple[int, str, tuple[Ms, ...], Event], ...]
    rows: tuple[Evidence, ...]

    def run(self, order: list[Evidence], early: int = 0) -> tuple[dict[str, str], object]:
        """The end of it, with so many rows read before the mail is there."""
        ledger = Ledger()
        ledger.see(*order[:early])
        for message, message_id, _, _ in self.messages:
            ledger.journal(message, ENVELOPE, message_id=message_id)
        ledger.see(*order[early : 2 * early])
        for message, _, taken, first in self.messages:
            for no, at in enumerate(taken):
                ledger.begin(message, at)
                ledger.end(message, at + SECOND, first if no == 0 else Event.REPLY_ACCEPTED)
        ledger.see(*order[2 * early :])
        # A delivery without a time moves at once, before it is known by which attempt: that stays unsaid.
        owners = {
            digest: (o.match, o.owner and o.owner.message, o.row.status == "delivered" or o.no)
            for digest, (o, _) in sorted(ledger.stored.items())
        }
        return dict(sorted(ledger.states().items())), owners


def network(message: int, no: int) -> str:
    return f"{message:08d}-0000-4000-8000-{no:012d}"


@st.composite
def worlds(draw: st.DrawFn) -> World:
    count = draw(st.integers(1, 2))
    same = draw(st.booleans())
    gap = draw(st.sampled_from([0, 40 * SECOND, 5 * MINUTE]))
    attempts = draw(st.integers(1, 2))
    first = draw(st.sampled_from([Event.REPLY_ACCEPTED, Event.REPLY_LOST]))
    messages = tuple(
        (
            number,
            "<same@x>" if same else f"<{number}@x>",
            tuple(no * HOUR + (number - 1) * gap for no in range(attempts)),
            first,
        )
        for number in range(1, count + 1)
    )
    rows: list[Evidence] = []
    for number, message_id, taken, _ in messages:
        for no, at in enumerate(taken, 1):
            for address in draw(st.lists(st.sampled_from(ENVELOPE + MEMBERS), max_size=4)):
                status: Status = draw(STATUSES)
                if address == "all@contoso.com" and draw(st.booleans()):
                    status = Status.EXPANDED
                text = TEXTS.get(status, "") if draw(st.booleans()) else ""
                rows.append(
                    Evidence(
                        Source.TRACE_CSV,
                        status,
                        recipient=address,
                        observed_at=at + draw(st.integers(0, 50)) * SECOND,
                        # Without the time it was taken (a detail row with no Receive beside it), a row
                        # may be filed by what came first: docs/duplicates.md tells of it.
                        received_at=at,
                        message_id=message_id,
                        network_message_id=network(number, no),
                        text=text,
                        meaning=meaning_of(text) if text else None,
                        remote=draw(st.sampled_from(["", "mail.contoso.com"])),
                        holder=Holder.FAR,
                        file="f",
                        place="line 2",
                        raw="r",
                    )
                )
    # The far side says one thing of one moment: the same row may be there twice, never in two versions.
    return World(messages, tuple({_identity(row): row for row in rows}.values()))


def _identity(row: Evidence) -> tuple[object, ...]:
    return row.recipient, row.network_message_id, row.status, row.observed_at, row.text


@given(worlds(), st.data())
@settings(max_examples=200, deadline=None)
def test_the_order_of_evidence_does_not_matter(world: World, data: st.DataObject) -> None:
    whole = world.run(list(world.rows))
    order = data.draw(st.permutations(list(world.rows)))
    assert world.run(order) == whole


@given(worlds(), st.data())
@settings(max_examples=100, deadline=None)
def test_evidence_may_come_twice_and_in_overlapping_files(world: World, data: st.DataObject) -> None:
    whole = world.run(list(world.rows))
    again = data.draw(st.lists(st.sampled_from(world.rows), max_size=6)) if world.rows else []
    assert world.run([*again, *world.rows, *again]) == whole


@given(worlds(), st.data())
@settings(max_examples=100, deadline=None)
def test_evidence_may_come_before_the_mail_and_before_the_reply(world: World, data: st.DataObject) -> None:
    """One attempt only: what is known before the second is made decides whether it is made."""
    single = World(
        tuple((m, i, taken[:1], first) for m, i, taken, first in world.messages),
        tuple(row for row in world.rows if row.network_message_id.endswith("1")),
    )
    order = data.draw(st.permutations(list(single.rows)))
    early = data.draw(st.integers(0, len(order)))
    states, _ = single.run(order, early)
    late, _ = single.run(list(single.rows))
    if len({i for _, i, _, _ in single.messages}) == len(single.messages):
        assert states == late


@given(worlds())
@settings(max_examples=100, deadline=None)
def test_delivered_absorbs_and_nobody_unasked_becomes_a_recipient(world: World) -> None:
    states, _ = world.run(list(world.rows))
    assert not any("elsewhere" in address for address in states)
    for number, _, taken, _ in world.messages:
        if len(world.messages) > 1:
            continue
        for address in ENVELOPE:
            told = [r for r in world.rows if r.recipient == address and r.status is Status.DELIVERED]
            if told and len(taken) == 1:
                assert states[f"{number}/{address}"] == "delivered"
