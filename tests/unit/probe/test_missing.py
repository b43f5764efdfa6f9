# ruff: noqa: E501 (the cases are read as a table)
"""Why STARTTLS is missing: not configured, withheld from a listed address, no ESMTP, or a firewall."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resubmit.model.tls import Health, Severity, Verdict
from tests.helpers import certs
from tests.helpers.odd_tls import CUT, HANG, Manners
from tests.unit.probe.conftest import Look, chain

PLAIN = b"250-mail.test.invalid\r\n250 SIZE 1000\r\n"
PIPELINED = b"250-mail.test.invalid\r\n250 PIPELINING\r\n"
MASKED = b"220 ****************************0****0\r\n"
DEMAND = b"451 5.7.3 Must issue a STARTTLS command first\r\n"

REASONS: list[tuple[str, dict[str, bytes], tuple[str, ...], str]] = [
    ("MAIL is taken", {}, ("starttls_missing",), "ehlo"),
    ("not authenticated", {"clear_mail": b"530 5.7.1 Client was not authenticated\r\n"}, ("starttls_missing",), "ehlo"),
    ("no room", {"clear_mail": b"452 4.3.1 insufficient system resources\r\n"}, ("starttls_missing",), "ehlo"),
    ("a sender of ours", {"clear_mail": b"550 5.1.8 null sender is blocked\r\n"}, ("starttls_missing",), "ehlo"),
    ("hangs up at MAIL", {"clear_mail": CUT}, ("starttls_missing",), "ehlo"),
    ("noise at MAIL", {"clear_mail": b"oops\r\n"}, ("starttls_missing",), "ehlo"),
    ("demanded, Exchange", {"clear_mail": DEMAND}, ("starttls_withheld",), "mail"),
    ("demanded, RFC 3207", {"clear_mail": b"530 5.7.0 Must issue a STARTTLS command first\r\n"}, ("starttls_withheld",), "mail"),
    ("demanded, in other words", {"clear_mail": b"554 5.7.1 TLS is required\r\n"}, ("starttls_withheld",), "mail"),
    ("banned", {"clear_mail": b"550 5.7.606 Access denied, banned sending IP [192.0.2.1]\r\n"}, ("starttls_withheld",), "mail"),
    ("a list", {"clear_mail": b"554 5.7.1 Service unavailable; client host [192.0.2.1] blocked using zen.spamhaus.org\r\n"}, ("starttls_withheld",), "mail"),
    ("blocked, no more", {"clear_mail": b"550 5.7.1 blocked\r\n"}, ("starttls_withheld",), "mail"),
    ("the sender's address", {"clear_mail": b"550 5.7.1 sender IP is blocked\r\n"}, ("starttls_withheld",), "mail"),
    ("listed already at EHLO", {"ehlo": b"554 5.7.1 192.0.2.1 is listed\r\n"}, ("blocklisted",), "ehlo"),
    ("no ESMTP", {"ehlo": b"500 5.3.3 unrecognized command\r\n"}, ("smtp_only",), "ehlo"),
    ("no ESMTP and no HELO", {"ehlo": b"500 no\r\n", "helo": b"500 no\r\n"}, ("ehlo_refused",), "ehlo"),
    ("keyword overwritten", {"ehlo": b"250-a.invalid\r\n250-SIZE\r\n250 XXXXXXXA\r\n"}, ("firewall_mangled_keyword",), "ehlo"),
    ("keyword overwritten and TLS demanded", {"ehlo": b"250-a.invalid\r\n250 XXXXXXXA\r\n", "clear_mail": DEMAND}, ("firewall_mangled_keyword",), "ehlo"),
    ("keywords of another length", {"ehlo": b"250-a.invalid\r\n250-XXXXB\r\n250 SIZE\r\n"}, ("firewall_mangled_keyword",), "ehlo"),
    ("a keyword of Xs that is none", {"ehlo": b"250-a.invalid\r\n250 XEXCH50\r\n"}, ("starttls_missing",), "ehlo"),
    ("EHLO overwritten", {"ehlo": b'500 5.5.1 Command unrecognized: "XXXX probe.test.invalid"\r\n'}, ("firewall_mangled_keyword",), "ehlo"),
    ("banner masked", {"greeting": MASKED}, ("firewall_masked_banner", "starttls_missing"), "greeting"),
    ("banner masked and TLS demanded", {"greeting": MASKED, "clear_mail": DEMAND}, ("firewall_masked_banner",), "greeting"),
    ("banner masked, EHLO eaten", {"greeting": MASKED, "ehlo": b"500 ?\r\n"}, ("smtp_only", "firewall_masked_banner"), "ehlo"),
    ("banner masked, keyword overwritten", {"greeting": MASKED, "ehlo": b"250-a.invalid\r\n250 XXXXXXXA\r\n"}, ("firewall_mangled_keyword", "firewall_masked_banner"), "ehlo"),
]  # fmt: skip


def first(verdict: Verdict) -> Any:
    return verdict.addresses[0].findings[0]


@pytest.mark.parametrize("keywords", [PLAIN, PIPELINED], ids=["one by one", "pipelined"])
@pytest.mark.parametrize(("manners", "codes", "where"), [r[1:] for r in REASONS], ids=[r[0] for r in REASONS])
async def test_a_reason(
    probed: Look, manners: dict[str, bytes], codes: tuple[str, ...], where: str, keywords: bytes
) -> None:
    server = Manners(**{"ehlo": keywords, **manners})  # type: ignore[arg-type]
    verdict = await probed(server, recipient="someone@test.invalid")
    assert verdict.codes() == codes
    assert verdict.health is Health.FAULTY
    assert (first(verdict).severity, first(verdict).where) == (Severity.FAULT, where)
    assert first(verdict).advice
    assert not any("someone" in command for command in server.commands), "no address leaves in clear"


async def test_what_is_asked_in_clear_is_the_null_sender_and_nothing_more(probed: Look) -> None:
    server = Manners(ehlo=PLAIN)
    await probed(server, recipient="someone@test.invalid")
    assert server.commands == ["EHLO probe.test.invalid", "MAIL FROM:<>", "RSET", "QUIT"]


async def test_with_starttls_nothing_is_said_in_clear(probed: Look) -> None:
    server = Manners(certs.server_context(chain()[2].up()))
    await probed(server)
    assert server.commands[:2] == ["EHLO probe.test.invalid", "STARTTLS"]
    assert server.commands[2].startswith("EHLO")


async def test_a_mail_that_is_not_answered_costs_seconds_and_not_the_whole_look(probed: Look) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    verdict = await probed(Manners(ehlo=PLAIN, clear_mail=HANG), timeout=60_000)
    assert loop.time() - began < 10
    assert verdict.codes() == ("starttls_missing",)


async def test_the_refusal_is_in_the_text(probed: Look) -> None:
    verdict = await probed(
        Manners(ehlo=PLAIN, clear_mail=b"550 5.7.606 banned, see https://sender.invalid\r\n")
    )
    assert "https://sender.invalid" in first(verdict).text


async def test_an_overwritten_starttls_command_is_the_firewalls(probed: Look) -> None:
    server = Manners(starttls=b'500 5.5.1 Command unrecognized: "XXXXXXXX"\r\n')
    verdict = await probed(server)
    assert (verdict.codes(), first(verdict).where) == (("firewall_mangled_keyword",), "starttls")


async def test_keywords_overwritten_beside_starttls_warn(probed: Look) -> None:
    server = Manners(
        certs.server_context(chain()[2].up()), ehlo=b"250-a.invalid\r\n250-XXXXXXXB\r\n250 STARTTLS\r\n"
    )
    verdict = await probed(server)
    assert "firewall_mangled_keyword" in verdict.codes()
    assert verdict.health is Health.HEALTHY


@pytest.mark.parametrize(("clear_mail", "code"), [(DEMAND, "starttls_withheld"), (b"550 5.1.8 no\r\n", "starttls_missing")])  # fmt: skip
async def test_where_mail_may_go_in_clear_the_reason_warns(
    probed: Look, clear_mail: bytes, code: str
) -> None:
    verdict = await probed(Manners(ehlo=PLAIN, clear_mail=clear_mail), level="opportunistic")
    assert verdict.codes() == ("sender_refused", code)
    assert [f.severity for f in verdict.addresses[0].findings] == [Severity.FAULT, Severity.WARNING]


BLOCKED = b"550 5.7.606 Access denied, banned sending IP [192.0.2.1]\r\n"


@pytest.mark.parametrize(
    ("manners", "code", "where"),
    [
        ({"starttls": BLOCKED}, "blocklisted", "starttls"),
        ({"tls_ehlo": BLOCKED}, "blocklisted", "tls_ehlo"),
        ({"mail": BLOCKED}, "blocklisted", "mail"),
        ({"rcpt": BLOCKED}, "blocklisted", "rcpt"),
        ({"rcpt": b"550 5.1.1 mailbox is blocked\r\n"}, "recipient_refused", "rcpt"),
        ({"mail": b"550 5.7.1 this sender is blocked here\r\n"}, "sender_refused", "mail"),
    ],
)
async def test_who_is_turned_away_for_his_address_is_told_from_a_refused_mail(
    probed: Look, manners: dict[str, bytes], code: str, where: str
) -> None:
    server = Manners(certs.server_context(chain()[2].up()), **manners)  # type: ignore[arg-type]
    verdict = await probed(server, recipient="someone@test.invalid")
    assert code in verdict.codes()
    found = next(f for f in verdict.addresses[0].findings if f.code == code)
    assert (found.severity, found.where) == (Severity.FAULT, where)


TURNED_AWAY = [
    "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
    "554-mx.invalid\r\n554 Your access to this mail system has been rejected due to poor reputation",
    "550 5.7.1 Your IP was found in a DNS blacklist",
    "550 SC-001 part of their network is on our block list (S3140)",
    "550 5.7.1 Our system has detected an unusual rate of unsolicited mail originating from your IP",
    "421 4.7.0 Mail from IP 192.0.2.1 was rejected due to listing in Spamhaus PBL",
    "550 5.7.511 Access denied, banned sender[192.0.2.1]",
]
NOT_TURNED_AWAY = [
    "421 4.3.2 Service not available",
    "554 5.3.2 No SMTP service here",
    "421 4.7.0 too many connections",
    "554 5.7.1 Client host rejected: Access denied",
    "450 4.7.1 Client host rejected: cannot find your hostname",
    "554 5.7.0 mailing lists are enlisted elsewhere",
]


@pytest.mark.parametrize("text", TURNED_AWAY)
async def test_a_block_list_in_the_greeting(probed: Look, text: str) -> None:
    assert (await probed(Manners(greeting=text.encode() + b"\r\n"))).codes() == ("blocklisted",)


@pytest.mark.parametrize("text", NOT_TURNED_AWAY)
async def test_another_refusal_in_the_greeting(probed: Look, text: str) -> None:
    assert (await probed(Manners(greeting=text.encode() + b"\r\n"))).codes() == ("greeting_refused",)
