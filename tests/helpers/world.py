"""The whole service and the whole lab in one simulated world: an outage of hours in a second or so.

`World` plays everybody but the service: a sending application, Exchange Online, the hybrid server whose
certificate runs out and is renewed, and the one who kills the service and starts it again. Time is virtual;
protocol bytes, TLS and the journal's files are real.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from resubmit.app import build
from resubmit.clock import LoopClock
from resubmit.config import load
from resubmit.flow.service import Service
from resubmit.lab.certs import Authority
from resubmit.lab.client import Broken, Client
from resubmit.lab.exchange_online import Connector, ExchangeOnline
from resubmit.lab.hybrid import HybridServer
from resubmit.lab.mailbox import Mailboxes
from resubmit.lab.tenant import Tenant
from resubmit.lab.trace_files import Publisher
from resubmit.model.moment import HOUR, MINUTE, Ms, to_datetime
from tests.helpers.loop import SimulatedLoop

HYBRID, ONLINE = "mail.contoso.invalid", "contoso-invalid.mail.protection.invalid"
INTAKE_PORT, ONLINE_PORT, HYBRID_PORT = 2500, 2501, 2502
MAILS = 20
RENEWED: Ms = 40 * MINUTE
LIMIT: Ms = 8 * HOUR

_CONFIG = """\
[journal]
path = "journal"
intake_floor = "1MiB"
attempt_floor = "1MiB"
reserve = "64KiB"

[intake.smtp]
listen = ["127.0.0.1:2500"]
hostname = "relay.contoso.invalid"

[[route]]
name = "eop"
host = "127.0.0.1"
port = 2501
tls = "verified"
tls_name = "contoso-invalid.mail.protection.invalid"
ca_file = "certs/lab-root.pem"

[[destination]]
name = "hybrid"
domains = ["contoso.invalid"]
handoff = "eop"
probe = "127.0.0.1:2502"
probe_level = "domain"
probe_name = "mail.contoso.invalid"
ca_file = "certs/lab-root.pem"

[[evidence.folder]]
path = "traces"
poll = "30s"

