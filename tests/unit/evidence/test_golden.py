"""Every golden pair: a file as received, and what is read in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden_pairs import described, pairs, read_pair_bytes


@pytest.mark.parametrize("path", pairs(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_file_is_read_as_its_pair_says(path: Path) -> None:
    pair = json.loads(path.with_suffix(".json").read_text("utf-8"))
    items = read_pair_bytes(path.read_bytes(), pair["reading"])
    assert [described(item) for item in items] == pair["items"]


def test_there_are_enough_pairs_of_traces() -> None:
    assert len(pairs("trace_csv")) >= 25
