"""Files that people bring in stand in the journal like mail from a client, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from resubmit.flow.accept import Accept
from resubmit.flow.bring import Bring
from resubmit.handoff.routes import Table
from resubmit.handoff.settings import Destination, Route
from resubmit.journal.door import Journal
from resubmit.journal.settings import JournalSettings
from resubmit.model.ids import parse_id
from resubmit.model.moment import DAY
from tests.helpers.journals import HandClock

MAIL = b"Subject: gr\xc3\xbc\xc3\x9fe\nMessage-ID: <1@x>\nDate: today\n\nhello\n"


class Desk:
    def __init__(self, journal: Journal, folder: Path) -> None:
        self.journal = journal
        self.folder = folder
        clock = HandClock()
        table = Table(
            (Route(name="eop", host="192.0.2.1"),),
            (Destination(name="hybrid", domains=["contoso.com"], handoff="eop"),),
        )
        accept = Accept(journal, clock, table, give_up_after=5 * DAY, key=b"k" * 32)
        self.bring = Bring(journal, clock, accept, by="relay.contoso.com", limit=10_000)

    def file(self, name: str, octets: bytes = MAIL) -> str:
        (self.folder / name).write_bytes(octets)
        return str(self.folder / name)

    async def ask(self, *files: str, **options: Any) -> list[dict[str, Any]]:
        request = {"do": "import", "options": {"files": list(files), **options}}
        return list(await self.bring(request, lambda _: None))

    async def octets(self, shown: str) -> bytes:
        body = await self.journal.body(parse_id(shown))
        return b"".join([chunk async for chunk in self.journal.read_body(body)])


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    none = JournalSettings(intake_floor="0B", attempt_floor="0B", reserve="0B")  # type: ignore[arg-type]
    journal = await Journal.open(tmp_path / "journal", clock=HandClock(), settings=none)
    yield Desk(journal, tmp_path)
    await journal.close()


async def test_a_file_is_journaled_with_its_envelope_and_is_due(desk: Desk) -> None:
    (told,) = await desk.ask(desk.file("a.eml"), sender="app@example.org", to=["ann@contoso.com"])

    assert (told["error"], told["recipients"], told["known"]) == (None, ["ann@contoso.com"], False)
    assert await desk.octets(told["id"]) == MAIL.replace(b"\n", b"\r\n")
    (due,) = await desk.journal.due("eop", HandClock().now(), 9)
    assert (due.sender, due.parameters, due.intake) == ("app@example.org", ("BODY=8BITMIME",), "import")


async def test_what_was_brought_before_is_left_alone_unless_it_is_asked_for(desk: Desk) -> None:
    file = desk.file("a.eml")
    ask = {"sender": "app@example.org", "to": ["ann@contoso.com"]}

    first, second = await desk.ask(file, desk.file("copy.eml"), **ask)
    other = await desk.ask(file, sender="app@example.org", to=["bob@contoso.com"])
    again = await desk.ask(file, again=True, **ask)
    dry = await desk.ask(desk.file("b.eml", b"X: 1\n\n"), dry_run=True, **ask)

    assert first["id"] and (second["id"], second["known"]) == (None, True)
    assert other[0]["id"] and not other[0]["known"]
    assert again[0]["id"] and again[0]["known"]
    assert (dry[0]["id"], dry[0]["recipients"], dry[0]["error"]) == (None, ["ann@contoso.com"], None)
    assert len(await desk.journal.due("eop", HandClock().now(), 9)) == 3


async def test_one_bad_file_takes_nobody_with_it(desk: Desk) -> None:
    large = desk.file("large.eml", b"Subject: x\n\n" + b"x" * 20_000)
    answers = await desk.ask(
        str(desk.folder / "none.eml"),
        large,
        desk.file("a.eml"),
        to=["ann@contoso.com", "who@elsewhere.com"],
        sender="",
    )

    assert [bool(one["id"]) for one in answers] == [False, False, True]
    assert answers[0]["error"] == "No such file or directory"
    assert "larger" in answers[1]["error"]
    assert list(answers[2]["refused"]) == ["who@elsewhere.com"]


async def test_nobody_to_go_to_is_an_error(desk: Desk) -> None:
    (no_envelope, no_way) = [
        *await desk.ask(desk.file("a.eml")),
        *await desk.ask(desk.file("a.eml"), to=["who@elsewhere.com"], sender=""),
    ]

    assert "--to" in no_envelope["error"]
    assert "no destination" in no_way["error"]
    assert await desk.journal.due("eop", HandClock().now(), 9) == []
