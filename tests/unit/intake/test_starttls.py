"""STARTTLS on real sockets: what is put in before the handshake is never carried out (CVE-2011-0411)."""

from __future__ import annotations

import asyncio
import os
import smtplib
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from resubmit import logbook
from resubmit.errors import UsageError
from resubmit.lab.certs import Authority, Leaf
from tests.unit.intake.listening import House, client, listening
from tests.unit.intake.talk import stuffed
from tests.unit.intake.test_smtp import LARGE, MAIL, in_thread, until

NAME = "mx.test.invalid"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), time.time_ns() // 1_000_000)


@pytest.fixture(scope="module")
def leaf(authority: Authority) -> Leaf:
    return authority.good(NAME)


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.root_file))


@asynccontextmanager
async def secure(tmp_path: Path, leaf: Leaf) -> AsyncIterator[House]:
    async with listening(tmp_path, tls_certificate=leaf.chain_file, tls_key=leaf.key_file) as house:
        yield house


async def test_mail_by_tls_is_taken_and_says_so(tmp_path: Path, leaf: Leaf, trusting: ssl.SSLContext) -> None:
    async with secure(tmp_path, leaf) as house, client(house.port) as sender:
        assert "STARTTLS" in await sender.ask("EHLO x")
        assert (await sender.ask("STARTTLS")).startswith("220 ")
        await sender.tls(trusting, NAME)
        assert (await sender.ask("MAIL FROM:<a@b>")).startswith("503 "), "EHLO from before is forgotten"
        assert "STARTTLS" not in await sender.ask("EHLO x")
        await sender.begin()
        sender.send(stuffed(LARGE))
        assert (await sender.reply()).startswith("250 ")
        assert (await sender.ask("QUIT")).startswith("221 ")
        assert await house.octets() == LARGE
        assert house.received[0].protocol == "ESMTPS"


async def test_smtplib_speaks_tls_with_it(tmp_path: Path, leaf: Leaf, authority: Authority) -> None:
    def send(port: int) -> str:
        context = ssl.create_default_context(cafile=str(authority.root_file))
        context.check_hostname = False
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as server:
            server.starttls(context=context)
            assert isinstance(server.sock, ssl.SSLSocket)
            server.sendmail("a@b", ["c@d"], MAIL)
            return server.sock.version() or ""

    async with secure(tmp_path, leaf) as house:
        assert await in_thread(lambda: send(house.port)) == "TLSv1.3"
        assert await house.octets() == MAIL


@pytest.mark.parametrize(
    "injected", [b"\r", b"EHLO y\r\n", b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n", b"\x16\x03\x01"]
)
async def test_octets_sent_along_with_starttls_end_the_session(
    tmp_path: Path, leaf: Leaf, injected: bytes
) -> None:
    async with secure(tmp_path, leaf) as house, client(house.port) as sender:
        await sender.ask("EHLO x")
        sender.send(b"STARTTLS\r\n" + injected)
        assert (await sender.reply()).startswith("554 5.5.1 ")
        assert await sender.reply() == ""


async def test_a_plain_command_in_place_of_the_handshake_ends_the_session(tmp_path: Path, leaf: Leaf) -> None:
    async with secure(tmp_path, leaf) as house, client(house.port) as sender:
        await sender.ask("EHLO x")
        assert (await sender.ask("STARTTLS")).startswith("220 ")
        with capture_logs() as logs:
            sender.send(b"MAIL FROM:<a@b>\r\n")
            rest = await asyncio.wait_for(sender.reader.read(), 10)
            await until(lambda: not house.listener._sessions, "the session goes on")
        assert b"250" not in rest
        assert [line["event"] for line in logs] == [logbook.INTAKE_TLS_FAILED]
        async with client(house.port):
            pass


async def test_a_client_that_leaves_in_the_handshake_leaves_nothing(tmp_path: Path, leaf: Leaf) -> None:
    async with secure(tmp_path, leaf) as house:
        async with client(house.port) as sender:
            await sender.ask("STARTTLS")
        await until(lambda: not house.listener._sessions, "the session goes on")


async def test_commands_sent_with_the_end_of_the_handshake_are_heard(
    tmp_path: Path, leaf: Leaf, trusting: ssl.SSLContext
) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting.wrap_bio(incoming, outgoing, server_hostname=NAME)
    async with secure(tmp_path, leaf) as house, client(house.port) as sender:
        await sender.ask("STARTTLS")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sender.send(outgoing.read())
                incoming.write(await asyncio.wait_for(sender.reader.read(65536), 10))
        tls.write(b"NOOP\r\n")
        sender.send(outgoing.read())  # Finished and the first command in one segment
        said = b""
        while b"\r\n" not in said:
            incoming.write(await asyncio.wait_for(sender.reader.read(65536), 10))
            try:
                said += tls.read()
            except ssl.SSLWantReadError:
                continue
        assert said == b"250 2.0.0 here\r\n"


async def test_old_tls_is_refused(tmp_path: Path, leaf: Leaf, trusting: ssl.SSLContext) -> None:
    with pytest.warns(DeprecationWarning):
        trusting.minimum_version = trusting.maximum_version = ssl.TLSVersion.TLSv1_1
    trusting.set_ciphers("ALL:@SECLEVEL=0")
    async with secure(tmp_path, leaf) as house, client(house.port) as sender:
        await sender.ask("STARTTLS")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await sender.tls(trusting, NAME)


async def serial(house: House, trusting: ssl.SSLContext) -> int:
    async with client(house.port) as sender:
        await sender.ask("STARTTLS")
        await sender.tls(trusting, NAME)
        shown = sender.writer.get_extra_info("ssl_object").getpeercert()
        return int(shown["serialNumber"], 16)


async def test_a_renewed_certificate_is_used_at_once_and_a_broken_one_never(
    tmp_path: Path, authority: Authority, trusting: ssl.SSLContext
) -> None:
    first, second = authority.good(NAME), authority.leaf("second", NAME, authority.now, authority.now + 10**9)
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"

    def install(chain_text: bytes, key_text: bytes) -> None:
        for path, text in ((chain, chain_text), (key, key_text)):
            new = path.with_suffix(".new")
            new.write_bytes(text)
            os.replace(new, path)

    install(first.chain_file.read_bytes(), first.key_file.read_bytes())
    async with secure(tmp_path, Leaf(NAME, chain, key)) as house:
        before = await serial(house, trusting)
        install(second.chain_file.read_bytes(), b"half a key")
        with capture_logs() as logs:
            assert await serial(house, trusting) == before
            assert await serial(house, trusting) == before
        assert [line["event"] for line in logs] == [logbook.INTAKE_CERTIFICATE_UNREADABLE]
        install(second.chain_file.read_bytes(), second.key_file.read_bytes())
        assert await serial(house, trusting) != before


async def test_a_certificate_that_can_not_be_used_is_said_before_listening(
    tmp_path: Path, leaf: Leaf
) -> None:
    wrong = tmp_path / "key.pem"
    wrong.write_text("no key")
    with pytest.raises(UsageError, match=r"can't be used.*PEM"):
        async with secure(tmp_path, Leaf(NAME, leaf.chain_file, wrong)):
            pass
