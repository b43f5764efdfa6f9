"""Logs that grow are read as they grow, and whose mail it is moves by what they say."""

from __future__ import annotations

import gzip
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from resubmit import logbook
from resubmit.evidence import follow as marks
from resubmit.evidence.settings import Log
from resubmit.flow.filing import Filing
from resubmit.flow.follow import Follow
from resubmit.flow.wake import Wake
from resubmit.journal import read
from resubmit.journal.door import Journal
from resubmit.journal.settings import JournalSettings
from resubmit.journal.verbs import Begun
from resubmit.model.evidence import Cause, Holder
from resubmit.model.moment import DAY, SECOND, Ms, rfc3339
from resubmit.model.recipient import RecipientKey, State
from tests.helpers.journals import NOW, HandClock, arrival, attempt, ended, offer, outcome
from tests.helpers.worlds import table

FLOOR = JournalSettings(intake_floor="0B", attempt_floor="0B", reserve="0B")  # type: ignore[arg-type]
REPLY = "250 2.0.0 Ok: queued as A0A252203A8"


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "journal", clock=HandClock(), settings=FLOOR, inline=True)
    yield journal
    await journal.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mail.log"


def follower(
    journal: Journal, path: Path, clock: HandClock | None = None, position: str = "beside"
) -> Follow:
    clock = clock or HandClock()
    wake = Wake()
    filing = Filing(journal, clock, table(), {}, told=wake, stir=lambda: None)
    setting = Log(kind="postfix_log", path=path, position=position)  # type: ignore[arg-type]
    return Follow(journal, clock, filing, [setting], told=wake)


def line(text: str, after: Ms = SECOND, process: str = "smtp[7]") -> str:
    return f"{(rfc3339(NOW + after) or '')[:-1]}+00:00 relay postfix/{process}: {text}\n"


TAKEN = (
    line("A0A252203A8: client=app.example.org[192.0.2.7]", 500, "smtpd[1]")
    + line("A0A252203A8: message-id=<1@example.org>", 600, "cleanup[2]")
    + line("A0A252203A8: from=<app@example.org>, size=400, nrcpt=1 (queue active)", 700, "qmgr[3]")
)
FIELDS = (
    "A0A252203A8: to=<ann@contoso.com>, relay=mail.contoso.com[198.51.100.7]:25, delay=2, delays=1/0/1/0, "
)
REFUSED = line(
    "server certificate verification failed for mail.contoso.com[198.51.100.7]:25: certificate has expired"
)
DEFERRED = line(FIELDS + "dsn=4.7.5, status=deferred (Server certificate not verified)", 2_000)
SENT = line(FIELDS + "dsn=2.6.0, status=sent (250 2.6.0 Queued mail for delivery)", 9_000)
EXPIRED = line("A0A252203A8: from=<app@example.org>, status=expired, returned to sender", 9_000, "qmgr[3]")


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


async def stands(journal: Journal, message: int) -> tuple[State, Holder, Cause | None]:
    (one,) = await journal.standing([RecipientKey(message, 0)])
    return one.state, one.holder, one.cause


async def offered(journal: Journal) -> int:
    message = await journal.record(arrival())
    await attempt(journal, message, reply=REPLY)
    return message


async def rows(journal: Journal) -> int:
    with read.connect(journal.folder) as connection:
        return int(connection.execute("select count(*) from evidence").fetchone()[0])


def unreadable(journal: Journal) -> list[tuple[str, str]]:
    with read.connect(journal.folder) as connection:
        return [(view.place, view.reason) for view in read.unreadable(connection, limit=0)]


async def test_what_the_relay_put_off_is_its_own_until_it_passes_it_on(journal: Journal, path: Path) -> None:
    message = await offered(journal)
    follow = follower(journal, path)
    add(path, TAKEN + REFUSED + DEFERRED)
    await follow.rescan()
    assert await stands(journal, message) == (State.DEFERRED, Holder.RELAY, Cause.TLS)
    add(path, SENT)
    await follow.rescan()
    assert await stands(journal, message) == (State.ACCEPTED, Holder.FAR, None)


async def test_a_log_begun_in_the_middle_is_known_by_the_id_we_were_told(
    journal: Journal, path: Path
) -> None:
    """Without the lines that name the Message-ID; a queue id that was never told us is nobody's."""
    message = await journal.record(arrival())
    begun = await journal.begin(offer(message))
    assert isinstance(begun, Begun)
    await journal.end(ended(begun, outcome(reply=REPLY), next_key="A0A252203A8"))
    add(path, DEFERRED.replace("A0A252203A8", "B0A252203A8"))
    follow = follower(journal, path)
    await follow.rescan()
    assert (await stands(journal, message))[0] is State.ACCEPTED
    add(path, DEFERRED)
    await follow.rescan()
    assert (await stands(journal, message))[:2] == (State.DEFERRED, Holder.RELAY)


