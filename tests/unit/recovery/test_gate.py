# ruff: noqa: E501 (the cases are read as tables)
"""The gate of a destination, case by case."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace

import pytest

from resubmit.journal.verbs import Fault, GateRow, Haste, LookRow
from resubmit.model.evidence import Cause, Scope
from resubmit.model.moment import HOUR, MINUTE, SECOND
from resubmit.recovery.gate import Decision, Trial, cause_of_codes, decide, settle_ends
from resubmit.recovery.judgement import TABLE
from resubmit.recovery.memory import Memory, Reference, memory_of
from resubmit.recovery.policy import Policy
from resubmit.recovery.route_gate import haste
from resubmit.recovery.signs import codes_text
from tests.unit.recovery.facts import POLICY, at, delivery, fault, gate, look

BAD = Reference(at(0), "faulty", "old")
SHUT = Memory(fault_at=at(0), worst_at=at(0), reference=BAD)
ROW = [look(20), look(40), look(60)]
TRIED = Memory(
    fault_at=at(0), worst_at=at(0), reference=BAD, fixed_at=at(20), healthy_at=at(60), basis="changed"
)
FIXED = Memory(fault_at=at(0), fixed_at=at(20), healthy_at=at(60))


FLAPPING = [look(10 * n, "healthy" if n % 2 else "faulty", f"{n % 2}") for n in range(1, 9)]
"""Seven changes, the last look faulty."""


def node(seconds: float, health: str, leaf: str, address: str = "192.0.2.1") -> LookRow:
    """A look that met one server, as the probe's fingerprint tells."""
    stops = "-" if health == "healthy" else "handshake"
    text = f"{address} leaf={leaf} until=2027-01-01T00:00:00.000Z starttls=yes ehlo=EX01 stops={stops}"
    return look(seconds, health, text)


def nodes(first: float, count: int) -> list[LookRow]:
    return [node(first + 10 * n, "healthy", "new") for n in range(count)]


BY_TURNS = [node(5, "faulty", "old"), node(15, "healthy", "new"), node(25, "faulty", "old")]


@dataclass
class Case:
    name: str
    gate: GateRow
    to: str
    why: str = ""
    looks: list[LookRow] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    trial: Trial = field(default_factory=Trial)
    now: float = 61
    live: bool = False
    started: float = -86_400
    policy: Policy = POLICY
    tell: bool = False
    basis: str | None = None


def judge(case: Case) -> Decision:
    return decide(
        case.gate,
        case.looks,
        case.faults,
        case.trial,
        case.policy,
        live=case.live,
        now=at(case.now),
        started_at=at(case.started),
    )


