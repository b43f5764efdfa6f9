"""One look at an SMTP server: connect, EHLO, STARTTLS, verifying handshake, EHLO, MAIL, RCPT, RSET, QUIT.

Promises: every address of the name is looked at side by side; what a far side does is a value in `Seen`,
never an exception; the look ends within its time limit whatever the peer does; no mail is sent (there is
no DATA). All I/O goes through the running loop.

Source: RFC 5321, RFC 3207 (STARTTLS; what comes before the handshake is thrown away), RFC 2920 (MAIL, RCPT,
RSET and QUIT may travel together, QUIT last).
Limits: an event loop without a clock of its own for getaddrinfo leaves a hanging resolver's thread behind.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from resubmit.clock import Clock
from resubmit.errors import UsageError
from resubmit.model.moment import Ms
from resubmit.model.tls import Endpoint
from resubmit.probe import offers
from resubmit.probe.offers import Offer
from resubmit.probe.seen import (
    NULL_SENDER,
    AddressSeen,
    Answer,
    Handshake,
    How,
    Seen,
    Step,
    Stop,
    Unresolved,
    clean,
    keywords,
)
from resubmit.probe.wire import Broken, Replies, Tls, Wire, second_context

ADDRESS_CEILING = 32
PARTING = 2.0
"""Seconds for RSET and QUIT: their answers change nothing."""
SECOND_PATIENCE = 2.0
"""Seconds at least for the second connection beside one that stands."""
CLEAR_PATIENCE = 5.0
"""Seconds for the answer to MAIL where STARTTLS is missing: it only says why."""

_OWN = {
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.EADDRNOTAVAIL,
    errno.EAFNOSUPPORT,
    errno.EACCES,
    errno.EPERM,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
}
_OUR_RESOLVER = {
    getattr(socket, name)
    for name in ("EAI_AGAIN", "EAI_FAIL", "EAI_SYSTEM", "EAI_MEMORY")
    if hasattr(socket, name)
}


async def look(
    endpoint: Endpoint,
    context: ssl.SSLContext,
    *,
    clock: Clock,
    timeout: Ms,
    ehlo_name: str,
    roots: str = "",
    after: Callable[[AddressSeen], Awaitable[None]] | None = None,
) -> Seen:
    """Everything seen at every address of the endpoint within `timeout` ms.

    after: what is done with each address as soon as its handshake is over, while the conversation goes on.
    `context` is one of wire.client_context. ehlo_name: "" for our address literal. UsageError only for an
    EHLO name or recipient of our own that can't be put into a command.
    """
    for what, value in (("EHLO name", ehlo_name), ("probe recipient", endpoint.recipient)):
        if any(c in value for c in "\r\n\0<> "):
            raise UsageError(f"{what} {value!r} can't be sent in an SMTP command")
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout / 1000
    at = clock.now()
    found = await _resolve(endpoint, deadline)
    if isinstance(found, Unresolved):
        return Seen(endpoint, at, timeout, (), found, roots)
    looks = [_Look(endpoint, context, a, family, ehlo_name) for a, family in found[:ADDRESS_CEILING]]
    seen = await asyncio.gather(*(_run(one, deadline, after) for one in looks))
    return Seen(endpoint, at, timeout, tuple(seen), None, roots, max(0, len(found) - ADDRESS_CEILING))


async def _run(
    one: _Look, deadline: float, after: Callable[[AddressSeen], Awaitable[None]] | None
) -> AddressSeen:
    if after is None:
        return await one.run(deadline)

    async def converse() -> AddressSeen:
        try:
            return await one.run(deadline)
        finally:
            one.chained.set()

    # As soon as the chain is there: a peer that is silent afterwards would leave no time for it.
    seen, _ = await asyncio.gather(converse(), _beside(one, after))
    if seen.shown is not None and (one.handshake is None or seen.shown.chain != one.handshake.chain):
        await after(seen)
    return seen


async def _beside(one: _Look, after: Callable[[AddressSeen], Awaitable[None]]) -> None:
    await one.chained.wait()
    if one.handshake is not None:
        await after(AddressSeen(one.address, one.family, one.connected, handshake=one.handshake))


async def _resolve(endpoint: Endpoint, deadline: float) -> list[tuple[str, str]] | Unresolved:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(deadline):
            answers = await loop.getaddrinfo(
                # a hosts file knows no name with the root's dot
                endpoint.host.rstrip(".") or endpoint.host,
                endpoint.port,
                type=socket.SOCK_STREAM,
                proto=socket.IPPROTO_TCP,
            )
    except socket.gaierror as error:
        return Unresolved(error.errno in _OUR_RESOLVER, error.strerror or str(error))
    except TimeoutError:
        return Unresolved(True, "the resolver gave no answer in time")
    except (UnicodeError, ValueError) as error:
        return Unresolved(False, f"no host name: {clean(str(error))}")
    except OSError as error:
        return Unresolved(True, str(error))
    found: dict[str, str] = {}
    for family, _, _, _, place in answers:
        if family in (socket.AF_INET, socket.AF_INET6):
            found.setdefault(str(place[0]), "IPv6" if family == socket.AF_INET6 else "IPv4")
    return list(found.items()) or Unresolved(False, "the name has no address")


def server_name(host: str) -> str | None:
    """The name for SNI: the host in ASCII; None for an address or what can't be one (RFC 6066 §3)."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
        return None
    except ValueError:
        pass
    try:
        name = host.rstrip(".").encode("idna").decode("ascii")
    except UnicodeError:
        return None
    return name if name and not name.startswith(".") else None