@pytest.mark.parametrize("backwards", [False, True])
async def test_rotated_logs_read_in_any_order_end_the_same(
    journal: Journal, tmp_path: Path, backwards: bool
) -> None:
    """What the relay passed on it does not hold, though its older log that says so is read last."""
    message = await offered(journal)
    parts = [TAKEN + REFUSED + DEFERRED, TAKEN + SENT]
    for number, part in enumerate(reversed(parts) if backwards else parts):
        path = tmp_path / f"{number}.log"
        add(path, part)
        await follower(journal, path).rescan()
    assert await rows(journal) == 2
    assert await stands(journal, message) == (State.ACCEPTED, Holder.FAR, None)


async def test_what_came_back_into_the_relays_queue_waits_there_in_any_order(
    journal: Journal, tmp_path: Path
) -> None:
    """By way of a filter: it was passed on to that first, and is put off since."""
    message = await offered(journal)
    later = line(
        FIELDS + "dsn=4.4.1, status=deferred (connect to mx[192.0.2.1]:25: Connection refused)", 9_000
    )
    sooner = line(
        FIELDS + "dsn=2.0.0, status=sent (250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 Ok)", 2_000
    )
    for number, part in enumerate((TAKEN + later, TAKEN + sooner)):
        path = tmp_path / f"{number}.log"
        add(path, part)
        await follower(journal, path).rescan()
    assert await stands(journal, message) == (State.DEFERRED, Holder.RELAY, Cause.CONNECTION)


async def test_what_the_relay_gave_up_is_nobodys_and_keeps_its_cause(journal: Journal, path: Path) -> None:
    message = await offered(journal)
    follow = follower(journal, path)
    add(path, TAKEN + REFUSED + DEFERRED)
    await follow.rescan()
    add(path, EXPIRED)
    await follow.rescan()
    assert await stands(journal, message) == (State.EXPIRED, Holder.NOBODY, Cause.TLS)


async def test_a_relay_in_front_of_us_says_nothing_of_what_we_did(journal: Journal, path: Path) -> None:
    message = await offered(journal)
    add(path, TAKEN + REFUSED + DEFERRED + EXPIRED)
    await follower(journal, path, position="before").rescan()
    assert (await stands(journal, message))[0] is State.ACCEPTED


async def test_after_a_restart_it_goes_on_where_it_was_and_knows_what_it_knew(
    journal: Journal, path: Path
) -> None:
    message = await offered(journal)
    add(path, TAKEN + REFUSED)
    await follower(journal, path).rescan()
    add(path, DEFERRED)
    again = follower(journal, path)
    await again.rescan()
    assert await stands(journal, message) == (State.DEFERRED, Holder.RELAY, Cause.TLS)
    assert await rows(journal) == 1


async def test_a_crash_before_the_mark_was_kept_files_nothing_twice(journal: Journal, path: Path) -> None:
    message = await offered(journal)
    add(path, TAKEN)
    clock = HandClock()
    first = follower(journal, path, clock)
    await first.rescan()
    add(path, REFUSED + DEFERRED)
    await first.rescan()  # within the time in which no new mark is kept
    assert await rows(journal) == 1
    kept = marks.parse_mark(await journal.cursor(marks.SOURCE, f"postfix_log {path}"))
    assert kept is not None and kept.offset == len(TAKEN)
    await follower(journal, path).rescan()
    assert await rows(journal) == 1
    assert (await stands(journal, message))[0] is State.DEFERRED


async def test_an_idle_log_writes_nothing(journal: Journal, path: Path) -> None:
    clock = HandClock()
    follow = follower(journal, path, clock)
    add(path, TAKEN)
    for _ in range(3):
        clock.pass_(10 * SECOND)
        await follow.rescan()
    before = journal.statistics()
    for _ in range(5):
        clock.pass_(10 * SECOND)
        await follow.rescan()
    assert journal.statistics() == before


async def test_a_rotation_in_the_middle_of_a_mail_keeps_what_was_known(
    journal: Journal, path: Path, tmp_path: Path
) -> None:
    message = await offered(journal)
    follow = follower(journal, path)
    add(path, TAKEN)
    await follow.rescan()
    add(path, REFUSED)
    packed = tmp_path / "mail.log.1.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    add(path, DEFERRED)
    await follow.rescan()
    assert await stands(journal, message) == (State.DEFERRED, Holder.RELAY, Cause.TLS)


