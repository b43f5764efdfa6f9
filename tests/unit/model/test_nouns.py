"""The small nouns: filters, message ids, addresses and replies."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resubmit.model.envelope import address_key, domain_of, parameter
from resubmit.model.filter import Filter
from resubmit.model.message import message_id_of, message_key
from resubmit.model.reply import Reply, parse_reply

WORDS = st.lists(st.text(max_size=8), max_size=3).map(tuple)
SPANS = st.none() | st.integers(0, 1 << 42)
FILTERS = st.builds(
    Filter,
    **{
        field.name: st.lists(st.integers(1, 99), max_size=3).map(tuple)
        if field.name in ("ids", "incident")
        else WORDS
        if field.default == ()
        else st.booleans()
        if field.name == "stuck"
        else SPANS
        for field in fields(Filter)
    },
)


@given(FILTERS)
def test_a_filter_survives_json(flt: Filter) -> None:
    assert Filter.from_plain(json.loads(json.dumps(flt.to_plain()))) == flt


@given(FILTERS)
def test_a_filter_is_empty_when_it_asks_for_nothing(flt: Filter) -> None:
    assert flt.is_empty() == (flt.to_plain() == {})


def test_a_filter_keeps_a_span_of_nought() -> None:
    assert Filter.from_plain(Filter(older_than=0).to_plain()) == Filter(older_than=0)


def test_a_filter_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="colour"):
        Filter.from_plain({"colour": "red"})


@pytest.mark.parametrize(
    ("found", "message_id", "key"),
    [
        (" <A@b.C>", "<A@b.C>", "a@b.c"),
        ("<a\r\n b@c>", "<ab@c>", "ab@c"),
        ("a@b", "a@b", "a@b"),
        ("<[guid]@host>", "<[guid]@host>", "[guid]@host"),
        ("<a@b> (comment)", "<a@b>", "a@b"),
        ("", "", ""),
    ],
)
def test_message_ids_are_found_and_compared(found: str, message_id: str, key: str) -> None:
    assert message_id_of(found) == message_id
    assert message_key(message_id) == key


@pytest.mark.parametrize(
    ("address", "domain"),
    [("a@B.C", "b.c"), ('"a@b"@c.', "c"), ("postmaster", ""), ("", ""), ("ü@Ü.de", "ü.de")],
)
def test_the_domain_is_behind_the_last_at(address: str, domain: str) -> None:
    assert domain_of(address) == domain


def test_addresses_are_compared_without_case_or_brackets() -> None:
    assert address_key(" <Ann@Contoso.COM> ") == address_key("ann@contoso.com")


def test_a_parameter_is_found_by_name_in_any_case() -> None:
    given_ = ("SIZE=10", "body=8BITMIME", "SMTPUTF8")
    assert parameter(given_, "BODY") == "8BITMIME"
    assert parameter(given_, "SMTPUTF8") == ""
    assert parameter(given_, "RET") is None


@pytest.mark.parametrize(
    ("text", "code", "enhanced", "line"),
    [
        ("250 2.0.0 OK", 250, "2.0.0", "250 2.0.0 OK"),
        ("450-4.4.317 Cannot connect\r\n450 4.4.317 again", 450, "4.4.317", None),
        ("451 5.7.3 odd", 451, "5.7.3", "451 5.7.3 odd"),
        ("550 no such user", 550, None, "550 no such user"),
        ("354", 354, None, "354"),
    ],
)
def test_replies_are_read(text: str, code: int, enhanced: str | None, line: str | None) -> None:
    reply = parse_reply(text)
    assert reply is not None
    assert (reply.code, reply.enhanced) == (code, enhanced)
    assert (reply.positive, reply.transient, reply.permanent) == (code < 300, 400 <= code < 500, code >= 500)
    if line is not None:
        assert reply.line() == line


@pytest.mark.parametrize("text", ["", "hello", "199 x", "600 x", "25 x", "2500 x"])
def test_what_is_no_reply_is_none(text: str) -> None:
    assert parse_reply(text) is None


def test_the_first_digit_decides() -> None:
    assert Reply(451, "5.7.3 Must issue STARTTLS").transient
