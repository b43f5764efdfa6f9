from __future__ import annotations

import asyncio
import io
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from resubmit.clock import SystemClock
from resubmit.evidence.reader import read_stream
from resubmit.lab.certs import Authority
from resubmit.lab.client import Client
from resubmit.lab.exchange_online import Connector, ExchangeOnline
from resubmit.lab.hybrid import HybridServer
from resubmit.lab.mailbox import Mailboxes
from resubmit.lab.script import Mail, Script
from resubmit.lab.smtpd import ScriptedServer
from resubmit.lab.tenant import Kind, Tenant
from resubmit.lab.trace import DELIVERED, EXPANDED, FAILED, PENDING, Row
from resubmit.model.evidence import Cause, Evidence, Source, Status

NAME = "mail.contoso.invalid"
QUEUED = re.compile(
    r"^250 2\.6\.0 (<[^>]*>) \[InternalId=(\d+), Hostname=([^\]]+)\] (\d+) bytes in ([\d.]+), ([\d.]+) KB/sec"
    r" Queued mail for delivery$"
)
TENANT = Tenant.of(
    ["contoso.invalid"],
    cloud=["cloud@contoso.invalid", "both@contoso.invalid"],
    hybrid=["anna@contoso.invalid", "otto@contoso.invalid"],
    groups={
        "all@contoso.invalid": ["cloud@contoso.invalid", "anna@contoso.invalid", "inner@contoso.invalid"],
        "inner@contoso.invalid": ["otto@contoso.invalid", "all@contoso.invalid"],
    },
)


