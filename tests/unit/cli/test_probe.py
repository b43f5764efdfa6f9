"""`probe` as a command, against servers with real certificates on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resubmit.cli import main
from resubmit.clock import SystemClock
from resubmit.lab.certs import Authority, Leaf
from resubmit.lab.smtpd import ScriptedServer


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    monkeypatch.chdir(tmp_path)  # where no config is
    monkeypatch.delenv("RESUBMIT_CONFIG", raising=False)
    return Authority(tmp_path / "certs", SystemClock().now())


@contextlib.contextmanager
def serving(leaf: Leaf | None) -> Iterator[ScriptedServer]:
    """A server that runs on a loop of its own, as the command runs one too. Without a leaf: no STARTTLS."""
    server = ScriptedServer(tls=leaf.context() if leaf else None)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        yield server
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def probe(server: ScriptedServer, authority: Authority, *words: str) -> int:
    target = f"127.0.0.1:{server.port}"
    return main.run(["probe", target, "--ca-file", str(authority.root_file), "--timeout", "10", *words])


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(capsys.readouterr().out)
    return plain


def test_a_good_certificate_for_the_name_is_exit_0(
    authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(authority.good("mail.test.invalid")) as server:
        assert probe(server, authority, "--name", "mail.test.invalid", "--json") == 0

    plain = said(capsys)
    assert plain["verdict"] == "healthy"
    assert plain["level"] == "domain"
    (address,) = plain["addresses"]
    assert address["tls"]["version"].startswith("TLSv1")
    assert address["certificates"][0]["sans"] == ["mail.test.invalid"]
    assert not server.mails


@pytest.mark.parametrize(
    ("kind", "code"), [("expired", "certificate_expired"), ("self_signed", "self_signed")]
)
def test_a_bad_certificate_is_exit_1_with_its_code(
    authority: Authority, capsys: pytest.CaptureFixture[str], kind: str, code: str
) -> None:
    with serving(getattr(authority, kind)("mail.test.invalid")) as server:
        assert probe(server, authority, "--name", "mail.test.invalid", "--json") == 1

    assert code in said(capsys)["findings"]


def test_another_name_is_a_fault_at_level_domain_only(
    authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(authority.wrong_name("mail.test.invalid", "other.test.invalid")) as server:
        assert probe(server, authority, "--name", "mail.test.invalid", "--json") == 1
        assert "name_mismatch" in said(capsys)["findings"]
        assert (
            probe(server, authority, "--name", "mail.test.invalid", "--level", "certificate", "--json") == 0
        )


def test_a_server_without_starttls_is_faulty_at_every_level(
    authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(None) as server:
        for level in ("encrypt", "certificate", "domain"):
            assert probe(server, authority, "--level", level, "--json") == 1
            assert said(capsys)["findings"] == ["starttls_missing"]


def test_the_report_says_the_fault_the_mend_and_the_certificate(
    authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(authority.expired("mail.test.invalid")) as server:
        assert probe(server, authority, "--name", "mail.test.invalid") == 1

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(": FAULTY")
    fault = next(i for i, line in enumerate(lines) if "fault: certificate_expired" in line)
    certificate = next(i for i, line in enumerate(lines) if line.startswith("  certificate "))
    assert fault < certificate
    assert any("→" in line for line in lines[fault:certificate])
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80


def test_nobody_there_is_exit_7(authority: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:  # bound and not listening: nothing else can answer there
        taken.bind(("127.0.0.1", 0))
        words = [
            "probe",
            f"127.0.0.1:{taken.getsockname()[1]}",
            "--ca-file",
            str(authority.root_file),
            "--json",
        ]
        assert main.run(words) == 7

    assert said(capsys)["findings"] == ["connect_refused"]
