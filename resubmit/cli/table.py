"""Text for a terminal: cleaned, measured, cut and put into columns.

Promises: nothing that comes from mail can move the cursor or hide a character; no line is wider than
asked, East Asian wide characters counted as two.

Source: Unicode UAX #11 (East Asian Width). Limits: joined emoji may be counted wider than they are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from unicodedata import category, combining, east_asian_width

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Controls, format characters (bidi overrides among them), surrogates, unassigned, separators of lines."""

GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """A column: heading, the least it may be squeezed to, whether it stands to the right, and where it is
    cut when it has to be (`end` or `middle`)."""

    heading: str
    least: int = 4
    right: bool = False
    cut: str = "end"


def clean(text: object) -> str:
    """The text on one line, without what a terminal would act upon; a tab or newline becomes a blank."""
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if category(c) not in _HIDDEN else " " if c in "\t\n\r" else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )


def counted(count: int, what: str) -> str:
    """`1 message`, `2 messages`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def width(text: str) -> int:
    """How many columns a cleaned text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, columns: int, where: str = "end") -> str:
    """The text, shortened with … to the number of columns; `middle` keeps both ends."""
    if width(text) <= columns:
        return text
    if columns <= 1:
        return "…"[:columns]
    if where == "middle":
        head = (columns - 1) // 2
        return _left(text, head) + "…" + _left(text[::-1], columns - 1 - head)[::-1]
    return _left(text, columns - 1) + "…"


def table(columns: Sequence[Column], rows: Sequence[Sequence[object]], total: int = 80) -> list[str]:
    """The lines of a table, heading first, none wider than `total`.

    The widest columns give way first, none below its `least`; when even that does not fit, the line is cut.
    """
    cells = [[clean(value) for value in row] for row in rows]
    wants = [
        max([width(column.heading), *(width(row[i]) for row in cells)]) for i, column in enumerate(columns)
    ]
    room = total - len(GAP) * (len(columns) - 1)
    while sum(wants) > room:
        slack = [
            (want - column.least, i) for i, (want, column) in enumerate(zip(wants, columns, strict=True))
        ]
        spare, widest = max(slack)
        if spare <= 0:
            break
        runner_up = sorted(slack)[-2][0] if len(slack) > 1 else 0
        wants[widest] -= max(1, min(spare, sum(wants) - room, spare - max(runner_up, 0)))
    lines = [_line(columns, [column.heading for column in columns], wants)]
    lines += [_line(columns, row, wants) for row in cells]
    return [cut(line, total) for line in lines]


def _line(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int]) -> str:
    shown = []
    for column, cell, columns_wide in zip(columns, cells, widths, strict=True):
        text = cut(cell, columns_wide, column.cut)
        blank = " " * (columns_wide - width(text))
        shown.append(blank + text if column.right else text + blank)
    return GAP.join(shown).rstrip()


def wrapped(text: str, total: int, indent: str = "") -> list[str]:
    """A text broken at blanks into lines no wider than `total`, each with the indent."""
    lines: list[str] = []
    line = ""
    for word in clean(text).split():
        if line and width(indent) + width(line) + 1 + width(word) > total:
            lines.append(indent + line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, indent + line] if line else lines


def pairs(shown: Iterable[tuple[str, str]], total: int, at_most: int = 38) -> list[str]:
    """Things and what they are for, side by side where that fits, else one below the other."""
    given = [(clean(thing), clean(about)) for thing, about in shown]
    longest = min(max((width(thing) for thing, _ in given), default=0), at_most)
    lines: list[str] = []
    for thing, about in given:
        line = f"  {thing:<{longest}}  {about}".rstrip()
        if width(line) <= total:
            lines.append(line)
        else:
            lines += [f"  {thing}", *wrapped(about, total, " " * 6)]
    return lines


def _left(text: str, columns: int) -> str:
    """As many characters from the left as fit."""
    taken = 0
    for i, c in enumerate(text):
        taken += width(c)
        if taken > columns:
            return text[:i]
    return text
