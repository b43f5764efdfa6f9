"""A Filter as SQL: which recipients of which messages, by the indexes that are there.

Values travel as parameters, never in the text. Globs become LIKE with its wildcards escaped; texts compare
without case (beyond ASCII by `folded`, which `read.connect` registers).

A partial index is used only if the query repeats the index's own condition word for word; so the
conditions stand here as they stand in schema.sql, and a test compares them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from resubmit.model.filter import Filter
from resubmit.model.message import message_key
from resubmit.model.moment import Ms
from resubmit.model.recipient import SETTLED

TROUBLE = "state in ('retrying', 'in_doubt', 'pending', 'deferred', 'expired')"
ACCEPTED = "state = 'accepted'"
HELD = "state = 'held'"

_PARTIAL = (
    (frozenset({"retrying", "in_doubt", "pending", "deferred", "expired"}), TROUBLE),
    (frozenset({"accepted"}), ACCEPTED),
    (frozenset({"held"}), HELD),
)

_BY_KEY = """m.id in (
    with recursive days(day) as (
        select min(day) from message
        union all
        select day + 1 from days where day < (select max(day) from message)
    )
    select k.id from days cross join message k on k.day = days.day
    where k.key in (select value from json_each(?))
)"""
"""The index on Message-IDs begins with the day: one look-up a day kept, not a scan."""


@dataclass(slots=True)
class Selection:
    """`from` and `where` of a selection: recipients as `r`, messages as `m`.

    of_recipients: whether `r` is in it at all (else every message in `m` counts).
    """

    source: str
    terms: list[str] = field(default_factory=list)
    params: list[object] = field(default_factory=list)
    of_recipients: bool = True

    @property
    def sql(self) -> str:
        """The from and where clauses."""
        where = f" where {' and '.join(self.terms)}" if self.terms else ""
        return f"from {self.source}{where}"

    @property
    def message(self) -> str:
        """The column that holds the message's id."""
        return "r.message" if self.of_recipients else "m.id"


def select(flt: Filter, now: Ms, *, recipients: bool = False, messages: bool = False) -> Selection:
    """The selection a filter describes at `now`.

    recipients: the caller reads `r` even if the filter asks nothing of it; messages: the same of `m`.
    """
    on_message, message_params = _message_terms(flt)
    on_recipient, recipient_params = _recipient_terms(flt, now)
    if flt.stuck:
        first = Selection("stuck r", ["r.stuck_at <= ?", *on_recipient], [now, *recipient_params])
        return _with_messages(first, on_message, message_params, messages)
    if not on_recipient and not recipients:
        return Selection("message m", on_message, message_params, of_recipients=False)
    by_index = next((term for states, term in _PARTIAL if flt.state and states.issuperset(flt.state)), None)
    if by_index and not on_message:
        first = Selection("recipient r", [f"r.{by_index}", *on_recipient], recipient_params)
        return _with_messages(first, [], [], messages)
    if on_message:  # narrowed by the message: its indexes first
        return Selection(
            "message m cross join recipient r on r.message = m.id",
            [*on_message, *on_recipient],
            [*message_params, *recipient_params],
        )
    return _with_messages(Selection("recipient r", on_recipient, recipient_params), [], [], messages)


def _with_messages(first: Selection, terms: list[str], params: list[object], wanted: bool) -> Selection:
    if not terms and not wanted:
        return first
    return Selection(
        f"{first.source} cross join message m on m.id = r.message",
        [*first.terms, *terms],
        [*first.params, *params],
    )


def _message_terms(flt: Filter) -> tuple[list[str], list[object]]:
    terms: list[str] = []
    params: list[object] = []
    if flt.ids:
        terms.append("m.id in (select value from json_each(?))")
        params.append(json.dumps(flt.ids))
    if flt.since is not None:
        terms.append("m.received_at >= ?")
        params.append(flt.since)
    if flt.until is not None:
        terms.append("m.received_at < ?")
        params.append(flt.until)
    if flt.message_id:
        if any("*" in text for text in flt.message_id):
            _text("m.key", tuple(message_key(text) for text in flt.message_id), terms, params)
        else:
            terms.append(_BY_KEY)
            params.append(json.dumps([message_key(text) for text in flt.message_id]))
    _text("m.sender", tuple(_bare(text) for text in flt.sender), terms, params)
    _text("m.subject", flt.subject, terms, params)
    return terms, params


def _recipient_terms(flt: Filter, now: Ms) -> tuple[list[str], list[object]]:
    terms: list[str] = []
    params: list[object] = []
    _text("r.address", tuple(_bare(text) for text in flt.recipient), terms, params)
    _text("r.address", tuple(f"*@{text}" for text in flt.domain), terms, params)
    _text("r.destination", flt.destination, terms, params)
    _text("coalesce(r.cause, 'none')" if "none" in flt.cause else "r.cause", flt.cause, terms, params)
    _text("r.state", flt.state, terms, params)
    if flt.incident:
        terms.append(
            "exists (select 1 from incident_recipient i where i.message = r.message and i.n = r.n"
            " and i.incident in (select value from json_each(?)))"
        )
        params.append(json.dumps(flt.incident))
    if flt.older_than is not None:
        terms.append("r.since <= ?")
        params.append(now - flt.older_than)
    if flt.expiring_in is not None:
        settled = ", ".join(f"'{state}'" for state in sorted(SETTLED))
        terms.append(f"r.deadline between ? and ? and r.state not in ({settled})")
        params += [now, now + flt.expiring_in]
    return terms, params


def _bare(address: str) -> str:
    return address.strip().removeprefix("<").removesuffix(">")


def _text(column: str, patterns: tuple[str, ...], terms: list[str], params: list[object]) -> None:
    """A column that equals one of the texts, or fits one of the globs."""
    if not patterns:
        return
    any_of: list[str] = []
    for pattern in patterns:
        ascii_only = pattern.isascii()
        left = column if ascii_only else f"folded({column})"
        value = pattern if ascii_only else pattern.casefold()
        if "*" in value:
            any_of.append(f"{left} like ? escape '\\'")
            for plain, escaped in (("\\", "\\\\"), ("%", "\\%"), ("_", "\\_"), ("*", "%")):
                value = value.replace(plain, escaped)
        else:
            any_of.append(f"{left} = ? collate nocase")
        params.append(value)
    terms.append(f"({' or '.join(any_of)})")