# fmt: off
OPEN = [
    Case("nothing known", gate(), "open"),
    Case("healthy looks", gate(), "open", looks=ROW),
    Case("a deferral of the destination", gate(), "closed", "certificate expired", faults=[fault(50, taken=40)]),
    Case("a deferral, nobody knows when taken", gate(), "closed", faults=[fault(50)]),
    Case("pending with the destination's cause", gate(), "closed", faults=[fault(50, "pending", taken=40)]),
    Case("a full mailbox", gate(), "open", faults=[fault(50, scope=Scope.RECIPIENT, cause=Cause.MAILBOX)]),
    Case("a refusal of the route", gate(), "open", faults=[fault(50, scope=Scope.ROUTE)]),
    Case("an NDR", gate(), "open", faults=[fault(50, "expired", taken=40)]),
    Case("a failure", gate(), "open", faults=[fault(50, "failed", taken=40)]),
    Case("taken after the fix", gate("open", FIXED), "closed", faults=[fault(50, taken=30)]),
    Case("taken before the fix", gate("open", FIXED), "open", faults=[fault(50, taken=10)]),
    Case("taken nobody knows when, after a fix", gate("open", FIXED), "open", faults=[fault(50)]),
    Case("an NDR of mail taken after the fix", gate("open", FIXED), "open", faults=[fault(50, "expired", taken=30)]),
    Case("one faulty look", gate(), "open", looks=[look(60, "faulty"), *ROW[:2]]),
    Case("two faulty looks", gate(), "closed", "2 faulty looks", looks=[look(60, "faulty"), look(50, "faulty")]),
    Case("two faulty, unknown between", gate(), "closed", looks=[look(60, "faulty"), look(50, "unknown"), look(40, "faulty")]),
    Case("faulty, healthy, faulty", gate(), "open", looks=[look(60, "faulty"), look(50), look(40, "faulty")]),
    Case("two faulty from before the fix", gate("open", FIXED), "open", looks=[look(10, "faulty"), look(5, "faulty")]),
    Case("only unknown", gate(), "open", looks=[look(s, "unknown") for s in range(0, 7200, 300)], now=7201),
    Case("faulty looks too old at start", gate(), "open", looks=[look(10, "faulty"), look(0, "faulty")], now=3600, started=3600),
    Case("one time-out", gate(), "open", looks=[*ROW, look(61, "faulty", "new", "connect_timeout")]),
    Case("two time-outs", gate(), "closed", "connect_timeout", looks=[*ROW, look(61, "faulty", "x", "connect_timeout"), look(62, "faulty", "x", "connect_timeout")], now=63),
    Case("healthy looks while a deferral comes", gate(), "closed", "evidence beats the probe", looks=ROW, faults=[fault(50, taken=40)]),
    Case("two faulty looks while mail is delivered", gate(), "closed", "by another way", looks=[look(50, "faulty"), look(60, "faulty")], faults=[delivery(55, was_deferred=True)]),
    Case("it flaps", gate(), "closed", "flapping: 7 of the last 20 looks changed", looks=FLAPPING, now=121, tell=True),
    Case("it has flapped before the fix", gate("open", replace(FIXED, fixed_at=at(101))), "open", looks=FLAPPING, now=121),
    Case("six changes are no flapping", gate(), "open", looks=FLAPPING[1:], now=121),
    Case("a step failed", gate("open", FIXED), "closed", "a step failed", trial=Trial(failed="deferred again")),
]

