"""Small worlds for the law that the order of evidence does not matter: messages, attempts, what is told of
them; read in some order by the real filing into a real journal; and all of the end that may be compared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import strategies as st

from resubmit.flow.filing import Filing
from resubmit.flow.wake import Wake
from resubmit.handoff.routes import Table
from resubmit.handoff.settings import Destination, Route
from resubmit.journal import read
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Begun, Destined, Expect
from resubmit.meaning.classify import meaning_of
from resubmit.model.evidence import Cause, Evidence, Holder, Mend, Scope, Source, Status
from resubmit.model.moment import DAY, HOUR, MINUTE, SECOND, Ms
from resubmit.model.recipient import TABLE, Event, RecipientKey, State
from tests.helpers.journals import NOW, HandClock, arrival, ended, offer, outcome, recipient

ANNA, GROUP, PAT = "anna@contoso.com", "all@contoso.com", "pat@fabrikam.example"
ENVELOPE = (ANNA, GROUP, PAT)
RELAYS = (Source.POSTFIX_LOG, Source.EXCHANGE_TRACKING_LOG)
RENAMED = "anna.berg@contoso.com"
MEMBERS = ("eva@contoso.com", "stranger@elsewhere.example")
TEXTS: dict[Status, tuple[str, ...]] = {
    Status.DEFERRED: (
        "450 4.4.317 Cannot connect to remote server [Message=CertificateExpired x]",
        "450 4.4.316 Connection refused [Message=Socket error code 10061]",
        "452 4.2.2 mailbox full",
    ),
    Status.EXPIRED: ("550 5.4.316 Message expired, connection refused(Socket error code 10061)",),
    Status.FAILED: ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; x", "550 5.7.1 not allowed"),
}
ENDPOINTS = {"hybrid": frozenset({"mail.contoso.com", "198.51.100.7"})}


@dataclass(frozen=True)
class Sent:
    """A message of a world: its Message-ID, and when each attempt was answered how."""

    message_id: str
    attempts: tuple[tuple[Ms, Event], ...]


@dataclass(frozen=True)
class World:
    """Messages, and all that is ever told of them."""

    messages: tuple[Sent, ...]
    rows: tuple[Evidence, ...]

    def steps(self) -> list[tuple[Ms, str, int, int]]:
        """What happens beside the evidence: when, what, to which message, at which attempt."""
        found: list[tuple[Ms, str, int, int]] = []
        for number, sent in enumerate(self.messages):
            found.append((sent.attempts[0][0] - MINUTE, "1 journal", number, 0))
            for no, (at, _) in enumerate(sent.attempts, 1):
                found += [(at, "2 begin", number, no), (at + SECOND, "3 end", number, no)]
        return sorted(found)


End = dict[str, list[tuple[object, ...]]]

_RECIPIENTS = """
select m.peer, r.address, r.state, r.below, r.since, r.cause, r.scope, r.mend, r.holder, r.deadline,
    r.attempt, g.address
from recipient r
join message m on m.id = r.message
left join recipient g on g.message = r.message and g.n = r.derived_from
"""
_ATTEMPTS = """
select m.peer, r.address, a.no, a.ended_at, a.event, a.accepted,
    (select group_concat(network_message_id, ' ') from (
        select network_message_id from binding b where b.offer = a.offer order by 1))
from attempt a
join message m on m.id = a.message
join recipient r on r.message = a.message and r.n = a.n
"""
_EVIDENCE = """
select hex(e.digest), e.status, e.recipient, e.original_recipient, e.group_address, e.observed_at,
    e.received_at, e.message_id, e.network_message_id, e.sender, e.subject, e.size, e.code, e.enhanced,
    e.text, e.remote, e.cause, e.scope, e.mend, e.match, m.peer, r.address, e.no
