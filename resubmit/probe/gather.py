"""What stands at the addresses that a chain's certificates name: issuers, revocation lists, OCSP answers.

Promises: ends by its deadline; each address is asked once in a look, whoever names it, and a fetched list
that can be believed is kept for later looks (in memory, SHELF_OCTETS at most, for KEPT, less where mail waits
for the look). What comes is a value; nothing is judged but whether the next address must be asked.

Limits: what a certificate names is asked even when the chain leads nowhere, since all that is wrong is to be
told; ADDRESSES a look bound what a hostile server can make us ask.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from cryptography import x509

from resubmit.clock import Clock
from resubmit.model.moment import HOUR, MINUTE, Ms
from resubmit.probe import aia, chain, crl, ocsp
from resubmit.probe.fetch import Ask, Fetched, Trouble, fetch
from resubmit.probe.path import ways
from resubmit.probe.revocation import Asked, Gathered, asked, read_list, signers
from resubmit.probe.roots import Roots
from resubmit.probe.seen import AddressSeen

LIST_CEILING = 32 * 1024 * 1024
"""The largest lists of public CAs have some megabytes."""
SHELF_OCTETS = 64 * 1024 * 1024
SECONDS = 10.0
"""For one address; Windows gives a list 15."""
ADDRESSES = 24
KEPT: Ms = HOUR
KEPT_IN_NEED: Ms = MINUTE
"""While mail waits, so that a list that was mended is soon seen, and one just revoked too."""


class Shelf:
    """Lists fetched before, oldest first."""

    def __init__(self) -> None:
        self._lists: dict[str, Fetched] = {}

    def get(self, url: str, now: Ms, kept: Ms) -> Fetched | None:
        """What was fetched within the last `kept` ms."""
        found = self._lists.get(url)
        return found if found is not None and 0 <= now - found.at < kept else None

    def put(self, fetched: Fetched) -> None:
        """Keep a list; those that came first make room."""
        self._lists.pop(fetched.url, None)
        self._lists[fetched.url] = fetched
        while sum(len(one.octets or b"") for one in self._lists.values()) > SHELF_OCTETS:
            self._lists.pop(next(iter(self._lists)))

    def drop(self, url: str) -> None:
        self._lists.pop(url, None)


_shelves: WeakKeyDictionary[asyncio.AbstractEventLoop, Shelf] = WeakKeyDictionary()


@dataclass
class Gathering:
    """One look's questions. `answer` is called for every address whose handshake is over."""

    roots: Roots
    clock: Clock
    deadline: float
    """On the loop's clock."""
    in_need: bool
    revocation: bool = True
    lists: dict[str, Fetched] = field(default_factory=dict)
    answers: dict[tuple[str, int], Fetched] = field(default_factory=dict)
    issuers: dict[str, Fetched] = field(default_factory=dict)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    _asked: int = 0

    def found(self) -> Gathered:
        """All that was fetched so far."""
        return Gathered(dict(self.lists), dict(self.answers), dict(self.issuers))

    async def answer(self, seen: AddressSeen) -> None:
        """Everything the chain of this address names is asked."""
        if seen.shown is None or not seen.shown.chain:
            return
        sent = chain.read(seen.shown.chain)
        if not sent:
            return
        fetched = await self._issuers(sent)
        if not self.revocation:
            return
        path, _ = chain.judged(
            sent, self.roots, self.clock.now(), accepted=seen.shown.verified, fetched=fetched
        )
        others = signers(path, sent, self.roots)
        await asyncio.gather(*(self._standing(one, others) for one in asked(path)))

    async def _issuers(self, sent: Sequence[x509.Certificate]) -> list[x509.Certificate]:
        """The certificates that are missing on the way up, as far as they can be had."""
        fetched: list[x509.Certificate] = []
        for _ in range(aia.ROUNDS):
            path = ways(sent, self.roots, fetched)[0]
            if path.anchor is not None or path.top.is_own_issuer:
                break
            before = len(fetched)
            for url in aia.urls(path.top.certificate):
                async with self._lock(url):
                    if url not in self.issuers:
                        self.issuers[url] = await self._fetch(Ask(url, aia.CEILING))
                if found := aia.read(self.issuers[url].octets or b""):
                    fetched += found
                    break
            if len(fetched) == before:
                break
        return fetched

    async def _standing(self, one: Asked, others: Sequence[x509.Certificate]) -> None:
        await asyncio.gather(self._lists(one, others), self._responder(one))

    async def _lists(self, one: Asked, others: Sequence[x509.Certificate]) -> None:
        """Lists until one can be believed."""
        for url in crl.points(one.certificate).urls[: crl.URLS]:
            async with self._lock(url):
                if url not in self.lists:
                    self.lists[url] = await self._list(url, one, others)
            octets = self.lists[url].octets
            if octets is not None and await self._is_sound(octets, one, others):
                return

    async def _list(self, url: str, one: Asked, others: Sequence[x509.Certificate]) -> Fetched:
        shelf = _shelves.setdefault(asyncio.get_running_loop(), Shelf())
        kept = shelf.get(url, self.clock.now(), KEPT_IN_NEED if self.in_need else KEPT)
        if kept is not None and kept.octets is not None and await self._is_sound(kept.octets, one, others):
            return kept
        shelf.drop(url)
        fetched = await self._fetch(Ask(url, LIST_CEILING))
        if fetched.octets is not None and await self._is_sound(fetched.octets, one, others):
            shelf.put(fetched)
        return fetched

    async def _is_sound(self, octets: bytes, one: Asked, others: Sequence[x509.Certificate]) -> bool:
        """Off the loop: a large list takes its time."""
        work = functools.partial(read_list, one, octets, others, self.clock.now())
        listed = await asyncio.get_running_loop().run_in_executor(None, work)
        return listed.word in (crl.Word.GOOD, crl.Word.REVOKED)

    async def _responder(self, one: Asked) -> None:
        for url in ocsp.urls(one.certificate)[:1]:
            key = (url, one.certificate.serial_number)
            question = ocsp.request(one.certificate, one.issuer)
            if question is None:
                return
            async with self._lock(f"{url} {one.certificate.serial_number}"):
                if key not in self.answers:
                    ask = Ask(url, ocsp.CEILING, post=question, content_type=ocsp.CONTENT_TYPE)
                    self.answers[key] = await self._fetch(ask)

    def _lock(self, of: str) -> asyncio.Lock:
        return self._locks.setdefault(of, asyncio.Lock())

    async def _fetch(self, ask: Ask) -> Fetched:
        now = self.clock.now()
        self._asked += 1
        if self._asked > ADDRESSES:
            return Fetched(ask.url, now, None, Trouble.NO_WAY, "too many addresses are named to ask them all")
        left = self.deadline - asyncio.get_running_loop().time()
        if left <= 0:
            return Fetched(ask.url, now, None, Trouble.NO_WAY, "the look's time was over before it was asked")
        return await fetch(ask, at=now, seconds=min(SECONDS, left))
