# ruff: noqa: E501 - a table of cases is read as a table
"""The way to Graph, asked of the lab's: what comes is an answer or a problem that says what is missing."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from resubmit.clock import SystemClock
from resubmit.errors import UsageError
from resubmit.evidence.graph import Page, Window, list_url, page_of
from resubmit.evidence.graph_client import GraphClient, assertion, secret_of
from resubmit.evidence.graph_says import Step, Then
from resubmit.lab.graph import GraphLab
from resubmit.model.moment import DAY, HOUR, MINUTE, SECOND
from tests.helpers.graph import application, graph, row, settings
from tests.helpers.journals import HandClock


def now() -> int:
    return SystemClock().now()


def recent(lab: GraphLab, *, hours: int = 24) -> str:
    return list_url(lab.endpoint, Window(now() - hours * HOUR, now() // SECOND * SECOND, True))


@asynccontextmanager
async def asked(
    folder: Path, *rows: Any, clock: Any = None, **more: object
) -> AsyncIterator[tuple[GraphLab, GraphClient]]:
    clock = clock or SystemClock()
    async with graph(folder, clock, *rows, now=now()) as lab:
        client = GraphClient(settings(lab, folder, **more), clock)
        try:
            yield lab, client
        finally:
            await client.close()


async def test_a_window_is_read_page_by_page(tmp_path: Path) -> None:
    rows = [row(n, now() - HOUR - n * SECOND) for n in range(25)]
    async with asked(tmp_path, *rows) as (lab, client):
        lab.quirks.page = 10
        url, seen, found = recent(lab), frozenset[str](), []
        while url:
            answer = await client.get(url)
            page = page_of(answer.body, url, seen)
            assert isinstance(page, Page), page
            found += [one.network_message_id for one in page.rows]
            seen, url = seen | {url}, page.following
        assert found == [one.network_id for one in rows]
        assert len(lab.asked) == 3
        assert lab.sign_in.count == 1, "one token for all of them"
        assert answer.date is not None
        assert abs(answer.date - now()) < 5 * SECOND


async def test_a_certificate_signs_in(tmp_path: Path) -> None:
    certificate, key = application()
    (tmp_path / "app.pem").write_bytes(key + certificate)
    more = {"client_secret_file": None, "certificate_file": tmp_path / "app.pem"}
    async with asked(tmp_path, **more) as (lab, client):
        problem = (await client.get(recent(lab))).problem
        assert problem is not None
        assert (problem.step, "AADSTS700027" in problem.text) == (Step.TOKEN, True)
        lab.sign_in.certificate = certificate
        assert (await client.get(recent(lab))).problem is None
        lab.sign_in.skew = 30 * MINUTE
        other = GraphClient(settings(lab, tmp_path, **more), SystemClock())
        problem = await other.sign_in()
        await other.close()
        assert problem is not None
        assert "AADSTS700024" in problem.text
        assert "clock" in problem.advice


@pytest.mark.parametrize(
    ("change", "step", "then", "text", "advice"),
    [
        (lambda lab: setattr(lab.sign_in, "secret_expired", True), Step.TOKEN, Then.SETUP, "AADSTS7000222", "add a new client secret"),
        (lambda lab: setattr(lab.sign_in, "secret", "other"), Step.TOKEN, Then.SETUP, "AADSTS7000215", "not its id"),
        (lambda lab: setattr(lab.sign_in, "client_id", "other"), Step.TOKEN, Then.SETUP, "AADSTS700016", "client_id"),
        (lambda lab: setattr(lab.sign_in, "tenant", "other"), Step.TOKEN, Then.SETUP, "AADSTS90002", "tenant"),
        (lambda lab: lab.sign_in.fails.append(503), Step.TOKEN, Then.AGAIN, "can't answer now", ""),
        (lambda lab: setattr(lab.quirks, "service_principal", False), Step.SERVICE_PRINCIPAL, Then.SETUP, "no service principal", "New-MgServicePrincipal -AppId 8bd644d1-64a1-4d4b-ae52-2e0cbf64e373"),
        (lambda lab: setattr(lab.quirks, "consent", False), Step.PERMISSION, Then.SETUP, "may not read message traces", "ExchangeMessageTrace.Read.All"),
        (lambda lab: setattr(lab.quirks, "limit", 0), Step.ANSWER, Then.WAIT, "100 requests in 5 minutes", ""),
        (lambda lab: lab.quirks.fails.append(500), Step.ANSWER, Then.AGAIN, "HTTP 500", ""),
        (lambda lab: lab.quirks.fails.append(418), Step.ANSWER, Then.AGAIN, "HTTP 418", ""),
    ],
)  # fmt: skip
async def test_what_is_missing_is_said(
    tmp_path: Path, change: Any, step: Step, then: Then, text: str, advice: str
) -> None:
    async with asked(tmp_path) as (lab, client):
        change(lab)
        problem = (await client.get(recent(lab))).problem
        assert problem is not None
        assert (problem.step, problem.then) == (step, then), problem
        assert text in problem.text
        assert advice in problem.advice
        assert "lab~Secret.Value" not in f"{problem!r}"


async def test_a_missing_service_principal_is_no_reason_for_a_new_token(tmp_path: Path) -> None:
    async with asked(tmp_path) as (lab, client):
        lab.quirks.service_principal = False
        for _ in range(3):
            await client.get(recent(lab))
        assert lab.sign_in.count == 1


async def test_a_token_is_renewed_before_its_end_and_once_when_it_is_not_taken(tmp_path: Path) -> None:
    clock = HandClock(now())
    async with asked(tmp_path, clock=clock) as (lab, client):
        url = list_url(lab.endpoint, Window(clock.now() - HOUR, clock.now() // SECOND * SECOND, False))
        assert (await client.get(url)).problem is None
        clock.pass_(54 * MINUTE)
        await client.get(url)
        assert lab.sign_in.count == 1
        clock.pass_(2 * MINUTE)
        assert (await client.get(url)).problem is None
        assert lab.sign_in.count == 2
        lab.sign_in._valid.clear()
        answer = await client.get(url)
        assert (answer.problem, answer.requests, lab.sign_in.count) == (None, 2, 3)


@pytest.mark.parametrize(("header", "wait"), [("17", 17 * SECOND), (None, None), ("soon", None)])
async def test_retry_after_is_heard(tmp_path: Path, header: str | None, wait: int | None) -> None:
    async with asked(tmp_path) as (lab, client):
        lab.quirks.limit, lab.quirks.retry_after = 0, header
        problem = (await client.get(recent(lab))).problem
        assert problem is not None
        assert problem.wait == (wait if header else 300 * SECOND)


async def test_retry_after_may_be_a_time(tmp_path: Path) -> None:
    import email.utils
    from datetime import UTC, datetime, timedelta

    async with asked(tmp_path) as (lab, client):
        at = datetime.now(UTC) + timedelta(seconds=100)
        lab.quirks.limit, lab.quirks.retry_after = 0, email.utils.format_datetime(at, usegmt=True)
        problem = (await client.get(recent(lab))).problem
        assert problem is not None
        assert problem.wait is not None
        assert 90 * SECOND <= problem.wait <= 101 * SECOND


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("circle", "circle"),
        ("elsewhere", "another host"),
        ("cut", "no JSON"),
        ("html", "no JSON"),
        ("no_value", "no rows"),
    ],
)
async def test_broken_pages_are_no_answer(tmp_path: Path, broken: str, said: str) -> None:
    rows = [row(n, now() - HOUR) for n in range(9)]
    async with asked(tmp_path, *rows) as (lab, client):
        lab.quirks.page, lab.quirks.broken = 2, broken
        url, seen = recent(lab), frozenset[str]()
        for _ in range(8):
            page = page_of((await client.get(url)).body, url, seen)
            if not isinstance(page, Page):
                break
            seen, url = seen | {url}, page.following
        assert not isinstance(page, Page)
        assert said in page.text
        assert page.then is Then.AGAIN


async def test_the_lab_has_the_quirks_of_the_filter(tmp_path: Path) -> None:
    """What we must never ask, because the answer would look good and be wrong."""
    rows = [row(1, now() - HOUR), row(2, now() - HOUR, recipient="otto@contoso.com"), row(3, now() - DAY)]
    async with asked(tmp_path, *rows) as (lab, client):
        base = f"{lab.endpoint}/admin/exchange/tracing/messageTraces"
        url = f"{base}?$filter=recipientAddress%20eq%20'ann@contoso.com'%20or%20recipientAddress%20eq%20'otto@contoso.com'"
        page = page_of((await client.get(url)).body, url, frozenset())
        assert isinstance(page, Page)
        assert [one.recipient for one in page.rows] == ["otto@contoso.com"]
        for text in ("receivedDateTime%20ge%202026-11-23T00:00:00Z", "x"):
            answer = await client.get(f"{base}?$filter={text}&$top=9999")
            assert answer.status == 400
        window = Window(now() - 11 * DAY, now() // SECOND * SECOND, True)
        assert (await client.get(list_url(lab.endpoint, window))).status == 400


async def test_nobody_there_is_a_problem(tmp_path: Path) -> None:
    async with asked(tmp_path) as (lab, client):
        await lab.stop()
        problem = (await client.get(recent(lab))).problem
        assert problem is not None
        assert (problem.step, problem.then) == (Step.NETWORK, Then.AGAIN)


async def test_a_name_that_does_not_exist_is_said(tmp_path: Path) -> None:
    async with asked(tmp_path, login="https://login.resubmit.invalid") as (lab, client):
        problem = (await client.get(recent(lab))).problem
        assert problem is not None
        assert "login.resubmit.invalid" in problem.text
        assert problem.step is Step.NETWORK


async def test_a_certificate_of_nobody_is_not_taken(tmp_path: Path) -> None:
    async with asked(tmp_path, ca_file=None) as (lab, client):
        problem = (await client.get(recent(lab))).problem
        assert problem is not None
        assert "not trusted" in problem.text, problem
        assert lab.sign_in.count == 0, "the secret did not leave"
        assert problem.then is Then.SETUP


@pytest.mark.parametrize("text", ["", "\n", "with a tab\tin it", "ümlaut"])
def test_a_secret_that_is_none_is_not_shown(tmp_path: Path, text: str) -> None:
    (tmp_path / "s").write_text(text, "utf-8")
    with pytest.raises(UsageError) as caught:
        secret_of(tmp_path / "s")
    assert not text.strip() or text.strip() not in str(caught.value)


def test_a_secret_may_have_an_end_of_line(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"\xef\xbb\xbfabc~1\r\nmore\n")
    assert secret_of(tmp_path / "s") == "abc~1"


@pytest.mark.parametrize("what", ["no file", "no key", "no certificate", "another key"])
def test_a_certificate_file_that_is_none_is_said(tmp_path: Path, what: str) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    certificate, key = application()
    other = rsa.generate_private_key(65537, 2048).private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    path = tmp_path / "app.pem"
    held = {"no key": certificate, "no certificate": key, "another key": certificate + other}
    if what in held:
        path.write_bytes(held[what])
    with pytest.raises(UsageError):
        assertion(path, "client", "https://login", now())


async def test_a_slow_answer_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from resubmit.evidence import graph_client

    monkeypatch.setattr(graph_client, "_WHOLE", 300)

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        login = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with asked(tmp_path, login=login) as (lab, client):
            problem = (await client.get(recent(lab))).problem
    assert problem is not None
    assert problem.step is Step.NETWORK
    assert "127.0.0.1" in problem.text
