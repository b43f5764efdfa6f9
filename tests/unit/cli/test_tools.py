"""Commands that need no service: explain, export, config, journal, probe."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resubmit.cli import main, probe
from resubmit.config import load
from resubmit.model.ids import id_text
from resubmit.model.moment import DAY
from resubmit.model.tls import AddressVerdict, Certificate, Endpoint, Finding, Health, Severity, Verdict
from tests.helpers.factory import NOW, recipient
from tests.unit.cli.conftest import Desk

EXPLAINED = [
    "file", "source", "observed_at", "message_id", "network_message_id", "envelope_id", "queue_id", "sender",
    "recipient", "original_recipient", "status", "cause", "code", "enhanced_code", "text", "remote", "holder",
    "advice",
]  # fmt: skip


def stdin(monkeypatch: pytest.MonkeyPatch, octets: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(octets), isatty=lambda: False))


# ── explain ───────────────────────────────────────────────────────────────────────────────────────


def test_a_pasted_reply_is_explained_without_a_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    stdin(monkeypatch, b"450 4.7.320 Certificate validation failed, error: UntrustedRoot\r\n")

    assert main.run(["explain", "-", "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    assert list(said)[: len(EXPLAINED)] == EXPLAINED
    assert (said["source"], said["status"], said["cause"]) == ("smtp", "deferred", "tls")
    assert (said["code"], said["enhanced_code"]) == (450, "4.7.320")
    assert said["advice"]


def test_a_reply_can_be_given_in_quotes_with_or_without_its_code(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = (
        "host mx.contoso.com[192.0.2.1] said: 550-5.1.1 No such 550 5.1.1 user (in reply to RCPT TO command)"
    )

    assert main.run(["explain", "450 4.7.320 Certificate validation failed"]) == 0
    people = capsys.readouterr().out
    assert (
        main.run(["explain", "--json", said, "Server certificate not verified", "quite unknown " * 40]) == 0
    )
    replies = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert "cause tls" in people
    assert "resubmit probe" in people.replace("\n ", "")
    assert all(len(line) <= 80 for line in people.splitlines())
    assert [(r["status"], r["code"], r["cause"], r["mend"]) for r in replies] == [
        ("failed", 550, "recipient", "never"),
        ("none", None, "tls", "gate"),
        ("none", None, "other", "time"),
    ]
    assert main.run(["explain", "450"]) == 2  # a file that is not there


def test_explain_for_people_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin(monkeypatch, b"450 4.7.320 Certificate validation failed\r\n")

    assert main.run(["explain", "-"]) == 0

    said = capsys.readouterr().out
    assert "deferred, cause tls" in said
    assert "→ " in said
    assert max(map(len, said.splitlines())) <= 80


def test_what_nobody_can_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.bin").write_bytes(b"\x00\x01\x02" * 100)

    assert main.run(["explain", str(tmp_path / "x.bin")]) == 1
    assert "x.bin" in capsys.readouterr().err
    assert main.run(["explain", str(tmp_path / "none")]) == 2
    assert main.run(["explain", str(tmp_path)]) == 2


# ── export ────────────────────────────────────────────────────────────────────────────────────────


def test_a_pipe_that_names_nobody_exports_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.shelf.message()

    for fail_empty, code in (((), 0), (("--fail-empty",), 3)):
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
        answer = desk.ask("export", "-", "--since", "2h", "--out", str(desk.folder / "out"), *fail_empty)
        assert answer.code == code

    assert not (desk.folder / "out").exists()


def test_exported_bytes_are_the_journaled_ones(desk: Desk) -> None:
    octets = b"Subject: x\r\n\r\n\x80\xff.\r\n..\r\n"
    number = desk.shelf.message(body=octets)
    (desk.folder / "journal" / "bodies").mkdir(exist_ok=True)
    (desk.folder / "journal" / "bodies" / "big").write_bytes(octets * 9)
    big = desk.shelf.message(body_file="big")
    out = desk.folder / "out"

    answer = desk.ask("export", id_text(number), id_text(big), "--format", "eml", "--out", str(out))

    assert answer.code == 0
    assert (out / f"{id_text(number)}.eml").read_bytes() == octets
    assert (out / f"{id_text(big)}.eml").read_bytes() == octets * 9


def test_an_mbox_holds_all_and_is_never_added_to(desk: Desk) -> None:
    kept, gone = desk.shelf.message(body=b"Subject: x\r\n\r\nFrom me\r\n"), desk.shelf.message(body_kept=0)
    out = desk.folder / "out"
    words = ("export", id_text(gone), id_text(kept), "--format", "mbox", "--out", str(out))

    assert desk.ask(*words).code == 5

    said = (out / "resubmit.mbox").read_bytes()
    assert said == b"From app@example.org Tue Nov 24 11:00:00 2026\nSubject: x\n\n>From me\n\n"
    assert desk.ask(*words).code == 1
    assert (out / "resubmit.mbox").read_bytes() == said
    assert desk.ask("export", id_text(gone), "--format", "mbox", "--out", str(desk.folder / "b")).code == 1
    assert list((desk.folder / "b").iterdir()) == []


def test_a_replay_file_has_only_those_who_are_still_open(desk: Desk) -> None:
    octets = b"X-Receiver: <evil@x>\r\n\r\nhello\r\n"
    some = desk.shelf.message(
        recipient("ann@contoso.com", "deferred"), recipient("bob@contoso.com", "delivered"), body=octets
    )
    none = desk.shelf.message(recipient("bob@contoso.com", "delivered"))
    out = desk.folder / "out"
    words = ("export", id_text(some), id_text(none), "--format", "replay", "--out", str(out))

    answer = desk.ask(*words)

    assert answer.code == 5
    assert "none of its recipients is open" in answer.err
    (file,) = out.iterdir()
    head, _, rest = file.read_bytes().partition(b"X-CreatedBy")
    assert file.name == f"{id_text(some)}.eml"
    assert head == b"X-Sender: <app@example.org>\r\nX-Receiver: <ann@contoso.com>\r\n"
    assert rest.endswith(b"\r\n" + octets)
    assert desk.ask(*words).code == 1
    named = desk.ask("export", id_text(none), "--state", "delivered", "--format", "replay", "--out", str(out))
    assert named.code == 0


def test_a_file_that_is_there_is_not_written_over(desk: Desk) -> None:
    number = id_text(desk.shelf.message())
    (desk.folder / f"{number}.eml").write_text("mine")

    answer = desk.ask("export", number, "--out", str(desk.folder))

    assert answer.code == 1
    assert "is there already" in answer.err
    assert (desk.folder / f"{number}.eml").read_text() == "mine"


def test_a_body_that_is_gone_leaves_no_file(desk: Desk) -> None:
    kept, gone = desk.shelf.message(), desk.shelf.message(body_kept=0)

    answer = desk.ask("export", id_text(kept), id_text(gone), "--out", str(desk.folder / "out"), "-q")

    assert answer.code == 5
    assert [p.name for p in (desk.folder / "out").iterdir()] == [f"{id_text(kept)}.eml"]
    assert desk.ask("export", "--out", "x").code == 2
    assert desk.ask("export", "0000000000001", "--out", str(desk.folder / "none")).code == 1


# ── config ────────────────────────────────────────────────────────────────────────────────────────


def test_a_valid_config_is_said_to_be(desk: Desk) -> None:
    answer = desk.ask("config", "check")

    assert answer.code == 0
    assert answer.out.endswith("config.toml: valid\n")


def test_five_mistakes_are_five_lines_and_exit_2(desk: Desk) -> None:
    (desk.folder / "config.toml").write_text(
        "[journal]\npaht = 'x'\n[web]\nlisten = 'nowhere'\n[log]\nlevel = 'loud'\n[recovery]\ncanary = 0\n"
        "[[destination]]\nname = 'd'\ndomains = ['d.example']\nhandoff = 'eop'\n"
    )

    for words in (("config", "check"), ("serve",)):
        answer = desk.ask(*words)
        assert answer.code == 2
        assert len(answer.err.splitlines()) == 5
    assert desk.ask("config", "check", "--json").json["valid"] is False


def test_show_is_a_config_again(desk: Desk) -> None:
    shown = desk.folder / "shown.toml"
    shown.write_text(desk.ask("config", "show").out)

    assert load(shown).tables == load(desk.folder / "config.toml").tables


def test_show_hides_what_may_be_a_secret(desk: Desk) -> None:
    with (desk.folder / "config.toml").open("a") as file:
        file.write("[alerts]\nwebhook_token = 'hunter2'\n")

    answer = desk.ask("config", "show")

    assert "hunter2" not in answer.out
    assert 'webhook_token = "(hidden)"' in answer.out
    assert "alerts: is not read yet" in answer.err


# ── journal ───────────────────────────────────────────────────────────────────────────────────────


def sound(desk: Desk) -> int:
    import hashlib

    body = b"Subject: x\r\n\r\n"
    return desk.shelf.message(body=body, digest=hashlib.sha256(body).digest())


def test_a_sound_journal_is_said_to_be(desk: Desk) -> None:
    sound(desk)

    assert desk.ask("journal", "verify", "--json").json == {
        "path": str(desk.folder / "journal"),
        "sound": True,
        "problems": [],
    }


def test_a_body_that_changed_is_found(desk: Desk) -> None:
    number = sound(desk)
    desk.shelf.run("update body set octets = x'00'")

    answer = desk.ask("journal", "verify")

    assert answer.code == 1
    assert f"message {id_text(number)}: its body is not what was journaled" in answer.out


def test_a_backup_is_a_whole_journal(desk: Desk) -> None:
    sound(desk)
    (desk.folder / "journal" / "bodies").mkdir(exist_ok=True)
    (desk.folder / "journal" / "bodies" / "big").write_bytes(b"big")
    desk.shelf.message(body_file="big")
    target = desk.folder / "backup"

    assert desk.ask("journal", "backup", str(target)).code == 0

    (desk.folder / "config.toml").write_text("[journal]\npath = 'backup'\n")
    assert len(desk.ask("list", "--json").lines) == 2
    assert (target / "bodies" / "big").read_bytes() == b"big"
    assert desk.ask("journal", "backup", str(target)).code == 2
    assert desk.ask("journal", "stats", "--json").json["messages"] == 2


# ── probe ─────────────────────────────────────────────────────────────────────────────────────────


def verdict(health: Health, *, reached: bool = True) -> Verdict:
    certificate = Certificate("CN=mail.contoso.com", "CN=CA", ("mail.contoso.com",), NOW - DAY, NOW - 1, "ab")
    findings = (
        Finding("expiring_soon", Severity.INFO, "leaf", "soon"),
        Finding("certificate_expired", Severity.FAULT, "leaf", "expired at …", "renew it"),
    )
    address = AddressVerdict("192.0.2.1", health, findings, "TLSv1.3", "X", (certificate,))
    return Verdict("mail.contoso.com:25", health, NOW, "domain", (address,), (), reached)


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The endpoint that was looked at, and the verdict to give."""
    seen: dict[str, Any] = {"verdict": verdict(Health.FAULTY)}

    async def look(endpoint: Endpoint, **_: object) -> Verdict:
        seen["endpoint"] = endpoint
        given: Verdict = seen["verdict"]
        return given

    monkeypatch.setattr(probe, "look", look)
    return seen


