"""Golden pairs of evidence: a file as received (`.in`) and what we read in it (`.json`).

The `.json` holds how it was read (`timezone`, `near`, `now`) and every item with the fields that say
something; times in RFC 3339, the meaning as cause, scope, mend and sign.
"""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from resubmit.evidence.base import Item
from resubmit.evidence.reader import read_stream
from resubmit.model.evidence import Evidence
from resubmit.model.moment import parse_rfc3339, rfc3339

FOLDER = Path(__file__).parent / "golden"


def pairs(kind: str = "*") -> list[Path]:
    """The `.in` files, of one kind or all."""
    return sorted(FOLDER.glob(f"{kind}/*.in"))


def read_pair_bytes(data: bytes, reading: dict[str, Any]) -> list[Item]:
    """The items of a file read as a pair says."""
    return list(
        read_stream(
            io.BytesIO(data),
            "file",
            timezone=ZoneInfo(reading.get("timezone", "UTC")),
            near=tuple(parse_rfc3339(text) for text in reading.get("near", [])),
            now=parse_rfc3339(reading["now"]) if "now" in reading else None,
        )
    )


def described(item: Item) -> dict[str, Any]:
    """An item as a pair holds it: without the name of the file and its raw text."""
    plain = asdict(item)
    del plain["file"], plain["raw"]
    if isinstance(item, Evidence):
        for name in ("observed_at", "received_at"):
            plain[name] = rfc3339(plain[name])
        if item.meaning is not None:
            del plain["meaning"]["advice"]
    return {key: value for key, value in plain.items() if value not in (None, "")}
