"""A TLS report says that a destination's server failed: its gate closes before mail is stuck."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from resubmit import logbook
from resubmit.flow.observe import Observe
from resubmit.flow.wake import Wake
from resubmit.handoff.routes import Table
from resubmit.handoff.settings import Destination, Route
from resubmit.journal.door import Journal
from resubmit.journal.settings import JournalSettings
from resubmit.journal.verbs import Fault, GateRow, LookRow
from resubmit.model.evidence import Cause
from resubmit.model.moment import DAY, HOUR, MINUTE, Ms, rfc3339
from resubmit.recovery import gate as gate_rule
from resubmit.recovery.memory import Memory
from resubmit.recovery.policy import policies_of
from resubmit.recovery.settings import Recovery
from resubmit.recovery.turn import Trial
from tests.helpers.journals import NOW, HandClock

FLOOR = JournalSettings(intake_floor="0B", attempt_floor="0B", reserve="0B")  # type: ignore[arg-type]
ENDPOINTS = {"hybrid": frozenset({"mail.contoso.com"}), "partner": frozenset({"mx.fabrikam.com"})}
TABLE = Table(
    (Route(name="eop", host="contoso-com.mail.protection.outlook.com"),),
    (
        Destination(name="hybrid", domains=["contoso.com"], handoff="eop"),
        Destination(name="partner", domains=["fabrikam.com"], handoff="eop"),
        Destination(name="others", domains=["*"], handoff="eop"),
    ),
)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "journal", clock=HandClock(), settings=FLOOR, inline=True)
    yield journal
    await journal.close()


def report(
    path: Path,
    *,
    domain: str = "contoso.com",
    server: str = "mail.contoso.com",
    kind: str = "certificate-expired",
    since: Ms = NOW - DAY,
    until: Ms = NOW - HOUR,
) -> Path:
    path.write_text(
        json.dumps(
            {
                "organization-name": "Sender",
                "report-id": "7",
                "date-range": {"start-datetime": rfc3339(since), "end-datetime": rfc3339(until)},
                "policies": [
                    {
                        "policy": {"policy-type": "no-policy-found", "policy-domain": domain},
                        "summary": {"total-successful-session-count": 0, "total-failure-session-count": 4},
                        "failure-details": [
                            {
                                "result-type": kind,
                                "receiving-mx-hostname": server,
                                "failed-session-count": 4,
                            }
                        ],
                    }
                ],
            }
        )
    )
    return path


async def ingest(journal: Journal, path: Path) -> dict[str, object]:
    clock = HandClock()
    (told,) = await Observe(journal, clock, TABLE, [], ENDPOINTS, told=Wake()).ingest(
        [str(path)], timezone="UTC", covers=None
    )
    return told


async def faults(journal: Journal, name: str) -> list[Fault]:
    return await journal.faults(name, None, NOW - 2 * DAY)


async def test_a_report_of_failures_is_a_fault_of_the_destination_it_names(
    journal: Journal, tmp_path: Path
) -> None:
    with capture_logs() as logs:
        told = await ingest(journal, report(tmp_path / "report.json"))
    assert (told["rows"], told["matched"], told["source"]) == (1, 1, "tls_report")
    (fault,) = await faults(journal, "hybrid")
    assert (fault.at, fault.attempt_accepted_at, fault.cause) == (NOW - HOUR, NOW - DAY, Cause.TLS)
    assert "certificate-expired" in fault.text
    assert await faults(journal, "partner") == []
    assert [log["destination"] for log in logs if log["event"] == logbook.EVIDENCE_REPORTED] == ["hybrid"]


async def test_the_same_report_again_is_known(journal: Journal, tmp_path: Path) -> None:
    path = report(tmp_path / "report.json")
    await ingest(journal, path)
    told = await ingest(journal, path)
    assert (told["matched"], told["known"]) == (0, 1)
    assert len(await faults(journal, "hybrid")) == 1


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"server": "mx1.contoso.com"}, ["hybrid"]),  # by its domain
        ({"server": "mx.fabrikam.com"}, ["partner"]),  # by the server, whatever the domain
        ({"server": "contoso-com.mail.protection.outlook.com"}, []),  # Microsoft's, not the hybrid server
        ({"domain": "tailspin.com", "server": "mx.tailspin.com"}, []),  # only the rest takes it
        ({"kind": "sts-policy-fetch-error"}, []),  # no session failed for it
        ({"since": NOW - 4 * DAY, "until": NOW - 3 * DAY}, []),  # not the present
    ],
)
async def test_what_a_report_is_a_fault_of(
    journal: Journal, tmp_path: Path, values: dict[str, object], names: list[str]
) -> None:
    await ingest(journal, report(tmp_path / "report.json", **values))  # type: ignore[arg-type]
    found = [name for name in ("hybrid", "partner", "others") if await faults(journal, name)]
    assert found == names


async def judged(journal: Journal, *, fixed_at: Ms | None = None) -> gate_rule.Decision:
    """What the open gate's rules make of it, with a healthy look every five minutes until now."""
    (policy, *_) = policies_of(Recovery(), TABLE.destinations.values(), TABLE.routes)
    data = Memory(fixed_at=fixed_at).to_text() if fixed_at is not None else ""
    gate = GateRow("destination:hybrid", gate_rule.OPEN, 1, NOW - DAY, (), None, data)
    looks = [
        LookRow("destination:hybrid", NOW - n * 5 * MINUTE, "healthy", (), "same", "") for n in range(1, 20)
    ]
    return gate_rule.decide(
        gate,
        looks,
        await faults(journal, "hybrid"),
        Trial(),
        policy,
        live=False,
        now=NOW,
        started_at=NOW - DAY,
    )


