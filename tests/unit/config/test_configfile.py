"""The config is found in the order of design 6.1, and the journal's folder without judging the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from resubmit import configfile
from resubmit.configfile import DEFAULT_JOURNAL, find_config, journal_folder
from resubmit.errors import ConfigError, UsageError
from resubmit.journal.settings import JournalSettings


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """All four places filled in."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    found = {name: tmp_path / f"{name}.toml" for name in ("given", "environment", "system")}
    for file in (*found.values(), here / "config.toml"):
        file.touch()
    monkeypatch.setenv("RESUBMIT_CONFIG", str(found["environment"]))
    monkeypatch.setattr(configfile, "SYSTEM", found["system"])
    return found


def test_the_order_of_places(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_config(places["given"]) == places["given"]
    assert find_config() == places["environment"]
    monkeypatch.delenv("RESUBMIT_CONFIG")
    assert find_config() == Path("config.toml")
    Path("config.toml").unlink()
    assert find_config() == places["system"]


def test_a_named_file_that_is_not_there_is_not_passed_over(places: dict[str, Path]) -> None:
    places["environment"].unlink()

    with pytest.raises(UsageError, match="RESUBMIT_CONFIG"):
        find_config()


def test_nowhere_a_config_says_what_to_do(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESUBMIT_CONFIG")
    Path("config.toml").unlink()
    places["system"].unlink()

    with pytest.raises(UsageError, match=r"config\.example\.toml") as raised:
        find_config()
    assert raised.value.exit_code == 2


def test_the_journals_folder_needs_no_valid_config(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[journal]\npath = 'j'\n[route]\nnonsense = 5\n")

    assert journal_folder(file) == tmp_path / "j"


def test_the_journals_folder_where_nothing_is_said(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.touch()

    assert journal_folder(file) == tmp_path / DEFAULT_JOURNAL
    assert Path(DEFAULT_JOURNAL) == JournalSettings().path


def test_a_journal_path_that_is_none_is_a_config_error(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[journal]\npath = 5\n")

    with pytest.raises(ConfigError, match=r"journal\.path"):
        journal_folder(file)