@pytest.mark.parametrize(
    ("health", "reached", "code"),
    [
        (Health.HEALTHY, True, 0),
        (Health.FAULTY, True, 1),
        (Health.FAULTY, False, 7),
        (Health.UNKNOWN, True, 7),
    ],
)
def test_the_verdict_is_the_exit_code(
    desk: Desk, looked: dict[str, Any], health: Health, reached: bool, code: int
) -> None:
    looked["verdict"] = verdict(health, reached=reached)

    assert desk.ask("probe", "hybrid", "--json").code == code


def test_a_destination_is_looked_at_as_its_config_says(desk: Desk, looked: dict[str, Any]) -> None:
    with (desk.folder / "config.toml").open("a") as file:
        file.write(
            'probe = "mail.contoso.com:2525"\nprobe_level = "certificate"\nprobe_name = "*.contoso.com"\n'
        )

    desk.ask("probe", "hybrid", "--level", "domain")

    told = Endpoint("mail.contoso.com", 2525, "domain", "*.contoso.com", domains=("contoso.com",))
    assert looked["endpoint"] == told


def test_without_a_target_every_destination_is_looked_at(desk: Desk, looked: dict[str, Any]) -> None:
    assert desk.ask("probe", "--json").code == 1
    route = Endpoint("127.0.0.1", 25, domains=("contoso.com",), revocation=False)
    assert looked["endpoint"] == route, "its route's host, as the route goes there"


