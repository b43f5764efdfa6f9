"""A destination that fails and is mended, on a real journal, without a network: for tests of recovery.

`Outage` plays everybody but recovery: it journals mail, hands on what is due with a 250, looks at the
endpoint, and tells what a trace would tell. Its clock stands still until `pass_`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resubmit.flow.recover import Recover
from resubmit.handoff.routes import Table
from resubmit.handoff.settings import Destination, Route
from resubmit.journal.door import Journal
from resubmit.journal.verbs import (
    Begun,
    Coverage,
    Expect,
    GateRow,
    JobAsk,
    JobRow,
    LookRow,
    Offer,
    Standing,
)
from resubmit.model.evidence import Cause, Holder, Mend, Scope
from resubmit.model.moment import DAY, MINUTE, SECOND, Ms
from resubmit.model.recipient import Event, RecipientKey, State
from resubmit.recovery.clockrule import ClockRule
from resubmit.recovery.settings import Recovery
from tests.helpers.journals import NOW, HandClock, arrival, ended, outcome, recipient, seen

GATE = "destination:hybrid"
LATE = 15 * SECOND
"""How late the trace tells."""

_SPEEDY: dict[str, Any] = {"settle": "0s", "trace_lag": "15s", "rate": "unlimited"}


class Outage:
    """See the module. `recovery`: keys of [recovery] as a config has them, on top of quick ones."""

    def __init__(self, journal: Journal, clock: HandClock, *, final: bool = False, **recovery: Any) -> None:
        self.journal = journal
        self.clock = clock
        exchange = recovery.pop("exchange", True)
        self.settings = Recovery.model_validate(_SPEEDY | recovery)
        route = Route(name="eop", host="eop.invalid", final=final)
        hybrid = Destination(
            name="hybrid",
            domains=["contoso.com"],
            handoff="eop",
            exchange=exchange,
            probe="mail.contoso.com:25",
        )
        self.table = Table([route], [hybrid])
        self.sent: list[tuple[RecipientKey, int, int | None]] = []
        self._told = 0
        self.start()

    def start(self) -> None:
        """The service starts (again)."""
        self.recover = Recover(self.journal, self.clock, self.settings, self.table, ClockRule(self.clock))

    @classmethod
    async def at(cls, folder: Path, clock: HandClock, **recovery: Any) -> Outage:
        return cls(await Journal.open(folder / "journal", clock=clock, inline=True), clock, **recovery)

    # ── what others do ──────────────────────────────────────────────────────────────────────────────

    async def mail(self, count: int = 1, **values: Any) -> list[RecipientKey]:
        """So many messages are journaled and handed on, each answered 250."""
        keys = []
        for _ in range(count):
            self._told += 1
            one = recipient(f"r{self._told}@contoso.com", due_at=self.clock.now())
            number = await self.journal.record(
                arrival(one, received_at=self.clock.now(), message_id=f"<{self._told}@example.org>", **values)
            )
            keys.append(RecipientKey(number, 0))
        await self.deliver()
        return keys

    async def deliver(self, event: Event = Event.REPLY_ACCEPTED, limit: int = 1000, **values: Any) -> int:
        """What is due goes out, and each gets this reply; how many recipients."""
        count = 0
        now = self.clock.now()
        for due in (await self.journal.due("eop", now, limit))[:limit]:
            first = due.recipients[0]
            begun = await self.journal.begin(
                Offer(
                    message=due.message,
                    route="eop",
                    kind="handoff" if first.job is None else "resubmission",
                    begun_at=now,
                    recipients=tuple(Expect(r.n, r.state, r.attempt) for r in due.recipients),
                    job=first.job,
                )
            )
            assert isinstance(begun, Begun), begun
            outcomes = [self._outcome(event, n, now, values) for n in begun.recipients]
            dot_at = None if event is Event.REPLY_DEFERRED else now
            await self.journal.end(ended(begun, *outcomes, at=now, dot_at=dot_at))
            self.sent += [(RecipientKey(due.message, r.n), begun.no, r.job) for r in due.recipients]
            count += len(outcomes)
        return count

    @staticmethod
    def _outcome(event: Event, n: int, now: Ms, values: dict[str, Any]) -> Any:
        if event is Event.REPLY_ACCEPTED:
            return outcome(event, n, deadline=now + DAY, holder=Holder.FAR)
        return outcome(event, n, **values)

    async def tell(self, event: Event, *keys: RecipientKey, no: int | None = None, **values: Any) -> None:
        """A trace tells this of these recipients now, of their current attempt unless `no` is given."""
        now = self.clock.now()
        for key in keys:
            (stands,) = await self.journal.standing([key])
            self._told += 1
            status = {"seen_delivered": "delivered", "seen_deferred": "deferred", "seen_pending": "pending"}
            filled: dict[str, Any] = {
                "status": status.get(event, "expired"),
                "observed_at": now,
                "read_at": now,
                "recipient": stands.address,
                "n": key.n,
                "no": stands.attempt if no is None else no,
                **values,
            }
            await self.journal.observe([seen(key.message, event, f"row {self._told}", **filled)])

    async def defer(self, *keys: RecipientKey, no: int | None = None, **values: Any) -> None:
        """A trace tells that the endpoint's TLS makes them wait."""
        about = {"cause": Cause.TLS, "scope": Scope.DESTINATION, "mend": Mend.GATE, "holder": Holder.FAR}
        await self.tell(Event.SEEN_DEFERRED, *keys, no=no, **{**about, **values})

    async def delivered(self, *keys: RecipientKey, **values: Any) -> None:
        await self.tell(Event.SEEN_DELIVERED, *keys, **values)

    async def look(self, health: str = "healthy", fingerprint: str = "new", *, times: int = 1) -> None:
        """So many looks, a probe interval apart, recovery told after each."""
        for _ in range(times):
            codes = ("certificate_expired",) if health == "faulty" else ()
            await self.journal.looked(LookRow(GATE, self.clock.now(), health, codes, fingerprint, "{}"))
            await self.tick()
            self.clock.pass_(20 * SECOND)

    async def covered(self, since: Ms = NOW - DAY) -> None:
        """A source answers for everything up to now."""
        now = self.clock.now()
        await self.journal.covered(Coverage("trace_csv", since, now, now))

    async def ask(self, *keys: RecipientKey, options: str = "{}") -> int:
        """A person asks for a replay."""
        return await self.journal.ask(
            JobAsk(self.clock.now(), "ann", "now", "{}", options, "hybrid", None, GATE, keys)
        )

    async def tick(self) -> Ms:
        return await self.recover.tick(self.clock.now())

    async def go_on(self, span: Ms = MINUTE, step: Ms = SECOND, *, proving: bool = True) -> None:
        """Time passes: recovery ticks, what it makes due is handed on, and (`proving`) a trace tells of each
        delivery LATE afterwards."""
        ends = self.clock.now() + span
        while self.clock.now() < ends:
            before = len(self.sent)
            await self.tick()
            await self.deliver()
            fresh = self.sent[before:]
            self.clock.pass_(step)
            if fresh and proving:
                self.clock.pass_(LATE)
                await self.delivered(*(key for key, _, job in fresh if job is not None))

    # ── what can be seen ────────────────────────────────────────────────────────────────────────────

    async def gate(self) -> GateRow:
        found = await self.journal.gate(GATE)
        assert found is not None, "the gate never turned"
        return found

    async def job(self, number: int = 1) -> JobRow:
        found = await self.journal.job(number)
        assert found is not None
        return found

    async def stands(self, key: RecipientKey) -> Standing:
        (found,) = await self.journal.standing([key])
        return found

    async def states(self, *keys: RecipientKey) -> list[State]:
        return [found.state for found in await self.journal.standing(list(keys))]

    def resent(self) -> list[RecipientKey]:
        """Whom a job resubmitted, in order."""
        return [key for key, _, job in self.sent if job is not None]
