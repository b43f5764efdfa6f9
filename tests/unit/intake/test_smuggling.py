"""SMTP smuggling: an end that is none must end nothing, here or at any later hop.

Sources: CVE-2023-51764 (Postfix), -51765 (Sendmail), -51766 (Exim); the sequences are those of the report
by SEC Consult and of the Postfix and Sendmail fixes.
"""

from __future__ import annotations

import pytest

from resubmit.intake.dialogue import Terms
from tests.unit.intake.talk import Talk

START = b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"
SMUGGLED = b"MAIL FROM:<evil@b>\r\nRCPT TO:<victim@d>\r\nDATA\r\nFrom: boss\r\n\r\npay\r\n.\r\n"
FALSE_ENDS = {
    "LF . LF": b"\n.\n",
    "LF . CRLF": b"\n.\r\n",
    "CRLF . LF": b"\r\n.\n",
    "CR . CR": b"\r.\r",
    "CR . CRLF": b"\r.\r\n",
    "CRLF . CR": b"\r\n.\r",
    "CRLF NUL . CRLF": b"\r\n\x00.\r\n",
    "CRLF . NUL CRLF": b"\r\n.\x00\r\n",
    "CR CRLF . CRLF": b"\r\r\n.\r\r\n",
    "CRCRLF . LF": b"\r\r\n.\n",
    "LF LF . CRLF": b"\n\n.\r\n",
}
CUTS = pytest.mark.parametrize("cut", [0, 1, 3], ids=["whole", "octets", "threes"])
ENDS = pytest.mark.parametrize("end", FALSE_ENDS.values(), ids=FALSE_ENDS.keys())


def talk_with(end: bytes, cut: int, terms: Terms) -> Talk:
    sent = START + b"Subject: x\r\n\r\nhello" + end + SMUGGLED
    talk = Talk(terms)
    talk.send(sent, [cut] * (len(sent) // cut) if cut else None)
    return talk


@ENDS
@CUTS
def test_a_false_end_ends_nothing_and_the_message_is_refused(end: bytes, cut: int) -> None:
    talk = talk_with(end, cut, Terms("mx.test", 10_000))
    assert talk.said.count(b"354 ") == 1, "the smuggled envelope was read as commands"
    if b"\x00" in end:
        assert len(talk.messages) == 1  # a NUL is content: the line is not a lone dot
    else:
        assert not talk.messages
        assert talk.said.endswith(b"550 5.6.0 a CR or LF stands alone; every line must end in CRLF\r\n")


@ENDS
@CUTS
def test_a_false_end_that_is_made_whole_is_content(end: bytes, cut: int) -> None:
    talk = talk_with(end, cut, Terms("mx.test", 10_000, bare_newline="crlf"))
    (message,), (body,) = talk.messages, talk.bodies
    assert message.envelope.sender == "a@b"
    assert b"MAIL FROM:<evil@b>" in body
    assert body.count(b"\r") == body.count(b"\n") == body.count(b"\r\n")


@pytest.mark.parametrize("newline", [b"\r", b"\n", b"\n\r", b"\r\r\n"])
@CUTS
def test_a_lone_newline_anywhere_in_a_chunk_refuses_the_message(newline: bytes, cut: int) -> None:
    body = b"a" + newline + b"b\r\n"
    sent = START[:-6] + b"BDAT %d\r\n%bBDAT 3 LAST\r\n%b" % (len(body) - 2, body[:-2], b"z\r\n")
    talk = Talk(Terms("mx.test", 10_000))
    talk.send(sent, [cut] * (len(sent) // cut) if cut else None)
    assert b"550 5.6.0" in talk.said and not talk.messages


def test_a_line_end_cut_by_a_chunk_is_whole() -> None:
    talk = Talk()
    talk.send(START[:-6] + b"BDAT 2\r\na\rBDAT 4 LAST\r\n\nb\r\n")
    assert talk.bodies == [b"a\r\nb\r\n"]


@pytest.mark.parametrize(
    "line", [b"NOOP\n", b"NO\rOP\r\n", b"NOOP\r\r\n", b"MAIL FROM:<a@b>\nRCPT TO:<c@d>\r\n"]
)
def test_a_command_is_ended_by_crlf_only(line: bytes) -> None:
    talk = Talk()
    talk.send(b"HELO x\r\n")
    said = talk.send(line)
    assert said.startswith(b"500 5.5.2")
    assert b"250" not in said


def test_octets_behind_the_true_end_are_commands() -> None:
    talk = Talk()
    assert talk.send(START + b"x\r\n.\r\nQUIT\r\n").endswith(b"journaled\r\n221 2.0.0 goodbye\r\n")
