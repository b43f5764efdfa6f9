"""From an intake to the journal: what a client is answered 250 for is on disk.

Promises: `Accept.__call__` returns only after the journal committed the message with all its recipients.
A crash before that promises nothing (the client sends again); one after it, before the 250 is out, makes
the client send a second copy: a duplicate, never a loss (docs/duplicates.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from resubmit import logbook
from resubmit.clock import Clock
from resubmit.errors import Refused
from resubmit.handoff import prepare
from resubmit.handoff.routes import Table
from resubmit.intake.base import Received
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Arrival, ArrivingRecipient
from resubmit.model.envelope import address_key, once
from resubmit.model.ids import id_text
from resubmit.model.moment import Ms
from resubmit.recovery import deadline

log = structlog.get_logger()


class Accept:
    """Takes complete messages from any intake. `give_up_after`: how long we try what we hold (ms); `reports`:
    addresses whose mail is read and not handed on; `on_report`: called when there is such a mail."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        table: Table,
        *,
        give_up_after: Ms,
        key: bytes,
        reports: Iterable[str] = (),
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._table = table
        self._give_up_after = give_up_after
        self._key = key
        self._reports = frozenset(address_key(address) for address in reports)
        self.on_report: Callable[[], None] = lambda: None

    def vet(self, address: str) -> Refused | None:
        """What a client is told at RCPT: None, or the refusal."""
        return None if self._is_read(address) else self._table.vet(address)

    def room(self) -> Refused | None:
        """Whether there is room for another message: None, or 452 4.3.1."""
        if self._journal.floors().intake:
            return None
        return Refused(452, "4.3.1", "insufficient disk space, try again later")

    async def __call__(self, received: Received) -> str:
        """Journal a message; the shown id once it is durable. Raises Refused for a loop, JournalError."""
        to_read = [one for one in received.envelope.recipients if self._is_read(one.address)]
        if to_read:
            kept = await self._keep(received, only=len(to_read) == len(received.envelope.recipients))
            if len(to_read) == len(received.envelope.recipients):
                return kept
        if received.traces:
            await self._refuse_loop(received)
        until = deadline.ours(received.received_at, self._give_up_after)
        message = await self._journal.record(
            Arrival(
                received_at=received.received_at,
                sender=received.envelope.sender,
                parameters=received.envelope.parameters,
                message_id=received.heading.message_id,
                subject=received.heading.subject,
                intake=received.intake,
                peer=received.peer,
                helo=received.helo,
                protocol=received.protocol,
                body=received.body,
                recipients=tuple(
                    ArrivingRecipient(
                        address=recipient.address,
                        parameters=recipient.parameters,
                        destination=where.name,
                        route=where.handoff,
                        due_at=received.received_at,
                        deadline=until,
                    )
                    for recipient in once(received.envelope.recipients)
                    if not self._is_read(recipient.address)
                    and (where := self._table.destination_of(recipient.address))
                ),
            )
        )
        shown = id_text(message)
        log.info(
            logbook.MAIL_JOURNALED,
            message_id=shown,
            peer=received.peer,
            size=received.body.size,
            recipients=len(received.envelope.recipients),
        )
        return shown

    def _is_read(self, address: str) -> bool:
        return bool(self._reports) and address_key(address) in self._reports

    async def _keep(self, received: Received, *, only: bool) -> str:
        """A mail that is read and not handed on is on the disk; returns its name."""
        name = await self._journal.keep_report(received.body, received.received_at, only=only)
        log.info(logbook.MAIL_KEPT_TO_READ, name=name, peer=received.peer, size=received.body.size)
        self.on_report()
        return name

    async def _refuse_loop(self, received: Received) -> None:
        """A message that carries our own trace field, and comes for a recipient it already had, loops."""
        for message, no, mac in received.traces:
            if not prepare.verify_trace(self._key, message, no, mac):
                continue
            had = {address.lower() for _, address in await self._journal.recipients_of(message)}
            for recipient in received.envelope.recipients:
                if recipient.address.lower() in had:
                    raise Refused(554, "5.4.6", f"mail loop: {id_text(message)} was journaled here before")