class World:
    """Exchange Online, its hybrid server and the mailboxes, with a certificate to choose."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.clock = SystemClock(seed=1)
        self.authority = Authority(folder, self.clock.now())
        self.mailboxes = Mailboxes(clock=self.clock)
        self.hybrid = HybridServer(self.mailboxes, self.authority.good(NAME), name=NAME, clock=self.clock)
        self.settings = settings

    async def __aenter__(self) -> World:
        await self.hybrid.start()
        connector = Connector(NAME, "127.0.0.1", self.hybrid.port, NAME, self.authority.root_file)
        self.online = ExchangeOnline(
            TENANT,
            connector,
            self.mailboxes,
            clock=self.clock,
            timeout=300,
            **self.settings,  # type: ignore[arg-type]
        )
        await self.online.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.online.stop()
        await self.hybrid.stop()

    async def send(self, *recipients: str, number: int = 1) -> str:
        client = await Client.connect("127.0.0.1", self.online.port, name="relay.invalid")
        data = f"Message-ID: <{number}@app.invalid>\r\nSubject: s{number}\r\n\r\n.hello\r\n".encode()
        _, dot = await client.send("app@x.invalid", recipients, data)
        await client.quit()
        return str(dot)

    async def row(self, recipient: str, status: str, *, event: str = "", number: int = 1) -> Row:
        """The newest row of a recipient, once it has a status (and an event)."""
        async with asyncio.timeout(5):
            while True:
                for row in reversed(self.online.trace.of(f"<{number}@app.invalid>", recipient)):
                    if row.status() == status and event in ("", row.steps[-1].event):
                        return row
                await asyncio.sleep(0.005)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path) as running:
        yield running


async def test_its_250_is_microsofts_and_says_nothing_of_the_delivery(world: World) -> None:
    world.hybrid.show(None)
    reply = await world.send("anna@contoso.invalid")
    found = QUEUED.match(reply)
    assert found
    assert found[1] == "<1@app.invalid>"
    await world.row("anna@contoso.invalid", PENDING, event="Defer")
    assert not world.mailboxes.copies


async def test_cloud_and_hybrid_mailboxes_get_their_copy_and_strangers_fail(world: World) -> None:
    await world.send("cloud@contoso.invalid", "Anna@Contoso.invalid", "nobody@contoso.invalid")
    assert (await world.row("cloud@contoso.invalid", DELIVERED)).steps[-1].event == "Deliver"
    assert (await world.row("Anna@Contoso.invalid", DELIVERED)).steps[-1].event == "Send external"
    failed = await world.row("nobody@contoso.invalid", FAILED)
    assert "550 5.1.10 RESOLVER.ADR.RecipientNotFound" in failed.steps[-1].detail
    assert world.mailboxes.count("anna@contoso.invalid", "<1@app.invalid>") == 1
    assert len({row.network_id for row in world.online.trace.rows}) == 1
    copy = world.mailboxes.of("cloud@contoso.invalid", "<1@app.invalid>")[0]
    assert copy.data.endswith(b"\r\n\r\n.hello\r\n")
    assert copy.data.startswith(b"Received: from relay.invalid (127.0.0.1) by")


async def test_a_group_is_expanded_once_all_the_way(world: World) -> None:
    await world.send("all@contoso.invalid", "otto@contoso.invalid")
    await world.row("otto@contoso.invalid", DELIVERED)
    await world.row("anna@contoso.invalid", DELIVERED)
    assert (await world.row("all@contoso.invalid", EXPANDED)).steps[-1].event == "Expand DL"
    assert (await world.row("inner@contoso.invalid", EXPANDED)).network_id
    assert sorted((c.recipient, c.message_id) for c in world.mailboxes.copies) == [
        ("anna@contoso.invalid", "<1@app.invalid>"),
        ("cloud@contoso.invalid", "<1@app.invalid>"),
        ("otto@contoso.invalid", "<1@app.invalid>"),
    ]
    assert TENANT.mailboxes(["all@contoso.invalid"]) == {
        "anna@contoso.invalid",
        "cloud@contoso.invalid",
        "otto@contoso.invalid",
    }
    assert TENANT.kind("inner@CONTOSO.invalid") is Kind.GROUP


@pytest.mark.parametrize(
    ("fault", "led"),
    [
        ("expired", r"4\.4\.317 .*\[Message=CertificateExpired Expected Subject: mail\.contoso\.invalid\. "
         r"Presented Subject: CN=mail\.contoso\.invalid\. Thumbprint: [0-9A-F]{40}\.\]"),
        ("wrong name", r"450 4\.4\.317 .*\[Message=SubjectMismatch .*Presented Subject: CN=other\.invalid"),
        ("self-signed", r"450 4\.4\.317 .*\[Message=UntrustedRoot"),
        ("no intermediate", r"450 4\.4\.317 .*\[Message=(UntrustedRoot|UnableToBuildChain)"),
        ("no starttls", r"450 4\.4\.317 .*\[Message=451 5\.7\.3 STARTTLS is required to send mail\]"),
        ("handshake cut", r"450 4\.4\.317 .*\[Message=451 4\.4\.0 TLS negotiation failed with error"),
        ("down", r"450 4\.4\.316 Connection refused \[Message=Socket error code 10061\]"),
        ("silent", r"450 4\.4\.318 Connection was closed abruptly"),
        ("busy", r"^421 4\.3\.2 later"),
    ],
)  # fmt: skip
async def test_each_fault_of_the_hybrid_server_has_its_defer(world: World, fault: str, led: str) -> None:
    hybrid, authority, now = world.hybrid, world.authority, world.clock.now()
    match fault:
        case "expired":
            hybrid.show(authority.expired(NAME))
        case "wrong name":
            hybrid.show(authority.wrong_name(NAME, "other.invalid"))
        case "self-signed":
            hybrid.show(authority.self_signed(NAME))
        case "no intermediate":
            hybrid.show(authority.leaf("short", NAME, now - 1000, now + 10**8, intermediate=False))
        case "no starttls":
            hybrid.show(None)
        case "handshake cut":
            hybrid.script = Script(cut="handshake")
        case "down":
            await hybrid.stop()
        case "silent":
            hybrid.script = Script(hang="greeting")
        case "busy":
            hybrid.script.greeting = "421 4.3.2 later"
    await world.send("anna@contoso.invalid", "cloud@contoso.invalid")
    step = (await world.row("anna@contoso.invalid", PENDING, event="Defer")).steps[-1]
    assert re.search(led, step.led)
    assert step.detail.startswith(f"Reason: [{{LED={step.led}}};{{MSG=}};{{FQDN={NAME}}};{{IP=127.0.0.1}}")
    assert await world.row("cloud@contoso.invalid", DELIVERED)
    assert len(world.mailboxes.copies) == 1


async def test_after_the_mend_it_takes_new_mail_and_leaves_the_old_stuck(world: World) -> None:
    world.hybrid.show(world.authority.expired(NAME))
    await world.send("anna@contoso.invalid")
    old = await world.row("anna@contoso.invalid", PENDING, event="Defer")
    world.hybrid.show(world.authority.good(NAME))
    await world.send("otto@contoso.invalid", number=2)
    await world.row("otto@contoso.invalid", DELIVERED, number=2)
    assert old.status() == PENDING
    assert world.online.waiting() == 1

    await world.send("anna@contoso.invalid")
    new = await world.row("anna@contoso.invalid", DELIVERED)
    assert new.network_id != old.network_id
    assert old.status() == PENDING
    assert world.mailboxes.count("anna@contoso.invalid", "<1@app.invalid>") == 1


async def test_a_tenant_that_retries_delivers_by_itself(tmp_path: Path) -> None:
    async with World(tmp_path, retries=True, retry_every=200) as world:
        world.hybrid.show(world.authority.expired(NAME))
        await world.send("anna@contoso.invalid")
        await world.row("anna@contoso.invalid", PENDING, event="Defer")
        world.hybrid.show(world.authority.good(NAME))
        await world.row("anna@contoso.invalid", DELIVERED)
        assert not world.online.waiting()


async def test_what_waits_too_long_fails_with_the_code_of_its_cause(tmp_path: Path) -> None:
    async with World(tmp_path, expires_after=300) as world:
        world.hybrid.show(None)
        await world.send("anna@contoso.invalid")
        row = await world.row("anna@contoso.invalid", FAILED)
        assert row.steps[-1].led == (
            "550 5.4.317 Message expired, cannot connect to remote server"
            "(451 5.7.3 STARTTLS is required to send mail)"
        )
        assert not world.online.waiting()


async def test_replies_of_the_hybrid_server_are_told_per_recipient(world: World) -> None:
    replies = {"anna@contoso.invalid": "550 5.1.1 nobody", "otto@contoso.invalid": "452 4.2.2 full"}
    world.hybrid.script.rcpt = lambda address: replies[address]
    await world.send("anna@contoso.invalid", "otto@contoso.invalid")
    failed = await world.row("anna@contoso.invalid", FAILED)
    assert "unknown recipient or mailbox unavailable -> 550 5.1.1 nobody" in failed.steps[-1].led
    waiting = await world.row("otto@contoso.invalid", PENDING, event="Defer")
    assert waiting.steps[-1].led == "452 4.2.2 full"


async def test_a_loss_on_the_way_defers_all_that_was_not_answered(world: World) -> None:
    world.hybrid.script.cut = "after_dot"
    world.hybrid.script.times = 1
    await world.send("anna@contoso.invalid")
    assert "4.4.318" in (await world.row("anna@contoso.invalid", PENDING, event="Defer")).steps[-1].led
    world.online.retry()
    await world.row("anna@contoso.invalid", DELIVERED)


async def test_mail_for_other_domains_is_not_relayed(world: World) -> None:
    client = await Client.connect("127.0.0.1", world.online.port, name="relay.invalid")
    replies, dot = await client.send("a@x.invalid", ["b@elsewhere.invalid"], b"x\r\n")
    await client.quit()
    assert dot is None
    assert str(replies["b@elsewhere.invalid"]).startswith("550 5.7.64 TenantAttribution; Relay Access Denied")


async def test_it_offers_starttls_where_it_has_a_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "eop", SystemClock().now())
    async with World(tmp_path, tls=authority.good("eop.invalid").context()) as world:
        client = await Client.connect("127.0.0.1", world.online.port, name="relay.invalid")
        context = ssl.create_default_context(cafile=str(authority.root_file))
        await client.starttls(context, "eop.invalid")
        await client.ehlo("relay.invalid")
        _, dot = await client.send(
            "a@x.invalid", ["cloud@contoso.invalid"], b"Message-ID: <1@app.invalid>\r\n\r\n"
        )
        await client.quit()
        assert dot is not None
        assert dot.good
        assert b"version=TLSv1." in world.mailboxes.copies[0].data


async def test_a_mail_without_message_id_is_given_one(world: World) -> None:
    reply = await world.online.take(
        Mail("", (), (("cloud@contoso.invalid", ()),), b"\r\nx\r\n", 0, "", "127.0.0.1:1")
    )
    found = QUEUED.match(reply)
    assert found
    assert found[1] == world.online.trace.rows[0].message_id != ""


async def test_mailboxes_count_also_the_copies_they_drop(tmp_path: Path) -> None:
    mailboxes = Mailboxes(drop_duplicates=True)
    for date in ("Mon", "Mon", "Tue"):
        await mailboxes.put("a@x.invalid", f"Message-ID: <1@x>\r\nDate: {date}\r\n\r\n".encode(), "here")
    assert [copy.kept for copy in mailboxes.of("A@x.invalid", "<1@x>")] == [True, False, True]
    assert mailboxes.twice() == [("a@x.invalid", "<1@x>", 3)]
    assert mailboxes.count("b@x.invalid", "<1@x>") == 0


async def test_what_expires_is_returned_to_its_sender_in_microsofts_form(tmp_path: Path) -> None:
    async with (
        ScriptedServer(Script()) as sender,
        World(tmp_path, expires_after=300, returns_to=("127.0.0.1", sender.port)) as world,
    ):
        world.hybrid.show(None)
        await world.send("anna@contoso.invalid", "otto@contoso.invalid")
        await sender.arrived(1)
    (mail,) = sender.mails
    assert (mail.sender, [address for address, _ in mail.recipients]) == ("", ["app@x.invalid"])
    items = list(read_stream(io.BytesIO(mail.data), "ndr.eml"))
    assert [type(item) for item in items] == [Evidence, Evidence]
    told = [item for item in items if isinstance(item, Evidence)]
    assert [item.recipient for item in told] == ["anna@contoso.invalid", "otto@contoso.invalid"]
    for item in told:
        assert (item.source, item.message_id) == (Source.DSN, "<1@app.invalid>")
        assert item.status in (Status.EXPIRED, Status.FAILED)
        assert item.meaning is not None and item.meaning.cause is Cause.TLS


async def test_a_refused_recipient_is_returned_and_one_that_sends_as_nobody_is_not(tmp_path: Path) -> None:
    async with (
        ScriptedServer(Script()) as sender,
        World(tmp_path, returns_to=("127.0.0.1", sender.port)) as world,
    ):
        client = await Client.connect("127.0.0.1", world.online.port, name="relay.invalid")
        await client.send("", ["nobody@contoso.invalid"], b"Message-ID: <0@app.invalid>\r\n\r\nx\r\n")
        await client.quit()
        await world.send("nobody@contoso.invalid", "cloud@contoso.invalid")
        await sender.arrived(1)
    (item,) = read_stream(io.BytesIO(sender.mails[0].data), "ndr.eml")
    assert isinstance(item, Evidence)
    assert (item.recipient, item.status, item.enhanced_code) == (
        "nobody@contoso.invalid",
        Status.FAILED,
        "5.1.10",
    )


async def test_some_of_what_waits_can_be_delivered_by_itself(world: World) -> None:
    world.hybrid.show(world.authority.expired(NAME))
    for number in range(3):
        await world.send("anna@contoso.invalid", number=number)
        await world.row("anna@contoso.invalid", PENDING, event="Defer", number=number)
    world.hybrid.show(world.authority.good(NAME))
    world.online.retry(2)
    await world.row("anna@contoso.invalid", DELIVERED, number=1)
    assert world.online.waiting() == 1
