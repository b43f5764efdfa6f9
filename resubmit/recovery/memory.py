"""What a gate remembers between two decisions, kept as JSON in the journal beside it.

Promises: a round trip through the journal changes nothing; fields a newer version wrote are ignored.
Times are ms UTC.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from resubmit.model.moment import Ms


@dataclass(frozen=True, slots=True)
class Reference:
    """The look at the fault's own time, which a healthy one must differ from."""

    at: Ms
    health: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Memory:
    """A gate's memory.

    fault_at: the first sign of the fault at hand. worst_at: the newest one that counts against the present;
    looks before it are no row. reference: see there, None where there is no look from that time.
    unknown_since: since when looks have told nothing. fixed_at: the first healthy look of the row that was
    believed; it stays after opening, because only attempts taken later than it speak against the gate.
    healthy_at: when the row was complete; settle counts from it. basis: why it was believed (see gate.py).
    tries: canaries that failed since the gate was open last. failed_at: when the last did. flapping_at: since
    when the looks come and go. told: what a person was last told of, so that it is said once. shut_why: why
    it closed last, for the incident's report.
    """

    fault_at: Ms | None = None
    worst_at: Ms | None = None
    reference: Reference | None = None
    unknown_since: Ms | None = None
    fixed_at: Ms | None = None
    healthy_at: Ms | None = None
    basis: str = ""
    tries: int = 0
    failed_at: Ms | None = None
    flapping_at: Ms | None = None
    told: str = ""
    shut_why: str = ""

    def to_text(self) -> str:
        """As the gate's `data`."""
        kept = {name: value for name, value in asdict(self).items() if value not in (None, "", 0)}
        return json.dumps(kept, sort_keys=True)


_FIELDS = frozenset(f.name for f in fields(Memory))


def memory_of(data: str) -> Memory:
    """The memory in a gate's `data`; an empty one where there is none."""
    plain = {name: value for name, value in json.loads(data or "{}").items() if name in _FIELDS}
    if isinstance(plain.get("reference"), dict):
        plain["reference"] = Reference(**plain["reference"])
    return Memory(**plain)
