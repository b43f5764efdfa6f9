"""The listener on real sockets: who gets in, what it promises, how it stops."""

from __future__ import annotations

import asyncio
import errno
import smtplib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from resubmit import logbook
from resubmit.clock import SystemClock
from resubmit.errors import JournalError, JournalFull, NotReachable, Refused, UsageError
from resubmit.intake.base import NewSpool, Spool
from resubmit.intake.kinds.smtp import SmtpListener
from resubmit.intake.settings import SmtpIntake
from resubmit.journal.connection import DiskFailed
from resubmit.model.message import Body
from tests.unit.intake.listening import House, client, listening
from tests.unit.intake.talk import stuffed

MAIL = b"Message-ID: <1@x>\r\nDate: today\r\nSubject: hi\r\n\r\nbody\r\n"
LARGE = MAIL + b"0123456789abcdef" * 60 + b"\r\n"
LARGE += LARGE * 1000  # about 1 MB: a file


async def in_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, work)


async def until(holds: Callable[[], bool], what: str) -> None:
    """For what no event tells: another side's disk or socket."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)
    assert holds(), what


async def test_smtplib_hands_a_message_over_octet_for_octet(tmp_path: Path) -> None:
    body = MAIL + b".\r\n..dots\r\n" + bytes(range(128, 256)) + b"\r\n"

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as server:
            server.sendmail("a@b", ["c@d", "e@f"], body, ["BODY=8BITMIME"], ["NOTIFY=NEVER"])

    async with listening(tmp_path) as house:
        await in_thread(lambda: send(house.port))
        (received,) = house.received
        assert await house.octets() == body
    assert [r.address for r in received.envelope.recipients] == ["c@d", "e@f"]
    assert received.envelope.recipients[0].parameters == ("NOTIFY=NEVER",)
    assert "BODY=8BITMIME" in received.envelope.parameters
    assert (received.peer, received.protocol, received.intake) == ("127.0.0.1", "ESMTP", "smtp")
    assert (received.heading.message_id, received.heading.subject) == ("<1@x>", "hi")


async def test_a_large_message_is_a_file_and_comes_out_as_it_was(tmp_path: Path) -> None:
    async with listening(tmp_path) as house, client(house.port) as sender:
        await sender.begin()
        sender.send(stuffed(LARGE))
        assert await sender.reply() == "250 2.0.0 01ABCDEFGHJKM journaled"
        assert await house.octets() == LARGE
        assert len(house.files) == 1


async def test_one_segment_with_everything_is_answered_in_order(tmp_path: Path) -> None:
    async with listening(tmp_path) as house, client(house.port) as sender:
        sender.send(
            b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<nobody@d>\r\nRCPT TO:<c@d>\r\nDATA\r\n"
            + MAIL
            + b".\r\nMAIL FROM:<>\r\nRCPT TO:<c@d>\r\nBDAT 3 LAST\r\nx\r\nQUIT\r\n"
        )
        codes = [(await sender.reply())[:3] for _ in range(9)]
        assert codes == ["250", "250", "550", "250", "354", "250", "250", "250", "250"]
        assert (await sender.reply()).startswith("221") and await sender.reply() == ""
        assert len(house.received) == 2


async def test_missing_fields_are_added_before_journaling(tmp_path: Path) -> None:
    async with listening(tmp_path) as house, client(house.port) as sender:
        await sender.begin()
        sender.send(b"Subject: x\r\n\r\nbody\r\n.\r\n")
        await sender.reply()
        octets = await house.octets()
    heading = house.received[0].heading
    assert heading.message_id.endswith("@mx.test>") and heading.date.endswith(" +0000")
    assert octets == (
        f"Message-ID: {heading.message_id}\r\nDate: {heading.date}\r\n".encode()
        + b"Subject: x\r\n\r\nbody\r\n"
    )


@pytest.mark.parametrize(
    ("error", "reply", "event"),
    [
        (Refused(554, "5.4.6", "mail loop"), "554 5.4.6 mail loop", logbook.INTAKE_REFUSED),
        (JournalFull("full"), "452 4.3.1 ", logbook.INTAKE_REFUSED),
        (JournalError("broken"), "451 4.3.0 ", logbook.INTAKE_FAILED),
        (DiskFailed("a sync failed"), "451 4.3.0 ", logbook.INTAKE_FAILED),
        (OSError(errno.ENOSPC, "No space"), "452 4.3.1 ", logbook.INTAKE_REFUSED),
        (KeyError("a bug"), "451 4.3.0 ", logbook.INTAKE_FAILED),
    ],
)
async def test_what_accept_raises_is_what_the_client_hears(
    tmp_path: Path, error: Exception, reply: str, event: str
) -> None:
    async with listening(tmp_path) as house, client(house.port) as sender:
        house.answer = error
        with capture_logs() as logs:
            await sender.begin()
            sender.send(stuffed(LARGE))
            assert (await sender.reply()).startswith(reply)
        assert [line["event"] for line in logs] == [event]
        assert ("exc_info" in logs[0]) is isinstance(error, KeyError), "a stack is for what nobody expected"
        if isinstance(error, Refused | JournalError) and not isinstance(error, DiskFailed):
            assert house.files == []
        else:
            assert len(house.files) == 1  # perhaps it is journaled: only the journal may remove it
        house.answer = None
        await sender.begin()
        sender.send(stuffed(MAIL))
        assert (await sender.reply()).startswith("250"), "the session goes on"


@pytest.mark.parametrize(("fields", "reply"), [(50, "250 "), (51, "554 5.4.6 ")])
async def test_a_message_with_too_many_hops_is_refused(tmp_path: Path, fields: int, reply: str) -> None:
    async with listening(tmp_path) as house, client(house.port) as sender:
        await sender.begin()
        sender.send(b"Received: x\r\n" * fields + MAIL + b".\r\n")
        assert (await sender.reply()).startswith(reply)


async def test_a_bug_in_a_question_is_a_451_for_that_recipient(tmp_path: Path) -> None:
    async with listening(tmp_path) as house, client(house.port) as sender:
        with capture_logs() as logs:
            await sender.ask("EHLO x")
            await sender.ask("MAIL FROM:<a@b>")
            assert (await sender.ask("RCPT TO:<crash@d>")).startswith("451 4.3.0 ")
            assert (await sender.ask("RCPT TO:<nobody@d>")) == "550 5.4.4 no destination"
        assert logs[0]["event"] == logbook.INTAKE_FAILED


async def test_without_room_nothing_is_begun(tmp_path: Path) -> None:
    async with listening(tmp_path) as house, client(house.port) as sender:
        house.full = True
        await sender.ask("EHLO x")
        assert await sender.ask("MAIL FROM:<a@b>") == "452 4.3.1 no room"


class Failing:
    """A spool whose disk fails from the second write on."""

    def __init__(self, made: Spool, error: Exception) -> None:
        self._made = made
        self._error = error
        self._writes = 0

    async def write(self, chunk: bytes) -> None:
        self._writes += 1
        if self._writes > 1:
            raise self._error
        await self._made.write(chunk)

    async def finish(self) -> Body:
        raise self._error

    async def discard(self) -> None:
        await self._made.discard()


@pytest.mark.parametrize(
    ("error", "reply"), [(JournalFull("full"), "452 4.3.1"), (OSError(errno.EIO, "I/O error"), "451 4.3.0")]
)
async def test_a_spool_that_fails_is_told_at_the_end_of_the_message(
    tmp_path: Path, error: Exception, reply: str
) -> None:
    def wrap(made: NewSpool) -> NewSpool:
        return lambda: Failing(made(), error)

    async with listening(tmp_path, spool=wrap) as house, client(house.port) as sender:
        await sender.begin()
        sender.send(stuffed(LARGE))
        assert (await sender.reply()).startswith(reply)
        assert (await sender.ask("NOOP")).startswith("250")
        assert house.files == [] and house.received == []


async def test_nobody_outside_the_allowed_networks_gets_in(tmp_path: Path) -> None:
    async with (
        listening(tmp_path, allow=["192.0.2.0/24"]) as house,
        client(house.port, greeting="554 5.7.1 ") as stranger,
    ):
        assert await stranger.reply() == ""


async def test_a_connection_too_many_is_told_to_come_back(tmp_path: Path) -> None:
    async with listening(tmp_path, max_connections=1) as house:
        async with client(house.port) as first:
            async with client(house.port, greeting="421 4.3.2 ") as second:
                assert await second.reply() == ""
            assert (await first.ask("QUIT")).startswith("221")
            assert await first.reply() == ""
        async with client(house.port):
            pass


async def test_a_silent_client_is_let_go(tmp_path: Path) -> None:
    async with listening(tmp_path, timeout="200ms") as house, client(house.port) as sender:
        await sender.begin()
        sender.send(LARGE[:400_000])
        assert (await sender.reply()).startswith("421 4.4.2 ")
        assert await sender.reply() == ""
        await until(lambda: house.files == [], "what it began is left")


async def test_time_the_journal_takes_is_not_the_clients_silence(tmp_path: Path) -> None:
    async with listening(tmp_path, held=True, timeout="100ms") as house, client(house.port) as sender:
        await sender.begin()
        sender.send(stuffed(MAIL))
        await house.asked.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting := asyncio.ensure_future(sender.reply())), 0.5)
        house.held.set()
        assert (await waiting).startswith("250 ")


@pytest.mark.parametrize("sent", [LARGE, LARGE + b"\r\n.", MAIL])
async def test_a_client_that_disappears_in_the_middle_leaves_nothing(tmp_path: Path, sent: bytes) -> None:
    async with listening(tmp_path) as house:
        async with client(house.port) as sender:
            await sender.begin()
            sender.send(sent)
            await sender.writer.drain()
            if sent is not MAIL:
                await until(lambda: len(house.files) == 1, "it never became a file")
        await until(lambda: house.files == [] and not house.listener._sessions, "something is left")
        assert house.received == []


async def test_a_client_that_closes_its_side_hears_its_answers(tmp_path: Path) -> None:
    async with listening(tmp_path) as house, client(house.port) as sender:
        sender.send(b"HELO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + stuffed(MAIL))
        sender.writer.write_eof()
        replies = [await sender.reply() for _ in range(6)]
        assert replies[4].startswith("250 2.0.0 01ABCDEFGHJKM") and replies[5] == ""


async def blocked(sender: Any, octets: bytes, most: int) -> int:
    """How much could be written before the other side stopped reading."""
    sent = 0
    try:
        while sent < most:
            sender.send(octets)
            sent += len(octets)
            await asyncio.wait_for(sender.writer.drain(), 0.5)
    except TimeoutError:
        pass
    return sent


async def test_nothing_is_read_while_the_spool_lags(tmp_path: Path) -> None:
    gate = asyncio.Event()
    taken: list[int] = []

    class Slow:
        def __init__(self, made: Spool) -> None:
            self._made = made
            self.finish, self.discard = made.finish, made.discard

        async def write(self, chunk: bytes) -> None:
            taken.append(len(chunk))
            await gate.wait()
            await self._made.write(chunk)

    async with (
        listening(tmp_path, spool=lambda made: lambda: Slow(made()), max_message_size="64MiB") as house,
        client(house.port) as sender,
    ):
        await sender.begin()
        sent = await blocked(sender, LARGE[:100_000], 50_000_000)
        assert sent < 50_000_000
        (session,) = house.listener._sessions
        assert len(taken) == 1 and session._dialogue.waiting_octets < 1_000_000
        gate.set()
        sender.send(b"\r\n.\r\n")
        assert (await sender.reply()).startswith("250 ")
        assert house.received[0].body.size > sent


async def test_a_client_that_reads_no_replies_is_not_read_either(tmp_path: Path) -> None:
    async with listening(tmp_path) as house, client(house.port) as sender:
        transport = cast(asyncio.Transport, sender.writer.transport)
        transport.pause_reading()
        sent = await blocked(sender, b"HELP\r\n" * 20_000, 100_000_000)
        assert sent < 100_000_000
        (session,) = house.listener._sessions
        assert session._dialogue.waiting_octets < 1_000_000
        transport.resume_reading()
        assert (await sender.reply()).startswith("214 ")


# ── listening and stopping ────────────────────────────────────────────────────────────────────────


def listener(*listen: str, **settings: Any) -> SmtpListener:
    return SmtpListener(
        SmtpIntake.model_validate({"listen": list(listen), **settings}),
        new_spool=lambda: pytest.fail("no mail was expected"),
        vet=lambda _: None,
        room=lambda: None,
        clock=SystemClock(1),
    )


async def test_it_listens_on_several_addresses(tmp_path: Path) -> None:
    async with listening(tmp_path, listen=["127.0.0.1:0", "127.0.0.2:0"]) as house:
        assert [host for host, _ in house.listener.addresses] == ["127.0.0.1", "127.0.0.2"]
        for host, port in house.listener.addresses:
            async with client(port, host) as sender:
                assert (await sender.ask("NOOP")).startswith("250")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as tried:
            tried.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
async def test_it_listens_on_ipv6(tmp_path: Path) -> None:
    async with listening(tmp_path, listen=["[::1]:0"]) as house:
        async with client(house.port, "::1") as sender:
            await sender.begin()
            sender.send(stuffed(MAIL))
            assert (await sender.reply()).startswith("250")
        assert house.received[0].peer == "::1"


async def test_a_port_in_use_is_said_with_what_to_do(tmp_path: Path) -> None:
    async with listening(tmp_path) as house:
        second = listener("127.0.0.1:0", f"127.0.0.1:{house.port}")
        with pytest.raises(NotReachable, match=rf"127.0.0.1:{house.port} is in use.*listen") as error:
            await second.bind()
        assert "\n" not in str(error.value)
        assert second.addresses == [], "the first address is given back"


@pytest.mark.parametrize("address", ["2525", "127.0.0.1", "127.0.0.1:70000", "::1:25", "[::1]", "h:p", ""])
async def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(UsageError, match="host:port"):
        await listener(address).bind()


async def test_an_address_of_another_machine_is_said() -> None:
    with pytest.raises(NotReachable, match=r"no address 192\.0\.2\.1:0"):
        await listener("192.0.2.1:0").bind()


async def test_a_client_may_come_before_the_journal_is_ready() -> None:
    made = listener("127.0.0.1:0")
    await made.bind()
    async with client(made.addresses[0][1]) as sender:
        assert (await sender.ask("NOOP")).startswith("250")
    await made.stop(1000)


async def stopped(house: House, grace: int) -> asyncio.Task[None]:
    return asyncio.create_task(house.listener.stop(grace))


async def test_a_stop_tells_idle_clients_and_waits_for_messages(tmp_path: Path) -> None:
    async with listening(tmp_path) as house, client(house.port) as idle, client(house.port) as busy:
        await busy.begin()
        busy.send(MAIL[:10])
        await idle.ask("EHLO x")
        await idle.ask("MAIL FROM:<a@b>")
        port = house.port
        stop = await stopped(house, 10_000)
        assert (await idle.reply()).startswith("421 4.3.2 ") and await idle.reply() == ""
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
        busy.send(MAIL[10:] + b".\r\n")
        assert (await busy.reply()).startswith("250 2.0.0 ")
        assert (await busy.reply()).startswith("421 4.3.2 ") and await busy.reply() == ""
        await stop
        assert len(house.received) == 1


async def test_a_message_that_does_not_end_within_the_grace_is_cut(tmp_path: Path) -> None:
    async with listening(tmp_path) as house, client(house.port) as slow:
        await slow.begin()
        slow.send(LARGE)
        await until(lambda: len(house.files) == 1, "it never became a file")
        async with asyncio.timeout(5):
            await (await stopped(house, 200))
        assert house.files == [] and house.received == []


async def test_a_journal_that_hangs_does_not_hold_the_stop(tmp_path: Path) -> None:
    async with listening(tmp_path, held=True) as house, client(house.port) as sender:
        await sender.begin()
        sender.send(stuffed(LARGE))
        await house.asked.wait()
        async with asyncio.timeout(5):
            await (await stopped(house, 200))
        assert (await sender.reply()) == ""
        assert len(house.files) == 1, "perhaps it is journaled: its body stays"


async def test_a_cancelled_run_stops_the_listener(tmp_path: Path) -> None:
    made = listener("127.0.0.1:0")
    running = asyncio.create_task(made.run(lambda _: pytest.fail("no mail")))
    await until(lambda: made.addresses != [], "it never listened")
    port = made.addresses[0][1]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
