"""Non-delivery reports in Exchange Online's form.

Source: microsoft.md section 6 (the first example); RFC 3464. On expiry the machine-readable part has only
that the message expired; the cause stands in the block for administrators.
Limits: English, plain text only beside the machine-readable part.
"""

from __future__ import annotations

import asyncio
import quopri
from collections.abc import Sequence
from dataclasses import dataclass

from resubmit.lab.client import Broken, Client
from resubmit.lab.script import header
from resubmit.model.moment import Ms, to_datetime


@dataclass(frozen=True, slots=True)
class Fate:
    """One recipient that was given up. `reply`: the last word; `before`: the reply that kept it waiting, with
    the server that gave it, "" for none."""

    address: str
    reply: str
    before: str = ""
    server: str = ""


class Returns:
    """Hands reports to a mail server one by one. `to`: its host and port; None: reports go nowhere."""

    def __init__(self, to: tuple[str, int] | None, *, name: str, timeout: Ms) -> None:
        self.to = to
        self._name = name
        self._timeout = timeout
        self._queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    def put(self, address: str, octets: bytes) -> None:
        """A report waits to go to an address."""
        self._queue.put_nowait((address, octets))

    async def run(self) -> None:
        """Until cancelled; one that can't be handed over now is tried again after the others."""
        while True:
            address, octets = await self._queue.get()
            if self.to is not None and not await self._handed(*self.to, address, octets):
                await asyncio.sleep(1)
                self.put(address, octets)

    async def _handed(self, host: str, port: int, address: str, octets: bytes) -> bool:
        try:
            client = await Client.connect(host, port, name=self._name, timeout=self._timeout)
        except Broken:
            return False
        try:
            _, dot = await client.send("", [address], octets)
        except Broken:
            return False
        finally:
            await client.quit()
        return dot is None or dot.code // 100 != 4


def compose(
    fates: Sequence[Fate],
    original: bytes,
    *,
    sender: str,
    server: str,
    domain: str,
    helo: str,
    received_at: Ms,
    now: Ms,
    number: int,
) -> bytes:
    """The report that goes to the sender of `original`, with a null reverse-path."""
    boundary, inner = f"_000_{number:012x}_", f"_001_{number:012x}_"
    message_id = header(original, "Message-ID")
    text = _text(fates, original, server, now).replace("\n", "\r\n").encode()
    records = "\r\n".join(_record(fate) for fate in fates)
    head = (
        f"MIME-Version: 1.0\r\nFrom: <postmaster@{domain}>\r\nTo: <{sender}>\r\nDate: {_date(now)}\r\n"
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"\r\n'
        "X-MS-Exchange-Message-Is-Ndr:\r\nContent-Language: en-US\r\n"
        f"Message-ID: <{number:032x}@{server.lower()}>\r\nIn-Reply-To: {message_id}\r\n"
        f"References: {message_id}\r\nSubject: Undeliverable: {header(original, 'Subject')}\r\n"
        "Auto-Submitted: auto-replied\r\n\r\n"
        f"--{boundary}\r\n"
        f'Content-Type: multipart/alternative; differences=Content-Type;\r\n\tboundary="{inner}"\r\n\r\n'
        f'--{inner}\r\nContent-Type: text/plain; charset="us-ascii"\r\n'
        "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    ).encode()
    return (
        head
        + quopri.encodestring(text)
        + f"\r\n--{inner}--\r\n\r\n--{boundary}\r\nContent-Type: message/delivery-status\r\n\r\n".encode()
        + f"Reporting-MTA: dns;{server}\r\nReceived-From-MTA: dns;{helo}\r\n".encode()
        + f"Arrival-Date: {_date(received_at)}\r\n\r\n{records}\r\n".encode()
        + f"--{boundary}\r\nContent-Type: message/rfc822\r\n\r\n".encode()
        + original
        + f"\r\n--{boundary}--\r\n".encode()
    )


def _text(fates: Sequence[Fate], original: bytes, server: str, now: Ms) -> str:
    to = "\n".join(f"{fate.address}<mailto:{fate.address}>" for fate in fates)
    blocks = []
    for fate in fates:
        lines = [fate.address, f"{_stamp(now)} - Server at {server} returned '{fate.reply}'"]
        if fate.before:
            lines.append(f"{_stamp(now)} - Server at {fate.server} returned '{fate.before}'")
        blocks.append("\n".join(lines))
    said = "\n\n".join(blocks)
    headers = original.partition(b"\r\n\r\n")[0].decode("utf-8", "replace").replace("\r\n", "\n")
    return (
        f"Delivery has failed to these recipients or groups:\n\n{to}\n"
        "Your message wasn't delivered.\n\nDiagnostic information for administrators:\n\n"
        f"Generating server: {server}\n\n{said}\n\nOriginal message headers:\n\n{headers}\n"
    )


def _record(fate: Fate) -> str:
    words = fate.reply.split(" ")
    status = words[1] if len(words) > 1 and words[1][:1].isdigit() else "5.0.0"
    shown = fate.reply.partition("(")[0].strip()
    return (
        f"Final-Recipient: rfc822;{fate.address}\r\nAction: failed\r\nStatus: {status}\r\n"
        f"Diagnostic-Code: smtp;{shown}\r\nX-Display-Name: {fate.address}\r\n"
    )


def _stamp(now: Ms) -> str:
    when = to_datetime(now)
    half = "AM" if when.hour < 12 else "PM"
    return f"{when.month}/{when.day}/{when.year} {when.hour % 12 or 12}:{when:%M:%S} {half}"


def _date(now: Ms) -> str:
    return f"{to_datetime(now):%a, %d %b %Y %H:%M:%S +0000}"
