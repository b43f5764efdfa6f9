"""Is a faulty node hidden behind a healthy one? (design section 4, *A faulty node behind one address*)

Promises: pure. Where looks at one address alternated between two (EHLO name, leaf certificate) pairs, the
faulty one must be absent from 7 connections before its absence is believed; and so must a faulty address
that the name gave now and then. A fault that came, stayed and went is no alternation.

It reads what a look's fingerprint says of each address (`address leaf=… until=… starttls=… ehlo=… stops=…`,
a line each); a fingerprint of another form has no nodes. Limits: seven connections miss one bad node of two
once in a hundred times, one of three more often.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby

from resubmit.recovery.facts import Look

ABSENT_FROM = 7
"""Connections: with two nodes by turns at random, one is met in 99 of 100."""

_UNSEEN = "-"


@dataclass(frozen=True, slots=True)
class Node:
    """What answered at an address. `leaf`: SHA-256 of its certificate in hex; each "-" when not seen."""

    address: str
    ehlo: str
    leaf: str
    faulty: bool

    @property
    def pair(self) -> tuple[str, str]:
        return self.ehlo, self.leaf


@dataclass(frozen=True, slots=True)
class Hidden:
    """A faulty node that is not met at the moment. `absent`: from so many connections."""

    node: Node
    absent: int
    is_address: bool

    def text(self) -> str:
        """The reason, for people."""
        node = self.node
        if self.is_address:
            who = f"the name gives {node.address} now and then, and it was faulty when last met"
        else:
            leaf = f"certificate {node.leaf[:12]}…" if node.leaf != _UNSEEN else "no certificate"
            who = f"two servers answer at {node.address} by turns, and {node.ehlo} ({leaf}) was faulty"
        return f"{who}: absent from {self.absent} connections of the {ABSENT_FROM} that are believed"


def nodes_of(look: Look) -> tuple[Node, ...]:
    """What answered in a look, an address each; addresses at which nothing spoke are left out."""
    found = []
    for line in look.fingerprint.splitlines():
        address, *words = line.split(" ")
        said = dict(word.split("=", 1) for word in words if "=" in word)
        if not {"leaf", "ehlo", "stops"} <= said.keys():
            continue
        if (said["ehlo"], said["leaf"]) != (_UNSEEN, _UNSEEN):
            found.append(Node(address, said["ehlo"], said["leaf"], said["stops"] != _UNSEEN))
    return tuple(found)


def hidden(looks: Sequence[Look]) -> Hidden | None:
    """The faulty node that was absent from the fewest connections, None where there is none to fear.

    looks: those that told something, newest first."""
    seen = [found for look in reversed(looks) if (found := nodes_of(look))]
    feared = [*_behind_addresses(seen), *_among_addresses(seen)]
    return min(feared, key=lambda h: (h.absent, h.node.address, h.node.pair), default=None)


def _behind_addresses(seen: Sequence[tuple[Node, ...]]) -> list[Hidden]:
    feared = []
    for address in sorted({node.address for found in seen for node in found}):
        met = [node for found in seen for node in found if node.address == address]
        for pair in sorted({node.pair for node in met}):
            last = max(i for i, node in enumerate(met) if node.pair == pair)
            absent = len(met) - 1 - last
            alternated = _alternated([node.pair for node in met], pair)
            if met[last].faulty and absent < ABSENT_FROM and alternated:
                feared.append(Hidden(met[last], absent, False))
    return feared


def _among_addresses(seen: Sequence[tuple[Node, ...]]) -> list[Hidden]:
    feared = []
    for address in sorted({node.address for found in seen for node in found}):
        there = [any(node.address == address for node in found) for found in seen]
        last = max(i for i, is_there in enumerate(there) if is_there)
        node = next(node for node in seen[last] if node.address == address)
        absent = len(seen) - 1 - last
        if node.faulty and absent and absent < ABSENT_FROM and _alternated(there, True):
            feared.append(Hidden(node, absent, True))
    return feared


def _alternated(met: Sequence[Hashable], one: Hashable) -> bool:
    """Whether `one` came back after another, or was met once between two meetings of the same other."""
    runs = [(what, len(list(run))) for what, run in groupby(met)]
    places = [i for i, (what, _) in enumerate(runs) if what == one]
    if len(places) > 1:
        return True
    place = places[0]
    is_between = 0 < place < len(runs) - 1 and runs[place - 1][0] == runs[place + 1][0]
    return is_between and runs[place][1] == 1