from evidence e
left join message m on m.id = e.message
left join recipient r on r.message = e.message and r.n = e.n
"""
_LINKS = """
select hex(e.digest), m.peer, r.address
from evidence_link l
join evidence e on e.id = l.evidence
join message m on m.id = l.message
join recipient r on r.message = l.message and r.n = l.n
"""


def table() -> Table:
    """One route; contoso.com is hybrid, everything else the rest."""
    route = Route(name="eop", host="eop.invalid")
    hybrid = Destination(name="hybrid", domains=["contoso.com"], handoff="eop")
    rest = Destination(name="rest", domains=["*"], handoff="eop")
    return Table([route], [hybrid, rest])


async def play(world: World, order: Sequence[Evidence], cuts: Sequence[int], batch: int = 500) -> End:
    """The end of a world when its rows are read in this order: as many before each step as `cuts` says,
    the rest at the end, in batches of `batch`."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        clock = HandClock(NOW - HOUR)
        journal = await Journal.open(Path(folder), clock=clock, inline=True)
        try:
            await _play(journal, clock, world, list(order), list(cuts), batch)
        finally:
            await journal.close()
        with read.connect(Path(folder)) as connection:
            queries = {
                "recipients": _RECIPIENTS,
                "attempts": _ATTEMPTS,
                "evidence": _EVIDENCE,
                "links": _LINKS,
            }
            return {
                name: sorted((tuple(row) for row in connection.execute(query)), key=repr)
                for name, query in queries.items()
            }


async def _play(
    journal: Journal, clock: HandClock, world: World, left: list[Evidence], cuts: list[int], batch: int
) -> None:
    wake = Wake()
    filing = Filing(journal, clock, table(), ENDPOINTS, told=wake, stir=lambda: None)
    await journal.mirror(
        [Destined(name, MINUTE, HOUR, DAY, HOUR, "eop", "eop") for name in ("hybrid", "rest")]
    )
    ids: dict[int, int] = {}
    opened: dict[int, Begun] = {}
    for at, what, number, no in world.steps():
        count = cuts.pop(0) if cuts else 0
        now, left = left[:count], left[count:]
        await _see(filing, now, batch)
        clock.wall = max(clock.wall, at)
        if what == "1 journal":
            message_id = world.messages[number].message_id
            rows = [recipient(a, destination="rest" if a == PAT else "hybrid") for a in ENVELOPE]
            ids[number] = await journal.record(
                arrival(*rows, message_id=message_id, peer=f"peer {number}", received_at=at)
            )
        elif what == "2 begin":
            begun = await _begin(journal, ids[number], no, at)
            if begun is not None:
                opened[number] = begun
        elif number in opened:
            event = world.messages[number].attempts[no - 1][1]
            await _end(journal, opened.pop(number), event, at, next_key(number, no))
        await filing.sweep()
    clock.wall += DAY
    await _see(filing, left, batch)


async def _see(filing: Filing, rows: Sequence[Evidence], batch: int) -> None:
    for start in range(0, len(rows), batch):
        await filing.file(list(rows[start : start + batch]))
    await filing.sweep()


async def _begin(journal: Journal, message: int, no: int, at: Ms) -> Begun | None:
    stands = await journal.standing([RecipientKey(message, n) for n in range(len(ENVELOPE))])
    may = [
        Expect(s.key.n, s.state, s.attempt)
        for s in stands
        if s.attempt == no - 1 and TABLE[Event.ATTEMPT_STARTED][s.state] == State.SENDING
    ]
    if not may:
        return None
    begun = await journal.begin(offer(message, *may, at=at, kind="handoff" if no == 1 else "resubmission"))
    assert isinstance(begun, Begun)
    return begun


async def _end(journal: Journal, begun: Begun, event: Event, at: Ms, key: str) -> None:
    about: dict[str, object] = {"holder": Holder.FAR, "deadline": at + DAY}
    if event is Event.REPLY_DEFERRED:
        about = {"holder": Holder.US, "deadline": at + 5 * DAY, "due_at": at + MINUTE, "code": 451}
    if event is Event.REPLY_REFUSED_MENDABLE:
        about = {
            "holder": Holder.NOBODY,
            "code": 550,
            "cause": Cause.POLICY,
            "scope": Scope.RECIPIENT,
            "mend": Mend.PERSON,
            "deadline": None,
        }
    outcomes = [outcome(event, n, **about) for n in begun.recipients]
    dot = None if event is Event.REPLY_DEFERRED else at
    await journal.end(ended(begun, *outcomes, at=at, dot_at=dot, next_key=key))


def next_key(number: int, no: int) -> str:
    """The id the next hop gives an attempt of a message."""
    return f"{number}7{no}@mail.contoso.com"


def network(number: int, no: int) -> str:
    return f"{number:08d}-0000-4000-8000-{no:012d}"


