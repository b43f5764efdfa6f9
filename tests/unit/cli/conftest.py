"""A journal with a config beside it, and a way to run commands in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from resubmit.cli import hold, incidents, jobs, mail, replay, status
from resubmit.cli.main import run
from tests.helpers.factory import NOW, Shelf

CONFIG = """
[journal]
path = "journal"
[[route]]
name = "eop"
host = "127.0.0.1"
[[destination]]
name = "hybrid"
domains = ["contoso.com"]
handoff = "eop"
"""


@dataclass
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Desk:
    """A folder with config and journal; `ask` runs a command as a person would type it."""

    folder: Path
    shelf: Shelf
    capsys: pytest.CaptureFixture[str]
    words: list[str] = field(default_factory=list)

    def ask(self, *words: str) -> Answer:
        self.capsys.readouterr()
        code = run(["--config", str(self.folder / "config.toml"), *words])
        said = self.capsys.readouterr()
        assert "Traceback" not in said.err
        return Answer(code, said.out, said.err)


@pytest.fixture
def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    (tmp_path / "config.toml").write_text(CONFIG)
    shelf = Shelf(tmp_path / "journal")
    for module in (mail, replay, status, incidents, jobs, hold):
        monkeypatch.setattr(module, "now_ms", lambda: NOW)
    yield Desk(tmp_path, shelf, capsys)
    shelf.close()
