"""One line of a log → who wrote it, when, and what; in every form that Postfix's lines are kept in.

    syslog      Nov 24 05:27:20 mx postfix/smtp[11487]: …      also Postfix's own file, `journalctl`
    RFC 3339    2026-11-24T05:27:20.123456+00:00 mx postfix/smtp[11487]: …      also `-o short-iso`
    RFC 5424    <22>1 2026-11-24T05:27:20Z mx postfix/smtp 11487 - - …
    JSON        `journalctl -o json` and what collectors make of it; `-o export` comes here as fields
    bare        A0A252203A8: to=<…>, relay=…, status=deferred (…)      as people paste it

Promises: never raises; what some collector puts in front of a line does no harm.

Source: formats.md sections 1.1 and 1.2.
Limits: month names in English and German; of zones only offsets, UTC and the common abbreviations.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

from resubmit.model.moment import DAY, HOUR, Ms, from_datetime, to_datetime

LONGEST = 16_384
"""Characters of a line that are looked at: Postfix writes 2,000 bytes at most (formats.md 1.1)."""

DAEMONS = frozenset({
    "anvil", "bounce", "cleanup", "defer", "discard", "dnsblog", "error", "flush", "lmtp", "local", "master",
    "nqmgr", "oqmgr", "pickup", "pipe", "postdrop", "postfix-script", "postlog", "postqueue", "postscreen",
    "postsuper", "proxymap", "qmgr", "qmqpd", "retry", "scache", "sendmail", "showq", "smtp", "smtpd",
    "spawn", "tlsmgr", "tlsproxy", "trace", "trivial-rewrite", "verify", "virtual",
})  # fmt: skip

_PID = re.compile(r"\[(?P<pid>\d{1,10})\]:?\s+")
_TAG = re.compile(r"(?:.*[^\w./+@-])?(?P<tag>[\w.+@-]+(?:/[\w.+@-]+)*)", re.DOTALL)
_TAG_ALONE = re.compile(r"(?<![\w/])(?P<tag>[\w.-]*postfix[\w.-]*(?:/[\w.-]+)+):\s+")
_RFC5424 = re.compile(
    r"(?:<\d{1,3}>)?1 (?P<stamp>\S+) (?P<host>\S+) (?P<tag>\S+) (?P<pid>\S+) \S+ (?:-|(?:\[[^\]]*\])+) ?"
    r"(?P<text>.*)",
    re.DOTALL,
)
_SOLARIS = re.compile(r"\[ID \d+ \w+\.\w+\] ")
_COLOUR = re.compile(r"\x1b\[[\d;]*[A-Za-z]")
BARE = re.compile(
    r"\s*(?:[A-Za-z0-9_]{1,30}: ?)?(?:to=<.*, (?:relay|status)=.*\bstatus=\w+)"
    r"|\s*(?:[0-9A-F]{6,16}|[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{11,25}): "
    r"(?:client=|uid=\d|message-id=|from=<|to=<|removed\b)"
)

_ISO = re.compile(
    r"(?P<year>\d{4})[-/](?P<month>\d\d)[-/](?P<day>\d\d)[T ](?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
    r"(?:[.,](?P<fraction>\d{1,9}))?(?P<zone>Z| ?[+-]\d\d:?\d\d\b| (?:UTC|GMT|[A-Z]{3,4}(?= \S+ ?$)))?"
)
_BSD = re.compile(
    r"\b(?P<month>Jan|Feb|M[aäA]r|Mrz|Apr|Ma[yi]|Jun|Jul|Aug|Sep|O[ck]t|Nov|De[cz])\.? {1,2}(?P<day>\d{1,2})"
    r"(?: (?P<year>\d{4}))? (?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?"
    r"(?: (?P<year2>20\d\d)(?= ))?"
)
_EPOCH = re.compile(r"(?:^|\s|\[)(?P<seconds>\d{9,10})\.(?P<fraction>\d{1,9})\]?(?=\s|$)")
_MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "mär": 3, "mrz": 3, "apr": 4, "may": 5, "mai": 5, "jun": 6, "jul": 7,
    "aug": 8, "sep": 9, "oct": 10, "okt": 10, "nov": 11, "dec": 12, "dez": 12,
}  # fmt: skip
_ABBREVIATIONS = {
    "WET": 0, "WEST": 1, "BST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "MSK": 3, "JST": 9,
    "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
}  # fmt: skip
SLACK: Ms = 14 * HOUR
"""How far a stamp may lie ahead: the widest zone a log may be written in."""
_BACK: Ms = 2 * DAY
"""How far a line may lie behind the one before it without being a year later."""

_SILENCE: Ms = 180 * DAY
"""How long a log may have been silent for its next line to be of another year."""

_TEXT_KEYS = ("MESSAGE", "message", "msg", "log", "@message", "event")
_NAME_KEYS = (
    "SYSLOG_IDENTIFIER", "syslog_identifier", "programname", "program", "syslogtag", "syslog-tag",
    "app-name", "appname", "ident", "tag", "process",
)  # fmt: skip
_PID_KEYS = ("SYSLOG_PID", "_PID", "syslog_pid", "procid", "pid")
_HOST_KEYS = ("_HOSTNAME", "hostname", "host", "HOSTNAME")
_TIME_KEYS = ("timestamp", "@timestamp", "timereported", "time", "ts", "date")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of Postfix. at: None where it carries no time; daemon: behind the last `/` of its name."""

    at: Ms | None
    host: str
    daemon: str
    pid: str
    text: str