@st.composite
def worlds(
    draw: st.DrawFn,
    *,
    attempts: int = 2,
    twins: bool = True,
    strangers: bool = False,
    sources: Sequence[Source] = (Source.TRACE_CSV,),
) -> World:
    """Worlds whose far side tells the truth, late or early, with and without its times and ids.

    twins: two messages may share their Message-ID. strangers: rows of mail with our Message-ID that is not
    ours (a client sent it by another way too), in their own network message id. sources: who tells.
    """
    count = draw(st.integers(1, 2))
    same = twins and draw(st.booleans())
    gap = draw(st.sampled_from([0, SECOND, 3 * SECOND, 40 * SECOND, 5 * MINUTE]))
    apart = draw(st.sampled_from([HOUR, 3 * MINUTE]))
    made = draw(st.integers(1, attempts))
    ends = st.sampled_from([Event.REPLY_ACCEPTED, Event.REPLY_LOST])
    messages = tuple(
        Sent(
            "<same@x>" if same else f"<{number}@x>",
            tuple((NOW + no * apart + number * gap, draw(ends)) for no in range(made)),
        )
        for number in range(count)
    )
    rows: list[Evidence] = []
    for number, sent in enumerate(messages):
        for no, (at, _) in enumerate(sent.attempts, 1):
            told = draw(st.lists(st.sampled_from(ENVELOPE + MEMBERS), max_size=4))
            for address in told:
                row = _row(draw, sent.message_id, network(number, no), address, at)
                row = _told_by(draw, draw(st.sampled_from(sources)), row, next_key(number, no))
                rows.append(row)
        if strangers and draw(st.booleans()):
            at = sent.attempts[0][0] + draw(st.integers(-12, 12)) * MINUTE // 2
            told = draw(st.lists(st.sampled_from(ENVELOPE), min_size=1, max_size=2))
            rows += [_row(draw, sent.message_id, network(90 + number, 1), address, at) for address in told]
    # The far side says one thing of one moment: the same row may be there twice, never in two versions.
    return World(messages, tuple({_identity(row): row for row in rows}.values()))


def _row(draw: st.DrawFn, message_id: str, network_id: str, address: str, at: Ms) -> Evidence:
    statuses = [s for s in Status if s is not Status.EXPANDED]
    status: Status = draw(st.sampled_from(statuses))
    if address == GROUP and draw(st.booleans()):
        status = Status.EXPANDED
    texts = TEXTS.get(status, ())
    text = draw(st.sampled_from(["", *texts])) if texts else ""
    return Evidence(
        Source.TRACE_CSV,
        status,
        recipient=address,
        observed_at=at + draw(st.integers(0, 50)) * SECOND,
        received_at=draw(st.sampled_from([at, at, None])),
        message_id=message_id,
        network_message_id=draw(st.sampled_from([network_id] * 4 + [""])),
        text=text,
        meaning=meaning_of(text) if text else None,
        remote=draw(st.sampled_from(["", "mail.contoso.com", "mx.elsewhere.example"])),
        holder=Holder.NOBODY if status in (Status.FAILED, Status.EXPIRED) else Holder.FAR,
        file="f",
        place="line 2",
        raw="r",
    )


def _told_by(draw: st.DrawFn, source: Source, row: Evidence, key: str) -> Evidence:
    """The row with what a source has of it: logs have the next hop's id, few have the network message id."""
    row = replace(row, source=source)
    if source in RELAYS and row.status in (Status.DEFERRED, Status.PENDING):
        # Limit: between a relay that holds a mail and others who say where it is the order still decides.
        row = replace(row, status=Status.NONE, text="", meaning=None)
    if source is Source.POSTFIX_LOG:
        row = replace(row, network_message_id="", queue_id=draw(st.sampled_from([key, "4Xother"])))
    elif source is Source.EXCHANGE_TRACKING_LOG:
        row = replace(row, queue_id=key.partition("@")[0])
        if row.recipient == ANNA and draw(st.booleans()):
            row = replace(row, recipient=RENAMED, original_recipient=draw(st.sampled_from([ANNA, ""])))
    elif source is Source.DSN:
        row = replace(row, network_message_id=draw(st.sampled_from(["", row.network_message_id])))
    return row


def trace_row(message_id: str, network_id: str, address: str, status: Status, at: Ms) -> Evidence:
    """A plain row of a trace, with its time and id."""
    return Evidence(
        Source.TRACE_CSV,
        status,
        recipient=address,
        observed_at=at,
        received_at=at,
        message_id=message_id,
        network_message_id=network_id,
        holder=Holder.FAR,
        file="f",
        place="line 2",
        raw="r",
    )


def _identity(row: Evidence) -> tuple[object, ...]:
    said = (row.recipient, row.network_message_id, row.message_id, row.status, row.observed_at, row.text)
    return row.source, row.queue_id, *said
