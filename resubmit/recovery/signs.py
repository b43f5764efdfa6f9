"""What speaks for the health of a destination, and what against it. (design 4, *Evidence beats probe*)

Promises: pure; a sign is about the present or it is none. An NDR never is, nor is news of an attempt that was
taken before the fix; deliveries to cloud mailboxes of the same domain say nothing of the endpoint.
"""

from __future__ import annotations

from collections.abc import Sequence

from resubmit.model.evidence import Cause, Scope, Status
from resubmit.model.moment import Ms
from resubmit.recovery.facts import Fault, Look
from resubmit.recovery.words import at_text, many

# fmt: off
_CONNECTION_CODES = frozenset((
    "dns_failed", "connect_timeout", "connect_refused", "greeting_timeout", "greeting_closed",
    "greeting_refused", "not_smtp", "blocklisted",
))
# fmt: on
_SHOWN = 200


def speaks_against(fault: Fault, fixed_at: Ms | None) -> bool:
    """Whether it is a deferral of the whole destination, and about the present.

    With a known fix only an attempt taken after it is about the present; an NDR never is."""
    if fault.scope is not Scope.DESTINATION or fault.status not in (Status.DEFERRED, Status.PENDING):
        return False
    if fixed_at is None:
        return True
    return fault.attempt_accepted_at is not None and fault.attempt_accepted_at > fixed_at


def speaks_for(fault: Fault, names_endpoint: bool) -> bool:
    """Whether it is a delivery that says something of this endpoint: cloud mailboxes of the same domain
    are delivered all the time."""
    return fault.status == Status.DELIVERED and (fault.was_deferred or names_endpoint)


def newest_first(faults: Sequence[Fault]) -> list[Fault]:
    """In an order that does not depend on the one they came in."""
    return sorted(faults, key=lambda f: (f.at, f.read_at, f.text), reverse=True)


def cause_of_codes(codes: Sequence[str]) -> Cause:
    """The class of what a faulty look found."""
    return Cause.CONNECTION if codes and codes[0] in _CONNECTION_CODES else Cause.TLS


def cause_of(against: Sequence[Fault]) -> str:
    """The class of what deferrals say, the newest first."""
    causes = [f.cause for f in against if f.cause is not None]
    return causes[0] if causes else Cause.OTHER


def deferrals_text(against: Sequence[Fault]) -> str:
    """Deferrals in a reason, the newest first in `against`."""
    newest = against[0]
    words = " ".join(newest.text.split())
    shown = words if len(words) <= _SHOWN else words[: _SHOWN - 1] + "…"
    count = many(len(against), "deferral")
    return f"{count} of the whole destination, the last at {at_text(newest.at)}: {shown}"


def delivery_text(good: Fault) -> str:
    """A delivery that speaks for health, in a reason."""
    if good.was_deferred:
        return f"mail that was stuck here was delivered at {at_text(good.at)}"
    return f"a delivery at {at_text(good.at)} names the endpoint {good.remote}"


def look_text(look: Look) -> str:
    """What a faulty look found, in a reason."""
    return f"the look at {at_text(look.at)} is faulty: {codes_text(look)}"


def codes_text(look: Look) -> str:
    return " ".join(look.blamed) or "no code"
