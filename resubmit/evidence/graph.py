"""Which request to Graph's message trace comes next, and what an answer adds to what is known.

    front   what came in since the last complete answer, and a while before it: rows come late
    whole   the time of everything that is open: a row's status changes later; asked in growing steps of its
            cost, and at once when a gate has turned (the last look)
    details the events of one recipient, for what is stuck without a cause

Promises: a window is at most 10 days, one value a property in a filter, paging by the links that come;
never more requests in 5 minutes than the budget, restarts included; a complete window is coverage.

Source: microsoft.md sections 1.2 to 1.4; design, sections 3 (rule 10) and 4 (*Limits*: the last look).
Limits: the service draws on a budget that the tenant's other tools draw on too: 429 is to be expected.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import quote, urlsplit

from resubmit.evidence.base import Item, Reading
from resubmit.evidence.graph_says import Problem, Step, Then
from resubmit.evidence.kinds.trace_graph import page_items
from resubmit.model.evidence import Evidence, Source, Unreadable
from resubmit.model.lateness import Lateness
from resubmit.model.moment import DAY, HOUR, MINUTE, SECOND, Ms, to_datetime

SOURCE = str(Source.TRACE_GRAPH)
NAME = "message trace (Graph)"
"""How it is called where files are named."""
BUDGET_SPAN = 5 * MINUTE
WIDEST = 10 * DAY - MINUTE
"""A window of exactly 10 days is one too many if the clocks differ."""
OLDEST = 89 * DAY
"""Rows are kept for 90 days."""
REACH = 3 * DAY
"""So far back the window of everything open goes: longer than any far side keeps trying."""
SLACK = 15 * MINUTE
"""Before the time at which a mail of ours was taken, by clocks that differ."""
OVERLAP = HOUR
"""What is asked again of the front: rows come 5 to 10 minutes late, rarely more."""
IDLE = 15 * MINUTE
"""Between two requests while nothing is open: the trace stays live, and a fault of the set-up is seen."""
WHOLE_IN_TROUBLE, WHOLE_ELSE = 5 * MINUTE, 15 * MINUTE
PAGE = 5_000
MOST_PAGES = 2_000
KEPT_FOR_LISTS = 20
"""Requests of the budget that details leave alone."""
_FIRST_BACKOFF, _LONGEST_BACKOFF = 30 * SECOND, 15 * MINUTE
SETUP_AGAIN = 5 * MINUTE
"""A fault of the set-up is looked at again so often: whoever mends it wants to see it gone."""
LONGEST_WAIT = HOUR
"""Nobody may tell us to wait for longer."""
_SURE = 6 * MINUTE
"""How late is only counted where it is known to within this."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is kept over restarts. stamps: when requests were made, of the last 5 minutes; complete_until:
    all up to then was answered for; asked_at: the last complete answer's question; whole_at, whole_since,
    whole_pages: the last one for everything open; quiet_until: nothing is asked before; failures: in a row;
    late: counts of model.lateness; ahead: by how much our clock is ahead of Graph's."""

    stamps: tuple[Ms, ...] = ()
    complete_until: Ms | None = None
    asked_at: Ms | None = None
    whole_at: Ms | None = None
    whole_since: Ms | None = None
    whole_pages: int = 1
    quiet_until: Ms = 0
    failures: int = 0
    late: tuple[int, ...] = Lateness().counts
    ahead: Ms = 0

    def to_text(self) -> str:
        """As the journal keeps it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str | None) -> Memory:
        """What was kept; a new one where that can't be read."""
        try:
            plain: dict[str, Any] = json.loads(text or "{}")
            known = {key: plain[key] for key in cls.__slots__ if key in plain}
            if "stamps" in known:
                known["stamps"] = tuple(int(one) for one in known["stamps"])
            return cls(**known | {"late": Lateness.of(known.get("late")).counts})
        except (ValueError, TypeError, AttributeError):
            return cls()


@dataclass(frozen=True, slots=True)
class Open:
    """What the trace is needed for. oldest: when the first of what is open was taken; waiting: of what waits
    in a job for its last look; trouble: somebody is stuck or a gate is not open; turned_at: when a gate last
    turned."""

    oldest: Ms | None = None
    waiting: Ms | None = None
    trouble: bool = False
    turned_at: Ms | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """What one question asks for: mail taken between two times, in whole seconds; whole: everything open.
    begins: where the first of the questions that go together begins; is_last: whether it is their last."""

    since: Ms
    until: Ms
    whole: bool
    begins: Ms = 0
    is_last: bool = True