CLOSED = [
    Case("no look", gate("closed", SHUT), "closed"),
    Case("two healthy", gate("closed", SHUT), "closed", "2 healthy looks in a row of 3", looks=ROW[:2]),
    Case("three healthy, changed", gate("closed", SHUT), "testing", "3 healthy looks in a row", looks=ROW, basis="changed"),
    Case("three healthy, one of them before the fault", gate("closed", SHUT), "closed", looks=[look(-5), *ROW[:2]]),
    Case("healthy, faulty, healthy", gate("closed", SHUT), "closed", looks=[look(20), look(40, "faulty"), look(60)]),
    Case("the newest is faulty", gate("closed", SHUT), "closed", "is faulty", looks=[*ROW, look(60.5, "faulty")]),
    Case("unknown neither counts nor resets", gate("closed", SHUT), "testing", looks=[look(20), look(30, "unknown"), look(40), look(50, "unknown"), look(60)], basis="changed"),
    Case("unknown does not count", gate("closed", SHUT), "closed", looks=[look(20), look(40), look(60, "unknown")]),
    Case("faulty then, the same certificate now", gate("closed", SHUT), "testing", looks=[look(20, fingerprint="old"), look(40, fingerprint="old"), look(60, fingerprint="old")], basis="changed"),
    Case("healthy then and the same now", gate("closed", Memory(at(0), at(0), Reference(at(-9), "healthy", "new"))), "testing", "right place", looks=ROW, tell=True, basis="unchanged"),
    Case("healthy then and another certificate now", gate("closed", Memory(at(0), at(0), Reference(at(-9), "healthy", "old"))), "testing", looks=ROW, basis="changed"),
    Case("no look from then", gate("closed", Memory(at(-9000), at(-9000))), "testing", "no look from the time", looks=ROW, basis="no_look"),
    Case("the look before the fault is found", gate("closed", Memory(at(0), at(0))), "testing", looks=[look(-100, fingerprint="old"), *ROW], basis="changed"),
    Case("a faulty look since beats the healthy one before", gate("closed", Memory(at(0), at(0), Reference(at(-9), "healthy", "new"))), "testing", looks=[look(5, "faulty", "new"), *ROW], basis="changed"),
    Case("a fresh deferral resets the row", gate("closed", SHUT), "closed", "1 healthy look", looks=ROW, faults=[fault(50, taken=30)]),
    Case("a deferral of an older attempt does not", gate("closed", SHUT), "testing", looks=ROW, faults=[fault(50, taken=10)], basis="changed"),
    Case("an NDR does not", gate("closed", SHUT), "testing", looks=ROW, faults=[fault(50, "expired", taken=30)], basis="changed"),
    Case("a delivery to one that was deferred", gate("closed", SHUT), "testing", "was delivered", faults=[delivery(30, was_deferred=True)], basis="delivery"),
    Case("a delivery that names the endpoint", gate("closed", SHUT), "testing", "names the endpoint", faults=[delivery(30, remote="mail.contoso.com [192.0.2.1]")], basis="delivery"),
    Case("a delivery to a cloud mailbox", gate("closed", SHUT), "closed", faults=[delivery(30, remote="AM0P.prod.outlook.com")]),
    Case("a delivery from before the fault", gate("closed", SHUT), "closed", faults=[delivery(-30, was_deferred=True)]),
    Case("a delivery while the probe is faulty", gate("closed", SHUT), "closed", "is faulty", looks=[look(20, "faulty")], faults=[delivery(30, was_deferred=True)], tell=True),
    Case("delivered while the probe fails, and said so before", gate("closed", replace(SHUT, told="delivered_despite_the_probe")), "closed", "by another way", looks=[look(20, "faulty")], faults=[delivery(30, was_deferred=True)]),
    Case("a delivery from before the probe failed says nothing", gate("closed", SHUT), "closed", "is faulty", looks=[look(40, "faulty")], faults=[delivery(30, was_deferred=True)]),
    Case("healthy, and deferred all the same", gate("closed", SHUT), "closed", "healthy, and yet: 1 deferral", looks=ROW, faults=[fault(50, taken=30)]),
    Case("it flaps", gate("closed", SHUT), "closed", "flapping: 8 of the last 20", looks=FLAPPING + [look(s) for s in (110, 120, 130)], now=131, tell=True),
    Case("it flaps, and mail is delivered", gate("closed", SHUT), "closed", "flapping", looks=[*FLAPPING, look(110)], faults=[delivery(120, was_deferred=True)], now=131, tell=True),
    Case("it flaps, and then nothing is told", gate("closed", replace(SHUT, unknown_since=at(20), told="flapping")), "closed", "flapping", looks=[*FLAPPING, look(1900, "unknown")], now=1901),
    Case("it flapped, and is not calm enough yet", gate("closed", replace(SHUT, flapping_at=at(90), told="flapping")), "closed", "flapping: 4 of", looks=FLAPPING[4:] + [look(s) for s in (110, 120, 130)], now=131),
    Case("it flapped, and is calm", gate("closed", replace(SHUT, flapping_at=at(90))), "testing", looks=FLAPPING[5:] + [look(s) for s in (110, 120, 130)], now=131, basis="changed"),
    Case("six changes are not flapping yet", gate("closed", SHUT), "testing", looks=FLAPPING[2:] + [look(s) for s in (110, 120, 130)], now=131, basis="changed"),
    Case("two nodes by turns, the faulty one not met six times", gate("closed", SHUT), "closed", "absent from 6 connections of the 7", looks=[*BY_TURNS, *nodes(40, 6)], now=101),
    Case("two nodes by turns, the faulty one not met seven times", gate("closed", SHUT), "testing", looks=[*BY_TURNS, *nodes(40, 7)], now=111, basis="changed"),
    Case("two nodes by turns, and a delivery", gate("closed", SHUT), "closed", "absent from 3 connections", looks=[*BY_TURNS, *nodes(40, 3)], faults=[delivery(65, was_deferred=True)], now=71),
    Case("one node was renewed", gate("closed", SHUT), "testing", looks=[node(5, "faulty", "old"), node(15, "faulty", "old"), *nodes(40, 3)], now=71, basis="changed"),
    Case("one node lost STARTTLS and has it again", gate("closed", SHUT), "testing", looks=[*nodes(-90, 3), node(5, "faulty", "-"), node(15, "faulty", "-"), *nodes(40, 3)], now=71, basis="changed"),
    Case("a faulty node met once among good ones", gate("closed", SHUT), "closed", "EX01", looks=[*nodes(-90, 3), node(5, "faulty", "old"), *nodes(40, 3)], now=71),
    Case("the name gives a faulty address now and then", gate("closed", SHUT), "closed", "gives 192.0.2.2 now and then", looks=[*nodes(-90, 3), node(5, "faulty", "old", "192.0.2.2"), *nodes(40, 3)], now=71),
    Case("a faulty address was taken out of the name", gate("closed", SHUT), "testing", looks=[node(5, "faulty", "old", "192.0.2.2"), node(15, "faulty", "old", "192.0.2.2"), *nodes(40, 3)], now=71, basis="changed"),
    Case("a delivery while the probe is unknown", gate("closed", SHUT), "testing", looks=[look(20, "unknown")], faults=[delivery(30, was_deferred=True)], basis="delivery"),
    Case("unknown for 29 minutes", gate("closed", SHUT), "closed", looks=[look(s, "unknown") for s in range(20, 1760, 60)], now=1755),
    Case("unknown for 30 minutes", gate("closed", SHUT), "testing", "told nothing", looks=[look(s, "unknown") for s in range(20, 1880, 60)], now=1821, tell=True, basis="unknown"),
    Case("unknown, remembered beyond the looks at hand", gate("closed", Memory(at(0), at(0), BAD, unknown_since=at(20))), "testing", looks=[look(1800, "unknown")], now=1821, tell=True, basis="unknown"),
    Case("no look at all for 30 minutes", gate("closed", Memory(at(0), at(0), BAD, unknown_since=at(0))), "testing", now=1801, tell=True, basis="unknown"),
    Case("faulty, then unknown for 30 minutes", gate("closed", SHUT), "testing", looks=[look(10, "faulty"), *(look(s, "unknown") for s in range(20, 1880, 60))], now=1880, tell=True, basis="unknown"),
    Case("the looks are old", gate("closed", SHUT), "closed", looks=ROW, now=400),
    Case("the looks are from before the start", gate("closed", SHUT), "closed", looks=ROW, now=150, started=140),
    Case("the looks are from just before the start", gate("closed", SHUT), "testing", looks=ROW, now=70, started=65, basis="changed"),
    Case("a canary failed, nothing changed", gate("closed", Memory(at(0), at(10), Reference(at(9), "healthy", "new"), tries=1, failed_at=at(10))), "closed", "nothing has changed", looks=ROW),
    Case("a canary failed, another certificate", gate("closed", Memory(at(0), at(10), Reference(at(9), "healthy", "old"), tries=1, failed_at=at(10))), "testing", looks=ROW, basis="changed"),
    Case("a canary failed, its wait is over", gate("closed", Memory(at(0), at(10), Reference(at(9), "healthy", "new"), tries=1, failed_at=at(10))), "testing", looks=[look(s) for s in (900, 920, 940)], now=941, tell=True, basis="unchanged"),
    Case("two canaries failed, the wait doubles", gate("closed", Memory(at(0), at(10), Reference(at(9), "healthy", "new"), tries=2, failed_at=at(10))), "closed", looks=[look(s) for s in (900, 920, 940)], now=941),
]

