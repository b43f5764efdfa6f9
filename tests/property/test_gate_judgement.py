"""The gate's laws, over any sequence of looks and evidence, judged as they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from resubmit.journal.verbs import Fault, GateRow, LookRow
from resubmit.recovery.gate import Decision, Trial, decide
from resubmit.recovery.memory import Memory, memory_of
from resubmit.recovery.policy import Policy
from tests.unit.recovery.facts import at, delivery, fault, gate, look

POLICY = Policy(name="hybrid", settle=0, trace_lag=15_000)
STEP = 20
"""Seconds between looks: the probe's interval."""
AT_HAND = 40
"""The journal hands out so many looks, the newest."""

healths = st.sampled_from(["healthy", "faulty", "unknown"])
runs = st.lists(st.tuples(healths, st.integers(1, 5)), min_size=1, max_size=24)
sequences = runs.map(lambda found: [health for health, count in found for _ in range(count)])
"""What the probe saw, look by look."""


@dataclass
class Story:
    """A gate through time: each look is judged, and what was decided stands at the next."""

    row: GateRow = field(default_factory=lambda: gate(since=-100_000))
    looks: list[LookRow] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)

    def judge(self, seconds: float, trial: Trial) -> Decision:
        decision = decide(
            self.row,
            self.looks[-AT_HAND:],
            self.faults,
            trial,
            POLICY,
            live=False,
            now=at(seconds),
            started_at=at(-100_000),
        )
        since = self.row.since if decision.state == self.row.state else at(seconds)
        self.row = GateRow(self.row.name, decision.state, 1, since, decision.reasons, None,
                           decision.memory.to_text())  # fmt: skip
        self.states.append(decision.state)
        self.rows.append(decision.row)
        return decision

    def see(self, seconds: float, health: str, fingerprint: str = "") -> None:
        """One look, and everything that follows from it while nothing else happens."""
        self.looks.append(
            look(seconds, health, fingerprint or health, *(["x"] if health == "faulty" else []))
        )
        for _ in range(4):
            before = self.row.state
            # A canary goes as soon as it may, and is delivered: the most generous world there is.
            proved = at(seconds) if before == "testing" else None
            if not self.judge(seconds, Trial(proved_at=proved, candidates=1)).moves(
                GateRow(self.row.name, before, 1, 0, (), None)
            ):
                break


def told(seen: Sequence[str]) -> Story:
    story = Story()
    for n, health in enumerate(seen):
        story.see(n * STEP, health)
    return story


def turns(states: Sequence[str], to: str) -> int:
    return sum(one != other == to for one, other in pairwise(["open", *states]))


@settings(max_examples=150, deadline=None)
@given(sequences)
def test_the_gate_moves_less_than_the_looks(seen: list[str]) -> None:
    """Hysteresis: to close it takes two faulty looks, to open three healthy ones."""
    story = told(seen)
    clear = [one for one in seen if one != "unknown"]
    changes = sum(one != other for one, other in pairwise(["healthy", *clear]))
    closes, opens = turns(story.states, "closed"), turns(story.states, "open")
    assert closes <= (changes + 1) // 2
    assert opens <= closes
    assert opens * POLICY.healthy_probes <= clear.count("healthy")


@settings(max_examples=150, deadline=None)
@given(sequences)
def test_it_opens_at_most_four_times_in_any_twenty_looks(seen: list[str]) -> None:
    story = Story()
    opened: list[int] = []
    clear = 0
    for n, health in enumerate(seen):
        clear += health != "unknown"
        before = len(story.states)
        story.see(n * STEP, health)
        opened += [clear] * turns(
            [story.states[before - 1] if before else "open", *story.states[before:]], "open"
        )
    for first in opened:
        assert sum(first <= one < first + 20 for one in opened) <= 4