@pytest.mark.parametrize(
    ("typed", "host", "port"),
    [("mx.example.net", "mx.example.net", 25), ("[2001:db8::1]:26", "2001:db8::1", 26)],
)
def test_a_host_needs_no_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked: dict[str, Any], typed: str, host: str, port: int
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main.run(["probe", typed, "--name", "x.example.net", "--json"]) == 1
    assert looked["endpoint"] == Endpoint(host, port, "domain", "x.example.net")


def test_the_report_fits_a_screen_and_a_fault_leaves_out_what_only_informs(
    desk: Desk, looked: dict[str, Any]
) -> None:
    said = desk.ask("probe", "hybrid").out.splitlines()

    assert said[0] == "hybrid (127.0.0.1:25): FAULTY"
    fault = next(i for i, line in enumerate(said) if "certificate_expired" in line)
    assert not any("expiring_soon" in line for line in said)
    assert "renew it" in said[fault + 1]
    assert len(said) < 24
    assert max(map(len, said)) <= 80


@pytest.mark.parametrize(
    "words", [("a b",), ("host:99999",), ("x", "--timeout", "0"), ("x", "--ca-file", "/none")]
)
def test_probe_refuses_what_it_can_not_look_at(
    desk: Desk, looked: dict[str, Any], words: tuple[str, ...]
) -> None:
    assert desk.ask("probe", *words).code == 2
    assert "endpoint" not in looked


def test_a_held_recipient_shows_what_is_below(desk: Desk) -> None:
    number = desk.shelf.message(recipient(state="held"))

    assert "held (below: deferred)" in desk.ask("show", id_text(number)).out
