"""What a bounce or delivery report does to the recipient it is about."""

from __future__ import annotations

import io

import pytest

from resubmit.evidence.reader import read_stream
from resubmit.model.evidence import Evidence
from resubmit.model.ids import attempt_key
from resubmit.model.moment import DAY, HOUR, SECOND, parse_rfc3339
from resubmit.model.recipient import Event
from tests.helpers.ledger import Ledger

ANNA = "anna@contoso.com"
TAKEN = parse_rfc3339("2026-11-24T08:00:00Z")
STARTTLS = "450 4.4.317 Cannot establish session with remote server [Message=451 5.7.3 STARTTLS is required]"


def taken(*, attempts: int = 1) -> Ledger:
    """A message to Anna that was answered 250, each attempt an hour after the one before."""
    ledger = Ledger()
    ledger.journal(1, [ANNA])
    for no in range(attempts):
        ledger.begin(1, TAKEN + no * HOUR - SECOND)
        ledger.end(1, TAKEN + no * HOUR, Event.REPLY_ACCEPTED)
        if no + 1 < attempts:
            see(ledger, report(DELAYED, received=""))
    return ledger


def see(ledger: Ledger, mail: str) -> None:
    for item in read_stream(io.BytesIO(mail.encode()), "file", now=TAKEN + 10 * DAY):
        assert isinstance(item, Evidence)
        ledger.see(item)


def failed(reply: str) -> str:
    return f"Action: failed\nStatus: {reply.split()[1]}\nDiagnostic-Code: smtp;{reply}\n"


DELAYED = "Action: delayed\nStatus: 4.4.7\n"


def report(fields: str, *, arrival: str = "08:00:01", received: str = "", text: str = "x") -> str:
    head = f"Arrival-Date: Tue, 24 Nov 2026 {arrival} +0000\n" if arrival else ""
    return (
        "From: MAILER-DAEMON@mx.contoso.com\nTo: bill@partner.example\nSubject: Report\n"
        "Date: Wed, 25 Nov 2026 08:00:00 +0000\nContent-Type: multipart/report; boundary=b\n\n"
        f"--b\nContent-Type: text/plain\n\n{text}\n--b\nContent-Type: message/delivery-status\n\n"
        f"Reporting-MTA: dns; mx.contoso.com\n{head}\nFinal-Recipient: rfc822;{ANNA}\n{fields}"
        f"--b\nContent-Type: text/rfc822-headers\n\n{received}Message-ID: <1@x>\n--b--\n"
    )


@pytest.mark.parametrize(
    ("fields", "text", "state"),
    [
        (failed("550 5.1.10 RESOLVER.ADR.RecipientNotFound"), "x", "failed"),
        (failed("550 5.4.316 Message expired"), f"{ANNA}\nreturned '{STARTTLS}'", "expired"),
        (failed("552 5.2.2 mailbox full"), "x", "expired"),
        (DELAYED + f"Diagnostic-Code: smtp;{STARTTLS}\n", "x", "deferred"),
        ("Action: relayed\nStatus: 2.0.0\n", "x", "accepted"),
        ("Action: delivered\nStatus: 2.0.0\n", "x", "delivered"),
        ("Action: expanded\nStatus: 2.0.0\n", "x", "expanded"),
    ],
)
def test_a_report_moves_its_recipient(fields: str, text: str, state: str) -> None:
    ledger = taken()
    see(ledger, report(fields, text=text))
    assert ledger.states() == {f"1/{ANNA}": state}


def test_a_report_in_words_finds_its_attempt_by_the_message_that_came_back() -> None:
    ledger = taken()
    see(
        ledger,
        "Return-Path: <>\nFrom: MAILER-DAEMON@mx.contoso.com\nTo: bill@partner.example\n"
        "Subject: failure notice\nDate: Thu, 26 Nov 2026 08:00:00 +0000\n\n"
        f"Hi. This is the qmail-send program at mx.contoso.com.\n\n<{ANNA}>:\nNo such user. (#5.1.1)\n\n"
        "--- Below this line is a copy of the message.\n\n"
        "Received: from mx.partner.example by mx.contoso.com; Tue, 24 Nov 2026 08:00:03 +0000\n"
        "Message-ID: <1@x>\nFrom: bill@partner.example\n",
    )
    assert ledger.states() == {f"1/{ANNA}": "failed"}


def test_a_late_bounce_of_an_older_attempt_moves_nobody() -> None:
    """The far side gave up the first while the second, after the fix, is on its way."""
    ledger = taken(attempts=2)
    see(ledger, report(failed("550 5.4.316 Message expired")))
    assert ledger.states() == {f"1/{ANNA}": "accepted"}


def test_our_own_key_names_the_attempt_whatever_the_times_say() -> None:
    ledger = taken(attempts=2)
    received = f"Received: by us with SMTP id {attempt_key(1, 2)} (resubmit 00); then\n"
    see(ledger, report(failed("550 5.1.1 User unknown"), arrival="", received=received))
    assert ledger.states() == {f"1/{ANNA}": "failed"}
