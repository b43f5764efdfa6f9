"""What a protocol log's reader remembers between lines, and how where the server stands is read."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from resubmit.evidence.base import Item, Reading
from resubmit.evidence.conversation import Conversation
from resubmit.evidence.kinds import exchange_smtp_log as log
from resubmit.evidence.kinds.exchange_smtp_log_session import endpoint
from resubmit.model.evidence import Evidence, Holder, Status

GOLDEN = Path(__file__).parents[2] / "golden" / "exchange_smtp_log"
MIXED = (GOLDEN / "pipelined_with_mixed_replies.in").read_bytes()


def items(data: bytes, position: str = "beside") -> list[Evidence]:
    read = log.read(io.BytesIO(data), Reading("file", position=position))
    return [item for item in read if isinstance(item, Evidence)]


LINES = [p for p in sorted(GOLDEN.glob("*.in")) if p.stem != "header_again_and_broken_rows"]


@pytest.mark.parametrize("path", LINES, ids=lambda path: path.stem)
def test_a_machine_begun_anew_between_any_lines_reads_the_same(path: Path) -> None:
    whole = list(log.read(io.BytesIO(path.read_bytes()), Reading("file")))
    memory, parts = "", list[Item]()
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        machine = log.machine(Reading("file"), memory)
        parts += machine.line(line, f"line {number}")
        memory = machine.memory()
    assert [*parts, *log.machine(Reading("file"), memory).end()] == whole


def test_a_memory_that_is_none_is_forgotten() -> None:
    odd = ["{", "[]", '{"columns": [1], "sends": 1, "sessions": {}, "offered": []}', "[" * 9999]
    known = json.loads(log.machine(Reading("file")).memory())
    odd += [
        json.dumps({**known, "sessions": {"08DE2B1A4C0000A4": session}, "offered": [1, ["a"]]})
        for session in (1, {}, {"talk": 1}, {"talk": {"mail": [], "asked": [1], "held": [1, "x"]}})
    ]
    for memory in odd:
        machine = log.machine(Reading("file"), memory)
        read = [i for n, line in enumerate(MIXED.splitlines()) for i in machine.line(line, f"line {n}")]
        assert [i.status for i in read if isinstance(i, Evidence)] == [
            Status.FAILED,
            Status.DEFERRED,
            Status.RELAYED,
        ]


def test_memory_keeps_within_its_limit() -> None:
    machine = log.machine(Reading("file"))
    for number in range(3_000):
        start = f"2026-11-24T05:00:00.000Z,Internet,{number:016X},0,10.0.0.2:1,192.0.2.1:25,"
        row = f"{start}>,MAIL FROM:<{'x' * 90}@a>,"
        mail = (
            f"sending message with RecordId {number} and InternetMessageId <{'y' * 60}{number}@contoso.com>"
        )
        note = f"{start}*,,{mail}"
        for line in (note, row, row.replace("MAIL FROM", "RCPT TO"), row.replace(">,MAIL FROM", "<,550 no")):
            list(machine.line(line.encode(), "line 1"))
    assert len(machine.memory()) <= log.MEMORY_LIMIT


def test_a_server_before_us_says_nothing_of_what_became_of_the_mail() -> None:
    assert {item.status for item in items(MIXED, "before")} == {Status.NONE}


def test_what_a_server_behind_us_defers_the_far_side_holds() -> None:
    assert [i.holder for i in items(MIXED, "behind") if i.status is Status.DEFERRED] == [Holder.FAR]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1:25", "192.0.2.1"),
        ("[2001:db8::1]:25", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[::1]", "::1"),
        ("", ""),
    ],
)
def test_an_endpoint_is_shown_without_its_port(text: str, address: str) -> None:
    assert endpoint(text) == address


class TestConversation:
    def test_a_source_route_means_the_address_behind_it(self) -> None:
        talk = Conversation()
        talk.reply("220 mx.contoso.com")
        talk.command("MAIL FROM: <@a.example,@b.example:ann@contoso.com>")
        talk.command("RCPT TO:bare@contoso.com NOTIFY=NEVER")
        assert talk.mail.sender == "ann@contoso.com"
        talk.reply("250 ok")
        assert [t.recipient for t in talk.reply("550 no")] == ["bare@contoso.com"]

    def test_only_first_lines_of_replies_are_whole_replies_where_the_log_has_no_more(self) -> None:
        talk = Conversation(whole=False)
        talk.reply("220-mx.contoso.com")
        talk.command("EHLO a")
        talk.reply("250-mx.contoso.com")
        talk.command("MAIL FROM:<a@contoso.com>")
        talk.reply("250 ok")
        talk.command("RCPT TO:<b@contoso.com>")
        assert [(t.how, t.code) for t in talk.reply("550-5.1.1 no")] == [("refused", 550)]

    def test_a_refusal_of_the_sender_is_told_of_once(self) -> None:
        talk = Conversation()
        talk.reply("220 mx.contoso.com")
        for command in ("MAIL FROM:<a@contoso.com>", "RCPT TO:<b@contoso.com>", "DATA"):
            talk.command(command)
        told = [t for reply in ("451 4.3.0 later", "503 no", "503 no") for t in talk.reply(reply)]
        assert [(t.recipient, t.code) for t in [*told, *talk.closed("closed")]] == [("b@contoso.com", 451)]

    def test_replies_without_commands_are_nothing(self) -> None:
        talk = Conversation()
        assert [t for n in range(50) for t in talk.reply(f"250 {n}")] == []
        assert talk.reply("no reply") == talk.closed("closed") == []
