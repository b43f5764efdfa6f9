"""Times and spans: one whole number of milliseconds, and the texts people type for it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resubmit.model import moment
from resubmit.model.moment import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    from_datetime,
    local_text,
    parse_rfc3339,
    parse_span,
    parse_when,
    rfc3339,
    span_config,
    span_text,
    to_datetime,
)

NOW = parse_rfc3339("2026-11-24T12:30:00Z")
BERLIN = ZoneInfo("Europe/Berlin")
TIMES = st.integers(0, 4_000_000_000_000)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", 90 * SECOND),
        ("15m", 15 * MINUTE),
        ("1d12h", DAY + 12 * HOUR),
        ("500ms", 500),
        ("1.5h", 90 * MINUTE),
        (" 2H ", 2 * HOUR),
        ("1w", 7 * DAY),
    ],
)
def test_spans_are_read(text: str, span: int) -> None:
    assert parse_span(text) == span


@pytest.mark.parametrize("text", ["", "15", "m", "-1h", "1 h", "1y", "1h-", "1h 2m", "١h x"])
def test_what_is_no_span_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="90s, 15m, 24h"):
        parse_span(text)


@given(st.integers(0, 400 * DAY))
def test_a_span_in_a_config_is_exact(span: int) -> None:
    assert parse_span(span_config(span)) == span


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (0, "0s"),
        (42 * SECOND, "42s"),
        (15 * MINUTE, "15m"),
        (3 * DAY + 4 * HOUR + 5 * MINUTE, "3d 4h"),
        (-5 * MINUTE, "-5m"),
        (HOUR + SECOND, "1h"),
        (999, "999ms"),
    ],
)
def test_spans_are_told_in_two_units_at_most(span: int, text: str) -> None:
    assert span_text(span) == text


@given(TIMES)
def test_a_time_survives_rfc_3339(at: int) -> None:
    text = rfc3339(at)
    assert text is not None
    assert text.endswith("Z")
    assert parse_rfc3339(text) == at
    assert from_datetime(to_datetime(at)) == at


def test_more_digits_than_milliseconds_are_cut() -> None:
    assert parse_rfc3339("2026-11-24T12:30:00.123456789Z") == NOW + 123
    assert parse_rfc3339("2026-11-24T13:30:00+01:00") == NOW
    assert rfc3339(None) is None


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        parse_rfc3339("2026-11-24T12:30:00")
    with pytest.raises(ValueError, match="zone"):
        from_datetime(datetime(2026, 11, 24))


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("90s", "2026-11-24T12:28:30Z"),
        ("1d12h", "2026-11-23T00:30:00Z"),
        ("now", "2026-11-24T12:30:00Z"),
        ("today", "2026-11-23T23:00:00Z"),
        ("yesterday", "2026-11-22T23:00:00Z"),
        ("13:00", "2026-11-24T12:00:00Z"),
        ("14:00", "2026-11-23T13:00:00Z"),
        ("2026-11-20", "2026-11-19T23:00:00Z"),
        ("2026-07-01T08:00", "2026-07-01T06:00:00Z"),
        ("2026-11-20T08:00:00Z", "2026-11-20T08:00:00Z"),
        ("2026-11-20T08:00:00+02:00", "2026-11-20T06:00:00Z"),
    ],
)
def test_what_people_type_is_local_unless_it_says_otherwise(text: str, utc: str) -> None:
    assert rfc3339(parse_when(text, NOW, BERLIN)) == utc.replace("Z", ".000Z")


@pytest.mark.parametrize("text", ["", "soon", "25:00", "2026-13-01", "24.11.2026"])
def test_what_is_no_time_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_when(text, NOW, BERLIN)


@given(TIMES, st.integers(-14, 14))
def test_a_clock_time_is_never_in_the_future(now: int, hours: int) -> None:
    zone = timezone(timedelta(hours=hours))
    when = parse_when("12:00", now, zone)
    assert now - DAY < when <= now


def test_local_text_names_its_zone() -> None:
    assert local_text(NOW, BERLIN) == "2026-11-24 13:30:00 CET"


def test_units_are_milliseconds() -> None:
    assert (moment.SECOND, moment.MINUTE, moment.HOUR, moment.DAY) == (1000, 60_000, 3_600_000, 86_400_000)
