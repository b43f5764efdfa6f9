"""The recipient's table in any order: evidence ends alike, and no legal story meets the impossible."""

from __future__ import annotations

import itertools
import random

import pytest

from resubmit.model.recipient import SETTLED, TABLE, Event, Stand, State, step

SEEN = (
    Event.SEEN_ACCEPTED,
    Event.SEEN_PENDING,
    Event.SEEN_DEFERRED,
    Event.SEEN_GIVEN_UP,
    Event.SEEN_FAILED,
    Event.SEEN_FILTERED,
    Event.SEEN_EXPANDED,
    Event.SEEN_DELIVERED,
)
TAKEN = (Event.REPLY_ACCEPTED, Event.REPLY_FINAL, Event.REPLY_LOST, Event.ATTEMPT_ORPHANED)
NOT_TAKEN = (Event.REPLY_DEFERRED, Event.REPLY_REFUSED, Event.REPLY_REFUSED_MENDABLE)


def _ends(events: tuple[Event, ...]) -> set[State]:
    """Where a sending recipient ends, over every order of the events."""
    ends = set()
    for order in set(itertools.permutations(events)):
        stand = Stand(State.SENDING)
        for event in order:
            stand = step(stand, event).stand
        ends.add(stand.state)
    return ends


@pytest.mark.parametrize("reply", TAKEN)
def test_up_to_four_pieces_of_evidence_and_a_250_or_a_loss_end_alike_in_any_order(reply: Event) -> None:
    for count in range(5):
        for seen in itertools.combinations(SEEN, count):
            assert len(_ends((*seen, reply))) == 1, (reply, seen)


@pytest.mark.parametrize("reply", NOT_TAKEN)
def test_up_to_two_pieces_of_evidence_and_a_4xx_or_5xx_end_alike_in_any_order(reply: Event) -> None:
    for count in range(3):
        for seen in itertools.combinations(SEEN, count):
            assert len(_ends((*seen, reply))) == 1, (reply, seen)


@pytest.mark.parametrize("seen", list(itertools.combinations_with_replacement(SEEN, 3)))
def test_evidence_that_comes_twice_changes_nothing(seen: tuple[Event, ...]) -> None:
    assert _ends((*seen, Event.REPLY_ACCEPTED)) == _ends((*dict.fromkeys(seen), Event.REPLY_ACCEPTED))


class Story:
    """One recipient's life, in which only that happens which can: what the service and the world may do."""

    def __init__(self, chance: random.Random) -> None:
        self.stand = Stand(State.JOURNALED)
        self.attempts = 0
        self.open = False
        self.relay = False
        self.chance = chance
        if chance.random() < 0.1:
            self.relay = chance.random() < 0.5
            self.attempts = 1
            self.do(Event.TAKEN_ELSEWHERE)

    def do(self, event: Event) -> None:
        before = self.stand.state
        self.stand = step(self.stand, event).stand
        if before is State.DELIVERED:
            assert self.stand.state is State.DELIVERED

    def can(self) -> list[Event]:
        """What may happen next."""
        state = self.stand.state
        events = [Event.QUEUE_EXPIRED]
        if self.attempts:
            events += [Event.DOUBT_TIMED_OUT, Event.SEEN_NOWHERE]
            # What the relay still holds nobody behind it can know of, and a relay's word is no trace's.
            events += (
                [Event.SEEN_ACCEPTED, Event.SEEN_DEFERRED, Event.SEEN_GIVEN_UP] if self.relay else list(SEEN)
            )
        if self.attempts > 1:
            events += [Event.LATE_DELIVERED, Event.LATE_EXPANDED, Event.LATE_OTHER]
        if self.open:
            return [*events, *TAKEN, *NOT_TAKEN]
        events += [event for event in Event if event.startswith("operator_")]
        if TABLE[Event.ATTEMPT_STARTED][state] == State.SENDING:
            events.append(Event.ATTEMPT_STARTED)
        if self.attempts and state is not State.JOURNALED:
            events.append(Event.ATTEMPTS_EXHAUSTED)
        if self.relay and TABLE[Event.RELAY_PASSED_ON][state] != "x":
            events.append(Event.RELAY_PASSED_ON)
        if state is State.ACCEPTED or state in SETTLED:
            events.append(Event.PRUNED)
        return events

    def live(self) -> None:
        """One more thing happens."""
        event = self.chance.choice(self.can())
        self.do(event)
        if event is Event.ATTEMPT_STARTED:
            self.attempts, self.open, self.relay = self.attempts + 1, True, False
        elif event in TAKEN or event in NOT_TAKEN:
            self.open = False
        elif event is Event.RELAY_PASSED_ON:
            self.relay = False


@pytest.mark.parametrize("seed", range(8))
def test_no_legal_story_meets_the_impossible(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(1500):
        story = Story(chance)
        for _ in range(20):
            story.live()