@dataclass(slots=True)
class _Look:
    """The look at one address as it goes on."""

    endpoint: Endpoint
    context: ssl.SSLContext
    address: str
    family: str
    ehlo_name: str
    stops_at_tls: bool = False
    step: Step = Step.CONNECT
    step_began: float = 0.0
    connected: bool = False
    answers: list[Answer] = field(default_factory=list)
    took: list[tuple[Step, Ms]] = field(default_factory=list)
    leftover: bytes = b""
    handshake: Handshake | None = None
    stop: Stop | None = None
    wire: Wire | None = None
    tls: Tls | None = None
    replies: Replies | None = None
    documented: AddressSeen | None = None
    chained: asyncio.Event = field(default_factory=asyncio.Event)
    """The handshake is over, or none will be."""

    async def run(self, deadline: float) -> AddressSeen:
        """The conversation, and where TLS could not be had a second one that says why; at level
        opportunistic a third, in clear."""
        if self.endpoint.level != "opportunistic":
            return await self._with_reason(deadline)
        begun = asyncio.get_running_loop().time()
        seen = await self._with_reason(begun + (deadline - begun) / 2)
        if not seen.lacks_tls:
            return seen
        in_clear = replace(self.endpoint, level="none")
        again = _Look(in_clear, self.context, self.address, self.family, self.ehlo_name)
        return replace(seen, clear=await again.run(deadline))

    async def _with_reason(self, deadline: float) -> AddressSeen:
        seen = await self._once(deadline)
        offer = offers.after_failure(seen.handshake, seen.stop)
        return seen if offer is None else replace(seen, anything=await self._second(offer, deadline))

    async def _second(self, offer: Offer, deadline: float) -> AddressSeen:
        """Another connection, up to the handshake with this offer."""
        second = _Look(
            self.endpoint, second_context(offer), self.address, self.family, self.ehlo_name, stops_at_tls=True
        )
        return await second._once(deadline)

    async def _once(self, deadline: float) -> AddressSeen:
        self.step_began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(deadline):
                await self._converse()
        except Broken as broken:
            self._stopped(broken.how, broken.detail, broken.partial)
        except TimeoutError as error:
            self._stopped(How.TIMEOUT, error.strerror or "", self.replies.partial() if self.replies else b"")
        except OSError as error:
            self._stopped(_connect_failure(error), error.strerror or str(error))
        finally:
            if self.wire:
                await self.wire.close()
        self._at(self.step)
        if self.tls and self.handshake:  # TLS 1.3 sends some alerts only after its handshake
            self.handshake = replace(self.handshake, alerts=self.tls.alerts)
        return AddressSeen(
            address=self.address,
            family=self.family,
            connected=self.connected,
            answers=tuple(self.answers),
            leftover=self.leftover,
            handshake=self.handshake,
            stop=self.stop,
            took=tuple(self.took),
            documented=self.documented,
        )

    def _at(self, step: Step) -> None:
        now = asyncio.get_running_loop().time()
        self.took.append((self.step, round((now - self.step_began) * 1000)))
        self.step, self.step_began = step, now

    def _stopped(self, how: How, detail: str, partial: bytes = b"") -> None:
        if self.step in (Step.RSET, Step.QUIT):
            return  # all that counts was answered
        if self.tls and self.handshake is None:
            reason = detail if how is How.TLS else how.value
            began = round((asyncio.get_running_loop().time() - self.step_began) * 1000)
            self.handshake = self.tls.seen(done=False, reason=reason, took=began)
        self.stop = Stop(self.step, how, clean(detail), partial[:512])

    async def _converse(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        _, self.wire = await loop.create_connection(Wire, host=self.address, port=self.endpoint.port)
        self.connected = True
        self.ehlo_name = self.ehlo_name or self.wire.literal()
        if not await self._to_starttls(self.wire):
            return
        handshake, tls = await self._secure(self.wire)
        if self.stops_at_tls:
            tls.write(b"QUIT\r\n")
            self._goodbye()
            return
        if (offer := offers.after_success(handshake)) is None:
            await self._on_tls(tls)
            return
        # Side by side, so that the second connection costs the look little of its time.
        patience = loop.time() + max(SECOND_PATIENCE, 3 * (loop.time() - began))
        ended, documented = await asyncio.gather(
            self._on_tls(tls), self._second(offer, patience), return_exceptions=True
        )
        if isinstance(documented, AddressSeen):
            self.documented = documented
        if isinstance(ended, BaseException):
            raise ended

    async def _to_starttls(self, wire: Wire) -> bool:
        """Whether STARTTLS was answered 220; where it was not, all that is said in clear has been said."""
        replies = self.replies = Replies(wire)
        if (await self._read(Step.GREETING)).code != 220:
            await self._part(wire)
            return False
        greeting = await self._hello(wire)
        offered = keywords(greeting)
        level = self.endpoint.level
        if level == "none" or "STARTTLS" not in offered:
            if not greeting.positive or self.stops_at_tls:
                await self._part(wire)
            elif level in ("none", "opportunistic"):
                await self._dry_run(wire, "PIPELINING" in offered)
            else:
                await self._ask_in_clear(wire, "PIPELINING" in offered)
            return False
        if (await self._say(wire, Step.STARTTLS, "STARTTLS")).code != 220:
            await self._part(wire)
            return False
        if early := bytes(replies.buffer) + wire.waiting:
            self.leftover = early[:512]
            raise Broken(How.LEFTOVER)
        return True

    async def _on_tls(self, tls: Tls) -> None:
        greeting = await self._say(tls, Step.TLS_EHLO, f"EHLO {self.ehlo_name}")
        if greeting.positive:
            await self._dry_run(tls, "PIPELINING" in keywords(greeting))
        else:
            await self._part(tls)

    async def _hello(self, wire: Wire) -> Answer:
        """The answer to EHLO; a server that refuses it is asked with HELO what it is."""
        greeting = await self._say(wire, Step.EHLO, f"EHLO {self.ehlo_name}")
        if greeting.code >= 500:
            await self._say(wire, Step.HELO, f"HELO {self.ehlo_name}")
        return greeting

    async def _secure(self, wire: Wire) -> tuple[Handshake, Tls]:
        self._at(Step.HANDSHAKE)
        tls = self.tls = Tls(wire, self.context, server_name(self.endpoint.host))
        self.replies = None
        began = asyncio.get_running_loop().time()
        await tls.handshake()
        took = round((asyncio.get_running_loop().time() - began) * 1000)
        self.handshake = tls.seen(done=True, reason="", took=took)
        self.chained.set()
        self.replies = Replies(tls)
        return self.handshake, tls

    async def _dry_run(self, stream: Wire | Tls, is_pipelined: bool) -> None:
        """MAIL and RCPT are answered, nothing is sent. The null sender: no address of ours is named."""
        commands = [(Step.MAIL, NULL_SENDER)]
        if self.endpoint.recipient:
            commands.append((Step.RCPT, f"RCPT TO:<{self.endpoint.recipient}>"))
        await self._ask(stream, commands, is_pipelined)

    async def _ask_in_clear(self, wire: Wire, is_pipelined: bool) -> None:
        """Whether MAIL is taken without TLS: a server that withholds STARTTLS from us says so here."""
        await self._ask(wire, [(Step.CLEAR_MAIL, NULL_SENDER)], is_pipelined, CLEAR_PATIENCE)

    async def _ask(
        self,
        stream: Wire | Tls,
        commands: list[tuple[Step, str]],
        is_pipelined: bool,
        patience: float | None = None,
    ) -> None:
        """The commands, then RSET and QUIT, whose answers are not waited for long. patience: seconds."""
        loop = asyncio.get_running_loop()
        parting = [(Step.RSET, "RSET"), (Step.QUIT, "QUIT")]
        if is_pipelined:
            stream.write("".join(f"{command}\r\n" for _, command in commands + parting).encode())
        async with asyncio.timeout(patience) as limit:
            for step, command in commands:
                answer = await (self._read(step) if is_pipelined else self._say(stream, step, command))
                if not answer.positive and not is_pipelined:
                    break
            self._at(Step.RSET)
            limit.reschedule(loop.time() + PARTING)
            for step, command in parting:
                await (self._read(step) if is_pipelined else self._say(stream, step, command))
        self._goodbye()

    def _goodbye(self) -> None:
        if self.tls is not None:
            self.tls.goodbye()

    async def _part(self, stream: Wire | Tls) -> None:
        """Leave politely; the answer to QUIT is not waited for long, and may be none."""
        self._at(Step.QUIT)
        async with asyncio.timeout(PARTING):
            await self._say(stream, Step.QUIT, "QUIT")

    async def _say(self, stream: Wire | Tls, step: Step, command: str) -> Answer:
        if step is not self.step:
            self._at(step)
        stream.write(command.encode() + b"\r\n")
        return await self._read(step)

    async def _read(self, step: Step) -> Answer:
        assert self.replies is not None
        if step is not self.step:
            self._at(step)
        answer = await self.replies.next(step)
        self.answers.append(answer)
        return answer


def _connect_failure(error: OSError) -> How:
    if isinstance(error, ConnectionError):
        return How.REFUSED
    if error.errno in _OWN:
        return How.OWN
    return How.UNREACHABLE
