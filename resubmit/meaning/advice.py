"""What to do about a finding: the rows of advice.toml.

Pure; the file is read once. Source: each row names its own.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Advice:
    """One row. `far`: what Exchange Online says when it meets this fault, "" where it is not published."""

    code: str
    means: str
    advice: str
    source: str
    far: str = ""


@functools.cache
def rows() -> dict[str, Advice]:
    """Every row by its code, in the order of the file."""
    text = resources.files("resubmit.meaning").joinpath("advice.toml").read_text("utf-8")
    return {code: Advice(code, **row) for code, row in tomllib.loads(text).items()}


def advice(code: str, **facts: object) -> str:
    """What to do about a finding, with what is known put in; "" for a code without a row.

    facts: `host`, `where`. A row that knows better for one place has a row of its own, `code.where`.
    """
    row = _row(code, str(facts.get("where", "")))
    if row is None:
        return ""
    text = row.advice
    for name, value in facts.items():
        text = text.replace("{" + name + "}", str(value))
    return text


def far(code: str, where: str = "") -> str:
    """What Exchange Online says when it meets the same; "" where that is not published."""
    row = _row(code, where)
    return row.far if row else ""


def _row(code: str, where: str) -> Advice | None:
    return rows().get(f"{code}:{where}") or rows().get(code)
