"""How an offer ended, as the journal takes it: for each recipient result, whose clock runs, notice owed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from resubmit.handoff import notice
from resubmit.handoff.events import Weighed
from resubmit.handoff.routes import Table
from resubmit.handoff.schedule import retry_after
from resubmit.handoff.settings import Destination
from resubmit.journal.verbs import DueMessage, Ended, Outcome
from resubmit.model.attempt import Handed, Offered
from resubmit.model.moment import Ms
from resubmit.recovery import deadline


def ended_of(
    offer: int,
    weighed: Sequence[Weighed],
    due: DueMessage,
    handed: Handed,
    table: Table,
    *,
    no: int,
    at: Ms,
    give_up_after: Ms,
    chance: Random,
) -> Ended:
    """What goes into the journal for an offer that ended at `at`. `weighed`: one a result, in order."""
    where = {recipient.n: table.destinations.get(recipient.destination) for recipient in due.recipients}
    outcomes = tuple(
        outcome_of(
            each,
            due,
            offered,
            handed,
            where[offered.n],
            no=no,
            at=at,
            give_up_after=give_up_after,
            chance=chance,
        )
        for each, offered in zip(weighed, handed.results, strict=True)
    )
    return Ended(
        offer=offer,
        ended_at=at,
        dot_at=handed.dot_at,
        next_key=handed.next_key,
        remote=handed.remote,
        tls=handed.tls,
        outcomes=outcomes,
    )


def outcome_of(
    weighed: Weighed,
    due: DueMessage,
    offered: Offered,
    handed: Handed,
    destination: Destination | None,
    *,
    no: int,
    at: Ms,
    give_up_after: Ms,
    chance: Random,
) -> Outcome:
    """What goes into the journal for one recipient of an offer that ended at `at`."""
    recipient = next(r for r in due.recipients if r.n == offered.n)
    holder, until = deadline.after(
        weighed.event,
        at,
        due.received_at,
        give_up_after=give_up_after,
        expires_after=destination.expires_after if destination else give_up_after,
        was=recipient,
    )
    again = at + retry_after(due.failures, chance) if weighed.again else None
    meaning = weighed.meaning
    return Outcome(
        n=offered.n,
        event=weighed.event,
        why=weighed.why,
        stage=offered.stage,
        code=offered.reply.code if offered.reply else None,
        enhanced=(offered.reply.enhanced or "") if offered.reply else "",
        reply=weighed.why,
        cause=meaning.cause if meaning else None,
        scope=meaning.scope if meaning else None,
        mend=meaning.mend if meaning else None,
        holder=holder,
        due_at=again,
        deadline=until,
        notice=notice.owed(weighed.event, meaning, recipient.parameters, no=no, lacks_dsn=handed.lacks_dsn),
    )
