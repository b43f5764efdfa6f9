"""Changing commands ask the service that runs, or do it themselves where none does."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resubmit.model.filter import Filter
from resubmit.model.ids import id_text
from resubmit.model.moment import HOUR
from tests.helpers.factory import NOW, recipient
from tests.unit.cli.conftest import Desk

JOB = {
    "id": 7,
    "state": "running",
    "asked_at": "2026-11-24T12:00:00.000Z",
    "asked_by": "pat",
    "reason": "",
    "filter": {"since": NOW - HOUR},
    "gate": "open",
    "gate_name": "destination:hybrid",
    "recipients": 1,
    "accepted": 0,
    "delivered": 0,
    "refused": 0,
    "skipped": 0,
}


class Service:
    """What answers on the socket: the lines to send, and the requests it got."""

    def __init__(self, folder: Path) -> None:
        self.requests: list[dict[str, Any]] = []
        self.lines: list[dict[str, Any]] = [{"result": JOB}]
        self._listener = socket.socket(socket.AF_UNIX)
        here = Path.cwd()
        os.chdir(folder)  # a test's folder may be too long for a socket's path
        self._listener.bind("socket")
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
                self.requests.append(json.loads(file.readline()))
                for line in self.lines:
                    file.write(json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        if self._listener.fileno() >= 0:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        self._thread.join(5)


@pytest.fixture
def service(desk: Desk) -> Iterator[Service]:
    made = Service(desk.folder / "journal")
    yield made
    made.close()


@pytest.fixture
def foreground(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A stand-in for the app: the requests that were carried out without a service."""
    seen: list[dict[str, Any]] = []

    def carry_out(config: Any, request: dict[str, Any], progress: Any) -> Any:
        seen.append(request)
        return {**JOB, "state": "done", "accepted": 1}

    app = ModuleType("resubmit.app")
    app.foreground = carry_out  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "resubmit.app", app)
    return seen


def test_replay_without_a_filter_is_refused(desk: Desk, service: Service) -> None:
    answer = desk.ask("replay")

    assert answer.code == 2
    assert "needs a filter" in answer.err
    assert not service.requests


def test_replay_sends_what_was_asked_for(desk: Desk, service: Service) -> None:
    number = desk.shelf.message(recipient(state="deferred"))

    answer = desk.ask(
        "replay",
        id_text(number),
        "--canary",
        "2",
        "--rate",
        "60/m",
        "--force",
        "--reason",
        "mended",
        "--json",
    )

    (request,) = service.requests
    assert answer.code == 0
    assert request["do"] == "replay"
    assert Filter.from_plain(request["filter"]) == Filter(ids=(number,))
    assert request["options"] == {"wait": False, "canary": 2, "rate": 1.0, "force": True}
    assert request["reason"] == "mended"
    assert request["by"]
    assert answer.json == {**JOB, "filter": {"since": "2026-11-24T11:00:00.000Z"}}


def test_ids_are_read_from_stdin(desk: Desk, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    numbers = [desk.shelf.message(recipient(state="deferred")) for _ in range(2)]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(map(id_text, numbers))))

    assert desk.ask("replay", "-", "-q").out == "7\n"
    assert service.requests[0]["filter"] == {"ids": numbers}


def test_a_dry_run_asks_nobody_and_shows_a_sample(desk: Desk, service: Service) -> None:
    desk.shelf.gate("destination:hybrid", "closed")
    desk.shelf.message(recipient("a@contoso.com", "deferred"), recipient("b@contoso.com", "delivered"))

    answer = desk.ask("replay", "--since", "2h", "--dry-run", "--json")

    assert answer.code == 0
    assert not service.requests
    assert "id" not in answer.json
    assert set(JOB) - {"id"} <= set(answer.json)
    assert answer.json["recipients"] == 1
    assert answer.json["state"] == "waiting"
    assert answer.json["gate"] == "closed"
    assert [r["address"] for r in answer.json["sample"]] == ["a@contoso.com"]
    assert answer.json["left"] == {"delivered": 1}


