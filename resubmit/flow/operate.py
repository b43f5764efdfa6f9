"""What an operator decides for single recipients: held, released, cancelled, redirected; and pruning on call.

The table says what each may become; an open attempt is waited for, since its end decides where the mail is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from resubmit.clock import Clock
from resubmit.errors import RefusedBySafety, UsageError
from resubmit.flow.tidy import Tidy
from resubmit.flow.wake import Wake
from resubmit.handoff.routes import Table
from resubmit.journal.door import Journal
from resubmit.journal.verbs import ArrivingRecipient, Move, Moved, Stale
from resubmit.model.envelope import address_key
from resubmit.model.filter import Filter
from resubmit.model.moment import SECOND, Ms
from resubmit.model.recipient import RecipientKey
from resubmit.recovery import deadline, decided
from resubmit.recovery.facts import Standing

PATIENCE: Ms = 30 * SECOND
"""How long the end of open attempts is waited for."""
_POLL: Ms = 100
_SLICE = 500


def orders(
    journal: Journal, clock: Clock, table: Table, tidy: Tidy, *, give_up_after: Ms
) -> dict[str, Callable[[dict[str, Any], Any], Awaitable[Any]]]:
    """The requests that are carried out here, by name, as obey.py takes them."""
    operate = Operate(journal, clock, table, give_up_after=give_up_after)

    async def one(request: dict[str, Any], progress: object) -> dict[str, Any]:
        return await operate(request)

    async def prune(request: dict[str, Any], progress: object) -> dict[str, Any]:
        if tidy.waits_for_clock():
            raise RefusedBySafety(
                "the clocks do not agree, so nothing is pruned", hint="see the log; it goes on once they do"
            )
        return {"messages": await tidy.prune()}

    return {**dict.fromkeys(decided.EVENTS, one), "prune": prune}


class Operate:
    """Carries out an operator's decisions. `give_up_after`: how long we try what we hold ourselves."""

    def __init__(self, journal: Journal, clock: Clock, table: Table, *, give_up_after: Ms) -> None:
        self._journal = journal
        self._clock = clock
        self._table = table
        self._give_up_after = give_up_after

    async def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        """The result (recovery/decided.py, `outcome`). UsageError for no filter, or an address that has no
        destination."""
        do = str(request["do"])
        flt = Filter.from_plain(request.get("filter") or {})
        if flt.is_empty():
            raise UsageError("name messages by id or by a filter")
        why = str(request.get("reason", "")) or f"by {request.get('by', 'an operator')}"
        to = (
            self._arriving(str((request.get("options") or {}).get("to", "")))
            if do == decided.REDIRECT
            else None
        )
        found = await self._journal.chosen(flt, self._clock.now())
        if to is not None:
            found = await self._others(found, to.address)
        answers: list[Moved] = []
        kept_back: list[str] = []
        end = self._clock.monotonic() + PATIENCE
        wake = Wake()
        while found:
            standing = await self._journal.standing(found)
            if to is not None:
                kept_back += [decided.NO_BODY for s in standing if not s.body_kept]
                standing = [s for s in standing if s.body_kept]
            free = [s for s in standing if not decided.is_busy(s)]
            done = await self._move(do, free, why, to)
            answers += [answer for answer in done if isinstance(answer, Moved)]
            # An attempt that is open, or that began while we looked, has to end first.
            found = [s.key for s in standing if decided.is_busy(s)]
            found += [s.key for s, answer in zip(free, done, strict=True) if isinstance(answer, Stale)]
            if self._clock.monotonic() >= end:
                break
            if found:
                await wake.wait(_POLL)
        return decided.outcome(do, answers, [*kept_back, *(decided.BUSY for _ in found)])

    async def _move(
        self, do: str, standing: Sequence[Standing], why: str, to: ArrivingRecipient | None
    ) -> list[Moved | Stale]:
        now = self._clock.now()
        moves = [
            Move(s.key.message, s.key.n, decided.EVENTS[do], now, why, attempt=s.attempt) for s in standing
        ]
        answers: list[Moved | Stale] = []
        for first in range(0, len(moves), _SLICE):
            part = moves[first : first + _SLICE]
            if to is None:
                answers += await self._journal.move(part)
            else:
                answers += await self._journal.redirect(part, to)
        return answers

    def _arriving(self, address: str) -> ArrivingRecipient:
        """The recipient that mail is redirected to."""
        where = self._table.destination_of(address)
        refused = self._table.vet(address)
        if where is None or refused is not None:
            said = refused.text if refused else "no destination of the config has it"
            raise UsageError(f"{address!r}: {said}", hint="redirect to an address the config has a way to")
        now = self._clock.now()
        return ArrivingRecipient(
            address=address,
            parameters=(),
            destination=where.name,
            route=where.handoff,
            due_at=now,
            deadline=deadline.ours(now, self._give_up_after),
        )

    async def _others(self, keys: list[RecipientKey], address: str) -> list[RecipientKey]:
        """Those that are not the address itself."""
        others: list[RecipientKey] = []
        for message in sorted({key.message for key in keys}):
            had = {n: address_key(one) for n, one in await self._journal.recipients_of(message)}
            others += [k for k in keys if k.message == message and had[k.n] != address_key(address)]
        return others
