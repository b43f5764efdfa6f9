"""`status`, `incidents`, `jobs` and `audit` are the contract's objects, and fit the screen."""

from __future__ import annotations

import json

from resubmit.cli.table import width
from resubmit.model.ids import id_text
from resubmit.model.moment import HOUR, MINUTE
from tests.helpers.factory import NOW, recipient
from tests.unit.cli.conftest import Desk

INCIDENT_FIELDS = ["id", "destination", "route", "cause", "opened_at", "closed_at", "state"]
COUNTS = ["stuck", "recovered", "failed", "unproven", "unknown", "duplicates"]
JOB_FIELDS = {
    *("id", "state", "asked_at", "asked_by", "reason", "filter", "gate"),
    *("recipients", "accepted", "delivered", "refused", "skipped"),
}


def fits(text: str) -> bool:
    return max(width(line) for line in text.splitlines()) <= 80


def trouble(desk: Desk) -> int:
    """A destination with a fault, its incident and a job that waits."""
    shelf = desk.shelf
    shelf.destination()
    shelf.look(days_left=-1)
    shelf.look("route:eop", "healthy", codes="[]", days_left=90)
    number = shelf.message(recipient("a@contoso.com", "deferred"), recipient("b@contoso.com", "delivered"))
    incident = shelf.incident((number, 0), (number, 1))
    shelf.gate("destination:hybrid", "closed", incident=incident)
    shelf.job((number, 0, "waiting"))
    shelf.insert("unreadable", file="traces/x.csv", place="line 3", reason="no columns", at=NOW - HOUR)
    shelf.insert("trace", source="trace_graph", since=NOW - 2 * HOUR, until=NOW - MINUTE, read_at=NOW)
    return number


def test_status_has_the_contracts_fields(desk: Desk) -> None:
    trouble(desk)

    status = desk.ask("status", "--json").json

    assert list(status) == [
        *("routes", "destinations", "stuck", "next_deadline", "live_trace"),
        *("incidents", "jobs", "unreadable", "journal", "listeners", "lateness", "service"),
    ]
    assert status["lateness"] is None
    assert status["routes"] == [{"name": "eop", "gate": "open", "reasons": [], "days_left": 90}]
    assert status["destinations"] == [
        {
            "name": "hybrid",
            "gate": "closed",
            "reasons": ["certificate_expired"],
            "verdict": "faulty",
            "findings": ["certificate_expired"],
            "since": "2026-11-24T11:00:00.000Z",
            "days_left": -1,
        }
    ]
    assert status["stuck"] == {"tls": 1}
    assert status["next_deadline"] == "2026-11-25T08:00:00.000Z"
    assert status["live_trace"] == {"source": "trace_graph", "until": "2026-11-24T11:59:00.000Z"}
    assert [i["state"] for i in status["incidents"]] == ["open"]
    assert [j["state"] for j in status["jobs"]] == ["waiting"]
    assert {k: status["unreadable"][0][k] for k in ("file", "reason", "at")} == {
        "file": "traces/x.csv",
        "reason": "no columns",
        "at": "2026-11-24T11:00:00.000Z",
    }
    assert status["journal"]["messages"] == 1


def test_an_old_trace_is_not_live(desk: Desk) -> None:
    desk.shelf.destination()
    desk.shelf.insert("trace", source="trace_graph", since=0, until=NOW - 2 * HOUR, read_at=NOW)

    assert desk.ask("status", "--json").json["live_trace"] is None


def test_status_for_people_fits(desk: Desk) -> None:
    trouble(desk)

    said = desk.ask("status").out

    assert fits(said)
    assert "Stuck: 1 recipient: 1 tls" in said
    assert "bounces in 20h" in said


def test_status_says_when_certificates_end(desk: Desk) -> None:
    trouble(desk)
    desk.shelf.look("listener:smtp", "healthy", codes="[]", days_left=12)
    desk.shelf.look("route:gone", "healthy", codes="[]", days_left=1)

    assert desk.ask("status", "--json").json["listeners"] == [{"name": "smtp", "days_left": 12}]
    said = {
        " ".join(line.split()[:2]): line.split()[-1] for line in desk.ask("status").out.splitlines() if line
    }
    assert (said["destination hybrid"], said["route eop"], said["listener smtp"]) == ("-1d", "90d", "12d")


def test_an_empty_journal_has_a_status(desk: Desk) -> None:
    status = desk.ask("status", "--json").json

    assert status["stuck"] == {}
    assert status["next_deadline"] is None
    assert "Stuck: nothing" in desk.ask("status").out


def test_incidents_are_listed_and_reported(desk: Desk) -> None:
    number = trouble(desk)
    desk.shelf.attempt(number, 0, no=1, at=NOW - 3 * HOUR)
    desk.shelf.run("update recipient set attempt = 2 where message = ? and n = 0", number)
    for network in ("n1", "n2"):
        desk.shelf.evidence(number, 1, status="delivered", network_message_id=network)

    (listed,) = desk.ask("incidents", "--json").lines
    report = desk.ask("incidents", "report", "1", "--json").json

    assert list(listed) == INCIDENT_FIELDS
    assert {name: report[name] for name in COUNTS} == {
        **dict.fromkeys(COUNTS, 0),
        "stuck": 2,
        "recovered": 1,
        "unknown": 1,
        "duplicates": 1,
    }
    assert report["false_ndrs"] == [
        {"sender": "app@example.org", "recipients": 1, "at": "2026-11-25T09:00:01.000Z"}  # 24h after its 250
    ]
    assert fits(desk.ask("incidents").out)
    assert fits(desk.ask("incidents", "report").out)


