"""The object of `probe --json`, the advice, what a look costs, and verdicts on what is rarely seen."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from resubmit.clock import LoopClock
from resubmit.lab.smtpd import Script, ScriptedServer
from resubmit.meaning import advice
from resubmit.model.moment import from_datetime
from resubmit.model.tls import Endpoint, Health, Severity
from resubmit.probe import fingerprint, plain
from resubmit.probe.findings import ORDER, judge
from resubmit.probe.look import look
from resubmit.probe.roots import Roots
from resubmit.probe.seen import AddressSeen, Answer, Handshake, How, Seen, Step, Stop
from resubmit.probe.starttls import server_name
from resubmit.probe.wire import Wire
from tests.helpers import certs
from tests.helpers.loop import SimulatedLoop
from tests.helpers.odd_tls import Manners
from tests.unit.probe.conftest import NAME, Look, chain

NOW = from_datetime(certs.now())


async def test_the_json_object_has_the_fields_of_the_contract(probed: Look) -> None:
    soon = certs.leaf(chain()[1], ends=7 * certs.DAY)
    verdict = await probed(Manners(certs.server_context([soon, chain()[1]]), tls_ehlo=b"250 a.invalid\r\n"))
    found = json.loads(json.dumps(plain.verdict_plain(verdict)))
    assert {"target", "verdict", "checked_at", "level", "addresses", "findings"} <= set(found)
    assert found["verdict"] == "healthy"
    assert found["roots"].startswith("CA file "), "what it was verified against"
    assert found["level"] == "domain"
    assert re.fullmatch(rf"{NAME}:\d+", found["target"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["checked_at"])
    (one,) = found["addresses"]
    assert set(one) == {"address", "verdict", "findings", "tls", "certificates", "banner", "ehlo"}
    assert set(one["tls"]) == {"version", "cipher"}
    assert set(one["certificates"][0]) == {"subject", "issuer", "sans", "not_before", "not_after", "sha256"}
    assert set(one["findings"][0]) == {"code", "severity", "where", "text", "advice", "exchange_online"}
    assert found["findings"] == ["name_mismatch", "expiring_soon"]
    assert plain.days_left(verdict) == 6


async def test_a_finding_says_what_exchange_online_answers(probed: Look) -> None:
    over = certs.leaf(chain()[1], starts=-9 * certs.DAY, ends=-certs.DAY)
    found = plain.verdict_plain(await probed(Manners(certs.server_context([over, chain()[1]]))))
    (one,) = found["addresses"][0]["findings"]
    assert (one["code"], one["exchange_online"]) == (
        "certificate_expired",
        "450 4.7.320 Certificate validation failed",
    )


async def test_what_only_informs_stays_out_of_the_top_list(probed: Look) -> None:
    other = [certs.leaf(chain()[1], dns=["mail.contoso.invalid"]), chain()[1]]
    server = Manners(certs.server_context(other), tls_ehlo=b"250 mail.contoso.invalid\r\n")
    found = plain.verdict_plain(await probed(server, tls_domain="*.contoso.invalid"))
    assert found["findings"] == []
    assert [f["severity"] for f in found["addresses"][0]["findings"]] == ["info"]


def test_every_code_has_its_advice_and_every_row_its_source() -> None:
    rows = advice.rows()
    assert {code for code in rows if ":" not in code} - {"own_roots"} == set(ORDER)
    for code, row in rows.items():
        assert row.means.endswith("."), code
        assert row.advice.endswith((".", ")")), code
        assert row.source, code
        assert not re.search(r"\{(?!host\})", row.advice), code


def test_advice_knows_the_place() -> None:
    leaf = advice.advice("certificate_expired", where="leaf", host="mail.contoso.com")
    middle = advice.advice("certificate_expired", where="intermediate", host="mail.contoso.com")
    assert "Enable-ExchangeCertificate" in leaf
    assert "intermediate" in middle
    assert leaf != middle
    assert "mail.contoso.com" in advice.advice("name_mismatch", where="host", host="mail.contoso.com")
    assert advice.advice("no_such_code") == ""


@pytest.mark.parametrize("recipient", ["", "someone@test.invalid"])
async def test_a_healthy_look_waits_twice_more_than_a_bare_handshake(
    probed: Look, monkeypatch: pytest.MonkeyPatch, recipient: str
) -> None:
    """Waits are counted, not timed: each is a change from what we sent to what came."""
    turns: list[str] = []
    write, received = Wire.write, Wire.data_received

    def written(self: Wire, octets: bytes) -> None:
        turns.append("w")
        write(self, octets)

    def came(self: Wire, data: bytes) -> None:
        turns.append("r")
        received(self, data)

    monkeypatch.setattr(Wire, "write", written)
    monkeypatch.setattr(Wire, "data_received", came)
    server = Manners(certs.server_context(chain()[2].up()))
    verdict = await probed(server, recipient=recipient)
    assert verdict.health is Health.HEALTHY
    waits = re.sub(r"(.)\1+", r"\1", "".join(turns)).count("wr")
    bare = len(["EHLO", "STARTTLS", "ClientHello"])  # TLS 1.3: one round trip
    assert waits == bare + 2
    assert len(server.arrivals) == 2


def test_a_look_runs_on_a_simulated_loop() -> None:
    """The service's own world: the same look, without a socket or a second's wait."""
    loop = SimulatedLoop()
    loop.names["hybrid.invalid"] = ["10.0.0.1", "10.0.0.2"]

    async def go() -> tuple[Any, Any]:
        clock = LoopClock(NOW)
        context = certs.server_context([certs.leaf(None, dns=["hybrid.invalid"])])
        servers = [
            ScriptedServer(Script(starttls=True), tls=context, host=f"10.0.0.{n}", port=25, clock=clock)
            for n in (1, 2)
        ]
        for server in servers:
            await server.start()
        endpoint = Endpoint("hybrid.invalid", level="encrypt")
        there = await look(endpoint, clock=clock, timeout=5_000, ehlo_name="probe.invalid")
        servers[0].script = Script(starttls=True, hang="greeting")
        hanging = await look(endpoint, clock=clock, timeout=60_000, ehlo_name="probe.invalid")
        for server in servers:
            await server.stop()
        return there, hanging

    there, hanging = loop.run_until_complete(go())
    loop.close()
    assert there.health is Health.HEALTHY
    assert "self_signed" in there.codes()
    assert set(hanging.codes()) >= {"addresses_differ", "greeting_timeout"}
    assert fingerprint.of(there) != fingerprint.of(hanging)


def _seen(handshake: Handshake, *, stop: Stop | None, answers: tuple[Answer, ...] = ()) -> Seen:
    one = AddressSeen("192.0.2.1", "IPv4", True, answers, handshake=handshake, stop=stop)
    return Seen(Endpoint(NAME), NOW, 1_000, (one,))


ROOTS = Roots("the list", (chain()[0].certificate,))
GOOD = tuple(one.der for one in chain()[2].up())


@pytest.mark.parametrize(
    ("code", "expected"),
    [(24, "issuer_not_ca"), (47, "untrusted_issuer"), (7, "untrusted_issuer"), (26, "wrong_usage")],
)
def test_what_openssl_alone_refuses_is_a_fault_in_its_words(code: int, expected: str) -> None:
    handshake = Handshake(False, chain=GOOD, verify_code=code, verify_message="permitted subtree violation")
    verdict = judge(_seen(handshake, stop=Stop(Step.HANDSHAKE, How.TLS)), ROOTS)
    (found,) = verdict.addresses[0].findings
    assert (found.code, found.severity) == (expected, Severity.FAULT)
    assert "permitted subtree violation" in found.text


def test_silence_is_never_healthy() -> None:
    """A conversation that just ended, with no fault that has a name."""
    verdict = judge(_seen(Handshake(True, verified=True, chain=GOOD), stop=None), ROOTS)
    assert verdict.health is Health.FAULTY
    assert verdict.codes() == ("handshake_failed",)


def test_an_expired_chain_that_openssl_refuses_for_more_has_both_reasons() -> None:
    expired = certs.leaf(chain()[1], starts=-9 * certs.DAY, ends=-certs.DAY)
    handshake = Handshake(
        False, chain=(expired.der, chain()[1].der), verify_code=47, verify_message="subtree"
    )
    verdict = judge(_seen(handshake, stop=Stop(Step.HANDSHAKE, How.TLS)), ROOTS)
    assert verdict.codes() == ("certificate_expired", "untrusted_issuer")


def test_a_certificate_nobody_can_read_is_not_healthy() -> None:
    ok = Answer(Step.MAIL, 250, (b"250 ok",), 1)
    verdict = judge(_seen(Handshake(True, verified=True, chain=(b"junk",)), stop=None, answers=(ok,)), ROOTS)
    assert verdict.codes() == ("name_mismatch",)
    assert verdict.health is Health.FAULTY


def test_without_any_roots_the_issuer_is_not_held_against_the_server() -> None:
    handshake = Handshake(False, chain=GOOD, verify_code=20, verify_message="unable to get local issuer")
    verdict = judge(_seen(handshake, stop=Stop(Step.HANDSHAKE, How.TLS)), Roots("no list of roots found", ()))
    assert verdict.health is Health.UNKNOWN


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("mail.contoso.com", "mail.contoso.com"),
        ("mail.contoso.com.", "mail.contoso.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("192.0.2.1", None),
        ("fe80::1%eth0", None),
        ("a" * 64 + ".com", None),
        ("", None),
    ],
)
def test_the_name_for_sni(host: str, name: str | None) -> None:
    assert server_name(host) == name


async def test_without_a_name_of_ours_the_address_is_said(ca_file: str) -> None:
    from resubmit.clock import SystemClock
    from tests.helpers.odd_tls import serving

    server = Manners(certs.server_context(chain()[2].up()))
    async with serving(server) as port:
        await look(
            Endpoint("127.0.0.1", port, ca_file=ca_file), clock=SystemClock(), timeout=3_000, ehlo_name=""
        )
    assert server.commands[0] == "EHLO [127.0.0.1]"


async def test_many_looks_leave_nothing_behind(probed: Look) -> None:
    server = Manners(certs.server_context(chain()[2].up()))
    for _ in range(3):
        await probed(server)
    assert len(asyncio.all_tasks()) == 1
