"""The types a config's values have: spans, sizes, rates, networks; and the strict base of every table.

Each room keeps its own tables in its `settings.py`; `config.py` puts them together. Only these modules and
`config.py` use pydantic: inside, settings travel as they are, journal rows as dataclasses.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from resubmit.model.moment import parse_span, span_config

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*")
_UNITS = {
    "": 1,
    "b": 1,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
}


_LONGEST = 36_500 * 24 * 3_600_000
"""A century: longer ones are slips of the finger, and no calendar has room for them."""


class Table(BaseModel):
    """A config table: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, hide_input_in_errors=True)


def _span(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError("a duration is a text like 90s, 15m, 24h or 1d12h")
    span = parse_span(value)
    if span > _LONGEST:
        raise ValueError("a duration is at most 36500d")
    return span


def _wait(value: object) -> int:
    if not (span := _span(value)):
        raise ValueError("a duration above zero, like 90s, 15m, 24h or 1d12h")
    return span


def _size(value: object) -> int:
    found = _SIZE.fullmatch(value.lower()) if isinstance(value, str) else None
    if not found or found[2] not in _UNITS:
        raise ValueError("a size is a text like 500KiB, 35MiB or 2GiB")
    return round(float(found[1]) * _UNITS[found[2]])


def _rate(value: object) -> float:
    if isinstance(value, str):
        word = value.strip().lower()
        if word == "unlimited":
            return 0.0
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*/\s*(s|m|h)", word)
        if found and float(found[1]) > 0:
            return float(found[1]) / {"s": 1, "m": 60, "h": 3600}[found[2]]
    raise ValueError("a rate is a text like 300/m, 5/s or 1000/h, or unlimited")


def rate_text(per_second: float) -> str:
    """A rate as a config would hold it."""
    return "unlimited" if not per_second else f"{per_second * 60:g}/m"


def size_text(octets: int) -> str:
    """A size as a config would hold it, exact."""
    for unit, size in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if octets and octets % size == 0:
            return f"{octets // size}{unit}"
    return f"{octets}B"


Span = Annotated[int, BeforeValidator(_span), PlainSerializer(span_config, return_type=str)]
"""A duration in milliseconds; in the config a text like 15m."""

Wait = Annotated[int, BeforeValidator(_wait), PlainSerializer(span_config, return_type=str)]
"""The same, above zero: a wait of nothing would be a busy loop, or a limit that nobody can keep."""

Octets = Annotated[int, BeforeValidator(_size), PlainSerializer(size_text, return_type=str)]
"""A size in octets; in the config a text like 35MiB."""

Rate = Annotated[float, BeforeValidator(_rate), PlainSerializer(rate_text, return_type=str)]
"""Messages a second, 0 for no limit; in the config a text like 300/m or unlimited."""
