"""`show` tells a message's whole life."""

from __future__ import annotations

from resubmit.model.ids import id_text
from resubmit.model.moment import HOUR, MINUTE
from tests.helpers.factory import NOW, recipient
from tests.unit.cli.conftest import Desk

BODY = b"Message-ID: <a@x>\r\nSubject: a\r\n letter\r\nX: 1\r\nX: 2\r\n\r\nGood day\r\n"


def life(desk: Desk) -> str:
    """A message that was accepted, deferred, resubmitted and delivered."""
    shelf, at = desk.shelf, NOW - HOUR
    number = shelf.message(recipient("ann@contoso.com", "delivered", attempt=2), at=at, body=BODY)
    shelf.attempt(number, at=at)
    shelf.moved(number, 0, 1, "reply_accepted", "sending", "accepted", at=at + 1000, why="250")
    deferred = shelf.evidence(number, 0, no=1, at=at + MINUTE, text="450 4.7.320 bad", why="message id")
    shelf.moved(
        number, 0, 2, "seen_deferred", "accepted", "deferred", at=at + MINUTE, evidence=deferred, why="trace"
    )
    shelf.evidence(number, 0, no=1, at=at + 2 * MINUTE, text="450 4.7.320 bad again")
    shelf.attempt(number, no=2, at=at + 3 * MINUTE, kind="resubmission")
    shelf.moved(number, 0, 3, "reply_final", "sending", "delivered", at=at + 4 * MINUTE, attempt=2, why="250")
    return id_text(number)


def test_the_timeline_holds_attempts_moves_and_evidence_in_order(desk: Desk) -> None:
    shown = desk.ask("show", life(desk), "--json").json

    (ann,) = shown["recipients"]
    assert [(s["event"], s["from"], s["to"], s["attempt"]) for s in ann["timeline"]] == [
        ("journaled", None, "journaled", 0),
        ("attempt_started", "journaled", "sending", 1),
        ("reply_accepted", "sending", "accepted", 1),
        ("seen_deferred", "accepted", "deferred", 1),
        ("evidence", "deferred", "deferred", 1),
        ("attempt_started", "deferred", "sending", 2),
        ("reply_final", "sending", "delivered", 2),
    ]
    assert [list(s) for s in ann["timeline"]] == [["at", "event", "from", "to", "attempt", "why"]] * 7
    assert "450 4.7.320 bad" in ann["timeline"][3]["why"]
    assert "450 4.7.320 bad again" in ann["timeline"][4]["why"]


def test_the_headers_keep_their_order_and_their_doubles(desk: Desk) -> None:
    shown = desk.ask("show", life(desk), "--json").json

    assert shown["headers"] == [["Message-ID", "<a@x>"], ["Subject", "a letter"], ["X", "1"], ["X", "2"]]
    assert desk.ask("show", shown["id"], "--headers").out.splitlines()[1] == "Subject: a letter"


def test_an_id_may_be_typed_in_small_letters(desk: Desk) -> None:
    shown = life(desk)

    assert desk.ask("show", shown.lower(), "--json").json["id"] == shown


def test_people_see_local_time_and_each_step(desk: Desk) -> None:
    said = desk.ask("show", life(desk)).out

    assert "ann@contoso.com" in said
    assert "attempt_started #2: deferred → sending" in said
    assert max(len(line) for line in said.splitlines()) <= 80


def test_a_body_that_is_gone_leaves_the_rest(desk: Desk) -> None:
    number = desk.shelf.message(recipient(state="accepted"), body_kept=0)

    answer = desk.ask("show", id_text(number), "--json")

    assert answer.json["headers"] == []
    assert desk.ask("show", id_text(number), "--raw").code == 1


def test_a_body_file_that_is_missing_is_said_and_leaves_the_rest(desk: Desk) -> None:
    number = desk.shelf.message(recipient(), body_file="none")
    desk.shelf.run("delete from body")

    answer = desk.ask("show", id_text(number))

    assert answer.code == 0
    assert "can't be read" in answer.err


def test_no_such_message_says_so(desk: Desk) -> None:
    answer = desk.ask("show", "0000000000001")

    assert answer.code == 1
    assert "there is no message 0000000000001" in answer.err
    assert desk.ask("show", "nonsense").code == 2


def test_headers_and_bytes_are_two_questions(desk: Desk) -> None:
    assert desk.ask("show", life(desk), "--headers", "--raw").code == 2


def test_what_evidence_says_is_said_once_with_its_time(desk: Desk) -> None:
    """A move's reason repeats its evidence, cut short: the evidence's own words are shown in its place."""
    shelf, at = desk.shelf, NOW - HOUR
    number = shelf.message(recipient("ann@contoso.com", "deferred"), at=at, body=BODY)
    shelf.attempt(number, at=at)
    shelf.moved(number, 0, 1, "reply_accepted", "sending", "accepted", at=at + 1000, why="250")
    deferred = shelf.evidence(number, 0, no=1, at=at + MINUTE, text="450 4.7.320 bad", why="message id")
    why = "trace_csv says deferred: 450 4.7.320 bad (message id)"
    shelf.moved(
        number, 0, 2, "seen_deferred", "accepted", "deferred", at=at + MINUTE, evidence=deferred, why=why
    )
    (ann,) = desk.ask("show", id_text(number), "--json").json["recipients"]
    told = ann["timeline"][3]["why"]
    assert told.count("says deferred") == told.count("450 4.7.320 bad") == told.count("(message id)") == 1
    assert "trace_csv says deferred at 2026-" in told