[recovery]
probe_interval = "60s"
"""

_of_service: contextvars.ContextVar[bool] = contextvars.ContextVar("of_service", default=False)


@dataclass
class Sent:
    """A mail that was answered 250, as its sender had it."""

    message_id: str
    recipients: tuple[str, ...]
    data: bytes


@dataclass
class World:
    """One story on one folder. `cuts`: the chance that a connection to the next hop breaks; `crashes`: how
    often the service is killed."""

    folder: Path
    seed: int
    base: Ms
    cuts: float
    crashes: int
    sent: list[Sent] = field(default_factory=list)
    crashed: int = 0
    cut: int = 0
    held_up: int = 0
    """Mails that waited at Exchange Online when the certificate was renewed."""
    ended_at: Ms = 0
    closed: bool = False

    def __post_init__(self) -> None:
        self.chance = random.Random(f"world {self.seed}")
        self.clock = LoopClock(self.base, seed=self.seed)
        self.mailboxes = Mailboxes(clock=self.clock)
        self.people = [f"{kind}{n}@contoso.invalid" for kind in ("cloud", "hybrid") for n in range(4)]

    def play(self) -> World:
        """The story, from the first mail until the incident is closed or LIMIT is over."""
        loop = SimulatedLoop(self.seed)
        loop.cut_chance = self.cuts
        loop.cut_where = lambda address: address[1] == ONLINE_PORT
        self.loop = loop
        self._ours: list[asyncio.Task[Any]] = []
        loop.set_task_factory(self._new_task)
        try:
            loop.run_until_complete(self._story())
        finally:
            self.cut = loop.cuts
            loop.close()
        return self

    def _new_task(
        self, loop: asyncio.AbstractEventLoop, work: Any, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        """Whatever a task of the service starts is the service's too, and dies with it."""
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, context=context)
        if _of_service.get() if context is None else context.get(_of_service, False):
            self._ours = [one for one in self._ours if not one.done()] + [task]
        return task

    async def _story(self) -> None:
        authority = Authority(self.folder / "certs", self.base)
        traces = self.folder / "traces"
        traces.mkdir()
        (self.folder / "config.toml").write_text(_CONFIG)
        self.hybrid = HybridServer(
            self.mailboxes, authority.good(HYBRID), name=HYBRID, clock=self.clock, port=HYBRID_PORT
        )
        people = {kind: [p for p in self.people if p.startswith(kind)] for kind in ("cloud", "hybrid")}
        self.online = ExchangeOnline(
            Tenant.of(["contoso.invalid"], cloud=people["cloud"], hybrid=people["hybrid"]),
            Connector(HYBRID, "127.0.0.1", HYBRID_PORT, HYBRID, authority.root_file),
            self.mailboxes,
            clock=self.clock,
            tls=authority.good(ONLINE).context(),
            name=ONLINE,
            port=ONLINE_PORT,
        )
        publisher = Publisher(self.online.trace, traces, clock=self.clock, lag=5 * MINUTE, every=2 * MINUTE)
        await self.hybrid.start()
        await self.online.start()
        publishing = asyncio.create_task(publisher.run())
        await self._start()
        others = [asyncio.create_task(self._send_all()), asyncio.create_task(self._kill_now_and_then())]
        await self._until(self.chance.uniform(2, 8) * MINUTE)
        self.hybrid.show(authority.expired(HYBRID))
        await self._until(RENEWED)
        self.held_up = self.online.waiting()
        self.hybrid.show(authority.good(HYBRID))
        await asyncio.gather(*others)
        while not self.closed and self.clock.monotonic() < LIMIT:
            await asyncio.sleep(60)
            assert not self._running.done(), self._running
            incidents = await self.service.parts.journal.incidents(open_only=False)
            self.closed = bool(incidents) and all(one.state == "closed" for one in incidents)
        self.ended_at = self.clock.now()
        self.service.stopping.set()
        assert await self._running
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        await self.online.stop()
        await self.hybrid.stop()

    async def _until(self, moment: float) -> None:
        await asyncio.sleep(max(0.0, (moment - self.clock.monotonic()) / 1000))

    async def _start(self) -> None:
        """The service is built on the folder and runs."""
        context = contextvars.copy_context()
        context.run(_of_service.set, True)

        async def built() -> Service:
            config = load(self.folder / "config.toml")
            parts = await build(config, self.clock, inline=True, watcher=False)
            parts.doors.clear()  # the request socket: this world has no such sockets
            return Service(parts)

        self.service = await self._in(context, built())
        self._running = asyncio.get_running_loop().create_task(self.service.run(), context=context)

    @staticmethod
    async def _in(context: contextvars.Context, work: Coroutine[Any, Any, Service]) -> Service:
        return await asyncio.get_running_loop().create_task(work, context=context)

    async def _kill_now_and_then(self) -> None:
        for moment in sorted(self.chance.uniform(1, 70) * MINUTE for _ in range(self.crashes)):
            await self._until(moment)
            await self._kill()
            await asyncio.sleep(self.chance.uniform(1, 120))
            await self._start()

    async def _kill(self) -> None:
        """As a killed process: from here on nothing can be written, said or finished by it."""
        journal = self.service.parts.journal
        journal._connection.close()
        if journal._reading is not None:
            journal._reading.close()
        for pipe in sorted(self.loop.pipes, key=lambda pipe: pipe.get_extra_info("peername")):
            ends = (pipe.get_extra_info("peername")[1], pipe.get_extra_info("sockname")[1])
            if INTAKE_PORT in ends or ONLINE_PORT in ends:
                pipe.abort()
        ours = [task for task in self._ours if not task.done()]
        self._ours = []
        for task in ours:
            task.cancel()
        await asyncio.gather(*ours, return_exceptions=True)
        journal._lock.release()
        self.crashed += 1

    async def _send_all(self) -> None:
        for number in range(MAILS):
            await asyncio.sleep(self.chance.expovariate(1 / 60))
            count = self.chance.randint(1, 3)
            recipients = tuple(self.chance.sample(self.people, count))
            body = b"line %d\r\n.\r\n..dots\r\n" % number + self.chance.randbytes(30).hex().encode()
            message_id = f"<{number}.{self.seed}@app.invalid>"
            head = (
                f"Message-ID: {message_id}\r\nDate: {format_datetime(to_datetime(self.clock.now()))}\r\n"
                f"Subject: Invoice {number}\r\n\r\n"
            )
            await self._send(Sent(message_id, recipients, head.encode() + body + b"\r\n"))

    async def _send(self, mail: Sent) -> None:
        """As an application with a queue: again until the answer is 250."""
        while True:
            try:
                client = await Client.connect("127.0.0.1", INTAKE_PORT, name="app.invalid")
                replies, dot = await client.send("app@app.invalid", mail.recipients, mail.data)
                await client.quit()
                if dot is not None and dot.good:
                    assert all(answer.good for answer in replies.values())
                    self.sent.append(mail)
                    return
            except Broken:
                pass
            await asyncio.sleep(10)
