"""Changing commands: ids from a pipe, question and progress on a terminal, what goes to the service."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resubmit.model.ids import id_text
from tests.helpers.factory import recipient
from tests.unit.cli.conftest import Desk

JOB = {
    "id": 7, "state": "running", "asked_at": "2026-11-24T12:00:00.000Z", "asked_by": "pat", "reason": "",
    "filter": {}, "gate": "open", "gate_name": "destination:hybrid", "recipients": 2, "accepted": 0,
    "delivered": 0, "refused": 0, "skipped": 0,
}  # fmt: skip


class Service:
    """Answers every request on the journal's socket with `lines`; keeps the requests, and what the files
    they name held at that time."""

    def __init__(self, folder: Path) -> None:
        self.requests: list[dict[str, Any]] = []
        self.files: list[bytes] = []
        self.lines: list[dict[str, Any]] = [{"result": JOB}]
        self._listener = socket.socket(socket.AF_UNIX)
        here = Path.cwd()
        os.chdir(folder)  # a test's folder may be too long for a socket's path
        try:
            self._listener.bind("socket")
        finally:
            os.chdir(here)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, client.makefile("rwb") as file:
                request = json.loads(file.readline())
                self.requests.append(request)
                self.files += [Path(name).read_bytes() for name in request["options"].get("files", [])]
                for line in self.lines:
                    file.write(json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
def service(desk: Desk) -> Iterator[Service]:
    made = Service(desk.folder / "journal")
    yield made
    made.close()


class Typed(io.StringIO):
    """A terminal at which this is typed."""

    def isatty(self) -> bool:
        return True


class Piped:
    """Standard input that is a pipe with these octets."""

    def __init__(self, octets: bytes) -> None:
        self.buffer = io.BytesIO(octets)


def terminal(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    monkeypatch.setattr(sys, "stdin", Typed(typed))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


# ── ids from a pipe ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("do", ["replay", "hold", "release", "cancel"])
@pytest.mark.parametrize("filters", [(), ("--since", "2h"), ("--recipient", "*")])
def test_a_pipe_that_names_nobody_changes_nothing_whatever_the_filters_say(
    desk: Desk, service: Service, monkeypatch: pytest.MonkeyPatch, do: str, filters: tuple[str, ...]
) -> None:
    desk.shelf.message(recipient(state="deferred"))

    for fail_empty, code in (((), 0), (("--fail-empty",), 3)):
        monkeypatch.setattr(sys, "stdin", io.StringIO(" \n"))
        assert desk.ask(do, "-", *filters, *fail_empty).code == code

    assert not service.requests


def test_a_replay_of_nobody_is_still_an_object(
    desk: Desk, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.shelf.message(recipient(state="deferred"))
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))

    said = desk.ask("replay", "-", "--since", "2h", "--dry-run", "--json").json

    assert (said["recipients"], said["sample"]) == (0, [])


@pytest.mark.parametrize("do", ["replay", "hold", "release", "cancel"])
def test_a_word_that_is_no_id_is_refused(
    desk: Desk, service: Service, monkeypatch: pytest.MonkeyPatch, do: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("nonsense!\n"))

    assert desk.ask(do, "-").code == 2
    assert not service.requests


# ── on a terminal ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("typed", "more", "code", "asked"),
    [("y\n", (), 0, 1), ("n\n", (), 6, 0), ("\n", (), 6, 0), ("", (), 6, 0), ("", ("--yes",), 0, 1)],
)
def test_a_replay_on_a_terminal_is_sent_only_when_it_was_confirmed(
    desk: Desk, service: Service, monkeypatch: pytest.MonkeyPatch,
    typed: str, more: tuple[str, ...], code: int, asked: int,
) -> None:  # fmt: skip
    number = desk.shelf.message(
        recipient("ann@contoso.com", "deferred"), recipient("bob@contoso.com", "pending")
    )
    terminal(monkeypatch, typed)

    answer = desk.ask("replay", "--since", "2h", *more)

    assert answer.code == code
    assert len(service.requests) == asked
    if not more:
        assert "resubmit 2 recipients?" in answer.err
        assert id_text(number) in answer.out


def test_progress_is_drawn_on_a_terminal_and_nowhere_else(
    desk: Desk, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.shelf.message(recipient("ann@contoso.com", "deferred"), recipient("bob@contoso.com", "deferred"))
    service.lines = [
        {"progress": {**JOB, "accepted": 1}},
        {"result": {**JOB, "state": "done", "accepted": 2}},
    ]

    assert "1/2" not in desk.ask("replay", "--since", "2h", "--wait").err
    terminal(monkeypatch, "")
    assert "1/2 running" in desk.ask("replay", "--since", "2h", "--wait", "--yes").err


# ── what goes over the socket ─────────────────────────────────────────────────────────────────────


def test_every_option_of_a_replay_reaches_the_service(desk: Desk, service: Service) -> None:
    desk.shelf.message(recipient(state="deferred"))

    desk.ask(
        "replay", "--since", "2h", "--canary", "3", "--rate", "unlimited", "--route", "eop",
        "--include-accepted", "--include-delivered", "--force", "--no-wait",
    )  # fmt: skip

    assert service.requests[0]["options"] == {
        "wait": False, "canary": 3, "rate": 0.0, "route": "eop", "include_accepted": True,
        "include_delivered": True, "force": True,
    }  # fmt: skip


def test_what_is_piped_to_ingest_is_a_file_while_the_service_reads_it(
    desk: Desk, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = dict.fromkeys(("rows", "matched", "ambiguous", "unmatched", "known", "unreadable"), 0)
    monkeypatch.setattr(sys, "stdin", Piped(b"450 4.7.320 no\r\n"))
    service.lines = [{"result": [{"file": "elsewhere", "source": "smtp", **counts}]}]

    assert desk.ask("ingest", "-", "--json").json["source"] == "smtp"

    (name,) = service.requests[0]["options"]["files"]
    assert service.files == [b"450 4.7.320 no\r\n"]
    assert Path(name).is_absolute()
    assert not Path(name).exists()


def test_stdin_is_not_ingested_twice(desk: Desk, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Piped(b"450 4.7.320 no\r\n"))

    assert desk.ask("ingest", "-", "-").code == 2
    assert not service.requests


def test_a_replay_that_is_kept_says_by_what_and_exits_6(desk: Desk, service: Service) -> None:
    key = id_text(desk.shelf.message(recipient(state="deferred", cause="tls")))
    kept = "gate destination:hybrid is closed: 2 faulty looks in a row"
    for state in ("waiting", "running"):
        service.lines = [{"result": JOB | {"state": state, "waits_for": kept}}]
        waited = desk.ask("replay", key, "--wait")
        assert waited.code == 6
        assert f"job 7 waits: {kept}" in waited.err
        left = desk.ask("replay", key)
        assert left.code == 0, "it goes by itself later"
        assert "waits: gate destination:hybrid is closed" in left.out
