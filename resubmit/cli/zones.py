"""A time zone as a person names it."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from resubmit.errors import UsageError


def zone_of(name: str) -> ZoneInfo:
    """The zone of that name. UsageError when there is none."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # ZoneInfoNotFoundError is a KeyError
        raise UsageError(
            f"--timezone {name}: there is no such zone", hint="a name like Europe/Berlin, or UTC"
        ) from None
