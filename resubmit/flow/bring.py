"""Files that people bring in: each is journaled like mail from a client, once.

A file is known again by its bytes and its recipients, so that bringing the same folder twice sends nothing
twice. (A crash between the two commits of a file forgets that it was brought: the journal then has it, and it
would be taken again.)
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from resubmit.clock import Clock
from resubmit.errors import Refused, RefusedBySafety
from resubmit.flow.accept import Accept
from resubmit.intake import filed
from resubmit.intake.base import Received
from resubmit.intake.heading import HeadingReader, Supplement
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Cursor
from resubmit.model.envelope import Envelope
from resubmit.model.moment import to_datetime

SOURCE = "import"
_PIECE = 64 * 1024


class Bring:
    """Carries out `import`. `by`: our name, for Message-IDs that lack; `limit`: octets of a message."""

    def __init__(self, journal: Journal, clock: Clock, accept: Accept, *, by: str, limit: int) -> None:
        self._journal = journal
        self._clock = clock
        self._accept = accept
        self._by = by
        self._limit = limit

    async def __call__(self, request: dict[str, Any], progress: Callable[[dict[str, Any]], None]) -> Any:
        """An object a file: file, id, sender, recipients, refused ({address: why}), known, error."""
        options = request.get("options") or {}
        sender = options.get("sender")
        given = filed.Given(
            sender=None if sender is None else str(sender),
            recipients=tuple(str(one) for one in options.get("to") or ()),
            headers=bool(options.get("headers")),
        )
        if full := self._accept.room():
            raise RefusedBySafety(
                f"nothing is taken now: {full.text}", hint="make room on the journal's disk"
            )
        answers = []
        for name in options.get("files") or ():
            answers.append(await self._one(Path(str(name)), given, options))
            progress({"files": len(answers)})
        return answers

    async def _one(self, path: Path, given: filed.Given, options: dict[str, Any]) -> dict[str, Any]:
        told: dict[str, Any] = {
            "file": str(path), "id": None, "sender": None, "recipients": [], "refused": {}, "known": False,
            "error": None,
        }  # fmt: skip
        try:
            loop = asyncio.get_running_loop()
            size, head = await loop.run_in_executor(None, _begin, path)
            if size > self._limit + filed.HEAD:
                raise Refused(552, "5.3.4", f"message larger than {self._limit} octets")
            found = filed.read(head, given)
            envelope = self._routed(found.envelope, told)
            digest = await loop.run_in_executor(None, _digest, path, envelope)
            told["known"] = await self._journal.cursor(SOURCE, digest) is not None
            if not options.get("dry_run") and (options.get("again") or not told["known"]):
                told["id"] = await self._take(path, found.skip, envelope)
                await self._journal.observe([], Cursor(SOURCE, digest, told["id"]))
        except Refused as error:
            told["error"] = error.text
        except OSError as error:
            told["error"] = error.strerror or str(error)
        return told

    def _routed(self, envelope: Envelope, told: dict[str, Any]) -> Envelope:
        """The envelope with those recipients that have a way. Refused when there is none left."""
        told["sender"] = envelope.sender
        refused = {one.address: no for one in envelope.recipients if (no := self._accept.vet(one.address))}
        told["refused"] = {address: no.text for address, no in refused.items()}
        kept = tuple(one for one in envelope.recipients if one.address not in refused)
        if not kept:
            raise next(iter(refused.values()))
        told["recipients"] = [one.address for one in kept]
        return Envelope(envelope.sender, envelope.parameters, kept)

    async def _take(self, path: Path, skip: int, envelope: Envelope) -> str:
        loop = asyncio.get_running_loop()
        heading = HeadingReader(self._supplement)
        spool = self._journal.new_spool()
        eight = False
        pieces = filed.lines(_pieces(path, skip), self._limit)
        try:
            while (piece := await loop.run_in_executor(None, next, pieces, None)) is not None:
                eight = eight or not piece.isascii()
                await spool.write(heading.feed(piece))
            await spool.write(heading.finish())
            body = await spool.finish()
            parameters = envelope.parameters
            if eight and not any(word.startswith("BODY=") for word in parameters):
                parameters = (*parameters, "BODY=8BITMIME")
            return await self._accept(
                Received(
                    envelope=Envelope(envelope.sender, parameters, envelope.recipients),
                    body=body,
                    heading=heading.heading,
                    received_at=self._clock.now(),
                    peer="",
                    helo=SOURCE,
                    protocol="",
                    intake=SOURCE,
                    hops=heading.hops,
                    traces=heading.traces,
                )
            )
        except BaseException:
            await spool.discard()
            raise

    def _supplement(self) -> Supplement:
        now = self._clock.now()
        unique = f"{now:x}.{self._clock.chance.getrandbits(64):016x}"
        return Supplement(f"<{unique}@{self._by}>", format_datetime(to_datetime(now)))


def _begin(path: Path) -> tuple[int, bytes]:
    with path.open("rb") as file:
        return path.stat().st_size, file.read(filed.HEAD)


def _digest(path: Path, envelope: Envelope) -> str:
    """What a file is known by: its bytes, and who is to get them."""
    told = hashlib.sha256("\0".join(sorted(one.address for one in envelope.recipients)).encode())
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            told.update(piece)
    return told.hexdigest()


def _pieces(path: Path, skip: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(skip)
        while piece := file.read(_PIECE):
            yield piece
