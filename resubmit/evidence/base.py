"""What every source of evidence is: something that says whether it knows a file, and reads it item by item.

A kind is one module under `kinds/` with `SOURCE`, `sniff` and `read`, and one line in that folder's union.
Promises, tested for each: any bytes give items, never another error; what can't be read is an Unreadable
with its place; an item carries its file, its place and what it was read from; memory does not grow with
the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    near: times of our own attempts in order, to tell day from month; now: nothing is read as later.
    position: where on the mail's way the program that wrote a log stands: before, beside or behind us."""

    name: str
    timezone: tzinfo = UTC
    near: tuple[Ms, ...] = ()
    now: Ms | None = None
    position: str = "beside"

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


class LogMachine(Protocol):
    """A log read line by line, so that a growing file can be followed and gone on with after a restart.

    What it remembers between lines (which queue id is which mail) is plain and bounded: the oldest goes.
    """

    def line(self, line: bytes, place: str) -> Iterable[Item]:
        """The items that this line (without its end) completes. `place`: what they are to carry. Never
        raises."""

    def end(self) -> Iterable[Item]:
        """The items that only the end of the file completes; a followed log has none."""

    def memory(self) -> str:
        """What it knows, as JSON text of at most 256 KiB, to begin another machine with."""


class LogKind(Kind, Protocol):
    """A kind that is also a log to be followed (`[[evidence.log]]`); `read` runs a machine over the file."""

    def machine(self, reading: Reading, memory: str = "") -> LogMachine:
        """A machine that goes on from `memory`; what it can't use of that, it forgets. Never raises."""
