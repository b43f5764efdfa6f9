"""A listener on a real socket, with the journal's own spool, for tests; and a line-by-line client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resubmit.clock import SystemClock
from resubmit.errors import Refused
from resubmit.intake.base import NewSpool, Received
from resubmit.intake.kinds.smtp import SmtpListener
from resubmit.intake.settings import SmtpIntake
from resubmit.journal.bodies import Bodies
from tests.unit.intake.talk import ID


@dataclass
class House:
    """`received` what was accepted; `answer` is raised by accept when set; `held` keeps accept waiting."""

    listener: SmtpListener
    bodies: Bodies
    received: list[Received] = field(default_factory=list)
    answer: Exception | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    full: bool = False

    @property
    def port(self) -> int:
        return self.listener.addresses[0][1]

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.bodies.folder.iterdir())

    async def accept(self, received: Received) -> str:
        self.asked.set()
        await self.held.wait()
        if self.answer is not None:
            raise self.answer
        self.received.append(received)
        return ID

    def vet(self, address: str) -> Refused | None:
        if address.startswith("crash@"):
            raise RuntimeError("a bug in vet")
        return Refused(550, "5.4.4", "no destination") if address.startswith("nobody@") else None

    def room(self) -> Refused | None:
        return Refused(452, "4.3.1", "no room") if self.full else None

    async def octets(self, number: int = -1) -> bytes:
        return b"".join([chunk async for chunk in self.bodies.read(self.received[number].body)])


@asynccontextmanager
async def listening(
    folder: Path,
    *,
    spool: Callable[[NewSpool], NewSpool] = lambda made: made,
    held: bool = False,
    **settings: Any,
) -> AsyncIterator[House]:
    """`spool` may wrap the journal's; `held`: accept waits until the test says so."""
    bodies = Bodies(folder)
    bodies.make()
    house: House
    listener = SmtpListener(
        SmtpIntake.model_validate({"listen": ["127.0.0.1:0"], "hostname": "mx.test", **settings}),
        new_spool=spool(bodies.new_spool),
        vet=lambda address: house.vet(address),
        room=lambda: house.room(),
        clock=SystemClock(1),
    )
    house = House(listener, bodies)
    if not held:
        house.held.set()
    await listener.bind()
    running = asyncio.create_task(listener.run(house.accept))
    try:
        yield house
    finally:
        house.held.set()
        await listener.stop(2000)
        await running


class Client:
    """Says lines, hears replies; knows nothing else."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def reply(self) -> str:
        """The next reply, its lines joined by newline; "" when the server has closed."""
        lines: list[str] = []
        while True:
            line = (await asyncio.wait_for(self.reader.readline(), 20)).decode()
            if not line:
                return "\n".join(lines)
            lines.append(line.removesuffix("\r\n"))
            if line[3:4] != "-":
                return "\n".join(lines)

    async def ask(self, line: str) -> str:
        self.send(line.encode() + b"\r\n")
        return await self.reply()

    async def begin(self, sender: str = "a@b", recipient: str = "c@d") -> None:
        """Up to 354."""
        for line in ("EHLO client", f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>"):
            assert (await self.ask(line)).startswith("250"), line
        assert (await self.ask("DATA")).startswith("354")

    async def tls(self, context: Any, name: str) -> None:
        await self.writer.start_tls(context, server_hostname=name)


@asynccontextmanager
async def client(port: int, host: str = "127.0.0.1", greeting: str = "220 ") -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(host, port)
    made = Client(reader, writer)
    try:
        assert (await made.reply()).startswith(greeting)
        yield made
    finally:
        writer.transport.abort()
        try:
            await writer.wait_closed()
        except (OSError, asyncio.CancelledError):
            pass