# ── the budget ──────────────────────────────────────────────────────────────────────────────────────


def free(memory: Memory, budget: int, now: Ms) -> int:
    """How many requests may be made now."""
    return max(budget - len(_recent(memory, now)), 0)


def free_at(memory: Memory, budget: int, now: Ms) -> Ms:
    """When the next request may be made."""
    recent = _recent(memory, now)
    at = now if len(recent) < budget else sorted(recent)[len(recent) - budget] + BUDGET_SPAN
    return max(at, memory.quiet_until)


def _recent(memory: Memory, now: Ms) -> list[Ms]:
    # A stamp of the future is of a clock that was set back: it counts as made just now.
    return [min(at, now) for at in memory.stamps if now - at < BUDGET_SPAN]


def requested(memory: Memory, now: Ms) -> Memory:
    """A request is made now."""
    return replace(memory, stamps=(*_recent(memory, now), now))


# ── when, and what ──────────────────────────────────────────────────────────────────────────────────


def next_at(memory: Memory, needed: Open, poll: Ms, now: Ms) -> tuple[Ms, bool]:
    """When to ask next, and whether for everything open. A time that has passed means now."""
    whole = _whole_at(memory, needed, now)
    # What lies in the future is of a clock that was set back since.
    if memory.asked_at is None or memory.asked_at > now:
        front = now
    else:
        front = memory.asked_at + (IDLE if needed.oldest is None and not needed.trouble else poll)
    quiet_until = min(memory.quiet_until, now + LONGEST_WAIT)
    return max(min(whole, front), quiet_until), whole <= max(front, now)


def _whole_at(memory: Memory, needed: Open, now: Ms) -> Ms:
    if needed.oldest is None and not needed.trouble:
        return now + DAY
    if (
        memory.whole_at is None
        or memory.whole_at > now
        or (needed.turned_at is not None and memory.whole_at <= needed.turned_at)
    ):
        return now
    if needed.waiting is not None and needed.waiting - SLACK < (memory.whole_since or 0):
        return now
    every = WHOLE_IN_TROUBLE if needed.trouble else WHOLE_ELSE
    # At most a third of the budget goes into it.
    cost = memory.whole_pages * BUDGET_SPAN // 30
    return memory.whole_at + max(every, cost)


def accepted_since(memory: Memory, now: Ms) -> Ms | None:
    """From when on mail that was taken, and of which nothing was heard, is asked about; None: all of it,
    after a time in which nobody asked."""
    asked = memory.complete_until is not None and now - memory.complete_until < REACH
    return now - REACH if asked else None


def windows(memory: Memory, needed: Open, whole: bool, now: Ms) -> list[Window]:
    """The questions to ask now, the oldest first."""
    until = (now - max(memory.ahead, 0)) // SECOND * SECOND
    first = needed.oldest - SLACK if needed.oldest is not None else until - OVERLAP
    since = first
    if memory.complete_until is not None:
        late = Lateness(memory.late).within(99) or 0
        # What came in while nobody asked, as far as it can be about anything that is open.
        since = max(min(memory.complete_until, until) - max(OVERLAP, 2 * MINUTE * late), first)
        if since > memory.complete_until:
            since = min(since, until - OVERLAP)
    if whole:
        since = min(since, max(first, until - REACH))
        if needed.waiting is not None:
            since = min(since, needed.waiting - SLACK)
    begins = max(min(since, until - SECOND), until - OLDEST) // SECOND * SECOND
    found = []
    since = begins
    while since < until:
        ends = min(since + WIDEST, until)
        found.append(Window(since, ends, whole, begins, is_last=ends == until))
        since = ends
    return found


def answered(memory: Memory, window: Window, pages: int, asked_at: Ms) -> Memory:
    """A window was answered for completely."""
    memory = replace(
        memory,
        complete_until=max(window.until, memory.complete_until or 0),
        failures=0,
        quiet_until=0,
    )
    if not window.is_last:
        return memory
    if not window.whole:
        return replace(memory, asked_at=asked_at)
    return replace(
        memory,
        asked_at=asked_at,
        whole_at=asked_at,
        whole_since=window.begins or window.since,
        whole_pages=max(pages, 1),
    )


