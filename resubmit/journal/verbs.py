"""What crosses the journal's door: plain frozen values, so that the writer can be a thread or a process.

Nothing here holds a cursor, a callback or a transaction. Times are ms UTC. `message` is the id's number,
`n` a recipient's number in its message, `no` an attempt's number for that recipient.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from resubmit.model.evidence import Cause, Holder, Mend, Scope
from resubmit.model.message import Body
from resubmit.model.moment import Ms
from resubmit.model.recipient import Event, RecipientKey, State

# ── intake ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ArrivingRecipient:
    """A recipient as journaled. `state` is `journaled`, or `accepted` where an intake saw somebody else
    take it (then `holder` and `deadline` say who and until when). `due_at`: when the first attempt is due,
    None for never. `derived_from`/`again_of`: another recipient's number in the same message."""

    address: str
    parameters: tuple[str, ...]
    destination: str
    route: str
    due_at: Ms | None
    deadline: Ms | None = None
    state: State = State.JOURNALED
    holder: Holder = Holder.US
    derived_from: int | None = None
    again_of: int | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message to be journaled. `parameters` are those of MAIL, verbatim. `intake`: `smtp`, `dsn` (made
    by us), …. `peer`: the client's address; `helo` what it called itself; `protocol` SMTP/ESMTP/ESMTPS."""

    received_at: Ms
    sender: str
    parameters: tuple[str, ...]
    message_id: str
    subject: str
    intake: str
    peer: str
    helo: str
    protocol: str
    body: Body
    recipients: tuple[ArrivingRecipient, ...]
    tells: tuple[RecipientKey, ...] = ()
    """the recipients whose owed notice this message is: no longer owed once it is journaled"""


# ── handoff ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class DueRecipient:
    """A recipient whose attempt is due now. `attempt` is the last number used, 0 before the first."""

    message: int
    n: int
    address: str
    parameters: tuple[str, ...]
    destination: str
    route: str
    state: State
    attempt: int
    due_at: Ms
    job: int | None
    deadline: Ms | None


@dataclass(frozen=True, slots=True)
class DueMessage:
    """A message with those of its recipients that share route, attempt number and job: one offer.

    `failures`: how many attempts in a row ended without acceptance (for the retry schedule)."""

    message: int
    received_at: Ms
    sender: str
    parameters: tuple[str, ...]
    message_id: str
    intake: str
    peer: str
    helo: str
    protocol: str
    body: Body
    recipients: tuple[DueRecipient, ...]
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Barred:
    """Whose turn has not come though it is due: what a job resubmits to one of these destinations, unless
    the job is one of `forced`. Mail that we were about to hand off or retry anyway is never barred."""

    destinations: frozenset[str] = frozenset()
    forced: frozenset[int] = frozenset()


NOBODY_BARRED = Barred()


@dataclass(frozen=True, slots=True)
class Expect:
    """A recipient as the caller saw it when it decided: the offer is void for it if it has moved since."""

    n: int
    state: State
    attempt: int


@dataclass(frozen=True, slots=True)
class Offer:
    """The intent to offer a message, written before the socket is touched.

    The new attempt number of each recipient is its expected `attempt` + 1. `gates`: (gate name, version)
    pairs that must still hold. `look_after`: the destination's coverage must be newer than this, when set
    (the last look). `kind`: model.attempt.Kind.
    """

    message: int
    route: str
    kind: str
    begun_at: Ms
    recipients: tuple[Expect, ...]
    job: int | None = None
    gates: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Begun:
    """An offer that is open. `recipients`: the numbers that passed, in order; `no` their attempt number."""

    offer: int
    no: int
    recipients: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stale:
    """Somebody moved first: nothing was written. `why` for the log."""

    why: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended for one recipient: the event for the table, and what goes with the move.

    `code`, `enhanced`, `reply`: the next hop's reply, or what happened where there was none. `due_at` and
    `deadline` hold if the event moves it.
    """

    n: int
    event: Event
    why: str
    stage: str
    code: int | None = None
    enhanced: str = ""
    reply: str = ""
    cause: Cause | None = None
    scope: Scope | None = None
    mend: Mend | None = None
    holder: Holder | None = None
    due_at: Ms | None = None
    deadline: Ms | None = None
    notice: str = ""
    """the DSN the sender is owed if the event moves it (`failed`, `relayed`), "" for none"""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of an offer. `dot_at`: when the final dot was written, None when it was not; `next_key`: the
    next hop's id; `remote`: host and address spoken to."""

    offer: int
    ended_at: Ms
    dot_at: Ms | None
    next_key: str | None
    remote: str
    tls: str
    outcomes: tuple[Outcome, ...]


