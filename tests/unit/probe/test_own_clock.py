# ruff: noqa: E501 (the cases are read as a table)
"""Our own clock is doubted where every server that says the time says another; what hangs on it is unknown."""

from __future__ import annotations

import pytest

from resubmit.model.moment import DAY, HOUR, MINUTE, SECOND, Ms, from_datetime, to_datetime
from resubmit.model.tls import AddressVerdict, Certificate, Endpoint, Finding, Health, Severity, Verdict
from resubmit.probe import own_clock
from resubmit.probe.seen import AddressSeen, Answer, Seen, Step
from tests.helpers import certs
from tests.helpers.odd_tls import Manners
from tests.unit.probe.conftest import Look, chain

NOW: Ms = from_datetime(certs.now())
RFC = "%a, %d %b %Y %H:%M:%S"


def ready(ahead: Ms, zone: str = "+0000", of: Ms = NOW) -> str:
    return (
        f"220 ex01.test.invalid Microsoft ESMTP MAIL Service ready at {to_datetime(of + ahead):{RFC}} {zone}"
    )


def saw(*greetings: str, waited: Ms = 0) -> Seen:
    took = ((Step.CONNECT, waited), (Step.GREETING, waited))
    addresses = [
        AddressSeen(
            f"192.0.2.{n}", "IPv4", True, (Answer(Step.GREETING, 220, (said.encode(),), 0),), took=took
        )
        for n, said in enumerate(greetings)
    ]
    return Seen(Endpoint("mail.test.invalid"), NOW, 30 * SECOND, tuple(addresses))


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("220 a Microsoft ESMTP MAIL Service ready at Tue, 24 Nov 2026 13:00:00 +0100", "2026-11-24 12:00:00"),
        ("220 a ESMTP Sendmail 8.14.4/8.14.4; Tue, 24 Nov 2026 12:00:00 GMT", "2026-11-24 12:00:00"),
        ("220 a ready at Tue,  1 Dec 2026 12:00 -0500 (EST)", "2026-12-01 17:00:00"),
        ("220 a 24 Nov 2026 12:00:00 -0000", "2026-11-24 12:00:00"),
        ("220 a ready at Tue, 24 Nov 2026 12:00:00 +0000 [08DE2A6C1B01F00D]", "2026-11-24 12:00:00"),
        ("220 a version of 1 Jan 2020 00:00 GMT, Tue, 24 Nov 2026 12:00:00 +0000", "2026-11-24 12:00:00"),
        ("220 a ESMTP Postfix", None),
        ("220 a ready at Tue, 24 Nov 2026 12:00:00", None),
        ("220 a ready at 2026-11-24 12:00", None),
        ("220 a ready at Tue, 31 Feb 2026 12:00:00 +0000", None),
        ("220 a ready at Tue, 24 Nov 0000 12:00:00 +0000", None),
        ("220 a ready at Tue, 24 Nov 2026 25:00:00 +0000", None),
    ],
)  # fmt: skip
def test_the_time_in_a_greeting(text: str, at: str | None) -> None:
    found = own_clock.said_time(text)
    assert (f"{to_datetime(found):%Y-%m-%d %H:%M:%S}" if found is not None else None) == at


@pytest.mark.parametrize(
    ("greetings", "ahead"),
    [
        ([], None),
        (["220 a ESMTP"], None),
        ([ready(4 * MINUTE)], None),
        ([ready(-4 * MINUTE)], None),
        ([ready(6 * MINUTE)], 6 * MINUTE),
        ([ready(-400 * DAY)], -400 * DAY),
        ([ready(DAY), "220 b ESMTP"], DAY),
        ([ready(DAY), ready(DAY + 2 * MINUTE)], DAY),
        ([ready(DAY), ready(0)], None),
        ([ready(DAY), ready(2 * DAY)], None),
        ([ready(DAY), ready(-DAY)], None),
    ],
)
def test_all_must_say_the_same_and_another_than_we(greetings: list[str], ahead: Ms | None) -> None:
    assert own_clock.off_by(saw(*greetings)) == ahead


