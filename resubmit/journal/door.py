"""The journal's door: every verb of mail, as `flow` speaks them.

Promises: what a writing verb returned is on the disk, and all that waits shares the next commit (writer.py).
Limits: values only (verbs.py); no cursor, callback or transaction crosses, so that the writer can become a
process and another store can stand behind the same verbs. Opening and closing: opened.py; reading: reads.py.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from resubmit.errors import JournalError
from resubmit.journal import (
    again,
    attempts,
    backup,
    gates,
    incidents,
    mail,
    moves,
    notices,
    observing,
    reports,
    retention,
)
from resubmit.journal.codec import clean
from resubmit.journal.connection import sqlite3
from resubmit.journal.reads import Reads
from resubmit.journal.verbs import (
    Arrival,
    ArrivingRecipient,
    AuditRow,
    Begun,
    Coverage,
    Cursor,
    Destined,
    Ended,
    Filed,
    Haste,
    JobAsk,
    LookRow,
    Move,
    Moved,
    Observed,
    Offer,
    Rebind,
    ReportRow,
    Stale,
)
from resubmit.journal.writer import Work
from resubmit.model.moment import Ms
from resubmit.model.recipient import RecipientKey


class Journal(Reads):
    """The journal, open for writing. Made by `Journal.open`, ended by `close`."""

    # ── mail ────────────────────────────────────────────────────────────────────────────────────────

    async def record(self, arrival: Arrival) -> int:
        """The message is on the disk; returns its id."""
        octets = 0 if arrival.body.octets is None else arrival.body.size

        def work(connection: sqlite3.Connection) -> int:
            return mail.record(connection, self._ids.next(self._clock.now()), arrival)

        return await self._write(work, "due", octets=octets, rows=len(arrival.recipients))

    async def add_recipient(self, message: int, recipient: ArrivingRecipient, at: Ms, why: str) -> int:
        """One more recipient of a message (a redirect, or one again); returns its number."""
        return await self._write(
            lambda connection: mail.add_recipient(connection, message, recipient, at, why), "due"
        )

    async def redirect(self, wanted: Sequence[Move], to: ArrivingRecipient) -> list[Moved | Stale]:
        """Each is cancelled and `to` is a recipient of its message, or neither; one answer a move."""
        return await self._write(
            lambda connection: [mail.redirect(connection, move, to) for move in wanted], "due", "job"
        )

    async def excuse(self, keys: Sequence[RecipientKey], why: str = "no notice can be sent") -> int:
        """These owe their sender no notice any more; returns how many did."""
        at = self._clock.now()
        return await self._write(lambda connection: notices.forget(connection, keys, at, why))

    # ── attempts and moves ──────────────────────────────────────────────────────────────────────────

    async def begin(self, offer: Offer) -> Begun | Stale:
        """The intent to offer is on the disk, for the recipients that still stand as expected."""
        return await self._write(
            lambda connection: attempts.begin(connection, offer), rows=len(offer.recipients)
        )

    async def end(self, ended: Ended, *, news: bool = True) -> list[Moved | Stale]:
        """What each recipient got from an offer; one answer an outcome. `news`: recovery may want to know."""
        wakes = ["evidence", "job"] if news else ["attempt"]
        if any(outcome.due_at is not None for outcome in ended.outcomes):
            wakes.append("due")
        if ended.next_key:
            self._tell_sieves("offer", [clean(ended.next_key)])
        return await self._write(
            lambda connection: attempts.end(connection, ended), *wakes, vital=True, rows=len(ended.outcomes)
        )

    async def move(self, wanted: Sequence[Move]) -> list[Moved | Stale]:
        """Events of timers and operators; one answer a move."""
        return await self._write(
            lambda connection: [moves.apply(connection, move) for move in wanted], "due", "job", vital=True
        )

    async def make_due(
        self, keys: Sequence[RecipientKey], at: Ms, route: str | None = None, job: int | None = None
    ) -> int:
        """Their next attempt is due at `at`, over `route` (None: as before), for `job`; returns how many."""
        return await self._write(
            lambda connection: attempts.make_due(connection, keys, at, route, job), "due", "job"
        )

    async def recall(self, keys: Sequence[RecipientKey], at: Ms) -> int:
        """What a job made due and has not begun is not due for it any more; returns how many."""
        return await self._write(lambda connection: attempts.recall(connection, keys, at), "due", "job")

    async def adopt_orphans(self, at: Ms) -> int:
        """Attempts that a dead process left open are in doubt; returns how many recipients."""
        return await self._write(lambda connection: attempts.adopt_orphans(connection, at), "due", vital=True)

    async def reassign(self, changed: Sequence[tuple[RecipientKey, str, str, Ms | None]]) -> int:
        """Open recipients take destination, route and deadline of a changed config; returns how many."""
        return await self._write(lambda connection: gates.reassign(connection, changed), "due")

    # ── evidence ────────────────────────────────────────────────────────────────────────────────────

    async def observe(
        self,
        observed: Sequence[Observed],
        cursor: Cursor | None = None,
        rebinds: Sequence[Rebind] = (),
    ) -> list[Filed]:
        """Evidence and what it does, and how far its source was read; one answer each."""
        at = self._clock.now()
        octets = sum(len(one.row.raw) for one in observed)
        ids = [one.row.network_message_id for one in observed if one.binds]
        self._tell_sieves("binding", [*ids, *(rebind.network_message_id for rebind in rebinds)])
        return await self._write(
            lambda connection: observing.observe(connection, observed, cursor, at, rebinds),
            "evidence",
            "due",
            "job",
            octets=octets,
            vital=True,
        )

    async def reported(self, rows: Sequence[ReportRow]) -> list[bool]:
        """Reports about destinations' servers are kept; for each whether it is new."""
        return await self._write(lambda connection: reports.reported(connection, rows), "evidence")

    async def covered(self, coverage: Coverage) -> None:
        """A source answered for everything in a span."""
        await self._write(lambda connection: gates.covered(connection, coverage), "evidence")

    async def unreadable(self, file: str, place: str, reason: str, at: Ms) -> None:
        """What a source could not read is kept, once a place."""
        await self._write(lambda connection: observing.unreadable(connection, file, place, reason, at))

    async def read_again(self, file: str, at: Ms) -> None:
        """A file was read whole, from `at` on: what an earlier reading said of it no longer holds."""
        await self._write(lambda connection: observing.read_again(connection, file, at))

    # ── recovery ────────────────────────────────────────────────────────────────────────────────────

    async def looked(self, look: LookRow) -> int:
        """A look is kept; returns its id."""
        return await self._write(lambda connection: gates.looked(connection, look), "look")

    async def turn(
        self,
        gate: str,
        from_version: int,
        to: str,
        reasons: tuple[str, ...],
        at: Ms,
        data: str = "{}",
        incident: int | None = None,
        haste: Haste | None = None,
    ) -> int | Stale:
        """The gate stands at `to`, and what waited for that is due; returns its new version. A gate that
        never turned is at version 0."""
        self._gates_turn()
        try:
            return await self._write(
                lambda connection: gates.turn(
                    connection, gate, from_version, to, reasons, at, data, incident, haste
                ),
                "gate",
                "due",
            )
        finally:
            self._gates_turn()

    async def open_incident(self, destination: str, route: str, cause: str, at: Ms, fault_from: Ms) -> int:
        """A new incident; returns its id."""
        return await self._write(
            lambda connection: incidents.open_incident(connection, destination, route, cause, at, fault_from),
            "gate",
        )

    async def update_incident(self, incident: int, **fields: object) -> None:
        """The named columns of an incident take these values."""
        await self._write(lambda connection: incidents.update_incident(connection, incident, fields), "gate")

    async def join_incident(self, incident: int, keys: Sequence[RecipientKey], at: Ms) -> int:
        """These recipients were caught in it, each once; returns how many are new. Nothing is written where
        none is."""
        new = await self._read(lambda connection: incidents.outside(connection, incident, keys))
        if not new:
            return 0
        return await self._write(lambda connection: incidents.join_incident(connection, incident, new, at))

    async def ask(self, asked: JobAsk) -> int:
        """A job with an item a recipient; returns its id."""
        return await self._write(lambda connection: incidents.ask(connection, asked), "job")

    async def step_job(
        self,
        job: int,
        from_state: str,
        to_state: str,
        stage: str | None = None,
        ended_at: Ms | None = None,
    ) -> Stale | None:
        """The job stands at `to_state`; Stale when it stood elsewhere."""
        return await self._write(
            lambda connection: incidents.step_job(connection, job, from_state, to_state, stage, ended_at),
            "job",
        )

    async def send_again(
        self, job: int, keys: Sequence[RecipientKey], at: Ms, deadline: Ms
    ) -> list[RecipientKey]:
        """Beside each delivered recipient that waits in the job stands a new one, waiting in its place."""
        return await self._write(lambda connection: again.make(connection, job, keys, at, deadline), "job")

    async def pause_job(self, job: int, paused: bool) -> Stale | None:
        """Whether a person has stopped the job stands in its options; Stale when it is over."""
        return await self._write(lambda connection: incidents.pause_job(connection, job, paused), "job")

    async def set_job_items(self, job: int, items: Sequence[tuple[RecipientKey, str, int | None]]) -> None:
        """Items of a job take a state and, unless None, the attempt's number."""
        at = self._clock.now()
        await self._write(lambda connection: incidents.set_items(connection, job, items, at), "job")

    async def audit(self, row: AuditRow) -> None:
        """What a person did is kept."""
        await self._write(lambda connection: gates.audit(connection, row))

    async def mirror(self, destinations: Sequence[Destined]) -> None:
        """What the config says of destinations now, for the view of who is stuck."""
        await self._write(lambda connection: gates.mirror(connection, destinations))

    async def key(self) -> bytes:
        """The journal's own secret for trace fields, made once."""
        fresh = secrets.token_bytes(32)
        return await self._write(lambda connection: gates.key(connection, fresh))

    # ── keeping it small, and safe ──────────────────────────────────────────────────────────────────

    async def prune(self, rule: str, before: Ms, limit: int = 200) -> int:
        """Remove a slice of what a rule of retention lets go; 0 when nothing is left to go.

        Rules: `delivered`, `settled`, `unproven` (model: journal/retention.py).
        """
        if rule not in retention.RULES:
            raise JournalError(f"there is no retention rule {rule!r}")
        async with self._pruning:
            after: int | None = self._pruned.pop(rule, 0)
            while after is not None:
                found, after = await self._read(self._scan(rule, before, after, limit))
                if not found:
                    continue
                at = self._clock.now()
                pruned = await self._write(self._prune(rule, before, found, at))
                await self._bodies.run(lambda names=pruned[1]: self._bodies.remove(names))  # type: ignore[misc]
                if after is not None:
                    self._pruned[rule] = after
                if pruned[0]:
                    return pruned[0]
            if rule == "settled":
                return await self._write(lambda connection: retention.prune_old(connection, before, limit))
            return 0

    @staticmethod
    def _scan(rule: str, before: Ms, after: int, limit: int) -> Work[tuple[list[int], int | None]]:
        return lambda connection: retention.scan(connection, rule, before, after, limit)

    @staticmethod
    def _prune(rule: str, before: Ms, found: list[int], at: Ms) -> Work[tuple[int, list[str]]]:
        return lambda connection: retention.prune(connection, rule, before, found, at)

    async def backup(self, path: Path) -> None:
        """A copy of the journal at `path`, a folder that is not there yet, as of one moment.

        Nothing is pruned meanwhile, so that every body the copy names is in it.
        """
        async with self._pruning:
            await self._bodies.run(lambda: backup.copy(self.folder, path))
