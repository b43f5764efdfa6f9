"""Header blocks and timelines as objects."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resubmit.journal.read import Step
from resubmit.view.mail import headers_of, step_object

CASES = {
    "plain": (b"A: 1\r\nB: 2\r\n\r\nbody: no\r\n", [("A", "1"), ("B", "2")]),
    "folded": (b"A: 1\r\n\t2\r\n  3\r\n\r\n", [("A", "1 2 3")]),
    "doubles in their order": (b"R: 2\r\nR: 1\r\n\r\n", [("R", "2"), ("R", "1")]),
    "bare newlines": (b"A: 1\nB: 2\n\nx", [("A", "1"), ("B", "2")]),
    "no end": (b"A: 1", [("A", "1")]),
    "no body and no header": (b"", []),
    "begins with a fold": (b" x\r\nA: 1\r\n\r\n", [("A", "1")]),
    "a line that is no field": (b"From me\r\nA: 1\r\n\r\n", [("A", "1")]),
    "no UTF-8": (b"A: \xff\r\n\r\n", [("A", "\ufffd")]),
    "colons in the value": (b"A: b:c\r\n\r\n", [("A", "b:c")]),
}


@pytest.mark.parametrize("case", CASES)
def test_headers(case: str) -> None:
    head, expected = CASES[case]

    assert headers_of(head) == expected


@settings(max_examples=100)
@given(st.binary(max_size=300))
def test_any_bytes_have_headers_or_none(head: bytes) -> None:
    assert all(name and "\n" not in name + value for name, value in headers_of(head) if name)


def test_a_birth_comes_from_nowhere() -> None:
    assert step_object(Step(0, 0, "journaled", None, "journaled", 0, "why")) == {
        "at": "1970-01-01T00:00:00.000Z",
        "event": "journaled",
        "from": None,
        "to": "journaled",
        "attempt": 0,
        "why": "why",
    }
