"""Which messages the keys of evidence name, for many pieces of evidence in one snapshot. Read only.

Limits: keys are indexed by day (no index in random order at intake), so a look-up asks each day the journal
holds, about 1 µs a day; what the sieves hold back is not asked for at all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from resubmit.journal.codec import day_of
from resubmit.journal.connection import sqlite3
from resubmit.journal.sieve import Sieves
from resubmit.journal.verbs import Lookup
from resubmit.model.envelope import address_key
from resubmit.model.moment import MINUTE, Ms

_NEAR: Ms = 12 * MINUTE
"""How far from a row's time of receipt an attempt is looked for: the 10 minutes of rule 2, whole seconds,
and clocks that differ."""

# The days a table holds, each by one step in its index: stamps may lie decades apart.
_DAYS_OF = """
with recursive d (day) as (
    select (select min(day) from {table} {where})
    union all
    select (select min(t.day) from {table} t {where} {and_} t.day > d.day) from d where d.day is not null
)
select day from d where day is not null
"""

_DAYS = {
    "message": _DAYS_OF.format(table="message", where="", and_="where"),
    "binding": _DAYS_OF.format(table="binding", where="", and_="where"),
    "offer": _DAYS_OF.format(table="offer", where="where next_key is not null", and_="and"),
    "evidence": _DAYS_OF.format(table="evidence", where="where message is null", and_="and"),
}

_BY_KEY = """
select m.id, m.day
from json_each(?1) d
cross join message m
where m.day = d.value and m.key = ?2
"""

_BY_NETWORK_ID = """
select o.message, 0
from json_each(?1) d
cross join binding b
cross join offer o
where b.day = d.value and b.network_message_id = ?2 and o.id = b.offer
"""

_BY_NEXT_KEY = """
select o.message, 0
from json_each(?1) d
cross join offer o
where o.day = d.value and o.next_key = ?2 and o.next_key is not null
"""

# Exchange's own id is `<InternalId>@<host>` in its 250, and the number alone in its logs.
_BY_INTERNAL_ID = """
select o.message, 0
from json_each(?1) d
cross join offer o
where o.day = d.value and o.next_key > ?2 || '@' and o.next_key < ?2 || 'A' and o.next_key is not null
"""

_QUERIES = {"message": _BY_KEY, "binding": _BY_NETWORK_ID, "offer": _BY_NEXT_KEY}

_IS_UNOWNED = """
select 1
from json_each(?1) d
cross join evidence e
where e.message is null and e.day = d.value and e.key = ?2
limit 1
"""

_UNOWNED_KEYS = "select distinct key from evidence where message is null and day = ? and key <> ''"

_IS_OWNER = "select 1 from evidence where message = ? limit 1"

_BY_TIME = """
select o.ended_at, lower(m.sender), lower(r.address), o.message
from offer o
join message m on m.id = o.message
join recipient r on r.message = o.message
where o.ended_at between ? and ? and o.ended_at is not null
order by o.ended_at
"""


class Keys:
    """Look-ups by key in one snapshot. `sieves`: what surely is in none of its tables, if that is known."""

    def __init__(self, connection: sqlite3.Connection, sieves: Sieves | None = None) -> None:
        self._connection = connection
        self._sieves = sieves
        self._days: dict[str, str] = {}
        self._found: dict[tuple[str, str], list[tuple[int, int]]] = {}

    def days(self, table: str) -> list[int]:
        """The days of which a table (message, binding, offer with an id, evidence of nobody's) has rows."""
        return [int(day) for day in json.loads(self._listed(table))]

    def _listed(self, table: str) -> str:
        if table not in self._days:
            found = [day for (day,) in self._connection.execute(_DAYS[table])]
            self._days[table] = json.dumps(found)
        return self._days[table]

    def messages(self, table: str, key: str, until: Ms | None = None) -> list[int]:
        """The messages with a Message-ID key (table message), a bound network message id (binding) or a next
        hop's id (offer). until: of the first only what came on that day, the day after it, or before."""
        if self._sieves is not None and not self._sieves.passes(table, key):
            return []
        found = self._found.get((table, key))
        if found is None:
            found = self._connection.execute(_QUERIES[table], (self._listed(table), key)).fetchall()
            if table == "offer" and key.isdecimal():
                found += self._connection.execute(_BY_INTERNAL_ID, (self._listed(table), key))
            self._found[table, key] = found
        if until is None:
            return [message for message, _ in found]
        last = day_of(until) + 1
        return [message for message, day in found if day <= last]

    def is_unowned(self, key: str) -> bool:
        """Whether there is evidence of that Message-ID that is nobody's."""
        return self._connection.execute(_IS_UNOWNED, (self._listed("evidence"), key)).fetchone() is not None

    def unowned_of_ours(self) -> list[str]:
        """The Message-ID keys of which there is evidence of nobody's, and a message."""
        found: set[str] = set()
        for day in self.days("evidence"):
            asked = self._connection.execute(_UNOWNED_KEYS, (day,))
            found.update(key for (key,) in asked if self.messages("message", key))
            self._found.clear()
        return sorted(found)

    def is_alone(self, key: str, message: int) -> bool:
        """Whether the message is the only one with its key, and nothing was ever heard of either."""
        if not key or self._connection.execute(_IS_OWNER, (message,)).fetchone() is not None:
            return False
        return self.messages("message", key) == [message] and not self.is_unowned(key)

    def of_lookups(self, lookups: Sequence[Lookup]) -> list[set[int]]:
        """For each lookup the messages it may be about."""
        answers = [self._of_keys(lookup) for lookup in lookups]
        keyless = [
            (lookup.received_at, place)
            for place, lookup in enumerate(lookups)
            if not lookup.key and lookup.received_at is not None and lookup.recipient
        ]
        # Look-ups near each other share one walk through the attempts of their time.
        walk: list[int] = []
        until: Ms = 0
        for at, place in sorted(keyless):
            if walk and at > until:
                self._by_time(lookups, walk, answers)
                walk = []
            walk.append(place)
            until = at + 2 * _NEAR
        if walk:
            self._by_time(lookups, walk, answers)
        return answers

    def _of_keys(self, lookup: Lookup) -> set[int]:
        found: set[int] = set()
        if lookup.attempt_message is not None:
            found.add(lookup.attempt_message)
        if lookup.network_message_id:
            found.update(self.messages("binding", lookup.network_message_id))
        if lookup.queue_id:
            found.update(self.messages("offer", lookup.queue_id))
        if lookup.key:
            found.update(self.messages("message", lookup.key, lookup.received_at))
        return found

    def _by_time(self, lookups: Sequence[Lookup], places: Sequence[int], answers: list[set[int]]) -> None:
        wanted: dict[tuple[str, str], list[tuple[Ms, int]]] = {}
        for place in places:
            lookup = lookups[place]
            who = (address_key(lookup.sender), address_key(lookup.recipient))
            wanted.setdefault(who, []).append((lookup.received_at or 0, place))
        times = [lookups[place].received_at or 0 for place in places]
        span = (min(times) - _NEAR, max(times) + _NEAR)
        for ended_at, sender, address, message in self._connection.execute(_BY_TIME, span):
            for at, place in wanted.get((sender, address), ()):
                if abs(at - ended_at) <= _NEAR:
                    answers[place].add(message)


def days(connection: sqlite3.Connection) -> dict[str, list[int]]:
    """The days each table that a message is found by has rows of."""
    keys = Keys(connection)
    return {table: keys.days(table) for table in _QUERIES}
