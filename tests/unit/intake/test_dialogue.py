"""The dialogue, by transcripts (tests/golden/dialogue) and by its questions."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from resubmit.errors import Refused
from resubmit.intake import events
from resubmit.intake.dialogue import ERROR_LIMIT, Terms
from tests.unit.intake.talk import ID, TERMS, Talk

TRANSCRIPTS = sorted((Path(__file__).parents[2] / "golden" / "dialogue").glob("*.smtp"))
START = b"HELO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"


def octets(text: str) -> bytes:
    """`\\r`, `\\xff` and `{x*9}` (nine x) in a transcript's line."""
    text = re.sub(r"\{(.)\*(\d+)\}", lambda found: found[1] * int(found[2]), text)
    return text.encode().decode("unicode_escape").encode("latin-1")


def envelope_text(message: events.Message) -> str:
    envelope = message.envelope
    recipients = [f"{r.address}[{' '.join(r.parameters)}]" for r in envelope.recipients]
    return f"{envelope.sender} [{' '.join(envelope.parameters)}] {' '.join(recipients)}"


def talk_for(lines: list[str]) -> Talk:
    bare = "crlf" if "! crlf" in lines else "reject"
    terms = Terms("mx.test", TERMS.max_message_size, 3, bare, "! tls" in lines)
    return Talk(terms, full="! full" in lines)


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_session_goes_as_its_transcript_says(path: Path) -> None:
    lines = path.read_text().splitlines()
    talk = talk_for(lines)
    replies = talk.take().decode().splitlines()
    for number, line in enumerate(lines, 1):
        kind, _, text = line.partition(": ")
        where = f"{path.name}:{number}: {line}"
        if kind in ("C", "c"):
            assert kind == "c" or not replies or lines[number - 2][:1] in "Cc", f"{where}: unread {replies}"
            replies += talk.send(octets(text) + (b"\r\n" if kind == "C" else b"")).decode().splitlines()
        elif kind == "S":
            assert replies and fnmatchcase(replies.pop(0), text.replace("[", "[[]")), where
        elif kind == "body":
            assert talk.bodies.pop(0) == octets(text), where
        elif kind == "envelope":
            assert envelope_text(talk.messages[-1]) == text, where
        elif kind == "protocol":
            assert talk.messages[-1].protocol == text, where
        elif line == "closed":
            assert talk.closed, where
        elif line == "handshake":
            assert talk.handshakes == 1, where
            talk.dialogue.secured()
        else:
            assert line[:1] in ("#", "!"), where
    assert not replies and not talk.bodies


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("piece", [1, 7, 0], ids=["octet by octet", "in sevens", "whole"])
def test_how_a_session_is_cut_changes_no_answer(path: Path, piece: int) -> None:
    lines = path.read_text().splitlines()
    if "! line" in lines:
        piece = 1
        lines = lines[: lines.index("handshake")] if "handshake" in lines else lines
    sent = b"".join(
        octets(line[3:]) + (b"\r\n" if line[0] == "C" else b"")
        for line in lines
        if line[:3] in ("C: ", "c: ")
    )
    talk = talk_for(lines)
    talk.send(sent, [piece] * (len(sent) // piece) if piece else None)
    wanted = [line[3:] for line in lines if line[:3] == "S: "]
    heard = talk.said.decode().splitlines()
    assert len(heard) == len(wanted)
    assert all(fnmatchcase(h, w.replace("[", "[[]")) for h, w in zip(heard, wanted, strict=True)), heard
    assert talk.bodies == [octets(line[6:]) for line in lines if line[:6] == "body: "]


def test_commands_wait_for_the_answer_of_the_one_before() -> None:
    talk = Talk(lazy=True)
    assert talk.send(START + b"DATA\r\nx\r\n.\r\nNOOP\r\n").endswith(b"250 mx.test\r\n")
    for reply in (b"250 2.1.0", b"250 2.1.5", b"354"):
        talk.dialogue.proceed()
        talk.turn()
        assert talk.take().startswith(reply)
    assert [type(event) for event in talk.asked] == [
        events.AskSender,
        events.AskRecipient,
        events.AskBody,
    ]
    assert talk.bodies == [b"x\r\n"]
    talk.dialogue.journaled(ID)
    talk.turn()
    assert talk.take() == b"250 2.0.0 01ABCDEFGHJKM journaled\r\n250 2.0.0 here\r\n"


def test_no_room_at_data_leaves_the_transaction_to_the_client() -> None:
    talk = Talk()
    talk.send(START)
    talk.full = True
    assert talk.send(b"DATA\r\n") == b"452 4.3.1 no room\r\n"
    talk.full = False
    assert talk.send(b"DATA\r\n").startswith(b"354")


def test_no_room_at_bdat_takes_its_octets_for_no_command() -> None:
    talk = Talk()
    talk.send(START)
    talk.full = True
    assert talk.send(b"BDAT 6\r\nQUIT\r\nBDAT 0 LAST\r\n") == (
        b"452 4.3.1 no room\r\n503 5.5.1 an earlier BDAT failed; RSET first\r\n"
    )
    assert not talk.messages and not talk.closed


def test_a_refused_message_is_over() -> None:
    talk = Talk()
    talk.final = Refused(554, "5.4.6", "mail\r\nloop: ä")
    assert talk.send(START + b"DATA\r\nx\r\n.\r\n").endswith(b"554 5.4.6 mail loop: ?\r\n")
    assert talk.send(b"DATA\r\n") == b"503 5.5.1 MAIL must come first\r\n"


def test_too_many_errors_end_the_session() -> None:
    talk = Talk()
    said = talk.send(b"BURP\r\n" * 100)
    assert said.count(b"500 ") == ERROR_LIMIT + 1
    assert said.endswith(b"421 4.7.0 too many errors\r\n")
    assert talk.closed


def test_a_taken_message_forgives_errors() -> None:
    talk = Talk()
    for _ in range(3):
        talk.send(b"BURP\r\n" * (ERROR_LIMIT - 1) + START + b"DATA\r\n.\r\n")
    assert len(talk.messages) == 3


def test_refused_recipients_are_no_errors() -> None:
    talk = Talk()
    talk.send(START)
    talk.send(b"RCPT TO:<nobody@d>\r\n" * 100)
    assert not talk.closed


@pytest.mark.parametrize("command", [b"RSET", b"EHLO x", b"QUIT"])
def test_a_begun_chunk_transaction_is_called_back(command: bytes) -> None:
    talk = Talk()
    talk.send(START + b"BDAT 3\r\nabc")
    assert talk.chunks == [b"abc"] and talk.dialogue.in_message
    talk.send(command + b"\r\n")
    assert talk.drops == 1 and not talk.dialogue.in_message


def test_what_can_no_longer_be_taken_is_not_given_out() -> None:
    talk = Talk()
    talk.send(START + b"DATA\r\n")
    for _ in range(50):
        talk.send(b"x" * 100)
    assert talk.drops == 1 and not talk.chunks
    assert talk.send(b"\r\n.\r\n").startswith(b"552 5.3.4")


def test_the_server_can_hang_up_at_any_moment() -> None:
    talk = Talk()
    talk.send(START + b"DATA\r\nhalf")
    talk.dialogue.hang_up(421, "4.3.2", "stopping")
    talk.turn()
    assert talk.take() == b"421 4.3.2 stopping\r\n" and talk.closed
    assert talk.send(b"\r\n.\r\nNOOP\r\n") == b""


def test_a_name_that_can_not_stand_in_a_header_is_made_harmless() -> None:
    talk = Talk()
    talk.send("EHLO my scänner\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n.\r\n".encode())
    assert talk.messages[0].helo == "my?sc?nner"
    assert talk.messages[0].envelope.recipients[0].address == "postmaster"
    assert talk.messages[0].protocol == "ESMTP"
