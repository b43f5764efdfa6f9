"""Trace field and parameters."""

from __future__ import annotations

import pytest

from resubmit.handoff import prepare
from resubmit.handoff.prepare import Hop
from resubmit.model.ids import id_text

KEY = b"k" * 32
ALL = Hop(dsn=True, eightbit=True, smtputf8=True, sizes=True, size=1000)
NONE = Hop()
MESSAGE = 3_765_432_109_876_543


def field(**values: object) -> bytes:
    return prepare.trace_field(
        **{  # type: ignore[arg-type]
            "key": KEY,
            "message": MESSAGE,
            "no": 2,
            "by": "relay.contoso.com",
            "helo": "app.contoso.com",
            "peer": "192.0.2.7",
            "protocol": "ESMTPS",
            "received_at": 1_795_521_600_000,
            **values,
        }
    )


def test_the_trace_field_names_the_attempt_and_proves_it() -> None:
    octets = field()
    assert octets == (
        b"Received: from app.contoso.com ([192.0.2.7])\r\n"
        b"\tby relay.contoso.com with ESMTPS\r\n"
        b"\tid "
        + id_text(MESSAGE).encode()
        + b".2 (resubmit "
        + prepare.trace_mac(KEY, MESSAGE, 2).encode()
        + b");\r\n"
        b"\tTue, 24 Nov 2026 12:00:00 +0000\r\n"
    )
    found = prepare.TRACE.search(octets)
    assert found is not None
    assert prepare.verify_trace(KEY, MESSAGE, int(found[2]), found[3].decode())


@pytest.mark.parametrize(
    ("key", "message", "no"), [(b"x" * 32, MESSAGE, 2), (KEY, MESSAGE + 1, 2), (KEY, MESSAGE, 1)]
)
def test_a_mac_is_good_for_one_attempt_and_one_key(key: bytes, message: int, no: int) -> None:
    assert not prepare.verify_trace(key, message, no, prepare.trace_mac(KEY, MESSAGE, 2))


@pytest.mark.parametrize("mac", ["", "é", "0" * 32, "\udc80"])
def test_any_other_text_is_no_mac(mac: str) -> None:
    assert not prepare.verify_trace(KEY, MESSAGE, 2, mac)


@pytest.mark.parametrize("helo", ["evil\r\nX-Injected: yes", "a b (c) ; d", "ü\udc80", "x" * 5000, ""])
def test_nothing_a_client_says_breaks_out_of_the_trace_field(helo: str) -> None:
    octets = field(helo=helo, by=helo, protocol=helo)
    assert octets.isascii()
    lines = octets.split(b"\r\n")
    assert lines[0].startswith(b"Received: from ")
    assert all(line.startswith(b"\t") for line in lines[1:-1])
    assert lines[-1] == b""
    assert all(len(line) < 998 for line in lines)
    assert prepare.TRACE.search(octets)


def test_a_local_message_has_no_peer_and_ipv6_is_written_as_a_literal() -> None:
    assert field(helo="", peer="").startswith(b"Received: from local\r\n")
    assert b"([IPv6:2001:db8::7])" in field(peer="2001:db8::7")


@pytest.mark.parametrize(
    ("notify", "no", "expected"),
    [
        ("SUCCESS,FAILURE", 1, "SUCCESS,FAILURE"),
        ("SUCCESS,FAILURE", 2, "FAILURE"),
        ("success,Delay", 3, "Delay"),
        ("SUCCESS", 2, "NEVER"),
        ("SUCCESS", 1, "SUCCESS"),
        ("NEVER", 2, "NEVER"),
        ("FAILURE,DELAY", 2, "FAILURE,DELAY"),
    ],
)
def test_success_is_asked_for_once(notify: str, no: int, expected: str) -> None:
    assert prepare.notify_for(notify, no) == expected
    options = prepare.rcpt_options("a@x.invalid", (f"NOTIFY={notify}",), ALL, no=no)
    assert options[0] == f"NOTIFY={expected}".encode()


def test_orcpt_goes_on_word_for_word_or_is_added() -> None:
    given = prepare.rcpt_options("a@x.invalid", ("ORCPT=rfc822;Orig+2Bx@e.invalid",), ALL, no=1)
    assert given == [b"ORCPT=rfc822;Orig+2Bx@e.invalid"]
    assert prepare.rcpt_options("a+b=c@x.invalid", (), ALL, no=1) == [b"ORCPT=rfc822;a+2Bb+3Dc@x.invalid"]
    assert prepare.rcpt_options("jörg@x.invalid", (), ALL, no=1) == []
    assert prepare.rcpt_options("a@x.invalid", ("NOTIFY=NEVER", "ORCPT=rfc822;a@x"), NONE, no=1) == []


@pytest.mark.parametrize(
    ("parameters", "hop", "expected"),
    [
        ((), ALL, [b"SIZE=99", b"ENVID=KEY.1"]),
        (("ENVID=theirs", "RET=FULL"), ALL, [b"SIZE=99", b"ENVID=theirs", b"RET=FULL"]),
        (("envid=theirs",), ALL, [b"SIZE=99", b"envid=theirs"]),
        (("BODY=8BITMIME", "SIZE=5"), ALL, [b"SIZE=99", b"BODY=8BITMIME", b"ENVID=KEY.1"]),
        (("BODY=8BITMIME", "SIZE=5", "RET=HDRS", "ENVID=x"), NONE, []),
        (("AUTH=<>", "BODY=BINARYMIME", "MT-PRIORITY=3"), NONE, []),
    ],
)
def test_mail_gets_what_the_hop_offers(parameters: tuple[str, ...], hop: Hop, expected: list[bytes]) -> None:
    assert prepare.mail_options(parameters, hop, size=99, key="KEY.1", utf8=False) == expected


@pytest.mark.parametrize("word", ["ENVID=a b", "ENVID=a\r\nRSET", "RET=\x00"])
def test_a_parameter_that_would_break_its_command_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="blanks or control"):
        prepare.mail_options((word,), ALL, size=1, key="K.1", utf8=False)


@pytest.mark.parametrize(
    ("extensions", "hop"),
    [
        ({}, Hop()),
        ({"size": ""}, Hop(sizes=True)),
        ({"size": "0"}, Hop(sizes=True)),
        ({"size": "157286400"}, Hop(sizes=True, size=157_286_400)),
        ({"size": "lots"}, Hop(sizes=True)),
        ({"dsn": "", "8bitmime": "", "smtputf8": ""}, Hop(dsn=True, eightbit=True, smtputf8=True)),
    ],
)
def test_an_ehlo_answer_is_read(extensions: dict[str, str], hop: Hop) -> None:
    assert prepare.hop_of(extensions) == hop
