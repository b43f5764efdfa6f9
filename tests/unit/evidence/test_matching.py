"""Whose evidence is by the keys that only some sources have: the next hop's id, the size; and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from resubmit.evidence.matching import Ambiguous, Home, Matched, Unmatched, kind_of, match
from resubmit.journal.verbs import Candidate, CandidateAttempt, CandidateRecipient
from resubmit.model.evidence import Evidence, Holder, Source, Status
from resubmit.model.moment import DAY, HOUR, MINUTE, Ms
from resubmit.model.recipient import State

ANNA = "anna@contoso.com"
NOW: Ms = 100 * DAY


def attempt(no: int, taken: Ms, key: str, *network: str) -> CandidateAttempt:
    return CandidateAttempt(no, 10 + no, taken - 1000, taken, taken, taken, True, network, key)


def message(number: int, *attempts: CandidateAttempt, size: int = 5000, address: str = ANNA) -> Candidate:
    recipient = CandidateRecipient(
        0, address, "", "hybrid", "eop", State.ACCEPTED, len(attempts), Holder.FAR, None, attempts
    )
    return Candidate(number, 0, "<1@x>", "app@example.org", "a letter", size, (recipient,))


def said(**fields: object) -> Evidence:
    plain = Evidence(
        Source.POSTFIX_LOG, Status.DEFERRED, recipient=ANNA, message_id="<1@x>", observed_at=HOUR + MINUTE
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def answer(evidence: Evidence, *candidates: Candidate) -> object:
    return match(evidence, candidates, lambda address: Home("hybrid", "eop"), NOW)


def whose(evidence: Evidence, *candidates: Candidate) -> tuple[int, int | None]:
    found = answer(evidence, *candidates)
    assert isinstance(found, Matched), found
    return found.candidate.message, found.owned.no if found.owned else None


TWICE = message(1, attempt(1, 0, "4Xyz1"), attempt(2, HOUR, "4Xyz2"))


@pytest.mark.parametrize(("queue", "no"), [("4Xyz1", 1), ("4Xyz2", 2), ("4Xother", None)])
def test_the_next_hops_id_names_the_attempt(queue: str, no: int | None) -> None:
    assert whose(said(queue_id=queue), TWICE) == (1, no)


def test_the_next_hops_id_tells_messages_with_one_message_id_apart() -> None:
    twin = message(2, attempt(1, HOUR, "4Xyz3"))
    found = answer(said(queue_id="4Xyz3"), TWICE, twin)
    assert isinstance(found, Matched)
    assert found.candidate.message == 2
    assert found.why == "next hop's id and recipient; it is the id the next hop gave attempt 1"


def test_the_next_hops_id_is_enough_where_there_is_no_message_id() -> None:
    assert whose(said(queue_id="4Xyz2", message_id=""), TWICE) == (1, 2)


def test_an_id_that_came_again_for_another_mail_or_much_later_is_not_it() -> None:
    other = said(queue_id="4Xyz2", message_id="<2@x>")
    assert isinstance(answer(other, TWICE), Unmatched)
    assert whose(said(queue_id="4Xyz2", observed_at=9 * DAY), TWICE) == (1, None)
    assert whose(said(queue_id="4Xyz2", observed_at=0), TWICE) == (1, None)


def test_exchanges_number_alone_means_the_id_in_its_250() -> None:
    once = message(1, attempt(1, HOUR, "12345@EX01.contoso.com"))
    assert whose(said(queue_id="12345", message_id=""), once) == (1, 1)
    assert isinstance(answer(said(queue_id="1234", message_id=""), once), Unmatched)


def test_an_attempt_bound_to_another_network_message_id_is_not_named() -> None:
    bound = message(1, attempt(1, HOUR, "12345@EX01", "n1"))
    assert whose(said(queue_id="12345", network_message_id="n2"), bound) == (1, None)


def test_messages_with_one_message_id_are_told_apart_by_their_size() -> None:
    small, large = (
        message(1, attempt(1, HOUR, ""), size=5000),
        message(2, attempt(1, HOUR, ""), size=3_000_000),
    )
    about = said(received_at=HOUR, size=3_040_000)
    assert whose(about, small, large) == (2, 1)
    assert whose(replace(about, size=21_000), small, large) == (1, 1)
    assert isinstance(answer(replace(about, size=None), small, large), Ambiguous)
    assert isinstance(answer(replace(about, size=1_000_000_000), small, large), Ambiguous)


def test_an_address_without_a_tag_goes_before_one_with() -> None:
    tagged = message(2, attempt(1, HOUR, ""), address="anna+news@contoso.com")
    about = said(received_at=HOUR)
    assert whose(about, TWICE, tagged) == (1, 2)
    assert whose(about, tagged) == (2, 1)


@pytest.mark.parametrize(
    ("why", "kind"),
    [
        ("our own key and recipient; its key names attempt 2", "our own key and recipient"),
        (
            "sender, recipient, subject and time; taken within 3 s of attempt 1",
            "sender, recipient, subject and time",
        ),
        ("a member of all@contoso.com, by the network message id of attempt 1", "a group's member"),
        (
            "12 messages have this Message-ID and recipient, and none was taken then",
            "several messages have this Message-ID and recipient",
        ),
    ],
)
def test_reasons_are_counted_by_their_key(why: str, kind: str) -> None:
    assert kind_of(why) == kind