@settings(max_examples=150, deadline=None)
@given(sequences)
@example(["faulty"] * 2 + ["healthy", "faulty"] * 4 + ["healthy"] * 3)
def test_it_never_opens_with_the_fault_in_sight_nor_while_it_flaps(seen: list[str]) -> None:
    story = Story()
    for n, health in enumerate(seen):
        was = story.row.state
        story.see(n * STEP, health)
        if was != "open" and story.row.state == "open":
            clear = [one for one in seen[: n + 1] if one != "unknown"]
            assert clear[-1] == "healthy"
            assert clear[-POLICY.healthy_probes :] == ["healthy"] * POLICY.healthy_probes
            last = [one for one in seen[: n + 1][-AT_HAND:] if one != "unknown"][-20:]
            assert sum(one != other for one, other in pairwise(last)) < 7


@settings(max_examples=150, deadline=None)
@given(sequences)
def test_an_open_gate_never_closes_on_a_single_look(seen: list[str]) -> None:
    story = Story()
    for n, health in enumerate(seen):
        was = story.row.state
        story.see(n * STEP, health)
        if was == "open" and story.row.state == "closed":
            clear = [one for one in seen[: n + 1] if one != "unknown"]
            two_in_a_row = clear[-2:] == ["faulty", "faulty"]
            assert two_in_a_row or story.rows[-1].startswith("flaps")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(20, 60))
def test_whatever_was_flapping_opens_again_once_it_is_calm(on: int, off: int, calm: int) -> None:
    seen = (["healthy"] * on + ["faulty"] * off) * 6 + ["healthy"] * calm
    assert told(seen).row.state == "open"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["old", "new"]), min_size=3, max_size=30), st.integers(0, 12))
def test_a_faulty_node_is_believed_gone_only_after_seven_connections(met: list[str], healthy: int) -> None:
    """Two nodes behind one address by any turns, then only the good one."""
    story = Story(row=gate("closed", Memory(fault_at=at(0), worst_at=at(0)), since=0))
    whole = [*met, *["new"] * healthy]
    for n, leaf in enumerate(whole):
        was = story.row.state
        stops = "handshake" if leaf == "old" else "-"
        text = f"192.0.2.1 leaf={leaf} until=x starttls=yes ehlo=EX01 stops={stops}"
        story.see(1 + n * STEP, "faulty" if leaf == "old" else "healthy", text)
        so_far = whole[: n + 1]
        came_back = [leaf for leaf, _ in groupby(so_far)].count("old") > 1
        if came_back and was == "closed" and story.row.state != "closed":
            assert so_far[-7:] == ["new"] * 7


@settings(max_examples=100, deadline=None)
@given(sequences, st.lists(st.tuples(st.integers(0, 1600), st.integers(0, 1600)), max_size=5), st.booleans())
def test_evidence_of_mail_taken_after_the_fix_always_shuts_it(
    seen: list[str], deferrals: list[tuple[int, int]], delivered: bool
) -> None:
    """Whatever the looks and deliveries say: while a fresh deferral is the newest thing, nothing is open."""
    story = told(seen)
    seconds = len(seen) * STEP
    story.faults = [fault(at_, taken=taken) for at_, taken in deferrals if taken <= at_]
    story.faults.append(fault(seconds + 2, taken=seconds + 1))
    if delivered:
        story.faults.append(delivery(seconds, was_deferred=True))
    decision = story.judge(seconds + 3, Trial(candidates=1))
    assert decision.state == "closed"
    assert decision.reasons


@settings(max_examples=100, deadline=None)
@given(sequences, st.integers(0, 1600))
def test_an_ndr_or_news_of_older_mail_never_moves_an_open_gate(seen: list[str], when: int) -> None:
    story = told(seen)
    if story.row.state != "open":
        return
    fixed = memory_of(story.row.data).fixed_at
    seconds = len(seen) * STEP
    story.faults = [fault(when, "expired", taken=when), fault(when, "failed", taken=when)]
    if fixed is not None:
        early = (fixed - at(0)) / 1000 - 1
        story.faults.append(fault(seconds, taken=early))
    assert story.judge(seconds, Trial(candidates=1)).state == "open"
