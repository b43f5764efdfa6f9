"""Lines of the IIS SMTP service's log in its three forms → rows of one kind.

    W3C     #Fields: date time c-ip cs-username … cs-method cs-uri-stem cs-uri-query sc-status …
    NCSA    192.0.2.4 - OutboundConnectionResponse [18/Aug/2026:13:17:37 -0600] "- -?250+OK SMTP" 0 6
    IIS     10.3.5.1, app01, 8/18/26, 13:17:37, SMTPSVC1, MAIL01, 10.200.200.1, 90, 42, 0, 250, 0, MAIL, -, …

Source: formats.md section 4; Microsoft's pages on protocol logs of the SMTP service.
Limits: a blank is logged as `+`, so that a plus outside an address can't be told from it; stamps of the IIS
form are the machine's local time in its culture; W3C without a date goes by the `#Date` above it.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from resubmit.evidence.stamps import Culture
from resubmit.model.moment import DAY, HOUR, Ms

COMMAND, RESPONSE = "OutboundConnectionCommand", "OutboundConnectionResponse"
_FULL = """date time c-ip cs-username s-sitename s-computername s-ip s-port cs-method cs-uri-stem cs-uri-query
sc-status sc-win32-status sc-bytes cs-bytes time-taken cs-version cs-host cs(user-agent) cs(cookie)
cs(referer)"""
_SHORT = """c-ip cs-username s-sitename s-computername s-ip s-port cs-method cs-uri-query sc-win32-status
cs-bytes cs-version cs(user-agent) cs(referer)"""
LAYOUTS = {len(names): names for names in (_FULL.split(), _SHORT.split())}
"""The columns of W3C rows without a header by their number: all, and those ticked by default in IIS 7."""

NO_QUERY = "the log has no cs-uri-query: without that property it holds no address and no reply"
VERBS = "HELO|EHLO|MAIL|RCPT|DATA|BDAT|RSET|QUIT|NOOP|VRFY|AUTH|STARTTLS|X-EXPS|XEXCH50|TLS|xxxx"
_NCSA = re.compile(
    r"(?P<peer>\S+) (?P<ident>\S+) (?P<user>\S+) "
    r"\[(?P<stamp>\d{1,2}/\w{3}/\d{4}:[\d:]+) *(?P<zone>[+-] ?\d{4})?\] \""
)
_REQUEST = re.compile(
    r"(?P<verb>[A-Za-z0-9-]+)(?: (?:FROM|TO)\b:?)? +(?P<stem>[^\s?]*)"
    r"(?:\?(?P<query>.*?))?(?: (?:SMTP|HTTP/[\d.]+))?$",
    re.DOTALL,
)
_IIS = re.compile(
    r"[0-9A-Fa-f.:]+, [^,]*, \d[\d./-]*, \d{1,2}:\d\d:\d\d(?: [AP]M)?, SMTPSVC\d*, ", re.IGNORECASE
)
_W3C_ROW = re.compile(rf"(?:\S+ )*SMTPSVC\d* |(?:\S+ )*(?:{COMMAND}|{RESPONSE}) ")
_KEPT = re.compile(r"<[^<>]*@[^<>]*>|ORCPT=[\w-]+;[^+\s]*(?:\+[0-9A-F]{2}[^+\s]*)*", re.IGNORECASE)


class NoRow(ValueError):
    """A line that is no row of such a log."""


@dataclass(frozen=True, slots=True)
class Line:
    """One row. way: `in`, or for what this server sends `command` and `response`. words: the command with its
    parameters, or the reply; code: how an inbound command was answered, 0 for not said."""

    way: str
    at: Ms | None
    peer: str
    user: str
    server: str
    verb: str
    words: str
    code: int
    octets: int | None


def is_smtp(line: str) -> bool:
    """Whether a row is one of the SMTP service: web servers write the same forms."""
    if _IIS.match(line) or (_W3C_ROW.match(line) and "W3SVC" not in line):
        return True
    parts = _ncsa(line)
    if parts is None:
        return False
    request = _REQUEST.match(parts[1])
    if parts[0]["user"] in (COMMAND, RESPONSE):
        return True
    if request is None or not re.fullmatch(VERBS, request["verb"]):
        return False
    return parts[1].endswith(" SMTP") or request["stem"] == "-"


def _ncsa(line: str) -> tuple[re.Match[str], str, str, str] | None:
    """What stands before the request of an NCSA line, the request, its status and its octets."""
    found = _NCSA.match(line)
    if found is None:
        return None
    # From its end: a reply may hold quotes, and the last one may be missing.
    rest = line[found.end() :].rsplit(None, 2)
    if len(rest) != 3 or not rest[1].isdigit() or not (rest[2] == "-" or rest[2].isdigit()):
        return None
    return found, rest[0].removesuffix('"'), rest[1], rest[2]


class Reader:
    """Reads lines; a W3C log's columns and date go by its latest header."""

    def __init__(self, culture: Culture) -> None:
        self.culture = culture
        self.columns: list[str] = []
        self.day: Ms | None = None
        self.begun: Ms | None = None
        """The time of the latest header."""
        self.clock: Ms = 0
        """The time of day of the latest row, for rows without a date."""

    def header(self, line: str) -> str:
        """A line that begins with `#`; what is to be said of it, "" for nothing."""
        name, _, value = line[1:].partition(":")
        if name.lower() == "fields":
            self.columns = value.lower().split()
            if self.columns and "cs-uri-query" not in self.columns:
                return NO_QUERY
        elif name.lower() == "date":
            try:
                at = self.culture.parse(value.strip(), utc=True)
            except ValueError:
                return ""
            self.day, self.clock, self.begun = at - at % DAY, at % DAY, at
        return ""

    def read(self, line: str) -> Line:
        """A row. Raises NoRow."""
        if _IIS.match(line):
            return self._native(line)
        parts = _ncsa(line)
        return self._ncsa(*parts) if parts else self._w3c(line)

    def _w3c(self, line: str) -> Line:
        fields = line.split()
        columns = self.columns
        if len(fields) != len(columns):
            columns = LAYOUTS.get(len(fields), []) if not columns else []
        if not columns:
            raise NoRow(f"the row has {len(fields)} fields, the header {len(self.columns)}")
        cells = {name: "" if cell == "-" else cell for name, cell in zip(columns, fields, strict=True)}
        code = cells.get("sc-status", "")
        return _line(
            self._at(cells.get("date", ""), cells.get("time", "")),
            cells.get("c-ip", ""),
            cells.get("cs-username", ""),
            cells.get("s-computername", ""),
            cells.get("cs-method", ""),
            cells.get("cs-uri-query", "") or cells.get("cs-uri-stem", ""),
            code,
            cells.get("cs-bytes", ""),
        )

    def _at(self, date: str, time: str) -> Ms | None:
        if not time:
            return None
        try:
            if date:
                at = self.culture.parse(f"{date} {time}", utc=True)
                self.day, self.clock = at - at % DAY, at % DAY
                return at
            clock = self.culture.parse(f"2000-01-01 {time}", utc=True) % DAY
        except ValueError as error:
            raise NoRow(str(error)) from None
        if self.day is None:
            return None
        if clock < self.clock - 12 * HOUR:
            self.day += DAY
        self.clock = clock
        return self.day + clock

    def _ncsa(self, found: re.Match[str], asked: str, status: str, octets: str) -> Line:
        stamp = re.sub(r"^(\d+)/(\w+)/(\d+):", r"\1-\2-\3 ", found["stamp"])
        zone = (found["zone"] or "").replace(" ", "")
        try:
            at = self.culture.parse(f"{stamp} {zone}".strip())
        except ValueError as error:
            raise NoRow(str(error)) from None
        request = _REQUEST.match(asked)
        if request is None:
            raise NoRow("the request can't be read")
        user = "" if found["user"] == "-" else found["user"]
        query = request["query"] or ("" if request["stem"] == "-" else request["stem"])
        verb = "" if request["verb"] == "-" else request["verb"]
        return _line(at, found["peer"], user, "", verb, query, status, octets)

    def _native(self, line: str) -> Line:
        fields = [field.strip() for field in line.split(",", 14)]
        if len(fields) < 15:
            raise NoRow(f"the row has {len(fields)} fields, not 15")
        fields = ["" if field == "-" else field for field in fields]
        stamp = f"{fields[2]} {fields[3]}"
        try:
            at = self.culture.parse(stamp)
        except ValueError as error:
            try:
                at = Culture(self.culture.zone, not self.culture.day_first).parse(stamp)
            except ValueError:
                raise NoRow(str(error)) from None
        query = fields[14].strip().removesuffix(",").strip()
        verb = fields[12].split(" ")[0]
        return _line(
            at,
            fields[0],
            fields[1],
            fields[5],
            verb,
            "" if query == "-" else query or fields[13],
            fields[10],
            fields[8],
        )


def _line(
    at: Ms | None, peer: str, user: str, server: str, verb: str, query: str, code: str, octets: str
) -> Line:
    """A row whose cells are known: `+` stands for a blank, but not within an address."""
    way = {COMMAND.lower(): "command", RESPONSE.lower(): "response"}.get(user.lower(), "in")
    words = unplussed(html.unescape(query) if "&lt;" in query else query).strip()
    return Line(
        way,
        at,
        peer,
        "" if way != "in" else user,
        server,
        verb.upper(),
        words,
        int(code) if code.isascii() and code.isdigit() and len(code) == 3 else 0,
        int(octets) if octets.isascii() and octets.isdigit() and len(octets) < 16 else None,
    )


def unplussed(query: str) -> str:
    """A query with blanks again; addresses in angle brackets and in ORCPT keep their plus."""
    done, at = "", 0
    for found in _KEPT.finditer(query):
        done += query[at : found.start()].replace("+", " ") + found[0]
        at = found.end()
    return done + query[at:].replace("+", " ")
