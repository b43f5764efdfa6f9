"""TLS reports: what senders elsewhere met when they tried TLS with a domain's servers.

A JSON file, or the mail that carries one (plain or packed, under whatever type it was attached). A report
counts sessions: it has no messages and no recipients, so it settles nobody; it names the domain and the
server, and why TLS failed there. `flow` takes it for a fault of the destination it names.

Each failure is one item; a domain of which only good sessions are told is one item of status `none`.

Promises: those of evidence/base.py; what a report unpacks to is bounded.
Source: RFC 8460 §4 and §5.3; formats.md section 8.
Limits: whether the report is signed is not checked; it is taken from where only the operator can put it.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from resubmit.evidence.base import RAW_LIMIT, Item, Reading
from resubmit.evidence.mime import Part, header_of, mails, parsed, words
from resubmit.meaning.classify import meaning_of
from resubmit.model.evidence import Cause, Evidence, Meaning, Mend, Scope, Source, Status
from resubmit.model.moment import Ms, parse_rfc3339

SOURCE = Source.TLS_REPORT

UNPACKED_LIMIT = 32 << 20
"""Bytes of one report: ten thousand failures take about five."""
_MOST_FAILURES = 20_000
_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_REPORT = re.compile(
    rb'"(?:organization-name|date-range|report-id|contact-info|policies|failure-details|policy-type)"\s*:'
)
_SUBJECT = re.compile(r"\s*report domain:\s*\S+\s+submitter:", re.IGNORECASE)
_FIELDS = frozenset({"tls-report-domain", "tls-report-submitter"})

_AS_TEXT = {
    "starttls-not-supported": "STARTTLS is not supported",
    "certificate-expired": "certificate has expired",
    "certificate-host-mismatch": "certificate-host-mismatch",
    "certificate-not-trusted": "certificate is not trusted",
    "tlsa-invalid": "tlsa-invalid",
    "dnssec-invalid": "dnssec-invalid",
    "dane-required": "dane-required",
    "sts-policy-fetch-error": "sts-policy-fetch-error",
    "sts-policy-invalid": "sts-policy-invalid",
    "sts-webpki-invalid": "sts-webpki-invalid",
}
"""Result types (RFC 8460 §4.3) as the sign that says what they mean knows them; any other is a failure of
TLS of which no more is known (`validation-failure`)."""

_HARMLESS = frozenset({"sts-policy-fetch-error", "sts-policy-invalid", "sts-webpki-invalid"})
"""The policy could not be had, so mail went without it: no session failed for it (RFC 8461 §3.3)."""

_HANDSHAKE = Meaning(
    Cause.TLS,
    Scope.DESTINATION,
    Mend.GATE,
    "Probe the server that the report names (resubmit probe HOST): it says which part of TLS fails.",
    "tls_report_failure",
)


@dataclass(frozen=True, slots=True)
class _About:
    """What all items of a report share."""

    organisation: str
    identity: str
    since: Ms | None
    until: Ms | None

    @property
    def mark(self) -> str:
        """Which report it is, so that the same failure of another day is another item."""
        return f" (report {self.identity})" if self.identity else ""


def sniff(head: bytes, name: str) -> bool:
    """Whether it begins as a report in JSON, or as a mail that carries one."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"{"):
        return len(set(_REPORT.findall(text))) >= 2
    first = text[: 32 * 1024]
    fields, _ = header_of(first.replace(b"\r\n", b"\n"))
    named = dict(reversed(fields))
    if named.keys() & _FIELDS or "tlsrpt" in named.get("content-type", "").lower():
        return True
    return "from" in named and _SUBJECT.match(words(named.get("subject", ""))) is not None


def read(stream: BinaryIO, reading: Reading) -> Iterator[Item]:
    """What each report says of each failure, in the order of the file."""
    stream.seek(0)
    head = stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    stream.seek(0)
    if head.startswith(b"{"):
        yield from _of_json(stream.read(UNPACKED_LIMIT + 1), "1", reading)
        return
    for line, mail in mails(stream):
        place, found = f"line {line}", False
        for part in _leaves(parsed(mail)):
            data, problem = _unpacked(part)
            if problem:
                found = True
                yield reading.unreadable(place, problem)
            elif data is not None:
                found = True
                yield from _of_json(data, place, reading)
        if not found:
            yield reading.unreadable(place, "a mail about a TLS report that holds none", _shown(mail))


def _leaves(part: Part) -> Iterator[Part]:
    if not part.parts:
        yield part
    for inner in part.parts:
        yield from _leaves(inner)


def _unpacked(part: Part) -> tuple[bytes | None, str]:
    """The JSON in a part, None where it is something else; and what is wrong with it."""
    data = part.content
    if data.startswith(_ZIP) and "tlsrpt" in part.kind:
        return None, "the report is packed as zip, which its standard does not have: unpack it first"
    if data.startswith(_GZIP):
        machine = zlib.decompressobj(wbits=31)
        try:
            data = machine.decompress(data, UNPACKED_LIMIT + 1)
        except zlib.error as error:
            return None, f"the packed report is damaged: {error}"
        if not machine.eof and len(data) <= UNPACKED_LIMIT:
            return None, "the packed report ends in the middle"
    begins = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    is_announced = "tlsrpt" in part.kind
    if begins == b"{" and (is_announced or len(set(_REPORT.findall(data[:65536]))) >= 2):
        return data, ""
    return None, "what is attached as a TLS report is none" if is_announced else ""


def _of_json(data: bytes, place: str, reading: Reading) -> Iterator[Item]:
    if len(data) > UNPACKED_LIMIT:
        yield reading.unreadable(place, "it is larger than any TLS report")
        return
    try:
        report = json.loads(data.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError) as error:
        text = str(error) if isinstance(error, ValueError) else "too deep"
        yield reading.unreadable(place, f"the report is not valid JSON: {text}", _shown(data))
        return
    policies = _objects(report.get("policies")) if isinstance(report, dict) else []
    if not policies:
        yield reading.unreadable(place, "a TLS report without policies says nothing", _shown(data))
        return
    span = _object(report.get("date-range"))
    about = _About(
        _text(report.get("organization-name")) or _text(report.get("contact-info")) or "somebody",
        _text(report.get("report-id")),
        _moment(span.get("start-datetime")),
        _moment(span.get("end-datetime")),
    )
    left = _MOST_FAILURES
    for number, entry in enumerate(policies, 1):
        for item in _of_policy(entry, about, f"{place}, policy {number}", reading):
            if not left:
                yield reading.unreadable(place, f"only the first {_MOST_FAILURES} failures were read")
                return
            left -= 1
            yield item


def _of_policy(entry: dict[str, Any], about: _About, place: str, reading: Reading) -> Iterator[Item]:
    policy, summary = _object(entry.get("policy")), _object(entry.get("summary"))
    domain = _domain(policy.get("policy-domain"))
    hosts = [_domain(host) for host in _list(policy.get("mx-host"))]
    good, bad = (_count(summary.get(f"total-{word}-session-count")) for word in ("successful", "failure"))
    base = Evidence(
        SOURCE,
        Status.NONE,
        observed_at=about.until if about.until is not None else about.since,
        received_at=about.since,
        domain=domain,
        remote=domain,
        file=reading.name,
        place=place,
        raw=_shown(json.dumps(entry).encode()),
    )
    if not domain and not any(hosts):
        yield reading.unreadable(place, "it names neither a domain nor a server", base.raw)
        return
    failures = _objects(entry.get("failure-details"))
    total = f"{good + bad} sessions" if good or bad else "the sessions"
    for number, failure in enumerate(failures, 1):
        host = _domain(failure.get("receiving-mx-hostname")) or _domain(failure.get("receiving-mx-helo"))
        host = host or next((one for one in hosts if one and not one.startswith("*")), "")
        kind = _text(failure.get("result-type")).lower()
        reason = _text(failure.get("failure-reason-code"))
        meaning = _meaning(kind, reason)
        count = _count(failure.get("failed-session-count"))
        at = f" at {host}" if host and host != domain else ""
        words_of = [
            f"{about.organisation} reports {kind or 'a failure'} for {domain or host}{at}",
            "mail went without the policy" if kind in _HARMLESS else f"{count or 'some'} of {total} failed",
            reason,
        ]
        yield replace(
            base,
            status=Status.NONE if kind in _HARMLESS else Status.DEFERRED,
            meaning=meaning,
            remote=host or domain,
            text=(": ".join(filter(None, words_of)) + about.mark)[:2000],
            place=f"{place}, failure {number}",
            raw=_shown(json.dumps(failure).encode()),
        )
    if not failures:
        said = f"{about.organisation} reports {good} good and {bad} failed sessions with {domain}"
        if bad:
            yield replace(
                base,
                status=Status.DEFERRED,
                meaning=_HANDSHAKE,
                text=f"{said}, without a reason{about.mark}",
            )
        else:
            yield replace(base, text=said + about.mark)


def _meaning(kind: str, reason: str) -> Meaning:
    """The reason where it says more than the type, else the type."""
    for text in (reason.replace("_", " ") if kind not in _AS_TEXT else "", reason, _AS_TEXT.get(kind, "")):
        if text:
            meaning = meaning_of(text)
            if meaning.cause is Cause.TLS and meaning.scope is Scope.DESTINATION:
                return meaning
    return _HANDSHAKE


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    """A list, where one value may stand for a list of one."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in _list(value) if isinstance(one, dict)]


def _text(value: object) -> str:
    if isinstance(value, str):
        return " ".join(value.split())[:1000]
    return str(value)[:40] if isinstance(value, int | float) else ""


def _domain(value: object) -> str:
    return _text(value).rstrip(".").lower()[:255]


def _count(value: object) -> int:
    """A count of sessions; some write it as a string."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = int(value.strip()[:15])
    return value if isinstance(value, int) and 0 <= value < 10**15 else 0


def _moment(value: object) -> Ms | None:
    """A time of the range; without a zone it is UTC (RFC 8460 §4.1)."""
    text = _text(value).replace(" ", "T", 1)
    if not text:
        return None
    for attempt in (text, f"{text}Z", f"{text}T00:00:00Z"):
        try:
            return parse_rfc3339(attempt)
        except ValueError:
            continue
    return None


def _shown(data: bytes) -> str:
    return data[:RAW_LIMIT].decode("utf-8", "replace")
