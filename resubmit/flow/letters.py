"""A message that is due as the letter of one attempt: its recipients, and our trace field on top."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from resubmit.handoff import prepare
from resubmit.handoff.letter import Letter
from resubmit.journal.verbs import DueMessage
from resubmit.model.ids import attempt_key


def letter_of(
    due: DueMessage,
    no: int,
    passed: tuple[int, ...],
    *,
    key: bytes,
    by: str,
    open_body: Callable[[], AsyncIterator[bytes]],
) -> Letter:
    """What goes out as attempt `no`, to those recipients that the journal let `passed`. `key`: the journal's
    own, for the trace field's mac; `by`: our name in it."""
    return Letter(
        sender=due.sender,
        parameters=due.parameters,
        recipients=tuple((r.n, r.address, r.parameters) for r in due.recipients if r.n in passed),
        head=prepare.trace_field(
            key=key,
            message=due.message,
            no=no,
            by=by,
            helo=due.helo,
            peer=due.peer,
            protocol=due.protocol,
            received_at=due.received_at,
        ),
        size=due.body.size,
        open_body=open_body,
        key=attempt_key(due.message, no),
        no=no,
    )
