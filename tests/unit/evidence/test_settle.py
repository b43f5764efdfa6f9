"""Whose evidence is, and what it does: each rule of the design, on a journal in memory."""

from __future__ import annotations

import pytest

from resubmit.evidence.matching import lookup_of
from resubmit.evidence.settle import evidence_of, row_of
from resubmit.meaning.classify import meaning_of
from resubmit.model.evidence import Cause, Evidence, Holder, Source, Status
from resubmit.model.ids import attempt_key
from resubmit.model.moment import HOUR, MINUTE, SECOND, Ms
from resubmit.model.recipient import Event
from tests.helpers.ledger import Ledger

ANNA, OTTO, ALL = "anna@contoso.com", "otto@contoso.com", "all@contoso.com"
N1, N2 = "11111111-0000-4000-8000-000000000001", "22222222-0000-4000-8000-000000000002"
TLS = "450 4.4.317 Cannot connect to remote server [Message=CertificateExpired Expected Subject: a.]"


def row(
    status: Status,
    at: Ms = 0,
    *,
    recipient: str = ANNA,
    network: str = N1,
    message_id: str = "<1@x>",
    text: str = "",
    received: Ms | None = 0,
    **fields: object,
) -> Evidence:
    """A trace row; `received` is when the far side took it, `at` the event's own time."""
    return Evidence(
        Source.TRACE_CSV,
        status,
        recipient=recipient,
        observed_at=at,
        received_at=received,
        message_id=message_id,
        network_message_id=network,
        text=text,
        meaning=meaning_of(text) if text else None,
        holder=Holder.FAR,
        file="f",
        place="line 2",
        raw="r",
        **fields,  # type: ignore[arg-type]
    )


def one(*, accepted: Ms = 1000) -> Ledger:
    """One message to Anna, whose attempt 1 was answered 250."""
    ledger = Ledger()
    ledger.journal(1, [ANNA])
    ledger.begin(1, accepted - 1000)
    ledger.end(1, accepted, Event.REPLY_ACCEPTED)
    return ledger


def said(ledger: Ledger) -> list[str]:
    return [o.match for o, _ in ledger.stored.values()]


def whys(ledger: Ledger) -> list[str]:
    return [o.why for o, _ in ledger.stored.values()]


@pytest.mark.parametrize(
    ("status", "text", "state"),
    [
        (Status.PENDING, "", "pending"),
        (Status.DEFERRED, TLS, "deferred"),
        (Status.EXPIRED, "550 5.4.300 Message expired", "expired"),
        (Status.FAILED, "", "expired"),
        (Status.FAILED, "550 Nanu", "expired"),
        (Status.FAILED, "554 5.2.2 mailbox full", "expired"),
        (Status.FAILED, "550 5.1.10 RESOLVER.ADR.RecipientNotFound; x", "failed"),
        (Status.FILTERED, "", "filtered"),
        (Status.EXPANDED, "", "expanded"),
        (Status.DELIVERED, "", "delivered"),
        (Status.NONE, "", "accepted"),
        (Status.RELAYED, "", "accepted"),
    ],
)
def test_a_status_moves_its_recipient(status: Status, text: str, state: str) -> None:
    ledger = one()
    ledger.see(row(status, text=text))
    assert ledger.states() == {f"1/{ANNA}": state}


def test_a_move_says_why_and_carries_cause_holder_and_its_own_time() -> None:
    ledger = one()
    ledger.see(row(Status.DEFERRED, 5 * MINUTE, text=TLS))
    ((observed, _),) = ledger.stored.values()
    (move,) = observed.moves
    assert (move.cause, move.holder, move.since, move.attempt) == (Cause.TLS, Holder.FAR, 5 * MINUTE, 1)
    assert "trace_csv says deferred: 450 4.4.317" in move.why
    assert "Message-ID and recipient" in move.why and "attempt 1" in move.why
    assert observed.binds and observed.no == 1


