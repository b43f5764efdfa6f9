"""How values stand in the journal's columns: lists as JSON, enums as their words, texts that SQLite takes."""

from __future__ import annotations

import json
from typing import TypeVar

from resubmit.model.moment import DAY, Ms

T = TypeVar("T", bound=str)


def words(value: tuple[str, ...]) -> str:
    """A list of texts as a JSON list."""
    return json.dumps([clean(word) for word in value]) if value else "[]"


def read_words(text: str) -> tuple[str, ...]:
    """What `words` wrote."""
    return tuple(json.loads(text)) if text != "[]" else ()


def clean(text: str) -> str:
    """A text that SQLite and JSON can hold: what a far side sent may carry lone surrogates and NUL."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")


def maybe(kind: type[T], value: str | None) -> T | None:
    """A nullable column as its enum."""
    return None if value is None else kind(value)


def day_of(at: Ms) -> int:
    """The day a time lies in, as index columns count it."""
    return at // DAY