def test_waiting_for_a_job_behind_a_closed_gate_is_exit_6(desk: Desk, service: Service) -> None:
    desk.shelf.message(recipient(state="deferred"))
    service.lines = [{"progress": JOB}, {"result": {**JOB, "state": "waiting", "gate": "closed"}}]

    answer = desk.ask("replay", "--since", "2h", "--wait", "--json")

    assert answer.code == 6
    assert answer.json["state"] == "waiting"
    assert "--force" in answer.err


def test_what_keeps_a_job_is_the_services_to_say_and_exits_6(desk: Desk, service: Service) -> None:
    desk.shelf.message(recipient(state="deferred"))
    kept = {**JOB, "state": "waiting", "waits_for": "gate route:eop is closed: no answer", "recipients": 2}
    service.lines = [{"progress": {**JOB, "state": "waiting"}}, {"result": kept}]

    answer = desk.ask("replay", "--since", "2h", "--wait")

    assert answer.code == 6
    assert "waits: gate route:eop is closed: no answer" in answer.err
    assert "2 recipients" in answer.out


def test_a_replay_to_two_destinations_names_both_jobs(desk: Desk, service: Service) -> None:
    desk.shelf.message(recipient(state="deferred"))
    service.lines = [{"result": {**JOB, "ids": [7, 8]}}]

    assert desk.ask("replay", "--since", "2h").out.startswith("jobs 7, 8: running")
    assert desk.ask("replay", "--since", "2h", "-q").out == "7\n8\n"


def test_all_that_moved_on_meanwhile_is_no_failure(desk: Desk, service: Service) -> None:
    desk.shelf.message(recipient(state="deferred"))
    service.lines = [{"error": "no recipient to resubmit matches", "hint": "", "exit": 3}]

    assert desk.ask("replay", "--since", "2h").code == 0
    assert desk.ask("replay", "--since", "2h", "--fail-empty").code == 3


def test_not_waiting_for_it_is_exit_0_and_says_so(desk: Desk, service: Service) -> None:
    desk.shelf.message(recipient(state="deferred"))
    service.lines = [{"result": {**JOB, "state": "waiting", "gate": "closed"}}]

    answer = desk.ask("replay", "--since", "2h")

    assert answer.code == 0
    assert "its gate (destination:hybrid) is closed" in answer.out


@pytest.mark.parametrize(
    ("counts", "code"),
    [
        ({"accepted": 2}, 0),
        ({"accepted": 1, "skipped": 1}, 0),
        ({"accepted": 1, "refused": 1}, 5),
        ({"refused": 2}, 1),
    ],
)
def test_waiting_tells_how_it_went(desk: Desk, service: Service, counts: dict[str, int], code: int) -> None:
    desk.shelf.message(recipient("a@contoso.com", "deferred"), recipient("b@contoso.com", "deferred"))
    service.lines = [{"result": {**JOB, "state": "done", "recipients": 2, **counts}}]

    assert desk.ask("replay", "--since", "2h", "--wait").code == code


def test_nothing_to_replay_asks_nobody(desk: Desk, service: Service) -> None:
    desk.shelf.message(recipient(state="delivered"))

    assert desk.ask("replay", "--since", "2h").code == 0
    assert desk.ask("replay", "--since", "2h", "--fail-empty").code == 3
    assert not service.requests


def test_what_the_service_refuses_keeps_its_exit_code(desk: Desk, service: Service) -> None:
    desk.shelf.message(recipient(state="deferred"))
    service.lines = [{"error": "no", "hint": "later", "exit": 6}]

    answer = desk.ask("replay", "--since", "2h")

    assert answer.code == 6
    assert answer.err.splitlines()[-2:] == ["resubmit: no", "  later"]


def test_a_service_that_dies_under_way_is_said(desk: Desk, service: Service) -> None:
    desk.shelf.message(recipient(state="deferred"))
    service.lines = [{"progress": JOB}]

    answer = desk.ask("replay", "--since", "2h")

    assert answer.code == 1
    assert "ended before it answered" in answer.err


def test_without_a_service_the_command_does_it_itself(desk: Desk, foreground: list[dict[str, Any]]) -> None:
    desk.shelf.message(recipient(state="deferred"))

    answer = desk.ask("replay", "--since", "2h", "--json")

    assert answer.code == 0
    assert answer.json["accepted"] == 1
    assert foreground[0]["do"] == "replay"


