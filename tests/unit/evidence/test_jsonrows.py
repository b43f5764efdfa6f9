"""JSON of any size and in any state gives its records, and what is none."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator
from itertools import chain, repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resubmit.evidence.base import Reading
from resubmit.evidence.jsonrows import RECORD_LIMIT, BadPart, Record, records
from resubmit.evidence.kinds import trace_graph
from resubmit.model.evidence import Evidence

ROW = {"recipientAddress": "anna@contoso.com", "status": "pending", "messageId": "<1@x>"}


def parts(text: str | bytes) -> list[Record | BadPart]:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return list(records(io.BytesIO(data), "utf-8"))


def numbers(found: list[Record | BadPart]) -> list[int]:
    """The `n` of each record that has one."""
    return [one.values["n"] for one in found if isinstance(one, Record) and "n" in one.values]


@pytest.mark.parametrize(
    "text",
    [
        '[{"n":1},{"n":2},{"n":3}]',
        '{"n":1}{"n":2}{"n":3}',
        '{"n":1}\n{"n":2}\r\n\n{"n":3}\n',
        '{"value":[{"n":1},{"n":2}]}\n{"value":[{"n":3}]}',
        '{"a":{"b":[{"n":1}]},"c":[[{"n":2}]],"d":{"n":3}}',
        '\ufeff [ {"n" : 1} , {"n":2}\n,{"n":3} ] ',
    ],
)
def test_every_form_gives_its_records(text: str) -> None:
    found = parts(text)
    assert numbers(found) == [1, 2, 3]
    assert not [one for one in found if isinstance(one, BadPart)]


def test_what_stands_around_comes_with_a_record_the_nearest_first() -> None:
    found = [one for one in parts('{"x":1,"rows":[{"y":2,"events":[{"n":3}]}]}') if isinstance(one, Record)]
    assert found[0].around == ({"y": 2}, {"x": 1})


def test_a_page_too_large_to_be_held_is_read_row_by_row() -> None:
    rows = [{"n": n, "subject": "s" * 400} for n in range(8000)]
    page = json.dumps({"@odata.context": "c", "value": rows})
    assert len(page) > 2 * RECORD_LIMIT
    found = parts(page)
    assert numbers(found) == list(range(8000))
    assert found[0].around == ({"@odata.context": "c"},)  # type: ignore[union-attr]


def test_memory_does_not_grow_with_the_file() -> None:
    row = json.dumps({**ROW, "subject": "s" * 200}).encode()

    class Endless(io.RawIOBase):
        """A page of rows, made as it is read."""

        def __init__(self, rows: int) -> None:
            self.left = chain([b'{"value":['], repeat(row + b",", rows), [row, b"]}"])
            self.held = b""

        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return True

        def seek(self, offset: int, whence: int = 0) -> int:
            return 0

        def readinto(self, into: memoryview) -> int:  # type: ignore[override]
            while len(self.held) < len(into) and (more := next(self.left, b"")):
                self.held += more
            take, self.held = self.held[: len(into)], self.held[len(into) :]
            into[: len(take)] = take
            return len(take)

    def count(rows: int) -> Iterator[int]:
        stream = io.BufferedReader(Endless(rows))
        yield sum(isinstance(one, Record) for one in records(stream, "utf-8"))

    tracemalloc.start()
    assert list(count(20_000)) == [20_001]
    first = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    assert list(count(60_000)) == [60_001]
    assert tracemalloc.get_traced_memory()[1] < first * 1.5
    tracemalloc.stop()


def test_a_broken_record_costs_itself() -> None:
    found = parts('[{"n":1},\n{"n":2,"x":oops},\n{"n":3}]')
    assert numbers(found) == [1, 3]
    assert [one.number for one in found if isinstance(one, BadPart)] == [2]


def test_deep_nesting_is_a_bad_part() -> None:
    for text in ("[" * 5000, '{"a":' * 5000, '{"a":' * 5000 + "1" + "}" * 5000):
        assert any(isinstance(one, BadPart) for one in parts(text))


def test_a_file_that_is_no_json_is_left_soon() -> None:
    assert len(parts("{oops\n" * 100_000)) < 2_000


@given(st.text(st.sampled_from('{}[],:"\\ntrue1.-e \n'), max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read(text: str) -> None:
    for one in parts(text):
        assert isinstance(one, Record | BadPart)


@given(st.integers(0, 400), st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_a_flipped_byte_costs_no_more_than_its_neighbours(place: int, byte: int) -> None:
    rows = [{"n": n, "t": "abc"} for n in range(20)]
    data = bytearray(("\n".join(json.dumps(row) for row in rows)).encode())
    data[place % len(data)] = byte
    assert len(set(numbers(parts(bytes(data)))) & set(range(20))) >= 17


def test_an_event_learns_when_its_message_was_received_from_one_behind_it() -> None:
    defer = {"id": "b7c1f4d2-9a6e-4c3b-8f2d-08de2a6c1b01", "messageId": "<1@x>", "event": "Defer"}
    page = {
        "value": [
            {**defer, "dateTime": "2026-11-23T09:16:13Z", "description": "Reason: [{LED=450 4.4.316 x}]"},
            {**defer, "event": "Receive", "dateTime": "2026-11-23T09:14:03Z", "description": "Message"},
        ]
    }
    items = trace_graph.page_items(json.dumps(page).encode(), Reading("graph"), "anna@contoso.com")
    assert [item.recipient for item in items if isinstance(item, Evidence)] == ["anna@contoso.com"] * 2
    assert len({item.received_at for item in items if isinstance(item, Evidence)}) == 1


def test_there_are_enough_pairs() -> None:
    from tests.golden_pairs import pairs

    assert len(pairs("trace_graph")) >= 15
