"""Days left are told step by step, and a certificate that changes or comes back is seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resubmit.model.moment import DAY, Ms, parse_rfc3339, rfc3339
from resubmit.model.tls import AddressVerdict, Certificate, Finding, Health, Severity, Verdict
from resubmit.probe import fingerprint
from resubmit.probe.horizon import STEPS, Change, changes, days_before, step_reached, with_pool

NOW: Ms = parse_rfc3339("2026-11-24T12:00:00Z")


def saw(*leaves: str, address: str = "192.0.2.1") -> Verdict:
    """A look that met these certificates, an address each: `old 5` ends in five days."""
    addresses = []
    for n, leaf in enumerate(leaves):
        name, _, days = leaf.partition(" ")
        ends = NOW + int(days or 30) * DAY
        one = Certificate(f"CN={name}", "CN=CA", (name,), NOW - DAY, ends, name.ljust(16, "0"))
        place = address if n == 0 else f"192.0.2.{n + 1}"
        addresses.append(AddressVerdict(place, Health.HEALTHY, (), certificates=(one,), ehlo="ex01"))
    return Verdict("mail.contoso.com:25", Health.HEALTHY, NOW, "domain", tuple(addresses))


def told(*stories: str) -> list[str]:
    """Fingerprints of looks in the order they were made, handed on newest first."""
    return [fingerprint.of(saw(leaf)) for leaf in reversed(stories)]


@pytest.mark.parametrize(
    ("before", "now", "step"),
    [
        (None, None, None), (None, 90, None), (None, 31, None), (None, 30, 30), (None, 12, 14), (None, 3, 7),
        (None, 1, 1), (None, 0, 1), (None, -3, 1), (31, 30, 30), (30, 30, None), (30, 29, None), (15, 14, 14),
        (30, 14, 14), (30, 2, 7), (14, 13, None), (8, 7, 7), (7, 6, None), (2, 1, 1), (1, 0, None),
        (1, -1, None), (90, 89, None), (5, 90, None), (40, 0, 1),
    ],
)  # fmt: skip
def test_a_step(before: int | None, now: int | None, step: int | None) -> None:
    assert step_reached(before, now) == step


@given(st.lists(st.integers(-5, 400), min_size=1).map(lambda days: sorted(days, reverse=True)))
def test_each_step_is_told_at_most_once_and_the_end_never_passes_untold(days: list[int]) -> None:
    earlier: list[int | None] = [None, *days[:-1]]
    found = [step_reached(a, b) for a, b in zip(earlier, days, strict=True)]
    steps = [step for step in found if step is not None]
    assert len(steps) == len(set(steps))
    assert steps == sorted(steps, reverse=True)
    reached = [step for step in STEPS if days[-1] <= step]
    assert (steps[-1] if steps else None) == min(reached, default=None)


def test_the_days_before_are_those_of_the_same_certificate() -> None:
    looks = [
        (fingerprint.of(saw("new")), 88),
        (fingerprint.of(saw("old")), 3),
        (fingerprint.of(saw("old")), 4),
    ]
    assert days_before(looks, fingerprint.of(saw("old"))) == 3
    assert days_before(looks, fingerprint.of(saw("new"))) == 88
    assert days_before(looks, fingerprint.of(saw("third"))) is None
    assert days_before([(fingerprint.of(saw("old")), None)], fingerprint.of(saw("old"))) is None


@pytest.mark.parametrize(
    ("past", "now", "how"),
    [
        ([], "new", None),
        (["old"], "old", None),
        (["old"], "new", Change.RENEWED),
        (["old", "new"], "new", None),
        (["old", "new"], "old", Change.WENT_BACK),
        (["old", "new"], "third", Change.RENEWED),
    ],
)
def test_a_change(past: list[str], now: str, how: Change | None) -> None:
    found = changes(told(*past), fingerprint.of(saw(now)))
    assert [one.how for one in found] == ([] if how is None else [how])
    assert all((one.address, one.before.sha256[:3]) == ("192.0.2.1", past[-1][:3]) for one in found)
    assert all(one.now.until == rfc3339(NOW + 30 * DAY) for one in found)


@pytest.mark.parametrize(
    ("past", "now", "differs"),
    [
        ([], "old 5", False),
        (["old 5"] * 3, "new 90", False),
        (["old 5", "new 90"], "new 90", False),
        (["old 5", "new 90"], "old 5", True),
        (["old 5", "new 90", "old 5"], "new 90", True),
        (["new 90", "old 5", "new 90"], "old 5", True),
        (["good 90", "bad -1"], "good 90", False),
        (["good 90", "bad -1", "bad -1"], "newer 120", False),
        (["one 5", "two 50"], "three 90", False),
    ],
)
def test_nodes_that_differ(past: list[str], now: str, differs: bool) -> None:
    verdict = with_pool(saw(now), told(*past))
    assert ("pool_differs" in verdict.codes()) is differs
    assert verdict.health is Health.HEALTHY
    if differs:
        (found,) = verdict.findings
        assert found.severity is Severity.WARNING
        assert "192.0.2.1" in found.text
        assert found.text.count("until 20") == 2
        assert found.advice
        assert fingerprint.of(verdict) == fingerprint.of(saw(now)), "what must have changed has not"


def answered(story: str) -> Verdict:
    """A look at one address: `ehlo certificate fault`, of which the last two may be left out or `-`."""
    ehlo, leaf, fault, *_ = [*story.split(), "-", "-"]
    there = saw(leaf) if leaf != "-" else Verdict("mail.contoso.com:25", Health.HEALTHY, NOW, "domain", ())
    certificates = there.addresses[0].certificates if there.addresses else ()
    findings = (Finding(fault, Severity.FAULT, "ehlo", "It is so."),) if fault != "-" else ()
    health = Health.FAULTY if findings else Health.HEALTHY
    one = AddressVerdict("192.0.2.1", health, findings, certificates=certificates, ehlo=ehlo.strip("-"))
    return replace(there, health=health, addresses=(one,))


@pytest.mark.parametrize(
    ("looks", "differs"),
    [
        (["ex01 a", "ex02 a", "ex01 a"], False),
        (["ex01 a", "ex02 - starttls_missing", "ex01 a"], True),
        (["ex02 - starttls_missing", "ex01 a", "ex02 - starttls_missing"], True),
        (["ex01 a", "ex02 - starttls_missing", "ex02 a"], False),
        (["ex01 a", "ex02 - starttls_missing"], False),
        (["ex01 a", "ex01 - starttls_missing", "ex01 a"], False),
        (["ex01 a", "- - greeting_timeout", "ex01 a"], False),
        (["ex01 a", "ex02 b", "ex01 a"], True),
        (["ex01 a", "ex02 b", "ex02 b", "ex01 a", "ex01 a"], True),
        (["ex01 a", "ex02 b", "ex01 c"], False),
        (["ex01 a", "ex02 a sender_refused", "ex01 a"], True),
    ],
)
def test_nodes_of_other_names_that_differ(looks: list[str], differs: bool) -> None:
    *past, now = [answered(story) for story in looks]
    verdict = with_pool(now, [fingerprint.of(one) for one in reversed(past)])
    assert ("pool_differs" in verdict.codes()) is differs
    assert verdict.health is now.health
    if differs:
        assert "ex01" in verdict.findings[0].text
        assert "ex02" in verdict.findings[0].text


def test_two_addresses_with_a_certificate_each_are_no_pool() -> None:
    """That is addresses_differ, within one look."""
    both = fingerprint.of(saw("old 5", "new 90"))
    assert with_pool(saw("old 5", "new 90"), [both, both]).codes() == ()


def test_an_address_that_showed_none_is_no_change() -> None:
    silent = Verdict("x:25", Health.FAULTY, NOW, "domain", (AddressVerdict("192.0.2.1", Health.FAULTY, ()),))
    text = fingerprint.of(silent)
    assert fingerprint.leaves(text) == {}
    assert changes([text, *told("old")], fingerprint.of(saw("old"))) == []
    assert [c.how for c in changes([text, *told("old")], fingerprint.of(saw("new")))] == [Change.RENEWED]