class NoLine(ValueError):
    """What is no line of any log."""


class Stamps:
    """Times of one log, in its order: syslog's stamps have neither year nor zone.

    The year is the first in which a stamp does not lie behind the one before it, never one that is still to
    come. last: the time of the line before. first_year: of the first such stamp, where it was found out.
    grows: the log is being written, so that `now` is a time that has passed.
    """

    def __init__(self, zone: tzinfo, now: Ms | None, *, grows: bool = False) -> None:
        self._zone = zone
        self._now = now
        self._grows = grows
        self.last: Ms | None = None
        self._hour: tuple[str, str, str] | None = None
        self._hour_at: Ms = 0
        self.first_year: int | None = None

    def read(self, text: str) -> tuple[Ms | None, int]:
        """The time a line's front says, and where the stamp ends in it (0: there is none)."""
        end = 0
        at: Ms | None = None
        for stamp in (_ISO, _BSD, _EPOCH):
            found = stamp.search(text)
            if found is None:
                continue
            end = max(end, found.end())
            if at is None:
                at = self._of(stamp, found)
        if at is not None:
            self.last = at
        return at, end

    def iso(self, text: str) -> Ms | None:
        """The time of an RFC 3339 text."""
        return self.read(text[:64])[0]

    def _of(self, stamp: re.Pattern[str], found: re.Match[str]) -> Ms | None:
        micros = int((found["fraction"] or "0")[:6].ljust(6, "0"))
        if stamp is _EPOCH:
            return int(found["seconds"]) * 1000 + micros // 1000
        clock = int(found["hour"]), int(found["minute"]), int(found["second"])
        if stamp is _ISO:
            zone = _zone(found["zone"])
            return self._at(int(found["year"]), int(found["month"]), int(found["day"]), clock, micros, zone)
        said = found["year"] or found["year2"]
        month, day = _MONTHS[found["month"].lower()], int(found["day"])
        if said:
            return self._at(int(said), month, day, clock, micros, None)
        # Nearly every line is of the same hour as the one before.
        hour = found["month"], found["day"], found["hour"]
        at = self._hour_at + (clock[1] * 60 + min(clock[2], 59)) * 1000 + micros // 1000
        if hour == self._hour and self.last is not None and abs(at - self.last) < HOUR // 2:
            return at
        found_at = self._of_year(month, day, clock, micros)
        self._hour = hour if found_at is not None else None
        self._hour_at = (found_at or 0) - (clock[1] * 60 + min(clock[2], 59)) * 1000 - micros // 1000
        return found_at

    def _of_year(self, month: int, day: int, clock: tuple[int, int, int], micros: int) -> Ms | None:
        """The time in the year that fits best."""
        years = self._years()
        times = [at for year in years if (at := self._at(year, month, day, clock, micros, None)) is not None]
        if self._now is not None:
            latest = max(self._now + SLACK, (self.last or 0) + (_SILENCE if self._grows else 0))
            times = [at for at in times if at <= latest] or times[:1]
        if not times:
            return None
        if self.last is None:
            return times[-1]
        return next((at for at in times if at >= self.last - _BACK), times[-1])

    def _years(self) -> range:
        """The years a stamp may be of, in order."""
        if self.last is not None:
            year = to_datetime(self.last).year
            return range(year - 1, year + 2)
        if self.first_year is not None:
            return range(self.first_year, self.first_year + 1)
        if self._now is None:
            return range(0)
        year = to_datetime(self._now).year
        return range(year - 8, year + 2)

    def _at(
        self,
        year: int,
        month: int,
        day: int,
        clock: tuple[int, int, int],
        micros: int,
        zone: tzinfo | None,
    ) -> Ms | None:
        try:
            when = datetime(
                year, month, day, clock[0], clock[1], min(clock[2], 59), micros, zone or self._zone
            )
            first, second = from_datetime(when), from_datetime(when.replace(fold=1))
        except (ValueError, OverflowError):
            return None
        # The hour that comes twice in autumn: order in the log says which one it is.
        later = first < second and self.last is not None and self.last - first > HOUR // 2
        return second if later else first


