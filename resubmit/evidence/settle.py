"""What a piece of evidence does to whom: evidence and candidates → one Observed for the journal.

Pure, and blind to the order in which evidence comes: within an attempt the table's ranks decide, between
attempts ownership does, and what is not sure on its own is decided with all the rest (resettle.py).

Source: design, section 3 rules 1, 2, 3, 6, 7, 8; states.md.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from resubmit.evidence.digest import digest_of
from resubmit.evidence.matching import Ambiguous, DestinationOf, Matched, MemberOf, match, nobody
from resubmit.journal.verbs import Candidate, EvidenceRow, Member, Move, Observed, UnmatchedEvidence
from resubmit.meaning.events import event_of
from resubmit.model.envelope import address_key
from resubmit.model.evidence import Evidence, Holder, Meaning, Source, Status
from resubmit.model.message import message_key
from resubmit.model.moment import SECOND, Ms
from resubmit.model.recipient import Event, RecipientKey

Endpoints = Mapping[str, Collection[str]]
"""Names and addresses of each destination's endpoint, lower case, by the destination's name."""

_BAD = frozenset({Status.PENDING, Status.DEFERRED, Status.EXPIRED, Status.FAILED})
_SETTLING = frozenset({Status.DELIVERED, Status.EXPANDED, Status.FILTERED})
_FAULTY = frozenset({Status.DEFERRED, Status.EXPIRED, Status.FAILED})
_HOSTS = re.compile(r"[\w.:-]+")
_SHOWN = 300
"""Characters of a reply that a history row repeats; the evidence keeps it whole."""


def conclude(
    evidence: Evidence,
    candidates: Sequence[Candidate],
    unowned: Sequence[UnmatchedEvidence],
    *,
    now: Ms,
    endpoints: Endpoints,
    destination_of: DestinationOf,
    refile: int | None = None,
    digest: bytes | None = None,
) -> Observed:
    """What the evidence does. candidates: the messages it may be about; unowned: stored rows of the same
    message key and recipient that have no owner (rule 8 counts them). refile: the id of the stored row it
    comes from, with that row's digest. Never raises."""
    digest = digest or digest_of(evidence)
    evidence = _arrived(evidence, endpoints, destination_of)
    row = row_of(evidence, digest, now)
    answer = match(evidence, candidates, destination_of, now)
    if isinstance(answer, Matched):
        return _of_one(evidence, answer, row, now, refile)
    if isinstance(answer, MemberOf):
        return _of_member(evidence, answer, row, now, refile)
    if isinstance(answer, Ambiguous):
        moves = _of_several(evidence, answer, row, unowned, now)
        return Observed(row, "ambiguous", answer.why, moves=moves, refile=refile)
    return Observed(row, "unmatched", answer.why, refile=refile)


def nobodys(
    evidence: Evidence, *, now: Ms, endpoints: Endpoints, destination_of: DestinationOf, digest: bytes
) -> Observed:
    """The evidence where there is no message that it may be about: `conclude` without candidates."""
    evidence = _arrived(evidence, endpoints, destination_of)
    return Observed(row_of(evidence, digest, now), "unmatched", nobody(evidence).why)


def is_sure(observed: Observed) -> bool:
    """Whether what was concluded holds whatever else is or will be known of the messages."""
    # What binds an id, makes a member, tells of a group or of a rewriting may give other rows their owner.
    return (
        observed.owner is not None
        and observed.no is not None
        and observed.row.status != Status.EXPANDED
        and not observed.row.original_recipient
        and not observed.binds
        and observed.member is None
    )


def alone(concluded: Sequence[Observed], found: Sequence[Sequence[Candidate]]) -> set[int]:
    """The places of all that is known of a message nothing was heard of before, where what was concluded of
    each alone is what all of them together come to.

    They have no other candidate, and all bind one network message id to one offer.
    """
    of: dict[int, list[int]] = {}
    spoilt: set[int] = set()
    bound: dict[int, tuple[str, int]] = {}
    for place, (one, candidates) in enumerate(zip(concluded, found, strict=True)):
        if not candidates:
            continue
        message = candidates[0].message
        of.setdefault(message, []).append(place)
        offer = None
        if len(candidates) == 1 and candidates[0].alone:
            offer = _offer(one, candidates[0])
        binds = (one.row.network_message_id, offer or 0)
        if offer is None or bound.setdefault(message, binds) != binds:
            spoilt.update(candidate.message for candidate in candidates)
    return {place for message, places in of.items() if message not in spoilt for place in places}


