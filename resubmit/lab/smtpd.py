"""A small scripted SMTP server that plays any part, well or badly.

It keeps what it was given byte for byte and does at each step what its script says. It shares no code with
the intake, so that neither is the other's judge. Waits and sockets go through the running loop only.

Source: RFC 5321 (SMTP), RFC 3207 (STARTTLS), RFC 3030 (CHUNKING), RFC 4954 (AUTH PLAIN and LOGIN).
Limits: bodies are kept in memory; nothing is checked that a script does not ask for.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import ssl
from collections.abc import Callable

from resubmit.clock import Clock, SystemClock
from resubmit.lab.script import STEPS, Cut, Hang, Mail, Reply, Script, asked, is_good, path, wire
from resubmit.model.moment import Ms

__all__ = ["STEPS", "Cut", "Hang", "Mail", "Reply", "Script", "ScriptedServer", "wire"]


class ScriptedServer:
    """Listens once started and plays `script`; `script` and `tls` may be assigned while it runs.

    `mails` are those answered 2xx (or cut after the dot, see the script), `offered` all that came to their
    end. `lines` are the commands as (connection, line). `changed` is notified at every command, mail and end.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self.script = script or Script()
        self.tls = tls
        self.host = host
        self.port = port
        self.clock = clock or SystemClock()
        self.mails: list[Mail] = []
        self.offered: list[Mail] = []
        self.lines: list[tuple[int, str]] = []
        self.injected: list[bytes] = []
        """What clients sent behind STARTTLS before the handshake."""
        self.connections = 0
        self.open_connections = 0
        self.handshakes = 0
        self.handshakes_failed = 0
        self.changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listens; `port` is the one bound, and stays the same after a stop and another start."""
        self._server = await asyncio.start_server(
            self._connected, self.host, self.port, limit=1 << 20, backlog=1000
        )
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Neither listens nor speaks; connections are dropped."""
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> ScriptedServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def until(self, predicate: Callable[[], bool], timeout: Ms = 30_000) -> None:
        """Returns once the predicate holds, asked after each change. TimeoutError when it takes longer."""
        async with asyncio.timeout(timeout / 1000), self.changed:
            await self.changed.wait_for(predicate)

    async def arrived(self, count: int, timeout: Ms = 30_000) -> list[Mail]:
        """The mails taken, once there are so many. TimeoutError when it takes longer."""
        await self.until(lambda: len(self.mails) >= count, timeout)
        return self.mails

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        session = _Session(self, reader, writer, self.connections)
        try:
            await session.run()
        except (OSError, EOFError, TimeoutError, Cut):
            pass  # either side went; there is nobody left to tell
        finally:
            # An abort is what a cut looks like on the wire; after a proper end all was flushed already.
            writer.transport.abort()
            self.open_connections -= 1
            with contextlib.suppress(asyncio.CancelledError):
                await self.notify()

    async def notify(self) -> None:
        """Wakes whoever waits on `changed`."""
        async with self.changed:
            self.changed.notify_all()


