"""What is due goes out: the intent is written, then the socket touched, then the result written.

One pump a route, so that a route that hangs holds up no other. Each pump keeps as many offers under way as
its gate, its limiter and its connections allow. What a result means is said by `meaning`, which event it
is by `handoff`; the journal steps the table.
"""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from resubmit import logbook
from resubmit.clock import Clock
from resubmit.flow.outcome import outcome_of
from resubmit.flow.pump import Pump
from resubmit.flow.wake import Wake
from resubmit.handoff import prepare
from resubmit.handoff.events import tally, weigh
from resubmit.handoff.letter import Letter
from resubmit.handoff.pool import Pool
from resubmit.handoff.routes import Table
from resubmit.journal.door import Journal
from resubmit.journal.verbs import DueMessage, Ended, Expect, Offer, Outcome, Stale
from resubmit.model.attempt import Handed, Offered, kind_of
from resubmit.model.ids import attempt_key, id_text
from resubmit.model.moment import Ms
from resubmit.recovery import allowance

log = structlog.get_logger()

_BATCH = 200
_LOOK_AGAIN: Ms = 30_000
"""A pump looks at the journal so often even when nobody wakes it."""


class Deliver:
    """Hands on what is due. `by`: our name in trace fields; `key`: the journal's own, for their mac.

    give_up_after: ms we try what we hold. `told`: called after results that recovery may want to weigh.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        table: Table,
        pool: Pool,
        *,
        by: str,
        key: bytes,
        give_up_after: Ms,
        told: Wake,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._table = table
        self._pool = pool
        self._by = by
        self._key = key
        self._give_up_after = give_up_after
        self._told = told
        self._stopping = False
        self._pumps = {name: Pump(route, clock.monotonic()) for name, route in table.routes.items()}

    def wake(self) -> None:
        """Something may be due, or a gate turned."""
        for pump in self._pumps.values():
            pump.wake()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for pump in self._pumps.values():
                group.create_task(self._run(pump))

    async def stop(self, grace: Ms) -> None:
        """Nothing new goes out; what is under way has `grace` ms to end, and what then is left is an orphan
        that the next start puts in doubt."""
        self._stopping = True
        under_way = [task for pump in self._pumps.values() for task in pump.under_way.values()]
        if under_way:
            await asyncio.wait(under_way, timeout=grace / 1000)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._pool.close()

    async def _run(self, pump: Pump) -> None:
        while True:
            span = await self._pump(pump)
            await pump.wake.wait(span)
            for task in [task for task in pump.under_way.values() if task.done()]:
                task.result()  # an error nobody expected ends the service

    async def _pump(self, pump: Pump) -> Ms:
        """Start what may go now; how long to wait before looking again, in ms."""
        gate = await self._journal.gate(f"route:{pump.route.name}")
        state = gate.state if gate else None
        room = pump.room(allowance.together(state))
        if allowance.is_trial(state) and gate and pump.tried == gate.version:
            room, pump.tried = 0, None  # one trial a judgement; tried again when nobody judges
        while room > 0 and not self._stopping and self._journal.floors().attempts:
            now = self._clock.now()
            if not pump.waiting:
                found = await self._journal.due(pump.route.name, now, _BATCH)
                pump.waiting.extend(due for due in found if pump.key(due) not in pump.under_way)
            if not pump.waiting:
                next_due = await self._journal.next_due(pump.route.name)
                return (
                    min(max(next_due - now, 1), _LOOK_AGAIN) if next_due and next_due > now else _LOOK_AGAIN
                )
            job = pump.waiting[0].recipients[0].job is not None
            delay = pump.limiter.take(self._clock.monotonic(), job=job)
            if delay and job:
                return delay
            due = pump.waiting.popleft()
            pump.start(due, self._offer(pump, due, delay, gate.version if gate else 0))
            pump.tried = gate.version if gate else None
            room -= 1
        return _LOOK_AGAIN

    async def _offer(self, pump: Pump, due: DueMessage, delay: Ms, version: int) -> None:
        if delay:
            await asyncio.sleep(delay / 1000)
        route = pump.route
        first = due.recipients[0]
        gates = [(f"route:{route.name}", version)]
        if first.job is not None:
            destination = await self._journal.gate(f"destination:{first.destination}")
            asked = await self._journal.job(first.job)
            if asked and not allowance.passes(destination.state if destination else None, asked.options):
                pump.limiter.give_back()
                return
            gates.append((f"destination:{first.destination}", destination.version if destination else 0))
        begun = await self._journal.begin(
            Offer(
                message=due.message,
                route=route.name,
                kind=kind_of(first.attempt, first.job),
                begun_at=self._clock.now(),
                recipients=tuple(Expect(r.n, r.state, r.attempt) for r in due.recipients),
                job=first.job,
                gates=tuple(gates),
            )
        )
        if isinstance(begun, Stale):
            pump.limiter.give_back()
            return
        handed = await self._pool.hand(route, self._letter(due, begun.no, begun.recipients))
        await self._end(pump, due, begun.offer, begun.no, handed)

    def _letter(self, due: DueMessage, no: int, passed: tuple[int, ...]) -> Letter:
        return Letter(
            sender=due.sender,
            parameters=due.parameters,
            recipients=tuple((r.n, r.address, r.parameters) for r in due.recipients if r.n in passed),
            head=prepare.trace_field(
                key=self._key,
                message=due.message,
                no=no,
                by=self._by,
                helo=due.helo,
                peer=due.peer,
                protocol=due.protocol,
                received_at=due.received_at,
            ),
            size=due.body.size,
            open_body=partial(self._journal.read_body, due.body, due.message),
            key=attempt_key(due.message, no),
            no=no,
        )

    async def _end(self, pump: Pump, due: DueMessage, offer: int, no: int, handed: Handed) -> None:
        at = self._clock.now()
        outcomes = tuple(self._outcome(pump, due, no, handed, offered, at) for offered in handed.results)
        moved = await self._journal.end(
            Ended(
                offer=offer,
                ended_at=at,
                dot_at=handed.dot_at,
                next_key=handed.next_key,
                remote=handed.remote,
                tls=handed.tls,
                outcomes=outcomes,
            )
        )
        log.info(
            logbook.ATTEMPT_ENDED,
            message_id=id_text(due.message),
            attempt=no,
            route=pump.route.name,
            remote=handed.remote,
            tls=handed.tls,
            results=tally(handed.results),
            reply=outcomes[0].reply if outcomes else "",
            moved=len(moved),
        )
        self._told()

    def _outcome(
        self, pump: Pump, due: DueMessage, no: int, handed: Handed, offered: Offered, at: Ms
    ) -> Outcome:
        weighed = weigh(offered, handed, final=pump.route.final)
        if weighed.throttled:
            pump.limiter.throttled(self._clock.monotonic())
        where = next(r.destination for r in due.recipients if r.n == offered.n)
        return outcome_of(
            weighed,
            due,
            offered,
            handed,
            self._table.destinations.get(where),
            no=no,
            at=at,
            give_up_after=self._give_up_after,
            chance=self._clock.chance,
        )
