"""Which attempt a piece of evidence belongs to: design rule 2, and nothing else.

By our own `<journal id>.<n>`; else by the network message id bound to an attempt; else by the id that the
next hop gave the mail in its 250 to an attempt; else, among attempts whose 250 (where none came: whose final
dot) lies within 10 minutes of the time the row says the mail was taken, to the nearest one not bound to
another network message id; else to none.

Limits: a row without a time of receipt, a key or a bound id belongs to no attempt, until a row that has one
binds its id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resubmit.journal.verbs import CandidateAttempt, CandidateRecipient
from resubmit.model.evidence import Evidence
from resubmit.model.moment import DAY, MINUTE, SECOND, Ms

WINDOW: Ms = 10 * MINUTE
WHOLE_SECONDS: Ms = 2 * SECOND
"""Stamps in whole seconds, on both sides: what two times may differ by and still be one."""


CLOCKS: Ms = 2 * MINUTE
"""What the next hop's clock and ours may differ by."""
_KEPT: Ms = 6 * DAY
"""So long after its 250 a next hop's id may mean that mail: queues hold mail for 5 days, and ids come
again."""


@dataclass(frozen=True, slots=True)
class Owned:
    """The attempt, why it is this one, and whether the evidence's network message id is bound by it now."""

    no: int
    why: str
    binds: bool


def taken_at(attempt: CandidateAttempt) -> Ms | None:
    """When the far side took the mail of an attempt, or may have: its 250, else its final dot; else None:
    an attempt that never got so far owns no evidence."""
    return attempt.accepted_at if attempt.accepted_at is not None else attempt.dot_at


def may_own(attempt: CandidateAttempt, network_message_id: str) -> bool:
    """Whether the attempt is not bound to another network message id: a binding stays."""
    return (
        not attempt.network_message_ids
        or not network_message_id
        or network_message_id in attempt.network_message_ids
    )


def own(evidence: Evidence, recipient: CandidateRecipient, key_no: int | None = None) -> Owned | None:
    """The attempt of a recipient that evidence belongs to. key_no: the number in our own key, if it had
    one. None: it belongs to none, so only "delivered" may move the recipient."""
    network = evidence.network_message_id
    if key_no is not None:
        attempt = next((a for a in recipient.attempts if a.no == key_no), None)
        if attempt is None:
            return None
        return Owned(key_no, f"its key names attempt {key_no}", _binds(attempt, network))
    if network:
        bound = next((a for a in recipient.attempts if network in a.network_message_ids), None)
        if bound is not None:
            return Owned(bound.no, f"its network message id is bound to attempt {bound.no}", False)
    named = [attempt for attempt in recipient.attempts if is_named(attempt, evidence)]
    if named:
        attempt = named[-1]
        return Owned(
            attempt.no, f"it is the id the next hop gave attempt {attempt.no}", _binds(attempt, network)
        )
    if evidence.received_at is None:
        return None
    near = [
        (abs(when - evidence.received_at), attempt)
        for attempt in recipient.attempts
        if (when := _when(attempt)) is not None and may_own(attempt, network)
    ]
    near = [pair for pair in near if pair[0] <= WINDOW + WHOLE_SECONDS]
    if not near:
        return None
    distance, attempt = min(near, key=lambda pair: (pair[0], -pair[1].no))
    if taken_at(attempt) is None:
        # It is still open: whether it was taken is not known yet, and an older one is not nearer.
        return None
    why = f"taken within {-(-distance // SECOND)} s of attempt {attempt.no}"
    return Owned(attempt.no, why, _binds(attempt, network))


def whose(
    evidence: Evidence, rows: Sequence[CandidateRecipient], key_no: int | None = None
) -> CandidateRecipient:
    """Of several rows of one address the one whose attempt the evidence may belong to: by our key, a bound
    network message id, the nearest time; else the first."""
    network = evidence.network_message_id
    if key_no is not None:
        named = [row for row in rows if any(a.no == key_no for a in row.attempts)]
        return named[-1] if named else rows[0]
    for row in rows:
        if network and any(network in a.network_message_ids for a in row.attempts):
            return row
    if evidence.received_at is None:
        return rows[0]
    near = [
        (abs(when - evidence.received_at), -attempt.no, place)
        for place, row in enumerate(rows)
        for attempt in row.attempts
        if (when := _when(attempt)) is not None and may_own(attempt, network)
    ]
    return rows[min(near)[2]] if near else rows[0]


def is_named(attempt: CandidateAttempt, evidence: Evidence) -> bool:
    """Whether the evidence bears the id that the next hop gave the mail of an attempt in its 250.

    Exchange's is `<InternalId>@<host>` there, and the number alone in its logs."""
    queue = evidence.queue_id
    if not queue or not attempt.next_key or not may_own(attempt, evidence.network_message_id):
        return False
    if queue != attempt.next_key and not (queue.isdecimal() and attempt.next_key.startswith(f"{queue}@")):
        return False
    at = evidence.received_at if evidence.received_at is not None else evidence.observed_at
    taken = taken_at(attempt)
    return at is None or (taken is not None and -CLOCKS <= at - taken <= _KEPT)


def _when(attempt: CandidateAttempt) -> Ms | None:
    """Where an attempt stands in time: an open one where it began, one that ended without a dot nowhere."""
    when = taken_at(attempt)
    return attempt.begun_at if when is None and attempt.ended_at is None else when


def _binds(attempt: CandidateAttempt, network: str) -> bool:
    return bool(network) and network not in attempt.network_message_ids


def gap(evidence: Evidence, recipient: CandidateRecipient) -> Ms | None:
    """How far the row's time of receipt lies from the nearest span in which an attempt may have been taken,
    0 when inside one; None when there is no such attempt or no such time."""
    received = evidence.received_at
    if received is None:
        return None
    gaps = [
        max(attempt.begun_at - received, received - taken, 0)
        for attempt in recipient.attempts
        if (taken := taken_at(attempt)) is not None and may_own(attempt, evidence.network_message_id)
    ]
    return min(gaps, default=None)
