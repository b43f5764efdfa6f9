"""Every address of a name is looked at side by side, and what differs is said."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest

from resubmit.clock import SystemClock
from resubmit.model.tls import Endpoint, Health, Severity, Verdict
from resubmit.probe import fingerprint
from resubmit.probe.look import look
from tests.helpers import certs
from tests.helpers.odd_tls import CUT, HANG, Handler, Manners, serving
from tests.unit.probe.conftest import NAME, chain

ADDRESSES = ("127.0.0.1", "127.0.0.2", "::1")


def well(**more: Any) -> Manners:
    return Manners(certs.server_context(chain()[2].up()), **more)


@pytest.fixture
def looked(ca_file: str, resolves: Callable[..., None]) -> Callable[..., Any]:
    """`await looked({address: handler or None}, order)`: None listens nowhere."""

    async def run(servers: dict[str, Handler | None], *, timeout: int = 4_000) -> Verdict:
        resolves(*servers)
        async with contextlib.AsyncExitStack() as stack:
            port = 0
            for address, handler in servers.items():
                if handler is not None:
                    port = await stack.enter_async_context(serving(handler, host=address, port=port))
            return await look(
                Endpoint(NAME, port, ca_file=ca_file),
                clock=SystemClock(),
                timeout=timeout,
                ehlo_name="probe.test.invalid",
            )

    return run


async def test_all_alike_and_well(looked: Any) -> None:
    verdict = await looked({a: well() for a in ADDRESSES})
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, ())
    assert tuple(a.address for a in verdict.addresses) == ADDRESSES


async def test_one_faulty_address_makes_it_faulty_and_is_named(looked: Any) -> None:
    verdict = await looked(
        {"127.0.0.1": well(), "127.0.0.2": Manners(), "::1": well(ehlo=b"250 a.invalid\r\n")}
    )
    assert verdict.health is Health.FAULTY
    assert [a.health for a in verdict.addresses] == [Health.HEALTHY, Health.FAULTY, Health.FAULTY]
    (found,) = verdict.findings
    assert (found.code, found.severity) == ("addresses_differ", Severity.WARNING)
    assert "127.0.0.2 is faulty" in found.text
    assert set(verdict.codes()) >= {"addresses_differ", "starttls_missing"}


async def test_two_faulty_addresses_with_a_fault_each_differ(looked: Any) -> None:
    servers = {"127.0.0.1": Manners(after_hello=CUT), "127.0.0.2": well(ehlo=b"250 mail.test.invalid\r\n")}
    verdict = await looked(servers)
    assert [a.health for a in verdict.addresses] == [Health.FAULTY, Health.FAULTY]
    assert verdict.codes() == ("addresses_differ", "closed_after_starttls", "starttls_missing")
    assert "127.0.0.2 has starttls_missing" in verdict.findings[0].text


async def test_one_address_that_only_warns_differs_from_its_neighbour(looked: Any) -> None:
    masked = well(greeting=b"220 *****************\r\n")
    verdict = await looked({"127.0.0.1": well(), "127.0.0.2": masked})
    assert (verdict.health, verdict.codes()) == (
        Health.HEALTHY,
        ("addresses_differ", "firewall_masked_banner"),
    )


async def test_an_address_that_refuses_is_told_from_one_that_greets(looked: Any) -> None:
    verdict = await looked({"127.0.0.1": well(), "127.0.0.2": None})
    assert verdict.health is Health.FAULTY
    assert verdict.reached
    assert verdict.codes() == ("addresses_differ", "connect_refused")


async def test_another_certificate_on_one_address_differs(looked: Any) -> None:
    other = Manners(certs.server_context([certs.leaf(chain()[1], ends=80 * certs.DAY), chain()[1]]))
    verdict = await looked({"127.0.0.1": well(), "127.0.0.2": other})
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, ("addresses_differ",))
    assert "certificates" in verdict.findings[0].text


async def test_another_ehlo_name_on_one_address_differs(looked: Any) -> None:
    names = ["mail.test.invalid", "mx2.test.invalid"]
    both = [certs.leaf(chain()[1], dns=names), chain()[1]]
    context = certs.server_context(both)
    servers = {
        address: Manners(context, tls_ehlo=f"250 {name}\r\n".encode())
        for address, name in zip(ADDRESSES[:2], names, strict=True)
    }
    verdict = await looked(servers)
    assert (verdict.health, verdict.codes()) == (Health.HEALTHY, ("addresses_differ",))
    assert "mx2.test.invalid" in verdict.findings[0].text


async def test_a_hanging_address_costs_the_others_nothing(looked: Any) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    verdict = await looked({"127.0.0.1": Manners(greeting=HANG), "127.0.0.2": well()}, timeout=600)
    assert loop.time() - began < 2
    assert [a.health for a in verdict.addresses] == [Health.FAULTY, Health.HEALTHY]


async def test_two_hanging_addresses_hang_side_by_side(looked: Any) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    verdict = await looked({a: Manners(greeting=HANG) for a in ADDRESSES}, timeout=600)
    assert loop.time() - began < 1.5
    assert verdict.codes() == ("greeting_timeout",)


async def test_no_route_to_one_family_does_not_cloud_the_other(
    looked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    honest = loop.create_connection

    async def without_ipv6(factory: Any, host: str, port: int, **more: Any) -> Any:
        if ":" in host:
            raise OSError(101, "Network is unreachable")
        return await honest(factory, host=host, port=port, **more)

    monkeypatch.setattr(loop, "create_connection", without_ipv6)
    verdict = await looked({"127.0.0.1": well(), "::1": well()})
    assert verdict.health is Health.HEALTHY
    assert verdict.addresses[1].health is Health.UNKNOWN
    assert verdict.addresses[1].findings[0].severity is Severity.UNKNOWN
    alone = await looked({"::1": well()})
    assert (alone.health, alone.reached) == (Health.UNKNOWN, False)


async def test_more_addresses_than_anyone_has_are_bounded(
    resolves: Callable[..., None], ca_file: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        resolves(*(f"127.0.1.{n}" for n in range(1, 100)))
        verdict = await look(
            Endpoint(NAME, taken.getsockname()[1], ca_file=ca_file),
            clock=SystemClock(),
            timeout=2_000,
            ehlo_name="probe.test.invalid",
        )
    assert len(verdict.addresses) == 32
    assert verdict.codes() == ("connect_refused",)


async def test_the_fingerprint_knows_no_order_and_tells_what_changed(looked: Any) -> None:
    there = fingerprint.of(await looked({"127.0.0.1": well(), "127.0.0.2": well()}))
    back = fingerprint.of(await looked({"127.0.0.2": well(), "127.0.0.1": well()}))
    assert there == back
    renewed = Manners(certs.server_context([certs.leaf(chain()[1]), chain()[1]]))
    others = {
        "certificate": fingerprint.of(await looked({"127.0.0.1": well(), "127.0.0.2": renewed})),
        "starttls": fingerprint.of(
            await looked({"127.0.0.1": well(), "127.0.0.2": Manners(ehlo=b"250 a\r\n")})
        ),
        "step": fingerprint.of(await looked({"127.0.0.1": well(), "127.0.0.2": well(mail=b"530 no\r\n")})),
        "ehlo": fingerprint.of(
            await looked({"127.0.0.1": well(), "127.0.0.2": well(tls_ehlo=b"250 other\r\n")})
        ),
        "reach": fingerprint.of(await looked({"127.0.0.1": well(), "127.0.0.2": None})),
        "address": fingerprint.of(await looked({"127.0.0.1": well()})),
        "cut": fingerprint.of(await looked({"127.0.0.1": well(), "127.0.0.2": well(tls_ehlo=CUT)})),
    }
    assert len({there, *others.values()}) == len(others) + 1
    assert "starttls=no" in others["starttls"]
    assert "stops=mail" in others["step"]