# ── rule 2: which attempt ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("off", "state"),
    [
        (0, "pending"),
        (10 * MINUTE + 2 * SECOND, "pending"),
        (10 * MINUTE + 2 * SECOND + 1, "accepted"),
        (-10 * MINUTE - 2 * SECOND, "pending"),
        (-10 * MINUTE - 2 * SECOND - 1, "accepted"),
    ],
)
def test_a_row_belongs_to_an_attempt_taken_within_ten_minutes(off: Ms, state: str) -> None:
    ledger = one(accepted=HOUR)
    ledger.see(row(Status.PENDING, received=HOUR + off))
    assert ledger.states() == {f"1/{ANNA}": state}


def test_only_delivered_moves_what_belongs_to_no_attempt() -> None:
    for status in Status:
        ledger = one()
        ledger.see(row(status, received=5 * HOUR))
        moved = status is Status.DELIVERED
        assert ledger.states() == {f"1/{ANNA}": "delivered" if moved else "accepted"}
        assert said(ledger) == (["matched"] if moved else ["unmatched"])


def test_a_row_without_a_time_waits_for_its_network_id_to_be_bound() -> None:
    ledger = one()
    ledger.see(row(Status.DEFERRED, MINUTE, received=None, text=TLS))
    assert ledger.states() == {f"1/{ANNA}": "accepted"}
    ledger.see(row(Status.PENDING))
    assert ledger.states() == {f"1/{ANNA}": "deferred"}
    assert said(ledger) == ["matched", "matched"]


def test_a_binding_stays_and_two_attempts_are_told_apart() -> None:
    ledger = one()
    ledger.see(row(Status.EXPIRED, text="550 5.4.300 Message expired"))
    ledger.hand(1, 5 * MINUTE)
    ledger.see(row(Status.PENDING, received=5 * MINUTE, network=N2))
    assert ledger.states() == {f"1/{ANNA}": "pending"}
    # The first one's bounce comes late, and again: it moves nothing.
    ledger.see(row(Status.FAILED, 9 * MINUTE, text="550 5.1.1 User unknown"))
    assert ledger.states() == {f"1/{ANNA}": "pending"}
    # A late delivery of the first attempt still wins.
    ledger.see(row(Status.DELIVERED, 9 * MINUTE))
    assert ledger.states() == {f"1/{ANNA}": "delivered"}


def test_taken_twice_is_two_network_ids_delivered_and_changes_nothing() -> None:
    ledger = one()
    ledger.see(row(Status.DEFERRED, text=TLS))
    ledger.hand(1, HOUR)
    ledger.see(row(Status.DELIVERED), row(Status.DELIVERED, received=HOUR, network=N2))
    assert ledger.states() == {f"1/{ANNA}": "delivered"}
    delivered = {o.row.network_message_id for o, _ in ledger.stored.values() if o.row.status == "delivered"}
    assert delivered == {N1, N2}


def test_our_own_key_in_the_envelope_id_decides_first() -> None:
    ledger = one()
    ledger.see(
        row(Status.PENDING, text="", envelope_id=attempt_key(1, 1), received=9 * HOUR, message_id="<z>")
    )
    assert ledger.states() == {f"1/{ANNA}": "pending"}
    assert "our own key" in whys(ledger)[0]


def test_an_attempt_in_doubt_is_found_by_its_final_dot() -> None:
    ledger = Ledger()
    ledger.journal(1, [ANNA])
    ledger.hand(1, 0, Event.REPLY_LOST)
    ledger.see(row(Status.NONE))
    assert ledger.states() == {f"1/{ANNA}": "accepted"}


def test_an_attempt_that_never_wrote_its_dot_owns_no_evidence() -> None:
    ledger = Ledger()
    ledger.journal(1, [ANNA])
    ledger.hand(1, 0, Event.REPLY_DEFERRED, dot=False)
    ledger.see(row(Status.PENDING))
    assert ledger.states() == {f"1/{ANNA}": "retrying"}


def test_a_row_that_comes_before_the_reply_waits_for_it() -> None:
    ledger = Ledger()
    ledger.journal(1, [ANNA])
    ledger.begin(1, 0)
    ledger.see(row(Status.PENDING))
    assert ledger.states() == {f"1/{ANNA}": "sending"}
    ledger.end(1, 500, Event.REPLY_ACCEPTED)
    assert ledger.states() == {f"1/{ANNA}": "pending"}


