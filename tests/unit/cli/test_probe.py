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


def test_the_chain_is_drawn_as_it_was_sent(authority: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(authority.good("mail.test.invalid")) as server:
        assert probe(server, authority, "--name", "mail.test.invalid") == 0

    lines = capsys.readouterr().out.splitlines()
    (leaf,) = [
        i for i, line in enumerate(lines) if line.startswith("  certificate CN=mail.test.invalid, ends in ")
    ]
    assert lines[leaf + 2].startswith("  └ from CN=Lab Issuing CA, ends in ")
    assert lines[leaf + 3] == "    └ from CN=Lab Root CA, not sent"


def test_a_fault_says_what_exchange_online_answers(
    authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(None) as server:
        assert probe(server, authority) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "Exchange Online says: 450 4.4.317 [Message=451 5.7.3 STARTTLS is required to send mail]" in said


def test_no_colour_goes_where_no_terminal_is(
    authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(authority.expired("mail.test.invalid")) as server:
        probe(server, authority)
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("environment", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_has_colours_unless_it_wants_none(
    authority: Authority,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    is_coloured: bool,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with serving(authority.expired("mail.test.invalid")) as server:
        probe(server, authority)
    out = capsys.readouterr().out
    assert ("\x1b[31;1mFAULTY\x1b[0m" in out, "\x1b[31;1mfault:\x1b[0m" in out) == (is_coloured, is_coloured)


def test_watch_says_what_is_new_and_ends_once_it_is_healthy(
    authority: Authority, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    with serving(authority.expired("mail.test.invalid")) as server:
        slept = asyncio.sleep

        async def mended(seconds: float, *rest: Any) -> None:
            nonlocal looks
            if seconds != 5:
                await slept(seconds, *rest)
                return
            looks += 1
            if looks == 2:
                server.tls = authority.good("mail.test.invalid").context()

        monkeypatch.setattr("resubmit.cli.probe.asyncio.sleep", mended)
        assert probe(server, authority, "--name", "mail.test.invalid", "--watch", "5") == 0

    first, last = capsys.readouterr().out.splitlines()
    assert ": faulty  certificate_expired" in first
    assert ": healthy" in last
    assert looks == 2


def test_all_shows_routes_and_our_listener_in_a_table(
    authority: Authority, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good, bad = authority.good("mail.test.invalid"), authority.expired("mail.test.invalid")
    with serving(good) as healthy, serving(bad) as faulty:
        config = tmp_path / "config.toml"
        config.write_text(
            f'[intake.smtp]\nlisten = ["127.0.0.1:{healthy.port}"]\ntls_certificate = "{good.chain_file}"\n'
            f'tls_key = "{good.key_file}"\n'
            f'[[route]]\nname = "eop"\nhost = "127.0.0.1"\nport = {healthy.port}\ntls = "opportunistic"\n'
            f'[[destination]]\nname = "hybrid"\ndomains = ["*"]\nhandoff = "eop"\n'
            f'probe = "127.0.0.1:{faulty.port}"\nprobe_name = "mail.test.invalid"\n'
            f'ca_file = "{authority.root_file}"\n'
        )
        assert main.run(["--config", str(config), "probe", "--all", "--timeout", "10"]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split() == ["TARGET", "WHERE", "VERDICT", "DAYS", "LEFT", "FINDINGS"]
        assert [line.split("  ")[0] for line in lines[1:4]] == ["hybrid", "route eop", "our listener"]
        assert [("FAULTY" in line) for line in lines[1:4]] == [True, False, False]
        assert sum(line.endswith(": FAULTY") for line in lines) == 1
        assert max(map(len, lines)) <= 80
        assert main.run(["--config", str(config), "probe", "--all", "--json"]) == 1
        assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize(
    "target", ["me@mail.test.invalid", "http://mail.test.invalid", "mail.test.invalid:٢٥"]
)
def test_what_is_no_host_is_not_looked_up(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["probe", target]) == 2
    assert "is no destination of the config and not an address like" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["hybrid", "--all"], ["h", "--watch", "0"]])
def test_what_makes_no_sense_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["probe", *words]) == 2
    assert capsys.readouterr().err
