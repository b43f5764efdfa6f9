"""What an offer's result for a recipient means, and which event of the recipient's table it is.

Promises: pure and total. A 5xx settles a recipient as failed only when it is *known* to be beyond mending;
everything else a next hop refuses stays recoverable and is shown, and nothing but a person or a mended
route sends it again.

Source: model/recipient.py (the table); design, section 3 (`failed`, `expired`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from resubmit.handoff import prepare
from resubmit.meaning.classify import meaning_of
from resubmit.model.attempt import Handed, Offered, Result, Stage
from resubmit.model.evidence import Cause, Meaning, Mend, Scope
from resubmit.model.recipient import Event

_OF_THE_MAIL = frozenset({Cause.RECIPIENT, Cause.SIZE, Cause.CONTENT, Cause.POLICY})
"""Causes that lie in the mail or its recipient: another attempt with the same bytes meets the same no."""

_BEFORE_MAIL = frozenset(
    {Stage.LOOKUP, Stage.CONNECT, Stage.GREETING, Stage.EHLO, Stage.STARTTLS, Stage.TLS, Stage.AUTH}
)
"""Steps at which this mail was not spoken of yet: what fails there concerns the route."""
_LOST = Meaning(
    Cause.CONNECTION,
    Scope.ROUTE,
    Mend.TIME,
    "The connection broke or fell silent; it is tried again.",
    "connection_lost",
)

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


@dataclass(frozen=True, slots=True)
class Weighed:
    """One recipient's result with what follows. `meaning`: None when it was accepted. `why`: the reply, or
    what happened, on one line. `throttled`: the next hop asks for less. `again`: it is to be retried."""

    event: Event
    meaning: Meaning | None
    why: str
    throttled: bool
    again: bool


def weigh(offered: Offered, handed: Handed, *, final: bool) -> Weighed:
    """What a recipient's result means on this offer. `final`: a 250 on this route is a delivery."""
    said = offered.reply.line() if offered.reply else ""
    why = "; ".join(part for part in (said, offered.text) if part)
    if offered.result is Result.ACCEPTED:
        return Weighed(Event.REPLY_FINAL if final else Event.REPLY_ACCEPTED, None, why, False, False)
    meaning = _meaning(offered, handed)
    event = event_of(offered, meaning, final=final)
    throttled = offered.result is Result.DEFERRED and meaning.cause is Cause.THROTTLE
    return Weighed(event, meaning, why, throttled, again=event is Event.REPLY_DEFERRED)


def tally(results: Sequence[Offered]) -> dict[str, int]:
    """How many recipients got which result."""
    counts: dict[str, int] = {}
    for offered in results:
        counts[offered.result.value] = counts.get(offered.result.value, 0) + 1
    return counts


def _meaning(offered: Offered, handed: Handed) -> Meaning:
    own = own_meaning(offered)
    if own is not None:
        return own
    reply = offered.reply
    if reply is None and (offered.stage is Stage.EHLO or offered.stage not in _BEFORE_MAIL):
        return _LOST if _is_loss(offered) else meaning_of(offered.text, where=offered.stage.value)
    if reply is None:
        meaning = meaning_of(offered.text, where=offered.stage.value)
    else:
        meaning = meaning_of(reply.line(), code=reply.code, where=offered.stage.value)
    if handed.tls_below and meaning.cause is not Cause.TLS:
        # Whatever was said (454, a closed connection): mail waits because TLS can't be had.
        meaning = replace(meaning, cause=Cause.TLS, mend=Mend.GATE)
    if offered.stage in _BEFORE_MAIL:
        meaning = replace(meaning, scope=Scope.ROUTE)
    return meaning


def _is_loss(offered: Offered) -> bool:
    return not offered.text.startswith(prepare.BODY_UNREADABLE)


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
