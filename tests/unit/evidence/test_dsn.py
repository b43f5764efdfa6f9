"""Bounces and delivery reports, where a golden pair would not show the point."""

from __future__ import annotations

import io

import pytest

from resubmit.evidence.base import Item
from resubmit.evidence.kinds.dsn import sniff
from resubmit.evidence.reader import read_stream
from resubmit.model.evidence import Cause, Evidence, Holder, Status, Unreadable
from resubmit.model.ids import attempt_key
from resubmit.model.moment import parse_rfc3339

KEY = attempt_key(123_456_789, 2)


def read(mail: str) -> list[Item]:
    return list(read_stream(io.BytesIO(mail.encode()), "file", now=1_795_500_000_000))


def only(mail: str) -> Evidence:
    (item,) = read(mail)
    assert isinstance(item, Evidence)
    return item


def report(fields: str, *, returned: str = "", text: str = "failed", head: str = "") -> str:
    parts = (
        f"--b\nContent-Type: text/plain\n\n{text}\n--b\nContent-Type: message/delivery-status\n\n{fields}\n"
    )
    if returned:
        parts += f"--b\nContent-Type: message/rfc822\n\n{returned}\n"
    return (
        f"From: MAILER-DAEMON@mx.example\nTo: bill@partner.example\nSubject: Undelivered\n{head}"
        f"Content-Type: multipart/report; boundary=b\n\n{parts}--b--\n"
    )


FAILED = "\nFinal-Recipient: rfc822;anna@contoso.com\nAction: failed\nStatus: 5.1.1\n"


class TestWhichMailItIsAbout:
    def test_our_own_key_in_a_returned_received_field_names_the_attempt(self) -> None:
        returned = f"Received: from app\n\tby mx with SMTP\n\tid {KEY} (resubmit 0123456789abcdef);\n\tnow\n"
        assert only(report(FAILED, returned=returned)).envelope_id == KEY

    def test_our_own_key_counts_before_the_senders_envelope_id(self) -> None:
        fields = "Original-Envelope-Id: QQ+314159\n" + FAILED
        returned = f"Received: by mx id {KEY} (resubmit 0123456789abcdef); now\n"
        assert only(report(fields, returned=returned)).envelope_id == KEY
        assert only(report(fields)).envelope_id == "QQ+314159"

    def test_the_uppermost_of_our_fields_is_the_last_attempt(self) -> None:
        first = attempt_key(123_456_789, 1)
        returned = f"Received: id {KEY} (resubmit 00); now\nReceived: id {first} (resubmit 00); before\n"
        assert only(report(FAILED, returned=returned)).envelope_id == KEY

    def test_the_reports_own_network_message_id_is_not_the_mails(self) -> None:
        head = "X-MS-Exchange-CrossTenant-Network-Message-Id: 11111111-2222-3333-4444-555555555555\n"
        returned = "Message-ID: <m@x>\n" + head.replace("1111", "AAAA")
        assert only(report(FAILED, head=head)).network_message_id == ""
        item = only(report(FAILED, head=head, returned=returned))
        assert item.network_message_id == "aaaaaaaa-2222-3333-4444-555555555555"

    def test_the_message_id_is_the_returned_ones_else_what_the_report_refers_to(self) -> None:
        head = "Message-ID: <report@mx>\nIn-Reply-To: <original@x>\n"
        assert only(report(FAILED, head=head)).message_id == "<original@x>"
        assert only(report(FAILED, head=head, returned="Message-ID: <m@x>\n")).message_id == "<m@x>"

    def test_it_was_taken_at_its_arrival_date_else_when_the_returned_header_says(self) -> None:
        returned = "Received: by mx; Tue, 24 Nov 2026 08:00:00 +0000\nMessage-ID: <m@x>\n"
        arrival = "Arrival-Date: Tue, 24 Nov 2026 09:00:00 +0100 (CET)\n"
        for mail in (report(FAILED, returned=returned), report(arrival + FAILED)):
            assert only(mail).received_at == parse_rfc3339("2026-11-24T08:00:00Z")


