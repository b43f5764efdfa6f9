"""`list` shows what is asked for, in exactly the contract's fields, and fits the screen."""

from __future__ import annotations

import re
from typing import Any

import pytest

from resubmit.cli.mail import cause_words
from resubmit.cli.table import width
from resubmit.model.evidence import Cause
from resubmit.model.ids import id_text
from resubmit.model.moment import DAY, HOUR, MINUTE
from tests.helpers.factory import NOW, recipient
from tests.unit.cli.conftest import Desk

MESSAGE_FIELDS = [
    "id", "message_id", "received_at", "sender", "subject", "size", "intake", "stuck", "deadline",
    "recipients",
]  # fmt: skip
RECIPIENT_FIELDS = [
    "address", "state", "cause", "since", "deadline", "destination", "attempts", "last_reply", "stuck",
    "derived_from",
    "again_of",
]  # fmt: skip


def addresses(desk: Desk, *words: str) -> list[str]:
    """The first recipients of the messages found, in order."""
    return [m["recipients"][0]["address"].split("@")[0] for m in desk.ask("list", "--json", *words).lines]


def test_the_fields_are_the_contracts(desk: Desk) -> None:
    shelf = desk.shelf
    number = shelf.message(
        recipient("all@contoso.com", "expanded", attempt=1),
        recipient("ann@contoso.com", "deferred", derived_from=0),
        at=NOW - HOUR,
        message_id="<a@x>",
    )
    shelf.attempt(number, 1, at=NOW - HOUR)
    shelf.evidence(
        number, 1, no=1, code=450, enhanced="4.7.320", text="Certificate validation failed", at=NOW
    )

    (found,) = desk.ask("list", "--json").lines

    assert list(found) == MESSAGE_FIELDS
    assert [list(r) for r in found["recipients"]] == [RECIPIENT_FIELDS] * 2
    assert found["id"] == id_text(number)
    assert found["message_id"] == "<a@x>"
    assert found["received_at"] == "2026-11-24T11:00:00.000Z"
    assert found["stuck"] is True
    assert found["deadline"] == found["recipients"][1]["deadline"] == "2026-11-25T08:00:00.000Z"
    assert found["recipients"][1]["last_reply"] == "450 4.7.320 Certificate validation failed"
    assert found["recipients"][1]["derived_from"] == "all@contoso.com"
    assert found["recipients"][0]["deadline"] is None


def test_without_filters_every_state_is_listed_newest_first(desk: Desk) -> None:
    for i, state in enumerate(("delivered", "deferred", "failed", "journaled")):
        desk.shelf.message(recipient(f"{i}@contoso.com", state), at=NOW - HOUR + i)

    assert addresses(desk) == ["3", "2", "1", "0"]


def test_fifty_unless_said_otherwise_and_the_total_on_stderr(desk: Desk) -> None:
    for i in range(60):
        desk.shelf.message(recipient(f"{i}@contoso.com"), at=NOW - HOUR + i)

    answer = desk.ask("list", "--json")
    assert len(answer.lines) == 50
    assert "50 of 60 messages" in answer.err
    assert len(addresses(desk, "--limit", "0")) == 60
    assert len(addresses(desk, "--limit", "7")) == 7


STUCK: dict[str, tuple[str, dict[str, Any], bool]] = {
    "deferred for tls at once": ("deferred", {"since": NOW - MINUTE}, True),
    "deferred for another cause not yet": ("deferred", {"since": NOW - MINUTE, "cause": "mailbox"}, False),
    "deferred for another cause after stuck_after": (
        "deferred",
        {"since": NOW - 16 * MINUTE, "cause": "mailbox"},
        True,
    ),
    "pending without a cause not yet": ("pending", {"since": NOW - 14 * MINUTE}, False),
    "pending for long": ("pending", {"since": NOW - 15 * MINUTE}, True),
    "delivered never": ("delivered", {"since": NOW - DAY}, False),
    "held never": ("held", {"since": NOW - DAY}, False),
    "accepted without an incident": ("accepted", {"since": NOW - HOUR}, False),
}


