"""What reading the journal gives: plain frozen values, one a thing that is shown.

Times are ms UTC, `now` was the reader's own; texts are as journaled, uncleaned.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from resubmit.model.lateness import Lateness
from resubmit.model.moment import Ms


@dataclass(frozen=True, slots=True)
class RecipientView:
    """A recipient as it stands. `cause` and `since` are those to be shown: a gate's while it waits behind
    one. `derived_from`, `again_of`: the other recipient's address. `deadline` is None once settled."""

    message: int
    n: int
    address: str
    state: str
    below: str | None
    since: Ms
    cause: str | None
    holder: str
    deadline: Ms | None
    destination: str
    route: str
    attempts: int
    last_reply: str
    stuck: bool
    due_at: Ms | None = None
    job: int | None = None
    derived_from: str | None = None
    again_of: str | None = None


@dataclass(frozen=True, slots=True)
class MessageView:
    """A message with all its recipients, in their order."""

    id: int
    message_id: str
    received_at: Ms
    sender: str
    subject: str
    size: int
    intake: str
    body_kept: bool
    recipients: tuple[RecipientView, ...]
    peer: str = ""
    helo: str = ""
    protocol: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """A line of a recipient's timeline. `from_` is None at birth; `to` equals it where nothing moved."""

    n: int
    at: Ms
    event: str
    from_: str | None
    to: str
    attempt: int
    why: str


@dataclass(frozen=True, slots=True)
class Group:
    """One value of a grouping: `next_deadline` and `oldest` are those of its recipients."""

    value: str
    recipients: int
    messages: int
    oldest: Ms | None
    next_deadline: Ms | None


@dataclass(frozen=True, slots=True)
class GateView:
    """A gate: `name` without its kind. `reasons` as the gate rules gave them."""

    name: str
    state: str
    since: Ms | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DestinationView:
    """A destination: its gate and the newest look at it (`verdict` None: not looked yet)."""

    gate: GateView
    verdict: str | None
    findings: tuple[str, ...]
    looked_at: Ms | None
    days_left: int | None


@dataclass(frozen=True, slots=True)
class IncidentView:
    """An incident with its counts, in recipients."""

    id: int
    destination: str
    route: str
    cause: str
    opened_at: Ms
    closed_at: Ms | None
    state: str
    fault_from: Ms
    fault_to: Ms | None
    fixed_at: Ms | None
    stuck: int
    recovered: int
    failed: int
    unproven: int
    unknown: int
    duplicates: int
    report: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FalseNdr:
    """A sender who will get a bounce at `at`: the far side still tries a copy of mail that went again."""

    sender: str
    recipients: int
    at: Ms


@dataclass(frozen=True, slots=True)
class JobView:
    """A replay with its counts, in recipients. `unfinished`: not sent yet, or without a reply. `gate` is the
    gate's name, `gate_state` how it stands now. `paused`: a person has stopped it."""

    id: int
    state: str
    asked_at: Ms
    asked_by: str
    reason: str
    filter: dict[str, object]
    gate: str
    destination: str
    ended_at: Ms | None
    recipients: int
    accepted: int
    delivered: int
    refused: int
    skipped: int
    unfinished: int
    gate_state: str
    paused: bool = False


@dataclass(frozen=True, slots=True)
class UnreadableView:
    file: str
    place: str
    reason: str
    at: Ms


@dataclass(frozen=True, slots=True)
class AuditView:
    at: Ms
    who: str
    action: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Size:
    """How large the journal is. `open` counts unsettled recipients, `free` octets of disk."""

    path: str
    messages: int
    open: int
    octets: int
    free: int
    schema: int


@dataclass(frozen=True, slots=True)
class Overview:
    """Where everything stands. `stuck`: recipients by cause ("none" where there is none);
    `live_trace`: (source, until), the best there is. `days_left`: until the first certificate ends, by what
    was looked at (`destination:…`, `route:…`, `listener:…`). `lateness`: how late the trace that the service
    asks has told of our mail."""

    routes: tuple[GateView, ...]
    destinations: tuple[DestinationView, ...]
    stuck: dict[str, int]
    next_deadline: Ms | None
    live_trace: tuple[str, Ms] | None
    incidents: tuple[IncidentView, ...]
    jobs: tuple[JobView, ...]
    unreadable: tuple[UnreadableView, ...]
    journal: Size
    days_left: dict[str, int] = field(default_factory=dict)
    lateness: Lateness = field(default_factory=Lateness)


@dataclass(frozen=True, slots=True)
class Replayable:
    """What a replay would take: (message, n) keys in the order they would go (nearest deadline first),
    their destinations, and how many of the filter's recipients it would leave and why."""

    keys: tuple[tuple[int, int], ...]
    destinations: tuple[str, ...]
    left: dict[str, int]


@dataclass(frozen=True, slots=True)
class Figures:
    """The numbers for /metrics."""

    stuck: dict[tuple[str, str], int]
    oldest_stuck: Ms | None
    next_deadline: Ms | None
    states: dict[str, int]
    gates: dict[str, str]
    waiting: dict[str, int]
    offers: int
    offers_open: int
    incidents_open: int
    unmatched: int
    unreadable: int
    messages: int
    days_left: dict[str, int] = field(default_factory=dict)