def test_a_socket_that_a_killed_service_left_is_no_service(
    desk: Desk, service: Service, foreground: list[dict[str, Any]]
) -> None:
    service.close()
    desk.shelf.message(recipient(state="deferred"))

    assert desk.ask("replay", "--since", "2h").code == 0
    assert len(foreground) == 1


@pytest.mark.parametrize("rate", ["fast", "0/m", "5", "-1/s"])
def test_a_rate_that_is_none_is_refused(desk: Desk, rate: str) -> None:
    assert desk.ask("replay", "--since", "2h", f"--rate={rate}").code == 2


@pytest.mark.parametrize("do", ["hold", "release", "cancel"])
def test_an_operators_decision_is_asked_for_with_its_reason(desk: Desk, service: Service, do: str) -> None:
    number = desk.shelf.message(recipient(state="deferred"))
    service.lines = [{"result": {"matched": 1, "changed": 1}}]

    answer = desk.ask(do, id_text(number), "--recipient", "ann@*", "--reason", "asked by the sender")

    assert answer.code == 0
    assert answer.out.startswith("1 of 1 recipients")
    (request,) = service.requests
    assert request["do"] == do
    assert request["filter"] == {"ids": [number], "recipient": ["ann@*"]}
    assert request["reason"] == "asked by the sender"


def test_some_that_could_not_be_changed_is_partly(desk: Desk, service: Service) -> None:
    desk.shelf.message(recipient(state="delivered"))
    service.lines = [{"result": {"matched": 2, "changed": 1, "left": {"an attempt is under way": 1}}}]

    answer = desk.ask("hold", "--since", "2h")

    assert answer.code == 5
    assert answer.out.splitlines() == [
        "1 of 2 recipients held",
        "  1 left alone: an attempt is under way",
    ]
    assert desk.ask("hold").code == 2


@pytest.mark.parametrize(
    ("result", "code", "said"),
    [
        ({"matched": 2, "changed": 0, "already": 2}, 0, "  2 were held already"),
        ({"matched": 3, "changed": 1, "left": {"delivered": 2}}, 0, "  2 left alone: delivered"),
        ({"matched": 2, "changed": 0, "left": {"delivered": 2}}, 1, "  2 left alone: delivered"),
    ],
)
def test_only_what_could_not_be_held_though_it_should_is_a_failure(
    desk: Desk, service: Service, result: dict[str, Any], code: int, said: str
) -> None:
    desk.shelf.message(recipient(state="deferred"))
    service.lines = [{"result": result}]

    answer = desk.ask("hold", "--since", "2h")

    assert (answer.code, answer.out.splitlines()[1]) == (code, said)


def test_a_message_that_is_not_there_is_named_and_fails(desk: Desk, service: Service) -> None:
    number = desk.shelf.message(recipient(state="deferred"))
    service.lines = [{"result": {"matched": 1, "changed": 1}}]

    alone = desk.ask("hold", "1N3QK5Z8G4000")
    beside = desk.ask("hold", "1N3QK5Z8G4000", id_text(number))

    assert (alone.code, beside.code) == (1, 5)
    assert "there is no message 1N3QK5Z8G4000" in alone.err
    assert len(service.requests) == 1


def test_a_redirect_names_who_gets_it_instead(desk: Desk, service: Service) -> None:
    number = desk.shelf.message(recipient(state="deferred"))
    service.lines = [{"result": {"matched": 1, "changed": 1}}]

    answer = desk.ask("redirect", id_text(number), "--to", "<bob@example.net>")

    assert answer.out == "1 of 1 recipients redirected\n"
    assert service.requests[0]["options"] == {"to": "bob@example.net"}
    for wrong in ("bob", "bob@", "@example.net", "b b@example.net", "a@b@c", "bob@exa<mple.net", ""):
        assert desk.ask("redirect", id_text(number), "--to", wrong).code == 2
    assert desk.ask("redirect", id_text(number)).code == 2
    assert len(service.requests) == 1


def test_a_job_is_paused_resumed_and_cancelled_by_its_number(desk: Desk, service: Service) -> None:
    number = desk.shelf.job(asked_at=NOW)
    service.lines = [{"result": {**JOB, "state": "cancelled"}}]

    for do in ("pause", "resume", "cancel"):
        assert desk.ask("jobs", do, str(number), "--json").json["state"] == "cancelled"
        assert service.requests[-1]["do"] == f"jobs_{do}"
        assert service.requests[-1]["options"] == {"job": number}
        assert desk.ask("jobs", do).code == 2