TESTING = [
    Case("waits for its canary", gate("testing", TRIED), "testing", looks=ROW, trial=Trial(candidates=3, unsettled=3)),
    Case("the canary is proved", gate("testing", TRIED), "open", "proof", looks=ROW, trial=Trial(proved_at=at(61), candidates=3)),
    Case("the canary failed", gate("testing", TRIED), "closed", "the canary failed", looks=ROW, trial=Trial(failed="deferred again")),
    Case("failed beats proved", gate("testing", TRIED), "closed", looks=ROW, trial=Trial(proved_at=at(61), failed="deferred again")),
    Case("a faulty look shuts it", gate("testing", TRIED), "closed", "is faulty", looks=[*ROW, look(61, "faulty")], trial=Trial(candidates=3)),
    Case("never opens with a faulty look as the newest", gate("testing", TRIED), "closed", looks=[*ROW, look(61, "faulty")], trial=Trial(proved_at=at(61))),
    Case("an unknown look does not shut it", gate("testing", TRIED), "testing", looks=[*ROW, look(61, "unknown")], trial=Trial(candidates=3)),
    Case("a fresh deferral shuts it", gate("testing", TRIED), "closed", looks=ROW, faults=[fault(50, taken=30)], trial=Trial(candidates=3)),
    Case("an older deferral does not", gate("testing", TRIED), "testing", looks=ROW, faults=[fault(50, taken=10)], trial=Trial(candidates=3)),
    Case("nobody to test with, changed", gate("testing", TRIED), "open", "nobody", looks=ROW),
    Case("nobody to test with, settle runs", gate("testing", TRIED), "testing", looks=ROW, policy=Policy(name="hybrid", settle=MINUTE * 10)),
    Case("nobody to test with, unchanged, some unsettled", gate("testing", Memory(at(0), at(0), BAD, fixed_at=at(20), healthy_at=at(60), basis="unchanged")), "testing", looks=ROW, trial=Trial(unsettled=2)),
    Case("nobody to test with, unchanged, all settled", gate("testing", Memory(at(0), at(0), BAD, fixed_at=at(20), healthy_at=at(60), basis="unchanged")), "open", looks=ROW),
]
# fmt: on