def _offer(one: Observed, candidate: Candidate) -> int | None:
    """The offer that evidence binds its network message id to, None where it binds none."""
    if one.owner is None or one.owner.message != candidate.message or not one.binds or one.member is not None:
        return None
    return next(
        (
            attempt.offer
            for recipient in candidate.recipients
            if recipient.n == one.owner.n
            for attempt in recipient.attempts
            if attempt.no == one.no
        ),
        None,
    )


def unowned(observed: Observed) -> Observed:
    """The evidence kept as it is, to be decided later."""
    return Observed(observed.row, "unmatched", observed.why)


def _arrived(evidence: Evidence, endpoints: Endpoints, destination_of: DestinationOf) -> Evidence:
    """Rule 7: passed on to the destination's own endpoint is delivered, to elsewhere only passed on."""
    if evidence.status is not Status.RELAYED or evidence.source not in _TRACES:
        return evidence
    home = destination_of(evidence.recipient) if evidence.recipient else None
    ends = endpoints.get(home.name, ()) if home else ()
    hosts = {host.rstrip(".") for host in _HOSTS.findall(evidence.remote.lower())}
    return replace(evidence, status=Status.DELIVERED) if hosts.intersection(ends) else evidence


_TRACES = frozenset({Source.TRACE_CSV, Source.TRACE_GRAPH})


def _of_one(evidence: Evidence, answer: Matched, row: EvidenceRow, now: Ms, refile: int | None) -> Observed:
    recipient, owned = answer.recipient, answer.owned
    key = RecipientKey(answer.candidate.message, recipient.n)
    if recipient.attempt == 0:
        return Observed(row, "unmatched", f"{answer.why}; no attempt was made yet", refile=refile)
    if owned is None:
        if answer.waits:
            return Observed(row, "unmatched", f"{answer.why}; an attempt is still open", refile=refile)
        if evidence.status is not Status.DELIVERED:
            why = f"{answer.why}; no attempt of ours was taken at that time"
            return Observed(row, "unmatched", why, refile=refile)
        # It belongs to no attempt: then only "delivered" moves, and it does so from any of them.
        move = _move(evidence, answer, Event.LATE_DELIVERED, now, answer.why)
        return Observed(row, "matched", answer.why, key, None, moves=(move,), refile=refile)
    current = owned.no == recipient.attempt
    event = event_of(evidence.status, evidence.meaning, current=current, holder=recipient.holder)
    move = _move(evidence, answer, event, now, answer.why)
    return Observed(
        row, "matched", answer.why, key, owned.no, binds=owned.binds, moves=(move,), refile=refile
    )


def _of_member(
    evidence: Evidence, answer: MemberOf, row: EvidenceRow, now: Ms, refile: int | None
) -> Observed:
    key = RecipientKey(answer.candidate.message, answer.group.n)
    member = Member(
        evidence.recipient, answer.home.name, answer.home.route, answer.group.n, evidence.network_message_id
    )
    event = event_of(evidence.status, evidence.meaning, current=True, holder=Holder.FAR)
    move = _moved(evidence, key, event, answer.no, now, answer.why)
    return Observed(row, "matched", answer.why, key, answer.no, member=member, moves=(move,), refile=refile)


def _of_several(
    evidence: Evidence, answer: Ambiguous, row: EvidenceRow, unowned: Sequence[UnmatchedEvidence], now: Ms
) -> tuple[Move, ...]:
    """Rule 8: bad news moves each, good news none until there is as much of it as there are choices."""
    if evidence.status in _SETTLING:
        if len(_told(row, unowned)) < len(answer.choices):
            return ()
    elif evidence.status not in _BAD:
        return ()
    moves = []
    for choice in answer.choices:
        owned, recipient = choice.owned, choice.recipient
        if recipient.attempt == 0:
            continue
        if owned is None and evidence.status is not Status.DELIVERED:
            continue
        current = owned is not None and owned.no == recipient.attempt
        # A failure of one of them must not settle the others: it can be had back.
        status = Status.EXPIRED if evidence.status is Status.FAILED else evidence.status
        event = event_of(status, evidence.meaning, current=current, holder=recipient.holder)
        moves.append(_move(evidence, choice, event, now, answer.why))
    return tuple(moves)


