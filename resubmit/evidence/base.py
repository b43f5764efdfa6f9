"""What every source of evidence is: something that says whether it knows a file, and reads it item by item.

A kind is one module under `kinds/` with `SOURCE`, `sniff` and `read`, and one line in that folder's union.
Promises, tested for each: any bytes give items, never another error; what can't be read is an Unreadable
with its place; an item carries its file, its place and what it was read from; memory does not grow with
the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import BinaryIO, Protocol, TypeAlias

from resubmit.model.evidence import Evidence, Source, Unreadable
from resubmit.model.moment import Ms

Item: TypeAlias = Evidence | Unreadable

RAW_LIMIT = 4_096
"""Characters of an item's source text that are kept with it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is to be read. name: shown as the items' `file`. timezone: of stamps without a zone.
    near: times of our own attempts in order, to tell day from month; now: nothing is read as later."""

    name: str
    timezone: tzinfo = UTC
    near: tuple[Ms, ...] = ()
    now: Ms | None = None

    def unreadable(self, place: str, reason: str, raw: str = "") -> Unreadable:
        """An item of this file set aside."""
        return Unreadable(self.name, place, reason, raw[:RAW_LIMIT])


class Kind(Protocol):
    """A module under `kinds/`."""

    SOURCE: Source

    def sniff(self, head: bytes, name: str) -> bool:
        """Whether a file that begins with these bytes (up to 64 KiB) is of this kind. Never raises."""

    def read(self, stream: BinaryIO, reading: Reading) -> Iterator[Item]:
        """The items of a seekable stream from its start, in order. Raises only what the stream raises."""
