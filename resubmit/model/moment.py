"""Times and spans as whole milliseconds.

Inside, a time (`…_at`) is milliseconds since 1970 in UTC and a span (`…_for`, `…_after`) is milliseconds:
one plain number from the socket to the SQL, so nothing is converted on the way and none can be naive.
Outside, JSON shows RFC 3339 in UTC and people see local time with its zone.

Limits: leap seconds are not told apart (POSIX time).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TypeAlias

Ms: TypeAlias = int
"""Milliseconds: since 1970 UTC for a time, or of a span."""

SECOND: Ms = 1_000
MINUTE: Ms = 60 * SECOND
HOUR: Ms = 60 * MINUTE
DAY: Ms = 24 * HOUR

_UNITS = {"ms": 1, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_SPAN_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


def parse_span(text: str) -> Ms:
    """`90s`, `15m`, `2h`, `1d12h`, `500ms` → milliseconds. ValueError says what is allowed."""
    text = text.strip().lower()
    if not _SPAN.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration; write it like 90s, 15m, 24h or 1d12h")
    return round(sum(float(number) * _UNITS[unit] for number, unit in _SPAN_PART.findall(text)))


def span_text(span: Ms) -> str:
    """A span for people, two units at the most: `3d 4h`, `15m`, `42s`, `-5m` when it has passed."""
    sign, left = ("-", -span) if span < 0 else ("", span)
    if left < SECOND:
        return f"{sign}{left}ms" if left else "0s"
    parts: list[str] = []
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return sign + " ".join(parts)


def span_config(span: Ms) -> str:
    """A span as a config would hold it, exact: `24h`, `90s`, `1500ms`."""
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND)):
        if span and span % size == 0 and (unit != "d" or span > DAY):
            return f"{span // size}{unit}"
    return f"{span}ms" if span else "0s"


def from_datetime(when: datetime) -> Ms:
    """An aware datetime → milliseconds since 1970 UTC. ValueError for a naive one."""
    if when.tzinfo is None:
        raise ValueError("a time without a zone")
    return (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def to_datetime(at: Ms) -> datetime:
    """Milliseconds since 1970 → aware UTC datetime."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)


def rfc3339(at: Ms | None) -> str | None:
    """RFC 3339 in UTC with milliseconds, for JSON; None stays None."""
    return None if at is None else to_datetime(at).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at % 1000:03d}Z"


def parse_rfc3339(text: str) -> Ms:
    """RFC 3339 / ISO 8601 with a zone, any number of fractional digits → milliseconds.

    ValueError when it is no such time or has no zone.
    """
    text = re.sub(r"(\.\d{6})\d+", r"\1", text.strip())
    return from_datetime(datetime.fromisoformat(text))


def local_text(at: Ms, zone: tzinfo | None = None) -> str:
    """Local time for people, with its zone: `2026-11-24 03:12:07 CET`."""
    return to_datetime(at).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def parse_when(text: str, now: Ms, zone: tzinfo | None = None) -> Ms:
    """What a person types for a time: a span ago, `today`, `yesterday`, `HH:MM`, a date, RFC 3339.

    Without a zone it is local (`zone`, else the machine's). `HH:MM` is the last time the clock showed it.
    Raises ValueError with the allowed forms.
    """
    word = text.strip()
    if _SPAN.fullmatch(word.lower()):
        return now - parse_span(word)
    local_now = to_datetime(now).astimezone(zone)
    midnight = local_now.replace(hour=0, minute=0, second=0, microsecond=0)
    if word.lower() == "now":
        return now
    if word.lower() == "today":
        return from_datetime(midnight)
    if word.lower() == "yesterday":
        day = midnight.replace(tzinfo=None) - timedelta(days=1)
        return _localised(day, zone)
    if clock := _CLOCK.fullmatch(word):
        at = midnight.replace(hour=int(clock[1]), minute=int(clock[2]))
        if from_datetime(at) > now:
            return _localised(at.replace(tzinfo=None) - timedelta(days=1), zone)
        return from_datetime(at)
    try:
        when = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", word))
    except ValueError:
        raise ValueError(
            f"{text!r} is not a time; write 6h or 1d12h (ago), today, yesterday, 14:30, "
            "2026-11-24, 2026-11-24T14:30 or an RFC 3339 time"
        ) from None
    return from_datetime(when) if when.tzinfo else _localised(when, zone)


def _localised(naive: datetime, zone: tzinfo | None) -> Ms:
    return from_datetime(naive.replace(tzinfo=zone) if zone else naive.astimezone())