# ── moves ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Move:
    """An event for one recipient. The journal reads the table in the writer's transaction.

    `attempt`: the recipient's attempt number this was decided on; another one makes it Stale (None: any).
    `since`: when it became so (the evidence's own time), else `at`. What is None is left as it was; `cause`
    with scope and mend are set only when the event moves the state or when the state stays and had none.
    """

    message: int
    n: int
    event: Event
    at: Ms
    why: str
    attempt: int | None = None
    since: Ms | None = None
    cause: Cause | None = None
    scope: Scope | None = None
    mend: Mend | None = None
    holder: Holder | None = None
    due_at: Ms | None = None
    deadline: Ms | None = None
    notice: str = ""
    """as in Outcome"""


@dataclass(frozen=True, slots=True)
class Moved:
    """What a Move did. `to` equals `from_` when the table said stay; `conflict` when it said `!`."""

    message: int
    n: int
    from_: State
    to: State
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class OwedNotice:
    """A DSN that a sender is owed: `kind` failed or relayed, with the last reply that recipient got."""

    key: RecipientKey
    kind: str
    address: str
    parameters: tuple[str, ...]
    code: int | None
    enhanced: str
    reply: str
    remote: str
    no: int


# ── evidence ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """A piece of evidence as stored. `digest` (16 bytes, over what it says, not where it stood) makes it
    idempotent within its source. `key`: model.message.message_key of its Message-ID, "" for none."""

    source: str
    digest: bytes
    status: str
    recipient: str
    original_recipient: str
    group: str
    observed_at: Ms | None
    received_at: Ms | None
    key: str
    message_id: str
    network_message_id: str
    envelope_id: str
    queue_id: str
    sender: str
    subject: str
    size: int | None
    code: int | None
    enhanced: str
    text: str
    remote: str
    cause: Cause | None
    scope: Scope | None
    mend: Mend | None
    file: str
    place: str
    raw: str
    read_at: Ms


@dataclass(frozen=True, slots=True)
class Member:
    """A derived recipient to make: a member of an expanded group, not in the envelope."""

    address: str
    destination: str
    route: str
    derived_from: int
    network_message_id: str


@dataclass(frozen=True, slots=True)
class Observed:
    """Evidence with what it does. `owner`: whose it is, None while unmatched or ambiguous without effect.
    `no`: the attempt it belongs to, None for none. `match`: matched/ambiguous/unmatched; `why` says by
    which key. `binds`: bind network_message_id to that attempt's offer. `member`: make this derived
    recipient first; `owner.n` is then ignored. `moves`: usually one, one a candidate when ambiguous.
    `refile`: id of a stored evidence row that is being matched (anew), None for a new one."""

    row: EvidenceRow
    match: str
    why: str
    owner: RecipientKey | None = None
    no: int | None = None
    binds: bool = False
    member: Member | None = None
    moves: tuple[Move, ...] = ()
    refile: int | None = None


@dataclass(frozen=True, slots=True)
class Filed:
    """What became of one Observed: `new`, `known` (the digest was there), `fuller` (it was, and said less)
    or `stale` (decide again)."""

    outcome: str
    evidence: int | None
    moved: tuple[Moved, ...] = ()


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a source was read: `position` is opaque to the journal. `ended`: file size and digest."""

    source: str
    name: str
    position: str


@dataclass(frozen=True, slots=True)
class Lookup:
    """What candidates are looked for by: any of these may be empty. `received_at`: around when (±1 day)."""

    key: str = ""
    network_message_id: str = ""
    attempt_message: int | None = None
    queue_id: str = ""
    sender: str = ""
    recipient: str = ""
    subject: str = ""
    received_at: Ms | None = None