@pytest.mark.parametrize("case", STUCK)
def test_stuck_lists_what_is_stuck(desk: Desk, case: str) -> None:
    state, values, stuck = STUCK[case]
    desk.shelf.destination()
    desk.shelf.message(recipient(state=state, **values), at=NOW - DAY)

    assert bool(desk.ask("list", "--stuck", "--json").lines) == stuck
    assert desk.ask("list", "--json").lines[0]["stuck"] == stuck


def test_mail_behind_a_closed_route_is_stuck_with_the_gates_cause(desk: Desk) -> None:
    desk.shelf.destination()
    incident = desk.shelf.incident(cause="connection")
    desk.shelf.gate("route:eop", "closed", incident=incident, since=NOW - HOUR)
    desk.shelf.message(recipient(state="journaled"), at=NOW - HOUR)

    (found,) = desk.ask("list", "--stuck", "--json").lines

    assert found["recipients"][0]["cause"] == "connection"
    assert desk.ask("list", "--stuck", "--cause", "connection", "-q").out == f"{found['id']}\n"


FILTERS = {
    "sender": (("--sender", "BOSS@example.org"), "b"),
    "sender glob": (("--sender", "boss@*"), "b"),
    "null sender": (("--sender", ""), "n"),
    "recipient": (("--recipient", "a@contoso.com"), "a"),
    "domain": (("--domain", "fabrikam.com"), "f"),
    "domain glob": (("--domain", "*rikam.com"), "f"),
    "message id": (("--message-id", "<A1@x>"), "a"),
    "message id without brackets": (("--message-id", "a1@x"), "a"),
    "message id glob": (("--message-id", "a1@*"), "a"),
    "subject": (("--subject", "INVOICE 5%"), "b"),
    "subject glob": (("--subject", "*voice*"), "b"),
    "subject beyond ascii": (("--subject", "gr\u00fc\u00dfe*"), "n"),
    "a percent sign is itself": (("--subject", "invoice _%"), ""),
    "cause": (("--cause", "mailbox"), "f"),
    "no cause": (("--cause", "none"), "bn"),
    "state": (("--state", "expired"), "n"),
    "states are or": (("--state", "expired", "--state", "delivered"), "nb"),
    "flags are and": (("--state", "delivered", "--domain", "fabrikam.com"), ""),
    "destination": (("--destination", "partner"), "f"),
    "incident": (("--incident", "1"), "a"),
    "older than": (("--older-than", "2h"), "nb"),
    "expiring in": (("--expiring-in", "90m"), "f"),
    "since": (("--since", "100m"), "fa"),
    "until": (("--until", "100m"), "nb"),
    "since a date": (("--since", "2026-11-24T10:30:00Z", "--until", "2026-11-24T11:15:00Z"), "a"),
}


@pytest.mark.parametrize("case", FILTERS)
def test_filters(desk: Desk, case: str) -> None:
    words, expected = FILTERS[case]
    shelf = desk.shelf
    shelf.message(
        recipient("b@contoso.com", "delivered"),
        at=NOW - 3 * HOUR,
        sender="boss@example.org",
        subject="Invoice 5%",
    )
    shelf.message(
        recipient("n@contoso.com", "expired"), at=NOW - 2 * HOUR, sender="", subject="Gr\u00dc\u00dfE!"
    )
    a = shelf.message(recipient("a@contoso.com", "deferred"), at=NOW - HOUR, message_id="<a1@X>")
    shelf.message(
        recipient("f@fabrikam.com", "deferred", cause="mailbox", destination="partner", deadline=NOW + HOUR),
        at=NOW - HOUR // 2,
    )
    shelf.incident((a, 0))

    assert sorted(addresses(desk, *words)) == sorted(expected)


