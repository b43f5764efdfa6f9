"""An SMTP reply as a value.

Source: RFC 5321 §4.2 (codes), RFC 2034 / RFC 3463 (enhanced status codes).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ENHANCED = re.compile(r"^\s*([245]\.\d{1,3}\.\d{1,3})(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: its code and its text, lines joined by newline, without the code.

    The first digit of `code` decides; an enhanced code that differs from it (Exchange sends `451 5.7.3`)
    is shown, never believed over it.
    """

    code: int
    text: str = ""

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code at the start of the text, if there is one."""
        found = _ENHANCED.match(self.text)
        return found[1] if found else None

    @property
    def positive(self) -> bool:
        return 200 <= self.code < 300

    @property
    def transient(self) -> bool:
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        return 500 <= self.code < 600

    def line(self) -> str:
        """The reply on one line, as logs and timelines show it."""
        return f"{self.code} {' '.join(self.text.split())}".strip()


def parse_reply(text: str) -> Reply | None:
    """The reply at the start of a text (`450 4.4.317 Cannot …`, multi-line with `450-`), or None."""
    lines = text.strip().splitlines()
    if not lines or not re.match(r"[2-5]\d\d(?:[ -]|$)", lines[0]):
        return None
    code = int(lines[0][:3])
    rest = [line[4:] if line[:3] == str(code) and line[3:4] in ("-", " ", "") else line for line in lines]
    return Reply(code, "\n".join(rest).strip())
