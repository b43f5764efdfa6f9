"""The command line as a whole: help, errors, exit codes, and what a command imports."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from resubmit.cli import main
from resubmit.cli.commands import MODULES
from resubmit.errors import JournalUnreadable
from tests.helpers.factory import Shelf, recipient
from tests.unit.cli.conftest import CONFIG, Desk

HEAVY = {"pydantic", "structlog", "sqlite_utils", "aiosmtplib", "asyncio", "watchdog", "cryptography", "ssl"}


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[3])
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("words", ["list --stuck", "list --json", "show {id}", "status", "jobs", "incidents"])
def test_a_reading_command_imports_nothing_heavy(tmp_path: Path, words: str) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    shelf = Shelf(tmp_path / "journal")
    from resubmit.model.ids import id_text

    words = words.format(id=id_text(shelf.message(recipient(state="deferred"))))
    shelf.close()
    code = (
        f"import sys; from resubmit.cli.main import run; c = run({words.split()!r}); print(c, *sys.modules)"
    )

    *_, modules = python(code, tmp_path).stdout.splitlines()

    assert modules.split()[0] == "0"
    assert not HEAVY.intersection(modules.split())


def test_the_version_is_said_before_anything_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['resubmit', '--version']\n"
        "from resubmit.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: print(*[m for m in sys.modules if m.startswith(('resubmit', 'argparse'))])"
    )

    version, modules = python(code, tmp_path).stdout.splitlines()

    assert version.startswith("resubmit 0.")
    assert modules.split() == ["resubmit", "resubmit.__main__"]


def test_verbose_version_names_sqlite_and_whether_it_is_sound(desk: Desk) -> None:
    said = desk.ask("--version", "--verbose").out

    assert "SQLite 3." in said
    assert "sound" in said or "WAL-reset" in said


@pytest.mark.parametrize("name", MODULES)
def test_every_command_has_help_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([name, "--help"]) == 0

    said = capsys.readouterr().out
    assert f"usage: resubmit {name}" in said
    examples = said.partition("examples:\n")[2].splitlines()
    assert examples
    assert any(name in line for line in examples)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_are_command_lines_that_parse(name: str) -> None:
    command = main.find(name)
    for example in command.examples:
        words = shlex.split(re.split(r" \| | && ", example.split(" > ")[0])[-1])
        assert words[0] == "resubmit"
        main.parser_for(name, command).parse_args(words[words.index(name) + 1 :])


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--help"]) == 0
    said = capsys.readouterr().out

    assert all(f"\n  {name} " in said for name in MODULES)
    assert max(map(len, said.splitlines())) <= 110


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["lits"]) == 2

    assert "did you mean `resubmit list`?" in capsys.readouterr().err


def test_the_config_may_be_named_before_or_after_the_command(desk: Desk) -> None:
    file = str(desk.folder / "config.toml")

    assert main.run(["--config", file, "list"]) == 0
    assert main.run([f"--config={file}", "list"]) == 0
    assert main.run(["list", "--config", file]) == 0


def test_no_config_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RESUBMIT_CONFIG", raising=False)

    assert main.run(["list"]) == 2
    assert "config.example.toml" in capsys.readouterr().err


def test_no_journal_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)

    assert main.run(["list", "--config", str(tmp_path / "config.toml")]) == 1
    said = capsys.readouterr().err
    assert "there is no journal" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("bytes_", [b"", b"not a database, but long enough to be looked at" * 100])
def test_a_damaged_journal_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bytes_: bytes
) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "journal.db").write_bytes(bytes_)

    assert main.run(["list", "--config", str(tmp_path / "config.toml")]) == JournalUnreadable.exit_code
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 2  # what is wrong, and what to do
    assert "Traceback" not in said


def test_a_newer_journal_is_refused(desk: Desk) -> None:
    desk.shelf.run("pragma user_version = 999")

    answer = desk.ask("list")

    assert answer.code == 1
    assert "999" in answer.err


def test_whoever_stops_reading_stops_us_quietly(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    shelf = Shelf(tmp_path / "journal")
    for _ in range(400):
        shelf.message()
    shelf.close()
    done = subprocess.run(
        [
            "/bin/sh",
            "-c",
            f"{sys.executable} -m resubmit list --json --limit 0 | head -1; echo ${{PIPESTATUS:-}}",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.stdout.startswith('{"id"')
    assert "Error" not in done.stderr


def test_an_interrupt_is_130(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("resubmit.cli.mail._list_once", interrupted)

    assert desk.ask("list").code == 130


def test_a_mistake_of_ours_is_one_line_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> int:
        raise RuntimeError("a bug")

    monkeypatch.delenv(main.TRACEBACK, raising=False)
    monkeypatch.setattr("resubmit.cli.mail._list_once", wrong)

    answer = desk.ask("list")

    assert answer.code == 1
    assert "a bug" in answer.err


@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_what_is_said_to_people_fits_their_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)

    assert main.run(["--help"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= int(columns)
    assert len(lines) < 80


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list", "--stuk"], "there is no option --stuk; did you mean --stuck?"),
        (["list", "--zzz"], "there is no option --zzz"),
        (["list", "word"], "word: one argument too many"),
        (["show"], "ID is missing"),
        (["jobs", "stop"], "stop: it is one of list, show, pause, resume, cancel"),
        (["list", "--sort", "name"], "--sort name: it is one of age, deadline, size"),
        (["list", "--limit", "many"], "--limit: 'many' is not a whole number from 0 to 1000000000000000"),
    ],
)
def test_a_slip_of_the_finger_is_told_in_plain_words(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main.run(words) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"resubmit: {said}",
        f"  see `resubmit {words[0]} --help`",
    ]
