"""What is done now and then: senders are told what they are owed, and what may go is pruned.

A notice is owed by a recipient's row until the message that tells of it is journaled, in one transaction:
a crash in between owes it still.
"""

from __future__ import annotations

import asyncio

import structlog

from resubmit import logbook
from resubmit.clock import Clock
from resubmit.flow.wake import Wake
from resubmit.handoff import notice
from resubmit.handoff.routes import Table
from resubmit.journal.door import Journal
from resubmit.journal.settings import Retention
from resubmit.journal.verbs import Arrival, ArrivingRecipient, DueMessage, OwedNotice
from resubmit.model.ids import id_text
from resubmit.model.message import Body
from resubmit.model.moment import MINUTE, SECOND, Ms
from resubmit.recovery import deadline
from resubmit.recovery.clockrule import ClockRule

log = structlog.get_logger()

NOTICES_EVERY: Ms = 5 * SECOND
PRUNE_EVERY: Ms = 10 * MINUTE


class Tidy:
    """Notices and retention. `by`: our name in notices; `clock_rule`: while it holds, nothing is pruned."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        table: Table,
        retention: Retention,
        clock_rule: ClockRule,
        *,
        by: str,
        give_up_after: Ms,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._table = table
        self._retention = retention
        self._clock_rule = clock_rule
        self._by = by
        self._give_up_after = give_up_after
        self.wake = Wake()

    async def run(self) -> None:
        """Until cancelled."""
        pruned_at: Ms | None = None
        while True:
            await self.tell()
            now = self._clock.monotonic()
            if pruned_at is None or now - pruned_at >= PRUNE_EVERY:
                pruned_at = now
                await self.prune()
            await self.wake.wait(NOTICES_EVERY)

    def waits_for_clock(self) -> bool:
        """Whether nothing is pruned now, since the clocks do not agree (design rule 10)."""
        return self._clock_rule.holds()

    async def prune(self) -> int:
        """Remove what retention lets go, in slices; how many messages went."""
        if self.waits_for_clock():
            return 0
        gone = 0
        now = self._clock.now()
        for rule in type(self._retention).model_fields:
            before = now - getattr(self._retention, rule)
            while count := await self._journal.prune(rule, before):
                gone += count
                await asyncio.sleep(0)
        await self._journal.prune_reports(now - self._retention.settled)
        if gone:
            log.info(logbook.JOURNAL_PRUNED, messages=gone)
        return gone

    async def tell(self) -> None:
        """Journal a DSN for each message that owes one."""
        while owed := await self._journal.notices_owed(limit=50):
            for message in sorted({entry.key.message for entry in owed}):
                for kind in sorted({e.kind for e in owed if e.key.message == message}):
                    entries = [e for e in owed if e.key.message == message and e.kind == kind]
                    if told := await self._wanted(kind, entries):
                        await self._tell(message, kind, told)

    async def _wanted(self, kind: str, entries: list[OwedNotice]) -> list[OwedNotice]:
        """Those of the entries whose sender wants to hear of it; the others are excused."""
        silent = [e.key for e in entries if not notice.is_wanted(kind, e.parameters)]
        if silent:
            await self._journal.excuse(silent, "the sender asked for no such notice (NOTIFY)")
        return [e for e in entries if e.key not in silent]

    async def _tell(self, message: int, kind: str, entries: list[OwedNotice]) -> None:
        about = await self._journal.message(message)
        to = self._table.destination_of(about.sender) if about and about.sender else None
        if about is None or to is None or notice.is_silent(about.sender, about.intake):
            await self._journal.excuse([entry.key for entry in entries])
            log.warning(logbook.NOTICE_UNSENT, message_id=id_text(message), kind=kind)
            return
        at = self._clock.now()
        report = notice.compose(
            kind,
            by=self._by,
            at=at,
            message=id_text(message),
            about=notice.About(about.sender, about.parameters, about.received_at, about.message_id),
            reports=tuple(
                notice.Report(e.address, e.parameters, e.code, e.enhanced, e.reply, e.remote) for e in entries
            ),
            header=await self._returned(message, about),
        )
        await self._journal.record(
            Arrival(
                received_at=at,
                sender="",
                parameters=report.parameters,
                message_id=report.message_id,
                subject=report.subject,
                intake=notice.INTAKE,
                peer="",
                helo=self._by,
                protocol="",
                body=Body(len(report.octets), report.digest, report.octets),
                recipients=(
                    ArrivingRecipient(
                        address=about.sender,
                        parameters=notice.RCPT_PARAMETERS,
                        destination=to.name,
                        route=to.handoff,
                        due_at=at,
                        deadline=deadline.ours(at, self._give_up_after),
                    ),
                ),
                tells=tuple(entry.key for entry in entries),
            )
        )
        log.info(logbook.NOTICE_JOURNALED, message_id=id_text(message), kind=kind, recipients=len(entries))

    async def _returned(self, message: int, about: DueMessage) -> bytes:
        """What goes back of the message: all of it where the sender asked for that, else its header."""
        most = (
            about.body.size if notice.wants_full(about.parameters, about.body.size) else notice.HEADER_UP_TO
        )
        octets = b""
        async for chunk in self._journal.read_body(await self._journal.body(message)):
            octets += chunk
            if len(octets) >= most:
                break
        return octets[:most]
