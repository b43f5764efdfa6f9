# ruff: noqa: E501 - a table of cases is read as a table
"""Which request to Graph comes next: windows, budget, waits, lateness."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resubmit.evidence import graph
from resubmit.evidence.graph import BUDGET_SPAN, IDLE, Memory, Open, Page, Window
from resubmit.evidence.graph_says import Problem, Step, Then
from resubmit.model.lateness import BEYOND, Lateness
from resubmit.model.moment import DAY, HOUR, MINUTE, SECOND, Ms, parse_rfc3339

NOW: Ms = parse_rfc3339("2026-11-24T12:00:00Z")
POLL = 2 * MINUTE
CALM = Memory(complete_until=NOW - MINUTE, asked_at=NOW - MINUTE, whole_at=NOW - MINUTE)


def limit(text: str) -> Problem:
    return Problem(Step.ANSWER, Then.WAIT, text, wait=31 * SECOND)


# ── windows ─────────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(0, 120 * DAY), st.integers(0, 120 * DAY) | st.none(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_windows_have_no_gap_and_are_never_refused(back: Ms, oldest: Ms | None, whole: bool) -> None:
    memory = replace(CALM, complete_until=NOW - back)
    needed = Open(None if oldest is None else NOW - oldest)
    found = graph.windows(memory, needed, whole, NOW)
    assert found
    assert found[-1].until == NOW // SECOND * SECOND
    for one, after in pairwise(found):
        assert one.until == after.since
    for one in found:
        assert 0 < one.until - one.since <= 10 * DAY - MINUTE
        assert one.since >= NOW - 90 * DAY
    assert {one.begins for one in found} == {found[0].since}
    assert [one.is_last for one in found] == [False] * (len(found) - 1) + [True]
    # Of what is open nothing is left out between what was answered for and now, unless it is too old.
    if oldest is not None:
        assert found[0].since <= max(NOW - back, NOW - oldest, NOW - graph.OLDEST)
    assert found[0].since <= NOW - SECOND


def test_the_first_window_begins_before_what_is_open() -> None:
    found = graph.windows(Memory(), Open(NOW - 12 * DAY), whole=True, now=NOW)
    assert len(found) == 2
    assert found[0].since <= NOW - 12 * DAY - graph.SLACK


def test_the_whole_window_goes_back_to_the_oldest_and_no_further_than_any_far_side_tries() -> None:
    near = graph.windows(CALM, Open(NOW - 5 * HOUR), whole=True, now=NOW)
    assert near[0].since == NOW - 5 * HOUR - graph.SLACK
    far = graph.windows(CALM, Open(NOW - 30 * DAY), whole=True, now=NOW)
    assert far[0].since == NOW - graph.REACH


def test_mail_that_waits_in_a_job_is_asked_for_however_old_it_is() -> None:
    needed = Open(NOW - HOUR, waiting=NOW - 25 * DAY, trouble=True)
    seen = replace(CALM, whole_since=NOW - DAY)
    assert graph.next_at(seen, needed, POLL, NOW) == (NOW, True), "the last look does not reach it yet"
    found = graph.windows(seen, needed, whole=True, now=NOW)
    assert found[0].since <= NOW - 25 * DAY - graph.SLACK
    for window in found:
        seen = graph.answered(seen, window, 1, NOW)
    assert graph.next_at(seen, needed, POLL, NOW)[0] > NOW


def test_a_round_counts_as_asked_with_its_last_window() -> None:
    found = graph.windows(Memory(), Open(NOW - 12 * DAY), whole=True, now=NOW)
    half = graph.answered(Memory(), found[0], 1, NOW)
    assert (half.asked_at, half.whole_at, half.complete_until) == (None, None, found[0].until)
    assert graph.answered(half, found[1], 1, NOW).whole_since == found[0].since


def test_after_a_long_time_only_what_may_be_open_is_read() -> None:
    asleep = replace(CALM, complete_until=NOW - 60 * DAY)
    assert graph.windows(asleep, Open(), whole=False, now=NOW)[0].since == NOW - HOUR
    assert (
        graph.windows(asleep, Open(NOW - 6 * DAY), whole=False, now=NOW)[0].since
        == NOW - 6 * DAY - graph.SLACK
    )
    assert graph.accepted_since(asleep, NOW) is None
    assert graph.accepted_since(CALM, NOW) == NOW - graph.REACH


def test_the_front_goes_back_as_far_as_rows_came_late_and_no_further_than_what_is_open() -> None:
    old, young = Open(NOW - 9 * HOUR), Open(NOW - 5 * MINUTE)
    assert graph.windows(CALM, old, whole=False, now=NOW)[0].since == NOW - MINUTE - HOUR
    late = replace(CALM, late=(0,) * 7 + (50,))
    assert graph.windows(late, old, whole=False, now=NOW)[0].since == NOW - MINUTE - 4 * HOUR
    assert graph.windows(late, young, whole=False, now=NOW)[0].since == NOW - 5 * MINUTE - graph.SLACK


def test_a_clock_ahead_of_graphs_asks_for_nothing_of_the_future() -> None:
    ahead = replace(CALM, ahead=90 * SECOND)
    assert graph.windows(ahead, Open(NOW), whole=False, now=NOW)[-1].until == NOW - 90 * SECOND


# ── when ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("memory", "needed", "after", "whole"),
    [
        pytest.param(Memory(), Open(), 0, False, id="never asked: now"),
        pytest.param(Memory(), Open(NOW - HOUR), 0, True, id="never asked, mail open: all of it"),
        pytest.param(CALM, Open(), IDLE - MINUTE, False, id="nothing open: seldom"),
        pytest.param(CALM, Open(NOW - HOUR), POLL - MINUTE, False, id="mail is open: each poll"),
        pytest.param(CALM, Open(NOW, trouble=True, turned_at=NOW - 2 * MINUTE), POLL - MINUTE, False, id="whole was asked since the gate turned"),
        pytest.param(CALM, Open(NOW, trouble=True, turned_at=NOW - 30 * SECOND), 0, True, id="a gate turned: the last look"),
        pytest.param(replace(CALM, whole_at=NOW - 5 * MINUTE), Open(NOW, trouble=True), 0, True, id="trouble: whole each 5 minutes"),
        pytest.param(replace(CALM, whole_at=NOW - 5 * MINUTE), Open(NOW), POLL - MINUTE, False, id="no trouble: seldom"),
        pytest.param(replace(CALM, whole_at=NOW - 15 * MINUTE), Open(NOW), 0, True, id="no trouble: each 15 minutes"),
        pytest.param(replace(CALM, whole_at=NOW - 10 * MINUTE, whole_pages=90), Open(NOW, trouble=True), POLL - MINUTE, False, id="a costly whole: less often"),
        pytest.param(replace(CALM, quiet_until=NOW + 7 * MINUTE), Open(NOW, trouble=True, turned_at=NOW), 7 * MINUTE, True, id="told to wait"),
        pytest.param(replace(CALM, asked_at=NOW + 5 * DAY), Open(NOW), 0, False, id="the clock was set back"),
        pytest.param(replace(CALM, whole_at=NOW + 5 * DAY), Open(NOW), 0, True, id="the clock was set back, whole"),
        pytest.param(replace(CALM, quiet_until=NOW + 5 * DAY), Open(NOW), HOUR, False, id="nobody makes us wait for ever"),
    ],
)  # fmt: skip
def test_when_to_ask(memory: Memory, needed: Open, after: Ms, whole: bool) -> None:
    at, everything = graph.next_at(memory, needed, POLL, NOW)
    assert (max(at - NOW, 0), everything) == (after, whole)


def test_asking_for_everything_takes_at_most_a_third_of_the_budget() -> None:
    for pages in (1, 30, 90, 400):
        memory = graph.answered(CALM, Window(NOW - DAY, NOW, True), pages, NOW)
        at, now = NOW, NOW
        whole = False
        while not whole:
            at, whole = graph.next_at(memory, Open(NOW, trouble=True), POLL, now)
            now = max(at, now + SECOND)
            memory = replace(memory, asked_at=now)
        assert pages / ((now - NOW) / BUDGET_SPAN) <= 31


# ── the budget ──────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.integers(0, 20 * SECOND), min_size=1, max_size=400))
@settings(max_examples=50, deadline=None)
def test_never_more_requests_than_the_budget_in_any_5_minutes(gaps: list[Ms]) -> None:
    memory, now, made = Memory(), NOW, list[Ms]()
    for gap in gaps:
        now = max(now + gap, graph.free_at(memory, 90, now + gap))
        assert graph.free(memory, 90, now) > 0
        memory = graph.requested(memory, now)
        memory = Memory.from_text(memory.to_text())  # a restart
        made.append(now)
    for i, at in enumerate(made):
        assert sum(1 for other in made[: i + 1] if at - other < BUDGET_SPAN) <= 90


def test_stamps_of_a_clock_that_was_set_back_still_end() -> None:
    memory = Memory(stamps=(NOW + DAY,) * 90)
    assert graph.free(memory, 90, NOW) == 0
    assert graph.free_at(memory, 90, NOW) == NOW + BUDGET_SPAN


def test_failures_wait_longer_each_time_and_an_answer_forgets_them() -> None:
    again = Problem(Step.ANSWER, Then.AGAIN, "HTTP 503")
    memory, waits = CALM, []
    for _ in range(8):
        memory = graph.failed(memory, again, NOW)
        waits.append(memory.quiet_until - NOW)
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (30 * SECOND, 15 * MINUTE)
    assert graph.failed(CALM, limit("429"), NOW).quiet_until == NOW + 31 * SECOND
    assert graph.failed(CALM, Problem(Step.TOKEN, Then.SETUP, "x"), NOW).quiet_until == NOW + 5 * MINUTE
    well = graph.answered(memory, Window(NOW - HOUR, NOW, False), 1, NOW)
    assert (well.failures, well.quiet_until, well.complete_until) == (0, 0, NOW)


@pytest.mark.parametrize("text", [None, "", "x", "[]", '{"late": [1]}', '{"stamps": "x"}', '{"other": 1}'])
def test_a_memory_that_cant_be_read_is_a_new_one(text: str | None) -> None:
    assert Memory.from_text(text) == Memory()


def test_a_memory_is_kept_whole() -> None:
    memory = replace(graph.requested(CALM, NOW), late=(1, 2, 3, 4, 5, 6, 7, 8), ahead=-5)
    assert Memory.from_text(memory.to_text()) == memory


# ── addresses and pages ─────────────────────────────────────────────────────────────────────────────


def test_a_filter_has_both_bounds_and_one_value_a_property() -> None:
    url = graph.list_url("https://graph.example/v1.0/", Window(NOW - HOUR, NOW, False), "203.0.113.25")
    text = unquote(url)
    assert text == (
        "https://graph.example/v1.0/admin/exchange/tracing/messageTraces?$filter=receivedDateTime ge "
        "2026-11-24T11:00:00Z and receivedDateTime le 2026-11-24T12:00:00Z and fromIP eq '203.0.113.25'&$top=5000"
    )
    assert not re.search(r"\b(or|in|ne|lt)\b", text.partition("$filter=")[2])
    assert " " not in url


def test_a_recipients_quotes_are_doubled() -> None:
    url = graph.details_url("https://g/v1.0", "b7c1", "o'neil+x@contoso.com")
    assert url.endswith("/b7c1/getDetailsByRecipient(recipientAddress='o%27%27neil%2Bx%40contoso.com')")


@pytest.mark.parametrize(
    "link",
    [
        "http://graph.example/v1.0/x",
        "https://graph.example:444/v1.0/x",
        "https://graph.example.evil.example/x",
        "https://graph.example@evil.example/x",
        "https://u:p@graph.example/x",
        "//evil.example/x",
        "https://[",
        "/v1.0/x",
        7,
    ],
)
def test_a_link_to_anywhere_else_is_not_followed(link: object) -> None:
    body = json.dumps({"value": [], "@odata.nextLink": link}).encode()
    assert isinstance(graph.page_of(body, "https://graph.example/v1.0/a", frozenset()), Problem)


def test_a_link_is_followed_as_it_stands() -> None:
    link = "https://graph.example/v1.0/a?$filter=x+ge+2026-11-23T00%3a00%3a00Z&$skiptoken=MjA%3d"
    body = json.dumps({"value": [], "@odata.nextLink": link}).encode()
    page = graph.page_of(body, "https://graph.example/v1.0/a", frozenset())
    assert isinstance(page, Page)
    assert page.following == link


@given(st.binary(max_size=300) | st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(["value", "@odata.nextLink", "id", "status", "recipientAddress", "event"]), x, max_size=4)).map(lambda x: json.dumps(x).encode()))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_any_body_is_a_page_or_a_problem(body: bytes) -> None:
    assert isinstance(graph.page_of(body, "https://g/a", frozenset()), Page | Problem)


# ── lateness ────────────────────────────────────────────────────────────────────────────────────────


def test_lateness_is_counted_where_it_is_known() -> None:
    rows = [NOW - 30 * SECOND, NOW - 4 * MINUTE, NOW - 9 * MINUTE, None, NOW + MINUTE]
    memory = graph.counted_late(Memory(), rows, NOW - 2 * MINUTE, NOW)
    assert memory.late == (1, 0, 1, 1, 0, 0, 0, 0)
    assert graph.counted_late(Memory(), [NOW - HOUR], NOW - 30 * MINUTE, NOW).late == Memory().late, (
        "we slept"
    )
    assert graph.counted_late(Memory(), rows, None, NOW).late == Memory().late, (
        "the first answer tells nothing"
    )


def test_how_late_rows_usually_are() -> None:
    assert Lateness().within(95) is None
    assert Lateness((0, 0, 95, 5, 0, 0, 0, 0)).within(95) == 5
    assert Lateness((0, 0, 94, 6, 0, 0, 0, 0)).within(95) == 10
    assert Lateness((0, 0, 0, 0, 0, 0, 0, 1)).within(50) == BEYOND


def test_the_past_fades() -> None:
    late = Lateness().with_spans([30 * SECOND] * 9_999)
    for _ in range(5):
        late = late.with_spans([20 * MINUTE] * 9_999)
    assert late.within(50) == 30
    assert late.total <= 10_000


def test_rows_are_beyond_a_span_only_where_that_is_sure_and_often() -> None:
    assert Lateness((0, 0, 0, 0, 18, 2, 0, 0)).is_beyond(15 * MINUTE)
    assert not Lateness((0, 0, 0, 0, 19, 1, 0, 0)).is_beyond(15 * MINUTE), "one in twenty"
    assert not Lateness((0, 0, 0, 0, 20, 0, 0, 0)).is_beyond(15 * MINUTE), "between 10 and 15"
    assert not Lateness((0, 0, 0, 0, 0, 19, 0, 0)).is_beyond(15 * MINUTE), "a few"
    assert not Lateness((20, 0, 0, 0, 0, 0, 0, 0)).is_beyond(3 * SECOND), "within a minute may be within 3 s"
