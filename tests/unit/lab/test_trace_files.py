from __future__ import annotations

import asyncio
import csv
import io
from pathlib import Path

import pytest

from resubmit.clock import SystemClock
from resubmit.lab.trace import DELIVERED, PENDING, Row, Step, Trace, american, german, round_trip
from resubmit.lab.trace_files import (
    Form,
    Publisher,
    details,
    extended,
    summary_enhanced,
    summary_typed,
    summary_v2,
)

AT = 1_795_425_243_120  # 2026-11-23T09:14:03.120Z
LED = "450 4.4.317 Cannot [Message=CertificateExpired]"


def row(recipient: str = "anna@contoso.invalid", *steps: Step) -> Row:
    made = Row(
        "b7c1", 7, "<1@app.invalid>", AT, "app@x.invalid", recipient, 'S "x"; y, z', 9, "127.0.0.1", "am0"
    )
    for step in steps:
        made.add(step)
    return made


RECEIVED = Step(AT, "Receive", PENDING, "Message received by: am0")
DEFERRED = Step(AT + 1000, "Defer", PENDING, f"Reason: [{{LED={LED}}};{{MSG=}}]", LED, "mail", "127.0.0.1")
DONE = Step(
    AT + 5000, "Send external", DELIVERED, "Message sent to mail at 127.0.0.1", "", "mail", "127.0.0.1"
)
ROWS = [row("anna@contoso.invalid", RECEIVED, DEFERRED), row("otto@contoso.invalid", RECEIVED, DONE)]


def read(octets: bytes, encoding: str, separator: str = ",", skip: int = 0) -> list[dict[str, str]]:
    text = "".join(octets.decode(encoding).splitlines(keepends=True)[skip:])
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator))


def test_stamps_are_those_of_each_culture() -> None:
    assert american(AT) == "11/23/2026 9:14:03 AM"
    assert american(AT + 12 * 3_600_000) == "11/23/2026 9:14:03 PM"
    assert german(AT) == "23.11.2026 09:14:03"
    assert round_trip(AT) == "2026-11-23T09:14:03.1200000Z"


def test_v2_is_utf8_with_every_field_quoted() -> None:
    octets = summary_v2(ROWS)
    assert octets.startswith(b'"MessageTraceId","MessageId","Received"')
    found = read(octets, "utf-8")
    assert [(r["RecipientAddress"], r["Status"]) for r in found] == [
        ("anna@contoso.invalid", "Pending"),
        ("otto@contoso.invalid", "Delivered"),
    ]
    assert found[0]["Subject"] == 'S "x"; y, z'
    assert found[0]["Received"] == "2026-11-23T09:14:03.1200000Z"


def test_the_typed_form_is_utf16_with_bom_and_a_type_line() -> None:
    octets = summary_typed(ROWS)
    assert octets.startswith(b"\xff\xfe#\0T\0")
    found = read(octets, "utf-16", ";", skip=1)
    assert found[1]["Received"] == "23.11.2026 09:14:03"
    assert found[1]["Status"] == "Delivered"


def test_the_enhanced_summary_has_all_recipients_of_a_message_in_one_field() -> None:
    octets = summary_enhanced(ROWS)
    assert octets.startswith(b"o\0r\0")
    (found,) = read(octets, "utf-16-le")
    assert found["recipient_status"] == (
        "anna@contoso.invalid##Receive, Defer;otto@contoso.invalid##Receive, Send"
    )


def test_details_name_the_recipient_and_hold_the_defer_text() -> None:
    octets = details(ROWS)
    assert octets.startswith(b'\xef\xbb\xbf"Recipient"')
    found = read(octets, "utf-8-sig")
    assert [r["Event"] for r in found] == ["Receive", "Defer", "Receive", "Send external"]
    assert found[1]["Detail"] == DEFERRED.detail
    assert 'Name="OutboundProxyTargetHostName" String="mail"' in found[1]["Data"]


def test_the_extended_report_has_27_columns_and_a_row_an_event() -> None:
    found = read(extended(ROWS), "utf-16-le")
    assert len(found[0]) == 27
    assert [r["event_id"] for r in found] == ["RECEIVE", "DEFER", "RECEIVE", "SENDEXTERNAL"]
    assert found[1]["recipient_status"] == f"[{{LED={LED}}};{{MSG=}}]"
    assert found[3]["server_hostname"] == "mail"


def test_the_trace_tells_what_was_known_a_lag_ago_and_nothing_twice() -> None:
    trace = Trace()
    trace.rows.append(row("anna@contoso.invalid", RECEIVED, DEFERRED, DONE))
    assert [r.status() for r in trace.news(AT - 1)] == []
    assert [r.status() for r in trace.news(AT + 1000)] == [PENDING]
    assert trace.news(AT + 4999) == []
    assert [r.status() for r in trace.news(AT + 5000)] == [DELIVERED]
    assert trace.rows[0].status() == DELIVERED
    assert trace.of("<1@app.invalid>", "anna@contoso.invalid") == trace.with_status(DELIVERED)


@pytest.mark.parametrize("events", [(details,), ()])
def test_a_published_file_is_whole_when_it_has_its_name(tmp_path: Path, events: tuple[Form, ...]) -> None:
    trace = Trace()
    trace.rows += ROWS
    clock = SystemClock()
    publisher = Publisher(
        trace, tmp_path, clock=clock, lag=0, every=10, summaries=(summary_v2, summary_typed), events=events
    )
    publisher.paused = True
    assert publisher.publish(AT + 10_000) == []
    publisher.paused = False
    first = publisher.publish(AT + 1000)
    assert publisher.publish(AT + 1000) == []
    second = publisher.publish(AT + 10_000)
    assert [f.name.split("-")[2] for f in (first[0], second[0])] == ["summary_typed.csv", "summary_v2.csv"]
    assert len(first) == 1 + len(events)
    assert sorted(tmp_path.iterdir()) == sorted(publisher.files)


async def test_the_publisher_waits_for_the_lag(tmp_path: Path) -> None:
    clock = SystemClock()
    trace = Trace()
    started = clock.now()
    trace.rows.append(row("anna@contoso.invalid", Step(started, "Receive", PENDING, "")))
    publisher = Publisher(trace, tmp_path, clock=clock, lag=100, every=10)
    task = asyncio.create_task(publisher.run())
    async with asyncio.timeout(5):
        while not publisher.files:
            await asyncio.sleep(0.005)
    assert clock.now() - started >= 100
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
