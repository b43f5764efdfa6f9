"""The service as people run it: a process of its own with a config, and the programs it speaks with.

Nothing here looks inside the process: it is asked over its listeners, its commands, its log and, read only,
its journal. There is no event to wait for in another process, so `until` asks again until a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from resubmit.journal import read

LIMIT = 40.0
"""Seconds after which something that was to happen counts as never happening."""

ROOT = Path(__file__).parents[2]


def needs(program: str) -> str:
    """Somebody else's program: its path. Skips without it, but fails where everything is to be there."""
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is not installed")
        pytest.skip(f"{program} is not installed")
    return found


async def until(
    holds: Callable[[], Awaitable[bool]], why: Callable[[], object], limit: float = LIMIT
) -> None:
    """Returns once it holds; fails with `why` after `limit` seconds."""
    end = asyncio.get_running_loop().time() + limit
    while not await holds():
        assert asyncio.get_running_loop().time() < end, why()
        await asyncio.sleep(0.05)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def said(self) -> list[str]:
        """What it said on stderr to a person, line by line: not the log's objects."""
        return [line for line in self.err.splitlines() if not line.startswith("{")]

    def objects(self) -> list[dict[str, Any]]:
        """What it said on stdout with --json."""
        return [json.loads(line) for line in self.out.splitlines()]