async def test_it_closes_the_gate_though_nothing_is_stuck(journal: Journal, tmp_path: Path) -> None:
    assert (await judged(journal)).state == gate_rule.OPEN
    await ingest(journal, report(tmp_path / "report.json"))
    decision = await judged(journal)
    assert decision.state == gate_rule.CLOSED
    assert "certificate-expired" in decision.reasons[0]
    assert decision.fault_from == NOW - DAY


async def test_a_report_of_the_day_of_the_fix_does_not_close_it_again(
    journal: Journal, tmp_path: Path
) -> None:
    await ingest(journal, report(tmp_path / "report.json"))
    assert (await judged(journal, fixed_at=NOW - 2 * HOUR)).state == gate_rule.OPEN
    assert (await judged(journal, fixed_at=NOW - 2 * DAY)).state == gate_rule.CLOSED


SESSION = """#Software: Microsoft Exchange Server
#Version: 15.0.0.0
#Log-type: SMTP Send Protocol Log
#Date: 2026-11-24T00:00:00.000Z
#Fields: date-time,connector-id,session-id,sequence-number,local-endpoint,remote-endpoint,event,data,context
2026-11-24T11:27:19.000Z,Out,08DE,0,,192.0.2.10:25,*,,attempting to connect
2026-11-24T11:27:19.100Z,Out,08DE,1,10.0.0.1:1,192.0.2.10:25,+,,
2026-11-24T11:27:19.200Z,Out,08DE,2,10.0.0.1:1,192.0.2.10:25,<,220 mail.contoso.com ESMTP,
2026-11-24T11:27:19.300Z,Out,08DE,3,10.0.0.1:1,192.0.2.10:25,>,EHLO ex01.example.org,
2026-11-24T11:27:19.400Z,Out,08DE,4,10.0.0.1:1,192.0.2.10:25,<,250-mail.contoso.com Hello,
2026-11-24T11:27:19.500Z,Out,08DE,5,10.0.0.1:1,192.0.2.10:25,<,250 STARTTLS,
2026-11-24T11:27:19.600Z,Out,08DE,6,10.0.0.1:1,192.0.2.10:25,>,STARTTLS,
2026-11-24T11:27:19.700Z,Out,08DE,7,10.0.0.1:1,192.0.2.10:25,<,454 4.7.0 TLS not available,
2026-11-24T11:27:19.800Z,Out,08DE,8,10.0.0.1:1,192.0.2.10:25,-,,Local
"""


async def test_a_session_that_came_to_no_mail_is_a_fault_of_whose_endpoint_it_met(
    journal: Journal, tmp_path: Path
) -> None:
    path = tmp_path / "SEND2026112411-1.LOG"
    path.write_text(SESSION)
    told = await ingest(journal, path)
    assert (told["source"], told["matched"]) == ("exchange_smtp_log", 1)
    (fault,) = await faults(journal, "hybrid")
    assert fault.cause is Cause.TLS
    assert await faults(journal, "partner") == []
