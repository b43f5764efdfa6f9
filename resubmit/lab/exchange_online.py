"""A look-alike of Exchange Online: it answers 250, and what becomes of the mail is seen in its trace only.

Promises: replies and details are Microsoft's texts; forced TLS to the hybrid server is judged by chain,
dates and name; mail that fails on it stays Pending with a Defer, and is not tried again unless `retries`;
each mail taken is a trace object of its own, whatever its Message-ID.

Source: microsoft.md sections 3.1–3.3, 4, 4.1, 5.1; field reports say the stuck mail is never retried,
Microsoft's pages say it is, so both can be played.
Limits: names and addresses are the lab's; no spam filter, no connectors but the one to the hybrid server.
"""

from __future__ import annotations

import asyncio
import ssl
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from resubmit.clock import Clock
from resubmit.lab.client import Answer, Broken, Client, carries, presented
from resubmit.lab.mailbox import Mailboxes
from resubmit.lab.ndr import Fate, Returns, compose
from resubmit.lab.script import Mail, Script, header
from resubmit.lab.smtpd import ScriptedServer
from resubmit.lab.tenant import Kind, Tenant
from resubmit.lab.trace import DELIVERED, EXPANDED, FAILED, PENDING, Row, Step, Trace, led_block
from resubmit.model.envelope import address_key
from resubmit.model.moment import DAY, MINUTE, Ms, to_datetime

_EXPIRED = {
    "4.4.315": "connection timed out",
    "4.4.316": "connection refused",
    "4.4.317": "cannot connect to remote server",
    "4.4.318": "connection was closed abruptly",
}


@dataclass(frozen=True, slots=True)
class Connector:
    """The outbound connector to the hybrid server: where, and the name its certificate must carry.

    `host` is the name in replies and details; `address` and `port` are where it really listens.
    """

    host: str
    address: str
    port: int
    tls_domain: str
    ca_file: Path


@dataclass(slots=True)
class _Item:
    """A trace object with what is left of it for the hybrid server."""

    mail: Mail
    network_id: str
    internal_id: int
    message_id: str
    received_at: Ms
    rows: list[Row] = field(default_factory=list)
    last_led: str = ""


