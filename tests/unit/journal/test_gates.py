"""Gates, looks, standings, the mirror of the config, the audit and the journal's own key."""

from __future__ import annotations

import asyncio
from pathlib import Path

from resubmit.journal import read
from resubmit.journal.door import Journal
from resubmit.journal.verbs import AuditRow, Destined, LookRow, Stale
from resubmit.model.moment import DAY, HOUR, MINUTE
from resubmit.model.recipient import Event, RecipientKey, State
from tests.helpers.journals import NOW, HandClock, arrival, attempt, move, recipient


async def test_a_gate_turns_only_from_the_version_that_was_judged(journal: Journal) -> None:
    assert await journal.gate("destination:hybrid") is None
    answers = await asyncio.gather(
        *(
            journal.turn("destination:hybrid", 0, "closed", ("certificate_expired",), NOW, "{}")
            for _ in range(3)
        )
    )
    assert [answer for answer in answers if not isinstance(answer, Stale)] == [1]
    assert await journal.turn("destination:hybrid", 1, "closed", (), NOW + HOUR, '{"a":1}') == 2
    gate = await journal.gate("destination:hybrid")
    assert gate is not None
    assert (gate.state, gate.version, gate.since, gate.data) == ("closed", 2, NOW, '{"a":1}')
    assert await journal.turn("destination:hybrid", 2, "testing", ("healthy",), NOW + HOUR) == 3
    (gate,) = await journal.gates()
    assert (gate.state, gate.since, gate.reasons) == ("testing", NOW + HOUR, ("healthy",))


async def test_looks_come_newest_first(journal: Journal) -> None:
    for i in range(3):
        await journal.looked(LookRow("route:eop", NOW + i, "faulty", ("starttls_missing",), "f", "{}", 3))
    await journal.looked(LookRow("route:other", NOW, "healthy", (), "", "{}"))
    looks = await journal.looks("route:eop", NOW + 1)
    assert [look.at for look in looks] == [NOW + 2, NOW + 1]
    assert (looks[0].codes, looks[0].days_left, looks[0].health) == (("starttls_missing",), 3, "faulty")
    assert looks[0].id is not None
    assert len(await journal.looks("route:eop", 0, limit=1)) == 1


async def test_standings_are_asked_by_state(journal: Journal) -> None:
    messages = [await journal.record(arrival()) for _ in range(5)]
    for message in messages[1:]:
        await attempt(journal, message)
    await journal.move([move(messages[2], Event.SEEN_DEFERRED), move(messages[3], Event.OPERATOR_HELD)])
    await journal.move([move(messages[4], Event.SEEN_DELIVERED)])

    async def asked(*states: State, **span: int) -> list[int]:
        found = await journal.standings("hybrid", states=states or None, **span)
        return [one.key.message for one in found]

    assert await asked() == [messages[2]]
    assert await asked(State.ACCEPTED) == [messages[1]]
    assert await asked(State.ACCEPTED, since=NOW + HOUR) == []
    assert await asked(State.HELD, State.DEFERRED) == [messages[3], messages[2]]
    assert await asked(State.JOURNALED) == [messages[0]]
    assert await asked(State.DELIVERED) == [messages[4]]
    assert await journal.standings("rest") == []
    assert await journal.standing([RecipientKey(1, 1)]) == []


async def test_a_changed_config_moves_open_recipients_only(journal: Journal) -> None:
    settled, open_ = await journal.record(arrival()), await journal.record(arrival(recipient("bob@x")))
    await attempt(journal, settled, Event.REPLY_FINAL)
    changed = [(RecipientKey(message, 0), "rest", "other", NOW + DAY) for message in (settled, open_)]
    assert await journal.reassign(changed) == 1
    (due,) = await journal.due("other", NOW, 5)
    assert (due.recipients[0].destination, due.recipients[0].deadline) == ("rest", NOW + DAY)


async def test_the_mirror_keeps_what_the_config_no_longer_names(journal: Journal) -> None:
    hybrid = Destined("hybrid", 15 * MINUTE, 2 * HOUR, DAY, HOUR, "eop", "eop")
    await journal.mirror([hybrid, Destined("rest", 1, 2, 3, 4, "a", "b", {"x": 1})])
    await journal.mirror([hybrid])
    with read.connect(journal.folder) as connection:
        rows = connection.execute("select name, current, data from destination order by name").fetchall()
    assert [tuple(row) for row in rows] == [("hybrid", 1, "{}"), ("rest", 0, '{"x": 1}')]


async def test_the_key_is_made_once(tmp_path: Path, clock: HandClock) -> None:
    journal = await Journal.open(tmp_path / "j", clock=clock, inline=True)
    key = await journal.key()
    assert len(key) == 32
    assert await journal.key() == key
    await journal.close()
    journal = await Journal.open(tmp_path / "j", clock=clock, inline=True)
    assert await journal.key() == key
    await journal.close()


async def test_what_people_do_is_audited(journal: Journal) -> None:
    await journal.audit(AuditRow(NOW, "pat", "hold", "1 recipient", "asked by \udcff"))
    with read.connect(journal.folder) as connection:
        assert connection.execute("select who, reason from audit").fetchone()[:] == ("pat", "asked by ?")
