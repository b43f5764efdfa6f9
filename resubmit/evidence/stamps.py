"""Times as admin machines print them: ISO, or in the machine's culture and without a zone.

Day and month are told apart for a whole file, since one file never mixes cultures: by a value above 12,
else by what would lie in the future, else by our own attempts, else by the order of the rows.

Source: microsoft.md section 2.4; design, section 6.2.
Limits: Gregorian years 1990 to 2100; month names in English; the first of two equal local times in autumn.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from statistics import median

from resubmit.model.moment import DAY, HOUR, Ms, from_datetime

_SPACES = str.maketrans({"\u202f": " ", "\u00a0": " ", "\u200e": None, "\u200f": None})
_ZONE = r"\s*(?P<zone>Z|UTC|GMT|\(UTC\)|[+-]\d\d:?\d\d)?"
_CLOCK = r"(?P<hour>\d{1,2})[:.](?P<minute>\d\d)(?:[:.](?P<second>\d\d)(?:[.,](?P<fraction>\d{1,12}))?)?"
_HALF = r"\s*(?P<half>[ap]\.?\s?m\.?|午前|午後|上午|下午|오전|오후)?"
_ISO = re.compile(
    r"\s*(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)(?:[T ]" + _CLOCK + ")?" + _ZONE + r"\s*", re.IGNORECASE
)
_NUMERIC = re.compile(
    r"\s*(?P<a>\d{1,4})(?P<mark>[./-])\s?(?P<b>\d{1,2})(?P=mark)\s?(?P<c>\d{1,4})\.?"
    r"(?:[,T\s]+(?P<first>午前|午後|上午|下午|오전|오후)?\s*" + _CLOCK + _HALF + ")?" + _ZONE + r"\s*",
    re.IGNORECASE,
)
_NAMES = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_NAMED = re.compile(
    r"\s*(?:[a-z]{3,9},?\s+)?(?:(?P<d1>\d{1,2})[\s-](?P<m1>[a-z]{3})[a-z]*\.?[\s,-]+(?P<y1>\d{4})"
    r"|(?P<m2>[a-z]{3})[a-z]*\.?\s+(?P<d2>\d{1,2}),?\s+(?P<y2>\d{4}))"
    r"(?:(?:,|\s+at)?\s+" + _CLOCK + _HALF + ")?" + _ZONE + r"\s*",
    re.IGNORECASE,
)
_AFTERNOON = ("p", "午後", "下午", "오후")
_SLACK = 14 * HOUR
"""How far a stamp may lie ahead without being the future: the widest zone a file may be printed in."""
_CLEARLY_NEAR = 36 * HOUR
_SAMPLES = 2_048
_CLEAR = 100
_LONGEST = 64


@dataclass(frozen=True, slots=True)
class Culture:
    """How a file's stamps are read: `day_first` where a mark leaves it open, `zone` where none is said."""

    zone: tzinfo = UTC
    day_first: bool = False

    def parse(self, text: str, *, utc: bool = False) -> Ms:
        """The time a stamp says. utc: its column says that it is UTC. ValueError when it says none."""
        return _parse(text, UTC if utc else self.zone, self.day_first)


def _parse(text: str, zone: tzinfo, day_first: bool) -> Ms:
    if len(text) > _LONGEST:
        raise ValueError(f"{text[:_LONGEST]!r}… is not a time")
    found = _ISO.fullmatch(text)
    if found:
        date = int(found["year"]), int(found["month"]), int(found["day"])
        return _at(date, found, "", zone)
    clean = text.translate(_SPACES)
    found = _NUMERIC.fullmatch(clean)
    if found:
        a, b = int(found["a"]), int(found["b"])
        if len(found["a"]) == 4:
            date = a, b, int(found["c"])
        elif found["mark"] == "." or day_first:
            date = _full(found["c"]), b, a
        else:
            date = _full(found["c"]), a, b
        return _at(date, found, found["first"] or found["half"] or "", zone)
    found = _NAMED.fullmatch(clean)
    if found and (found["m1"] or found["m2"]).lower() in _NAMES:
        month = _NAMES.index((found["m1"] or found["m2"]).lower()) + 1
        date = int(found["y1"] or found["y2"]), month, int(found["d1"] or found["d2"])
        return _at(date, found, found["half"] or "", zone)
    raise ValueError(f"{text!r} is not a time")


def _full(year: str) -> int:
    return int(year) + (2000 if len(year) == 2 else 0)


