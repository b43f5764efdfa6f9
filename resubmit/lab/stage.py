"""The demo's stage: lab servers, a folder with a config a person could have written, and the real service.

Promises: everything listens on loopback at free ports; the service is a process of its own; when the stage
is left the processes have ended and the folder is gone, whatever happened.
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
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import resubmit
from resubmit.clock import Clock
from resubmit.errors import ResubmitError
from resubmit.lab.certs import Authority
from resubmit.lab.crowd import tenant
from resubmit.lab.exchange_online import Connector, ExchangeOnline
from resubmit.lab.hybrid import HybridServer
from resubmit.lab.mailbox import Mailboxes
from resubmit.lab.trace_files import Publisher
from resubmit.model.moment import DAY, SECOND, Ms

HYBRID_NAME = "mail.contoso.invalid"
ONLINE_NAME = "contoso-invalid.mail.protection.invalid"
PARTNER_NAME = "mx.partner.invalid"
TRACE_LAG: Ms = SECOND
"""How late the lab's trace tells. The config's trace_lag is more: files come each half second, and are
read once they are still."""

_CONFIG = """\
# What `resubmit demo` runs. Spans are short so that it is over in a minute; nothing else is special.
# Names under .invalid are nobody's; the servers they stand for listen on this machine.

[journal]
path = "journal"
intake_floor = "64MiB"
attempt_floor = "32MiB"
reserve = "1MiB"

[intake.smtp]
listen = ["127.0.0.1:{intake}"]
hostname = "relay.contoso.invalid"

[[route]]                                    # the tenant's mail goes to Exchange Online, TLS forced
name = "eop"
host = "127.0.0.1"
port = {online}
tls = "verified"
tls_name = "{online_name}"
ca_file = "certs/lab-root.pem"
ehlo_name = "relay.contoso.invalid"

[[route]]                                    # everybody else's goes straight to their server
name = "partner"
host = "127.0.0.1"
port = {partner}
tls = "opportunistic"
final = true
ehlo_name = "relay.contoso.invalid"

[[destination]]
name = "hybrid"
domains = ["contoso.invalid", "fabrikam.invalid"]
handoff = "eop"
resubmit = "eop"
exchange = true
probe = "127.0.0.1:{hybrid}"                 # the hybrid server, as Exchange Online reaches it
probe_level = "domain"
probe_name = "{hybrid_name}"
ca_file = "certs/lab-root.pem"

[[destination]]
name = "others"
domains = ["*"]
handoff = "partner"
exchange = false

[[evidence.folder]]
path = "traces"
still = "200ms"

[recovery]
stuck_after = "5s"
watch_interval = "1s"
probe_interval = "500ms"
trace_lag = "3s"
canary = 1
rate = "100/s"

[web]
listen = "127.0.0.1:{web}"

