"""A small server with bad manners, for what a well-made one can't be told to do.

Each step's reply is octets, or CUT or HANG in their place. It shares nothing with the probe or the intake.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

CUT = b"\0cut"
HANG = b"\0hang"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Manners:
    """What is said at each step; `tls`: the context for the handshake, None to stop before it."""

    tls: ssl.SSLContext | None = None
    greeting: bytes = b"220 mail.test.invalid ESMTP\r\n"
    ehlo: bytes = b"250-mail.test.invalid hello\r\n250-SIZE 1000\r\n250 STARTTLS\r\n"
    helo: bytes = b"250 mail.test.invalid\r\n"
    clear_mail: bytes = b"250 2.1.0 ok\r\n"
    """To MAIL before TLS."""
    starttls: bytes = b"220 go on\r\n"
    after_hello: bytes = b""
    """In place of a handshake, once the client's first TLS octets have come."""
    tls_ehlo: bytes = b"250-mail.test.invalid hello\r\n250 PIPELINING\r\n"
    mail: bytes = b"250 2.1.0 ok\r\n"
    rcpt: bytes = b"250 2.1.5 ok\r\n"
    rset: bytes = b"250 ok\r\n"
    quit: bytes = b"221 bye\r\n"
    commands: list[str] = field(default_factory=list)
    arrivals: list[str] = field(default_factory=list)
    """What came together in one read after TLS: how often the client waited."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except (_Cut, OSError, asyncio.IncompleteReadError):
            pass

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await say(writer, self.greeting)
        while line := await reader.readline():
            verb = self._heard(line)
            if verb == "STARTTLS":
                await say(writer, self.starttls)
                if self.after_hello:
                    await reader.read(16)
                    await say(writer, self.after_hello)
                    return
                if self.tls is None:
                    continue
                await writer.start_tls(self.tls)
                await self._secured(reader, writer)
                return
            answers = {
                "EHLO": self.ehlo, "HELO": self.helo, "MAIL": self.clear_mail,
                "RSET": self.rset, "QUIT": self.quit,
            }  # fmt: skip
            await say(writer, answers.get(verb, b"500 ?\r\n"))
            if verb == "QUIT":
                return

    async def _secured(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = {
            "EHLO": self.tls_ehlo, "MAIL": self.mail, "RCPT": self.rcpt, "RSET": self.rset, "QUIT": self.quit
        }  # fmt: skip
        while block := await reader.read(65536):
            self.arrivals.append(block.decode())
            for line in block.splitlines():
                verb = self._heard(line)
                await say(writer, answers.get(verb, b"500 ?\r\n"))
                if verb == "QUIT":
                    return

    def _heard(self, line: bytes) -> str:
        self.commands.append(line.decode("latin-1").strip())
        return line[:8].split()[0].decode("latin-1").upper() if line.split() else ""


class _Cut(Exception):
    """This side hangs up."""


async def say(writer: asyncio.StreamWriter, octets: bytes) -> None:
    if octets == HANG:
        await asyncio.Event().wait()
    if octets == CUT:
        raise _Cut
    writer.write(octets)
    await writer.drain()


@contextlib.asynccontextmanager
async def serving(handler: Handler, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """The handler meets every connection; yields the port."""
    tasks: set[asyncio.Task[None]] = set()

    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
            writer.close()
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(met, host, port)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        left = list(tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(0)


def alerting(context: ssl.SSLContext) -> Handler:
    """A server that says by a TLS alert why it won't: asyncio's own TLS hangs up without a word."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await say(writer, b"220 mail.test.invalid ESMTP\r\n")
        await reader.readline()
        await say(writer, b"250-mail.test.invalid\r\n250 STARTTLS\r\n")
        await reader.readline()
        await say(writer, b"220 go on\r\n")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
                await say(writer, outgoing.read())
                await reader.read(1)
                return
            except ssl.SSLWantReadError:
                await say(writer, outgoing.read())
                incoming.write(await reader.read(65536))
            except ssl.SSLError:
                await say(writer, outgoing.read())
                await reader.read(1)  # until the client has read it
                return

    return handler
