"""The whole service and the whole lab in one simulated world: an outage of hours in a second or so.

`World` plays everybody but the service: a sending application, Exchange Online and the hybrid server behind
it, a partner whose 250 is a delivery, the trace, and the one who kills the service and starts it again. What
happens is the plot's (plot.py). Time is virtual; protocol bytes, TLS and the journal's files are real.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import re
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import closing
from dataclasses import dataclass, field
from email.utils import format_datetime
from pathlib import Path
from typing import Any, TypeVar

from resubmit.app import build
from resubmit.clock import LoopClock
from resubmit.config import load
from resubmit.flow.service import Service
from resubmit.journal import read
from resubmit.lab.client import Broken, Client
from resubmit.lab.exchange_online import Connector, ExchangeOnline
from resubmit.lab.hybrid import HybridServer
from resubmit.lab.mailbox import Mailboxes
from resubmit.lab.script import Cut, Mail
from resubmit.lab.tenant import Tenant
from resubmit.lab.trace_files import EVENTS
from resubmit.model.ids import parse_attempt_key
from resubmit.model.moment import HOUR, Ms, to_datetime
from resubmit.model.recipient import SETTLED
from tests.helpers.cast import (
    ADDRESSES,
    CONFIG,
    HYBRID,
    HYBRID_PORT,
    INTAKE_PORT,
    MEMBERS,
    ONLINE,
    ONLINE_PORT,
    PARTNER,
    PARTNER_PORT,
    PARTNERS,
    PEOPLE,
    TEAM,
    authority,
    base,
    be,
    leaf,
)
from tests.helpers.loop import SimulatedLoop
from tests.helpers.plot import Plot
from tests.helpers.teller import Teller

T = TypeVar("T")

LIMIT: Ms = 12 * HOUR

_AGAIN = re.compile(rb"\A[^\n]*\n[^\n]*\n\tid (\S+)")

_of_service: contextvars.ContextVar[bool] = contextvars.ContextVar("of_service", default=False)


@dataclass
class Sent:
    """A mail that was answered 250, as its sender had it."""

    message_id: str
    recipients: tuple[str, ...]
    data: bytes


@dataclass
class World:
    """One story on one folder."""

    folder: Path
    seed: int
    plot: Plot
    sent: list[Sent] = field(default_factory=list)
    crashed: int = 0
    cut: int = 0
    lost: int = 0
    """Replies to a dot that never arrived."""
    resent: int = 0
    """Mails that came to Exchange Online with an attempt's number above 1."""
    held_up: int = 0
    """Mails that waited at Exchange Online when the fault was mended."""
    ended_at: Ms = 0
    over: bool = False
    """Every incident is closed and every recipient settled."""

    def __post_init__(self) -> None:
        self.chance = random.Random(f"world {self.seed}")
        self.clock = LoopClock(base(), seed=self.seed)
        self.mailboxes = Mailboxes(clock=self.clock)

    def play(self) -> World:
        """The story, from the first mail until all is settled or LIMIT is over."""
        loop = self.loop = SimulatedLoop(self.seed)
        chances = {
            ONLINE_PORT: self.plot.cuts,
            PARTNER_PORT: self.plot.cuts,
            INTAKE_PORT: self.plot.client_cuts,
        }
        loop.cut_odds = lambda address: 0.0 if self._healed else chances.get(address[1], 0.0)
        loop.owner = _of_service.get
        self._ours: dict[asyncio.Task[Any], None] = {}
        self._kills: list[asyncio.Task[None]] = []
        self._killing = asyncio.Lock()
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
            self._ours[task] = None
            task.add_done_callback(lambda done: self._ours.pop(done, None))
        return task

    # ── the story ──

    async def _story(self) -> None:
        (self.folder / "traces").mkdir()
        (self.folder / "config.toml").write_text(CONFIG.format(roots=authority().root_file))
        await self._build_up()
        await self._start()
        plot = self.plot
        others = [self._send_all(), self._break_and_mend(), self._partner(), self._silence(), self._late()]
        others += [self._kill_at(int(kill.split()[1])) for kill in plot.kills if kill.startswith("at")]
        tasks = [asyncio.create_task(one) for one in others]
        publishing = [asyncio.create_task(self.publisher.run())]
        if plot.vouched:
            publishing.append(asyncio.create_task(self._vouch()))
        await asyncio.gather(*tasks)
        while not self.over and self.clock.monotonic() < LIMIT:
            await asyncio.sleep(60)
            self.over = await self._is_over()
        await asyncio.gather(*self._kills)
        self.ended_at = self.clock.now()
        self.service.stopping.set()
        assert await self._running
        for task in publishing:
            task.cancel()
        await asyncio.gather(*publishing, return_exceptions=True)
        for server in (self.online, self.hybrid, self.partner):
            await server.stop()

    async def _build_up(self) -> None:
        plot, clock = self.plot, self.clock
        self.hybrid = HybridServer(
            self.mailboxes, leaf("good", HYBRID), name=HYBRID, clock=clock, port=HYBRID_PORT
        )
        self.partner = HybridServer(
            self.mailboxes,
            leaf("good", PARTNER),
            name=PARTNER,
            known=set(PARTNERS),
            clock=clock,
            port=PARTNER_PORT,
        )
        self.online = ExchangeOnline(
            Tenant.of(["contoso.invalid"], **PEOPLE, groups={TEAM: MEMBERS}),
            Connector(HYBRID, "127.0.0.1", HYBRID_PORT, HYBRID, authority().root_file),
            self.mailboxes,
            clock=clock,
            tls=leaf("good", ONLINE).context(),
            name=ONLINE,
            port=ONLINE_PORT,
            retries=plot.far_retries,
        )
        for script in (self.online.smtp.script, self.partner.script):
            script.dot = self._troubled(script.dot)
        self.publisher = Teller(
            self.online.trace, self.folder / "traces", plot, clock=clock, chance=self.chance
        )
        self._kills_by_count = [
            (int(count), int(after))
            for word, count, after in (kill.split() for kill in plot.kills if kill.startswith("sent"))
        ]
        for server in (self.hybrid, self.online, self.partner):
            await server.start()

    async def _is_over(self) -> bool:
        if self._killing.locked():
            return False
        assert not self._running.done(), self._running
        with closing(read.connect(self.folder / "journal")) as journal:
            incidents = [state for (state,) in journal.execute("select state from incident")]
            states = {state for (state,) in journal.execute("select distinct state from recipient")}
        return bool(incidents) and set(incidents) == {"closed"} and states <= SETTLED

    @property
    def _healed(self) -> bool:
        return self.clock.monotonic() >= self.plot.heals

    async def _until(self, moment: float) -> None:
        await asyncio.sleep(max(0.0, (moment - self.clock.monotonic()) / 1000))

    # ── the far side ──

    async def _break_and_mend(self) -> None:
        plot = self.plot
        await self._until(plot.breaks)
        await self._show(plot.fault)
        if plot.wrong_fix is not None:
            await self._until(plot.wrong_fix)
            await self._show("self_signed" if plot.fault == "wrong_name" else "wrong_name")
        await self._until(plot.mended)
        self.held_up = self.online.waiting()
        await self._show("good")
        if plot.relapse is not None:
            await self._until(plot.relapse[0])
            await self._show(plot.fault)
            await self._until(plot.relapse[1])
            await self._show("good")

    async def _show(self, kind: str) -> None:
        """The hybrid server is like this from now on."""
        await be(self.hybrid, kind, HYBRID)

    async def _partner(self) -> None:
        if self.plot.partner_down is not None:
            start, end = self.plot.partner_down
            await self._until(start)
            await be(self.partner, self.plot.partner_fault, PARTNER)
            await self._until(end)
            await be(self.partner, "good", PARTNER)

    async def _silence(self) -> None:
        if self.plot.silence is not None:
            await self._until(self.plot.silence[0])
            script = self.online.smtp.script
            script.hang, script.times = self.plot.silence[1], 1

    def _troubled(self, dot: Any) -> Callable[[Mail], Awaitable[Any]]:
        """The answer to a dot as the plot has it: as it should be, lost, or late."""

        async def answer(mail: Mail) -> Any:
            roll, plot = 1.0 if self._healed else self.chance.random(), self.plot
            if roll < plot.lost / 2:
                self.lost += 1
                if roll < plot.lost / 4:
                    raise Cut
                return "451 4.3.2 System not accepting network messages"
            reply = await dot(mail)
            self._count(mail)
            if roll < plot.lost:
                self.lost += 1
                raise Cut
            if roll < plot.lost + plot.slow:
                await asyncio.sleep(self.chance.choice((1, 20, 90, 700)))
            return reply

        return answer

    def _count(self, mail: Mail) -> None:
        again = _AGAIN.match(mail.data)
        attempt = parse_attempt_key(again[1].decode()) if again else None
        if attempt is None or attempt[1] == 1:
            return
        self.resent += 1
        for count, after in self._kills_by_count:
            if self.resent == count:
                self._kills.append(asyncio.create_task(self._kill_at(self.clock.monotonic() + after)))

    # ── the trace ──

    async def _late(self) -> None:
        if self.plot.late is not None:
            await self._until(self.plot.late[0])
            self.publisher.paused = True
            await self._until(self.plot.late[1])
            self.publisher.paused = False

    async def _vouch(self) -> None:
        """A person exports the whole trace now and then, and says what it covers."""
        number = 0
        (self.folder / "reports").mkdir()
        while True:
            await asyncio.sleep(600)
            cutoff = self.clock.now() - self.plot.lag
            rows = [row.until(cutoff) for row in self.online.trace.rows if row.received_at <= cutoff]
            if not rows or self._running.done():
                continue
            number += 1
            file = self.folder / "reports" / f"{number}.csv"
            file.write_bytes(EVENTS[number % 2](rows))
            options = {"files": [str(file)], "covers": [base(), cutoff], "timezone": "UTC"}
            request = {"do": "ingest", "by": "ann", "options": options}
            work = self.service.parts.obey.carry_out(request, lambda progress: None)
            await asyncio.wait([self._in_service(work)])

    # ── the service ──

    async def _start(self) -> None:
        """The service is built on the folder and runs."""

        async def built() -> Service:
            config = load(self.folder / "config.toml")
            parts = await build(config, self.clock, inline=True, watcher=False)
            parts.doors.clear()  # the request socket: this world has no such sockets
            return Service(parts)

        self.service = await self._in_service(built())
        self._running = self._in_service(self.service.run())

    def _in_service(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task that is the service's own."""
        context = contextvars.copy_context()
        context.run(_of_service.set, True)
        return asyncio.get_running_loop().create_task(work, context=context)

    async def _kill_at(self, moment: float) -> None:
        await self._until(moment)
        async with self._killing:
            self._kill()
            await asyncio.gather(*self._dying, return_exceptions=True)
            await asyncio.sleep(self.chance.uniform(1, 120))
            await self._start()

    def _kill(self) -> None:
        """As a killed process: from here on nothing can be written, said or finished by it."""
        journal = self.service.parts.journal
        journal._connection.close()
        if journal._reading is not None:
            journal._reading.close()
        for pipe in list(self.loop.pipes):
            if pipe.owner or INTAKE_PORT in (pipe.address[1], pipe.local[1]):
                pipe.abort()
        self._dying = [task for task in self._ours if not task.done()]
        for task in self._dying:
            task.cancel()
        journal._lock.release()
        self.crashed += 1

    # ── the application ──

    async def _send_all(self) -> None:
        for number in range(self.plot.mails):
            await asyncio.sleep(self.chance.expovariate(self.plot.mails / 1800))
            recipients = tuple(dict.fromkeys(self.chance.choices(ADDRESSES, k=self.chance.randint(1, 4))))
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
                if dot is not None and dot.good:
                    assert all(answer.good for answer in replies.values())
                    self.sent.append(mail)
                    await client.quit()
                    return
                client.drop()
            except Broken:
                pass
            await asyncio.sleep(10)
