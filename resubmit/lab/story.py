"""The incident of the demo, told step by step: mail flows, a certificate expires, mail gets stuck, it is
mended, and the service brings it in.

Promises: what is reported at the end is counted at the lab's mailboxes; nothing waits for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from resubmit.lab import crowd
from resubmit.lab.crowd import Letter
from resubmit.lab.narrator import Narrator, plural, seconds
from resubmit.lab.stage import HYBRID_NAME, Stage
from resubmit.lab.trace import FAILED, PENDING
from resubmit.model.moment import SECOND, Ms

STUCK_MAILS = 250
OTHER_MAILS = 40
FIRST_MAILS = 12
WHOLE: Ms = 57 * SECOND
"""After so long the story is told to its end as it stands."""


@dataclass
class Report:
    """The end of the story, in (mailbox, message) pairs but for `journaled` and `mails_stuck`."""

    journaled: int = 0
    stuck: int = 0
    recovered: int = 0
    failed: int = 0
    unknown: int = 0
    duplicates: int = 0
    seconds_from_fix_to_last_delivery: float | None = None
    mails_stuck: int = 0
    delivered_meanwhile: int = 0
    left_by_exchange_online: int = 0
    other_mail: int = 0
    seconds: float = 0.0
    incident: dict[str, Any] | None = None
    missing: list[str] = field(default_factory=list)

    def well(self) -> bool:
        """Whether every stuck recipient got its mail, once, and nothing else is amiss."""
        return not self.missing

    def as_json(self) -> dict[str, Any]:
        """One object, every field."""
        return asdict(self)


class Story:
    """Tell it with `run`; `report` is its end."""

    def __init__(self, stage: Stage, narrator: Narrator) -> None:
        self.stage = stage
        self.tell = narrator
        self.clock = stage.clock
        self.started = self.clock.monotonic()
        self.report = Report()
        self.letters: list[Letter] = []
        self.refused: list[Letter] = []
        self.stuck: list[tuple[str, str]] = []
        self.incident: int | str | None = None
        self.fixed_at: Ms = 0

    async def run(self) -> Report:
        """The whole story. Raises StageError when the service can't be used."""
        await self._open()
        await self._flow()
        await self._expire()
        await self._storm()
        await self._look()
        await self._mend()
        await self._recover()
        await self._settle()
        await self._end()
        return self.report

    async def _open(self) -> None:
        stage, tell = self.stage, self.tell
        tell.step("A mail system is set up on this machine")
        tell.say(
            "Three stand-ins: Exchange Online, which takes mail and reports later; the hybrid server "
            f"{HYBRID_NAME}, which Exchange Online reaches with forced TLS only; and a partner's server. "
            "In front of them the real service, as a process of its own:"
        )
        tell.say(f"$ resubmit --config {stage.config} serve")
        await stage.serve()
        tell.say(f"It takes mail at 127.0.0.1:{stage.intake_port} and says so (/readyz is 200).")

    async def _flow(self) -> None:
        self.tell.step("Mail flows")
        letters = [crowd.write("before", n, crowd.stuck_to_be(n), self.clock) for n in range(FIRST_MAILS)]
        await self._send(letters)
        pairs = crowd.expected(self.letters, self.stage.tenant)
        await self._until(lambda: self._arrived(pairs), 10 * SECOND)
        found = crowd.count(pairs, self.stage.mailboxes)
        self.tell.say(
            f"{plural(len(self.letters), 'mail')} journaled and handed on; "
            f"{found.arrived} of {plural(found.pairs, 'recipient')} have theirs."
        )

    async def _expire(self) -> None:
        self.tell.step("The hybrid server's certificate expires")
        self.stage.expire()
        self.tell.say(
            f"{HYBRID_NAME} now shows a certificate that ran out an hour ago. It still runs; nobody is told. "
            "Exchange Online will go on answering 250 to every mail."
        )

    async def _storm(self) -> None:
        stage, clock = self.stage, self.clock
        self.tell.step(f"{STUCK_MAILS} mails come, and get stuck behind Exchange Online's 250")
        # Between them all the while: mail for cloud mailboxes and the partner, which arrives as ever.
        stuck = [crowd.write("stuck", n, crowd.stuck_to_be(n), clock) for n in range(STUCK_MAILS)]
        other = [crowd.write("fine", n, crowd.not_stuck(n), clock) for n in range(OTHER_MAILS)]
        every = STUCK_MAILS // OTHER_MAILS
        mixed = [
            letter for n, one in enumerate(stuck) for letter in (one, *other[n // every : n // every + 1])
        ]
        await self._send(list({letter.message_id: letter for letter in mixed}.values()))
        pairs = crowd.expected(self.letters, stage.tenant)
        late = set(crowd.at_hybrid(pairs, stage.tenant))
        await self._until(lambda: self._arrived([p for p in pairs if p not in late]), 5 * SECOND)
        self.tell.say(
            f"{plural(len(self.letters), 'mail')} were answered 250 so far; every one is in the journal."
        )
        deferred = await self._until(self._all_deferred, 10 * SECOND)
        found = crowd.count(pairs, stage.mailboxes)
        self.stuck = list(found.missing)
        self.report.delivered_meanwhile = found.arrived
        self.report.stuck = len(self.stuck)
        self.report.mails_stuck = len({message_id for _, message_id in self.stuck})
        if not deferred:
            self.report.missing.append("the look-alike has mail it has not tried yet")
        self.tell.say(
            f"{plural(found.arrived, 'recipient')} (cloud mailboxes, the partner) got theirs all the while; "
            f"{plural(len(self.stuck), 'recipient')} of {plural(self.report.mails_stuck, 'mail')} did not."
        )

    async def _look(self) -> None:
        self.tell.step("resubmit sees them, a message trace and a probe later")
        seen = most = 0

        async def all_seen() -> bool:
            nonlocal seen, most
            seen = await self._listed()
            # A suspect of which the trace says "pending" is not stuck for a moment: told once, it stays told.
            most = max(most, min(seen, len(self.stuck)))
            self.tell.bar("seen stuck", most, len(self.stuck))
            return seen >= len(self.stuck)

        if not await self._until(all_seen, 15 * SECOND):
            self.tell.say(f"Only {seen} of {len(self.stuck)} are listed as stuck by now; on we go.")
        await self._show("list", "--stuck", "--limit", "6")
        await self._show("list", "--stuck", "--group-by", "cause")
        self.tell.say("Why? The probe says what a connector that forces TLS would see, and what to do:")
        await self._show("probe", "hybrid")
        await self._show("status")

    async def _mend(self) -> None:
        self.tell.step("The certificate is renewed")
        self.stage.renew()
        self.fixed_at = self.clock.now()
        self.tell.say(
            "An administrator does what the probe advised. Exchange Online does not try its old mail again; "
            "resubmit waits for three healthy looks, then lets one mail go (the canary), five, twenty-five, "
            "and the rest at 100 a second."
        )

    async def _recover(self) -> None:
        """Until every stuck recipient has its mail; what the gate does is told as it happens."""
        self.tell.step("Probes, canary, steps, drain")
        told: tuple[str, ...] = ()

        async def recovered() -> bool:
            nonlocal told
            gate = await self._gate()
            if gate != told:
                told = gate
                self.tell.say(f"gate {gate[0]}" + (f": {'; '.join(gate[1:])}" if gate[1:] else ""))
            found = crowd.count(self.stuck, self.stage.mailboxes)
            self.tell.bar("recovered", found.arrived, found.pairs)
            return not found.missing

        await self._until(recovered, 30 * SECOND)

    async def _settle(self) -> None:
        self.tell.step("Traces confirm each one, and the incident closes")

        async def closed() -> bool:
            incidents = await self.stage.ask("incidents", "list")
            mine = [one for one in incidents if one.get("destination") == "hybrid"]
            if mine:
                self.incident = mine[0]["id"]
            return bool(mine) and all(one["state"] == "closed" for one in mine)

        if not await self._until(closed, 15 * SECOND):
            self.tell.say("The incident is still open.")
            self.report.missing.append("the service has not closed the incident")
        if self.incident is not None:
            await self._show("incidents", "report", str(self.incident))
            reports = await self.stage.ask("incidents", "report", str(self.incident))
            self.report.incident = reports[0] if reports else None

    async def _end(self) -> None:
        self.tell.step("What the mailboxes say")
        self.count()
        report = self.report
        self.tell.say(
            f"stuck {report.stuck}, recovered {report.recovered}, failed {report.failed}, "
            f"unknown {report.unknown}, duplicates {report.duplicates}, counted at the mailboxes."
        )
        if (span := report.seconds_from_fix_to_last_delivery) is not None:
            self.tell.say(f"From the new certificate to the last delivery: {span} s.")
        if report.left_by_exchange_online:
            self.tell.say(
                f"Exchange Online still has {report.left_by_exchange_online} of them Pending in its queue "
                "and has not tried again; in 24 hours it gives them up with a bounce. Without resubmit those "
                f"{plural(report.stuck, 'delivery', 'deliveries')} would have been lost."
            )
        for one in report.missing:
            self.tell.say(f"MISSING: {one}")

    def count(self) -> Report:
        """The report, counted at the mailboxes as they are now."""
        stage, report = self.stage, self.report
        report.journaled = len(self.letters)
        left = crowd.count(self.stuck, stage.mailboxes)
        lost = [pair for pair in left.missing if self._failed(pair)]
        report.recovered = left.arrived
        report.failed = len(lost)
        report.unknown = len(left.missing) - len(lost)
        whole = crowd.count(crowd.expected(self.letters, stage.tenant), stage.mailboxes)
        report.duplicates = whole.extra
        times = [stage.mailboxes.of(*pair)[0].at for pair in self.stuck if stage.mailboxes.count(*pair)]
        if times and self.fixed_at:
            report.seconds_from_fix_to_last_delivery = float(seconds(max(times) - self.fixed_at))
        ours = {letter.message_id for letter in self.letters}
        report.other_mail = self.other_mail()
        report.left_by_exchange_online = sum(
            1
            for row in stage.online.trace.with_status(PENDING)
            if row.message_id in ours and row.steps[-1].event == "Defer"
        )
        report.seconds = float(seconds(self.clock.monotonic() - self.started))
        report.missing += self._amiss(whole)
        return report

    def other_mail(self) -> int:
        """Copies in the mailboxes of mail that is not the demo's own."""
        ours = {letter.message_id for letter in self.letters}
        return sum(1 for copy in self.stage.mailboxes.copies if copy.message_id not in ours)

    def _amiss(self, whole: crowd.Count) -> list[str]:
        report = self.report
        out: list[str] = []
        if self.refused:
            out.append(f"{plural(len(self.refused), 'mail')} not answered 250 by the service")
        if not report.stuck:
            out.append("no mail got stuck")
        if report.recovered != report.stuck:
            out.append(f"{report.stuck - report.recovered} of {report.stuck} stuck recipients have no copy")
        if report.duplicates:
            who, message_id = whole.twice[0]
            out.append(f"{plural(report.duplicates, 'copy', 'copies')} too many, first {message_id} at {who}")
        others = set(whole.missing) - set(self.stuck)
        if others:
            out.append(f"{plural(len(others), 'recipient')} that should not have been stuck without a copy")
        return out

    def _failed(self, pair: tuple[str, str]) -> bool:
        rows = self.stage.online.trace.of(pair[1])
        mine = [row for row in rows if row.recipient.lower() == pair[0]]
        return bool(mine) and mine[-1].status() == FAILED

    async def _send(self, letters: list[Letter]) -> None:
        taken = await crowd.send(letters, self.stage.intake_port)
        self.letters += taken
        known = {letter.message_id for letter in taken}
        self.refused += [letter for letter in letters if letter.message_id not in known]

    async def _arrived(self, pairs: list[tuple[str, str]]) -> bool:
        return not crowd.count(pairs, self.stage.mailboxes).missing

    async def _all_deferred(self) -> bool:
        """Whether each mail of ours reached Exchange Online, and what it still has was tried."""
        trace = self.stage.online.trace
        taken = {row.message_id for row in trace.rows}
        ours = {one.message_id for one in self.letters if self.stage.tenant.mailboxes(one.recipients)}
        return ours <= taken and all(r.steps[-1].event == "Defer" for r in trace.with_status(PENDING))

    async def _listed(self) -> int:
        messages = await self.stage.ask("list", "--stuck", "--limit", "0")
        wanted = set(self.stuck)
        return sum(
            1
            for message in messages
            for recipient in message["recipients"]
            if recipient["stuck"] and (recipient["address"].lower(), message["message_id"]) in wanted
        )

    async def _gate(self) -> tuple[str, ...]:
        status = await self.stage.ask("status")
        for one in status[0]["destinations"] if status else ():
            if one["name"] == "hybrid":
                return (str(one["gate"]), *(str(reason) for reason in one["reasons"]))
        return ("unknown",)

    async def _show(self, *words: str) -> None:
        _, out, err = await self.stage.command(*words)
        self.tell.shown(" ".join(words), out or err)

    async def _until(self, holds: Callable[[], Awaitable[bool]], limit: Ms) -> bool:
        """Whether it came to hold in time; the story's own end counts too."""
        whole = WHOLE - (self.clock.monotonic() - self.started)
        end = self.clock.monotonic() + max(SECOND // 2, min(limit, whole))
        while not await holds():
            if self.clock.monotonic() >= end:
                return False
            await asyncio.sleep(0.1)
        return True
