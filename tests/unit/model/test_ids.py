"""Journal ids: they only grow, they can be read out, and they stand in header fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resubmit.model.ids import IdMaker, attempt_key, id_text, parse_attempt_key, parse_id

IDS = st.integers(0, (1 << 63) - 1)


@given(IDS)
def test_a_shown_id_is_the_id_in_either_case(message: int) -> None:
    text = id_text(message)
    assert len(text) == 13
    assert parse_id(text) == parse_id(f" {text.lower()}\n") == message


@given(IDS, IDS)
def test_shown_ids_sort_as_ids_do(one: int, other: int) -> None:
    assert (id_text(one) < id_text(other)) == (one < other)


def test_letters_that_are_misread_are_forgiven() -> None:
    assert parse_id("0OoIiLl111111") == parse_id("0001111111111")


@pytest.mark.parametrize("wrong", ["", "1", "0" * 12, "0" * 14, "U" * 13, "0" * 12 + "é", "0123456789AB-"])
def test_what_is_no_id_is_refused_with_a_hint(wrong: str) -> None:
    with pytest.raises(ValueError, match="resubmit list"):
        parse_id(wrong)


@given(IDS, st.integers(1, 99999))
def test_an_attempt_key_is_found_in_a_received_field(message: int, no: int) -> None:
    field = f"Received: from a by b with ESMTPS id {attempt_key(message, no)} (mac=x);\r\n\tTue, 24 Nov 2026"
    assert parse_attempt_key(field) == (message, no)


@pytest.mark.parametrize(
    "text", ["", "id 4XyZ.1", "0123456789ABC", "x0123456789ABC.1", "0123456789ABC.123456"]
)
def test_what_is_no_attempt_key_is_none(text: str) -> None:
    assert parse_attempt_key(text) is None


@given(st.lists(st.integers(0, (1 << 42) - 1), min_size=2), st.integers(0, 31))
def test_ids_only_grow_whatever_the_clock_does(times: list[int], node: int) -> None:
    maker = IdMaker(node=node)
    made = [maker.next(now) for now in times]
    assert made == sorted(set(made))
    assert all(0 <= message < 1 << 63 for message in made)


def test_ids_go_on_from_the_last_one() -> None:
    last = IdMaker().next(1000)
    assert IdMaker(last).next(10) == last + 1
    assert IdMaker(last).next(2000) > last + 1


def test_more_ids_than_the_counter_holds_in_one_moment_still_grow() -> None:
    maker = IdMaker()
    made = [maker.next(5) for _ in range(70_000)]
    assert len(set(made)) == 70_000
    assert made == sorted(made)
