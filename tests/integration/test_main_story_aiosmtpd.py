"""The main story against somebody else's SMTP server (aiosmtpd) and certificates (trustme).

The lab is our own code; here nothing of it judges us.
"""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiosmtplib
import pytest
import trustme
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.helpers import service as served
from tests.helpers.service import QUICK, until

pytestmark = pytest.mark.timeout(100)


@dataclass
class Server:
    """aiosmtpd with a TLS context that can be swapped; keeps what it takes."""

    tls: ssl.SSLContext | None
    mails: list[tuple[tuple[str, ...], bytes, bool]] = field(default_factory=list)
    """(recipients, octets, over TLS) in order."""
    taken: Callable[[tuple[str, ...], bytes], None] = lambda recipients, octets: None
    port: int = 0

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        octets = envelope.original_content or b""
        recipients = tuple(envelope.rcpt_tos)
        self.mails.append((recipients, octets, session.ssl is not None))
        self.taken(recipients, octets)
        return f"250 2.6.0 taken as {len(self.mails)}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        loop = asyncio.get_running_loop()
        open_ones: list[SMTP] = []

        def factory() -> SMTP:
            one = SMTP(self, tls_context=self.tls, hostname="mx.invalid", enable_SMTPUTF8=True, loop=loop)
            open_ones.append(one)
            return one

        server = await loop.create_server(factory, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for one in open_ones:
                if one.transport is not None:
                    one.transport.close()
            await asyncio.sleep(0)


class Certificates:
    """One authority; contexts that are good or expired."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.root_file = folder / "root.pem"
        self._authority.cert_pem.write_to_path(str(self.root_file))

    def good(self, name: str) -> ssl.SSLContext:
        return self._context(self._authority.issue_cert(name))

    def expired(self, name: str) -> ssl.SSLContext:
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        return self._context(
            self._authority.issue_cert(name, not_before=now - 90 * day, not_after=now - day / 24)
        )

    @staticmethod
    def _context(leaf: trustme.LeafCert) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        return context


class Service(served.Service):
    """The real service as a process of its own, spoken to by somebody else's client."""

    async def stands(self, *words: str) -> dict[tuple[str, str], str]:
        """(address, Message-ID) → state."""
        return {
            (recipient["address"], message["message_id"]): recipient["state"]
            for message in await self.ask("list", "--limit", "0", *words)
            for recipient in message["recipients"]
        }

    async def send(self, number: int, *recipients: str) -> bytes:
        """By somebody else's client; returns the octets sent."""
        data = (
            f"Message-ID: <{number}@app.invalid>\r\nDate: {_rfc5322()}\r\nSubject: Invoice {number}\r\n\r\n"
            f"line\r\n.\r\n..dots {number}\r\n"
        ).encode() + b"\xe9\xff 8 bit\r\n"
        async with aiosmtplib.SMTP(
            hostname="127.0.0.1", port=self.port, start_tls=False, timeout=10
        ) as client:
            await client.sendmail("app@app.invalid", list(recipients), data, mail_options=["BODY=8BITMIME"])
        return data


def _rfc5322() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")


def below_trace_fields(octets: bytes) -> bytes:
    """A mail from its Message-ID on: what we put on top are trace fields only."""
    top, found, rest = octets.partition(b"Message-ID: ")
    assert found
    names = [line.partition(b":")[0] for line in top.splitlines() if line[:1] not in (b" ", b"\t")]
    assert set(names) == {b"Received"}
    return found + rest


async def test_mail_waits_here_while_the_next_hop_is_not_to_be_trusted_and_leaves_when_it_is(
    tmp_path: Path,
) -> None:
    certificates = Certificates(tmp_path)
    server = Server(certificates.expired("mx.invalid"))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(server.running())
        tables = (
            f'[[route]]\nname = "next"\nhost = "127.0.0.1"\nport = {server.port}\ntls = "verified"\n'
            'tls_name = "mx.invalid"\nca_file = "root.pem"\nfinal = true\n'
            '[[destination]]\nname = "all"\ndomains = ["*"]\nhandoff = "next"\n'
            'probe_name = "mx.invalid"\nca_file = "root.pem"\n'
        )
        service = await stack.enter_async_context(Service(tmp_path, tables + QUICK).running())
        sent = {n: await service.send(n, f"a{n}@x.invalid", f"b{n}@y.invalid") for n in range(12)}

        async def all_stuck() -> bool:
            states = await service.stands("--stuck", "--cause", "tls")
            assert set(states.values()) <= {"journaled", "sending", "retrying"}
            return len(states) == 24

        await until(all_stuck, service.end_of_log)
        assert server.mails == []
        (verdict,) = await service.ask("probe", "all")
        assert "certificate_expired" in verdict["findings"]

        server.tls = certificates.good("mx.invalid")

        async def all_delivered() -> bool:
            return list((await service.stands()).values()) == ["delivered"] * 24

        await until(all_delivered, service.end_of_log)
        arrived = sorted(address for recipients, _, _ in server.mails for address in recipients)
        assert arrived == sorted(
            f"{c}{n}@{d}.invalid" for n in range(12) for c, d in (("a", "x"), ("b", "y"))
        )
        assert all(over_tls for _, _, over_tls in server.mails)
        by_id = {below_trace_fields(octets) for _, octets, _ in server.mails}
        assert by_id == set(sent.values())


class Tenant:
    """Plays Exchange Online's part by hand around two of somebody else's servers: what `online` takes for
    hybrid recipients stays Pending while `mended` is False, and is told in trace files."""

    def __init__(self, folder: Path, online: Server) -> None:
        self.folder = folder
        self.mended = False
        self.delivered: list[tuple[str, bytes]] = []
        self._files = 0
        online.taken = self.take

    def take(self, recipients: tuple[str, ...], octets: bytes) -> None:
        message_id = octets.partition(b"Message-ID: ")[2].split(b"\r\n")[0].decode()
        self._files += 1
        network_id = f"b7c1f4d2-9a6e-4c3b-8f2d-{self._files:012x}"
        now = datetime.datetime.now(datetime.UTC)
        summary, details = [], []
        for recipient in recipients:
            fine = self.mended or recipient.startswith("cloud")
            if fine:
                self.delivered.append((recipient, octets))
            status = "Delivered" if fine else "Pending"
            summary.append((network_id, message_id, now.isoformat(), "app@app.invalid", recipient, status))
            if not fine:
                led = (
                    "450 4.4.317 Cannot establish session with remote server [Message=CertificateExpired "
                    "Expected Subject: mail.contoso.invalid. Presented Subject: CN=mail.contoso.invalid.]"
                )
                host = "{FQDN=mail.contoso.invalid};{IP=127.0.0.1};{LRT=}"
                detail = f"Reason: [{{LED={led}}};{{MSG=}};{host}]"
                details.append((network_id, message_id, now.isoformat(), recipient, "Defer", "", detail))
        self._write("MessageTraceId,MessageId,Received,SenderAddress,RecipientAddress,Status", summary)
        if details:
            self._write("MessageTraceId,MessageId,Date,Recipient,Event,Action,Detail", details)

    def _write(self, header: str, rows: Sequence[tuple[str, ...]]) -> None:
        lines = [header, *(",".join(f'"{value}"' for value in row) for row in rows)]
        part = self.folder / f".{self._files}-{len(header)}.part"
        part.write_text("\r\n".join(lines) + "\r\n")
        part.rename(self.folder / f"{self._files:04d}-{len(header)}.csv")


async def test_mail_taken_and_left_pending_is_resubmitted_once_the_certificate_is_renewed(
    tmp_path: Path,
) -> None:
    certificates = Certificates(tmp_path)
    online = Server(certificates.good("eop.invalid"))
    hybrid = Server(certificates.expired("mail.contoso.invalid"))
    traces = tmp_path / "traces"
    traces.mkdir()
    tenant = Tenant(traces, online)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(online.running())
        await stack.enter_async_context(hybrid.running())
        tables = (
            f'[[route]]\nname = "eop"\nhost = "127.0.0.1"\nport = {online.port}\ntls = "verified"\n'
            'tls_name = "eop.invalid"\nca_file = "root.pem"\n'
            '[[destination]]\nname = "hybrid"\ndomains = ["contoso.invalid"]\nhandoff = "eop"\n'
            f'probe = "127.0.0.1:{hybrid.port}"\nprobe_name = "mail.contoso.invalid"\nca_file = "root.pem"\n'
            '[[evidence.folder]]\npath = "traces"\nstill = "200ms"\n'
        )
        service = await stack.enter_async_context(Service(tmp_path, tables + QUICK).running())
        sent = {
            n: await service.send(n, f"a{n}@contoso.invalid", f"cloud{n}@contoso.invalid") for n in range(12)
        }

        async def all_stuck() -> bool:
            stuck = await service.stands("--stuck", "--cause", "tls", "--state", "deferred")
            return sum(1 for address, _ in stuck if address.startswith("a")) == 12

        await until(all_stuck, service.end_of_log)
        (status,) = await service.ask("status")
        assert [(one["name"], one["gate"]) for one in status["destinations"]] == [("hybrid", "closed")]
        assert sorted(recipient for recipient, _ in tenant.delivered) == sorted(
            f"cloud{n}@contoso.invalid" for n in range(12)
        )

        tenant.mended = True
        hybrid.tls = certificates.good("mail.contoso.invalid")

        async def all_delivered() -> bool:
            return set((await service.stands()).values()) == {"delivered"}

        await until(all_delivered, service.end_of_log)

        async def closed() -> bool:
            return {one["state"] for one in await service.ask("incidents")} == {"closed"}

        await until(closed, service.end_of_log)
        (incident,) = await service.ask("incidents")
        (report,) = await service.ask("incidents", "report", str(incident["id"]))
        assert (report["stuck"], report["recovered"], report["duplicates"], report["unknown"]) == (
            12,
            12,
            0,
            0,
        )
        assert sorted(recipient for recipient, _ in tenant.delivered) == sorted(
            f"{word}{n}@contoso.invalid" for n in range(12) for word in ("a", "cloud")
        )
        assert {below_trace_fields(octets) for _, octets in tenant.delivered} == set(sent.values())
