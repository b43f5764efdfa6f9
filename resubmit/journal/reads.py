"""What the journal answers: the reading verbs, each in a snapshot of its own. Values are in verbs.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path

from resubmit.journal import (
    due,
    faults,
    gates,
    incidents,
    keys,
    lookups,
    mail,
    notices,
    recovery_reads,
    sieve,
    standings,
)
from resubmit.journal.bodies import FileSpool
from resubmit.journal.connection import sqlite3
from resubmit.journal.opened import Opened
from resubmit.journal.readers import replayable, selection
from resubmit.journal.verbs import (
    NOBODY_BARRED,
    Barred,
    Candidate,
    Coverage,
    DueMessage,
    Fault,
    GateRow,
    Gathered,
    IncidentRow,
    JobItem,
    JobRow,
    LookRow,
    Lookup,
    OwedNotice,
    Standing,
    TakenMail,
    UnmatchedEvidence,
)
from resubmit.model.filter import Filter
from resubmit.model.message import Body
from resubmit.model.moment import Ms
from resubmit.model.recipient import RecipientKey, State

_ATTEMPT_TIMES = "select begun_at from offer order by id desc limit ?"
_FIRST = "select received_at from message order by id limit 1"
_TOLD_MOST = 100_000
_SIEVED_FROM = 5000
"""So many look-ups after the start it is worth to learn which keys the journal holds."""
_CURSOR = "select position from cursor where source = ? and name = ?"


class Reads(Opened):
    """The reading verbs."""

    # ── mail ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def reports_folder(self) -> Path:
        """Where mails lie that are read and not handed on; perhaps not there yet."""
        return self._report_mails.folder

    async def keep_report(self, body: Body, at: Ms, *, only: bool) -> str:
        """A mail that is to be read is on the disk; returns its name. `only`: nothing else needs its body."""
        name = await self._report_mails.keep(body, at)
        if only and body.file is not None:
            await self._bodies.run(lambda file=body.file: self._bodies.remove([file]))  # type: ignore[misc]
        return name

    async def prune_reports(self, before: Ms) -> int:
        """Remove such mails received before then; how many."""
        return await self._report_mails.prune(before)

    def new_spool(self) -> FileSpool:
        """Where one message's bytes go while they arrive."""
        return self._bodies.new_spool()

    async def body(self, message: int) -> Body:
        """The message's bytes, or the name of their file. Raises JournalError when they are gone."""
        return await self._read(lambda connection: mail.body(connection, message))

    async def read_body(self, body: Body, message: int | None = None) -> AsyncIterator[bytes]:
        """The bytes in chunks of 64 KiB, from the octets, the file, or (neither given) the message's row."""
        if body.octets is None and body.file is None and message is not None:
            body = await self.body(message)
        async for chunk in self._bodies.read(body):
            yield chunk

    async def header(self, message: int) -> bytes:
        """The message's header block, at most 64 KiB; b"" when its body is gone."""
        return await self._read(lambda connection: mail.header(connection, message, self._bodies.folder))

    async def message(self, message: int) -> DueMessage | None:
        """A message without its recipients and bytes, None when there is none."""
        return await self._read(lambda connection: mail.message(connection, message))

    async def recipients_of(self, message: int) -> list[tuple[int, str]]:
        """Number and address of each recipient of a message, derived ones too."""
        return await self._read(lambda connection: mail.recipients_of(connection, message))

    async def notices_owed(self, limit: int = 50) -> list[OwedNotice]:
        """Up to `limit` notices that senders are owed, by message."""
        return await self._read(lambda connection: notices.owed(connection, limit))

    # ── what is due ─────────────────────────────────────────────────────────────────────────────────

    async def due(self, route: str, now: Ms, limit: int, barred: Barred = NOBODY_BARRED) -> list[DueMessage]:
        """Up to `limit` offers that are due on a route, new mail and retries first; barred ones are left
        out."""
        return await self._read(lambda connection: due.due(connection, route, now, limit, barred))

    async def next_due(self, route: str, barred: Barred = NOBODY_BARRED) -> Ms | None:
        """When the next attempt on a route is due, None when none waits but barred ones."""
        return await self._read(lambda connection: due.next_due(connection, route, barred))

    async def routes_with_work(self) -> list[str]:
        """The routes on which attempts wait."""
        return await self._read(due.routes_with_work)

    async def timers(self, now: Ms, limit: int = 500) -> list[Standing]:
        """Recipients in doubt, and those held by us past their deadline."""
        return await self._read(lambda connection: standings.timers(connection, now, limit))

    # ── evidence ────────────────────────────────────────────────────────────────────────────────────

    async def candidates(self, wanted: Sequence[Lookup]) -> list[list[Candidate]]:
        """For each lookup the messages it may be about."""
        if self._sieves is None or self._sieves.is_full:
            self._looked_up += len(wanted)
            if self._looked_up >= _SIEVED_FROM:
                await self._sieve()
        ready = self._ready_sieves()
        return await self._read(lambda connection: lookups.candidates(connection, wanted, ready))

    def _ready_sieves(self) -> sieve.Sieves | None:
        return self._sieves if self._sieves is not None and self._sieves.is_ready else None

    def _tell_sieves(self, table: str, keys: Iterable[str]) -> None:
        """Keys that a write is about to store. Where nobody asks for long, they are learnt anew some day."""
        if self._sieves is not None:
            self._sieves.told.extend((table, key) for key in keys)
            if len(self._sieves.told) > _TOLD_MOST:
                self._sieves = None

    async def _sieve(self) -> None:
        """Learn which keys the journal holds, a day at a time so that others may read in between."""
        self._looked_up = 0
        sieves = await self._read(sieve.begin)
        self._sieves = sieves  # what is bound from here on is told to it; what was before is on the disk
        await self._write(lambda connection: None)
        for table, days in (await self._read(keys.days)).items():
            for day in days:
                await self._read(lambda connection, t=table, d=day: sieves.load(connection, t, d))  # type: ignore[misc]
        sieves.is_ready = True

    async def gathered(self, wanted: Sequence[tuple[Sequence[str], Sequence[int]]]) -> list[Gathered]:
        """For each group of Message-ID keys and evidence ids: messages that can be mistaken for each other,
        and all evidence that may be about any of them."""
        return await self._read(lambda connection: lookups.gathered(connection, wanted))

    async def unmatched(
        self, after: int = 0, limit: int = 500, *, keyless: bool = False, since: Ms | None = None
    ) -> list[UnmatchedEvidence]:
        """Stored evidence without an owner, by id from `after` on; keyless: what has no Message-ID, and tells
        of the time from the day before `since` on."""
        return await self._read(
            lambda connection: lookups.unmatched(connection, after, limit, keyless, since)
        )

    async def unowned_of_ours(self) -> list[str]:
        """All Message-ID keys with evidence of nobody's that a message has."""
        if self._ready_sieves() is None:
            count = await self._read(lambda connection: lookups.count_unowned(connection, _SIEVED_FROM))
            if count >= _SIEVED_FROM:
                await self._sieve()
        ready = self._ready_sieves()
        return await self._read(lambda connection: lookups.unowned_of_ours(connection, ready))

    async def stirred(self, since: Ms) -> list[str]:
        """Message-ID keys with evidence of nobody's, of which a message had an attempt end since then."""
        return await self._read(lambda connection: lookups.stirred(connection, since))

    async def is_known(self, source: str, digests: Sequence[bytes]) -> set[bytes]:
        """Those of a source's digests that are stored."""
        return await self._read(lambda connection: lookups.is_known(connection, source, digests))

    async def coverage(self, since: Ms) -> list[Coverage]:
        """What sources answered for, as far as it reaches beyond `since`."""
        return await self._read(lambda connection: gates.coverage(connection, since))

    async def cursor(self, source: str, name: str) -> str | None:
        """How far a source was read, None when it never was."""

        found = await self._read(lambda connection: connection.execute(_CURSOR, (source, name)).fetchone())
        return None if found is None else str(found[0])

    # ── recovery ────────────────────────────────────────────────────────────────────────────────────

    async def gates(self) -> list[GateRow]:
        """Every gate that ever turned, by name. Remembered until the next one turns, because it is asked
        before every attempt."""
        return list((await self._every_gate()).values())

    async def gate(self, name: str) -> GateRow | None:
        """A gate, None while it never turned: then it is open, at version 0."""
        return (await self._every_gate()).get(name)

    async def _every_gate(self) -> dict[str, GateRow]:
        if self._gates is not None:
            return self._gates
        turns = self._turns
        found = {gate.name: gate for gate in await self._read(gates.gates)}
        if turns == self._turns:  # else one turned while it was read
            self._gates = found
        return found

    async def looks(self, target: str, since: Ms, limit: int = 40) -> list[LookRow]:
        """Looks at a gate's target, newest first."""
        return await self._read(lambda connection: gates.looks(connection, target, since, limit))

    async def faults(
        self, destination: str | None, route: str | None, since: Ms, limit: int = 500, good: int = 500
    ) -> list[Fault]:
        """What speaks for and against a destination or a route since then, newest first: of each kind at most
        `limit` against it and `good` for it."""
        return await self._read(
            lambda connection: faults.faults(connection, destination, route, since, limit, good)
        )

    async def standings(
        self,
        destination: str = "",
        *,
        incident: int | None = None,
        states: Iterable[State] | None = None,
        since: Ms | None = None,
        until: Ms | None = None,
        limit: int = 10_000,
    ) -> list[Standing]:
        """Recipients of a destination, or all an incident caught, in these states (None: those of trouble;
        of an incident any). since/until bound accepted ones by when they became so."""
        wanted = None if states is None else list(states)
        return await self._read(
            lambda connection: standings.of_destination(
                connection,
                destination,
                incident=incident,
                states=wanted,
                since=since,
                until=until,
                limit=limit,
            )
        )

    async def standing(self, keys: Sequence[RecipientKey]) -> list[Standing]:
        """Where these recipients stand; those that are gone are left out."""
        return await self._read(lambda connection: standings.of_keys(connection, keys))

    async def accepted_between(self, since: Ms, until: Ms) -> list[TakenMail]:
        """Our mails that were answered 250 in a span, and whether a trace knows each."""
        return await self._read(lambda connection: recovery_reads.accepted_between(connection, since, until))

    async def incidents(self, open_only: bool = True) -> list[IncidentRow]:
        """Incidents, oldest first."""
        return await self._read(lambda connection: incidents.incidents(connection, open_only))

    async def caught(self, incident: int) -> int:
        """How many recipients an incident ever caught."""
        return await self._read(lambda connection: incidents.caught(connection, incident))

    async def incident_counts(self, incident: int) -> dict[str, int]:
        """Recipients: stuck (all it caught), recovered, failed, unproven, unknown, duplicates."""
        return await self._read(lambda connection: incidents.incident_counts(connection, incident))

    async def jobs(self, states: Iterable[str] = ()) -> list[JobRow]:
        """Jobs in these states (none named: all), oldest first."""
        wanted = list(states)
        return await self._read(lambda connection: incidents.jobs(connection, wanted))

    async def job(self, job: int) -> JobRow | None:
        """One job, None when there is none."""
        return await self._read(lambda connection: incidents.job(connection, job))

    async def job_items(self, job: int, state: str | None = None, limit: int | None = None) -> list[JobItem]:
        """A job's recipients, the nearest deadline first."""
        return await self._read(lambda connection: incidents.job_items(connection, job, state, limit))

    # ── what people mean ────────────────────────────────────────────────────────────────────────────

    async def replayable(self, flt: Filter, options: Mapping[str, object], now: Ms) -> list[Standing]:
        """The recipients a replay with this filter would take, the nearest deadline first."""

        def work(connection: sqlite3.Connection) -> list[Standing]:
            found = replayable.replayable(connection, flt, options, now)
            return standings.of_keys(connection, [RecipientKey(*key) for key in found.keys])

        return await self._read(work)

    async def chosen(self, flt: Filter, now: Ms) -> list[RecipientKey]:
        """The recipients a filter means."""

        def work(connection: sqlite3.Connection) -> list[RecipientKey]:
            which = selection.select(flt, now, recipients=True)
            rows = connection.execute(f"select r.message, r.n {which.sql}", which.params)
            return sorted(RecipientKey(message, n) for message, n in rows)

        return await self._read(work)

    async def first_at(self, now: Ms) -> Ms:
        """When the oldest mail that is kept came; `now` where there is none."""

        def work(connection: sqlite3.Connection) -> Ms:
            found = connection.execute(_FIRST).fetchone()
            return now if found is None else int(found[0])

        return await self._read(work)

    async def attempt_times(self, limit: int = 1000) -> list[Ms]:
        """When our newest offers began: what undated cultures of a trace are read against."""
        return await self._read(
            lambda connection: [at for (at,) in connection.execute(_ATTEMPT_TIMES, (limit,))]
        )