class _Session:
    """One connection."""

    def __init__(
        self, server: ScriptedServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.number = number
        peer = writer.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer)
        self.buffer = bytearray()
        self.helo = self.tls = self.user = ""
        self.early_said = False
        self._reset()

    def _reset(self) -> None:
        self.sender: str | None = None
        self.parameters: tuple[str, ...] = ()
        self.recipients: list[tuple[str, tuple[str, ...]]] = []
        self.chunks = bytearray()

    async def run(self) -> None:
        await self._play("connect")
        await self._greet()
        while True:
            line = await self._line()
            self.server.lines.append((self.number, line))
            await self.server.notify()
            verb, _, rest = line.partition(" ")
            try:
                if not await self._command(verb.upper(), rest.strip()):
                    return
            except Hang:
                await self._silence()

    async def _greet(self) -> None:
        script = self.server.script
        for n in range(script.banner_flood):
            await self._send(f"220-{script.name} line {n} of the welcome\r\n".encode())
        greeting = wire(script.greeting or f"220 {script.name} ESMTP")
        if self._meant("greeting"):
            await self._send(greeting[: len(greeting) // 2])
            await self._play("greeting")
        await self._delay("greeting")
        await self._send(greeting)
        if greeting.startswith(b"421"):
            await self._close()

    async def _command(self, verb: str, rest: str) -> bool:
        """Answers one command; False when the connection has ended."""
        script = self.server.script
        if script.require_tls and not self.tls and verb in ("MAIL", "RCPT", "DATA", "BDAT", "AUTH"):
            return await self._say("530 5.7.0 Must issue a STARTTLS command first")
        match verb:
            case "EHLO" | "HELO":
                return await self._hello(verb, rest)
            case "STARTTLS":
                return await self._starttls()
            case "AUTH":
                return await self._auth(rest)
            case "MAIL":
                await self._play("mail")
                address, words = path(rest)
                reply = await asked(script.mail, address)
                if is_good(reply):
                    self._reset()
                    self.sender, self.parameters = address, words
                return await self._say(reply, "mail")
            case "RCPT":
                await self._play("rcpt")
                if self.sender is None:
                    return await self._say("503 5.5.1 MAIL first")
                address, words = path(rest)
                reply = await asked(script.rcpt, address)
                if is_good(reply):
                    self.recipients.append((address, words))
                return await self._say(reply, "rcpt")
            case "DATA":
                return await self._data()
            case "BDAT":
                return await self._bdat(rest)
            case "RSET":
                self._reset()
                return await self._say(script.rset)
            case "NOOP":
                return await self._say("250 2.0.0 ok")
            case "QUIT":
                await self._say(script.quit)
                await self._close()
                return False
            case _:
                return await self._say("500 5.5.2 unknown command")

    async def _hello(self, verb: str, name: str) -> bool:
        script = self.server.script
        await self._play("ehlo")
        if self.tls:
            await self._play("ehlo_after_tls")
        self.helo = name
        self._reset()
        own = await asked(script.ehlo, name)
        if own:
            return await self._say(own, "ehlo")
        lines = [f"250 {script.name} Hello [{self.peer}]"]
        if verb == "EHLO":
            lines += script.keywords
            if script.starttls and self.server.tls is not None and not self.tls:
                lines.append("STARTTLS")
            if script.users:
                lines.append("AUTH PLAIN LOGIN")
        return await self._say("\n".join(lines), "ehlo")

    async def _starttls(self) -> bool:
        server = self.server
        context = server.tls
        await self._play("starttls")
        if not server.script.starttls or context is None or self.tls:
            return await self._say("502 5.5.1 STARTTLS is not offered")
        if not is_good(server.script.starttls_reply):
            return await self._say(server.script.starttls_reply, "starttls")
        await self._delay("starttls")
        await self._send(wire(server.script.starttls_reply) + server.script.plaintext_after_starttls)
        await self._play("handshake")
        if self.buffer:
            server.injected.append(bytes(self.buffer))
            self.buffer.clear()  # RFC 3207 §4.2: what came before the handshake is forgotten
        if self.reader.at_eof():
            raise EOFError
        try:
            await self.writer.start_tls(context)
        except (OSError, EOFError, TimeoutError):
            server.handshakes_failed += 1
            raise
        server.handshakes += 1
        cipher = self.writer.get_extra_info("cipher")
        version = self.writer.get_extra_info("ssl_object").version()
        self.tls = f"{version} {cipher[0]}"
        self.helo = ""
        self._reset()
        return True

    async def _auth(self, rest: str) -> bool:
        users = self.server.script.users
        kind, _, first = rest.partition(" ")
        try:
            if kind.upper() == "PLAIN":
                words = (await self._challenge(first, b"")).split("\0")
                name, password = (words[1], words[2]) if len(words) == 3 else ("", "")
            elif kind.upper() == "LOGIN":
                name = await self._challenge(first, b"Username:")
                password = await self._challenge("", b"Password:")
            else:
                return await self._say("504 5.5.4 unknown mechanism")
        except (binascii.Error, UnicodeDecodeError):
            return await self._say("501 5.5.2 not base64")
        if name not in users or users[name] != password:
            return await self._say("535 5.7.8 authentication failed")
        self.user = name
        return await self._say("235 2.7.0 authenticated")

    async def _challenge(self, given: str, prompt: bytes) -> str:
        if not given:
            await self._send(b"334 " + base64.b64encode(prompt) + b"\r\n")
            given = await self._line()
        return base64.b64decode(given, validate=True).decode()

    async def _data(self) -> bool:
        script = self.server.script
        await self._play("before_354")
        if not self.recipients:
            return await self._say("554 5.5.1 no valid recipients")
        await self._say(script.data, "before_354")
        if wire(script.data)[:1] != b"3":
            return True
        # With a CRLF of our own in front every line, the first too, begins behind one.
        body = bytearray(b"\r\n")
        body += self.buffer
        self.buffer.clear()
        start = 0
        while (end := body.find(b"\r\n.\r\n", start)) < 0:
            if len(body) - 2 >= script.after:
                await self._in_body()
            start = max(0, len(body) - 4)
            body += await self._more()
        if end >= script.after:
            await self._in_body()
        self.buffer[:] = body[end + 5 :]
        if self.early_said:
            await self._close()
        return await self._ended(bytes(body[: end + 2]).replace(b"\r\n.", b"\r\n")[2:])

    async def _in_body(self) -> None:
        if self.server.script.early and not self.early_said:
            self.early_said = True
            await self._send(wire(self.server.script.early))
        await self._play("in_body")

    async def _bdat(self, rest: str) -> bool:
        words = rest.upper().split()
        if not words or not words[0].isdigit() or not self.recipients:
            return await self._say("503 5.5.1 BDAT out of place")
        size = int(words[0])
        while len(self.buffer) < size:
            self.buffer += await self._more()
        self.chunks += self.buffer[:size]
        del self.buffer[:size]
        if len(self.chunks) >= self.server.script.after:
            await self._in_body()
        if words[1:] != ["LAST"]:
            return await self._say(f"250 2.0.0 {size} octets")
        return await self._ended(bytes(self.chunks))

    async def _ended(self, data: bytes) -> bool:
        """The mail is whole: it is answered, and kept if that was a yes."""
        server, script = self.server, self.server.script
        mail = Mail(
            sender=self.sender or "",
            parameters=self.parameters,
            recipients=tuple(self.recipients),
            data=data,
            at=server.clock.now(),
            tls=self.tls,
            peer=self.peer,
            helo=self.helo,
            connection=self.number,
            user=self.user,
        )
        server.offered.append(mail)
        self._reset()
        try:
            await self._play("after_dot")
            reply = await asked(script.dot, mail)
        except (Cut, Hang):
            if script.taken_when_cut:
                server.mails.append(mail)
            await server.notify()
            raise
        if is_good(reply):
            server.mails.append(mail)
        await server.notify()
        return await self._say(reply, "after_dot")

    def _meant(self, step: str) -> bool:
        return step in (self.server.script.cut, self.server.script.hang)

    async def _play(self, step: str) -> None:
        """Cuts or falls silent, if the script says so for this step."""
        script = self.server.script
        if not self._meant(step):
            return
        cutting = script.cut == step
        if script.times:
            script.times -= 1
            if not script.times:
                script.cut = script.hang = ""
        if cutting:
            raise Cut
        if step != "after_dot":
            await self._silence()
        raise Hang

    async def _silence(self) -> None:
        """Says nothing more; ends when the client goes."""
        while True:
            await self._more()

    async def _delay(self, step: str) -> None:
        if span := self.server.script.delays.get(step, 0):
            await asyncio.sleep(span / 1000)

    async def _say(self, reply: Reply, step: str = "") -> bool:
        await self._delay(step)
        if reply:
            await self._send(wire(reply))
        if wire(reply).startswith(b"421"):
            await self._close()
        return True

    async def _send(self, octets: bytes) -> None:
        if self.server.script.one_byte_writes:
            for i in range(len(octets)):
                self.writer.write(octets[i : i + 1])
                await self.writer.drain()
                await asyncio.sleep(0)
            return
        self.writer.write(octets)
        await self.writer.drain()

    async def _close(self) -> None:
        """Ends in order: what was said arrives, then the end of the stream."""
        self.writer.close()
        await self.writer.wait_closed()
        raise EOFError

    async def _line(self) -> str:
        while (end := self.buffer.find(b"\n")) < 0:
            self.buffer += await self._more()
        line = bytes(self.buffer[:end]).removesuffix(b"\r")
        del self.buffer[: end + 1]
        return line.decode("utf-8", "surrogateescape")

    async def _more(self) -> bytes:
        octets = await self.reader.read(1 << 18)
        if not octets:
            raise EOFError
        return octets
