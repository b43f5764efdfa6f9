"""Postfix's log line by line: what is remembered between lines, for how long, and what is never kept."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resubmit.evidence.base import Item, Reading
from resubmit.evidence.kinds import postfix_log, postfix_log_table
from resubmit.evidence.kinds.postfix_log import Machine
from resubmit.evidence.kinds.postfix_log_lines import NoLine, Stamps, decoded, parse
from resubmit.evidence.kinds.postfix_log_table import MEMORY_LIMIT
from resubmit.model.evidence import Evidence, Holder, Status
from resubmit.model.moment import DAY, MINUTE, Ms, parse_rfc3339, rfc3339, to_datetime
from tests.golden_pairs import pairs

NOW = parse_rfc3339("2026-11-24T12:00:00Z")
READING = Reading("mail.log", now=NOW)
TO = "to=<ann@contoso.com>, relay=mx[192.0.2.1]:25, delay=2, delays=1/0/1/0, dsn="


def fed(machine: Machine, *lines: str) -> list[Evidence]:
    """The evidence of some lines, each of which has to be readable."""
    found: list[Evidence] = []
    for number, line in enumerate(lines, 1):
        for item in machine.line(line.encode(), f"line {number}"):
            assert isinstance(item, Evidence), item
            found.append(item)
    return found


def at(text: str, process: str = "smtp[7]", day: int = 24) -> str:
    return f"Nov {day} 05:00:00 relay postfix/{process}: {text}"


def items_of(path: Path) -> list[Item]:
    return list(postfix_log.read(io.BytesIO(path.read_bytes()), READING))


class TestWhoHasIt:
    LINES = (
        at("A0A252203A8: message-id=<1@example.org>", "cleanup[2]"),
        at(f"A0A252203A8: {TO}4.4.1, status=deferred (connect to mx[192.0.2.1]:25: Connection refused)"),
        at(f"A0A252203A8: {TO}2.0.0, status=sent (250 ok)"),
        at(f"B0A252203A8: {TO}5.1.1, status=bounced (host mx[192.0.2.1] said: 550 5.1.1 no such user)"),
    )

    @pytest.mark.parametrize("position", ["beside", "behind"])
    def test_what_is_put_off_is_the_relays_and_what_was_sent_is_the_next_ones(self, position: str) -> None:
        found = fed(Machine(replace(READING, position=position)), *self.LINES)
        assert [(one.status, one.holder) for one in found] == [
            (Status.DEFERRED, Holder.RELAY),
            (Status.RELAYED, Holder.FAR),
            (Status.FAILED, Holder.NOBODY),
        ]
        assert all(one.received_at for one in found)

    def test_a_relay_in_front_of_us_tells_nothing_of_what_we_took(self) -> None:
        found = fed(Machine(replace(READING, position="before")), *self.LINES)
        assert {(one.status, one.holder, one.received_at, one.meaning) for one in found} == {
            (Status.NONE, None, None, None)
        }
        assert [one.message_id for one in found] == ["<1@example.org>", "<1@example.org>", ""]


class TestMemory:
    def test_it_is_bounded_and_the_newest_stays(self) -> None:
        machine = Machine(READING)
        for number in range(4_000):
            fed(
                machine,
                at(f"{number:010X}: message-id=<{number}.a-rather-long-name@app.example.org>", "cleanup[2]"),
                at(f"{number:010X}: {TO}4.4.1, status=deferred ({'the reason is long ' * 10})"),
            )
        kept = machine.memory()
        assert len(kept.encode()) <= MEMORY_LIMIT
        again = postfix_log.machine(READING, kept)
        last, first = (
            fed(
                again,
                at(f"{number:010X}: from=<a@example.org>, status=expired, returned to sender", "qmgr[3]"),
            )
            for number in (3_999, 0)
        )
        assert last[0].message_id == "<3999.a-rather-long-name@app.example.org>"
        assert last[0].recipient == "ann@contoso.com"
        assert (first[0].message_id, first[0].recipient) == ("", "")

    def test_mail_that_waits_is_remembered_before_mail_that_only_passed(self) -> None:
        """Nothing else will say whom an expired mail was for."""
        machine = Machine(READING)
        fed(machine, at(f"A0A252203A8: {TO}4.4.1, status=deferred (later)"))
        for number in range(4_000):
            fed(machine, at(f"{number:010X}: message-id=<{number}@{'long' * 20}.example.org>", "cleanup[2]"))
        again = postfix_log.machine(READING, machine.memory())
        expired = fed(again, at("A0A252203A8: from=<a@b>, status=expired, returned to sender", "qmgr[3]"))
        assert [one.recipient for one in expired] == ["ann@contoso.com"]

    def test_what_it_knows_does_not_grow_without_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(postfix_log_table, "_MOST", 50)
        machine = Machine(READING)
        for number in range(500):
            fed(machine, at(f"{number:010X}: {TO}4.4.1, status=deferred (later)"))
        assert len(json.loads(machine.memory())["mails"]) <= 50
        for number in range(500):
            to = f"to=<u{number}@contoso.com>, relay=none, delay=1, dsn=4.4.1"
            fed(machine, at(f"0000000FFF: {to}, status=deferred (later)"))
        expired = fed(machine, at("0000000FFF: from=<>, status=expired, returned to sender", "qmgr[3]"))
        assert 0 < len(expired) <= 50

    @pytest.mark.parametrize(
        "memory",
        ["{", "[]", "null", '{"last": "x", "faults": [1], "mails": [[1], {}]}', "9" * 5000, "[" * 9999],
    )
    def test_what_it_can_not_use_it_forgets(self, memory: str) -> None:
        machine = postfix_log.machine(READING, memory)
        assert fed(machine, at(f"A0A252203A8: {TO}2.0.0, status=sent (250 ok)"))[0].status is Status.RELAYED

    @given(st.text(max_size=200))
    @settings(max_examples=100, deadline=None)
    def test_any_memory_does_no_harm(self, memory: str) -> None:
        assert fed(postfix_log.machine(READING, memory), at("A0A252203A8: removed", "qmgr[3]")) == []


class TestTlsReasons:
    FAILED = at("certificate verification failed for mx[192.0.2.1]:25: self-signed certificate")
    DEFERRED = f"{TO}4.7.5, status=deferred (Server certificate not verified)"

    def test_of_another_process_says_nothing_of_this_one(self) -> None:
        (one,) = fed(Machine(READING), self.FAILED, at("A0A252203A8: " + self.DEFERRED, "smtp[8]"))
        assert one.text == "Server certificate not verified"

    def test_of_tlsproxy_is_of_whoever_asked_it(self) -> None:
        failed = self.FAILED.replace("smtp[7]", "tlsproxy[3]")
        (one,) = fed(Machine(READING), failed, at("A0A252203A8: " + self.DEFERRED))
        assert one.text == "Server certificate not verified: self-signed certificate"

    def test_of_another_peer_says_nothing_of_this_one(self) -> None:
        failed = self.FAILED.replace("192.0.2.1", "192.0.2.2")
        (one,) = fed(Machine(READING), failed, at("A0A252203A8: " + self.DEFERRED))
        assert one.text == "Server certificate not verified"

    def test_is_over_when_a_connection_was_verified(self) -> None:
        good = at(
            "Verified TLS connection established to mx[192.0.2.1]:25: TLSv1.3 with cipher X (256/256 bits)"
        )
        (one,) = fed(Machine(READING), self.FAILED, good, at("A0A252203A8: " + self.DEFERRED))
        assert one.text == "Server certificate not verified"


def test_nothing_of_a_header_or_body_is_kept() -> None:
    what = "from app[192.0.2.7]; from=<a@example.org> to=<b@contoso.com> proto=ESMTP helo=<app>"
    for action in ("hold", "reject", "discard", "warning", "info", "filter", "prepend", "strip"):
        for part in ("header Subject: the secret matter", "body a secret line"):
            for reason in (": 5.7.1 no", ""):
                line = at(f"A0A252203A8: {action}: {part} {what}{reason}", "cleanup[2]")
                for item in Machine(READING).line(line.encode(), "line 1"):
                    assert "secret" not in repr(item)


def test_a_line_that_is_cut_anywhere_gives_evidence_or_is_set_aside() -> None:
    for path in pairs("postfix_log"):
        for line in path.read_bytes().split(b"\n")[:12]:
            for end in range(0, len(line), 7):
                list(Machine(READING).line(line[:end], "line 1"))


HOSTILE = {
    "refused": "reject: RCPT from x[192.0.2.1]: 5" + "; from=<a> to=<b> proto=x helo=<" * 500,
    "refused again": "reject: RCPT from x[192.0.2.1]: 5; from=<" + "> to=<" * 2500,
    "client": "reject: " + "RCPT from x: " * 1200,
    "address": "to=<" + ">, a=b, " * 1800,
    "two addresses": "to=<" + ">, orig_to=<" * 1200,
    "fields": "to=<a>, " + "a=b, status" * 1400,
    "status": "to=<a>, relay=b, status=" * 600,
    "certificate": "certificate verification failed for " + "a: " * 5000,
    "header": "hold: header " + " from a; from=" * 1200,
    "words": "x " * 8000,
    "replies": "to=<a@b>, relay=none, status=bounced (host " + "a[1] said: 550-" * 1000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_line_made_to_take_long_does_not(text: str) -> None:
    machine, begun = Machine(READING), time.process_time()
    for start in (at("A0A252203A8: "), at(""), ""):
        list(machine.line((start + text).encode(), "line 1"))
    assert time.process_time() - begun < 2


class TestYears:
    @staticmethod
    def read(now: str, *stamps: str, grows: bool = False, zone: str = "UTC") -> list[str | None]:
        reader = Stamps(ZoneInfo(zone), parse_rfc3339(now), grows=grows)
        return [(rfc3339(reader.read(stamp + " relay ")[0]) or "")[:16] for stamp in stamps]

    def test_nothing_is_read_as_the_future(self) -> None:
        assert self.read("2026-01-02T00:00:00Z", "Dec 31 23:00:00", "Jan  1 01:00:00") == [
            "2025-12-31T23:00",
            "2026-01-01T01:00",
        ]

    def test_a_step_back_in_a_log_put_together_by_hand_is_no_new_year(self) -> None:
        assert self.read("2026-11-24T12:00:00Z", "Nov 24 05:00:00", "Nov 17 05:00:00") == [
            "2026-11-24T05:00",
            "2026-11-17T05:00",
        ]

    def test_a_followed_log_goes_on_into_the_new_year_without_being_told(self) -> None:
        stamps = [
            "Nov 24 05:00:00",
            "Dec 31 23:59:59",
            "Jan  1 00:00:01",
            "Mar  1 00:00:00",
            "Feb 28 23:59:59",
        ]
        assert self.read("2026-11-24T12:00:00Z", *stamps, grows=True) == [
            "2026-11-24T05:00",
            "2026-12-31T23:59",
            "2027-01-01T00:00",
            "2027-03-01T00:00",
            "2027-02-28T23:59",
        ]

    def test_the_29th_of_february_is_of_a_leap_year(self) -> None:
        assert self.read("2026-11-24T12:00:00Z", "Feb 29 12:00:00") == ["2024-02-29T12:00"]

    def test_an_hour_that_does_not_exist_is_still_a_time(self) -> None:
        (found,) = self.read("2026-11-24T12:00:00Z", "Mar 29 02:30:00", zone="Europe/Berlin")
        assert found == "2026-03-29T01:30"

    def test_without_a_present_there_is_no_year(self) -> None:
        assert Stamps(UTC, None).read("Nov 24 05:00:00 relay ")[0] is None
        assert Stamps(UTC, None).read("Nov 24 2026 05:00:00 relay ")[0] == NOW - 7 * 60 * MINUTE

    @given(st.lists(st.integers(0, 3_000 * DAY), min_size=2, max_size=30, unique=True))
    @settings(max_examples=60, deadline=None)
    def test_a_log_in_order_that_is_never_silent_for_half_a_year_is_dated_right(
        self, spans: list[Ms]
    ) -> None:
        times = [NOW - 3_000 * DAY + span // 1000 * 1000 for span in sorted(spans)]
        dense: list[Ms] = []
        for when in [*times, NOW]:  # a line at least every hundred days
            while dense and when - dense[-1] > 100 * DAY:
                dense.append(dense[-1] + 100 * DAY)
            dense.append(when)

        def line(when: Ms) -> str:
            stamp = to_datetime(when).strftime("%b %e %H:%M:%S")
            return f"{stamp} relay postfix/smtp[1]: A0A252203A8: {TO}2.0.0, status=sent (250 ok)\n"

        data = "".join(line(when) for when in dense).encode()
        found = [
            i.observed_at for i in postfix_log.read(io.BytesIO(data), READING) if isinstance(i, Evidence)
        ]
        assert found == [when // 1000 * 1000 for when in dense]


@pytest.mark.parametrize(
    ("line", "host", "daemon", "text"),
    [
        ("Nov 24 05:00:00 mx postfix-out/smtp[7]: A: x", "mx", "smtp", "A: x"),
        ("Nov 24 05:00:00 mx postfix/relay/smtp[7]: A: x", "mx", "smtp", "A: x"),
        ("Nov 24 05:00:00 mx postfix/smtp[7]: [ID 197553 mail.info] A: x", "mx", "smtp", "A: x"),
        ("Nov 24 05:00:00 mx postfix/qmgr: A: x", "mx", "qmgr", "A: x"),
        ("smtp[7]: A: x", "", "smtp", "A: x"),
        ("<22>1 2026-11-24T05:00:00Z mx postfix/smtp 7 - - A: x", "mx", "smtp", "A: x"),
        ("\x1b[33mmail  |\x1b[0m Nov 24 05:00:00 mx postfix/smtp[7]: A: x", "mx", "smtp", "A: x"),
        ("2026 Nov 24 05:00:00 mx mail.info postfix/smtp[7]: A: x", "mx", "smtp", "A: x"),
    ],
)
def test_the_writer_of_a_line_is_found_behind_whatever_stands_before_it(
    line: str, host: str, daemon: str, text: str
) -> None:
    found = parse(decoded(line.encode()), Stamps(UTC, NOW))
    assert found is not None
    assert (found.host, found.daemon, found.text) == (host, daemon, text)


@pytest.mark.parametrize(
    "line",
    [
        "Nov 24 05:00:00 mx sshd[7]: Accepted publickey for root from 192.0.2.1 port 4 ssh2",
        "Nov 24 05:00:00 mx dovecot: imap(ann)<77><x>: Logged out in=1 out=2",
        "Nov 24 05:00:00 mx kernel: [12345.678] device [7]: smtp is no program",
        '{"MESSAGE": "hello", "SYSLOG_IDENTIFIER": "cron"}',
        "-- Reboot --",
        "",
    ],
)
def test_lines_of_others_are_passed_over(line: str) -> None:
    assert parse(line, Stamps(UTC, NOW)) is None


@pytest.mark.parametrize("line", ["what is this", '{"MESSAGE": ', '["a"]', "%PDF-1.7", "{" * 3000])
def test_what_is_no_line_of_a_log_is_said_to_be_none(line: str) -> None:
    with pytest.raises(NoLine):
        parse(line, Stamps(UTC, NOW))


@pytest.mark.parametrize(
    "head",
    [
        b"Return-Path: <>\nSubject: x\n\nNov 24 05:00:00 mx postfix/smtp[7]: A0A252203A8: removed\n",
        b"From MAILER-DAEMON Tue Nov 24\n\npostfix/smtp[7]: A0A252203A8: removed\n",
        b"Nov 24 05:00:00 mx sshd[7]: nothing of mail\n",
        b"250 2.0.0 Ok: queued as A0A252203A8\n",
    ],
)
def test_what_only_quotes_a_log_is_none(head: bytes) -> None:
    assert not postfix_log.sniff(head, "x")
