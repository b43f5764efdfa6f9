"""A journal in a few lines: enough of one to prove that evidence may come in any order.

It keeps messages, attempts and evidence, gives candidates as the real one does, files what `settle` says,
steps the recipient's table, and asks unowned rows again whenever something changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from resubmit.evidence.matching import Home, lookup_of
from resubmit.evidence.settle import conclude, evidence_of
from resubmit.journal.verbs import (
    Candidate,
    CandidateAttempt,
    CandidateRecipient,
    EvidenceRow,
    Lookup,
    Move,
    Observed,
    UnmatchedEvidence,
)
from resubmit.model.envelope import address_key
from resubmit.model.evidence import Evidence, Holder
from resubmit.model.message import message_key
from resubmit.model.moment import DAY, Ms
from resubmit.model.recipient import Event, Stand, State, step

ENDPOINTS = {"hybrid": {"mail.contoso.com", "198.51.100.7"}}


def destination_of(address: str) -> Home | None:
    """contoso.com is hybrid, everything else the rest."""
    if address_key(address).endswith("@contoso.com"):
        return Home("hybrid", "eop")
    return Home("rest", "eop", rest=True)


@dataclass
class Ledger:
    """The model. `now` is what evidence is filed at."""

    now: Ms = 10 * DAY
    messages: dict[int, Candidate] = field(default_factory=dict)
    stands: dict[tuple[int, int], Stand] = field(default_factory=dict)
    stored: dict[bytes, tuple[Observed, int]] = field(default_factory=dict)
    conflicts: int = 0
    _offers: int = 0

    def journal(
        self,
        message: int,
        recipients: list[str],
        *,
        message_id: str = "<1@x>",
        sender: str = "s@x",
        subject: str = "Invoice",
        at: Ms = 0,
    ) -> None:
        """A message with its recipients, journaled."""
        rows = tuple(
            CandidateRecipient(n, address, "", "hybrid", "eop", State.JOURNALED, 0, Holder.US, None, ())
            for n, address in enumerate(recipients)
        )
        self.messages[message] = Candidate(message, at, message_id, sender, subject, 100, rows)
        for n in range(len(recipients)):
            self.stands[message, n] = Stand(State.JOURNALED)

    def again(self, message: int, of: int) -> int:
        """A row of the same address beside a delivered one, whose attempts go on from its numbers."""
        candidate = self.messages[message]
        old, n = candidate.recipients[of], len(candidate.recipients)
        row = replace(old, n=n, state=State.JOURNALED, holder=Holder.US, attempts=(), expanded=False)
        self.messages[message] = replace(candidate, recipients=(*candidate.recipients, row))
        self.stands[message, n] = Stand(State.JOURNALED)
        return n

    def begin(self, message: int, at: Ms, ns: list[int] | None = None) -> None:
        """The next attempt of these recipients (all) is open."""
        self._offers += 1
        rows = []
        for r in self.messages[message].recipients:
            if ns is None or r.n in ns:
                attempt = CandidateAttempt(r.attempt + 1, self._offers, at, None, None, None, True, (), "")
                self._step(message, r.n, Event.ATTEMPT_STARTED)
                r = replace(r, attempt=r.attempt + 1, attempts=(*r.attempts, attempt))
            rows.append(r)
        self.messages[message] = replace(self.messages[message], recipients=tuple(rows))

    def end(self, message: int, at: Ms, event: Event, *, dot: bool = True) -> None:
        """The open attempts of a message end the same way."""
        rows = []
        for r in self.messages[message].recipients:
            last = r.attempts[-1] if r.attempts else None
            if last is not None and last.ended_at is None:
                taken = at if event is Event.REPLY_ACCEPTED else None
                last = replace(last, accepted_at=taken, dot_at=at if dot else None, ended_at=at)
                r = replace(r, attempts=(*r.attempts[:-1], last))
                rows.append(r)
                self.messages[message] = replace(
                    self.messages[message],
                    recipients=tuple(rows) + self.messages[message].recipients[len(rows) :],
                )
                self._step(message, r.n, event)
            else:
                rows.append(r)
        self.settle_open()

    def hand(self, message: int, at: Ms, event: Event = Event.REPLY_ACCEPTED, *, dot: bool = True) -> None:
        """One whole attempt, within a second."""
        self.begin(message, at)
        self.end(message, at + 1000, event, dot=dot)

    def see(self, *evidence: Evidence) -> None:
        """Evidence is read."""
        for item in evidence:
            observed = conclude(
                item,
                self._candidates(lookup_of(item)),
                self._unowned(item),
                now=self.now,
                endpoints=ENDPOINTS,
                destination_of=destination_of,
            )
            if observed.row.digest not in self.stored:
                self._file(observed)
                self.settle_open()

    def settle_open(self) -> None:
        """Ask every unowned row again, until none moves any more."""
        changed = True
        while changed:
            changed = False
            for identity, (digest, (before, _)) in enumerate(list(self.stored.items())):
                if before.owner is not None:
                    continue
                observed = conclude(
                    evidence_of(before.row),
                    self._candidates(_lookup(before)),
                    [other for other in self._unowned(before.row) if other.id != identity],
                    now=self.now,
                    endpoints=ENDPOINTS,
                    destination_of=destination_of,
                    refile=identity,
                    digest=digest,
                )
                assert observed.refile == identity and observed.row.digest == digest
                changed = changed or observed.owner is not None or observed.match != before.match
                self._file(observed)

    def states(self) -> dict[str, str]:
        """Every recipient's state, by message and address."""
        return {
            f"{m}/{r.address}": str(self.stands[m, r.n].state)
            for m, c in sorted(self.messages.items())
            for r in c.recipients
        }

    def owners(self) -> dict[bytes, tuple[str, object, object]]:
        """Whose each piece of evidence is."""
        return {
            d: (o.match, o.owner if o.member is None else "member", o.no)
            for d, (o, _) in sorted(self.stored.items())
        }

    def _file(self, observed: Observed) -> None:
        key = observed.owner
        if observed.member is not None and key is not None:
            n = self._derive(key.message, observed)
            moves = [replace(move, n=n) for move in observed.moves]
        else:
            moves = list(observed.moves)
        if observed.binds and key is not None:
            self._bind(key.message, key.n, observed)
        for move in moves:
            self._move(move)
        self.stored[observed.row.digest] = (observed, 0)

    def _move(self, move: Move) -> None:
        recipient = self.messages[move.message].recipients[move.n]
        assert move.attempt == recipient.attempt
        self._step(move.message, move.n, move.event)

    def _step(self, message: int, n: int, event: Event) -> None:
        done = step(self.stands[message, n], event)  # raises Impossible for what can't happen
        self.conflicts += done.conflict
        self.stands[message, n] = done.stand
        candidate = self.messages[message]
        told = event in (Event.SEEN_EXPANDED, Event.LATE_EXPANDED)
        rows = tuple(
            replace(r, state=done.stand.state, expanded=r.expanded or told) if r.n == n else r
            for r in candidate.recipients
        )
        self.messages[message] = replace(candidate, recipients=rows)

    def _bind(self, message: int, n: int, observed: Observed) -> None:
        candidate = self.messages[message]
        offer = next(a.offer for a in candidate.recipients[n].attempts if a.no == observed.no)
        network = observed.row.network_message_id

        def bound(a: CandidateAttempt) -> CandidateAttempt:
            if a.offer != offer or network in a.network_message_ids:
                return a
            return replace(a, network_message_ids=(*a.network_message_ids, network))

        rows = tuple(replace(r, attempts=tuple(map(bound, r.attempts))) for r in candidate.recipients)
        self.messages[message] = replace(candidate, recipients=rows)

    def _derive(self, message: int, observed: Observed) -> int:
        member = observed.member
        assert member is not None and observed.no is not None
        candidate = self.messages[message]
        assert member.address not in [r.address for r in candidate.recipients]
        group = candidate.recipients[member.derived_from]
        n = len(candidate.recipients)
        row = CandidateRecipient(
            n,
            member.address,
            "",
            member.destination,
            member.route,
            State.ACCEPTED,
            observed.no,
            Holder.FAR,
            group.n,
            tuple(a for a in group.attempts if a.no == observed.no),
        )
        self.messages[message] = replace(candidate, recipients=(*candidate.recipients, row))
        self.stands[message, n] = Stand(State.ACCEPTED)
        return n

    def _candidates(self, lookup: Lookup) -> list[Candidate]:
        def fits(c: Candidate) -> bool:
            nets = {i for r in c.recipients for a in r.attempts for i in a.network_message_ids}
            return (
                c.message == lookup.attempt_message
                or bool(lookup.network_message_id and lookup.network_message_id in nets)
                or bool(lookup.key and lookup.key == message_key(c.message_id))
                or (not lookup.key and address_key(c.sender) == address_key(lookup.sender))
            )

        return [c for c in self.messages.values() if fits(c)]

    def _unowned(self, item: Evidence | EvidenceRow) -> list[UnmatchedEvidence]:
        recipient = address_key(item.recipient)
        key = message_key(item.message_id)
        return [
            UnmatchedEvidence(i, o.row, o.match)
            for i, (o, _) in enumerate(self.stored.values())
            if o.owner is None and o.row.key == key and address_key(o.row.recipient) == recipient
        ]


def _lookup(observed: Observed) -> Lookup:
    return lookup_of(evidence_of(observed.row))