async def test_a_log_that_is_not_there_yet_is_told_of_and_read_when_it_is(
    journal: Journal, path: Path
) -> None:
    message = await offered(journal)
    follow = follower(journal, path)
    with capture_logs() as logs:
        await follow.rescan()
        await follow.rescan()
    assert [log["event"] for log in logs] == [logbook.LOG_UNREADABLE]
    assert unreadable(journal) == [("", "it is not there; it is read as soon as it is")]
    add(path, TAKEN + DEFERRED)
    await follow.rescan()
    assert unreadable(journal) == []
    assert (await stands(journal, message))[0] is State.DEFERRED


async def test_a_log_without_permission_is_told_of_with_what_to_do(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(path, TAKEN)
    path.chmod(0o640)

    def denied(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(marks, "open_log", denied)
    await follower(journal, path).rescan()
    ((_, reason),) = unreadable(journal)
    assert "add the service's user to the group" in reason


async def test_stamps_of_another_zone_are_told_of_with_what_to_do(journal: Journal, path: Path) -> None:
    """A time an hour off moves evidence away from the attempt it is about."""
    await offered(journal)
    follow = follower(journal, path)
    add(path, TAKEN + DEFERRED)
    written = (NOW + 2_000 + 60 * 60 * SECOND) / 1000
    os.utime(path, (written, written))
    await follow.rescan()
    await follow.rescan()
    ((_, reason),) = unreadable(journal)
    assert reason == (
        "its stamps are 1h behind the time it is written at: set `timezone` to that of its stamps"
    )
    add(path, SENT)
    os.utime(path, ((NOW + 9_500) / 1000,) * 2)
    await follow.rescan()
    await follow.rescan()
    assert unreadable(journal) == []


async def test_lost_lines_are_told_of(journal: Journal, path: Path) -> None:
    follow = follower(journal, path)
    add(path, TAKEN)
    await follow.rescan()
    os.truncate(path, 0)
    add(path, "2026-11-24T12:00:09+00:00 relay postfix/smtp[7]: nothing of note\n")
    with capture_logs() as logs:
        await follow.rescan()
    assert logbook.LOG_PLACE_LOST in [log["event"] for log in logs]


async def test_lines_that_can_not_be_read_are_set_aside_within_bounds(journal: Journal, path: Path) -> None:
    message = await offered(journal)
    add(path, "what is this\n" * 300 + TAKEN + DEFERRED)
    await follower(journal, path).rescan()
    assert len(unreadable(journal)) == 100
    assert (await stands(journal, message))[0] is State.DEFERRED


async def test_of_a_log_of_years_only_what_may_be_about_our_mail_is_kept(
    journal: Journal, path: Path
) -> None:
    message = await offered(journal)
    ancient = line(FIELDS.replace("A0A", "B0A") + "dsn=4.4.1, status=deferred (later)", -30 * DAY)
    add(path, ancient * 3 + TAKEN + DEFERRED)
    await follower(journal, path).rescan()
    assert await rows(journal) == 1
    assert (await stands(journal, message))[0] is State.DEFERRED


async def test_what_was_refused_at_an_open_door_fills_no_journal(journal: Journal, path: Path) -> None:
    refused = (
        "NOQUEUE: reject: RCPT from unknown[203.0.113.9]: 554 5.7.1 <x@example.net>: Relay access denied;"
        " from=<s@example.org> to=<x@example.net> proto=ESMTP helo=<h>"
    )
    add(path, line(refused, process="smtpd[1]") * 5)
    await follower(journal, path).rescan()
    assert await rows(journal) == 0


async def test_of_a_folder_new_files_are_followed_as_they_come(journal: Journal, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    message = await offered(journal)
    clock = HandClock()
    follow = follower(journal, folder, clock)
    add(folder / "a.log", TAKEN)
    os.utime(folder / "a.log", (NOW / 1000, NOW / 1000))
    await follow.rescan()
    add(folder / "a.log", DEFERRED)
    add(folder / "b.log", line("B0A252203A8: removed", process="qmgr[3]"))
    for name in ("a.log", "b.log"):
        os.utime(folder / name, (NOW / 1000, NOW / 1000))
    await follow.rescan()
    assert (await stands(journal, message))[0] is State.DEFERRED
    assert await journal.cursor(marks.SOURCE, f"postfix_log {folder / 'b.log'}") is not None


async def test_what_a_machine_knows_of_a_file_that_ended_is_let_go(journal: Journal, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    clock = HandClock()
    follow = follower(journal, folder, clock)
    add(folder / "a.log", TAKEN)
    os.utime(folder / "a.log", (NOW / 1000, NOW / 1000))
    await follow.rescan()

    async def kept() -> str:
        mark = marks.parse_mark(await journal.cursor(marks.SOURCE, f"postfix_log {folder / 'a.log'}"))
        assert mark is not None
        return mark.memory

    assert "1@example.org" in await kept()
    clock.pass_(3 * DAY)
    await follow.rescan()
    assert await kept() == ""
