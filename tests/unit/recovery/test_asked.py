"""What a replay waits for, and when waiting for it is over."""

from __future__ import annotations

import pytest

from resubmit.model.recipient import State
from resubmit.recovery import asked
from resubmit.recovery.stage import Stage
from tests.unit.recovery.facts import gate, item, job

OPEN = gate(reasons=())
CLOSED = gate("closed", reasons=("2 faulty looks in a row",))
SHUT = "gate destination:hybrid is closed: 2 faulty looks in a row"
ROUTE = "gate route:eop is closed: 454 4.7.0 no TLS"
TESTING = gate("testing", reasons=())
ROUTE_SHUT = gate("closed", name="route:eop", reasons=("454 4.7.0 no TLS",))
SPENT = Stage(force_spent=True).to_text()
FORCE = {"force": True}


@pytest.mark.parametrize(
    ("name", "row", "gates", "kept"),
    [
        ("never turned", job(), [None, None], ""),
        ("open", job(), [OPEN, None], ""),
        ("closed", job(), [CLOSED, None], SHUT),
        ("testing", job(), [TESTING, None], "gate destination:hybrid is testing"),
        ("the route's gate", job(), [OPEN, ROUTE_SHUT], ROUTE),
        ("a force goes through the destination's", job(options=FORCE), [CLOSED, None], ""),
        ("and not through the route's", job(options=FORCE), [CLOSED, ROUTE_SHUT], ROUTE),
        ("a force that failed is spent", job(options=FORCE, stage=SPENT), [CLOSED, None], SHUT),
        ("a job that is over waits for nothing", job(state="done"), [CLOSED, ROUTE_SHUT], ""),
    ],
)
def test_what_keeps_a_job(name: str, row: object, gates: list[object], kept: str) -> None:
    assert asked.kept_by(row, gates, known=True, mode="automatic") == kept  # type: ignore[arg-type]


def test_a_job_nobody_will_carry_says_so() -> None:
    assert "no longer in the config" in asked.kept_by(job(), [None], known=False, mode="automatic")
    assert "observe" in asked.kept_by(job(), [None], known=True, mode="observe")


def test_behind_a_shut_route_only_what_is_being_sent_moves() -> None:
    made_due, sending = item(recipient_state=State.DEFERRED), item(2, recipient_state=State.SENDING)
    assert asked.are_on_their_way([made_due], None)
    assert asked.are_on_their_way([made_due], gate(name="route:eop"))
    assert not asked.are_on_their_way([made_due], ROUTE_SHUT)
    assert asked.are_on_their_way([made_due, sending], ROUTE_SHUT)
    assert not asked.are_on_their_way([], None)


@pytest.mark.parametrize(
    ("state", "waiting", "in_flight", "kept", "ended"),
    [
        ("waiting", True, False, "", False),
        ("waiting", True, False, "gate x is closed", True),
        ("running", True, True, "gate x is testing", False),
        ("running", True, False, "gate x is testing", True),
        ("running", False, True, "", False),
        ("running", False, True, "gate x is closed", False),
        ("running", False, False, "", True),
        ("running", False, False, "gate x is testing", True),
        ("done", False, False, "", True),
        ("cancelled", True, True, "", True),
        ("failed", True, False, "", True),
    ],
)
def test_when_waiting_is_over(state: str, waiting: bool, in_flight: bool, kept: str, ended: bool) -> None:
    assert asked.has_ended(state, waiting=waiting, in_flight=in_flight, kept=kept) is ended
