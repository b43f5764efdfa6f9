"""What the shell completes is what the commands take: bash is asked itself."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from resubmit.cli.commands import MODULES
from resubmit.cli.completion import spoken
from resubmit.cli.main import run


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert run(["completion", shell]) == 0
    return capsys.readouterr().out


def completed(folder: Path, text: str, typed: str) -> list[str]:
    """What bash offers for the last word of what was typed."""
    words = typed.split(" ")
    (folder / "c.bash").write_text(text)
    asked = (
        f"source ./c.bash; COMP_WORDS=({' '.join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1}; "
        '_resubmit; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", asked], cwd=folder, capture_output=True, text=True, timeout=20, check=True
    )
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("resubmit pro", ["probe"]),
        ("resubmit re", ["replay", "release", "redirect"]),
        ("resubmit --ver", ["--version"]),
        ("resubmit list --stu", ["--stuck"]),
        ("resubmit --config a.toml list --stu", ["--stuck"]),
        ("resubmit list --state de", ["deferred", "delivered"]),
        ("resubmit list --cause t", ["tls", "throttle"]),
        ("resubmit list --group-by ", ["cause", "destination", "sender", "state"]),
        ("resubmit jobs pa", ["pause"]),
        ("resubmit config ", ["check", "show"]),
        ("resubmit incidents report --format h", ["html"]),
        ("resubmit explain tr", ["trace.csv"]),
        ("resubmit probe --ca-file tr", ["trace.csv"]),
        ("resubmit export --out fo", ["folder"]),
        ("resubmit list --sender ", []),
        ("resubmit nothing x", []),
    ],
)
def test_bash_offers_what_the_command_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], typed: str, offered: list[str]
) -> None:
    (tmp_path / "trace.csv").touch()
    (tmp_path / "folder").mkdir()

    assert completed(tmp_path, script("bash", capsys), typed) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_option_is_in_the_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)

    for command in spoken():
        lines = [line for line in text.splitlines() if command.name in line]
        for flag in (flag for option in command.options for flag in option.flags):
            shown = (
                (f"-l {flag[2:]} " if flag.startswith("--") else f"-s {flag[1:]} ")
                if shell == "fish"
                else flag
            )
            assert any(shown in f"{line} " for line in lines), (command.name, flag)
    assert [command.name for command in spoken()] == list(MODULES)


def test_an_apostrophe_in_the_help_does_not_end_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in ("bash", "zsh", "fish"):
        text = script(shell, capsys).replace("'\\''", "").replace("\\'", "")
        assert all(line.count("'") % 2 == 0 for line in text.splitlines() if not line.startswith("#")), shell


def test_a_shell_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "csh"]) == 2
    assert "bash" in capsys.readouterr().err
