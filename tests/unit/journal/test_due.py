"""What is due, and what is due and barred: nobody asks for it again and again."""

from __future__ import annotations

from typing import Any

from resubmit.journal import read
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Barred, GateRow, JobAsk, Stale
from resubmit.model.moment import HOUR, MINUTE
from resubmit.model.recipient import Event, RecipientKey, State
from tests.helpers.journals import NOW, arrival, attempt, recipient, seen

HYBRID = Barred(frozenset({"hybrid"}))


async def made_due(
    journal: Journal, *, state: Event | None = Event.SEEN_DEFERRED
) -> tuple[RecipientKey, int]:
    """A recipient that a job made due: deferred, or fresh from intake."""
    key = RecipientKey(await journal.record(arrival()), 0)
    if state is not None:
        await attempt(journal, key.message)
        await journal.observe([seen(key.message, state, f"{key.message}")])
    job = await journal.ask(ask(key))
    assert await journal.make_due([key], NOW + MINUTE, None, job) == 1
    return key, job


def ask(*keys: RecipientKey, **values: Any) -> JobAsk:
    filled: dict[str, Any] = {
        "asked_at": NOW,
        "asked_by": "ann",
        "reason": "",
        "filter": "{}",
        "options": "{}",
        "destination": "hybrid",
        "incident": None,
        "gate": "destination:hybrid",
        **values,
    }
    return JobAsk(recipients=keys, **filled)


async def test_what_a_closed_gate_bars_is_not_due_and_gives_no_time(journal: Journal) -> None:
    _, job = await made_due(journal)
    later = NOW + HOUR
    assert await journal.due("eop", later, 10, HYBRID) == []
    assert await journal.next_due("eop", HYBRID) is None
    for barred in (Barred(), Barred(frozenset({"other"})), Barred(frozenset({"hybrid"}), frozenset({job}))):
        (due,) = await journal.due("eop", later, 10, barred)
        assert due.recipients[0].job == job
        assert await journal.next_due("eop", barred) == NOW + MINUTE


async def test_another_job_being_forced_lets_nobody_else_through(journal: Journal) -> None:
    _, job = await made_due(journal)
    assert await journal.due("eop", NOW + HOUR, 10, Barred(frozenset({"hybrid"}), frozenset({job + 1}))) == []


async def test_new_mail_is_never_barred_not_even_a_jobs(journal: Journal) -> None:
    key, _ = await made_due(journal, state=None)
    (due,) = await journal.due("eop", NOW + HOUR, 10, HYBRID)
    assert due.message == key.message


async def test_of_one_message_only_the_barred_recipients_stay(journal: Journal) -> None:
    message = await journal.record(arrival(recipient(), recipient("bob@fabrikam.com", destination="cloud")))
    keys = [RecipientKey(message, n) for n in (0, 1)]
    for key in keys:
        await attempt(journal, message, n=key.n)
        await journal.observe([seen(message, Event.SEEN_DEFERRED, f"{key.n}", n=key.n)])
    job = await journal.ask(ask(*keys))
    assert await journal.make_due(keys, NOW, None, job) == 2
    (due,) = await journal.due("eop", NOW, 10, HYBRID)
    assert [r.n for r in due.recipients] == [1]


async def test_what_is_called_back_is_due_no_more(journal: Journal) -> None:
    key, _ = await made_due(journal)
    assert await journal.recall([key], NOW) == 1
    assert await journal.next_due("eop") is None
    with read.connect(journal.folder) as connection:
        told = connection.execute("select event, to_state from history order by seq desc").fetchone()
    assert tuple(told) == ("recalled", "deferred")
    (stands,) = await journal.standing([key])
    assert stands.state is State.DEFERRED
    assert await journal.recall([key], NOW) == 0, "once is enough"


async def test_what_is_ours_to_send_anyway_stays_due_when_it_is_called_back(journal: Journal) -> None:
    key, _ = await made_due(journal, state=None)
    assert await journal.recall([key], NOW) == 1
    (due,) = await journal.due("eop", NOW + HOUR, 10)
    assert due.recipients[0].job is None


async def test_small_bodies_come_along_up_to_a_bound(journal: Journal, monkeypatch: Any) -> None:
    monkeypatch.setattr("resubmit.journal.due.BODIES_OCTETS", 100)
    octets = b"Subject: x\r\n\r\n" + b"y" * 40 + b"\r\n"
    for _ in range(3):
        await journal.record(arrival(octets=octets))
    found = await journal.due("eop", NOW, 10)
    assert [due.body.octets for due in found] == [octets, None, None]
    for due in found:
        assert [chunk async for chunk in journal.read_body(due.body, due.message)] == [octets]


async def test_a_gate_is_known_anew_after_each_turn(journal: Journal) -> None:
    assert await journal.gates() == []
    assert await journal.turn("route:eop", 0, "closed", ("why",), NOW) == 1
    first = await journal.gate("route:eop")
    assert isinstance(first, GateRow)
    assert (first.state, first.version) == ("closed", 1)
    assert await journal.turn("route:eop", 1, "open", (), NOW) == 2
    assert isinstance(await journal.turn("route:eop", 1, "closed", (), NOW), Stale)
    (gate,) = await journal.gates()
    assert (gate.state, gate.version) == ("open", 2)
