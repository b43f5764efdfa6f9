"""From what a recipient got and what that means to the event of the recipient's table.

Promises: pure and total. A 5xx settles a recipient as failed only when it is *known* to be beyond mending;
everything else a next hop refuses stays recoverable and is shown, and nothing but a person or a mended
route sends it again.

Source: model/recipient.py (the table); design, section 3 (`failed`, `expired`).
"""

from __future__ import annotations

from typing import assert_never

from resubmit.handoff import prepare
from resubmit.model.attempt import Offered, Result
from resubmit.model.evidence import Cause, Meaning, Mend, Scope
from resubmit.model.recipient import Event

_OF_THE_MAIL = frozenset({Cause.RECIPIENT, Cause.SIZE, Cause.CONTENT, Cause.POLICY})
"""Causes that lie in the mail or its recipient: another attempt with the same bytes meets the same no."""

_OWN = (
    (
        prepare.NEEDS_SMTPUTF8,
        Meaning(
            Cause.CONTENT,
            Scope.ROUTE,
            Mend.PERSON,
            "Send it over a route whose next hop offers SMTPUTF8, or to an address in ASCII.",
            "smtputf8_missing",
        ),
    ),
    (
        prepare.TOO_LARGE,
        Meaning(
            Cause.SIZE,
            Scope.MESSAGE,
            Mend.PERSON,
            "Raise the next hop's message size limit, or send it in parts.",
            "size_above_hop",
        ),
    ),
    (
        prepare.BAD_ADDRESS,
        Meaning(
            Cause.RECIPIENT,
            Scope.RECIPIENT,
            Mend.PERSON,
            "Redirect it to the address that was meant.",
            "address_unsendable",
        ),
    ),
    (
        prepare.BARE_NEWLINE,
        Meaning(
            Cause.CONTENT,
            Scope.MESSAGE,
            Mend.PERSON,
            "The sender has to send it again with CRLF line ends.",
            "bare_newline",
        ),
    ),
)


def own_meaning(offered: Offered) -> Meaning | None:
    """What a refusal of our own means (no reply: it was never offered); None for everything else."""
    if offered.reply is not None or offered.result is not Result.REFUSED:
        return None
    return next((meaning for text, meaning in _OWN if offered.text.startswith(text)), None)


def is_beyond_mending(meaning: Meaning) -> bool:
    """Whether a refusal with this meaning will be one for ever, and a known sign says so."""
    if not meaning.sign or meaning.scope in (Scope.ROUTE, Scope.DESTINATION):
        return False
    match meaning.mend:
        case Mend.NEVER:
            return True
        case Mend.PERSON:
            return meaning.cause in _OF_THE_MAIL
        case Mend.GATE | Mend.TIME:
            return False
        case _:
            assert_never(meaning.mend)


def event_of(offered: Offered, meaning: Meaning, *, final: bool) -> Event:
    """The event for the table. `final`: a 250 on this route is a delivery."""
    match offered.result:
        case Result.ACCEPTED:
            return Event.REPLY_FINAL if final else Event.REPLY_ACCEPTED
        case Result.DEFERRED:
            return Event.REPLY_DEFERRED
        case Result.REFUSED:
            return Event.REPLY_REFUSED if is_beyond_mending(meaning) else Event.REPLY_REFUSED_MENDABLE
        case Result.LOST:
            return Event.REPLY_LOST
        case _:
            assert_never(offered.result)