def test_a_row_of_an_open_second_attempt_is_not_given_to_the_first() -> None:
    ledger = one()
    ledger.begin(1, 5 * MINUTE)
    ledger.see(row(Status.PENDING, received=5 * MINUTE + SECOND, network=N2))
    assert said(ledger) == ["unmatched"]
    ledger.end(1, 5 * MINUTE + 2 * SECOND, Event.REPLY_ACCEPTED)
    ((observed, _),) = ledger.stored.values()
    assert (observed.match, observed.no) == ("matched", 2)


def test_a_row_that_comes_before_the_mail_waits_for_it() -> None:
    ledger = Ledger()
    ledger.see(row(Status.DELIVERED))
    assert said(ledger) == ["unmatched"]
    ledger.journal(1, [ANNA])
    ledger.settle_open()
    assert ledger.states() == {f"1/{ANNA}": "journaled"}
    ledger.hand(1, 0)
    assert ledger.states() == {f"1/{ANNA}": "delivered"}


def test_what_no_message_of_ours_has_stays_unmatched() -> None:
    ledger = one()
    ledger.see(row(Status.DELIVERED, message_id="<other@x>"), row(Status.DELIVERED, recipient=OTTO))
    assert ledger.states() == {f"1/{ANNA}": "accepted"}
    assert said(ledger) == ["unmatched", "unmatched"]


# ── addresses ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("address", ["ANNA@Contoso.COM", "<anna@contoso.com>", " anna@contoso.com"])
def test_addresses_compare_without_case_brackets_and_blanks(address: str) -> None:
    ledger = one()
    ledger.see(row(Status.PENDING, recipient=address))
    assert ledger.states() == {f"1/{ANNA}": "pending"}


def test_a_rewritten_address_is_found_by_its_original() -> None:
    ledger = one()
    ledger.see(row(Status.PENDING, recipient="anna@internal.example", original_recipient=ANNA))
    assert ledger.states() == {f"1/{ANNA}": "pending"}


def test_a_tag_is_read_leniently_where_no_address_fits_without() -> None:
    ledger = one()
    ledger.see(row(Status.PENDING, recipient="anna+news@contoso.com"))
    assert ledger.states() == {f"1/{ANNA}": "pending"}
    assert "but for its tag" in whys(ledger)[0]
    both = Ledger()
    both.journal(1, [ANNA, "anna+news@contoso.com"])
    both.hand(1, 0)
    both.see(row(Status.PENDING, recipient="anna+news@contoso.com"))
    assert both.states() == {f"1/{ANNA}": "accepted", "1/anna+news@contoso.com": "pending"}
    both.see(row(Status.DELIVERED, recipient="anna+other@contoso.com", network=""))
    assert both.states() == {f"1/{ANNA}": "accepted", "1/anna+news@contoso.com": "pending"}


def test_a_detail_row_without_recipient_belongs_to_the_only_one() -> None:
    ledger = one()
    ledger.see(row(Status.PENDING), row(Status.DEFERRED, MINUTE, recipient="", text=TLS))
    assert ledger.states() == {f"1/{ANNA}": "deferred"}
    two = Ledger()
    two.journal(1, [ANNA, OTTO])
    two.hand(1, 0)
    two.see(row(Status.PENDING), row(Status.DEFERRED, MINUTE, recipient="", text=TLS))
    assert two.states() == {f"1/{ANNA}": "pending", f"1/{OTTO}": "accepted"}


# ── rule 6: members ──────────────────────────────────────────────────────────────────────────────


def group() -> Ledger:
    ledger = Ledger()
    ledger.journal(1, [ALL])
    ledger.hand(1, 0)
    return ledger


def test_a_member_becomes_a_derived_recipient_once() -> None:
    ledger = group()
    ledger.see(
        row(Status.EXPANDED, recipient=ALL), row(Status.PENDING), row(Status.DEFERRED, MINUTE, text=TLS)
    )
    assert ledger.states() == {f"1/{ALL}": "expanded", f"1/{ANNA}": "deferred"}
    ledger.see(row(Status.DELIVERED, 2 * MINUTE))
    assert ledger.states() == {f"1/{ALL}": "expanded", f"1/{ANNA}": "delivered"}


def test_a_member_seen_before_its_group_was_expanded_waits() -> None:
    ledger = group()
    ledger.see(row(Status.DELIVERED))
    assert ledger.states() == {f"1/{ALL}": "accepted"}
    ledger.see(row(Status.EXPANDED, recipient=ALL))
    assert ledger.states() == {f"1/{ALL}": "expanded", f"1/{ANNA}": "delivered"}


