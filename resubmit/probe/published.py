"""What the domain itself published about its mail servers: MX, MTA-STS, TLSA. Seen, without opinion.

Promises: ends within LIFETIME for a question and the look's own limit; what DNS or the web server does is a
value. Nothing is asked about an address, about a name that is nobody's (`.invalid` and the like), or about
another port than 25: all this is for mail that goes by MX records.

Source: RFC 8461 (MTA-STS), RFC 7672 and RFC 6698 (DANE for SMTP), RFC 6761 (names that are nobody's).
Limits: TLSA records count only where a resolver on this machine says that it validated them: the way to any
other is open to whoever would forge them.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import ssl
from collections.abc import Iterable
from typing import Any, Protocol

from resubmit.clock import Clock
from resubmit.model.tls import Endpoint
from resubmit.probe.fetch import Ask, Fetched, fetch
from resubmit.probe.policy import Published, Sts, Tlsa
from resubmit.probe.roots import Roots

LIFETIME = 3.0
SECONDS = 10.0
POLICY_CEILING = 64 * 1024
DOMAINS = 4
_SMTP = 25
_NOBODYS = (
    "invalid",
    "test",
    "example",
    "local",
    "localhost",
    "internal",
    "localdomain",
    "lan",
    "corp",
    "home",
)


class Dns(Protocol):
    """The three questions. An empty answer where there is none, for whatever reason."""

    async def mx(self, name: str) -> list[str]:
        """The hosts of a name's MX records."""

    async def txt(self, name: str) -> list[str]:
        """Its TXT records, each put together."""

    async def tlsa(self, name: str) -> list[Tlsa]:
        """Its TLSA records, if a resolver on this machine vouches for them."""


class SystemDns:
    """The resolver this machine is set up with."""

    async def mx(self, name: str) -> list[str]:
        return [str(one.exchange) for one in await self._ask(name, "MX")]

    async def txt(self, name: str) -> list[str]:
        found = await self._ask(name, "TXT")
        return [b"".join(one.strings).decode("ascii", "replace") for one in found]

    async def tlsa(self, name: str) -> list[Tlsa]:
        found = await self._ask(name, "TLSA", secure=True)
        return [Tlsa(one.usage, one.selector, one.mtype, bytes(one.cert)) for one in found]

    async def _ask(self, name: str, kind: str, *, secure: bool = False) -> list[Any]:
        import dns.asyncresolver
        import dns.exception
        import dns.flags

        try:
            resolver = dns.asyncresolver.Resolver()
            if secure:
                if not all(_is_here(str(server)) for server in resolver.nameservers):
                    return []
                resolver.use_edns(0, dns.flags.DO, 1232)
                resolver.flags = dns.flags.RD | dns.flags.AD
            answer = await resolver.resolve(name, kind, lifetime=LIFETIME, search=False)
        except (dns.exception.DNSException, OSError, ValueError):
            return []
        if secure and not answer.response.flags & dns.flags.AD:
            return []
        return list(answer)


def _is_here(server: str) -> bool:
    try:
        return ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return False


async def ask(
    endpoint: Endpoint, dns: Dns, roots: Roots, *, clock: Clock, deadline: float
) -> Published | None:
    """What is published about the host, None where nothing is asked. deadline: on the loop's clock."""
    host = endpoint.host.rstrip(".").lower()
    if endpoint.port != _SMTP or endpoint.level == "none" or not _is_somebodys(host):
        return None
    loop = asyncio.get_running_loop()
    left = min(SECONDS, deadline - loop.time())
    try:
        async with asyncio.timeout(left):
            domains = _domains(endpoint, host)
            tlsa, exchanges = await asyncio.gather(
                dns.tlsa(f"_{endpoint.port}._tcp.{host}"),
                asyncio.gather(*(dns.mx(domain) for domain in domains)),
            )
            pairs = zip(domains, exchanges, strict=True)
            ours = tuple(d for d, hosts in pairs if host in {one.rstrip(".").lower() for one in hosts})
            limit = min(SECONDS, deadline - loop.time())
            policies = await asyncio.gather(*(_policy(d, dns, roots, clock, limit) for d in ours))
    except TimeoutError:
        return None
    return Published(ours, tuple(one for one in policies if one is not None), tuple(tlsa))


async def _policy(domain: str, dns: Dns, roots: Roots, clock: Clock, seconds: float) -> Sts | None:
    """The domain's MTA-STS policy; None where it has none (RFC 8461 §3.1: one record, that begins so)."""
    records = [one for one in await dns.txt(f"_mta-sts.{domain}") if one.startswith("v=STSv1;")]
    if len(records) != 1:
        return None
    return Sts(domain, await _fetch(domain, roots, clock, seconds))


async def _fetch(domain: str, roots: Roots, clock: Clock, seconds: float) -> Fetched:
    """RFC 8461 §3.3: HTTPS with a valid certificate, no redirects."""
    url = f"https://mta-sts.{domain}/.well-known/mta-sts.txt"
    ask = Ask(url, POLICY_CEILING, schemes=("https",), redirects=0, context=web_context(roots))
    return await fetch(ask, at=clock.now(), seconds=seconds)


@functools.lru_cache(maxsize=4)
def web_context(roots: Roots) -> ssl.SSLContext:
    """A client that verifies a web server, name and all, over the roots."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if roots.der:
        context.load_verify_locations(cadata=roots.der)
    return context


def _domains(endpoint: Endpoint, host: str) -> list[str]:
    """The mail domains that may have the host as their MX: those configured, else those the host is below."""
    _, _, of_recipient = endpoint.recipient.rpartition("@")
    labels = host.split(".")
    parents = [".".join(labels[place:]) for place in range(1, len(labels) - 1)]
    wanted: Iterable[str] = (*endpoint.domains, of_recipient, *parents)
    known = dict.fromkeys(one.rstrip(".").lower() for one in wanted)
    return [one for one in known if _is_somebodys(one)][:DOMAINS]


def _is_somebodys(name: str) -> bool:
    labels = name.split(".")
    if len(labels) < 2 or labels[-1] in _NOBODYS or not name.isascii() or not all(labels):
        return False
    return not labels[-1].isdigit() and ":" not in name