@pytest.mark.parametrize("do", ["show", "pause", "resume", "cancel"])
def test_a_job_that_is_not_there_is_the_same_error_everywhere(desk: Desk, service: Service, do: str) -> None:
    answer = desk.ask("jobs", do, "99")

    assert (answer.code, answer.err.splitlines()[0]) == (1, "resubmit: there is no job 99")
    assert not service.requests


def test_a_paused_job_says_so_and_how_it_goes_on(desk: Desk) -> None:
    number = desk.shelf.job(asked_at=NOW, state="waiting", options='{"paused": true}')

    assert f"job {number}: waiting, paused" in desk.ask("jobs", "show", str(number)).out
    assert f"resubmit jobs resume {number}" in desk.ask("jobs", "show", str(number)).out
    assert "paused" in desk.ask("jobs").out
    assert desk.ask("jobs", "--json").json["paused"] is True


def test_pruning_is_the_services_to_do(desk: Desk, service: Service) -> None:
    service.lines = [{"result": {"messages": 3}}]

    assert desk.ask("journal", "prune").out == "3 messages pruned, as [retention] says\n"
    assert service.requests[0]["do"] == "prune"
    assert desk.ask("journal", "prune", "there").code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("--route", "nope"),
        ("--canary", "0"),
        ("--canary", "1001"),
        ("--canary", "x"),
        ("--rate", "9999999/s"),
    ],
)
def test_a_replay_that_could_never_be_carried_out_is_refused(
    desk: Desk, service: Service, words: tuple[str, ...]
) -> None:
    desk.shelf.message(recipient(state="deferred"))

    assert desk.ask("replay", "--since", "2h", *words).code == 2
    assert desk.ask("replay", "--since", "2h", "--dry-run", *words).code == 2
    assert not service.requests


ANSWER = {
    "by": {"Message-ID and recipient": 2},
    "source": "trace_csv",
    "rows": 4,
    "matched": 3,
    "ambiguous": 0,
    "unmatched": 1,
    "known": 0,
    "unreadable": 0,
}


def test_ingest_names_files_as_the_service_sees_them_and_as_they_were_typed(
    desk: Desk, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk.folder)
    (desk.folder / "trace.csv").write_text("x")
    service.lines = [{"result": [{"file": str(desk.folder / "trace.csv"), **ANSWER}]}]

    answer = desk.ask(
        "ingest", "trace.csv", "--covers", "2026-11-24T01:00:00Z..2026-11-24T02:00:00Z",
        "--timezone", "Europe/Berlin", "--json",
    )  # fmt: skip

    assert service.requests[0]["options"] == {
        "files": [str(desk.folder / "trace.csv")],
        "covers": [NOW - 11 * HOUR, NOW - 10 * HOUR],
        "timezone": "Europe/Berlin",
    }
    assert answer.json == {"file": "trace.csv", **ANSWER}
    assert answer.code == 0


@pytest.mark.parametrize(("unreadable", "code"), [(0, 0), (1, 5), (4, 1)])
def test_what_could_not_be_read_is_in_the_exit_code(
    desk: Desk, service: Service, unreadable: int, code: int
) -> None:
    file = desk.folder / "trace.csv"
    file.write_text("x")
    service.lines = [{"result": [{"file": str(file), **ANSWER, "unreadable": unreadable}]}]

    answer = desk.ask("ingest", str(file))
    assert answer.code == code
    assert "2 by Message-ID and recipient\n" in answer.err


@pytest.mark.parametrize(
    "words",
    [
        ("ingest", "none.csv"),
        ("ingest", "."),
        ("ingest", "config.toml", "--covers", "2h"),
        ("ingest", "config.toml", "--covers", "1h..2h"),
        ("ingest", "config.toml", "--timezone", "Mars"),
    ],
)
def test_ingest_refuses_what_it_can_not_take(
    desk: Desk, service: Service, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(desk.folder)

    assert desk.ask(*words).code == 2
    assert not service.requests