def failed(memory: Memory, problem: Problem, now: Ms) -> Memory:
    """No answer: nothing is asked for a while."""
    failures = min(memory.failures + 1, 20)
    wait = min(_FIRST_BACKOFF * 2 ** (failures - 1), _LONGEST_BACKOFF)
    if problem.then is Then.SETUP:
        wait = SETUP_AGAIN
    elif problem.wait is not None:
        wait = max(problem.wait, SECOND)
    return replace(memory, failures=failures, quiet_until=now + wait)


# ── addresses ───────────────────────────────────────────────────────────────────────────────────────


def list_url(endpoint: str, window: Window, from_ip: str = "") -> str:
    """The first page of a window. Both bounds, since only together they are taken; `le`, not `lt`."""
    said = f"receivedDateTime ge {_iso(window.since)} and receivedDateTime le {_iso(window.until)}"
    if from_ip:
        said += f" and fromIP eq '{from_ip}'"
    return f"{_base(endpoint)}?$filter={quote(said, safe=':')}&$top={PAGE}"


def details_url(endpoint: str, network_message_id: str, recipient: str) -> str:
    """The events of one recipient: a bound function, its quotes doubled."""
    name = quote(recipient.replace("'", "''"), safe="")
    trace = quote(network_message_id, safe="")
    return f"{_base(endpoint)}/{trace}/getDetailsByRecipient(recipientAddress='{name}')"


def _base(endpoint: str) -> str:
    return f"{endpoint.rstrip('/')}/admin/exchange/tracing/messageTraces"


def _iso(at: Ms) -> str:
    return f"{to_datetime(at):%Y-%m-%dT%H:%M:%SZ}"


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Page:
    """One answer: its rows or events, what of it can't be read, and where it goes on ("": it is the last).
    lost: how many rows gave no evidence."""

    rows: tuple[Evidence, ...]
    unreadable: tuple[Unreadable, ...]
    following: str = ""
    lost: int = 0


def page_of(body: bytes, url: str, seen: frozenset[str], recipient: str = "") -> Page | Problem:
    """What an answer to `url` says. seen: the pages of this question so far; recipient: of details."""
    try:
        plain = json.loads(body)
    except (ValueError, RecursionError):
        return Problem(Step.ANSWER, Then.AGAIN, "Graph's answer is no JSON: it was cut off on its way")
    if not isinstance(plain, dict) or not isinstance(plain.get("value"), list):
        return Problem(Step.ANSWER, Then.AGAIN, "Graph's answer holds no rows, not even an empty list")
    following = plain.get("@odata.nextLink") or ""
    if following and (wrong := _wrong_link(following, url, seen)):
        return Problem(Step.ANSWER, Then.AGAIN, wrong)
    items: list[Item] = page_items(body, Reading(NAME), recipient)
    rows = tuple(item for item in items if isinstance(item, Evidence))
    unreadable = tuple(item for item in items if isinstance(item, Unreadable))
    return Page(rows, unreadable, following, len({u.place for u in unreadable} - {r.place for r in rows}))


def is_complete(rows: int, lost: int) -> bool:
    """Whether an answer stands for everything: a few odd rows of others', which name no recipient or no time,
    take nothing from it."""
    return lost * 100 <= rows + lost


def _wrong_link(following: object, url: str, seen: frozenset[str]) -> str:
    """Why a link to the next page is not followed, "" when it is."""
    if not isinstance(following, str):
        return "Graph's link to the next page is no link"
    try:
        mine, theirs = urlsplit(url), urlsplit(following)
        same = (mine.scheme, mine.hostname, mine.port) == (theirs.scheme, theirs.hostname, theirs.port)
    except ValueError:
        return "Graph's link to the next page is no link"
    if not same or theirs.username or theirs.password:
        return "Graph's link to the next page leads to another host: it is not followed"
    if following in seen or following == url:
        return "Graph's pages go round in a circle"
    if len(seen) >= MOST_PAGES:
        return f"the answer has more than {MOST_PAGES} pages"
    return ""


# ── lateness ────────────────────────────────────────────────────────────────────────────────────────


def counted_late(
    memory: Memory, received_at: Sequence[Ms | None], asked_before: Ms | None, now: Ms
) -> Memory:
    """Rows that were not there before are counted by how late they came, where that is known well enough:
    between `asked_before` (the last complete answer) and now, and after they were received."""
    if asked_before is None:
        return memory
    known = [at for at in received_at if at is not None and at <= now]
    spans = [now - at for at in known if now - max(asked_before, at) <= _SURE]
    return replace(memory, late=Lateness(memory.late).with_spans(spans).counts)
