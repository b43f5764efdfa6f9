"""The limiter, in a world where only the test moves time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resubmit.handoff.limiter import GROWS_BACK, SAME_THROTTLE, SLOWEST, Limiter
from resubmit.model.moment import MINUTE, SECOND


def test_without_a_rate_nobody_waits() -> None:
    limiter = Limiter(0.0, 0)
    assert [limiter.take(0, job=job) for job in (False, True) * 500] == [0] * 1000


def test_a_burst_of_a_second_then_the_rate() -> None:
    limiter = Limiter(5.0, 0)
    assert [limiter.take(0) for _ in range(8)] == [0, 0, 0, 0, 0, 200, 400, 600]


def test_a_jobs_message_takes_nothing_while_it_waits() -> None:
    limiter = Limiter(1.0, 0)
    assert limiter.take(0, job=True) == 0
    assert limiter.take(0, job=True) == 1000
    assert limiter.take(500, job=True) == 500
    assert limiter.take(1000, job=True) == 0


def test_jobs_yield_to_new_mail() -> None:
    limiter = Limiter(1.0, 0)
    assert limiter.take(0) == 0
    assert limiter.take(0, job=True) == 1000
    assert limiter.take(0) == 1000  # new mail came later and goes first
    assert limiter.take(1000, job=True) == 1000
    assert limiter.take(2000, job=True) == 0


def test_a_turn_given_back_is_anothers() -> None:
    limiter = Limiter(1.0, 0)
    assert limiter.take(0) == 0
    limiter.give_back()
    assert limiter.take(0) == 0


def test_a_throttle_halves_the_rate_and_it_doubles_again() -> None:
    limiter = Limiter(8.0, 0)
    assert limiter.throttled(0) == 4.0
    assert limiter.rate(0) == 4.0
    assert limiter.rate(GROWS_BACK // 2) == pytest.approx(4.0 * 2**0.5)
    assert limiter.rate(GROWS_BACK) == 8.0
    assert limiter.rate(100 * GROWS_BACK) == 8.0


def test_throttles_at_once_halve_once_and_later_ones_again() -> None:
    limiter = Limiter(8.0, 0)
    assert [limiter.throttled(t) for t in (0, 10, 20)] == pytest.approx([4.0, 4.0, 4.0], rel=0.01)
    assert limiter.throttled(SAME_THROTTLE) == pytest.approx(2.0, rel=0.05)


def test_however_often_it_is_throttled_it_still_asks_now_and_then() -> None:
    limiter = Limiter(1.0, 0)
    for n in range(100):
        limiter.throttled(n * SAME_THROTTLE)
    assert limiter.rate(99 * SAME_THROTTLE) >= SLOWEST


def test_a_route_without_a_rate_is_halved_from_what_it_did_and_forgets_it() -> None:
    limiter = Limiter(0.0, 0)
    for n in range(600):
        limiter.take(n * 50)  # 20 a second for 30 s
    halved = limiter.throttled(30 * SECOND)
    assert 5 <= halved <= 15
    assert limiter.take(30 * SECOND, job=True) >= 0
    assert limiter.rate(24 * 60 * MINUTE) == 0.0
    assert [limiter.take(24 * 60 * MINUTE) for _ in range(100)] == [0] * 100


@given(
    rate=st.floats(min_value=0.1, max_value=50),
    steps=st.lists(st.tuples(st.integers(0, 3000), st.booleans()), min_size=1, max_size=80),
)
def test_no_span_sees_more_than_its_rate_and_a_burst(rate: float, steps: list[tuple[int, bool]]) -> None:
    limiter = Limiter(rate, 0)
    now = 0
    sent: list[int] = []
    for passed, job in steps:
        now += passed
        wait = limiter.take(now, job=job)
        if not job or wait == 0:
            sent.append(now + wait)
    sent.sort()
    for i, start in enumerate(sent):
        for j in range(i, len(sent)):
            allowed = rate * (sent[j] - start) / SECOND + max(rate, 1) + 1
            assert j - i + 1 <= allowed + 1e-6
