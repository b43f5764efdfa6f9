"""What time does: attempts in doubt are settled, and what we hold too long is given up. Part of `recover`."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from resubmit import logbook
from resubmit.handoff import notice
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Move, Moved
from resubmit.model.ids import id_text
from resubmit.model.moment import Ms
from resubmit.recovery import doubt, lastlook
from resubmit.recovery.due import Due
from resubmit.recovery.policy import Policy

log = structlog.get_logger()

_MANY = 500


class Timers:
    """Asks the rules about those whom time moves. `final`: the routes whose 250 is a delivery."""

    def __init__(self, journal: Journal, policy: Policy, final: frozenset[str]) -> None:
        self._journal = journal
        self._policy = policy
        self._final = final
        self._asked: frozenset[str] = frozenset()

    async def ring(self, now: Ms) -> Ms | None:
        """What is due by now is done; when the next is, None when nothing waits for a time."""
        journal, policy = self._journal, self._policy
        standings = await journal.timers(now, _MANY)
        if not standings:
            return None
        coverage = await journal.coverage(lastlook.since(policy.trace_stale, now))
        live = lastlook.is_live(coverage, policy.trace_stale, now)
        span = doubt.span_of(standings) if live else None
        taken = await journal.accepted_between(*span) if span else []
        judged = (
            doubt.after_time(one, taken, coverage, policy, live=live, final=self._final, now=now)
            for one in standings
        )
        found = [due for due in judged if due is not None]
        await bring(journal, found, now)
        questions = frozenset(due.why for due in found if due.ask)
        for why in sorted(questions - self._asked):
            log.error(logbook.RECOVERY_ASKED, why=why)
        self._asked = questions
        return min((due.wake_at for due in found if due.wake_at is not None), default=None)


async def bring(journal: Journal, dues: Sequence[Due], now: Ms) -> None:
    """The events of these, where they have one, are brought to their recipients."""
    moves = [
        Move(
            due.key.message,
            due.key.n,
            due.event,
            now,
            due.why,
            attempt=due.attempt,
            holder=due.holder,
            due_at=due.due_at,
            notice=notice.owed(due.event, None, (), no=due.attempt),
        )
        for due in dues
        if due.event is not None
    ]
    for move, done in zip(moves, await journal.move(moves) if moves else [], strict=True):
        if isinstance(done, Moved) and done.from_ is not done.to:
            tell = log.error if move.notice or done.to in doubt.ALARMING else log.warning
            tell(
                logbook.RECIPIENT_MOVED_BY_TIME,
                message_id=id_text(move.message),
                recipient=move.n,
                before=done.from_,
                now=done.to,
                why=move.why,
            )
