"""The small language in which signs write a text, so that the table can be read by people.

    mailbox (is |)full      one of the alternatives, the empty one too; they may nest
    exceeded … quota        nothing or up to 60 characters in between
    greylist*               the word may go on
    AS(7555                 a parenthesis that is not closed stands for itself
    anything else           as it stands, in any case, blanks and quotation marks of any kind alike

A phrase begins and ends at the edge of a word: `SPF` is not found in `NSPFX`.

Source: our own. Limits: linear time on any text, since a gap is bounded and nothing repeats.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

_LEFT = r"(?<![^\W_])"
_RIGHT = r"(?![^\W_])"
_MORE = r"[^\W_]{0,40}"
_GAP = ".{0,60}?"
_GAP_BETWEEN_WORDS = " (?:.{0,60}? )?"


@dataclass(frozen=True)
class Phrase:
    """One text of a sign. `needles`: every fitting text has one of these; looked for before the pattern."""

    text: str
    needles: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "needles", _needles(self.text.lower()))

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Compiled on first use: most phrases of the table are never needed in a process."""
        text = self.text.lower()
        inside, depth = "", 0
        for part, opens in _parts(text):
            depth += opens
            inside += _translated(part, opens, depth)
        left = _LEFT if text[:1].isalnum() or text.startswith("(") else ""
        right = _RIGHT if text[-1:].isalnum() or text.endswith(")") else ""
        return re.compile(left + inside + right)

    @property
    def is_plain(self) -> bool:
        """Whether it is one literal."""
        return not any(char in self.text for char in "(…*")

    def stands_in(self, text: str) -> bool:
        """Whether it stands in a text that is in lower case, with single blanks."""
        return self.pattern.search(text) is not None


_SHORT = 4
"""Letters from which a literal is rare enough to be looked for."""


def _needles(text: str) -> tuple[str, ...]:
    """The longest literal outside of groups; where that is short, the alternatives of one group."""
    outside, depth = "", 0
    groups: list[list[str]] = []
    for part, opens in _parts(text):
        if opens > 0 and depth == 0:
            groups.append([""])
        depth += opens
        literal = opens == 0 and part not in ("…", "*", " … ")
        outside += part if depth == 0 and literal else "\n"
        if depth == 1 and part == "|":
            groups[-1].append("")
        elif depth:
            groups[-1][-1] += part if depth == 1 and literal else "\n"
    best = _longest(outside)
    if len(best) >= _SHORT:
        return (best,)
    choices = [tuple(map(_longest, group)) for group in groups]
    return max([(best,), *choices], key=lambda found: min(map(len, found)))


def _longest(text: str) -> str:
    return max((piece.strip() for piece in text.split("\n")), key=len)


def _parts(text: str) -> list[tuple[str, int]]:
    """The text cut at what has a meaning: each part with 1 where it opens a group, -1 where it closes one."""
    closed = _groups(text)
    found = []
    for cut in re.finditer(r" … |[^ …*()|]+|.", text):
        part = cut[0]
        opens = {"(": 1, ")": -1}.get(part, 0) if cut.start() in closed else 0
        found.append((part, opens))
    return found


def _groups(text: str) -> set[int]:
    """Where parentheses stand that have their other half."""
    waiting: list[int] = []
    closed: set[int] = set()
    for at, char in enumerate(text):
        if char == "(":
            waiting.append(at)
        elif char == ")" and waiting:
            closed |= {waiting.pop(), at}
    return closed


def _translated(part: str, opens: int, depth: int) -> str:
    if opens:
        return "(?:" if opens > 0 else ")"
    if part == "|" and depth:
        return "|"
    return {"*": _MORE, "…": _GAP, " … ": _GAP_BETWEEN_WORDS}.get(part) or re.escape(part)