def test_a_report_says_why_the_gate_shut_and_why_it_let_mail_through(desk: Desk) -> None:
    trouble(desk)
    told = {
        "shut_because": "2 faulty looks in a row: certificate_expired",
        "let_through_because": ["3 healthy looks in a row", "the canary's proof was read"],
        "closed_because": "every recipient is settled",
        "explained": ["an operator holds it"],
    }
    desk.shelf.run("update incident set report = ?", json.dumps(told))

    assert desk.ask("incidents", "report", "1", "--json").json["why"] == {
        "shut": ["2 faulty looks in a row: certificate_expired"],
        "let_through": ["3 healthy looks in a row", "the canary's proof was read"],
        "closed": ["every recipient is settled", "an operator holds it"],
    }
    said = " ".join(desk.ask("incidents", "report").out.split())
    assert "its gate shut: 2 faulty looks in a row: certificate_expired" in said
    assert "mail was let through again: 3 healthy looks in a row; the canary's proof was read" in said
    assert fits(desk.ask("incidents", "report").out)


def test_a_report_as_csv_has_no_formulas(desk: Desk) -> None:
    number = desk.shelf.message(recipient("=cmd()@contoso.com", "deferred"))
    desk.shelf.incident((number, 0))

    assert "'=cmd()@contoso.com" in desk.ask("incidents", "report", "--format", "csv").out


def test_no_such_incident_says_so(desk: Desk) -> None:
    assert desk.ask("incidents", "report").code == 1
    assert desk.ask("incidents", "show", "9").code == 1
    assert desk.ask("incidents", "--fail-empty").code == 3


def test_jobs_have_the_contracts_fields(desk: Desk) -> None:
    number = trouble(desk)
    desk.shelf.job((number, 0, "proved"), (number, 1, "sent"), state="done", filter=f'{{"since": {NOW}}}')

    newest, waiting = desk.ask("jobs", "--json").lines

    assert set(newest) >= JOB_FIELDS
    assert (newest["recipients"], newest["accepted"], newest["delivered"]) == (2, 2, 1)
    assert newest["filter"] == {"since": "2026-11-24T12:00:00.000Z"}
    assert (waiting["state"], waiting["gate"]) == ("waiting", "closed")
    assert desk.ask("jobs", "show", str(waiting["id"]), "--json").json == waiting
    assert fits(desk.ask("jobs").out)
    assert desk.ask("jobs", "show", "99").code == 1


def test_audit_tells_who_asked_for_what(desk: Desk) -> None:
    desk.shelf.insert("audit", at=NOW, who="pat", action="replay", what="{}", reason="mended")

    assert desk.ask("audit", "--json").lines == [
        {"at": "2026-11-24T12:00:00.000Z", "who": "pat", "action": "replay", "what": "{}", "reason": "mended"}
    ]
    assert fits(desk.ask("audit").out)
    assert desk.ask("audit", "--since", "soon").code == 2


def test_a_report_as_a_page(desk: Desk) -> None:
    trouble(desk)

    answer = desk.ask("incidents", "report", "1", "--format", "html")

    assert answer.code == 0
    assert answer.out.startswith("<!doctype html>")
    assert answer.out.count("<tr><td>") >= 2
    assert "a@contoso.com" in answer.out


def test_a_format_is_for_the_report_only(desk: Desk) -> None:
    trouble(desk)

    assert desk.ask("incidents", "--format", "csv").code == 2
    assert desk.ask("incidents", "report", "--format", "csv", "--json").code == 2


def test_status_says_what_is_wrong_since_when_and_what_to_do(desk: Desk) -> None:
    trouble(desk)

    said = desk.ask("status").out

    assert said.startswith("The service does not run")
    assert "gate hybrid is closed for " in said
    assert "resubmit probe hybrid" in said.partition("Next:")[2]
    assert "resubmit list --stuck" in said.partition("Next:")[2]
    assert desk.ask("status", "--json").json["service"] == "down"


def test_audit_tells_people_what_it_was_about(desk: Desk) -> None:
    number = desk.shelf.message()
    what = json.dumps({"filter": {"ids": [number]}, "options": {"to": "eve@example.net", "wait": False}})
    desk.shelf.insert("audit", at=NOW, who="pat", action="redirect", what=what, reason="on leave")
    desk.shelf.insert("audit", at=NOW, who="pat", action="odd", what="not json", reason="")

    said = desk.ask("audit").out

    assert f"ids {id_text(number)}, to" in said
    assert "not json" in said
    assert desk.ask("audit", "--json").lines[1]["what"] == what


def test_status_says_how_late(desk: Desk) -> None:
    trouble(desk)
    position = json.dumps({"late": [0, 10, 80, 8, 2, 0, 0, 0]})
    desk.shelf.insert("cursor", source="trace_graph", name="contoso", position=position, at=NOW)
    desk.shelf.insert("cursor", source="trace_graph", name="old", position="{}", at=NOW - HOUR)

    status = desk.ask("status", "--json").json

    assert status["lateness"] == {"rows": 100, "minutes_50": 5, "minutes_95": 10}
    text = desk.ask("status").out
    assert "95 % of 100 rows were there within 10 minutes" in text
    assert fits(text)


def test_a_memory_of_another_version_is_no_lateness(desk: Desk) -> None:
    for position in ("", "x", "[]", '{"late": "x"}', '{"late": [1]}', '{"late": [-1,0,0,0,0,0,0,0]}'):
        desk.shelf.insert("cursor", source="trace_graph", name=position, position=position, at=NOW)
        assert desk.ask("status", "--json").json["lateness"] is None
