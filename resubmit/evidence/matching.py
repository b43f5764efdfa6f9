"""Whose a piece of evidence is: message, recipient and attempt, and why; or between whom it can't decide.

By the best key there is: our own `<journal id>.<n>`; the network message id bound to an attempt; the id that
the next hop gave an attempt; Message-ID and recipient, with a tag (`ann+news@x`) only where no address fits
without; and for a row without a Message-ID sender, recipient, start of subject, size and 90 seconds.
Message-ID alone never merges two messages: those that share one are told apart by the attempt's time, and
where that can't be, the answer is Ambiguous.

Source: design, section 3 rules 2, 6 and 8; section 6.2 (rows without Message-ID).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from resubmit.evidence.ownership import WHOLE_SECONDS, WINDOW, Owned, gap, is_named, own, whose
from resubmit.journal.verbs import Candidate, CandidateRecipient, Lookup
from resubmit.model.envelope import address_key
from resubmit.model.evidence import Evidence
from resubmit.model.ids import parse_attempt_key
from resubmit.model.message import message_key
from resubmit.model.moment import DAY, SECOND, Ms
from resubmit.model.recipient import State

WITHOUT_ID: Ms = 90 * SECOND

_NOT_THEN = ", and none was taken then"
_COUNT = re.compile(r"^\d+")

_HEADERS = 64 * 1024
"""What hops may add to a header."""

_BY_ID = "Message-ID and recipient"
_BY_TIME = "sender, recipient, subject and time"
_NO_ID = f"no message of ours has this {_BY_ID}"
_NO_LIKE = f"no message of ours has this {_BY_TIME}"


@dataclass(frozen=True, slots=True)
class Home:
    """The configured destination of an address. `rest`: it is `"*"`; `route`: the one for resubmission."""

    name: str
    route: str
    rest: bool = False


DestinationOf: TypeAlias = Callable[[str], Home | None]


@dataclass(frozen=True, slots=True)
class Matched:
    """One recipient of one message. owned: its attempt, None where it belongs to none. waits: an attempt is
    open, so that the answer may change in a moment."""

    candidate: Candidate
    recipient: CandidateRecipient
    owned: Owned | None
    why: str
    waits: bool = False


@dataclass(frozen=True, slots=True)
class MemberOf:
    """An address outside the envelope that a group of it was expanded to: a recipient to be derived."""

    candidate: Candidate
    group: CandidateRecipient
    no: int
    home: Home
    why: str


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Several messages that can't be told apart."""

    choices: tuple[Matched, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Nobody's, as far as is known now."""

    why: str


Answer: TypeAlias = Matched | MemberOf | Ambiguous | Unmatched


def lookup_of(evidence: Evidence) -> Lookup:
    """What the journal is asked for to find candidates."""
    named = parse_attempt_key(evidence.envelope_id)
    return Lookup(
        key=message_key(evidence.message_id),
        network_message_id=evidence.network_message_id,
        attempt_message=named[0] if named else None,
        queue_id=evidence.queue_id,
        sender=evidence.sender,
        recipient=evidence.recipient,
        subject=evidence.subject,
        received_at=evidence.received_at if evidence.received_at is not None else evidence.observed_at,
    )


def match(
    evidence: Evidence, candidates: Sequence[Candidate], destination_of: DestinationOf, now: Ms
) -> Answer:
    """Whose the evidence is. Pure; the candidates are all messages it may be about. now: where several may
    be meant, nothing is decided as long as an attempt could still be made at the time the row tells of."""
    named = parse_attempt_key(evidence.envelope_id)
    if named is not None:
        for candidate in candidates:
            if candidate.message == named[0]:
                return _of_message(evidence, candidate, destination_of, "our own key", named[1])
    network = evidence.network_message_id
    if network:
        bound = [c for c in candidates if _bound_to(c, network)]
        if bound:
            return _of_message(evidence, bound[0], destination_of, "network message id")
    key = message_key(evidence.message_id)
    named_there = [c for c in candidates if key in ("", message_key(c.message_id)) and _is_named(c, evidence)]
    if len(named_there) == 1:
        return _of_message(evidence, named_there[0], destination_of, "next hop's id")
    if key:
        same = [c for c in candidates if message_key(c.message_id) == key]
        return _among(evidence, same, _BY_ID, WINDOW + WHOLE_SECONDS, now)
    alike = [c for c in candidates if _looks_alike(evidence, c)]
    return _among(evidence, alike, _BY_TIME, WITHOUT_ID, now, by_time_only=True)


def nobody(evidence: Evidence) -> Unmatched:
    """The answer where no message may be meant."""
    return Unmatched(_NO_ID if message_key(evidence.message_id) else _NO_LIKE)


def kind_of(why: str) -> str:
    """The key in a reason, without the attempt, the address and the count."""
    if why.startswith("a member of "):
        return "a group's member"
    return _COUNT.sub("several", why.partition(";")[0].removesuffix(_NOT_THEN))


def _of_message(
    evidence: Evidence,
    candidate: Candidate,
    destination_of: DestinationOf,
    why: str,
    key_no: int | None = None,
) -> Answer:
    """Within a message that is surely the one."""
    places = _recipients(evidence, candidate, sure=True)
    if places:
        return _matched(evidence, candidate, places, f"{why} and recipient", key_no)
    member = _member(evidence, candidate, destination_of)
    return member or Unmatched(f"known by its {why}, and the address is not in its envelope")


def _among(
    evidence: Evidence,
    candidates: Sequence[Candidate],
    why: str,
    window: Ms,
    now: Ms,
    *,
    by_time_only: bool = False,
) -> Answer:
    """Between messages that share what the row says of them."""
    choices = _choices(evidence, candidates, why, tagged=False)
    if not choices and not by_time_only:
        choices = _choices(evidence, candidates, why, tagged=True)
    if not choices:
        return Unmatched("no message of ours has this " + why)
    choices = _narrowed(choices, lambda c: address_key(c.candidate.sender) == address_key(evidence.sender))
    choices = _narrowed(choices, lambda c: _subject_begins(c.candidate.subject, evidence.subject))
    choices = _narrowed(choices, lambda c: _may_be_of_size(c.candidate.size, evidence.size))
    received = evidence.received_at
    if len(choices) == 1 and not by_time_only:
        off = gap(evidence, choices[0].recipient)
        if received is not None and 0 < received - now <= window and (off is None or off > WITHOUT_ID):
            return Unmatched("it was taken at a time that is still to come, and no attempt is near it")
        seen = evidence.observed_at
        if received is None and choices[0].owned is None and seen is not None and 0 < seen - now <= DAY:
            return Unmatched("it tells of a time that is still to come, and belongs to no attempt")
        return choices[0]
    if any(choice.waits for choice in choices):
        return Unmatched("an attempt that it may belong to is still open")
    gaps = [(g, choice) for choice in choices if (g := gap(evidence, choice.recipient)) is not None]
    near = [(g, choice) for g, choice in gaps if g <= window]
    nearest = min((g for g, _ in near), default=window)
    if len(choices) > 1 and received is not None and now <= received + nearest + WHOLE_SECONDS:
        return Unmatched("another message that it may be about can still be taken at that time")
    if by_time_only:
        equal = [choice for _, choice in near]
    else:
        best = min((g for g, _ in near), default=0)
        equal = [choice for g, choice in near if g <= best + WHOLE_SECONDS]
    if len(equal) == 1:
        return equal[0]
    if equal:
        return Ambiguous(tuple(equal), f"{len(equal)} messages have this {why}")
    if by_time_only:
        return Unmatched(f"no message of ours has this {why}")
    return Ambiguous(tuple(choices), f"{len(choices)} messages have this {why}{_NOT_THEN}")


def _choices(evidence: Evidence, candidates: Sequence[Candidate], why: str, *, tagged: bool) -> list[Matched]:
    """The candidates that have the recipient. tagged: one that differs by a tag will do."""
    return [
        _matched(evidence, candidate, places, f"{why} but for its tag" if tagged else why)
        for candidate in candidates
        if (places := _recipients(evidence, candidate, sure=False, tagged=tagged))
    ]


def _narrowed(choices: list[Matched], rule: Callable[[Matched], bool]) -> list[Matched]:
    """The choices a further word fits, where it fits any: traces rewrite senders and cut subjects."""
    return [choice for choice in choices if rule(choice)] or choices


def _matched(
    evidence: Evidence,
    candidate: Candidate,
    places: list[CandidateRecipient],
    why: str,
    key_no: int | None = None,
) -> Matched:
    """The recipient row it belongs to: an address has two once its mail was sent again for a lost mailbox.

    Rule 2 goes over the attempts of both; what belongs to none of them is of the first: it must not settle
    the one that is to be sent.
    """
    recipient = whose(evidence, places, key_no)
    owned = own(evidence, recipient, key_no)
    if owned is not None:
        return Matched(candidate, recipient, owned, f"{why}; {owned.why}")
    waits = any(attempt.ended_at is None for place in places for attempt in place.attempts)
    return Matched(candidate, places[0], None, why, waits)


def _recipients(
    evidence: Evidence, candidate: Candidate, *, sure: bool, tagged: bool = False
) -> list[CandidateRecipient]:
    """The recipients of a message that an address means, the surest way of reading it first. sure: it is
    surely this message, so that a tag or a missing address may be read leniently; tagged: only a tag."""
    wanted = address_key(evidence.recipient)
    original = address_key(evidence.original_recipient)
    known = [(address_key(r.address), address_key(r.original), r) for r in candidate.recipients]
    for found in (
        [r for address, _, r in known if wanted and address == wanted],
        [r for _, first, r in known if wanted and first == wanted],
        [r for address, first, r in known if original and original in (address, first)],
    ):
        if found:
            return sorted(found, key=lambda r: r.n)
    if not sure and not (tagged and wanted):
        return []
    if wanted:
        lenient = [r for r in candidate.recipients if _untagged(r.address) == _untagged(wanted)]
    else:
        lenient = [r for r in candidate.recipients if r.derived_from is None]
    return lenient if len({address_key(r.address) for r in lenient}) == 1 else []


def _untagged(address: str) -> str:
    """`ann+news@x` as `ann@x`: Exchange Online's traces show either."""
    local, at, domain = address_key(address).rpartition("@")
    return f"{local.partition('+')[0]}{at}{domain}"


def _is_named(candidate: Candidate, evidence: Evidence) -> bool:
    return any(is_named(a, evidence) for r in candidate.recipients for a in r.attempts)


def _may_be_of_size(ours: int, said: int | None) -> bool:
    """Whether a mail of ours may be told of with that size: hops add to a header and encode a body anew, but
    never halve or double a mail."""
    return said is None or (ours <= 2 * said + _HEADERS and said <= 2 * ours + _HEADERS)


def _bound_to(candidate: Candidate, network: str) -> bool:
    return any(network in a.network_message_ids for r in candidate.recipients for a in r.attempts)


def _member(evidence: Evidence, candidate: Candidate, destination_of: DestinationOf) -> MemberOf | None:
    """Rule 6: a row with the network message id of an expanded recipient, for an address outside the
    envelope but inside a configured destination that is not the rest."""
    network = evidence.network_message_id
    home = destination_of(evidence.recipient) if evidence.recipient else None
    if not network or home is None or home.rest:
        return None
    groups = {r.derived_from for r in candidate.recipients}
    named = address_key(evidence.group)
    best: MemberOf | None = None
    for recipient in candidate.recipients:
        by_name = bool(named) and address_key(recipient.address) == named
        if not (by_name or recipient.expanded or recipient.state is State.EXPANDED or recipient.n in groups):
            continue
        attempt = next((a for a in recipient.attempts if network in a.network_message_ids), None)
        if attempt is not None and (best is None or by_name):
            why = f"a member of {recipient.address}, by the network message id of attempt {attempt.no}"
            best = MemberOf(candidate, recipient, attempt.no, home, why)
    return best


def _looks_alike(evidence: Evidence, candidate: Candidate) -> bool:
    return address_key(evidence.sender) == address_key(candidate.sender) and _subject_begins(
        candidate.subject, evidence.subject
    )


def _subject_begins(subject: str, shown: str) -> bool:
    """Whether a subject begins as a trace shows it, which is cut at 256 characters; none is like none."""
    whole, start = " ".join(subject.split()).casefold(), " ".join(shown.split()).casefold()
    return whole.startswith(start) if start else not whole