async def ran(
    *words: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT, limit: float = LIMIT
) -> Done:
    """A program, run to its end."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(env or {})},
        cwd=cwd,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), limit)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    return Done(process.returncode or 0, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


FLOORS = 'intake_floor = "1MiB"\nattempt_floor = "1MiB"\nreserve = "64KiB"\n'
QUICK = (
    '[recovery]\nstuck_after = "1s"\nwatch_interval = "500ms"\nprobe_interval = "300ms"\n'
    'trace_lag = "1s"\nin_doubt_wait = "1s"\nrate = "unlimited"\n'
)
"""A [recovery] with spans that a test can wait for."""


def route(
    name: str, port: int, *domains: str, final: bool = True, more: str = "", destination: str = ""
) -> str:
    """A route to that port of this machine, without TLS, and a destination of the same name for these
    domains. `more`, `destination`: further lines of either table."""
    names = ", ".join(f'"{domain}"' for domain in domains or ("*",))
    return (
        f'[[route]]\nname = "{name}"\nhost = "127.0.0.1"\nport = {port}\ntls = "none"\n'
        f"final = {str(final).lower()}\n{more}\n"
        f'[[destination]]\nname = "{name}"\ndomains = [{names}]\nhandoff = "{name}"\n{destination}\n'
    )


class Service:
    """`resubmit serve` in a folder, with a config of these tables; ports are chosen once, so that a service
    that was killed comes back at the same ones."""

    def __init__(self, folder: Path, tables: str, *, journal: str = FLOORS, smtp: str = "") -> None:
        self.folder = folder
        self.port, self.web = free_port(), free_port()
        self.journal = folder / "journal"
        self.config = folder / "config.toml"
        self.config.write_text(
            f'[journal]\npath = "journal"\n{journal}'
            f'[intake.smtp]\nlisten = ["127.0.0.1:{self.port}"]\n{smtp}\n'
            f'[web]\nlisten = "127.0.0.1:{self.web}"\n[log]\nformat = "json"\n{tables}'
        )
        self.log_file = folder / "serve.log"
        self.process: asyncio.subprocess.Process | None = None

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "resubmit", "--config", str(self.config), *words]

    @asynccontextmanager
    async def running(self, *under: str) -> AsyncIterator[Self]:
        """It takes mail. At the end it is still there, and stops when asked to."""
        await self.start(*under)
        try:
            yield self
            assert self.process is not None
            assert self.process.returncode is None, self.end_of_log()
        finally:
            await self.stop()

    async def start(self, *under: str) -> None:
        """Started, behind the words of another program if there are any, and it takes mail."""
        await self.launch(*under)
        await until(self.ready, self.end_of_log)

    async def launch(self, *under: str) -> None:
        """Started; whether it takes mail is not waited for. The log goes on in the same file."""
        with self.log_file.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *under,
                *self.words("serve"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )

    async def ready(self) -> bool:
        """Whether it says that it takes mail. Fails when it has ended."""
        assert self.process is not None
        assert self.process.returncode is None, self.end_of_log()
        return b" 200 " in (await self.page("/readyz")).partition(b"\r\n")[0]

    async def stop(self, limit: float = 15.0) -> int:
        """Asked to stop, and gone: its exit code. Killed if it does not stop, which fails."""
        process, self.process = self.process, None
        if process is None:
            return 0
        try:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            return await asyncio.wait_for(process.wait(), limit)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def kill(self) -> None:
        """kill -9, and gone."""
        process, self.process = self.process, None
        assert process is not None
        process.kill()
        assert await process.wait() == -signal.SIGKILL, self.end_of_log()

    async def page(self, path: str) -> bytes:
        """What the [web] listener answers, with its head; empty when nobody listens."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.web)
        except OSError:
            return b""
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return await asyncio.wait_for(reader.read(), LIMIT)
        except OSError:
            return b""
        finally:
            writer.transport.abort()

    async def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        lines = (await self.page("/metrics")).decode().splitlines()
        found = [line.rpartition(" ")[2] for line in lines if line.split("{")[0].split(" ")[0] == name]
        assert found, f"no metric {name}"
        return sum(map(float, found))

    def peak(self) -> int:
        """The most memory the process ever held, in octets (VmHWM)."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def end_of_log(self, lines: int = 25) -> str:
        return "\n".join(self.log_file.read_text("utf-8", "replace").splitlines()[-lines:])

    def log(self, event: str) -> list[dict[str, Any]]:
        """What the log says of an event."""
        lines = self.log_file.read_text("utf-8", "replace").splitlines()
        said = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [one for one in said if one["event"] == event]

    async def run(self, *words: str, limit: float = LIMIT) -> Done:
        """One of the commands."""
        return await ran(*self.words(*words), limit=limit)

    async def ask(self, *words: str) -> list[dict[str, Any]]:
        """The objects of a reading command."""
        done = await self.run(*words, "--json")
        assert done.code in (0, 1), done.err
        return done.objects()

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """What the journal says, read only."""
        with closing(read.connect(self.journal)) as connection:
            return list(connection.execute(sql, values))

    def states(self) -> dict[str, int]:
        """How many recipients are in each state."""
        return dict(self.rows("select state, count(*) from recipient group by state"))

    async def settled(self, count: int, state: str = "delivered") -> None:
        """Returns once so many recipients are in the state, and none in another."""

        async def holds() -> bool:
            return self.states() == {state: count}

        await until(holds, lambda: f"{self.states()}\n{self.end_of_log()}")


@asynccontextmanager
async def sink(*options: str) -> AsyncIterator[int]:
    """Postfix's smtp-sink, which takes everything; yields its port."""
    user = ["-u", "root"] if os.geteuid() == 0 else []  # it refuses to run as root unless told to
    port = free_port()
    words = [needs("smtp-sink"), *user, *options, f"127.0.0.1:{port}", "1000"]
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE)
    try:

        async def listens() -> bool:
            assert process.returncode is None
            with socket.socket() as one:
                return one.connect_ex(("127.0.0.1", port)) == 0

        await until(listens, lambda: "smtp-sink does not listen")
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def source(port: int, *options: str, to: str = "anna@x.invalid") -> Done:
    """Postfix's smtp-source, run to its end."""
    words = [needs("smtp-source"), "-f", "app@app.invalid", "-t", to, *options, f"127.0.0.1:{port}"]
    return await ran(*words)


def mail(message_id: str, body: bytes = b"Good day.\r\n", *, subject: str = "a letter") -> bytes:
    """Octets that need nothing added: Message-ID (without brackets) and Date are there."""
    head = (
        f"Message-ID: <{message_id}>\r\nDate: Tue, 24 Nov 2026 09:14:03 +0000\r\nSubject: {subject}\r\n\r\n"
    )
    return head.encode() + body


def lines_of(size: int) -> bytes:
    """A body of about so many octets."""
    return (b"0123456789" * 7 + b"\r\n") * max(1, size // 72)