class TestWhatItSays:
    @pytest.mark.parametrize(
        ("action", "status", "said"),
        [
            ("failed", "5.1.1", Status.FAILED),
            ("Failed", "4.4.7", Status.EXPIRED),
            ("failed", "4.2.2", Status.FAILED),
            ("delayed", "5.1.1", Status.DEFERRED),
            ("delivered", "2.0.0", Status.DELIVERED),
            ("relayed (to non-DSN host)", "2.0.0", Status.RELAYED),
            ("expanded", "2.0.0", Status.EXPANDED),
            ("error", "5.0.0", Status.FAILED),
            ("deliverable", "2.1.5", Status.NONE),
            ("expired", "4.4.7", Status.EXPIRED),
            ("", "4.4.1", Status.DEFERRED),
            ("", "2.1.5", Status.DELIVERED),
            ("nonsense", "5.0.0", Status.FAILED),
        ],
    )
    def test_its_action_counts_before_its_status(self, action: str, status: str, said: Status) -> None:
        fields = f"\nFinal-Recipient: rfc822;anna@contoso.com\nAction: {action}\nStatus: {status}\n"
        assert only(report(fields)).status is said

    @pytest.mark.parametrize(
        ("status", "diagnostic", "code", "enhanced"),
        [
            ("5.1.1", "smtp; 550 5.1.1 no", 550, "5.1.1"),
            ("5.0.0", "smtp; 550 5.7.1 no", 550, "5.7.1"),
            ("5.0.0 (permanent failure)", "smtp; 550 no", 550, "5.0.0"),
            ("5.1.1", "smtp; 550 5.7.1 blocked", 550, "5.7.1"),
            ("4.4.7", "smtp; 450 4.7.1 no reverse name", 450, "4.7.1"),
            ("5.4.317", "smtp;550 5.4.317 Message expired (451 5.7.3 STARTTLS is required)", 550, "5.4.317"),
            ("553 Exceeded", "", 553, ""),
            ("", "550 5.2.2 full", 550, "5.2.2"),
            ("5.3.0", "x-unix; 77", None, "5.3.0"),
            ("5.1.1", "smtp; 203.0.113.225 does not like recipient", None, "5.1.1"),
        ],
    )
    def test_the_exact_code_counts(
        self, status: str, diagnostic: str, code: int | None, enhanced: str
    ) -> None:
        fields = f"\nFinal-Recipient: rfc822;a@contoso.com\nAction: failed\nStatus: {status}\n"
        item = only(report(fields + (f"Diagnostic-Code: {diagnostic}\n" if diagnostic else "")))
        assert (item.code, item.enhanced_code) == (code, enhanced)

    def test_a_delay_leaves_open_who_holds_the_mail_and_a_failure_does_not(self) -> None:
        assert only(report(FAILED)).holder is Holder.NOBODY
        assert only(report(FAILED.replace("failed", "delayed"))).holder is None

    def test_the_cause_behind_an_expiry_stands_in_the_servers_answers(self) -> None:
        fields = FAILED.replace("5.1.1", "5.4.316") + "Diagnostic-Code: smtp;550 5.4.316 Message expired\n"
        text = (
            "anna@contoso.com\nServer at mx (1.2.3.4) returned '454 4.7.5 Certificate validation failure'\n"
        )
        item = only(report(fields, text=text))
        assert item.status is Status.EXPIRED
        assert item.meaning is not None
        assert item.meaning.cause is Cause.TLS
        assert item.enhanced_code == "5.4.316"

    def test_one_recipients_answer_is_not_the_others(self) -> None:
        fields = FAILED + FAILED.replace("anna", "bob")
        text = (
            "anna@contoso.com\nServer returned '550 5.1.10 not found'\n\n"
            "bob@contoso.com\nServer returned '552 5.2.2 mailbox full'\n"
        )
        items = read(report(fields.replace("5.1.1", "5.0.0"), text=text))
        causes = [item.meaning.cause for item in items if isinstance(item, Evidence) and item.meaning]
        assert causes == [Cause.RECIPIENT, Cause.MAILBOX]

    def test_the_same_recipient_twice_alike_is_one_statement(self) -> None:
        assert len(read(report(FAILED + FAILED))) == 1
        assert len(read(report(FAILED + FAILED.replace("5.1.1", "5.2.2")))) == 2

    def test_ten_thousand_recipients_are_read(self) -> None:
        fields = "".join(FAILED.replace("anna", f"user{n}") for n in range(10_000))
        assert len(read(report(fields))) == 10_000


class TestWhatIsNone:
    @pytest.mark.parametrize(
        "head",
        [
            "X-MS-Journal-Report:\n",
            "TLS-Report-Domain: contoso.com\n",
            "Content-Type: multipart/report; report-type=tlsrpt\n",
        ],
    )
    def test_mail_of_other_sources_is_left_to_them(self, head: str) -> None:
        assert not sniff(f"From: a@b.example\nTo: c@d.example\n{head}\nx\n".encode(), "x.eml")

    @pytest.mark.parametrize(
        ("head", "text"),
        [
            ("Subject: Out of office\n", "I am away."),
            ("Subject: Re: failure notice\nAuto-Submitted: auto-replied\n", "We have got your message."),
            ("Subject: Lunch?\n", "The restaurant rejected us; write to anna@contoso.com."),
            ("Subject: Minutes\n", "<anna@contoso.com>: 550 things to do"),
        ],
    )
    def test_mail_of_people_is_no_report(self, head: str, text: str) -> None:
        (item,) = read(f"From: bob@fabrikam.example\nTo: bill@partner.example\n{head}\n{text}\n")
        assert isinstance(item, Unreadable)
        assert item.place == "message 1"

    def test_an_unreadable_mail_costs_its_neighbours_nothing(self) -> None:
        box = "From x Tue Nov 24 08:00:00 2026\n"
        mails = [report(FAILED), "From: a@b.example\nTo: c@d.example\n\nhello\n", report(FAILED)]
        places = [item.place for item in read("\n".join(box + mail for mail in mails))]
        assert places == ["message 1, recipient 1", "message 2", "message 3, recipient 1"]
