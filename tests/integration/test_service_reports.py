"""Mail to an address of [intake.reports] is read, never handed on; a bounce moves whom it is about."""

from __future__ import annotations

from pathlib import Path

import pytest

from resubmit.lab.client import Client
from resubmit.lab.smtpd import Mail, Script, ScriptedServer
from tests.helpers.service import QUICK, Service, lines_of, mail, route, until

pytestmark = pytest.mark.timeout(90)

BOUNCES = "bounces@relay.invalid"
REPORTS = f'[intake.reports]\naddresses = ["{BOUNCES}"]\n'
CALM = QUICK + 'mode = "observe"\n'


def report(action: str, status: str, said: str, about: Mail, *, address: str, large: bool = False) -> bytes:
    """A report in the form of RFC 3464 about what the next hop got, with the header of what it got."""
    envid = next((p[6:] for p in about.parameters if p.upper().startswith("ENVID=")), "")
    head = about.data.partition(b"\r\n\r\n")[0]
    lines = [
        "From: MAILER-DAEMON@hop.invalid",
        f"To: {BOUNCES}",
        "Subject: Delivery Status Notification",
        "Date: Tue, 24 Nov 2026 09:20:00 +0000",
        f"Message-ID: <{action}-{status}@hop.invalid>",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b",
        "",
        "--b",
        "",
        "This is the mail system.",
        "--b",
        "Content-Type: message/delivery-status",
        "",
        "Reporting-MTA: dns; hop.invalid",
        *([f"Original-Envelope-Id: {envid}"] if envid else []),
        "",
        f"Final-Recipient: rfc822; {address}",
        f"Action: {action}",
        f"Status: {status}",
        f"Diagnostic-Code: smtp; {said}",
        "",
        "--b",
        "Content-Type: text/rfc822-headers",
        "",
    ]
    body = "\r\n".join(lines).encode() + b"\r\n" + head + b"\r\n\r\n"
    if large:
        body += b"--b\r\nContent-Type: text/plain\r\n\r\n" + lines_of(400_000)
    return body + b"--b--\r\n"


async def send(service: Service, to: list[str], octets: bytes, sender: str = "app@app.invalid") -> str:
    client = await Client.connect("127.0.0.1", service.port, name="app.invalid")
    _, said = await client.send(sender, to, octets)
    await client.quit()
    assert said is not None and said.good, said
    return str(said)


async def handed(service: Service, hop: ScriptedServer, address: str) -> Mail:
    before = len(hop.mails)
    await send(service, [address], mail(f"{address}.{before}@app.invalid"))
    await hop.arrived(before + 1)
    await until(lambda: is_in(service, address, "accepted"), service.end_of_log)
    return hop.mails[-1]


async def is_in(service: Service, address: str, state: str) -> bool:
    return service.rows("select state from recipient where address = ?", address) == [(state,)]


@pytest.mark.parametrize("dsn", [True, False])
async def test_a_report_moves_the_recipient_it_is_about_and_goes_nowhere(tmp_path: Path, dsn: bool) -> None:
    keywords = ["PIPELINING", "8BITMIME", *(["DSN"] if dsn else [])]
    async with ScriptedServer(Script(keywords=keywords)) as hop:
        tables = route("hop", hop.port, "x.invalid", final=False) + REPORTS + CALM
        async with Service(tmp_path, tables).running() as service:
            cases = {
                "late": ("delayed", "4.4.7", "450 4.7.320 Certificate validation failed", "deferred"),
                "gone": ("failed", "5.1.1", "550 5.1.1 User unknown", "failed"),
                "there": ("delivered", "2.1.5", "250 2.1.5 OK", "delivered"),
                "on": ("relayed", "2.6.0", "250 2.6.0 queued", "accepted"),
            }
            for name, (action, status, said, state) in cases.items():
                address = f"{name}@x.invalid"
                about = await handed(service, hop, address)
                assert any(p.upper().startswith("ENVID=") for p in about.parameters) is dsn
                told = report(action, status, said, about, address=address, large=name == "gone")
                await send(service, [BOUNCES], told, sender="")
                held = "select count(*) from evidence where source = 'dsn' and recipient = ?"

                async def read(address: str = address, held: str = held) -> bool:
                    return service.rows(held, address) == [(1,)]

                await until(read, service.end_of_log)
                await until(lambda a=address, s=state: is_in(service, a, s), service.end_of_log)  # type: ignore[misc]
            why = "select distinct substr(why, 1, 7) from evidence where source = 'dsn'"
            assert service.rows(why) == [("our own",)]
            assert len(hop.mails) == len(cases)
            assert service.rows("select count(*) from message") == [(len(cases),)]
            assert list((service.journal / "bodies").iterdir()) == []
            kept = [path.stat().st_mode & 0o777 for path in (service.journal / "reports").iterdir()]
            assert kept == [0o600] * len(cases)


async def test_what_is_no_report_is_kept_and_shown(tmp_path: Path) -> None:
    async with ScriptedServer(Script()) as hop:
        tables = route("hop", hop.port, "x.invalid") + REPORTS + CALM
        async with Service(tmp_path, tables).running() as service:
            await send(service, [BOUNCES.upper()], mail("question@app.invalid", b"Who are you?\r\n"))

            async def shown() -> bool:
                (status,) = await service.ask("status")
                return len(status["unreadable"]) == 1

            await until(shown, service.end_of_log)


async def test_mail_for_both_is_read_and_handed_on(tmp_path: Path) -> None:
    async with ScriptedServer(Script()) as hop:
        tables = route("hop", hop.port, "x.invalid") + REPORTS + CALM
        async with Service(tmp_path, tables).running() as service:
            await send(service, ["anna@x.invalid", BOUNCES], mail("both@app.invalid"))
            await hop.arrived(1)
            assert [address for address, _ in hop.mails[0].recipients] == ["anna@x.invalid"]
            assert len(list((service.journal / "reports").glob("*.eml"))) == 1


async def test_a_report_that_was_answered_250_is_read_after_a_kill(tmp_path: Path) -> None:
    async with ScriptedServer(Script(keywords=["DSN"])) as hop:
        tables = route("hop", hop.port, "x.invalid", final=False) + REPORTS + CALM
        service = Service(tmp_path, tables)
        await service.start()
        try:
            about = await handed(service, hop, "anna@x.invalid")
            told = report("failed", "5.1.1", "550 5.1.1 User unknown", about, address="anna@x.invalid")
            await send(service, [BOUNCES], told, sender="")
            await service.kill()
            await service.start()
            await until(lambda: is_in(service, "anna@x.invalid", "failed"), service.end_of_log)
        finally:
            await service.stop()
