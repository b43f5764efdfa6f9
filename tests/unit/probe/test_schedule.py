"""When a target is looked at next."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resubmit.model.moment import MINUTE, SECOND, Ms
from resubmit.probe.schedule import HORIZON, is_strict, limit, wait_for

WATCH, PROBE = 5 * MINUTE, 20 * SECOND


def wait(
    last: Ms | None,
    now: Ms,
    gate: str | None,
    target: str = "destination:hybrid",
    seed: int = 1,
    *,
    certified: bool = True,
) -> Ms | None:
    return wait_for(
        last,
        now,
        target=target,
        certified=certified,
        gate=gate,
        watch_interval=WATCH,
        probe_interval=PROBE,
        chance=random.Random(seed),
    )


@pytest.mark.parametrize("gate", [None, "open", "closed", "testing"])
def test_the_first_look_is_due_at_once(gate: str | None) -> None:
    assert wait(None, 77, gate) == 0


@pytest.mark.parametrize("target", ["route:eop", "listener:smtp"])
def test_what_its_own_traffic_tells_of_is_looked_at_for_its_certificate_alone(target: str) -> None:
    assert wait(None, 0, None, target) == WATCH, "not at the start"
    assert wait(None, WATCH, "open", target) == 0
    span = wait(WATCH, WATCH, "open", target)
    assert span is not None
    assert 0.9 * HORIZON <= span <= 1.1 * HORIZON
    assert wait(None, 0, "closed", target) == 0
    assert wait(None, 0, "testing", target) == 0


def test_a_route_without_tls_is_looked_at_only_while_its_gate_is_not_open() -> None:
    assert wait(None, 0, None, "route:eop", certified=False) is None
    assert wait(10, 99 * MINUTE, "open", "route:eop", certified=False) is None
    assert wait(None, 0, "closed", "route:eop", certified=False) == 0
    assert wait(None, 0, None, "destination:rest", certified=False) == 0


@given(st.integers(0, 10_000), st.sampled_from([("open", WATCH), ("closed", PROBE), ("testing", PROBE)]))
def test_spans_are_within_a_tenth_and_slept_through_once(seed: int, gate: tuple[str, Ms]) -> None:
    state, interval = gate
    span = wait(0, 0, state, seed=seed)
    assert span is not None
    assert 0.9 * interval <= span <= 1.1 * interval
    assert wait(0, span, state, seed=seed + 1) == 0


def test_targets_spread() -> None:
    assert len({wait(0, 0, "open", seed=seed) for seed in range(50)}) > 25


def test_a_gate_that_closes_shortens_the_wait() -> None:
    assert wait(0, PROBE, "open") != 0
    assert wait(0, PROBE, "closed") == 0


def test_mail_waits_for_the_look_unless_the_gate_is_open() -> None:
    assert [is_strict(s) for s in (None, "open", "closed", "testing")] == [False, False, True, True]


@pytest.mark.parametrize(("interval", "expected"), [(500, 5_000), (20_000, 20_000), (10 * MINUTE, 30_000)])
def test_a_looks_limit_goes_by_the_interval(interval: Ms, expected: Ms) -> None:
    assert limit(interval) == expected
