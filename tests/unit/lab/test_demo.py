"""The demo's parts. The demo as a whole is in tests/integration/test_demo.py."""

from __future__ import annotations

import io
import stat

import pytest

from resubmit.clock import SystemClock
from resubmit.config import load
from resubmit.lab import crowd
from resubmit.lab.mailbox import Mailboxes
from resubmit.lab.narrator import Narrator
from resubmit.lab.script import Script, header
from resubmit.lab.smtpd import ScriptedServer
from resubmit.lab.stage import Stage, StageError, free_ports
from resubmit.lab.story import STUCK_MAILS, Report, Story
from resubmit.lab.tenant import Kind
from resubmit.model.envelope import domain_of

CLOCK = SystemClock()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_each_mail_of_the_incident_needs_the_hybrid_server() -> None:
    tenant = crowd.tenant()
    for number in range(STUCK_MAILS):
        pairs = [(box, "") for box in tenant.mailboxes(crowd.stuck_to_be(number))]
        assert crowd.at_hybrid(pairs, tenant)
        others = crowd.not_stuck(number)
        assert not crowd.at_hybrid([(box, "") for box in tenant.mailboxes(others)], tenant)


def test_the_incident_has_every_kind_of_recipient_and_only_names_nobody_owns() -> None:
    tenant = crowd.tenant()
    mails = [crowd.stuck_to_be(n) for n in range(STUCK_MAILS)]
    everyone = {address for mail in mails for address in mail}
    assert {tenant.kind(address) for address in everyone} == set(Kind)
    assert len({domain_of(address) for address in everyone}) == 3
    assert max(len(mail) for mail in mails) >= 3
    assert all(domain_of(a).endswith(".invalid") for a in everyone | set(crowd.SENDERS) | set(tenant.cloud))
    assert all(tenant.kind(a) is not Kind.UNKNOWN for a in everyone if tenant.accepts(a))


def test_what_is_expected_counts_a_member_of_a_group_once() -> None:
    letter = crowd.write(
        "x", 1, ["anna@contoso.invalid", "sales@contoso.invalid", "pat@partner.invalid"], CLOCK
    )
    assert [mailbox for mailbox, _ in crowd.expected([letter], crowd.tenant())] == [
        "anna@contoso.invalid",
        "cleo@contoso.invalid",
        "mia@contoso.invalid",
        "pat@partner.invalid",
    ]


async def test_counting_tells_missing_arrived_and_twice_apart() -> None:
    mailboxes = Mailboxes()
    data = b"Message-ID: <1@x>\r\n\r\n"
    for recipient in ("a@x", "b@x", "b@x", "b@x", "not-asked@x"):
        await mailboxes.put(recipient, data, "here")
    found = crowd.count([("a@x", "<1@x>"), ("b@x", "<1@x>"), ("c@x", "<1@x>")], mailboxes)
    assert found == crowd.Count(3, 2, (("c@x", "<1@x>"),), (("b@x", "<1@x>"),), 2)


async def test_only_what_is_taken_for_all_its_recipients_counts_as_sent() -> None:
    script = Script(rcpt=lambda a: "550 5.1.1 no" if a == "no@x.invalid" else "250 ok")
    async with ScriptedServer(script) as server:
        letters = [
            crowd.write("x", n, ["yes@x.invalid", "no@x.invalid"] if n == 3 else ["yes@x.invalid"], CLOCK)
            for n in range(20)
        ]
        taken = await crowd.send(letters, server.port, connections=3)
        assert sorted(one.message_id for one in taken) == [
            one.message_id for n, one in enumerate(letters) if n != 3
        ]
        by_id = {mail.header("Message-ID"): mail.data for mail in server.mails}
        assert all(by_id[one.message_id] == one.data for one in taken)
        assert header(letters[0].data, "Date")


async def test_mail_that_a_dead_service_never_took_is_not_counted_as_sent() -> None:
    (port,) = free_ports(1)
    assert await crowd.send([crowd.write("x", 1, ["a@x.invalid"], CLOCK)], port) == []


async def test_the_stage_has_a_config_without_mistakes_and_leaves_nothing_behind() -> None:
    async with Stage(CLOCK) as stage:
        config = load(stage.config)
        assert {route.name for route in config.route} == {"eop", "partner"}
        assert stat.S_IMODE(stage.folder.stat().st_mode) == 0o700
        folder = stage.folder
    assert not folder.exists()


async def test_a_service_that_can_not_start_is_told_with_the_end_of_its_log() -> None:
    async with Stage(CLOCK) as stage:
        stage.config.write_text("[journal]\npaht = 1\n")
        with pytest.raises(StageError, match="the service ended with"):
            await stage.serve()
        folder = stage.folder
    assert not folder.exists()


async def test_a_story_without_stuck_mail_is_no_success() -> None:
    async with Stage(CLOCK) as stage:
        report = Story(stage, Narrator(io.StringIO(), CLOCK)).count()
    assert not report.well()
    assert report.missing == ["no mail got stuck"]


async def test_a_copy_too_many_and_a_copy_too_few_are_missing_something() -> None:
    async with Stage(CLOCK) as stage:
        story = Story(stage, Narrator(io.StringIO(), CLOCK))
        story.letters = [crowd.write("x", n, ["anna@contoso.invalid"], CLOCK) for n in range(3)]
        story.stuck = [("anna@contoso.invalid", one.message_id) for one in story.letters]
        story.report.stuck = 3
        story.fixed_at = CLOCK.now()
        for letter in (story.letters[0], story.letters[0], story.letters[1]):
            await stage.mailboxes.put("anna@contoso.invalid", letter.data, "here")
        await stage.mailboxes.put("anna@contoso.invalid", b"Message-ID: <swaks@x>\r\n\r\n", "here")
        report = story.count()
    assert (report.stuck, report.recovered, report.unknown, report.duplicates) == (3, 2, 1, 1)
    assert report.other_mail == 1
    assert report.seconds_from_fix_to_last_delivery is not None
    assert len(report.missing) == 2


def test_the_report_has_the_fields_scripts_rely_on() -> None:
    assert {
        "journaled",
        "stuck",
        "recovered",
        "failed",
        "unknown",
        "duplicates",
        "seconds_from_fix_to_last_delivery",
    } <= Report().as_json().keys()


def test_a_bar_is_redrawn_on_a_terminal_and_drawn_at_its_quarters_elsewhere() -> None:
    terminal, file = Terminal(), io.StringIO()
    for out in (terminal, file):
        narrator = Narrator(out, CLOCK)
        narrator.step("A step")
        for done in range(101):
            narrator.bar("done", done, 100)
        narrator.say("word " * 40)
    assert terminal.getvalue().count("\r") == 101
    assert file.getvalue().count("done [") == 5
    assert "[" + "#" * 30 + "] 100/100\n" in file.getvalue()
    assert max(len(line) for line in file.getvalue().splitlines()) <= 80
