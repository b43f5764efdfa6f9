"""The one door of the room: a look at an endpoint, and its verdict."""

from __future__ import annotations

import asyncio
import functools
import ssl

from resubmit.clock import Clock
from resubmit.errors import UsageError
from resubmit.model.moment import Ms
from resubmit.model.tls import Endpoint, Verdict
from resubmit.probe import findings, roots, starttls
from resubmit.probe.gather import Gathering
from resubmit.probe.wire import client_context


async def look(
    endpoint: Endpoint, *, clock: Clock, timeout: Ms, ehlo_name: str, gate_closed: bool = False
) -> Verdict:
    """What is to be said of the endpoint now, every address of it, within `timeout` ms.

    gate_closed: mail waits for this look, so a certificate with less than a day left is a fault.
    Never raises for what the far side does; a CA file that can't be read, or a name of ours that can't be
    sent, makes the verdict unknown (roots.load raises UsageError: a command asks it first). Sends no mail.
    """
    loop = asyncio.get_running_loop()
    try:
        trusted = await loop.run_in_executor(None, roots.load, endpoint.ca_file, clock.now())
        context = _context(trusted, endpoint.level in ("certificate", "domain"))
    except (UsageError, ssl.SSLError) as error:
        return findings.unknown(f"{endpoint.host}:{endpoint.port}", endpoint.level, clock.now(), str(error))
    gathering = Gathering(trusted, clock, loop.time() + timeout / 1000, in_need=gate_closed)
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
    except UsageError as error:  # a name or recipient of our own that no command can carry: our fault
        return findings.unknown(f"{endpoint.host}:{endpoint.port}", endpoint.level, clock.now(), str(error))
    # Off the loop: a large revocation list takes its time.
    judge = functools.partial(
        findings.judge, seen, trusted, gate_closed=gate_closed, gathered=gathering.found()
    )
    return await loop.run_in_executor(None, judge)


@functools.lru_cache(maxsize=16)
def _context(trusted: roots.Roots, verify: bool) -> ssl.SSLContext:
    return client_context(trusted.der, verify=verify)
