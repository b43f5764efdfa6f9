"""`explain` over several inputs: what it reads, what it says on which stream, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resubmit.cli import main

REPLY = "450 4.7.320 Certificate validation failed, error: UntrustedRoot\r\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a config, with a reply in a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESUBMIT_CONFIG", str(tmp_path / "none.toml"))
    (tmp_path / "reply.txt").write_text(REPLY)
    (tmp_path / "noise.bin").write_bytes(b"\x00\x01\x02" * 100)
    return tmp_path


def test_a_config_that_is_not_there_is_not_missed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["explain", "reply.txt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == "reply.txt"


def test_one_object_a_line_for_each_thing_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "second.txt").write_text("250 2.6.0 Queued mail for delivery\r\n")

    assert main.run(["explain", "reply.txt", "second.txt", "--json"]) == 0

    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["file"], one["code"]) for one in said] == [("reply.txt", 450), ("second.txt", 250)]


def test_what_is_unreadable_among_readable_is_partly_and_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.run(["explain", "noise.bin", "reply.txt", "--json"]) == 5

    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1
    assert "noise.bin" in said.err


def test_nothing_is_written_beside_what_is_read(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    main.run(["explain", "reply.txt"])

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_a_file_says_can_not_move_the_cursor(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "sly.txt").write_text("450 4.7.320 \x1b[2Jno certificate\r\n")

    main.run(["explain", "sly.txt"])

    assert "\x1b" not in capsys.readouterr().out


def test_a_zone_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["explain", "reply.txt", "--timezone", "Mars"]) == 2
    assert "Mars" in capsys.readouterr().err


def test_a_line_of_a_log_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    line = (
        "Nov 24 09:12:04 relay postfix/smtp[2231]: 4bW2kQ6kZfz9sTj: to=<anna@contoso.com>, "
        "relay=mail.contoso.com[198.51.100.7]:25, delay=0.1, delays=0/0/0.1/0, dsn=4.7.5, "
        "status=deferred (Server certificate not trusted)"
    )
    assert main.run(["explain", line, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["source"], said["status"], said["cause"]) == ("postfix_log", "deferred", "tls")
