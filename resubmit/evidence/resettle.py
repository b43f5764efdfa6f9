"""Whose all evidence of some messages is: a function of the evidence as a whole, not of what came first.

Messages that can be mistaken for each other (they share a Message-ID, or a network message id) are decided
together with every row that may be about any of them, in an order that lies in the rows themselves: first
those that name our own key, then the nearest in time to an attempt. So a network message id is bound to the
same attempt whichever of its rows was read first; and a row that had moved two messages, or the wrong one,
is taken back.

Source: design, section 3 rules 2, 3, 6 and 8.
Limits: the order is by the time a row says the mail was taken; rows without one bind nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from resubmit.evidence.matching import DestinationOf, Matched, match
from resubmit.evidence.ownership import WINDOW, taken_at
from resubmit.evidence.settle import conclude, evidence_of
from resubmit.journal.verbs import (
    Candidate,
    CandidateAttempt,
    CandidateRecipient,
    Gathered,
    Observed,
    Rebind,
    StoredEvidence,
    UnmatchedEvidence,
)
from resubmit.model.envelope import address_key
from resubmit.model.evidence import Evidence
from resubmit.model.ids import parse_attempt_key
from resubmit.model.message import message_key
from resubmit.model.moment import DAY, MINUTE, Ms
from resubmit.model.recipient import RecipientKey

_NEW: Ms = 2 * WINDOW + MINUTE
"""How long after it was taken time may still decide about a row between several messages."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What has to change so that all evidence is whose it should be. `matches`: every row's id, whether it
    is matched, ambiguous or unmatched, and why."""

    observed: tuple[Observed, ...]
    rebinds: tuple[Rebind, ...]
    matches: Mapping[int, tuple[str, str]]
    waits: bool
    """a row that found no owner is so new that time alone may change that"""


def resettle(
    gathered: Gathered,
    *,
    now: Ms,
    endpoints: Mapping[str, Collection[str]],
    destination_of: DestinationOf,
) -> Settled:
    """Decide all of it. Pure."""
    items = _traced([(stored, evidence_of(stored.row)) for stored in gathered.evidence])
    ids = {evidence.network_message_id for _, evidence in items}
    before = gathered.candidates
    candidates = tuple(_rebound(candidate, lambda a: _without(a, ids)) for candidate in before)
    items.sort(key=lambda item: _rank(item[1], item[0].row.digest, candidates))
    candidates = _bound([evidence for _, evidence in items], candidates, destination_of, now)
    said = {"now": now, "endpoints": endpoints, "destination_of": destination_of}
    first = [
        conclude(evidence, candidates, (), refile=stored.id, digest=stored.row.digest, **said)  # type: ignore[arg-type]
        for stored, evidence in items
    ]
    unsure = [
        UnmatchedEvidence(stored.id, stored.row, one.match)
        for (stored, _), one in zip(items, first, strict=True)
        if one.match == "ambiguous"
    ]
    changes: list[Observed] = []
    for (stored, evidence), one in zip(items, first, strict=True):
        if one.match == "ambiguous":
            others = [other for other in unsure if other.id != stored.id]
            one = conclude(evidence, candidates, others, refile=stored.id, digest=stored.row.digest, **said)  # type: ignore[arg-type]
        if not _is_so(stored, one):
            changes.append(one)
    matches = {stored.id: (one.match, one.why) for (stored, _), one in zip(items, first, strict=True)}
    waits = any(
        matches[stored.id][0] == "unmatched"
        and (at := evidence.observed_at if evidence.received_at is None else evidence.received_at) is not None
        and -DAY <= now - at <= _NEW
        for stored, evidence in items
    )
    return Settled(tuple(changes), tuple(_rebinds(before, candidates, items)), matches, waits)


def _traced(items: list[tuple[StoredEvidence, Evidence]]) -> list[tuple[StoredEvidence, Evidence]]:
    """The items with the address before a rewriting, where another of the same mail tells of it."""
    before: dict[tuple[str, str], str] = {}
    for _, item in sorted(items, key=lambda pair: pair[0].row.digest):
        new, old = address_key(item.recipient), address_key(item.original_recipient)
        if new and old and new != old:
            before.setdefault((_mail_of(item), new), old)
    if not before:
        return items
    return [(stored, _with_first(item, before)) for stored, item in items]


def _with_first(item: Evidence, before: Mapping[tuple[str, str], str]) -> Evidence:
    address, passed = address_key(item.original_recipient or item.recipient), set[str]()
    while (older := before.get((_mail_of(item), address))) is not None and address not in passed:
        passed.add(address)
        address = older
    return replace(item, original_recipient=address) if passed else item


def _mail_of(item: Evidence) -> str:
    return item.network_message_id or message_key(item.message_id)


def _rank(evidence: Evidence, digest: bytes, candidates: Sequence[Candidate]) -> tuple[object, ...]:
    """The order in which rows bind network message ids."""
    gaps = [
        abs(when - evidence.received_at)
        for candidate in candidates
        for recipient in candidate.recipients
        for attempt in recipient.attempts
        if evidence.received_at is not None and (when := taken_at(attempt)) is not None
    ]
    named = parse_attempt_key(evidence.envelope_id) is not None
    nearest = min(gaps, default=None)
    return not named, nearest is None, nearest or 0, evidence.network_message_id, digest


def _bound(
    evidence: Sequence[Evidence],
    candidates: tuple[Candidate, ...],
    destination_of: DestinationOf,
    now: Ms,
) -> tuple[Candidate, ...]:
    """The candidates with every network message id bound that a row binds."""
    binds = True
    while binds:
        binds = False
        for item in evidence:
            if not item.network_message_id:
                continue
            answer = match(item, candidates, destination_of, now)
            if isinstance(answer, Matched) and answer.owned is not None and answer.owned.binds:
                offer = next(a.offer for a in answer.recipient.attempts if a.no == answer.owned.no)
                network = item.network_message_id
                candidates = tuple(
                    _rebound(candidate, lambda a, o=offer, i=network: _with(a, o, i))
                    for candidate in candidates
                )
                binds = True
    return candidates


def _rebound(candidate: Candidate, change: object) -> Candidate:
    def of(recipient: CandidateRecipient) -> CandidateRecipient:
        attempts = tuple(change(attempt) for attempt in recipient.attempts)  # type: ignore[operator]
        return recipient if attempts == recipient.attempts else replace(recipient, attempts=attempts)

    return replace(candidate, recipients=tuple(map(of, candidate.recipients)))


def _without(attempt: CandidateAttempt, ids: set[str]) -> CandidateAttempt:
    kept = tuple(one for one in attempt.network_message_ids if one not in ids)
    return attempt if kept == attempt.network_message_ids else replace(attempt, network_message_ids=kept)


def _with(attempt: CandidateAttempt, offer: int, network: str) -> CandidateAttempt:
    if attempt.offer != offer or network in attempt.network_message_ids:
        return attempt
    return replace(attempt, network_message_ids=(*attempt.network_message_ids, network))


def _is_so(stored: StoredEvidence, one: Observed) -> bool:
    """Whether the row is filed as it should be."""
    if one.member is not None or stored.match != one.match:
        return False
    links: frozenset[RecipientKey] = frozenset()
    if one.owner is None:
        links = frozenset(RecipientKey(move.message, move.n) for move in one.moves)
    return (stored.owner, stored.no, stored.links) == (one.owner, one.no, links)


def _rebinds(
    before: Sequence[Candidate],
    after: Sequence[Candidate],
    items: Sequence[tuple[StoredEvidence, Evidence]],
) -> Iterator[Rebind]:
    was, now = _bindings(before), _bindings(after)
    for offer, network in sorted(was - now):
        yield Rebind(offer, network, None)
    for offer, network in sorted(now - was):
        times = [
            row.received_at if row.received_at is not None else row.observed_at or row.read_at
            for row in (stored.row for stored, _ in items)
            if row.network_message_id == network
        ]
        yield Rebind(offer, network, min(times))


def _bindings(candidates: Sequence[Candidate]) -> set[tuple[int, str]]:
    return {
        (attempt.offer, network)
        for candidate in candidates
        for recipient in candidate.recipients
        for attempt in recipient.attempts
        for network in attempt.network_message_ids
    }
