"""Text for a terminal is cleaned, measured and cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resubmit.cli.table import Column, clean, cut, table, width, wrapped


@pytest.mark.parametrize(
    ("text", "columns", "where", "expected"),
    [
        ("short", 9, "end", "short"),
        ("somewhat long", 6, "end", "somew…"),
        ("ann.long@contoso.com", 11, "middle", "ann.l…o.com"),
        ("漢字漢字", 5, "end", "漢字…"),
        ("漢字漢字", 4, "end", "漢…"),
        ("x", 0, "end", ""),
        ("xy", 1, "end", "…"),
    ],
)
def test_cut(text: str, columns: int, where: str, expected: str) -> None:
    assert cut(text, columns, where) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\tb\nc", "a b c"),
        ("\x1b[31m", "\ufffd[31m"),
        ("a\u202eb", "a\ufffdb"),
        ("\ud800", "\ufffd"),
        ("gr\u00fc\u00df", "gr\u00fc\u00df"),
    ],
)
def test_clean(text: str, expected: str) -> None:
    assert clean(text) == expected


@settings(max_examples=100)
@given(st.lists(st.lists(st.text(max_size=60), min_size=3, max_size=3), max_size=5), st.integers(20, 100))
def test_no_line_is_wider_than_asked(rows: list[list[str]], total: int) -> None:
    columns = (Column("ONE", 4), Column("TWO", 3, right=True), Column("THREE", 5, cut="middle"))

    lines = table(columns, rows, total)

    assert len(lines) == len(rows) + 1
    assert all(width(line) <= total for line in lines)


@settings(max_examples=100)
@given(st.text(), st.integers(0, 20), st.sampled_from(["end", "middle"]))
def test_what_is_cut_is_never_too_wide(text: str, columns: int, where: str) -> None:
    assert width(cut(clean(text), columns, where)) <= columns


def test_wrapping_keeps_the_words() -> None:
    assert wrapped("one two three", 9, "  ") == ["  one two", "  three"]
    assert wrapped("", 9) == []
