"""What every log promises besides: put away after any line and gone on with, it is the same."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resubmit.evidence.base import Item, LogKind, LogMachine, Reading
from resubmit.evidence.kinds import KINDS, kind
from resubmit.evidence.settings import Log
from resubmit.model.evidence import Evidence, Unreadable
from tests.golden_pairs import pairs

READING = Reading("a.log", now=1_795_500_000_000)
LOGS = [name for name in KINDS if hasattr(kind(name), "machine")]
BROKEN = {"broken_rows", "header_again_and_broken_rows"}
"""With rows over several lines: of such a row, put away in its middle, the rest is set aside."""
FILES = [(name, path) for name in LOGS for path in pairs(name) if path.stem not in BROKEN]
MEMORY = 256 * 1024


def machine(name: str, memory: str = "") -> LogMachine:
    return cast(LogKind, kind(name)).machine(READING, memory)


def lines_of(path: Path) -> list[bytes]:
    data = path.read_bytes()
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).split(b"\n")


def check(items: list[Item]) -> None:
    for item in items:
        assert isinstance(item, Evidence | Unreadable)
        assert item.file == "a.log"
        assert item.place.startswith("byte ")


def test_what_the_config_can_follow_is_a_log_and_every_log_can_be_followed() -> None:
    allowed = Log.model_fields["kind"].annotation.__args__  # type: ignore[union-attr]
    assert set(allowed) == set(LOGS)


@pytest.mark.parametrize(("name", "path"), FILES, ids=[f"{n}-{p.stem}" for n, p in FILES])
def test_put_away_after_every_line_it_reads_the_same(name: str, path: Path) -> None:
    whole, parts = machine(name), machine(name)
    for number, line in enumerate(lines_of(path)[:400], 1):
        place = f"byte {number}"
        expected = list(whole.line(line, place))
        check(expected)
        assert list(parts.line(line, place)) == expected
        memory = parts.memory()
        assert len(memory.encode()) <= MEMORY
        if memory:
            json.loads(memory)
        parts = machine(name, memory)


@pytest.mark.parametrize("name", LOGS)
@given(lines=st.lists(st.binary(max_size=300), max_size=8), memory=st.text(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_lines_and_any_memory_do_no_harm(name: str, lines: list[bytes], memory: str) -> None:
    one = machine(name, memory)
    for line in lines:
        check(list(one.line(line, "byte 1")))
    check(list(one.end()))
    assert len(one.memory().encode()) <= MEMORY


@pytest.mark.parametrize("name", LOGS)
@pytest.mark.parametrize(
    "memory", ['{"mails": 1}', "[[[[", '{"a": {"b": [null, 1, "x"]}}', "0", '"x"', "{}", "9" * 6000]
)
def test_a_memory_of_another_form_is_forgotten(name: str, memory: str) -> None:
    one = machine(name, memory)
    for path in pairs(name)[:2]:
        for line in lines_of(path)[:20]:
            list(one.line(line, "byte 1"))
