"""What a message tracking log's reader remembers between rows, and how where the server stands is read."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from resubmit.evidence.base import Item, Reading
from resubmit.evidence.kinds import exchange_tracking_log as log
from resubmit.evidence.kinds.exchange_tracking_log_table import MEMORY_LIMIT, Mails
from resubmit.evidence.kinds.exchange_tracking_log_words import statuses
from resubmit.model.evidence import Evidence, Holder, Status

GOLDEN = Path(__file__).parents[2] / "golden" / "exchange_tracking_log"
GROUP = GOLDEN / "group_with_a_failed_member.in"
FIELDS = (
    b"#Fields: date-time,source,event-id,message-id,network-message-id,recipient-address,recipient-status"
)


def items(data: bytes, position: str) -> list[Evidence]:
    read = list(log.read(io.BytesIO(data), Reading("file", position=position)))
    assert all(isinstance(item, Evidence) for item in read)
    return [item for item in read if isinstance(item, Evidence)]


# A followed log is UTF-8, no export, and a row over several lines is taken whole.
OTHERS = ("saved_as_utf16", "broken_rows", "export_", "format_list")
LINES = [p for p in sorted(GOLDEN.glob("*.in")) if not p.stem.startswith(OTHERS)]


@pytest.mark.parametrize("path", LINES, ids=lambda path: path.stem)
def test_a_machine_begun_anew_between_any_lines_reads_the_same(path: Path) -> None:
    whole = list(log.read(io.BytesIO(path.read_bytes()), Reading("file")))
    memory, parts = "", list[Item]()
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        machine = log.machine(Reading("file"), memory)
        parts += machine.line(line, f"line {number}")
        memory = machine.memory()
    assert parts == whole


def test_a_memory_that_is_none_is_forgotten() -> None:
    for memory in (
        "{",
        "[]",
        '{"columns": [1], "mails": 7}',
        '{"columns": ["a"], "mails": [[1], {}]}',
        "[" * 9999,
    ):
        machine = log.machine(Reading("file"), memory)
        assert list(machine.line(FIELDS, "line 1")) == []
        row = b"2026-11-24T05:00:00Z,STOREDRIVER,DELIVER,<a@b>,,x@contoso.com,"
        assert [i.status for i in machine.line(row, "line 2") if isinstance(i, Evidence)] == [
            Status.DELIVERED
        ]


def test_memory_keeps_within_its_limit_and_keeps_the_newest() -> None:
    mails = Mails()
    for number in range(6_000):
        mails.of("", f"<{number}@contoso.com>", "").expect(f"{'x' * 60}{number}@contoso.com")
    plain = mails.plain(MEMORY_LIMIT)
    assert len(json.dumps(plain)) <= MEMORY_LIMIT
    again = Mails()
    again.restore(plain)
    assert again.of("", "<5999@contoso.com>", "").open
    assert not again.of("", "<0@contoso.com>", "").open


def test_the_oldest_mails_go() -> None:
    mails = Mails()
    for number in range(25_000):
        mails.of("", f"<{number}@contoso.com>", "").expect("a@contoso.com")
    assert not mails.of("", "<1@contoso.com>", "").open
    many = Mails()
    for number in range(1_000):
        mail = many.of("", f"<{number}@contoso.com>", "")
        for n in range(2_000):
            mail.expect(f"{n}@contoso.com")
    assert sum(len(many.of("", f"<{n}@contoso.com>", "").open) for n in range(1_000)) <= 202_000


def test_a_server_before_us_says_nothing_of_what_became_of_the_mail() -> None:
    data = GROUP.read_bytes()
    assert {item.status for item in items(data, "before")} == {Status.NONE}
    assert {item.meaning for item in items(data, "before")} == {None}


def test_what_a_server_behind_us_defers_the_far_side_holds() -> None:
    held = {
        p: {i.holder for i in items(GROUP.read_bytes(), p) if i.status is Status.DEFERRED}
        for p in ("beside", "behind")
    }
    assert held == {"beside": {Holder.RELAY}, "behind": {Holder.FAR}}


@pytest.mark.parametrize(
    ("cell", "count", "expected"),
    [
        ("To;Cc", 2, ["To", "Cc"]),
        (";", 2, ["", ""]),
        ("550 5.1.1 a;b;550 5.1.1 c", 2, ["550 5.1.1 a;b", "550 5.1.1 c"]),
        (
            "[{LED=450 4.4.1 a;b};{MSG=}];[{LED=450 4.4.2 c};{MSG=}]",
            2,
            ["[{LED=450 4.4.1 a;b};{MSG=}]", "[{LED=450 4.4.2 c};{MSG=}]"],
        ),
        ("550 one for all", 3, ["550 one for all"] * 3),
        ("550 a; b", 1, ["550 a; b"]),
    ],
)
def test_statuses_are_told_apart(cell: str, count: int, expected: list[str]) -> None:
    assert statuses(cell, count) == expected