def test_nobody_outside_a_configured_destination_becomes_a_member() -> None:
    ledger = group()
    ledger.see(row(Status.EXPANDED, recipient=ALL), row(Status.PENDING, recipient="pat@fabrikam.example"))
    assert ledger.states() == {f"1/{ALL}": "expanded"}


def test_nobody_becomes_a_member_without_the_groups_network_id() -> None:
    ledger = group()
    ledger.see(row(Status.EXPANDED, recipient=ALL), row(Status.PENDING, network=""))
    ledger.see(row(Status.PENDING, network=N2))
    assert ledger.states() == {f"1/{ALL}": "expanded"}


def test_an_address_of_the_envelope_is_itself_and_no_member() -> None:
    ledger = Ledger()
    ledger.journal(1, [ALL, ANNA])
    ledger.hand(1, 0)
    ledger.see(row(Status.EXPANDED, recipient=ALL), row(Status.PENDING))
    assert ledger.states() == {f"1/{ALL}": "expanded", f"1/{ANNA}": "pending"}


def test_nothing_is_derived_of_a_recipient_that_is_no_group() -> None:
    ledger = one()
    ledger.see(row(Status.PENDING), row(Status.PENDING, recipient=OTTO))
    assert ledger.states() == {f"1/{ANNA}": "pending"}


# ── rule 7: passed on ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("remote", "state"),
    [
        ("mail.contoso.com [10.0.0.1]", "delivered"),
        ("MAIL.contoso.com.", "delivered"),
        ("other.example [198.51.100.7]", "delivered"),
        ("mail.contoso.com.evil.example", "accepted"),
        ("mx.fabrikam.example [203.0.113.5]", "accepted"),
        ("", "accepted"),
    ],
)
def test_sent_to_the_destinations_endpoint_is_delivered_and_elsewhere_passed_on(
    remote: str, state: str
) -> None:
    ledger = one()
    ledger.see(row(Status.RELAYED, remote=remote))
    assert ledger.states() == {f"1/{ANNA}": state}


# ── rule 8: two that can't be told apart ─────────────────────────────────────────────────────────


def twins(gap: Ms = 0, **second: str) -> Ledger:
    """Two messages with one Message-ID to Anna, taken so far apart."""
    ledger = Ledger()
    ledger.journal(1, [ANNA])
    ledger.journal(2, [ANNA], **second)  # type: ignore[arg-type]
    ledger.hand(1, 0)
    ledger.hand(2, gap)
    return ledger


def both(state: str) -> dict[str, str]:
    return {f"1/{ANNA}": state, f"2/{ANNA}": state}


def test_bad_news_moves_each_equally_good_candidate() -> None:
    for status, text in ((Status.PENDING, ""), (Status.DEFERRED, TLS), (Status.EXPIRED, "")):
        ledger = twins()
        ledger.see(row(status, text=text))
        assert ledger.states() == both(str(status))
        assert said(ledger) == ["ambiguous"]


def test_a_failure_of_one_of_two_settles_neither() -> None:
    ledger = twins()
    ledger.see(row(Status.FAILED, text="550 5.1.1 User unknown"))
    assert ledger.states() == both("expired")


def test_good_news_moves_none_until_there_are_as_many_deliveries_as_candidates() -> None:
    ledger = twins()
    ledger.see(row(Status.DELIVERED))
    assert ledger.states() == both("accepted")
    ledger.see(row(Status.DELIVERED, 30_000))  # the same mail, told again
    assert ledger.states() == both("accepted")
    ledger.see(row(Status.DELIVERED, network=N2))
    assert ledger.states() == both("delivered")


def test_messages_with_one_id_are_told_apart_by_time() -> None:
    ledger = twins(gap=20 * SECOND)
    ledger.see(row(Status.DELIVERED), row(Status.PENDING, received=20 * SECOND, network=N2))
    assert ledger.states() == {f"1/{ANNA}": "delivered", f"2/{ANNA}": "pending"}


