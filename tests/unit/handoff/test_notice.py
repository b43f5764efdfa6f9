"""The reports we owe, read back as other software reads them."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage, Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resubmit.handoff import notice
from resubmit.handoff.notice import About, Notice, Report
from resubmit.model.evidence import Cause, Meaning, Mend, Scope
from resubmit.model.recipient import Event

HEADER = b"From: app@app.invalid\r\nSubject: Invoice 4711\r\nMessage-ID: <1@app.invalid>\r\n"
ABOUT = About("app@app.invalid", ("ENVID=QQ+2B314159", "RET=HDRS"), 1_795_521_600_000, "<1@app.invalid>")
GONE = Report(
    "anna@contoso.invalid",
    ("NOTIFY=FAILURE", "ORCPT=rfc822;Anna+2Bx@contoso.invalid"),
    550,
    "5.1.1",
    "550 5.1.1 no such user",
    "mail.contoso.invalid[192.0.2.1]:25",
    "Check the address.",
)


def made(kind: str = "failed", *reports: Report, about: About = ABOUT, header: bytes = HEADER) -> Notice:
    return notice.compose(
        kind,
        by="relay.invalid",
        at=1_795_608_000_000,
        message="01KAZ3NDEKTSV",
        about=about,
        reports=reports or (GONE,),
        header=header,
    )


def read(octets: bytes) -> tuple[EmailMessage, str, list[Message], Message]:
    """The report, its text, the blocks of its status part, and the part with the original."""
    report = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(report, EmailMessage)
    text, status, original = report.iter_parts()
    # Python's email takes a delivery-status part apart, and a global one not.
    raw = octets.split(b"--" + str(report.get_boundary()).encode())[2].strip().decode()
    _, *groups = raw.split("\r\n\r\n")
    blocks: list[Message] = [email.message_from_string(group) for group in groups]
    if status.get_content_type() == "message/delivery-status":
        assert [part.items() for part in status.get_payload()] == [block.items() for block in blocks]  # type: ignore[union-attr]
    return report, text.get_content(), blocks, original


def test_a_failure_is_a_report_that_other_software_can_read() -> None:
    made_ = made()
    report, text, (message, recipient), original = read(made_.octets)
    assert report.get_content_type() == "multipart/report"
    assert report["Content-Type"].params["report-type"] == "delivery-status"
    assert report["Auto-Submitted"] == "auto-replied"
    assert report["From"] == "Mail Delivery System <postmaster@relay.invalid>"
    assert report["To"] == "app@app.invalid"
    assert report["In-Reply-To"] == "<1@app.invalid>"
    assert report["Message-ID"] == made_.message_id
    assert report["Subject"] == made_.subject
    assert message["Reporting-MTA"] == "dns; relay.invalid"
    assert message["Original-Envelope-Id"] == "QQ+314159"
    assert message["Arrival-Date"] == "Tue, 24 Nov 2026 12:00:00 +0000"
    assert recipient["Original-Recipient"] == "rfc822; Anna+x@contoso.invalid"
    assert recipient["Final-Recipient"] == "rfc822; anna@contoso.invalid"
    assert recipient["Action"] == "failed"
    assert recipient["Status"] == "5.1.1"
    assert recipient["Remote-MTA"] == "dns; mail.contoso.invalid"
    assert recipient["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user"
    assert original.get_content_type() == "text/rfc822-headers"
    assert b"Subject: Invoice 4711" in made_.octets
    for words in ("anna@contoso.invalid", "550 5.1.1 no such user", "Check the address.", "<1@app.invalid>"):
        assert words in text
    assert made_.parameters == ()


@pytest.mark.parametrize(
    ("code", "enhanced", "reply", "status"),
    [
        (550, "5.1.1", "550 5.1.1 no", "5.1.1"),
        (550, "", "550 no", "5.0.0"),
        (451, "4.4.1", "451 4.4.1 later", "5.4.7"),
        (None, "", "hop: connection refused", "5.4.7"),
        (None, "", "5.6.7 needs SMTPUTF8", "5.6.7"),
        (None, "", "552 5.3.4 message is larger", "5.3.4"),
        (550, "4.2.0", "550 4.2.0 odd", "5.0.0"),
    ],
)
def test_the_status_follows_what_was_said(code: int | None, enhanced: str, reply: str, status: str) -> None:
    _, _, (_, recipient), _ = read(made("failed", Report("a@x.invalid", (), code, enhanced, reply)).octets)
    assert recipient["Status"] == status
    assert recipient["Diagnostic-Code"].startswith("smtp; " if code else "X-Resubmit; ")


def test_relayed_says_that_nothing_more_will_be_heard() -> None:
    report = Report("anna@contoso.invalid", ("NOTIFY=SUCCESS",), 250, "2.0.0", "250 2.0.0 ok", "mail.invalid")
    _, text, (_, recipient), _ = read(made("relayed", report).octets)
    assert recipient["Action"] == "relayed"
    assert recipient["Status"] == "2.0.0"
    assert "no confirmations" in " ".join(text.split())


def test_several_recipients_have_a_block_each() -> None:
    _, text, blocks, _ = read(made("failed", GONE, Report("bert@contoso.invalid")).octets)
    assert [block["Final-Recipient"] for block in blocks[1:]] == [
        "rfc822; anna@contoso.invalid",
        "rfc822; bert@contoso.invalid",
    ]
    assert "bert@contoso.invalid" in text


def test_ret_full_returns_a_small_message_whole_and_a_large_ones_header() -> None:
    about = About("app@app.invalid", ("RET=FULL",), 0, "")
    whole = HEADER + b"\r\nGood day, \xc3\xbcber\r\n"
    report = made(about=about, header=whole)
    _, _, _, original = read(report.octets)
    assert original.get_content_type() == "message/rfc822"
    assert whole in report.octets
    assert report.parameters == ("BODY=8BITMIME",)
    large = HEADER + b"\r\n" + b"x" * notice.FULL_UP_TO
    report = made(about=about, header=large)
    _, _, _, original = read(report.octets)
    assert original.get_content_type() == "text/rfc822-headers"
    assert len(report.octets) < 10_000
    assert b"Good day" not in made(header=whole).octets  # RET=HDRS


def test_addresses_outside_ascii_make_it_a_global_report() -> None:
    about = About("jörg@app.invalid", ("SMTPUTF8",), 0, "<1@app.invalid>")
    report = made("failed", Report("änne@contoso.invalid", (), 550, "5.1.1", "550 5.1.1 nö"), about=about)
    assert set(report.parameters) == {"SMTPUTF8", "BODY=8BITMIME"}
    _, _, (_, recipient), original = read(report.octets)
    assert recipient["Final-Recipient"] == "utf-8; änne@contoso.invalid"
    assert recipient["Diagnostic-Code"] == "smtp; 550 5.1.1 nö"
    assert original.get_content_type() == "message/global-headers"
    assert b"Content-Type: message/global-delivery-status\r\n" in report.octets


def test_a_reply_outside_ascii_stays_out_of_an_ascii_status_part() -> None:
    report = made("failed", Report("a@x.invalid", (), 550, "5.1.1", "550 5.1.1 Empfänger unbekannt"))
    _, text, (_, recipient), _ = read(report.octets)
    assert recipient["Diagnostic-Code"] == "smtp; 550 5.1.1 Empf?nger unbekannt"
    assert "Empfänger" in text


def test_the_same_report_is_the_same_octets() -> None:
    assert made() == made()
    assert made().message_id != made("failed", Report("bert@contoso.invalid")).message_id


HOSTILE = st.text(max_size=200) | st.sampled_from(
    ["x\r\n\r\n--=_01KAZ3NDEKTSV.0--\r\n", "\r\nBcc: evil@x.invalid", "\udc80\x00", "=_01KAZ3NDEKTSV.0"]
)


@given(address=HOSTILE, reply=HOSTILE, sender=HOSTILE, envid=HOSTILE, header=st.binary(max_size=300))
def test_nothing_breaks_out_of_its_field(
    address: str, reply: str, sender: str, envid: str, header: bytes
) -> None:
    about = About(sender, (f"ENVID={envid}", "SMTPUTF8"), 0, reply)
    octets = made(
        "failed",
        Report(address, (f"ORCPT=rfc822;{envid}",), 550, "", reply, reply),
        about=about,
        header=header,
    ).octets
    head = octets.partition(b"\r\n\r\n")[0]
    assert head.count(b"\r\n") <= 10
    assert octets.endswith(b"--\r\n")
    boundary = head.rpartition(b'boundary="')[2].removesuffix(b'"')
    assert octets.removeprefix(head).count(b"--" + boundary) == 4
    status = octets.removeprefix(head).split(b"--" + boundary)[2]
    assert status.count(b"\r\nAction: ") == 1
    assert status.count(b"\r\nFinal-Recipient: ") == 1
    for line in status.split(b"\r\n"):
        assert b"\r" not in line
        assert b"\n" not in line


# ── who is owed what ──────────────────────────────────────────────────────────────────────────────

KNOWN = Meaning(Cause.RECIPIENT, Scope.RECIPIENT, Mend.NEVER, sign="user_unknown")
UNKNOWN = Meaning(Cause.OTHER, Scope.MESSAGE, Mend.PERSON)
GATE = Meaning(Cause.POLICY, Scope.ROUTE, Mend.GATE, sign="tenant_attribution")


@pytest.mark.parametrize(
    ("event", "meaning", "parameters", "expected"),
    [
        (Event.REPLY_REFUSED, KNOWN, (), "failed"),
        (Event.REPLY_REFUSED, KNOWN, ("NOTIFY=FAILURE,DELAY",), "failed"),
        (Event.REPLY_REFUSED, KNOWN, ("NOTIFY=never",), ""),
        (Event.REPLY_REFUSED, KNOWN, ("NOTIFY=SUCCESS",), ""),
        (Event.REPLY_REFUSED_MENDABLE, UNKNOWN, (), "failed"),
        (Event.REPLY_REFUSED_MENDABLE, GATE, (), ""),
        (Event.QUEUE_EXPIRED, None, (), "failed"),
        (Event.QUEUE_EXPIRED, None, ("NOTIFY=NEVER",), ""),
        (Event.REPLY_DEFERRED, UNKNOWN, (), ""),
        (Event.REPLY_LOST, UNKNOWN, (), ""),
        (Event.REPLY_ACCEPTED, None, ("NOTIFY=SUCCESS",), ""),
    ],
)
def test_who_is_told_of_a_failure(
    event: Event, meaning: Meaning | None, parameters: tuple[str, ...], expected: str
) -> None:
    assert notice.owed(event, meaning, parameters, no=1) == expected


@pytest.mark.parametrize(
    ("event", "parameters", "no", "expected"),
    [
        (Event.REPLY_ACCEPTED, ("NOTIFY=SUCCESS,FAILURE",), 1, "relayed"),
        (Event.REPLY_FINAL, ("NOTIFY=success",), 1, "relayed"),
        (Event.REPLY_ACCEPTED, ("NOTIFY=SUCCESS",), 2, ""),
        (Event.REPLY_ACCEPTED, ("NOTIFY=FAILURE",), 1, ""),
        (Event.REPLY_ACCEPTED, (), 1, ""),
        (Event.REPLY_DEFERRED, ("NOTIFY=SUCCESS",), 1, ""),
    ],
)
def test_who_is_told_that_it_was_passed_on(
    event: Event, parameters: tuple[str, ...], no: int, expected: str
) -> None:
    assert notice.owed(event, None, parameters, no=no, lacks_dsn=True) == expected


def test_null_senders_and_our_own_mail_cause_no_report() -> None:
    assert notice.is_silent("", "smtp")
    assert notice.is_silent("alerts@us.invalid", "dsn")
    assert not notice.is_silent("app@app.invalid", "smtp")
    assert notice.RCPT_PARAMETERS == ("NOTIFY=NEVER",)