def test_the_span_asked_for_is_echoed_in_utc(desk: Desk) -> None:
    answer = desk.ask("list", "--since", "2026-11-24T10:00:00+01:00", "--until", "1h")

    assert "taken from 2026-11-24T09:00:00.000Z until 2026-11-24T11:00:00.000Z" in answer.err


def test_sorts(desk: Desk) -> None:
    shelf = desk.shelf
    shelf.message(recipient("a@contoso.com", "deferred", since=NOW - 1), at=NOW - 3, size=1)
    shelf.message(
        recipient("b@contoso.com", "deferred", since=NOW - 3, deadline=NOW + 9 * HOUR), at=NOW - 2, size=3
    )
    shelf.message(recipient("c@contoso.com", "journaled", since=NOW - 2, deadline=None), at=NOW - 1, size=2)

    assert addresses(desk, "--sort", "age") == ["b", "c", "a"]
    assert addresses(desk, "--sort", "deadline") == ["b", "a", "c"]
    assert addresses(desk, "--sort", "size") == ["b", "c", "a"]
    assert addresses(desk, "--stuck") == ["b", "a"]


def test_groups_count_recipients(desk: Desk) -> None:
    desk.shelf.message(recipient("a@contoso.com", "deferred"), recipient("b@contoso.com", "deferred"))
    desk.shelf.message(recipient("c@contoso.com", "pending"))

    found = desk.ask("list", "--stuck", "--group-by", "cause", "--json").lines

    assert found == [
        {
            "cause": "tls",
            "recipients": 2,
            "messages": 1,
            "oldest": "2026-11-24T11:00:00.000Z",
            "next_deadline": "2026-11-25T08:00:00.000Z",
        },
        {
            "cause": "none",
            "recipients": 1,
            "messages": 1,
            "oldest": "2026-11-24T11:00:00.000Z",
            "next_deadline": "2026-11-25T08:00:00.000Z",
        },
    ]


def test_a_cause_is_told_in_words_beside_the_one_it_is_filtered_by(desk: Desk) -> None:
    desk.shelf.message(recipient("a@contoso.com", "deferred"))
    assert "tls: no s" in desk.ask("list", "--stuck").out
    assert "tls: no secure connection" in desk.ask("list", "--stuck", "--group-by", "cause").out


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_its_words(cause: Cause) -> None:
    assert re.fullmatch(rf"{cause}: [\w' ]+", cause_words(cause))


def test_a_table_fits_eighty_columns_whatever_is_in_it(desk: Desk) -> None:
    long = "x" * 200
    desk.shelf.message(
        recipient(f"{long}@contoso.com", "deferred"), sender="\u6f22\u5b57" * 40 + "@example.org"
    )
    desk.shelf.message(recipient("evil\x1b[2J\u202e@contoso.com", "deferred"), sender="\x07\x00@example.org")

    answer = desk.ask("list", "--stuck")

    assert max(width(line) for line in answer.out.splitlines()) <= 80
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", answer.out)
    assert "BOUNCES IN" in answer.out
    assert "20h" in answer.out


def test_nothing_found_is_no_error_unless_asked(desk: Desk) -> None:
    assert desk.ask("list").code == 0
    assert desk.ask("list", "--fail-empty").code == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--state", "stuk"), "there is no such state"),
        (("--since", "soon"), "is not a time"),
        (("--older-than", "1 week"), "is not a duration"),
        (("--since", "1h", "--until", "2h"), "is not before"),
        (("--incident", "x"), "whole number"),
        (("--limit", "-1"), "whole number"),
        (("--sort", "name"), "it is one of"),
        (("--nonsense",), "there is no option"),
    ],
)
def test_what_was_typed_wrongly_is_said(desk: Desk, words: tuple[str, ...], says: str) -> None:
    answer = desk.ask("list", *words)

    assert answer.code == 2
    assert says in answer.err