def test_stamps_in_whole_seconds_tell_nothing_apart_within_two() -> None:
    ledger = twins(gap=2 * SECOND)
    ledger.see(row(Status.DELIVERED))
    assert ledger.states() == both("accepted")
    assert said(ledger) == ["ambiguous"]


def test_a_twin_whose_attempt_is_still_open_is_waited_for() -> None:
    ledger = Ledger()
    ledger.journal(1, [ANNA])
    ledger.journal(2, [ANNA])
    ledger.hand(1, 0)
    ledger.begin(2, 0)
    ledger.see(row(Status.DELIVERED))
    assert said(ledger) == ["unmatched"]
    ledger.end(2, SECOND, Event.REPLY_ACCEPTED)
    assert said(ledger) == ["ambiguous"]


def test_messages_with_one_id_are_told_apart_by_sender_and_subject() -> None:
    by_sender = twins(sender="other@x")
    by_sender.see(row(Status.DELIVERED, sender="other@x"))
    assert by_sender.states() == {f"1/{ANNA}": "accepted", f"2/{ANNA}": "delivered"}
    by_subject = twins(subject="Reminder")
    by_subject.see(row(Status.DELIVERED, sender="s@x", subject="Reminder"))
    assert by_subject.states() == {f"1/{ANNA}": "accepted", f"2/{ANNA}": "delivered"}


def test_once_one_is_bound_the_other_is_the_only_one() -> None:
    ledger = twins()
    ledger.see(row(Status.PENDING, envelope_id=attempt_key(1, 1)))
    ledger.see(row(Status.DELIVERED, network=N2))
    assert ledger.states() == {f"1/{ANNA}": "pending", f"2/{ANNA}": "delivered"}


# ── rows without Message-ID ──────────────────────────────────────────────────────────────────────


def bare(status: Status, received: Ms = 0, subject: str = "Invoice", sender: str = "s@x") -> Evidence:
    return row(status, received, received=received, network="", message_id="", subject=subject, sender=sender)


@pytest.mark.parametrize(
    ("evidence", "state"),
    [
        (bare(Status.PENDING), "pending"),
        (bare(Status.PENDING, 91 * SECOND), "pending"),  # the 250 came a second after the attempt began
        (bare(Status.PENDING, 92 * SECOND), "accepted"),
        (bare(Status.PENDING, subject="Invo"), "pending"),
        (bare(Status.PENDING, subject="INVOICE "), "pending"),
        (bare(Status.PENDING, subject="Invoice 4711"), "accepted"),
        (bare(Status.PENDING, subject=""), "accepted"),
        (bare(Status.PENDING, sender="t@x"), "accepted"),
        (bare(Status.DELIVERED, 5 * MINUTE), "accepted"),
    ],
)
def test_a_row_without_message_id_needs_sender_recipient_subject_and_time(
    evidence: Evidence, state: str
) -> None:
    ledger = one()
    ledger.see(evidence)
    assert ledger.states() == {f"1/{ANNA}": state}


def test_a_row_without_message_id_that_fits_two_is_ambiguous_however_near_one_is() -> None:
    ledger = twins(gap=60 * SECOND, message_id="<2@x>")
    ledger.see(bare(Status.DELIVERED))
    assert ledger.states() == both("accepted")
    ledger.see(bare(Status.PENDING, 60 * SECOND))
    assert ledger.states() == both("pending")
    ledger.see(bare(Status.DELIVERED, 60 * SECOND))
    assert ledger.states() == both("delivered")


# ── the rest ─────────────────────────────────────────────────────────────────────────────────────


def test_a_stored_row_is_the_same_evidence_again() -> None:
    evidence = row(Status.DEFERRED, 5, text=TLS, sender="s@x", subject="S", remote="mail [1]")
    again = evidence_of(row_of(evidence, b"d" * 16, 7))
    assert row_of(again, b"d" * 16, 7) == row_of(evidence, b"d" * 16, 7)


def test_a_lookup_has_every_key_there_is() -> None:
    lookup = lookup_of(row(Status.PENDING, envelope_id=attempt_key(77, 2), queue_id="q", sender="s@x"))
    assert (lookup.key, lookup.network_message_id, lookup.attempt_message) == ("1@x", N1, 77)
    assert (lookup.queue_id, lookup.sender, lookup.recipient) == ("q", "s@x", ANNA)
