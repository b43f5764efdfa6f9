"""What a look says of certificates to come: days left, and what was served before. Pure.

Promises: each step towards the end (30, 14, 7, 1 day) is told once for a certificate, however often it is
looked at and whenever the service starts, because a look is compared with the looks kept before it. A renewed
certificate is told of, and so is an old one that is served again: another node behind the address still has
it (or the server went back to it), which is the finding `pool_differs`.

Limits: looks are compared address by address, as far back as whoever calls hands them in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from resubmit.meaning.advice import advice
from resubmit.model.tls import Finding, Severity, Verdict
from resubmit.probe import fingerprint
from resubmit.probe.fingerprint import Leaf

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
    """The verdict with a warning for each address at which an older certificate came back after a newer one.

    A server that went from a bad certificate back to its good one is none, nor is one that was renewed.
    `earlier`: fingerprints, newest first."""
    found = []
    for address, leaf in sorted(fingerprint.leaves(fingerprint.of(verdict)).items()):
        met = [*reversed(_past(earlier, address)), leaf]
        if not _old_one_came_back(met):
            continue
        others = sorted({f"{one.sha256[:12]}… until {one.until}" for one in met})
        text = f"Behind {address} stand nodes that differ: by turns it serves {', '.join(others)}."
        said = advice("pool_differs", where="addresses", host=verdict.target.rpartition(":")[0])
        found.append(Finding("pool_differs", Severity.WARNING, "addresses", text, said))
    return replace(verdict, findings=(*verdict.findings, *found)) if found else verdict


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
