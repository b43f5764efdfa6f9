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
from resubmit.flow.letters import letter_of
from resubmit.flow.outcome import ended_of
from resubmit.flow.pump import Pump
from resubmit.flow.room import with_room
from resubmit.flow.wake import Wake
from resubmit.handoff.events import tally, weigh
from resubmit.handoff.pool import Pool
from resubmit.handoff.routes import Table
from resubmit.journal.door import Journal
from resubmit.journal.verbs import NOBODY_BARRED, Barred, DueMessage, Expect, GateRow, Offer, Stale
from resubmit.model.attempt import Handed, kind_of
from resubmit.model.ids import id_text
from resubmit.model.moment import Ms
from resubmit.recovery import allowance
from resubmit.recovery.jobs import UNFINISHED

log = structlog.get_logger()

_BATCH = 100
_STALE_RESTS: Ms = 1000
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
        gates = {gate.name: gate for gate in await self._journal.gates()}
        gate = gates.get(f"route:{pump.route.name}")
        state = gate.state if gate else None
        room = pump.room(allowance.together(state))
        if allowance.is_trial(state) and gate and pump.tried == gate.version:
            room, pump.tried = 0, None  # one trial a judgement; tried again when nobody judges
        barred = await self._barred(gates)
        if barred != pump.barred:
            pump.waiting.clear()  # a gate closed or opened since they were found; the journal has them still
            pump.barred = barred
        while room > 0 and not self._stopping and self._journal.floors().attempts:
            if not pump.waiting:
                span = await self._look(pump, barred)
                if not pump.waiting:
                    return span
            job = pump.waiting[0].recipients[0].job is not None
            delay = pump.limiter.take(self._clock.monotonic(), job=job)
            if delay and job:
                return delay
            due = pump.waiting.popleft()
            pump.start(due, self._offer(pump, due, delay, gates))
            pump.tried = gate.version if gate else None
            room -= 1
        return _LOOK_AGAIN

    async def _barred(self, gates: dict[str, GateRow]) -> Barred:
        """Who may not go though it is due, as the gates stand."""
        closed = allowance.closed({name: gate.state for name, gate in gates.items()})
        if not closed:
            return NOBODY_BARRED
        return Barred(closed, allowance.forced(await self._journal.jobs(UNFINISHED)))

    async def _look(self, pump: Pump, barred: Barred) -> Ms:
        """What is due waits in the pump; when nothing is, how long until something will be."""
        now, route = self._clock.now(), pump.route.name
        found = await self._journal.due(route, now, _BATCH, barred)
        rests_until = pump.fill(found, self._clock.monotonic())
        if pump.waiting:
            return 0
        next_due = await self._journal.next_due(route, barred)
        spans = [_LOOK_AGAIN]
        if next_due is not None and next_due > now:
            spans.append(next_due - now)
        if rests_until is not None:
            spans.append(max(rests_until - self._clock.monotonic(), 1))
        return min(spans)

    async def _offer(self, pump: Pump, due: DueMessage, delay: Ms, gates: dict[str, GateRow]) -> None:
        if delay:
            await asyncio.sleep(delay / 1000)
        route = pump.route
        first = due.recipients[0]
        names = [f"route:{route.name}", f"destination:{first.destination}"][: 1 if first.job is None else 2]
        begun = await with_room(
            lambda: self._journal.begin(
                Offer(
                    message=due.message,
                    route=route.name,
                    kind=kind_of(first.attempt, first.job),
                    begun_at=self._clock.now(),
                    recipients=tuple(Expect(r.n, r.state, r.attempt) for r in due.recipients),
                    job=first.job,
                    gates=tuple((name, gates[name].version if name in gates else 0) for name in names),
                )
            ),
            "deliver",
        )
        if isinstance(begun, Stale):
            pump.limiter.give_back()
            pump.rest(due, self._clock.monotonic() + _STALE_RESTS)
            return
        letter = letter_of(
            due,
            begun.no,
            begun.recipients,
            key=self._key,
            by=self._by,
            open_body=partial(self._journal.read_body, due.body, due.message),
        )
        handed = await self._pool.hand(route, letter)
        pump.answered(due)
        gate = gates.get(names[0])
        is_open = allowance.together(gate.state if gate else None) is None
        routine = is_open and first.job is None and first.attempt == 0
        await self._end(pump, due, begun.offer, begun.no, handed, routine=routine)

    async def _end(
        self, pump: Pump, due: DueMessage, offer: int, no: int, handed: Handed, *, routine: bool
    ) -> None:
        """`routine`: unless something went wrong, there is nothing in it that recovery could learn from."""
        weighed = [weigh(offered, handed, final=pump.route.final) for offered in handed.results]
        if any(each.throttled for each in weighed):
            pump.limiter.throttled(self._clock.monotonic())
        ended = ended_of(
            offer,
            weighed,
            due,
            handed,
            self._table,
            no=no,
            at=self._clock.now(),
            give_up_after=self._give_up_after,
            chance=self._clock.chance,
        )
        news = not routine or any(each.meaning for each in weighed)
        moved = await with_room(lambda: self._journal.end(ended, news=news), "deliver")
        log.info(
            logbook.ATTEMPT_ENDED,
            message_id=id_text(due.message),
            attempt=no,
            route=pump.route.name,
            remote=handed.remote,
            tls=handed.tls,
            results=tally(handed.results),
            reply=ended.outcomes[0].reply if ended.outcomes else "",
            moved=len(moved),
        )
        if news:
            self._told()
