"""The machine-readable part of a delivery status notification: its fields, as RFC 3464 has them and as sent.

Blank lines between recipients are missing or stand between the fields of one; names have a blank before
their colon; values lack their type, or have a wrong one (`dsn;` for `dns;`), comments, brackets, xtext.
So a recipient begins where a field comes that it already has, and nothing is required.

Promises: any text gives a report, perhaps without recipients; never raises.
Source: RFC 3464 §2; RFC 6533 §3 (utf-8 addresses); formats.md section 7.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from resubmit.evidence.mime import words

_MESSAGE_FIELDS = frozenset(
    {
        "original-envelope-id",
        "reporting-mta",
        "dsn-gateway",
        "received-from-mta",
        "arrival-date",
        "x-postfix-queue-id",
        "x-postfix-sender",
        "x-original-message-id",
        "original-message-id",
        "x-message-id",
    }
)
_RECIPIENT_FIELDS = frozenset(
    {
        "original-recipient",
        "final-recipient",
        "action",
        "status",
        "remote-mta",
        "diagnostic-code",
        "last-attempt-date",
        "final-log-id",
        "will-retry-until",
        "x-actual-recipient",
        "x-display-name",
        "x-supplementary-info",
        "remote-recipient",
        "localized-diagnostic-code",
    }
)
_OF_MAIL = frozenset(
    {"received", "return-path", "message-id", "subject", "from", "to", "date", "mime-version"}
)
_FIELD = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9-]{0,60})[ \t]*:[ \t]*(?P<value>.*)")
_TYPED = re.compile(r"\s*([\w.+/-]{1,40})\s*;\s*(.*)", re.DOTALL)
_STATUS = re.compile(r"(?<![\d.])([245])\s?\.\s?(\d{1,3})\s?\.\s?(\d{1,3})(?![\d.]*\d)")
_MOST = 10_000
"""Recipients of one report."""
_LONGEST = 16_384


@dataclass(slots=True)
class Record:
    """The fields of one recipient, names in lower case, values unfolded; the first of each counts."""

    fields: dict[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """The value without its type, "" when it has none."""
        return untyped(self.fields.get(name, ""))


@dataclass(slots=True)
class Report:
    """A status part: what it says of the message, and its recipients."""

    message: dict[str, str] = field(default_factory=dict)
    recipients: list[Record] = field(default_factory=list)

    def get(self, name: str) -> str:
        """A field of the message, without its type."""
        return untyped(self.message.get(name, ""))


class _Reader:
    """Gives each field to the message or to a recipient."""

    def __init__(self) -> None:
        self.report = Report()
        self._record = Record()
        self._gap = False
        self._last: tuple[dict[str, str], str] | None = None

    def line(self, line: str) -> None:
        if not line.strip():
            self._gap, self._last = True, None
            return
        if line.startswith("---"):  # `------ Original message ------`: nothing behind it is the report's
            self._last = None
            return
        if line[0] in " \t" and self._last is not None:
            self._folded(line)
            return
        found = _FIELD.match(line.strip())
        if found is None or not self._is_field(found["name"].lower()):
            self._folded(line)
            return
        self._add(found["name"].lower(), found["value"].strip())

    def _is_field(self, name: str) -> bool:
        """In a diagnostic text that was folded without a blank, `Reason: …` is no field."""
        if name in _MESSAGE_FIELDS or name in _RECIPIENT_FIELDS or self._last is None:
            return True
        return name.startswith(("x-", "content-")) or name in _OF_MAIL or self._last[1] != "diagnostic-code"

    def _folded(self, line: str) -> None:
        if self._last is not None:
            fields, name = self._last
            if len(fields[name]) < _LONGEST:
                fields[name] = f"{fields[name]} {line.strip()}".strip()

    def _add(self, name: str, value: str) -> None:
        if name in _MESSAGE_FIELDS:
            self._last = None
            if name not in self.report.message:
                self.report.message[name] = value
                self._last = self.report.message, name
            return
        if name not in _RECIPIENT_FIELDS and not self._record.fields:
            self.report.message.setdefault(name, value)
            self._last = self.report.message, name
            return
        if self._begins(name):
            self.finish()
        self._gap = False
        if name in self._record.fields:
            self._last = None
            return
        self._record.fields[name] = value
        self._last = self._record.fields, name

    def _begins(self, name: str) -> bool:
        """Whether a field belongs to another recipient than the ones before it."""
        known = self._record.fields
        if name == "final-recipient":
            return name in known
        if name == "original-recipient":
            return name in known or (self._gap and "final-recipient" in known)
        return self._gap and name in known and "final-recipient" in known

    def finish(self) -> None:
        is_one = {"final-recipient", "original-recipient", "action"} & self._record.fields.keys()
        if is_one and len(self.report.recipients) < _MOST:
            self.report.recipients.append(self._record)
        self._record = Record()


def report_of(text: str) -> Report:
    """A status part's text, decoded, as a report."""
    reader = _Reader()
    for line in text.split("\n"):
        reader.line(line.rstrip("\r"))
    reader.finish()
    return reader.report


def untyped(value: str) -> str:
    """`rfc822; x` → `x`; a value without a type as it stands."""
    found = _TYPED.fullmatch(value)
    return found[2].strip() if found else value.strip()


def address_of(value: str) -> str:
    """The address in a recipient field: without type, brackets, route, comment and xtext; "" when there is
    none. What is no address (a pipe, a file, an X.400 name) comes out as it stands."""
    found = _TYPED.fullmatch(value)
    kind, text = (found[1].lower(), found[2]) if found else ("", value)
    text = re.sub(r"^\s*rfc822\s*;", "", text, flags=re.IGNORECASE).strip()
    bracketed = re.search(r"<([^<>]*)>", text)
    if bracketed and ("@" in bracketed[1] or "@" not in text):
        text = bracketed[1]
    text = re.sub(r"\s*\([^()]*\)\s*$", "", text) if "@" in text else text
    text = words(text.strip().strip("'<>").removeprefix("mailto:"))
    text = re.sub(r"^@[^:@\s]+(?:,@[^:@\s]+)*:(?=[^@]+@)", "", text)  # RFC 5321 appendix C
    if kind == "utf-8":
        text = re.sub(r"\\x\{([0-9A-Fa-f]{1,6})\}", _character, text)
    return re.sub(r"\+(2B|3D)(?=[^@]*@)", _character, text)


def _character(found: re.Match[str]) -> str:
    value = int(found[1], 16)
    return chr(value) if value < 0x110000 and not 0xD800 <= value < 0xE000 else found[0]


def status_of(text: str) -> str:
    """The enhanced status code in a text (`5.0.0 (permanent failure)`), "" when it has none (`553 Full`)."""
    found = _STATUS.search(text[:400])
    return f"{found[1]}.{int(found[2])}.{int(found[3])}" if found else ""
