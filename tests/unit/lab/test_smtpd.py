from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from resubmit.clock import SystemClock
from resubmit.lab.certs import Authority
from resubmit.lab.client import Broken, Client
from resubmit.lab.script import Cut, Hang, header, path, wire
from resubmit.lab.smtpd import STEPS, Mail, Script, ScriptedServer

BODY = b"Subject: x\r\nMessage-ID: <1@x.invalid>\r\n\r\nhello\r\n"


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as running:
        yield running


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certs"), SystemClock().now())


CLIENTS: list[Client] = []


@pytest.fixture(autouse=True)
async def no_client_stays() -> AsyncIterator[None]:
    yield
    while CLIENTS:
        CLIENTS.pop().drop()


async def connected(server: ScriptedServer, timeout: int = 5_000) -> Client:
    client = await Client.connect("127.0.0.1", server.port, name="client.invalid", timeout=timeout)
    CLIENTS.append(client)
    return client


async def dialogue(server: ScriptedServer, said: bytes) -> bytes:
    """Says all at once, and returns everything heard until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(said)
    heard = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return heard


def trusting(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.root_file))
    context.check_hostname = False
    return context


async def test_envelope_words_are_kept_verbatim(server: ScriptedServer) -> None:
    client = await connected(server)
    await client.send(
        "A.b@x.invalid",
        ['"odd >name"@y.invalid'],
        BODY,
        parameters="BODY=8BITMIME ENVID=a+2Bb",
        rcpt_parameters="NOTIFY=NEVER ORCPT=rfc822;o@y",
    )
    mail = server.mails[0]
    assert mail.sender == "A.b@x.invalid"
    assert mail.parameters == ("BODY=8BITMIME", "ENVID=a+2Bb")
    assert mail.recipients == (('"odd >name"@y.invalid', ("NOTIFY=NEVER", "ORCPT=rfc822;o@y")),)
    assert (mail.data, mail.helo, mail.tls, mail.connection) == (BODY, "client.invalid", "", 1)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b".\r\n", id="one dot"),
        pytest.param(b"..\r\n.x\r\n\r\n.\r\n", id="dots"),
        pytest.param(b"a\r\n\n.\n\r\nb\xff\x00\r\n", id="odd octets"),
        pytest.param(b"x" * 300_000 + b"\r\n." + b"y" * 300_000 + b"\r\n", id="long lines"),
    ],
)
async def test_bodies_come_out_as_they_went_in(server: ScriptedServer, data: bytes) -> None:
    client = await connected(server)
    await client.send("a@x.invalid", ["b@x.invalid"], data)
    assert server.mails[0].data == data


async def test_a_pipelined_transaction_and_the_next_command_are_told_apart(server: ScriptedServer) -> None:
    heard = await dialogue(
        server,
        b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@x.invalid>\r\nDATA\r\nhi\r\n.\r\nNOOP\r\nQUIT\r\n",
    )
    codes = [line[:3] for line in heard.split(b"\r\n") if line and line[3:4] == b" "]
    assert codes == [b"220", b"250", b"250", b"250", b"354", b"250", b"250", b"221"]
    assert server.mails[0].sender == ""
    assert server.mails[0].data == b"hi\r\n"


async def test_bdat_chunks_are_joined_without_unstuffing(server: ScriptedServer) -> None:
    server.script.keywords.append("CHUNKING")
    await dialogue(
        server,
        b"EHLO c\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nBDAT 5\r\n..\r\n.BDAT 3 LAST\r\n\r\nzQUIT\r\n",
    )
    assert server.mails[0].data == b"..\r\n.\r\nz"


async def test_each_recipient_gets_its_own_reply(server: ScriptedServer) -> None:
    server.script.rcpt = lambda a: "550 5.1.1 nobody\nby that name" if a.startswith("no") else "250 ok"
    client = await connected(server)
    replies, dot = await client.send("a@x", ["no@x", "yes@x"], BODY)
    assert str(replies["no@x"]) == "550 5.1.1 nobody\nby that name"
    assert dot is not None
    assert dot.good
    assert [a for a, _ in server.mails[0].recipients] == ["yes@x"]


async def test_a_refused_dot_is_offered_but_not_taken(server: ScriptedServer) -> None:
    async def slow_no(mail: Mail) -> str:
        await asyncio.sleep(0)
        return f"451 4.3.0 {mail.header('subject')}"

    server.script.dot = slow_no
    client = await connected(server)
    _, dot = await client.send("a@x", ["b@x"], BODY)
    assert str(dot) == "451 4.3.0 x"
    assert (len(server.mails), len(server.offered)) == (0, 1)


async def test_tls_can_be_swapped_while_it_runs(authority: Authority, server: ScriptedServer) -> None:
    with pytest.raises(Broken, match="starttls: 502"):
        await (await connected(server)).starttls(trusting(authority), "mail.invalid")
    server.tls = authority.expired("mail.invalid").context()
    with pytest.raises(Broken, match="certificate: CertificateExpired"):
        await (await connected(server)).starttls(trusting(authority), "mail.invalid")
    server.tls = authority.good("mail.invalid").context()
    client = await connected(server)
    await client.starttls(trusting(authority), "mail.invalid")
    await client.ehlo("again")
    assert "STARTTLS" not in client.keywords
    await client.send("a@x", ["b@x"], BODY)
    assert server.mails[0].tls.startswith("TLSv1.")
    assert server.mails[0].helo == "again"
    assert (server.handshakes, server.handshakes_failed) == (1, 1)


async def test_tls_can_be_demanded(authority: Authority) -> None:
    async with ScriptedServer(Script(require_tls=True), tls=authority.good("m.invalid").context()) as server:
        client = await connected(server)
        replies, _ = await client.send("a@x", ["b@x"], BODY)
        assert replies["b@x"].code == 530
        await client.starttls(trusting(authority), "m.invalid")
        await client.ehlo("c")
        _, dot = await client.send("a@x", ["b@x"], BODY)
        assert dot is not None
        assert dot.good


async def test_plaintext_behind_starttls_breaks_the_handshake(authority: Authority) -> None:
    script = Script(plaintext_after_starttls=b"250 surprise\r\n")
    async with ScriptedServer(script, tls=authority.good("m.invalid").context()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await reader.readline()
        writer.write(b"STARTTLS\r\nNOOP\r\n")
        assert (await reader.readline())[:3] == b"220"
        assert await reader.readline() == b"250 surprise\r\n"
        writer.close()
        await server.until(lambda: not server.open_connections)
        assert server.injected == [b"NOOP\r\n"]


@pytest.mark.parametrize("step", [s for s in STEPS if s not in ("handshake", "ehlo_after_tls", "starttls")])
async def test_a_cut_comes_at_its_step(step: str) -> None:
    async with ScriptedServer(Script(cut=step)) as server:
        with pytest.raises(Broken):
            client = await connected(server)
            await client.send("a@x", ["b@x"], BODY)
        await server.until(lambda: not server.open_connections)
        said = [line.split(" ")[0] for _, line in server.lines]
        whole = ["EHLO", "MAIL", "RCPT", "DATA"]
        heard = {"connect": 0, "greeting": 0, "ehlo": 1, "mail": 2, "rcpt": 3}
        assert said == whole[: heard.get(step, 4)]
        assert len(server.mails) == (1 if step == "after_dot" else 0)


@pytest.mark.parametrize("step", ["starttls", "handshake", "ehlo_after_tls"])
@pytest.mark.parametrize("way", ["cut", "hang"])
async def test_tls_steps_can_be_cut_and_hang(authority: Authority, step: str, way: str) -> None:
    script = Script(**{way: step})  # type: ignore[arg-type]
    async with ScriptedServer(script, tls=authority.good("m.invalid").context()) as server:
        client = await connected(server, timeout=300)
        with pytest.raises(Broken) as caught:
            await client.starttls(trusting(authority), "m.invalid")
            await client.ehlo("c")
        client.drop()
        assert caught.value.step == ("handshake" if step == "handshake" else "session")
        await server.until(lambda: not server.open_connections)


@pytest.mark.parametrize("step", ["connect", "greeting", "ehlo", "mail", "rcpt", "before_354", "in_body"])
async def test_a_hang_says_nothing_more_and_ends_with_the_client(step: str) -> None:
    async with ScriptedServer(Script(hang=step)) as server:
        with pytest.raises(Broken):
            client = await connected(server, timeout=200)
            try:
                await client.send("a@x", ["b@x"], BODY)
            finally:
                client.drop()
        await server.until(lambda: not server.open_connections)
        assert not server.mails


async def test_a_hang_after_the_dot_has_the_mail_or_not_as_told() -> None:
    for taken in (True, False):
        async with ScriptedServer(Script(hang="after_dot", taken_when_cut=taken)) as server:
            client = await connected(server, timeout=200)
            with pytest.raises(Broken):
                await client.send("a@x", ["b@x"], BODY)
            client.drop()
            assert (len(server.mails), len(server.offered)) == (int(taken), 1)


async def test_a_fault_is_played_as_often_as_told() -> None:
    async with ScriptedServer(Script(cut="mail", times=2)) as server:
        for _ in range(2):
            with pytest.raises(Broken):
                await (await connected(server)).send("a@x", ["b@x"], BODY)
        await (await connected(server)).send("a@x", ["b@x"], BODY)
        assert len(server.mails) == 1


async def test_a_callable_may_cut_or_hang() -> None:
    def rcpt(address: str) -> str:
        if address == "cut@x":
            raise Cut
        if address == "hang@x":
            raise Hang
        return "250 ok"

    async with ScriptedServer(Script(rcpt=rcpt)) as server:
        for address in ("cut@x", "hang@x"):
            client = await connected(server, timeout=200)
            with pytest.raises(Broken):
                await client.send("a@x", ["fine@x", address], BODY)
            client.drop()
        await server.until(lambda: not server.open_connections)


async def test_an_early_refusal_comes_in_the_middle_of_the_body() -> None:
    async with ScriptedServer(Script(early="552 5.3.4 enough", after=10)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"EHLO c\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\n" + b"x" * 100)
        while (line := await asyncio.wait_for(reader.readline(), 5))[:3] != b"552":
            assert line
        writer.write(b"\r\n.\r\n")
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        assert not server.offered


async def test_a_421_closes_the_connection() -> None:
    async with ScriptedServer(Script(mail="421 4.3.2 going down")) as server:
        assert (await dialogue(server, b"EHLO c\r\nMAIL FROM:<a@x>\r\n")).endswith(
            b"421 4.3.2 going down\r\n"
        )
    async with ScriptedServer(Script(greeting="421 4.3.2 not now")) as server:
        assert await dialogue(server, b"") == b"421 4.3.2 not now\r\n"


async def test_octets_go_out_word_for_word_and_one_at_a_time() -> None:
    script = Script(mail=b"250-odd\r\n250 \xff\r\n", one_byte_writes=True, banner_flood=3)
    async with ScriptedServer(script) as server:
        heard = await dialogue(server, b"HELO c\r\nMAIL FROM:<a@x>\r\nQUIT\r\n")
        assert heard.count(b"220-") == 3
        assert b"250-odd\r\n250 \xff\r\n" in heard


async def test_a_delay_holds_the_reply_back_only() -> None:
    async with ScriptedServer(Script(delays={"mail": 50})) as server:
        started = asyncio.get_running_loop().time()
        await (await connected(server)).send("a@x", ["b@x"], BODY)
        assert asyncio.get_running_loop().time() - started >= 0.05


@pytest.mark.parametrize("kind", ["PLAIN", "LOGIN"])
async def test_auth_is_offered_where_there_are_users(kind: str) -> None:
    async with ScriptedServer(Script(users={"relay": "secret"})) as server:
        client = await connected(server)
        assert "AUTH" in client.keywords
        for password, code in (("wrong", 535), ("secret", 235)):
            if kind == "PLAIN":
                words = base64.b64encode(f"\0relay\0{password}".encode()).decode()
                answer = await client.command(f"AUTH PLAIN {words}")
            else:
                await client.command(f"AUTH LOGIN {base64.b64encode(b'relay').decode()}")
                answer = await client.command(base64.b64encode(password.encode()).decode())
            assert answer.code == code
        await client.send("a@x", ["b@x"], BODY)
        assert server.mails[0].user == "relay"


async def test_it_can_stop_and_start_on_the_same_port(server: ScriptedServer) -> None:
    await connected(server)
    port = server.port
    await server.stop()
    with pytest.raises(Broken, match="connect: refused"):
        await connected(server)
    await server.start()
    assert server.port == port
    await (await connected(server)).send("a@x", ["b@x"], BODY)
    assert await server.arrived(1)


def test_header_finds_a_field_by_name_and_unfolds_it() -> None:
    data = b"X: 1\r\nSubject: a\r\n b\r\n\tc\r\nmessage-id: <q@x>\r\n\r\nSubject: no\r\n"
    assert header(data, "subject") == "a b\tc"
    assert header(data, "Message-ID") == "<q@x>"
    assert header(data, "Date") == ""


@pytest.mark.parametrize(
    ("reply", "octets"),
    [
        ("250 ok", b"250 ok\r\n"),
        ("550 a\nb", b"550-a\r\n550 b\r\n"),
        ("550-a\n550 b", b"550-a\r\n550 b\r\n"),
        (b"raw", b"raw"),
    ],
)
def test_replies_on_the_wire(reply: str | bytes, octets: bytes) -> None:
    assert wire(reply) == octets


@pytest.mark.parametrize(
    ("rest", "found"),
    [
        ("FROM:<>", ("", ())),
        ("from: <a@x> SIZE=3", ("a@x", ("SIZE=3",))),
        ("TO:bare@x NOTIFY=NEVER", ("bare@x", ("NOTIFY=NEVER",))),
        ("nonsense", ("", ())),
    ],
)
def test_paths(rest: str, found: tuple[str, tuple[str, ...]]) -> None:
    assert path(rest) == found


def test_files_of_certificates_are_where_they_are_said_to_be(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "new", SystemClock().now())
    leaf = authority.good("*.contoso.invalid")
    assert leaf.chain_file.read_bytes().count(b"BEGIN CERTIFICATE") == 2
    assert leaf.key_file.stat().st_mode & 0o077 == 0