def _told(row: EvidenceRow, unowned: Sequence[UnmatchedEvidence]) -> set[str]:
    """How many different mails say the same as this row: by network message id, else by when taken."""
    same = [
        other.row
        for other in unowned
        if other.match == "ambiguous"
        and other.row.status == row.status
        and other.row.key == row.key
        and address_key(other.row.recipient) == address_key(row.recipient)
        and (row.key or (other.row.sender, other.row.subject) == (row.sender, row.subject))
    ]
    return {r.network_message_id or f"at {(r.received_at or 0) // SECOND}" for r in (row, *same)}


def _move(evidence: Evidence, choice: Matched, event: Event, now: Ms, why: str) -> Move:
    key = RecipientKey(choice.candidate.message, choice.recipient.n)
    return _moved(evidence, key, event, choice.recipient.attempt, now, why)


def _moved(evidence: Evidence, key: RecipientKey, event: Event, attempt: int, now: Ms, why: str) -> Move:
    """A move with its cause and holder, where the event is about the attempt as it stands."""
    shown = f": {evidence.text[:_SHOWN]}" if evidence.text else ""
    about = event is not Event.LATE_OTHER
    meaning = evidence.meaning if about and evidence.status in _FAULTY else None
    return Move(
        key.message,
        key.n,
        event,
        now,
        f"{evidence.source} says {evidence.status}{shown} ({why})",
        attempt=attempt,
        since=evidence.observed_at,
        cause=meaning.cause if meaning else None,
        scope=meaning.scope if meaning else None,
        mend=meaning.mend if meaning else None,
        holder=evidence.holder if about else None,
    )


def row_of(evidence: Evidence, digest: bytes, now: Ms) -> EvidenceRow:
    """The evidence as the journal stores it."""
    meaning = evidence.meaning
    return EvidenceRow(
        source=evidence.source.value,
        digest=digest,
        status=evidence.status.value,
        recipient=evidence.recipient,
        original_recipient=evidence.original_recipient,
        group=evidence.group,
        observed_at=evidence.observed_at,
        received_at=evidence.received_at,
        key=message_key(evidence.message_id),
        message_id=evidence.message_id,
        network_message_id=evidence.network_message_id,
        envelope_id=evidence.envelope_id,
        queue_id=evidence.queue_id,
        sender=evidence.sender,
        subject=evidence.subject,
        size=evidence.size,
        code=evidence.code,
        enhanced=evidence.enhanced_code,
        text=evidence.text,
        remote=evidence.remote,
        cause=meaning.cause if meaning else None,
        scope=meaning.scope if meaning else None,
        mend=meaning.mend if meaning else None,
        file=evidence.file,
        place=evidence.place,
        raw=evidence.raw,
        read_at=now,
    )


def evidence_of(row: EvidenceRow) -> Evidence:
    """A stored row as evidence again, without the advice."""
    known = row.cause is not None and row.scope is not None and row.mend is not None
    status = Status(row.status)
    return Evidence(
        source=Source(row.source),
        status=status,
        recipient=row.recipient,
        original_recipient=row.original_recipient,
        group=row.group,
        observed_at=row.observed_at,
        received_at=row.received_at,
        message_id=row.message_id,
        network_message_id=row.network_message_id,
        envelope_id=row.envelope_id,
        queue_id=row.queue_id,
        sender=row.sender,
        subject=row.subject,
        size=row.size,
        code=row.code,
        enhanced_code=row.enhanced,
        text=row.text,
        remote=row.remote,
        holder=_holder(row, status),
        meaning=Meaning(row.cause, row.scope, row.mend) if known else None,  # type: ignore[arg-type]
        file=row.file,
        place=row.place,
        raw=row.raw,
    )


def _holder(row: EvidenceRow, status: Status) -> Holder:
    """Who has the mail by a stored row: what a relay put off is still its own (design rule 7)."""
    if status in (Status.FAILED, Status.EXPIRED):
        return Holder.NOBODY
    kept = status in (Status.DEFERRED, Status.PENDING) and row.source in _RELAYS
    return Holder.RELAY if kept else Holder.FAR


_RELAYS = frozenset({Source.POSTFIX_LOG, Source.EXCHANGE_TRACKING_LOG})
"""Whose own words these are, of mail in their queues."""
