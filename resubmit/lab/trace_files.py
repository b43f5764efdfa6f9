"""Trace rows as the files Microsoft's tools write, and the folder they appear in, late.

Promises: a file is complete when it has its name (written beside, then renamed); no row is left out; the
state written is the one of a lag ago.

Source: microsoft.md sections 2.2 (Enhanced summary), 2.3 (Extended), 2.4 (Get-MessageTrace), 2.5 (details).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from resubmit.clock import Clock
from resubmit.lab.trace import EXPANDED, Row, Trace, american, bare, german, quoted, round_trip
from resubmit.model.moment import Ms

_TENANT = "39238e87-b5ab-4ef6-a559-af54c6b07b42"
_EXTENDED = (
    "date_time_utc,client_ip,client_hostname,server_ip,server_hostname,source_context,connector_id,source,"
    "event_id,internal_message_id,message_id,network_message_id,recipient_address,recipient_status,"
    "total_bytes,recipient_count,related_recipient_address,reference,message_subject,sender_address,"
    "return_path,message_info,directionality,tenant_id,original_client_ip,original_server_ip,custom_data"
)
_ENHANCED = (
    "origin_timestamp_utc,sender_address,recipient_status,message_subject,total_bytes,message_id,"
    "network_message_id,original_client_ip,directionality,connector_id,delivery_priority"
)
_V2 = "MessageTraceId,MessageId,Received,SenderAddress,RecipientAddress,FromIP,ToIP,Subject,Status,Size"
_TYPED = (
    "Organization,MessageId,Received,SenderAddress,RecipientAddress,Subject,Status,ToIP,FromIP,Size,"
    "MessageTraceId,StartDate,EndDate,Index"
)
_DETAILS = "Recipient,MessageTraceId,MessageId,Date,Event,Action,Detail,Data"
_SOURCES = {"RECEIVE": "SMTP", "DELIVER": "STOREDRIVER", "DEFER": "SMTP", "SENDEXTERNAL": "SMTP"}


def summary_v2(rows: Sequence[Row]) -> bytes:
    """`Get-MessageTraceV2 | Export-Csv` of PowerShell 7: UTF-8 without BOM, Received as asked for ("o")."""
    table: list[tuple[object, ...]] = [tuple(_V2.split(","))]
    table += [
        (
            row.network_id,
            row.message_id,
            round_trip(row.received_at),
            row.sender,
            row.recipient,
            row.from_ip,
            "",
            row.subject,
            row.status(),
            row.size,
        )
        for row in rows
    ]
    return quoted(table).encode()


def summary_typed(rows: Sequence[Row]) -> bytes:
    """The same by Windows PowerShell 5.1 on a German machine: `#TYPE` on top, `;`, UTF-16 with BOM."""
    table: list[tuple[object, ...]] = [tuple(_TYPED.split(","))]
    table += [
        (
            "contoso.onmicrosoft.invalid",
            row.message_id,
            german(row.received_at),
            row.sender,
            row.recipient,
            row.subject,
            row.status(),
            "",
            row.from_ip,
            row.size,
            row.network_id,
            german(row.received_at - 3_600_000),
            german(row.received_at + 3_600_000),
            index,
        )
        for index, row in enumerate(rows)
    ]
    head = "#TYPE Deserialized.Microsoft.Exchange.Management.FfoReporting.MessageTrace\r\n"
    return (head + quoted(table, ";")).encode("utf-16")


def summary_enhanced(rows: Sequence[Row]) -> bytes:
    """The Enhanced summary: one line a message, its recipients in one field, UTF-16LE without BOM."""
    messages: dict[str, list[Row]] = {}
    for row in rows:
        messages.setdefault(row.network_id, []).append(row)
    table: list[tuple[object, ...]] = [tuple(_ENHANCED.split(","))]
    for own in messages.values():
        status = ";".join(f"{r.recipient}##{', '.join(_short(s.event) for s in r.steps)}" for r in own)
        first = own[0]
        table.append(
            (
                round_trip(first.received_at),
                first.sender,
                status,
                first.subject,
                first.size,
                first.message_id,
                first.network_id,
                first.from_ip,
                "Incoming",
                "Inbound from relay",
                "Normal",
            )
        )
    return bare(table).encode("utf-16-le")


def details(rows: Sequence[Row]) -> bytes:
    """`Get-MessageTraceDetailV2 | Select Recipient,* | Export-Csv`: one line an event, UTF-8 with BOM."""
    table: list[tuple[object, ...]] = [tuple(_DETAILS.split(","))]
    for row in rows:
        for number, step in enumerate(row.steps):
            data = f'<root><MEP Name="SequenceNumber" Long="{number}"/></root>'
            if step.server:
                data = data.replace(
                    "<root>",
                    f'<root><MEP Name="OutboundProxyTargetHostName" String="{step.server}"/>'
                    f'<MEP Name="OutboundProxyTargetIPAddress" String="{step.ip}"/>',
                )
            table.append(
                (
                    row.recipient,
                    row.network_id,
                    row.message_id,
                    american(step.at),
                    step.event,
                    "",
                    step.detail,
                    data,
                )
            )
    return quoted(table).encode("utf-8-sig")


def extended(rows: Sequence[Row]) -> bytes:
    """The Extended report: 27 columns, one line an event, UTF-16LE without BOM."""
    table: list[tuple[object, ...]] = [tuple(_EXTENDED.split(","))]
    for row in rows:
        for step in row.steps:
            event = "EXPAND" if step.status == EXPANDED else step.event.upper().replace(" ", "")
            values = dict.fromkeys(_EXTENDED.split(","), "") | {
                "date_time_utc": round_trip(step.at),
                "client_ip": row.from_ip if event == "RECEIVE" else "",
                "server_ip": step.ip,
                "server_hostname": step.server or row.server,
                "source_context": f"08DE{row.internal_id & 0xFFFFFFFF:012X}",
                "connector_id": "Inbound from relay" if event == "RECEIVE" else "Outbound to hybrid",
                "source": _SOURCES.get(event, "ROUTING"),
                "event_id": event,
                "internal_message_id": str(row.internal_id),
                "message_id": row.message_id,
                "network_message_id": row.network_id,
                "recipient_address": row.recipient,
                "recipient_status": step.detail.removeprefix("Reason: ") if step.led else "",
                "total_bytes": str(row.size),
                "recipient_count": "1",
                "message_subject": row.subject,
                "sender_address": row.sender,
                "return_path": row.sender,
                "directionality": "Incoming",
                "tenant_id": _TENANT,
                "original_client_ip": row.from_ip,
                "custom_data": "S:DeliveryPriority=Normal",
            }
            table.append(tuple(values.values()))
    return bare(table).encode("utf-16-le")


Form = Callable[[Sequence[Row]], bytes]
SUMMARIES: tuple[Form, ...] = (summary_v2, summary_typed, summary_enhanced)
EVENTS: tuple[Form, ...] = (details, extended)


class Publisher:
    """Puts what is new of a trace into a folder, a lag late: one summary and one file of events a time.

    The forms take turns. `paused` keeps all back; what is held back appears when it ends.
    """

    def __init__(
        self,
        trace: Trace,
        folder: Path,
        *,
        clock: Clock,
        lag: Ms,
        every: Ms,
        summaries: tuple[Form, ...] = SUMMARIES,
        events: tuple[Form, ...] = EVENTS,
    ) -> None:
        self.trace = trace
        self.folder = folder
        self.clock = clock
        self.lag = lag
        self.every = every
        self.summaries = summaries
        self.events = events
        self.paused = False
        self.files: list[Path] = []
        self._round = 0

    async def run(self) -> None:
        """Publishes until cancelled."""
        while True:
            await asyncio.sleep(self.every / 1000)
            self.publish(self.clock.now() - self.lag)

    def publish(self, cutoff: Ms) -> list[Path]:
        """Writes what happened until `cutoff` and was not told yet; the files, or none."""
        rows = [] if self.paused else self.trace.news(cutoff)
        if not rows:
            return []
        self._round += 1
        new: list[Path] = []
        for word, forms in (("trace", self.summaries), ("events", self.events)):
            if forms:
                form = forms[self._round % len(forms)]
                new.append(self._write(f"{self._round:04d}-{word}-{form.__name__}.csv", form(rows)))
        self.files += new
        return new

    def _write(self, name: str, octets: bytes) -> Path:
        path = self.folder / name
        part = self.folder / f".{name}.part"
        part.write_bytes(octets)
        part.rename(path)
        return path


def _short(event: str) -> str:
    return "Expand" if event == "Expand DL" else event.split(" ")[0]