def test_the_time_we_waited_is_no_difference() -> None:
    assert own_clock.off_by(saw(ready(10 * MINUTE), waited=5 * MINUTE)) is None
    assert own_clock.off_by(saw(ready(0), waited=5 * MINUTE)) == -10 * MINUTE


def verdict(health: Health, *findings: Finding, starts: Ms = -DAY, ends: Ms = DAY) -> Verdict:
    one = Certificate("CN=a", "CN=b", ("a",), NOW + starts, NOW + ends, "0")
    address = AddressVerdict("192.0.2.0", health, findings, certificates=(one,))
    return Verdict("a:25", health, NOW, "domain", (address,))


EXPIRED = Finding("certificate_expired", Severity.FAULT, "leaf", "It is old.")
EARLY = Finding("certificate_not_yet_valid", Severity.FAULT, "leaf", "It is new.")
LIST = Finding("crl_expired", Severity.FAULT, "leaf", "Its list is old.")
REFUSED = Finding("sender_refused", Severity.FAULT, "mail", "No.")
H, F, U = Health.HEALTHY, Health.FAULTY, Health.UNKNOWN

JUDGED = [
    ("nothing hangs on it", verdict(H), HOUR, H, Severity.WARNING),
    ("expired by them alone", verdict(H), 3 * DAY, U, Severity.UNKNOWN),
    ("not yet valid by them alone", verdict(H), -3 * DAY, U, Severity.UNKNOWN),
    ("expired by us alone", verdict(F, EXPIRED, starts=-9 * DAY, ends=-DAY), -3 * DAY, U, Severity.UNKNOWN),
    ("expired by both", verdict(F, EXPIRED, starts=-9 * DAY, ends=-DAY), -HOUR, F, Severity.WARNING),
    ("not yet valid by us alone", verdict(F, EARLY, starts=DAY, ends=9 * DAY), 3 * DAY, U, Severity.UNKNOWN),
    ("not yet valid by both", verdict(F, EARLY, starts=DAY, ends=9 * DAY), HOUR, F, Severity.WARNING),
    ("a list out of date", verdict(F, LIST), HOUR, U, Severity.UNKNOWN),
    ("a fault without a date", verdict(F, REFUSED), HOUR, F, Severity.WARNING),
    ("a fault without a date, and one by us alone", verdict(F, REFUSED, EXPIRED, ends=-HOUR), -DAY, F, Severity.UNKNOWN),
]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "ahead", "health", "severity"), [c[1:] for c in JUDGED], ids=[c[0] for c in JUDGED]
)
def test_what_hangs_on_the_clock_is_unknown(
    before: Verdict, ahead: Ms, health: Health, severity: Severity
) -> None:
    after = own_clock.judged(before, saw(ready(ahead)))
    (found,) = after.findings
    assert (found.code, found.severity) == ("own_clock_wrong", severity)
    assert found.advice
    assert after.health is health
    assert [f.code for f in after.addresses[0].findings] == [f.code for f in before.addresses[0].findings]


def test_a_clock_that_agrees_changes_nothing() -> None:
    before = verdict(F, EXPIRED, ends=-HOUR)
    assert own_clock.judged(before, saw(ready(MINUTE))) is before


async def test_a_certificate_too_new_for_our_clock_alone_is_no_fault_of_the_server(probed: Look) -> None:
    fresh = certs.leaf(chain()[1], starts=2 * certs.DAY)
    server = Manners(certs.server_context(fresh.up()), greeting=ready(3 * DAY).encode() + b"\r\n")
    found = await probed(server)
    assert found.health is Health.UNKNOWN
    assert found.codes() == ("own_clock_wrong", "certificate_not_yet_valid")


async def test_a_server_with_a_clock_of_its_own_is_healthy(probed: Look) -> None:
    server = Manners(certs.server_context(chain()[2].up()), greeting=ready(-2 * HOUR).encode() + b"\r\n")
    found = await probed(server)
    assert (found.health, found.codes()) == (Health.HEALTHY, ("own_clock_wrong",))
