"""The service's log, and what a command in the foreground lets through of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from resubmit.app import set_up_log
from resubmit.config import Config, load


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "config.toml").write_text("")
    return load(tmp_path / "config.toml")


def logged() -> None:
    log = structlog.get_logger()
    log.warning("mail.waits", route="eop")
    try:
        raise ValueError("broken")
    except ValueError as error:
        log.error("service.failed", loop="watch", exc_info=error)


def test_a_command_in_the_foreground_says_errors_in_a_line_and_nothing_else(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_log(config, quiet=True)
    logged()

    assert capsys.readouterr().err == "resubmit: service.failed: loop=watch\n"


def test_the_service_says_all_of_it_as_objects(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_log(config)
    logged()

    warned, failed = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (warned["event"], warned["route"]) == ("mail.waits", "eop")
    assert "ValueError: broken" in failed["exception"]