CASES = [*(("open", c) for c in OPEN), *(("closed", c) for c in CLOSED), *(("testing", c) for c in TESTING)]


@pytest.mark.parametrize("case", [c for _, c in CASES], ids=[f"{state}: {c.name}" for state, c in CASES])
def test_a_gate(case: Case) -> None:
    decision = judge(case)
    assert decision.state == case.to, decision.reasons
    assert case.why in " | ".join(decision.reasons)
    assert decision.tell is case.tell
    if case.basis is not None:
        assert decision.memory.basis == case.basis
    assert all(decision.reasons), "a reason has words"


@pytest.mark.parametrize("case", [c for _, c in CASES], ids=[f"{state}: {c.name}" for state, c in CASES])
def test_the_order_of_the_facts_does_not_matter(case: Case) -> None:
    expected = judge(case)
    mixed = random.Random(7)
    for _ in range(3):
        mixed.shuffle(case.looks)
        mixed.shuffle(case.faults)
        assert judge(case) == expected


@pytest.mark.parametrize("case", [c for _, c in CASES], ids=[f"{state}: {c.name}" for state, c in CASES])
def test_a_decision_that_was_written_is_not_made_again(case: Case) -> None:
    """The same facts, with the gate as the decision left it, at the same moment: at most one step further,
    and then nothing."""
    row, decision = case.gate, judge(case)
    for _ in range(3):
        row = gate(decision.state, decision.memory, since=case.now, reasons=decision.reasons)
        quiet = Case(
            "",
            row,
            "",
            looks=case.looks,
            faults=case.faults,
            now=case.now,
            started=case.started,
            trial=Trial(candidates=1),
        )
        decision = judge(quiet)
    assert not decision.differs(row)


def test_every_row_of_the_table_has_a_case_and_says_what_it_is_about() -> None:
    met = {(case.gate.state, judge(case).row) for _, case in CASES}
    assert met == {(row.state, row.name) for row in TABLE}
    assert len({row.name for row in TABLE}) == len(TABLE)
    assert all(row.case for row in TABLE)


def test_a_row_leads_where_it_says() -> None:
    ways = {row.name: row.to for row in TABLE}
    for _, case in CASES:
        decision = judge(case)
        assert ways[decision.row] == decision.state


def test_closing_says_since_when_and_why() -> None:
    decision = judge(Case("", gate(), "", faults=[fault(50, taken=40), fault(45, taken=30)]))
    assert (decision.fault_from, decision.cause) == (at(30), "tls")
    assert replace(decision.memory, shut_why="") == Memory(fault_at=at(45), worst_at=at(50))
    assert decision.memory.shut_why == decision.reasons[0]


