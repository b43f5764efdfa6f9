"""How a text is cut into the replies nested in it, and what is left out of it."""

from __future__ import annotations

import pytest

from resubmit.meaning.classify import meaning_of
from resubmit.meaning.layers import bare, codes, layers

LED = (
    "Reason: [{LED=450 4.4.317 Cannot connect to remote server [Message=CertificateExpired Expected Subject: "
    "a.b.] [LastAttemptedServerName=tls.a.b] [SmtpSecurity=-1;-1] [DM6 2025-01-04T16:37:07.429Z 08DD2CB85E2F]"
    "};{MSG=};{FQDN=a.b};{IP=198.51.100.7};{LRT=1/29/2025 7:07:29 PM}]"
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("450 4.4.317 X [Message=451 5.7.3 Y]", [("450", "4.4.317"), ("451", "5.7.3")]),
        ("451 4.4.397 X -> 421 4.2.1 Y -> Z", [("451", "4.4.397"), ("421", "4.2.1"), ("", "")]),
        ("550 5.4.316 Message expired(Socket error code 10061)", [("550", "5.4.316"), ("", "")]),
        ("host a.b[192.0.2.1] said: 550 no (in reply to RCPT TO)", [("", ""), ("550", "")]),
        ("#< #5.1.1 smtp;550 5.1.1 no> #SMTP#", [("", "5.1.1"), ("550", "5.1.1")]),
        ("550 at most 500 messages, not 451 of them", [("550", "")]),
        ("Sorry, no mailbox here. (#5.1.1)", [("", "5.1.1")]),
        ("550 #5.1.0 Address rejected.", [("550", "5.1.0")]),
        (LED, [("450", "4.4.317"), ("", "")]),
        ("", [("", "")]),
    ],
)
def test_layers_and_their_codes(text: str, found: list[tuple[str, str]]) -> None:
    assert [(layer.code, layer.enhanced) for layer in layers(text)] == found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("450-4.4.317 x", (450, "4.4.317")),
        ("Connection refused", (None, "")),
        ("4.7.5 x", (None, "4.7.5")),
        ("smtp; 550-5.1.1 x", (550, "5.1.1")),
        ("X-Postfix; 550 x", (550, "")),
        ("#550 5.2.2 x", (550, "5.2.2")),
        ("#5.1.1 smtp;550 5.1.1 x", (550, "5.1.1")),
        ("550 #5.1.0 x", (550, "5.1.0")),
        ("550 5.1.1", (550, "5.1.1")),
        (LED, (450, "4.4.317")),
        ("5500 x", (None, "")),
        ("550 5.1.1.1 x", (550, "")),
        ("Sorry (#5.1.2)", (None, "5.1.2")),
    ],
)
def test_the_codes_a_text_starts_with(text: str, told: tuple[int | None, str]) -> None:
    assert codes(text) == told


def test_a_reply_of_several_lines_is_read_as_one_text() -> None:
    lines = "550-5.1.1 The account that you tried to reach does\r\n550-5.1.1 not exist. Try\n550 5.1.1 again"

    assert bare(lines) == "550-5.1.1 the account that you tried to reach does not exist. try again"
    assert bare(" ".join(lines.split())) == bare(lines)
    assert bare("450-one 450-two 450 three") == "450-one two three"
    assert "550 5.7.1 inner" in bare("550-outer -> 550 5.7.1 inner")


def test_addresses_hosts_and_stamps_say_nothing() -> None:
    stamp = "[AM0 2026-11-24T09:17:12.514Z]"
    text = f"550 5.1.1 <dmarc@spam.example>: unknown user at virus.example[192.0.2.1]:25 {stamp}"

    assert bare(text) == "550 5.1.1 <@>: unknown user at host"
    assert meaning_of(text).sign == "recipient_not_found"


def test_a_text_cut_off_in_the_middle_is_known_by_how_it_starts() -> None:
    start = "450 4.4.317 Cannot connect to remote server [Message="

    assert meaning_of(start + "SubjectMism").sign == "tls_name_mismatch"
    assert meaning_of(start + "451 5.7.3 STARTTLS is req").sign == "tls_starttls_required"
    assert meaning_of(start + "SubjectMism]").sign == "session_not_established"  # whole, and not known
    assert meaning_of(start + "Sub").sign == "session_not_established"  # too short to say
    assert meaning_of(start + "Connect").cause != "tls"


def test_a_translated_text_is_known_by_its_code_and_by_what_is_left_in_english() -> None:
    german = "550 5.4.317 Nachricht abgelaufen, nicht erreichbar(451 5.7.3 STARTTLS is required to send mail)"

    assert meaning_of(german).sign == "tls_starttls_required"
    assert meaning_of("450 4.4.316 連線被拒").sign == "connection_code"
    assert meaning_of("550 5.1.10 Empfänger nicht da").cause == "recipient"
