"""The journal's message ids: in time order, one 63-bit number, shown as 13 base32 characters.

42 bits of milliseconds since 1970, 5 bits of node, 16 bits of counter. An id is an order, not a time:
it never goes back even when the clock does, so filters compare `received_at` (journal facts §4).
The alphabet is Crockford's (no I, L, O, U), so an id is also a legal ENVID (RFC 3461 §4.4) and
can be read out on a phone.
"""

from __future__ import annotations

import re
from functools import lru_cache

from resubmit.model.moment import Ms

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
_VALUE = {c: i for i, c in enumerate(_ALPHABET)} | {c.lower(): i for i, c in enumerate(_ALPHABET)}
_VALUE |= {"i": 1, "I": 1, "l": 1, "L": 1, "o": 0, "O": 0}  # as they are misread
ATTEMPT_KEY = re.compile(r"\b([0-9A-HJKMNP-TV-Z]{13})\.(\d{1,5})\b")


@lru_cache(maxsize=4096)  # one message's is asked for half a dozen times on its way
def id_text(message: int) -> str:
    """A journal id as people and replies see it: 13 characters."""
    return _ALPHABET[(message >> 60) & 31] + "".join(
        [_PAIRS[(message >> shift) & 1023] for shift in (50, 40, 30, 20, 10, 0)]
    )


def parse_id(text: str) -> int:
    """The number behind a shown id, in either case. ValueError when it is none."""
    text = text.strip()
    if len(text) != 13 or any(c not in _VALUE for c in text):
        raise ValueError(f"{text!r} is not a message id; `resubmit list` shows them, 13 characters each")
    value = 0
    for c in text:
        value = value << 5 | _VALUE[c]
    return value


def attempt_key(message: int, no: int) -> str:
    """`<journal id>.<n>`: how an attempt is named in our Received field and our ENVID."""
    return f"{id_text(message)}.{no}"


def parse_attempt_key(text: str) -> tuple[int, int] | None:
    """The first `<journal id>.<n>` in a text, as (message, attempt number); None when there is none."""
    found = ATTEMPT_KEY.search(text)
    return (parse_id(found[1]), int(found[2])) if found else None


class IdMaker:
    """Makes ids that only grow: by the clock where it moves on, by the counter where it does not."""

    def __init__(self, last: int = 0, node: int = 0) -> None:
        self._last = last
        self._node = node & 31

    def next(self, now: Ms) -> int:
        """An id greater than every one before it."""
        candidate = (now & ((1 << 42) - 1)) << 21 | self._node << 16
        if candidate <= self._last:
            candidate = self._last + 1
        self._last = candidate
        return candidate
