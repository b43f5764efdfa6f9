"""What the IIS log's reader remembers between rows, which logs are not its, and how rows find each other."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from resubmit.evidence.base import Item, Reading
from resubmit.evidence.kinds import iis_log as log
from resubmit.evidence.kinds.iis_log_rows import unplussed
from resubmit.evidence.kinds.iis_log_talks import Comings, Queue
from resubmit.model.evidence import Evidence, Holder, Status
from resubmit.model.moment import DAY, HOUR

GOLDEN = Path(__file__).parents[2] / "golden" / "iis_log"
MIXED = (GOLDEN / "w3c_all_fields.in").read_bytes()


def items(data: bytes, position: str = "beside") -> list[Evidence]:
    read = log.read(io.BytesIO(data), Reading("file", position=position))
    return [item for item in read if isinstance(item, Evidence)]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.in")), ids=lambda path: path.stem)
def test_a_machine_begun_anew_between_any_lines_reads_the_same(path: Path) -> None:
    whole = list(log.read(io.BytesIO(path.read_bytes()), Reading("file")))
    memory, parts = "", list[Item]()
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        machine = log.machine(Reading("file"), memory)
        parts += machine.line(line, f"line {number}")
        memory = machine.memory()
    assert [*parts, *log.machine(Reading("file"), memory).end()] == whole


def test_a_memory_that_is_none_is_forgotten() -> None:
    known = json.loads(log.machine(Reading("file")).memory())
    wrong = {"talks": [1, ["a", [1, [1, True, 1, False, "", "", ""]]]], "comings": [["a", [1]]], "queue": [1]}
    odd = ["{", "[]", "[" * 9999, json.dumps({**known, **wrong}), json.dumps({**known, "columns": [1]})]
    for memory in odd:
        machine = log.machine(Reading("file"), memory)
        read = [i for n, line in enumerate(MIXED.splitlines()) for i in machine.line(line, f"line {n}")]
        assert len([i for i in read if isinstance(i, Evidence)]) == 6


def test_memory_keeps_within_its_limit() -> None:
    machine = log.machine(Reading("file"))
    for number in range(2_500):
        ip = f"192.0.{number // 250}.{number % 250}"
        for row in (
            f'{ip} - app [24/Nov/2026:06:27:20 +0100] "MAIL -?+FROM:<{"x" * 50}@a.example> SMTP" 250 1',
            f'{ip} - app [24/Nov/2026:06:27:20 +0100] "RCPT -?+TO:<{"y" * 50}{number}@b.example> SMTP" 250 1',
            f'{ip} - app [24/Nov/2026:06:27:20 +0100] "DATA -?+<{number}@a.example> SMTP" 250 1',
            f'{ip} - app [24/Nov/2026:06:27:20 +0100] "MAIL -?+FROM:<{"x" * 50}@a.example> SMTP" 250 1',
            f'{ip} - OutboundConnectionResponse [24/Nov/2026:06:27:20 +0100] "- -?220+{ip} SMTP" 0 1',
        ):
            list(machine.line(row.encode(), "line 1"))
    assert len(machine.memory()) <= log.MEMORY_LIMIT


def test_a_server_before_us_says_nothing_of_what_became_of_the_mail() -> None:
    assert {item.status for item in items(MIXED, "before")} == {Status.NONE}


def test_what_a_server_behind_us_defers_the_far_side_holds() -> None:
    assert [i.holder for i in items(MIXED, "behind") if i.status is Status.DEFERRED] == [Holder.FAR]


@pytest.mark.parametrize(
    "data",
    [
        b"#Software: Microsoft Internet Information Services 10.0\n#Date: 2026-11-24 00:00:01\n"
        b"#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip sc-status\n"
        b"2026-11-24 00:00:01 10.0.0.2 POST /mail/DATA - 443 - 10.0.0.5 200\n",
        b'10.0.0.5 - frank [24/Nov/2026:13:17:37 -0800] "GET /index.html HTTP/1.0" 200 2326\n',
        b"10.0.0.5, -, 11/24/26, 13:17:37, W3SVC2, WEB01, 10.0.0.2, 60, 275, 3401, 200, 0, GET, /a.htm, -,\n",
        b"#Fields: date-time,connector-id,session-id,sequence-number\n2026-11-24T05:00:00Z,a,b,1\n",
    ],
)
def test_logs_of_other_services_are_not_taken(data: bytes) -> None:
    assert not log.sniff(data, "ex261124.log")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("+FROM:<a+b@contoso.com>+SIZE=1", " FROM:<a+b@contoso.com> SIZE=1"),
        ("250+<MAIL01>:+ok", "250 <MAIL01>: ok"),
        ("TO:<a@b>+ORCPT=rfc822;a+2Bb@c+NOTIFY=NEVER", "TO:<a@b> ORCPT=rfc822;a+2Bb@c NOTIFY=NEVER"),
        ("", ""),
    ],
)
def test_a_plus_is_a_blank_but_in_an_address(query: str, text: str) -> None:
    assert unplussed(query) == text


def test_a_mail_is_linked_only_if_it_is_the_only_one_and_not_too_old() -> None:
    queue = Queue()
    queue.put("a@x", "b@y", "<1@x>", 0)
    assert queue.get("A@x", "B@y", HOUR, ended=False) == ("<1@x>", 0)
    assert queue.get("a@x", "b@y", 4 * DAY, ended=False) == ("", None)
    queue.put("a@x", "b@y", "<2@x>", HOUR)
    assert queue.get("a@x", "b@y", HOUR, ended=True) == ("", None)
    assert queue.get("a@x", "b@y", 3 * DAY + 1, ended=True) == ("<2@x>", HOUR)
    assert queue.get("a@x", "b@y", HOUR, ended=True) == ("", None)


def test_mails_a_client_brings_at_once_are_not_told_apart() -> None:
    comings = Comings()
    first, second = comings.begin("c", "a@x"), comings.begin("c", "b@x")
    assert first.unsure and second.unsure
    assert comings.end("c") is first and comings.end("c") is second and comings.end("c") is None
    assert not comings.begin("c", "d@x").unsure
