"""Of which rows the events are asked for: what is ours, is stuck, and has no cause yet.

Promises: pure but for its own memory, which is bounded; a row's events are asked for in growing gaps as long
as they give no cause, those never asked about first, then by age.

Source: design, section 4 (*never one query a recipient*: only for what is stuck without a cause).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from resubmit.evidence.graph import SLACK
from resubmit.journal.verbs import Candidate, Standing
from resubmit.model.envelope import address_key
from resubmit.model.evidence import Evidence, Status
from resubmit.model.moment import HOUR, MINUTE, Ms
from resubmit.model.recipient import RecipientKey, State

OPEN = (State.ACCEPTED, State.IN_DOUBT, State.PENDING, State.DEFERRED)
"""The states whose fate the trace may tell."""
STUCK = OPEN[1:]
MAY_GO = (*OPEN, State.EXPIRED)
"""Those that may be sent again: what the trace says of them has to be known before."""
_TELLING = frozenset({Status.PENDING, Status.FAILED})
_UNEXPLAINED = frozenset({State.ACCEPTED, State.PENDING, State.EXPIRED, State.FAILED})
_FIRST_GAP, _LONGEST_GAP = MINUTE, HOUR
_MOST = 20_000


def taken_at(standing: Standing) -> Ms:
    """When the far side took a recipient's mail, as far as we know."""
    known = [at for at in (standing.accepted_at, standing.dot_at) if at is not None]
    return min(known, default=standing.since)


def may_want_details(row: Evidence) -> bool:
    """Whether a row's events may say more than it does."""
    return row.status in _TELLING


def is_of_ours(candidates: Sequence[Candidate]) -> bool:
    """Whether a row may be about a mail of ours: of others nothing is kept."""
    return bool(candidates)


def is_first_seen(row: Evidence, candidates: Sequence[Candidate]) -> bool:
    """Whether a row tells of an attempt of which no trace told before; so it was not there before."""
    attempts = [a for c in candidates for r in c.recipients for a in r.attempts]
    if not row.network_message_id or any(row.network_message_id in a.network_message_ids for a in attempts):
        return False
    at = row.received_at
    return at is not None and any(
        a.accepted_at is not None and abs(a.accepted_at - at) < SLACK and not a.network_message_ids
        for a in attempts
    )


class Details:
    """Which rows were asked about, and how often."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], tuple[Evidence, RecipientKey]] = {}
        self._asked: dict[tuple[str, str], tuple[int, Ms]] = {}

    def consider(self, row: Evidence, candidates: Sequence[Candidate]) -> None:
        """A row of a list: kept if its events may have to be asked for."""
        key = (row.network_message_id, address_key(row.recipient))
        self._rows.pop(key, None)
        if row.status not in _TELLING or not all(key):
            return
        for candidate in candidates:
            for recipient in candidate.recipients:
                if key[1] in (address_key(recipient.address), address_key(recipient.original)):
                    if len(self._rows) >= _MOST:
                        del self._rows[next(iter(self._rows))]
                    self._rows[key] = (row, RecipientKey(candidate.message, recipient.n))
                    return

    def keys(self) -> list[RecipientKey]:
        """Whose standing is to be asked before `wanted`."""
        return sorted({recipient for _, recipient in self._rows.values()})

    def wanted(self, standings: Iterable[Standing], now: Ms) -> list[Evidence]:
        """The rows whose events are to be asked for now, in order."""
        known = {one.key: one for one in standings}
        due: list[tuple[int, Ms, Evidence]] = []
        for key, (row, recipient) in list(self._rows.items()):
            standing = known.get(recipient)
            if standing is None or standing.cause is not None or standing.state not in _UNEXPLAINED:
                del self._rows[key]
                continue
            count, at = self._asked.get(key, (0, 0))
            if count and now - at < min(_FIRST_GAP * 2 ** (count - 1), _LONGEST_GAP) and now >= at:
                continue
            due.append((count, row.received_at or now, row))
        return [row for _, _, row in sorted(due, key=lambda one: one[:2])]

    def asked(self, row: Evidence, now: Ms) -> None:
        """Its events were asked for."""
        key = (row.network_message_id, address_key(row.recipient))
        count, _ = self._asked.pop(key, (0, 0))
        if len(self._asked) >= _MOST:
            del self._asked[next(iter(self._asked))]
        self._asked[key] = (min(count + 1, 10), now)