@pytest.mark.parametrize(
    ("before", "began"),
    [
        ([look(-200)], -200),  # the last healthy look: mail taken right after it may be the first victim
        ([look(-200, "unknown"), look(-400)], -400),
        ([look(-5000)], -860),  # hours ago: not further back than looks count
        ([], 40),
    ],
)
def test_a_fault_that_looks_saw_began_after_the_last_healthy_one(before: list[LookRow], began: float) -> None:
    looks = [look(60, "faulty", "old"), look(40, "faulty", "old"), *before]
    assert judge(Case("", gate(), "", looks=looks)).fault_from == at(began)


@pytest.mark.parametrize(
    ("codes", "cause"),
    [
        (("certificate_expired", "name_mismatch"), Cause.TLS),
        (("connect_refused",), Cause.CONNECTION),
        (("dns_failed",), Cause.CONNECTION),
        ((), Cause.TLS),
    ],
)
def test_what_looks_found_has_a_cause(codes: tuple[str, ...], cause: Cause) -> None:
    assert cause_of_codes(codes) is cause


def test_the_fix_is_the_first_healthy_look_and_settle_counts_from_the_last_of_the_row() -> None:
    memory = judge(Case("", gate("closed", SHUT), "", looks=[*ROW, look(61)])).memory
    assert (memory.fixed_at, memory.healthy_at) == (at(20), at(60))
    assert settle_ends(memory, Policy(settle=HOUR), live=False) == at(60) + HOUR
    assert settle_ends(memory, Policy(), live=True) == at(60) + 10 * MINUTE
    assert settle_ends(memory, Policy(), live=False) == at(60)
    assert settle_ends(SHUT, Policy(), live=False) is None


def test_a_memory_goes_through_the_journal_unchanged() -> None:
    whole = Memory(1, 2, Reference(3, "healthy", "f"), 4, 5, 6, "changed", 7, 8, 9, "flapping", "why")
    assert memory_of(whole.to_text()) == whole
    assert memory_of("{}") == memory_of("") == Memory()
    assert memory_of('{"from_a_newer_version": 1}') == Memory()


def test_proof_does_not_end_settle_for_the_others() -> None:
    decision = judge(Case("", gate("testing", TRIED), "", looks=ROW, trial=Trial(proved_at=at(61))))
    assert settle_ends(decision.memory, Policy(settle=90 * SECOND), live=False) == at(150)


def test_a_reason_names_what_is_faulty_and_not_the_warnings_beside_it() -> None:
    """A server that greets with another name than its certificate's has a warning, and may be refused for
    another reason: naming both misleads."""
    findings = [
        {"code": "name_mismatch", "severity": "warning", "where": "ehlo"},
        {"code": "certificate_expired", "severity": "fault", "where": "leaf"},
    ]
    verdict = json.dumps({"addresses": [{"findings": findings}], "details": []})
    codes = ("name_mismatch", "certificate_expired")
    seen = replace(look(0, "faulty", "old", *codes), verdict_json=verdict)
    assert codes_text(seen) == "certificate_expired"
    assert codes_text(replace(seen, verdict_json="{}")) == "name_mismatch certificate_expired"
    details = [{"code": "dns_failed", "severity": "unknown", "where": "dns"}]
    told = replace(
        seen, health="unknown", codes=("dns_failed",), verdict_json=json.dumps({"details": details})
    )
    assert codes_text(told) == "dns_failed"


@pytest.mark.parametrize(
    ("before", "state", "rate", "expected"),
    [
        ("closed", "testing", 5.0, Haste("eop", 1, 0)),
        ("testing", "open", 5.0, Haste("eop", None, 200)),
        ("testing", "open", 0.0, Haste("eop", None, 2)),
        ("testing", "closed", 5.0, None),
        ("open", "open", 5.0, None),
    ],
)
def test_a_route_that_turns_lets_go_one_or_all_by_and_by(
    before: str, state: str, rate: float, expected: Haste | None
) -> None:
    assert haste("eop", Decision(state, (), Memory()), gate(before), rate) == expected
