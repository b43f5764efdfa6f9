"""An event that time or a count brings to a recipient: what the rules hand to the journal's table.

Promises: it holds for the attempt it was decided on; another one makes it void.
"""

from __future__ import annotations

from dataclasses import dataclass

from resubmit.model.evidence import Holder
from resubmit.model.moment import Ms
from resubmit.model.recipient import Event, RecipientKey


@dataclass(frozen=True, slots=True)
class Due:
    """An event for a recipient, by time alone. `event` None: not yet; `wake_at`: when it may be. `ask`: a
    person has to decide. `due_at`: when its next attempt is due. `attempt`: as it was decided on."""

    key: RecipientKey
    event: Event | None
    why: str
    attempt: int
    due_at: Ms | None = None
    holder: Holder | None = None
    ask: bool = False
    wake_at: Ms | None = None
    duplicate: bool = False
