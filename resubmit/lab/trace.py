"""The message trace of the look-alike: what happened to each recipient, and what was known of it when.

A row is one message and recipient; its steps only grow. What the trace tells at a moment is what had
happened a lag before, so a row is asked for its state as of a time.

Source: microsoft.md sections 2.2–2.5 (forms), 3.1 (statuses), 3.2 (events), 3.3 (the LED block).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from resubmit.model.moment import Ms, to_datetime

DELIVERED, PENDING, FAILED, EXPANDED = "Delivered", "Pending", "Failed", "Expanded"


@dataclass(frozen=True, slots=True)
class Step:
    """One event of a row, and the row's status from then on.

    `led` is the reply in Microsoft's form for a Defer or Fail, `server` and `ip` who gave it.
    """

    at: Ms
    event: str
    status: str
    detail: str
    led: str = ""
    server: str = ""
    ip: str = ""


@dataclass(slots=True)
class Row:
    """One recipient of one trace object (`network_id`)."""

    network_id: str
    internal_id: int
    message_id: str
    received_at: Ms
    sender: str
    recipient: str
    subject: str
    size: int
    from_ip: str
    server: str
    steps: list[Step] = field(default_factory=list)

    def add(self, step: Step) -> None:
        """The step is the newest."""
        self.steps.append(step)

    def status(self) -> str:
        """The row's status now."""
        return self.steps[-1].status if self.steps else "GettingStatus"

    def until(self, cutoff: Ms) -> Row:
        """The row as it was known at a time."""
        return Row(
            self.network_id,
            self.internal_id,
            self.message_id,
            self.received_at,
            self.sender,
            self.recipient,
            self.subject,
            self.size,
            self.from_ip,
            self.server,
            [step for step in self.steps if step.at <= cutoff],
        )


class Trace:
    """All rows in the order in which they came to be."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._told: dict[int, int] = {}

    def news(self, cutoff: Ms) -> list[Row]:
        """Rows with steps up to `cutoff` that this was not asked about before, as of then."""
        out: list[Row] = []
        for place, row in enumerate(self.rows):
            known = row.until(cutoff)
            if len(known.steps) > self._told.get(place, 0):
                self._told[place] = len(known.steps)
                out.append(known)
        return out

    def of(self, message_id: str, recipient: str | None = None) -> list[Row]:
        """Every row of a Message-ID: one a recipient and time it was taken."""
        return [r for r in self.rows if r.message_id == message_id and recipient in (None, r.recipient)]

    def with_status(self, status: str) -> list[Row]:
        """Rows whose status is this now."""
        return [row for row in self.rows if row.status() == status]


def led_block(led: str, server: str, ip: str, at: Ms) -> str:
    """`[{LED=…};{MSG=};{FQDN=…};{IP=…};{LRT=…}]`, its time as a host in the United States prints it."""
    return f"[{{LED={led}}};{{MSG=}};{{FQDN={server}}};{{IP={ip}}};{{LRT={american(at) if server else ''}}}]"


def american(at: Ms) -> str:
    """`11/23/2026 9:14:03 AM`, UTC."""
    when = to_datetime(at)
    hour = when.hour % 12 or 12
    half = "AM" if when.hour < 12 else "PM"
    return f"{when.month}/{when.day}/{when.year} {hour}:{when:%M:%S} {half}"


def german(at: Ms) -> str:
    """`23.11.2026 09:14:03`, UTC."""
    return f"{to_datetime(at):%d.%m.%Y %H:%M:%S}"


def round_trip(at: Ms) -> str:
    """`2026-11-23T09:14:03.1230000Z`: .NET's "o"."""
    return f"{to_datetime(at):%Y-%m-%dT%H:%M:%S}.{at % 1000:03d}0000Z"


def quoted(rows: Iterable[Iterable[object]], separator: str = ",") -> str:
    """CSV as Export-Csv writes it: every field quoted, lines ended by CRLF."""
    return "".join(
        separator.join('"' + str(value).replace('"', '""') + '"' for value in row) + "\r\n" for row in rows
    )


def bare(rows: Iterable[Iterable[object]]) -> str:
    """CSV as the reports are written: fields quoted only where they must be."""

    def cell(value: object) -> str:
        text = str(value)
        return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text

    return "".join(",".join(cell(value) for value in row) + "\r\n" for row in rows)
