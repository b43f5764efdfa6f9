"""How the rules speak to people: times and counts in the reasons of a decision.

Promises: the same values give the same words anywhere, so a reason that has not changed is not written
again. Limits: times are shown in UTC with their zone; the screens have the local ones.
"""

from __future__ import annotations

from datetime import UTC

from resubmit.model.moment import Ms, local_text


def at_text(at: Ms) -> str:
    """A time in a reason: `2026-11-24 03:12:07 UTC`."""
    return local_text(at, UTC)


def many(count: int, one: str, more: str = "") -> str:
    """`1 look`, `3 looks`; `more` where the plural is not with an s."""
    return f"{count} {one if count == 1 else more or one + 's'}"