def _at(date: tuple[int, int, int], found: re.Match[str], half: str, zone: tzinfo) -> Ms:
    hour, minute = int(found["hour"] or 0), int(found["minute"] or 0)
    if half and hour <= 12:
        hour = hour % 12 + (12 if half.lower().startswith(_AFTERNOON) else 0)
    if not 1990 <= date[0] <= 2100:
        raise ValueError(f"{found[0].strip()!r} is not a time of mail")
    micros = int((found["fraction"] or "0")[:6].ljust(6, "0"))
    said = found["zone"]
    if said:
        zone = UTC if said[0] not in "+-" else _offset(said)
    try:
        return from_datetime(datetime(*date, hour, minute, int(found["second"] or 0), micros, tzinfo=zone))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{found[0].strip()!r} is not a time: {error}") from None


def _offset(said: str) -> timezone:
    hours, minutes = int(said[1:3]), int(said[-2:])
    span = timedelta(hours=hours, minutes=minutes)
    return timezone(-span if said[0] == "-" else span)


def is_open(text: str) -> bool:
    """Whether a stamp's day and month can't be told apart by its form alone."""
    found = _NUMERIC.fullmatch(text.translate(_SPACES)) if len(text) <= _LONGEST else None
    return bool(found and found["mark"] != "." and len(found["a"]) != 4)


@dataclass(slots=True)
class _Reading:
    """One way to read the file's stamps, as far as it was seen."""

    latest: Ms = 0
    last: Ms | None = None
    rising: bool = True
    falling: bool = True
    days: set[int] = field(default_factory=set)
    samples: list[Ms] = field(default_factory=list)

    def add(self, at: Ms, sample: bool) -> None:
        self.latest = max(self.latest, at)
        if self.last is not None:
            self.rising = self.rising and at >= self.last
            self.falling = self.falling and at <= self.last
        self.last = at
        if len(self.days) < 3:
            self.days.add(at // DAY)
        if sample:
            self.samples.append(at)

    @property
    def ordered(self) -> bool:
        return len(self.days) >= 3 and (self.rising or self.falling)

    def distance(self, near: list[Ms]) -> float:
        """How far its stamps lie from the nearest of some times, in the middle."""
        return median(_nearest(at, near) for at in self.samples) if self.samples else 0.0


def _nearest(at: Ms, near: list[Ms]) -> Ms:
    i = bisect_left(near, at)
    return min(abs(at - other) for other in near[max(0, i - 1) : i + 1])


class Survey:
    """Looks at all stamps of a file, in constant memory, and then says its culture."""

    def __init__(self, zone: tzinfo) -> None:
        self.zone = zone
        self._seen = 0
        self._only_day = 0
        self._only_month = 0
        self._readings = {False: _Reading(), True: _Reading()}

    def add(self, text: str) -> None:
        """One stamp of a column whose zone and form are the culture's."""
        found = _NUMERIC.fullmatch(text.translate(_SPACES)) if len(text) <= _LONGEST else None
        if not found or found["mark"] == "." or len(found["a"]) == 4:
            return
        times: dict[bool, Ms] = {}
        for day_first in (False, True):
            try:
                times[day_first] = _parse(text, self.zone, day_first)
            except ValueError:
                continue
        if len(times) == 1:
            if True in times:
                self._only_day += 1
            else:
                self._only_month += 1
        elif times:
            # Sampled evenly enough over any length: every one, later one in 64.
            sample = self._seen < _SAMPLES // 2 or (
                self._seen % 64 == 0 and len(self._readings[True].samples) < _SAMPLES
            )
            self._seen += 1
            for day_first, at in times.items():
                self._readings[day_first].add(at, sample)

    @property
    def is_clear(self) -> bool:
        """Whether values above 12 have said it often enough that the rest need not be seen."""
        return abs(self._only_day - self._only_month) >= _CLEAR

    def decide(self, near: tuple[Ms, ...], now: Ms | None) -> Culture:
        """The culture all of it was printed in."""
        return Culture(self.zone, self._day_first(sorted(near), now))

    def _day_first(self, near: list[Ms], now: Ms | None) -> bool:
        if self._only_day != self._only_month:
            return self._only_day > self._only_month
        month, day = self._readings[False], self._readings[True]
        if not self._seen or (month.days == day.days and month.latest == day.latest and not self._differ()):
            return False
        if now is not None:
            ahead = {first: r.latest > now + _SLACK for first, r in self._readings.items()}
            if ahead[False] != ahead[True]:
                return ahead[False]
        # Before the order of the rows, so that a file split or shuffled is read as the whole one was.
        if near:
            far = {first: r.distance(near) > _CLEARLY_NEAR for first, r in self._readings.items()}
            if far[False] != far[True]:
                return far[False]
        if month.ordered != day.ordered:
            return day.ordered
        others = near or ([now] if now is not None else [])
        return bool(others) and day.distance(others) < month.distance(others)

    def _differ(self) -> bool:
        return self._readings[False].samples != self._readings[True].samples