@dataclass(frozen=True, slots=True)
class CandidateAttempt:
    """An attempt of a candidate. `accepted_at`: its 250 (else None); `dot_at`: its final dot (else None)."""

    no: int
    offer: int
    begun_at: Ms
    accepted_at: Ms | None
    dot_at: Ms | None
    ended_at: Ms | None
    connected: bool
    network_message_ids: tuple[str, ...]
    next_key: str


@dataclass(frozen=True, slots=True)
class CandidateRecipient:
    n: int
    address: str
    original: str
    """ORCPT's address when the client gave one, else """ ""
    destination: str
    route: str
    state: State
    attempt: int
    holder: Holder
    derived_from: int | None
    attempts: tuple[CandidateAttempt, ...]
    expanded: bool = False
    """evidence says it was expanded, whatever came after"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A message that evidence may be about, with its recipients and their attempts. `alone`: surely no other
    has its Message-ID, and there is no evidence yet of either; False: it was not looked at, or there is."""

    message: int
    received_at: Ms
    message_id: str
    sender: str
    subject: str
    size: int
    recipients: tuple[CandidateRecipient, ...]
    alone: bool = False


@dataclass(frozen=True, slots=True)
class UnmatchedEvidence:
    """A stored row without an owner, to be matched again. `tries`: how often it was tried."""

    id: int
    row: EvidenceRow
    match: str


@dataclass(frozen=True, slots=True)
class StoredEvidence:
    """A stored row with whose it is held to be. `links`: whom it moved while it was ambiguous."""

    id: int
    row: EvidenceRow
    match: str
    owner: RecipientKey | None
    no: int | None
    links: frozenset[RecipientKey]


@dataclass(frozen=True, slots=True)
class Gathered:
    """Messages that can be mistaken for each other, with all evidence that may be about any of them."""

    candidates: tuple[Candidate, ...]
    evidence: tuple[StoredEvidence, ...]


@dataclass(frozen=True, slots=True)
class Rebind:
    """A network message id is an offer's from now on, seen at `at`; or, where that is None, no more."""

    offer: int
    network_message_id: str
    at: Ms | None


# ── gates, looks, incidents, jobs ─────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class LookRow:
    """One probe's result as stored. `target`: gate name (`destination:hybrid`, `route:eop`) it was for;
    `fingerprint`: what must change before health is believed (design 4, *something changed*): leaf
    certificates, STARTTLS offered, per address. `verdict_json`: the object of `probe --json`."""

    target: str
    at: Ms
    health: str
    codes: tuple[str, ...]
    fingerprint: str
    verdict_json: str
    days_left: int | None = None
    id: int | None = None

    @property
    def blamed(self) -> tuple[str, ...]:
        """The codes that made it faulty, or unknown, without the warnings beside them; all where the verdict
        does not say."""
        verdict = json.loads(self.verdict_json)
        found = list(verdict.get("details", ()))
        found += [finding for one in verdict.get("addresses", ()) for finding in one["findings"]]
        wanted = {"faulty": "fault", "unknown": "unknown"}.get(self.health)
        guilty = {one["code"] for one in found if one["severity"] == wanted}
        return tuple(code for code in self.codes if code in guilty) or self.codes


@dataclass(frozen=True, slots=True)
class GateRow:
    """A gate: `name` is `destination:<name>` or `route:<name>`; `state` open/closed/testing. `version`
    counts turns. `data`: the gate rules' own memory as JSON (row of healthy looks, fault look, fix time)."""

    name: str
    state: str
    version: int
    since: Ms
    reasons: tuple[str, ...]
    incident: int | None
    data: str = "{}"


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """An incident. `fault_from`/`fault_to`: the time in which the fault was seen. `state`:
    open/recovering/closed. `report`: JSON kept at closing, "" before."""

    id: int
    destination: str
    route: str
    cause: str
    opened_at: Ms
    closed_at: Ms | None
    state: str
    fault_from: Ms
    fault_to: Ms | None
    fixed_at: Ms | None = None
    report: str = ""