[log]
format = "json"
level = "info"
"""


class StageError(ResubmitError):
    """The service or one of its commands did not do what the demo needs."""


class Stage:
    """Enter it, and the lab runs; `serve` starts the service."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.service: asyncio.subprocess.Process | None = None
        self._started: list[Any] = []
        self._publishing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Stage:
        self.folder = Path(tempfile.mkdtemp(prefix="resubmit-demo-"))
        try:
            await self._set_up()
        except BaseException:
            await self._clear()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._clear()

    async def _set_up(self) -> None:
        clock, folder = self.clock, self.folder
        self.traces = folder / "traces"
        self.traces.mkdir()
        self.authority = Authority(folder / "certs", clock.now())
        self.tenant = tenant()
        self.mailboxes = Mailboxes(clock=clock)
        self.good = self.authority.good(HYBRID_NAME)
        self.hybrid = HybridServer(self.mailboxes, self.good, name=HYBRID_NAME, clock=clock)
        self.partner = HybridServer(
            self.mailboxes, self.authority.good(PARTNER_NAME), name=PARTNER_NAME, clock=clock
        )
        for server in (self.hybrid, self.partner):
            await server.start()
            self._started.append(server)
        connector = Connector(
            HYBRID_NAME, "127.0.0.1", self.hybrid.port, HYBRID_NAME, self.authority.root_file
        )
        self.online = ExchangeOnline(
            self.tenant,
            connector,
            self.mailboxes,
            clock=clock,
            tls=self.authority.good(ONLINE_NAME).context(),
            name=ONLINE_NAME,
            expires_after=DAY,
        )
        await self.online.start()
        self._started.append(self.online)
        self.publisher = Publisher(
            self.online.trace, self.traces, clock=clock, lag=TRACE_LAG, every=SECOND // 2
        )
        self._publishing = asyncio.get_running_loop().create_task(self.publisher.run())
        self.intake_port, self.web_port = free_ports(2)
        self.config = folder / "config.toml"
        self.config.write_text(
            _CONFIG.format(
                intake=self.intake_port,
                web=self.web_port,
                online=self.online.port,
                partner=self.partner.port,
                hybrid=self.hybrid.port,
                online_name=ONLINE_NAME,
                hybrid_name=HYBRID_NAME,
            )
        )
        self.log = folder / "serve.log"

    def expire(self) -> None:
        """The hybrid server's certificate has run out."""
        self.hybrid.show(self.authority.expired(HYBRID_NAME))

    def renew(self) -> None:
        """The hybrid server has a new certificate."""
        self.good = self.authority.good(HYBRID_NAME)
        self.hybrid.show(self.good)

    async def serve(self, timeout: Ms = 20 * SECOND) -> None:
        """The service takes mail. StageError with the end of its log when it does not."""
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C is for the demo, which then stops it in order.
            self.service = await asyncio.create_subprocess_exec(
                *self._command("serve"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(timeout / 1000):
                while not await self._ready():  # noqa: ASYNC110 - another process: there is no event
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise StageError("the service was not ready in time", hint=self.end_of_log()) from error

    async def _ready(self) -> bool:
        if self.service is None or self.service.returncode is not None:
            code = None if self.service is None else self.service.returncode
            raise StageError(f"the service ended with {code}", hint=self.end_of_log())
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.web_port)
        except OSError:
            return False
        try:
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            async with asyncio.timeout(2):
                return b" 200 " in await reader.readline()
        except (OSError, TimeoutError):
            return False
        finally:
            writer.transport.abort()

    async def command(self, *words: str, width: int = 76) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of one of the commands, run as a person would."""
        process = await asyncio.create_subprocess_exec(
            *self._command(*words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment() | {"COLUMNS": str(width)},
        )
        try:
            out, err = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        return process.returncode or 0, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")

    async def ask(self, *words: str) -> list[dict[str, Any]]:
        """The objects a command prints with --json. StageError when it fails."""
        code, out, err = await self.command(*words, "--json")
        if code not in (0, 1):
            raise StageError(f"resubmit {' '.join(words)} ended with {code}", hint=err.strip())
        return [json.loads(line) for line in out.splitlines() if line.strip()]

    def end_of_log(self, lines: int = 12) -> str:
        """The last lines of the service's log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "resubmit", "--config", str(self.config), *words]

    @staticmethod
    def _environment() -> dict[str, str]:
        # The service must be this package, also where it runs from a checkout that was never installed.
        here = str(Path(resubmit.__file__).parent.parent)
        path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH", ""))))
        return {**os.environ, "PYTHONPATH": path}

    async def _clear(self) -> None:
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.gather(self._publishing, return_exceptions=True)
        await self._stop_service()
        for server in reversed(self._started):
            await server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _stop_service(self) -> None:
        service = self.service
        if service is None or service.returncode is not None:
            return
        for word, wait in ((signal.SIGTERM, 6.0), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                service.send_signal(word)
            try:
                async with asyncio.timeout(wait):
                    await service.wait()
                    return
            except TimeoutError:
                continue


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
