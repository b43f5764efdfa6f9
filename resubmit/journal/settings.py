"""The config tables of the journal."""

from __future__ import annotations

from pathlib import Path

from resubmit.settings import Octets, Span, Table

_DAY = 24 * 60 * 60 * 1000
_MIB = 1024 * 1024


class JournalSettings(Table):
    """`[journal]`: where the durable record lives."""

    path: Path = Path("journal")
    """The folder for database, bodies, lock and socket; relative to the config file."""
    intake_floor: Octets = 512 * _MIB
    """Below so much free disk senders get 452 4.3.1."""
    attempt_floor: Octets = 128 * _MIB
    """Below so much free disk no new attempt is begun."""
    reserve: Octets = 16 * _MIB
    """Preallocated, given up so that outcomes of open attempts can still be written on a full disk."""


class Retention(Table):
    """`[retention]`: how long messages are kept after they are settled."""

    delivered: Span = 7 * _DAY
    """Messages of which every recipient was delivered."""
    settled: Span = 30 * _DAY
    """Messages settled in any other way."""
    unproven: Span = 30 * _DAY
    """Mail that was accepted and never heard of again: its body goes, its row stays and says so."""
