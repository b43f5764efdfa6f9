"""What every handoff promises, whatever next hop it meets.

One result for each recipient, in order; never an exception for the far side's faults; what was accepted
arrived as it was journaled; what is surely not taken did not arrive. Other people's servers are a second
opinion on the lab's.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP as Smtpd
from aiosmtpd.smtp import Envelope, Session

from resubmit.clock import SystemClock
from resubmit.handoff.pool import Pool
from resubmit.model.attempt import Handed, Result, Stage
from tests.helpers.relay import STEPS, Script, ScriptedServer
from tests.unit.handoff.post import BODY, HEAD, letter, route, script, until

BODIES = {
    "plain": BODY,
    "empty": b"",
    "dots": b".\r\n..\r\n.x\r\n\r\n.",
    "8bit": "Subject: Grüße\r\n\r\n".encode() + bytes(range(128, 256)) + b"\r\n",
    "long": b"x" * 20_000 + b"\r\n",
    "large": b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 60_000,
}


@asynccontextmanager
async def handing() -> AsyncIterator[Pool]:
    pool = Pool(SystemClock())
    try:
        yield pool
    finally:
        await pool.close()


def arrived(body: bytes) -> bytes:
    """A body as it arrives: with the last line's end that DATA can't do without."""
    return body if body.endswith(b"\r\n") or not body else body + b"\r\n"


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("way", ["cut", "hang"])
@pytest.mark.parametrize("body", ["plain", "large"])
async def test_a_loss_anywhere_is_one_result_each_and_lost_only_after_the_dot(
    step: str, way: str, body: str
) -> None:
    addresses = ("a@x.invalid", "b@x.invalid", "c@x.invalid")
    async with ScriptedServer(script(**{way: step})) as hop, handing() as pool:
        to = route(hop.port, timeout="200ms", data_timeout="200ms")
        handed = await pool.hand(to, letter(BODIES[body], *addresses))
        assert [offered.n for offered in handed.results] == [0, 1, 2]
        _is_honest(handed, hop)


def _is_honest(handed: Handed, hop: ScriptedServer) -> None:
    results = {offered.result for offered in handed.results}
    if handed.dot_at is None:
        assert results <= {Result.DEFERRED, Result.REFUSED}
        assert hop.offered == []
    if Result.LOST in results:
        assert handed.dot_at is not None
        assert all(o.stage is Stage.DOT for o in handed.results if o.result is Result.LOST)
    if Result.ACCEPTED in results:
        assert hop.mails
    for offered in handed.results:
        assert offered.reply is not None or offered.text


@pytest.mark.parametrize(
    "reply", ["200", "250 ok", "299 x", "354 go", "421 no", "450 no", "550 no", "700 x", "ok", ""]
)
@pytest.mark.parametrize("step", ["greeting", "ehlo", "mail", "rcpt", "data", "dot", "rset"])
async def test_any_reply_anywhere_is_one_result(step: str, reply: str) -> None:
    odd: Any = reply.encode() + b"\r\n" if reply else b""
    odd_script = script(**{step: odd, **({"rcpt": "550 no"} if step == "rset" else {})})
    async with ScriptedServer(odd_script) as hop, handing() as pool:
        to = route(hop.port, timeout="150ms", data_timeout="150ms")
        handed = await pool.hand(to, letter(BODY, "a@x.invalid", "b@x.invalid"))
        assert [offered.n for offered in handed.results] == [0, 1]
        _is_honest(handed, hop)
        # Whatever it was, the next letter is not answered with it.
        hop.script = Script()
        assert (await pool.hand(to, letter())).results[0].result is Result.ACCEPTED


# ── aiosmtpd ──────────────────────────────────────────────────────────────────────────────────────


class Kept:
    """What aiosmtpd was given."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, list[str], bytes]] = []

    async def handle_RCPT(
        self, server: Smtpd, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("none"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server: Smtpd, session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        self.mails.append((envelope.mail_from or "", list(envelope.rcpt_tos), content))
        return "250 2.0.0 OK: queued as ABC123"


@asynccontextmanager
async def aiosmtpd() -> AsyncIterator[tuple[int, Kept]]:
    kept = Kept()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(kept, "127.0.0.1", port, decode_data=False, enable_SMTPUTF8=True)
    await asyncio.get_running_loop().run_in_executor(None, controller.start)
    try:
        yield port, kept
    finally:
        await asyncio.get_running_loop().run_in_executor(None, controller.stop)


@pytest.mark.parametrize("name", [name for name in BODIES if name != "long"])  # it takes no line above 1001
async def test_aiosmtpd_gets_what_was_journaled(name: str) -> None:
    body = BODIES[name]
    async with aiosmtpd() as (port, kept), handing() as pool:
        parameters = ("BODY=8BITMIME", "ENVID=x", "RET=HDRS")  # it answers 555 to the DSN ones
        offered = letter(
            body, "a@x.invalid", "none@x.invalid", parameters=parameters, of_each=("NOTIFY=SUCCESS",)
        )
        handed = await pool.hand(route(port), offered)
        assert [o.result.value for o in handed.results] == ["accepted", "refused"]
        assert kept.mails == [("app@app.invalid", ["a@x.invalid"], HEAD + arrived(body))]
        assert handed.next_key == "ABC123"
        assert handed.lacks_dsn


async def test_aiosmtpd_takes_a_null_sender_and_utf8() -> None:
    async with aiosmtpd() as (port, kept), handing() as pool:
        await pool.hand(route(port), letter(BODY, "jörg@x.invalid", sender="", parameters=("SMTPUTF8",)))
        [(sender, recipients, data)] = kept.mails
        assert (sender.strip("<>"), recipients, data) == ("", ["jörg@x.invalid"], HEAD + BODY)


# ── smtp-sink ─────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def smtp_sink(*options: str) -> AsyncIterator[int]:
    path = shutil.which("smtp-sink", path="/usr/sbin:/usr/bin")
    if path is None:
        pytest.skip("postfix's smtp-sink is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        path, "-u", "nobody", *options, f"127.0.0.1:{port}", "100", stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await until(_answers(port))
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _answers(port: int) -> Callable[[], bool]:
    def answers() -> bool:
        with socket.socket() as one:
            one.settimeout(0.2)
            return one.connect_ex(("127.0.0.1", port)) == 0

    return answers


@pytest.mark.parametrize("name", BODIES)
async def test_smtp_sink_takes_it(name: str) -> None:
    async with smtp_sink() as port, handing() as pool:
        results = [await pool.hand(route(port), letter(BODIES[name])) for _ in range(3)]
        assert [handed.results[0].result for handed in results] == [Result.ACCEPTED] * 3


@pytest.mark.parametrize(
    ("options", "stage", "result"),
    [
        (("-f", "mail"), Stage.MAIL, Result.REFUSED),
        (("-r", "rcpt"), Stage.RCPT, Result.DEFERRED),
        (("-f", "data"), Stage.DATA, Result.REFUSED),
        (("-r", "."), Stage.DOT, Result.DEFERRED),
        (("-q", "rcpt"), Stage.RCPT, Result.DEFERRED),
        (("-q", "data"), Stage.DATA, Result.DEFERRED),
        (("-q", "."), Stage.DOT, Result.LOST),
    ],
)
async def test_smtp_sink_fails_where_it_is_told_to(
    options: tuple[str, ...], stage: Stage, result: Result
) -> None:
    async with smtp_sink(*options) as port, handing() as pool:
        handed = await pool.hand(route(port), letter())
        assert (handed.results[0].stage, handed.results[0].result) == (stage, result)
