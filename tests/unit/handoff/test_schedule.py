"""When we try again."""

from __future__ import annotations

from random import Random

import pytest

from resubmit.handoff.schedule import retry_after
from resubmit.model.moment import MINUTE, SECOND


@pytest.mark.parametrize(
    ("failures", "span"),
    [
        (0, 30 * SECOND),
        (1, 30 * SECOND),
        (2, MINUTE),
        (3, 2 * MINUTE),
        (6, 16 * MINUTE),
        (7, 30 * MINUTE),
        (8, 30 * MINUTE),
        (10_000, 30 * MINUTE),
    ],
)
def test_spans_double_up_to_half_an_hour_give_or_take_a_tenth(failures: int, span: int) -> None:
    spans = [retry_after(failures, Random(seed)) for seed in range(200)]
    assert min(spans) >= span * 0.9 - 1
    assert max(spans) <= span * 1.1 + 1
    assert len(set(spans)) > 100


def test_the_same_seed_waits_the_same() -> None:
    assert retry_after(3, Random(7)) == retry_after(3, Random(7))
