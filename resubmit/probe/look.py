"""The one door of the room: a look at an endpoint, and its verdict."""

from __future__ import annotations

import asyncio
import functools
import ssl
from dataclasses import replace

from resubmit.clock import Clock
from resubmit.errors import UsageError
from resubmit.model.moment import Ms
from resubmit.model.tls import Endpoint, Verdict
from resubmit.probe import findings, published, roots, starttls
from resubmit.probe.gather import Gathering
from resubmit.probe.policy import Published
from resubmit.probe.published import Dns
from resubmit.probe.wire import client_context


async def look(
    endpoint: Endpoint,
    *,
    clock: Clock,
    timeout: Ms,
    ehlo_name: str,
    gate_closed: bool = False,
    dns: Dns | None = None,
) -> Verdict:
    """What is to be said of the endpoint now, every address of it, within `timeout` ms.

    gate_closed: mail waits for this look, so a certificate with less than a day left is a fault.
    dns: where to ask what the domain published (MTA-STS, TLSA); None: that is left aside.
    Never raises for what the far side does; a CA file that can't be read, or a name of ours that can't be
    sent, makes the verdict unknown (roots.load raises UsageError: a command asks it first). Sends no mail.
    """
    loop = asyncio.get_running_loop()
    try:
        trusted = await loop.run_in_executor(None, roots.load, endpoint.ca_file, clock.now())
        context = _context(trusted, endpoint.level in ("certificate", "domain"))
    except (UsageError, ssl.SSLError) as error:
        return findings.unknown(f"{endpoint.host}:{endpoint.port}", endpoint.level, clock.now(), str(error))
    deadline = loop.time() + timeout / 1000
    gathering = Gathering(trusted, clock, deadline, in_need=gate_closed, revocation=endpoint.revocation)
    asking = loop.create_task(_published(endpoint, dns, clock, deadline))
    try:
        seen = await starttls.look(
            endpoint,
            context,
            clock=clock,
            timeout=timeout,
            ehlo_name=ehlo_name,
            roots=trusted.name,
            after=gathering.answer,
        )
        gathered = replace(gathering.found(), published=await asking)
    except UsageError as error:  # a name or recipient of our own that no command can carry: our fault
        return findings.unknown(f"{endpoint.host}:{endpoint.port}", endpoint.level, clock.now(), str(error))
    finally:
        asking.cancel()
    # Off the loop: a large revocation list takes its time.
    judge = functools.partial(findings.judge, seen, trusted, gate_closed=gate_closed, gathered=gathered)
    return await loop.run_in_executor(None, judge)


async def _published(endpoint: Endpoint, dns: Dns | None, clock: Clock, deadline: float) -> Published | None:
    """A policy's web server has a certificate of a public CA, whatever roots the mail server is held to."""
    if dns is None:
        return None
    public = await asyncio.get_running_loop().run_in_executor(None, roots.load, "", clock.now())
    return await published.ask(endpoint, dns, public, clock=clock, deadline=deadline)


@functools.lru_cache(maxsize=16)
def _context(trusted: roots.Roots, verify: bool) -> ssl.SSLContext:
    return client_context(trusted.der, verify=verify)
