"""What the lab publishes is read as what happened, whichever form it comes in."""

from __future__ import annotations

import io

import pytest

from resubmit.evidence.reader import read_stream
from resubmit.lab.trace import DELIVERED, EXPANDED, FAILED, PENDING, Row, Step, led_block
from resubmit.lab.trace_files import EVENTS, SUMMARIES, Form
from resubmit.model.evidence import Cause, Evidence, Source, Status

AT = 1_795_425_243_000
LED = "450 4.4.317 Cannot connect to remote server [Message=CertificateExpired Expected Subject: m]"
NOBODY = "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup"


def row(recipient: str, *steps: Step) -> Row:
    made = Row(
        "b7c1f4d2-9a6e-4c3b-8f2d-08de2a6c1b01",
        7,
        "<1@a.invalid>",
        AT,
        "a@a.invalid",
        recipient,
        "s",
        9,
        "127.0.0.1",
        "am0.prod",
    )
    for step in (Step(AT, "Receive", PENDING, "Message received by: am0.prod"), *steps):
        made.add(step)
    return made


WHY = f"Reason: {led_block(LED, 'm', '1.2.3.4', AT)}"
ROWS = [
    row("waits@c.invalid", Step(AT + 1000, "Defer", PENDING, WHY, LED, "m")),
    row("has@c.invalid", Step(AT + 1000, "Deliver", DELIVERED, "The message was successfully delivered.")),
    row("group@c.invalid", Step(AT, "Expand DL", EXPANDED, "The message was sent to a distribution list.")),
    row("nobody@c.invalid", Step(AT, "Fail", FAILED, f"Reason: {led_block(NOBODY, '', '', AT)}", NOBODY)),
]


@pytest.mark.parametrize("form", [*SUMMARIES, *EVENTS], ids=lambda form: form.__name__)
def test_every_form_tells_each_recipients_fate(form: Form) -> None:
    items = list(read_stream(io.BytesIO(form(ROWS)), "trace.csv", now=AT + 60_000))
    found = [item for item in items if isinstance(item, Evidence)]
    assert len(found) == len(items), items
    assert {item.source for item in found} == {Source.TRACE_CSV}
    assert {item.message_id for item in found} == {"<1@a.invalid>"}
    assert {item.network_message_id for item in found} == {"b7c1f4d2-9a6e-4c3b-8f2d-08de2a6c1b01"}
    fates: dict[str, Status] = {item.recipient: item.status for item in found}
    waits = Status.PENDING if form in SUMMARIES[:2] else Status.DEFERRED
    assert fates == {
        "waits@c.invalid": waits,
        "has@c.invalid": Status.DELIVERED,
        "group@c.invalid": Status.EXPANDED,
        "nobody@c.invalid": Status.FAILED,
    }
    if form in EVENTS:
        causes = {item.recipient: item.meaning.cause for item in found if item.meaning is not None}
        assert causes == {"waits@c.invalid": Cause.TLS, "nobody@c.invalid": Cause.RECIPIENT}
