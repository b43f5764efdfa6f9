"""Whether it is our own clock that is wrong, by what the servers say the time is. Pure.

Most greetings end with the server's time (Exchange: "Microsoft ESMTP MAIL Service ready at Tue, 24 Nov 2026
12:00:00 +0000"; Sendmail: "; Tue, 24 Nov 2026 12:00:00 GMT"). Where every server that says one agrees with
the others and not with us, ours is in doubt. What hangs on it, a date of a certificate or a list between the
two times, is then no fault and no health but unknown; where nothing hangs on it, it only warns.

Source: RFC 5322 §3.3 (the date), RFC 5280 §6.1.3 (dates are judged by the verifier's clock).
Limits: one server's wrong clock can't be told from ours; a date without a zone is not read.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC
from email.utils import parsedate_to_datetime

from resubmit.meaning.advice import advice
from resubmit.model.moment import MINUTE, Ms, from_datetime, rfc3339, span_text
from resubmit.model.tls import AddressVerdict, Certificate, Finding, Health, Severity, Verdict
from resubmit.probe.seen import AddressSeen, Seen, Step

TOLERATED: Ms = 5 * MINUTE

_DATE = re.compile(
    r"\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +)?"
    r"(\d{1,2} +(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +(?:19[7-9]\d|2\d{3})"
    r" +\d\d:\d\d(?::\d\d)? +(?:[+-]\d{4}\b|GMT\b|UTC\b))"
)
_DATED = {"certificate_expired", "certificate_not_yet_valid", "expiring_soon", "crl_expired"}


def off_by(seen: Seen) -> Ms | None:
    """How far the servers' time lies ahead of ours, ms, negative when behind; None where nothing says so."""
    told = [found for one in seen.addresses if (found := _ahead(one, seen.at)) is not None]
    if not told or max(told) - min(told) > TOLERATED or any(abs(ahead) <= TOLERATED for ahead in told):
        return None
    return min(told, key=abs)


def _ahead(one: AddressSeen, at: Ms) -> Ms | None:
    greeting = one.answer(Step.GREETING)
    said = said_time(" ".join(line.decode("latin-1") for line in greeting.lines)) if greeting else None
    if said is None:
        return None
    waited = sum(span for step, span in one.took if step in (Step.CONNECT, Step.GREETING))
    return said - (at + waited)


def said_time(text: str) -> Ms | None:
    """The last date in a greeting that is complete, with its zone; None when there is none."""
    found = _DATE.findall(text[:2000])
    if not found:
        return None
    try:
        when = parsedate_to_datetime(found[-1])
        return from_datetime(when if when.tzinfo else when.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None  # 31 Feb, or a year no calendar has


def judged(verdict: Verdict, seen: Seen) -> Verdict:
    """The verdict with what hangs on our clock, where that is in doubt."""
    ahead = off_by(seen)
    if ahead is None:
        return verdict
    theirs = verdict.checked_at + ahead
    addresses = tuple(_in_doubt(one, theirs) for one in verdict.addresses)
    is_judged = verdict.level in ("certificate", "domain")
    turns = is_judged and any(_turns(one, verdict.checked_at, theirs) for one in verdict.addresses)
    hangs = turns or addresses != verdict.addresses
    way = "behind" if ahead > 0 else "ahead of"
    text = (
        f"Our clock ({rfc3339(verdict.checked_at)}) is {span_text(abs(ahead))} {way} what the server says "
        f"({rfc3339(theirs)})."
    )
    severity = Severity.UNKNOWN if hangs else Severity.WARNING
    said = advice("own_clock_wrong", host=seen.endpoint.host)
    found = Finding("own_clock_wrong", severity, "clock", text, said)
    health = verdict.health
    if hangs and not any(one.health is Health.FAULTY for one in addresses):
        health = Health.UNKNOWN
    return replace(verdict, health=health, addresses=addresses, findings=(*verdict.findings, found))


def _in_doubt(one: AddressVerdict, theirs: Ms) -> AddressVerdict:
    """Faults that are none by the server's time are unknown."""
    findings = tuple(
        replace(found, severity=Severity.UNKNOWN)
        if found.severity is Severity.FAULT and found.code in _DATED and not _stays(found, one, theirs)
        else found
        for found in one.findings
    )
    if findings == one.findings:
        return one
    is_faulty = any(found.severity is Severity.FAULT for found in findings)
    return replace(one, findings=findings, health=Health.FAULTY if is_faulty else Health.UNKNOWN)


def _stays(found: Finding, one: AddressVerdict, theirs: Ms) -> bool:
    """Whether it is a fault by the server's time as well. Of a list's dates nothing is known here."""
    if found.code == "certificate_expired":
        return any(c.not_after < theirs for c in one.certificates)
    if found.code == "certificate_not_yet_valid":
        return any(c.not_before > theirs for c in one.certificates)
    return False


def _turns(one: AddressVerdict, ours: Ms, theirs: Ms) -> bool:
    """Whether a certificate is valid by one of the two times and not by the other."""
    return any(_is_valid(c, ours) is not _is_valid(c, theirs) for c in one.certificates)


def _is_valid(certificate: Certificate, at: Ms) -> bool:
    return certificate.not_before <= at <= certificate.not_after
