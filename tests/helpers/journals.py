"""A journal to write to in tests: a clock that is set by hand, and a builder for each value a verb takes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from resubmit.journal.door import Journal
from resubmit.journal.verbs import (
    Arrival,
    ArrivingRecipient,
    Begun,
    Ended,
    EvidenceRow,
    Expect,
    Move,
    Moved,
    Observed,
    Offer,
    Outcome,
    Stale,
)
from resubmit.model.evidence import Holder
from resubmit.model.message import Body
from resubmit.model.moment import DAY, HOUR, Ms, parse_rfc3339
from resubmit.model.recipient import Event, RecipientKey, State

NOW: Ms = parse_rfc3339("2026-11-24T12:00:00Z")


class HandClock:
    """A clock that stands still until it is set."""

    def __init__(self, now: Ms = NOW) -> None:
        self.chance = random.Random(1)
        self.wall = now
        self.mono: Ms = 0

    def now(self) -> Ms:
        return self.wall

    def monotonic(self) -> Ms:
        return self.mono

    def pass_(self, span: Ms) -> None:
        self.wall += span
        self.mono += span


def body(octets: bytes = b"Subject: a letter\r\n\r\nGood day\r\n") -> Body:
    return Body(len(octets), hashlib.sha256(octets).digest(), octets)


def recipient(address: str = "ann@contoso.com", **values: Any) -> ArrivingRecipient:
    filled: dict[str, Any] = {
        "parameters": (),
        "destination": "hybrid",
        "route": "eop",
        "due_at": NOW,
        "deadline": NOW + 5 * DAY,
        **values,
    }
    return ArrivingRecipient(address=address, **filled)


def arrival(
    *recipients: ArrivingRecipient, octets: bytes = b"Subject: a letter\r\n\r\nGood day\r\n", **values: Any
) -> Arrival:
    """A message as an intake hands it over; to one recipient when none is named."""
    filled: dict[str, Any] = {
        "received_at": NOW,
        "sender": "app@example.org",
        "parameters": ("BODY=8BITMIME",),
        "message_id": "<1@example.org>",
        "subject": "a letter",
        "intake": "smtp",
        "peer": "192.0.2.7",
        "helo": "app.example.org",
        "protocol": "ESMTP",
        "body": body(octets),
        **values,
    }
    return Arrival(recipients=recipients or (recipient(),), **filled)


def offer(message: int, *expects: Expect, at: Ms = NOW, kind: str = "handoff", **values: Any) -> Offer:
    """An offer to recipients as they stand; to recipient 0, fresh from intake, when none is named."""
    filled: dict[str, Any] = {"route": "eop", "kind": kind, "begun_at": at, **values}
    return Offer(message=message, recipients=expects or (Expect(0, State.JOURNALED, 0),), **filled)


def outcome(event: Event = Event.REPLY_ACCEPTED, n: int = 0, **values: Any) -> Outcome:
    filled: dict[str, Any] = {"why": "250 2.0.0 OK", "stage": "dot", "code": 250, "reply": "250 2.0.0 OK"}
    if event is Event.REPLY_ACCEPTED:
        filled |= {"holder": Holder.FAR, "deadline": NOW + DAY}
    return Outcome(n=n, event=event, **{**filled, **values})


def ended(begun: Begun, *outcomes: Outcome, at: Ms = NOW + 1000, **values: Any) -> Ended:
    filled: dict[str, Any] = {
        "dot_at": at,
        "next_key": "4Xyz",
        "remote": "mx.example.net [198.51.100.1]",
        "tls": "TLSv1.3",
        **values,
    }
    given = outcomes or tuple(outcome(n=n) for n in begun.recipients)
    return Ended(offer=begun.offer, ended_at=at, outcomes=given, **filled)


async def attempt(
    journal: Journal,
    message: int,
    event: Event = Event.REPLY_ACCEPTED,
    *,
    n: int = 0,
    at: Ms = NOW,
    **values: Any,
) -> Begun:
    """An attempt for one recipient as it stands now, begun at `at`, ended a second later with `event`."""
    (stands,) = await journal.standing([RecipientKey(message, n)])
    begun = await journal.begin(offer(message, Expect(n, stands.state, stands.attempt), at=at))
    assert isinstance(begun, Begun), begun
    about = {"dot_at": None} if event is Event.REPLY_DEFERRED else {}
    await journal.end(ended(begun, outcome(event, n, **values), at=at + 1000, **about))
    return begun


async def state(journal: Journal, message: int, n: int = 0) -> State:
    (stands,) = await journal.standing([RecipientKey(message, n)])
    return stands.state


def move(message: int, event: Event, n: int = 0, *, at: Ms = NOW + HOUR, **values: Any) -> Move:
    return Move(message=message, n=n, event=event, at=at, why="as told", **values)


def moved(answers: Sequence[Moved | Stale]) -> list[Moved]:
    """The answers, all of which are moves."""
    assert all(isinstance(answer, Moved) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, Moved)]


def row(digest: str = "a", **values: Any) -> EvidenceRow:
    """A line of a message trace."""
    plain = EvidenceRow(
        source="trace_csv",
        digest=hashlib.md5(digest.encode(), usedforsecurity=False).digest(),
        status="deferred",
        recipient="ann@contoso.com",
        original_recipient="",
        group="",
        observed_at=NOW + HOUR,
        received_at=NOW + 1000,
        key="1@example.org",
        message_id="<1@example.org>",
        network_message_id="",
        envelope_id="",
        queue_id="",
        sender="app@example.org",
        subject="a letter",
        size=None,
        code=450,
        enhanced="4.4.317",
        text="certificate expired",
        remote="",
        cause=None,
        scope=None,
        mend=None,
        file="traces/a.csv",
        place="2",
        raw="…",
        read_at=NOW + HOUR,
    )
    return replace(plain, **values)


def seen(
    message: int, event: Event, digest: str = "a", *, n: int = 0, no: int = 1, **values: Any
) -> Observed:
    """Evidence that was matched to attempt `no` of a recipient, with the one move it makes."""
    change = {name: values.pop(name) for name in ("cause", "scope", "mend", "holder") if name in values}
    about = {name: values.pop(name) for name in list(values) if hasattr(EvidenceRow, name)}
    filled: dict[str, Any] = {
        "owner": RecipientKey(message, n),
        "no": no,
        "moves": (move(message, event, n, attempt=no, since=NOW + HOUR, **change),),
        **values,
    }
    scope = {name: value for name, value in change.items() if name != "holder"}
    return Observed(row=row(digest, **(scope | about)), match="matched", why="Message-ID", **filled)