def _zone(said: str | None) -> tzinfo | None:
    """None: the log's own zone."""
    word = (said or "").strip()
    if not word:
        return None
    if word in ("Z", "UTC", "GMT"):
        return UTC
    if word[0] in "+-":
        span = timedelta(hours=int(word[1:3]), minutes=int(word[-2:]))
        try:
            return timezone(-span if word[0] == "-" else span)
        except ValueError:
            return None
    return timezone(timedelta(hours=_ABBREVIATIONS[word])) if word in _ABBREVIATIONS else None


def decoded(line: bytes) -> str:
    """A line's text: UTF-8, else Latin-1; without colours, BOM and line end."""
    line = line[: LONGEST * 4].rstrip(b"\r\n\0")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        text = line.decode("latin-1")
    if "\x1b" in text:
        text = _COLOUR.sub("", text)
    if "to=&lt;" in text:  # copied from a page's source
        text = html.unescape(text)
    return text.lstrip("\ufeff")[:LONGEST]


def parse(text: str, stamps: Stamps) -> Line | None:
    """A line of Postfix; None: of another program, or nothing. Raises NoLine for what is no line of a log."""
    stripped = text.strip()
    if stripped.startswith("{"):
        return _of_json(stripped, stamps)
    if not any(character.isalnum() for character in stripped) or stripped.startswith("-- "):
        return None
    new = _RFC5424.match(stripped)
    if new is not None:
        at = stamps.iso(new["stamp"])
        return _line(at, new["host"], new["tag"], new["pid"], new["text"].lstrip("\ufeff"))
    for begins, ends, tag, pid in _processes(text[:600]):
        if _is_ours(tag):
            at, end = stamps.read(text[:begins])
            rest = text[end:begins].split()
            return _line(at, rest[0] if rest and end else "", tag, pid, text[ends:])
    if BARE.match(text):
        return Line(None, "", "", "", stripped)
    at, end = stamps.read(text[:200])
    if not end:
        raise NoLine("this is no line of a log")
    return None


def _processes(front: str) -> Iterator[tuple[int, int, str, str]]:
    """What may be the name of the program that wrote a line: where it begins and its text, name and pid."""
    some = False
    for number, found in enumerate(_PID.finditer(front)):
        if number == 3:
            return
        word = front[: found.start()].rpartition(" ")[2]
        named = _TAG.fullmatch(word)
        if named is not None:
            some = True
            yield found.start() - len(named["tag"]), found.end(), named["tag"], found["pid"]
    if not some and (alone := _TAG_ALONE.search(front)):
        yield alone.start(), alone.end(), alone["tag"], ""


def _is_ours(tag: str) -> bool:
    return tag.rpartition("/")[2] in DAEMONS or "postfix" in tag.lower()


def _line(at: Ms | None, host: str, tag: str, pid: str, text: str) -> Line | None:
    if not _is_ours(tag):
        return None
    if text.startswith("[ID "):
        text = _SOLARIS.sub("", text, count=1)
    return Line(at, host, tag.rpartition("/")[2], pid if pid.isdigit() else "", text.strip())


def _of_json(text: str, stamps: Stamps) -> Line | None:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise NoLine("the JSON object can't be read") from None
    if not isinstance(fields, dict):
        raise NoLine("this is no line of a log")
    return of_fields(fields, stamps)


def of_fields(fields: Mapping[str, Any], stamps: Stamps) -> Line | None:
    """A line from the fields that journald or a collector keeps of it."""
    text = _string(_first(fields, _TEXT_KEYS))
    at = _journal_time(fields)
    if at is None:
        at = stamps.iso(_string(_first(fields, _TIME_KEYS)))
    else:
        stamps.last = at
    host = _string(_first(fields, _HOST_KEYS))
    name = _string(_first(fields, _NAME_KEYS)).strip().rstrip(":")
    pid = _string(_first(fields, _PID_KEYS))
    tagged = re.fullmatch(r"(.*)\[(\d+)\]", name)
    if tagged:
        name, pid = tagged[1], tagged[2]
    line = _line(at, host, name, pid, text) if name else None
    if line is not None or not text or text.lstrip().startswith("{"):
        return line
    try:
        inner = parse(text[:LONGEST], stamps)
    except NoLine:
        return None
    if inner is None or inner.at is not None:
        return inner
    return Line(at, inner.host or host, inner.daemon, inner.pid, inner.text)


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((fields[name] for name in names if fields.get(name) not in (None, "")), "")


def _string(value: Any) -> str:
    """A field's text: journald gives what is not UTF-8 as numbers, and several values as a list."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return decoded(value)
    if isinstance(value, list):
        if value and all(isinstance(one, int) and 0 <= one < 256 for one in value):
            return decoded(bytes(value))
        return _string(value[0]) if value and isinstance(value[0], str) else ""
    return str(value) if isinstance(value, int) else ""


def _journal_time(fields: Mapping[str, Any]) -> Ms | None:
    for name in ("_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP"):
        said = _string(fields.get(name, ""))
        if 14 <= len(said) <= 17 and said.isascii() and said.isdigit():
            return int(said) // 1000
    return None