@dataclass(frozen=True, slots=True)
class JobRow:
    """A replay. `state`: waiting running done cancelled failed. `filter`: JSON of model.filter.Filter.
    `options`: JSON (canary, rate, route, force, include_…). `stage`: where its canary and steps stand,
    JSON, the pace rules' own memory. Counts are recipients."""

    id: int
    state: str
    asked_at: Ms
    asked_by: str
    reason: str
    filter: str
    options: str
    destination: str
    incident: int | None
    gate: str
    stage: str
    recipients: int
    accepted: int
    delivered: int
    refused: int
    skipped: int
    ended_at: Ms | None = None


@dataclass(frozen=True, slots=True)
class JobAsk:
    """A job to be made, with the recipients it was asked for."""

    asked_at: Ms
    asked_by: str
    reason: str
    filter: str
    options: str
    destination: str
    incident: int | None
    gate: str
    recipients: tuple[RecipientKey, ...]
    state: str = "waiting"
    takes_over: bool = False
    """recipients that wait in another job come over to this one"""


@dataclass(frozen=True, slots=True)
class JobItem:
    """One recipient of a job. `state`: waiting, released (made due), sent (its attempt ended with 250),
    proved (evidence of delivery), refused, skipped (settled or moved before its turn), lost (in doubt)."""

    job: int
    key: RecipientKey
    state: str
    no: int | None
    released_at: Ms | None
    recipient_state: State
    cause: Cause | None
    scope: Scope | None
    deadline: Ms | None
    since: Ms
    due_at: Ms | None


@dataclass(frozen=True, slots=True)
class Standing:
    """A recipient as recovery weighs it: where it stands, since when, and what its last attempt met.

    `incidents`: all it was ever caught in, open or closed: one of its destination and one of a route may be
    open at the same time."""

    key: RecipientKey
    destination: str
    route: str
    address: str
    state: State
    since: Ms
    cause: Cause | None
    scope: Scope | None
    mend: Mend | None
    holder: Holder
    deadline: Ms | None
    attempt: int
    accepted_attempts: int
    accepted_at: Ms | None
    dot_at: Ms | None
    body_kept: bool
    job: int | None
    incidents: frozenset[int]


@dataclass(frozen=True, slots=True)
class Fault:
    """Evidence of a fault or of health at a destination or route, as the gate weighs it.

    `attempt_accepted_at`: when the attempt it is about was taken (its 250), None where unknown.
    `names_endpoint`: a delivery whose remote is the destination's endpoint; `was_deferred`: to an address
    that was deferred in this incident."""

    evidence: int
    at: Ms
    read_at: Ms
    status: str
    cause: Cause | None
    scope: Scope | None
    text: str
    attempt_accepted_at: Ms | None
    remote: str = ""
    was_deferred: bool = False


@dataclass(frozen=True, slots=True)
class ReportRow:
    """What somebody reported of a destination's servers in [since, until]; it is about no mail.

    `destination`: "" where it is none of ours; `is_fault`: mail could not be handed over, not long ago."""

    digest: bytes
    destination: str
    is_fault: bool
    since: Ms
    until: Ms
    read_at: Ms
    cause: Cause | None
    text: str
    remote: str
    file: str
    place: str


@dataclass(frozen=True, slots=True)
class TakenMail:
    """A mail of ours that was answered 250 at `at` over a route; `known`: a trace has told of it."""

    at: Ms
    known: bool
    route: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """A source that answered for everything in [since, until]; read at `read_at`."""

    source: str
    since: Ms
    until: Ms
    read_at: Ms


@dataclass(frozen=True, slots=True)
class Haste:
    """What a route's gate lets go sooner than its retry was due. `messages`: how many, None for all whose
    failure was the route's; `every`: ms from one to the next."""

    route: str
    messages: int | None
    every: Ms


@dataclass(frozen=True, slots=True)
class AuditRow:
    at: Ms
    who: str
    action: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Destined:
    """What the config says of a destination now, mirrored in the journal at start for the stuck view."""

    name: str
    stuck_after: Ms
    deadline_margin: Ms
    expires_after: Ms
    trace_stale: Ms
    route: str
    resubmit_route: str
    data: dict[str, object] = field(default_factory=dict)