class ExchangeOnline:
    """The receiving server, the queue to the hybrid server, the trace and the cloud mailboxes.

    `retries` makes it try deferred mail again every `retry_every`; `expires_after` is its queue lifetime.
    `returns_to`: host and port where it sends its non-delivery reports; None: nowhere.
    """

    def __init__(
        self,
        tenant: Tenant,
        connector: Connector,
        mailboxes: Mailboxes,
        *,
        clock: Clock,
        tls: ssl.SSLContext | None = None,
        name: str = "contoso-invalid.mail.protection.invalid",
        server: str = "AM0PR00MB0001.EURPRD00.PROD.OUTLOOK.COM",
        retries: bool = False,
        retry_every: Ms = 15 * MINUTE,
        expires_after: Ms = DAY,
        returns_to: tuple[str, int] | None = None,
        timeout: Ms = 30_000,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.tenant = tenant
        self.connector = connector
        self.mailboxes = mailboxes
        self.clock = clock
        self.server = server
        self.retries = retries
        self.retry_every = retry_every
        self.expires_after = expires_after
        self.timeout = timeout
        self.trace = Trace()
        script = Script(
            name=name,
            greeting=f"220 {server} Microsoft ESMTP MAIL Service ready at {self._date(clock.now())}",
        )
        script.rcpt, script.dot = self._rcpt, self.take
        self.smtp = ScriptedServer(script, tls=tls, host=host, port=port, clock=clock)
        self._queue: asyncio.Queue[_Item] = asyncio.Queue()
        self._returns = Returns(returns_to, name=server.lower(), timeout=timeout)
        self._deferred: list[_Item] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._count = 0

    @property
    def port(self) -> int:
        """Where mail is taken."""
        return self.smtp.port

    async def start(self) -> None:
        """Takes mail and delivers it."""
        await self.smtp.start()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(work()) for work in (self._deliver, self._tidy, self._returns.run)]

    async def stop(self) -> None:
        """Neither takes nor delivers."""
        await self.smtp.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def __aenter__(self) -> ExchangeOnline:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def waiting(self) -> int:
        """Trace objects that wait for the hybrid server, tried or not."""
        return self._queue.qsize() + len(self._deferred)

    def _rcpt(self, address: str) -> str:
        if not self.tenant.accepts(address):
            return f"550 5.7.64 TenantAttribution; Relay Access Denied [{self._stamp(self.clock.now())}]"
        return "250 2.1.5 Recipient OK"

    async def take(self, mail: Mail) -> str:
        """The mail is a trace object; the reply is the one to its dot."""
        now = self.clock.now()
        self._count += 1
        network_id = str(uuid.UUID(int=self.clock.chance.getrandbits(128), version=4))
        message_id = mail.header("Message-ID") or f"<{network_id}@{self.server.lower()}>"
        item = _Item(mail, network_id, 29_072_633_627_000 + self._count, message_id, now)
        known: set[str] = set()
        before = len(self.trace.rows)
        for address, _ in mail.recipients:
            await self._resolve(item, address, known)
        unknown = [row for row in self.trace.rows[before:] if row.status() == FAILED]
        self._report(item, [Fate(row.recipient, row.steps[-1].led) for row in unknown])
        if item.rows:
            self._queue.put_nowait(item)
        size = len(mail.data)
        return (
            f"250 2.6.0 {message_id} [InternalId={item.internal_id}, Hostname={self.server}] {size} bytes in "
            f"0.195, {size / 0.195 / 1024:.3f} KB/sec Queued mail for delivery"
        )

    async def _resolve(self, item: _Item, address: str, known: set[str], *, member: bool = False) -> None:
        """The recipient has its row; cloud mailboxes have their copy; hybrid ones wait in `item.rows`."""
        if address_key(address) in known:
            return
        known.add(address_key(address))
        row = Row(
            item.network_id,
            item.internal_id,
            item.message_id,
            item.received_at,
            item.mail.sender,
            address,
            header(item.mail.data, "Subject"),
            len(item.mail.data),
            item.mail.peer.rpartition(":")[0],
            self.server.lower(),
        )
        self.trace.rows.append(row)
        now = self.clock.now()
        if not member:
            row.add(Step(now, "Receive", PENDING, f"Message received by: {self.server.lower()}"))
        match self.tenant.kind(address):
            case Kind.CLOUD:
                await self.mailboxes.put(address, self._stamped(item), self.server)
                detail = "The message was successfully delivered."
                row.add(Step(self.clock.now(), "Deliver", DELIVERED, detail))
            case Kind.HYBRID:
                if member:
                    row.add(Step(now, "Transfer", PENDING, "The message was transferred for delivery."))
                item.rows.append(row)
            case Kind.GROUP:
                detail = "The message was sent to a distribution list (DL) that was expanded."
                row.add(Step(now, "Expand DL", EXPANDED, detail))
                for one in self.tenant.members(address):
                    await self._resolve(item, one, known, member=True)
            case Kind.UNKNOWN:
                led = "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup"
                row.add(Step(now, "Fail", FAILED, f"Reason: {led_block(led, '', '', now)}", led))

    async def _deliver(self) -> None:
        """The queue to the hybrid server: one connection for all that waits; when it fails, all wait on."""
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get_nowait())
            try:
                client = await self._connected()
            except Broken as broken:
                led = await self._led(broken)
                for item in batch:
                    self._defer(item, led)
                continue
            try:
                while batch:
                    await self._hand(client, batch[0])
                    batch.pop(0)
            except Broken:
                # The one in flight may have been taken: a real queue sends it again as well.
                for item in batch:
                    self._defer(item, "450 4.4.318 Connection was closed abruptly")
            finally:
                await client.quit()

    async def _connected(self) -> Client:
        to = self.connector
        client = await Client.connect(to.address, to.port, name=self.server.lower(), timeout=self.timeout)
        try:
            if "STARTTLS" not in client.keywords:
                raise Broken("starttls", "451 5.7.3 STARTTLS is required to send mail")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False  # judged below: a TlsDomain may be a wildcard
            context.load_verify_locations(to.ca_file)
            await client.starttls(context, to.host)
            if not carries(client.names(), to.tls_domain):
                raise Broken("certificate", "SubjectMismatch")
            await client.ehlo(self.server.lower())
        except Broken:
            client.drop()
            raise
        return client

    async def _hand(self, client: Client, item: _Item) -> None:
        """One transaction with the rows that wait; each has its end, or a Defer. Raises Broken."""
        data = self._stamped(item)
        replies, dot = await client.send(item.mail.sender, [r.recipient for r in item.rows], data)
        now = self.clock.now()
        left: list[Row] = []
        refused: list[Fate] = []
        led = ""
        for row in item.rows:
            answer = replies[row.recipient]
            answer = dot if answer.good and dot is not None else answer
            if answer.good:
                detail = f"Message sent to {self.connector.host} at {self.connector.address} using TLS1.3"
                row.add(self._step(now, "Send external", DELIVERED, detail))
            elif answer.code >= 500:
                row.add(self._step(now, "Fail", FAILED, "", self._refusal(answer)))
                refused.append(Fate(row.recipient, self._refusal(answer)))
            else:
                left.append(row)
                led = f"{answer.code} {answer.text}"
        item.rows = left
        self._report(item, refused)
        if left:
            self._defer(item, led)

    @staticmethod
    def _refusal(answer: Answer) -> str:
        if answer.text.startswith("5.1."):
            return f"550 5.1.351 Remote server returned unknown recipient or mailbox unavailable -> {answer}"
        return str(answer)

    def _defer(self, item: _Item, led: str) -> None:
        now = self.clock.now()
        item.last_led = led
        for row in item.rows:
            row.add(self._step(now, "Defer", PENDING, "", led))
        self._deferred.append(item)

    def _step(self, at: Ms, event: str, status: str, detail: str, led: str = "") -> Step:
        to = self.connector
        if led:
            block = led_block(led, to.host, to.address, at)
            target = f"OutboundProxyTargetIP: {to.address}. OutboundProxyTargetHostName: {to.host}"
            detail = f"Reason: {block}. {target}"
        return Step(at, event, status, detail, led, to.host, to.address)

    async def _led(self, broken: Broken) -> str:
        """The reply Exchange Online gives for a connection that could not be had."""
        to = self.connector
        security = "-2;-2"
        match broken.step, broken.reason:
            case "connect", "refused":
                head = "450 4.4.316 Connection refused [Message=Socket error code 10061]"
            case "connect", _:
                head = "450 4.4.315 Connection timed out [Message=Socket error code 10060]"
            case "starttls", reason:
                head = f"450 4.4.317 Cannot establish session with remote server [Message={reason}]"
            case "certificate", reason:
                security = "-1;-1"
                subject, thumb = await presented(
                    to.address, to.port, name=self.server.lower(), timeout=self.timeout
                )
                head = (
                    f"450 4.4.317 Cannot establish session with remote server [Message={reason} Expected "
                    f"Subject: {to.tls_domain}. Presented Subject: {subject}. Thumbprint: {thumb}.]"
                )
            case "handshake", reason:
                head = (
                    "450 4.4.317 Cannot establish session with remote server "
                    f"[Message=451 4.4.0 TLS negotiation failed with error {reason}]"
                )
            case _, reason if reason[:1] == "4":
                return reason
            case _:
                head = "450 4.4.318 Connection was closed abruptly"
        return (
            f"{head} [LastAttemptedServerName={to.host}] [LastAttemptedIP={to.address}:{to.port}] "
            f"[SmtpSecurity={security}] [{self._stamp(self.clock.now())}]"
        )

    async def _tidy(self) -> None:
        """Gives up what is too old, and tries again if this tenant does."""
        step = max(50, min(self.retry_every, self.expires_after) // 4)
        tried = self.clock.monotonic()
        while True:
            await asyncio.sleep(step / 1000)
            self.give_up(self.expires_after)
            if self.retries and self.clock.monotonic() - tried >= self.retry_every:
                tried = self.clock.monotonic()
                self.retry()

    def retry(self, most: int | None = None) -> None:
        """What is deferred is tried again now; `most`: only so many, the oldest."""
        count = len(self._deferred) if most is None else most
        again, self._deferred = self._deferred[:count], self._deferred[count:]
        for item in again:
            self._queue.put_nowait(item)

    def give_up(self, age: Ms = 0) -> None:
        """What is deferred and was taken so long ago is given up, and its senders are told."""
        now = self.clock.now()
        old = [item for item in self._deferred if now - item.received_at >= age]
        self._deferred = [item for item in self._deferred if now - item.received_at < age]
        for item in old:
            self._expire(item, now)

    def return_to(self, host: str, port: int) -> None:
        """Non-delivery reports go there from now on."""
        self._returns.to = (host, port)

    def _expire(self, item: _Item, now: Ms) -> None:
        code = item.last_led.split(" ")[1] if item.last_led[:1] == "4" else ""
        cause = item.last_led.partition("[Message=")[2].partition("]")[0]
        if code in _EXPIRED:
            led = f"550 5{code[1:]} Message expired, {_EXPIRED[code]}" + (f"({cause})" if cause else "")
        else:
            led = f"550 5.4.300 Message expired -> {item.last_led}"
        for row in item.rows:
            row.add(Step(now, "Fail", FAILED, f"Reason: {led_block(led, '', '', now)}", led))
        where = f"{self.connector.host} ({self.connector.address})"
        self._report(item, [Fate(row.recipient, led, item.last_led, where) for row in item.rows])

    def _report(self, item: _Item, fates: list[Fate]) -> None:
        """A non-delivery report to the sender, if there is one and they go anywhere."""
        if not fates or not item.mail.sender or self._returns.to is None:
            return
        octets = compose(
            fates,
            self._stamped(item),
            sender=item.mail.sender,
            server=self.server,
            domain="contoso.onmicrosoft.invalid",
            helo=item.mail.helo,
            received_at=item.received_at,
            now=self.clock.now(),
            number=self.clock.chance.getrandbits(96),
        )
        self._returns.put(item.mail.sender, octets)

    def _stamped(self, item: _Item) -> bytes:
        """The mail with Exchange Online's own trace field on top."""
        mail = item.mail
        how = f"version={mail.tls.replace(' ', ', cipher=')}" if mail.tls else "no TLS"
        ip = mail.peer.rpartition(":")[0]
        return (
            f"Received: from {mail.helo} ({ip}) by\r\n {self.server} (127.0.0.1) with Microsoft SMTP"
            f" Server\r\n ({how}) id 15.21.181.6; {self._date(item.received_at)}\r\n"
        ).encode() + mail.data

    def _stamp(self, now: Ms) -> str:
        when = to_datetime(now)
        return (
            f"{self.server.lower()} {when:%Y-%m-%dT%H:%M:%S}.{now % 1000:03d}Z 08DE2A6C{now & 0xFFFFFFFF:08X}"
        )

    @staticmethod
    def _date(now: Ms) -> str:
        return f"{to_datetime(now):%a, %d %b %Y %H:%M:%S +0000}"
