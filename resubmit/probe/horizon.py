"""What a look says of certificates to come: days left, and what was served before. Pure.

Promises: each step towards the end (30, 14, 7, 1 day) is told once for a certificate, however often it is
looked at and whenever the service starts, because a look is compared with the looks kept before it. A renewed
certificate is told of, and so is an old one that is served again: another node behind the address still has
it (or the server went back to it), which is the finding `pool_differs`; and so are servers that call
themselves by different names and answer by turns, one of them with a fault or a certificate of its own.

Limits: looks are compared address by address, as far back as whoever calls hands them in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from resubmit.meaning.advice import advice
from resubmit.model.tls import Finding, Severity, Verdict
from resubmit.probe import fingerprint
from resubmit.probe.fingerprint import Leaf, Node

STEPS = (30, 14, 7, 1)
"""Days before the end at which a person is told, once each."""


class Change(StrEnum):
    """What became of the certificate an address serves."""

    RENEWED = "renewed"
    """one that was not served there before"""
    WENT_BACK = "went_back"
    """one that was served there before the last one"""


@dataclass(frozen=True, slots=True)
class Changed:
    """An address serves another certificate than at the last look that saw one."""

    how: Change
    address: str
    before: Leaf
    now: Leaf


def step_reached(days_before: int | None, days_left: int | None) -> int | None:
    """The step (30, 14, 7, 1) that is reached now and was not at the look before; None for none.

    days_before: None where no look saw the same certificates. Whole days, as a look keeps them."""
    if days_left is None:
        return None
    reached = [step for step in STEPS if days_left <= step and (days_before is None or days_before > step)]
    return min(reached, default=None)


def days_before(earlier: Sequence[tuple[str, int | None]], now: str) -> int | None:
    """The days left at the newest earlier look that saw the same certificates as the look `now`.

    earlier: (fingerprint, days left), newest first."""
    served = _served(now)
    for text, days in earlier:
        if days is not None and _served(text) == served:
            return days
    return None


def changes(earlier: Sequence[str], now: str) -> list[Changed]:
    """What changed against the newest earlier look at each address. `earlier`: fingerprints, newest first."""
    found = []
    for address, leaf in sorted(fingerprint.leaves(now).items()):
        past = _past(earlier, address)
        if past and past[0].sha256 != leaf.sha256:
            known = any(old.sha256 == leaf.sha256 for old in past)
            found.append(Changed(Change.WENT_BACK if known else Change.RENEWED, address, past[0], leaf))
    return found


def with_pool(verdict: Verdict, earlier: Sequence[str]) -> Verdict:
    """The verdict with a warning for each address behind which nodes differ: where an older certificate came
    back after a newer one, or servers of two EHLO names answer by turns, with another certificate or fault.

    A server that went from a bad certificate back to its good one is none, nor is one that was renewed; nor
    are two nodes that differ in their EHLO names alone. `earlier`: fingerprints, newest first."""
    found = []
    for address, node in sorted(fingerprint.nodes(fingerprint.of(verdict)).items()):
        past = [nodes[address] for text in earlier if address in (nodes := fingerprint.nodes(text))]
        met = [*reversed(past), node]
        shown = [one.leaf for one in met if one.leaf is not None]
        if node.leaf is not None and _old_one_came_back(shown):
            told = sorted({f"{one.sha256[:12]}… until {one.until}" for one in shown})
            text = f"Behind {address} stand nodes that differ: by turns it serves {', '.join(told)}."
        elif by_turns := _by_turns(met):
            told = sorted({_described(one) for one in by_turns})
            text = f"Behind {address} stand nodes that differ, which answer by turns: {', '.join(told)}."
        else:
            continue
        said = advice("pool_differs", where="addresses", host=verdict.target.rpartition(":")[0])
        found.append(Finding("pool_differs", Severity.WARNING, "addresses", text, said))
    return replace(verdict, findings=(*verdict.findings, *found)) if found else verdict


def _by_turns(met: Sequence[Node]) -> tuple[Node, Node] | None:
    """A node that was met again after one of another EHLO name that was not like it. Oldest first."""
    for last, one in reversed(list(enumerate(met))):
        first = met.index(one)
        for other in met[first + 1 : last]:
            if "-" not in (one.ehlo, other.ehlo) and other.ehlo != one.ehlo and not _is_alike(one, other):
                return one, other
    return None


def _is_alike(one: Node, other: Node) -> bool:
    return (one.leaf, one.offered, one.stops) == (other.leaf, other.offered, other.stops)


def _described(node: Node) -> str:
    leaf = f"certificate {node.leaf.sha256[:12]}… until {node.leaf.until}" if node.leaf else "no certificate"
    fault = "" if node.stops == "-" else f", faulty at {node.stops}"
    return f"{node.ehlo} ({leaf}{fault})"


def _old_one_came_back(met: Sequence[Leaf]) -> bool:
    """Whether, oldest first, a certificate is met again after one that ends later."""
    for place, one in enumerate(met):
        newer = [i for i, other in enumerate(met[:place]) if other.until > one.until]
        if newer and any(other == one for other in met[: newer[-1]]):
            return True
    return False


def _past(earlier: Sequence[str], address: str) -> list[Leaf]:
    return [leaves[address] for text in earlier if address in (leaves := fingerprint.leaves(text))]


def _served(text: str) -> frozenset[str]:
    return frozenset(leaf.sha256 for leaf in fingerprint.leaves(text).values())
