# ruff: noqa: E501 - a table of cases is read as a table
"""`config check --online`, run as people run it against the lab's Graph: which step is missing, and what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from resubmit.clock import SystemClock
from resubmit.lab.graph import GraphLab
from resubmit.model.moment import MINUTE
from tests.helpers.graph import graph, row
from tests.helpers.service import Done, ran

STEPS = ["files", "network", "token", "service principal", "permission", "first page"]


async def checked(folder: Path, change: Callable[[GraphLab], object], *words: str, more: str = "") -> Done:
    """The command's end, after the lab was changed."""
    clock = SystemClock()
    async with graph(folder, clock, row(1, clock.now() - MINUTE)) as lab:
        table = {
            "tenant": lab.sign_in.tenant,
            "client_id": lab.sign_in.client_id,
            "client_secret_file": "secret",
            "endpoint": lab.endpoint,
            "login": lab.login,
            "ca_file": "ca/lab-root.pem",
        }
        text = "\n".join(f'{key} = "{value}"' for key, value in table.items() if f"{key} =" not in more)
        config = folder / "config.toml"
        config.write_text(
            '[[route]]\nname = "eop"\nhost = "192.0.2.1"\n[[destination]]\nname = "h"\ndomains = ["*"]\n'
            f'handoff = "eop"\n[evidence.graph]\n{text}\n{more}\n'
        )
        change(lab)
        command = [sys.executable, "-m", "resubmit", "--config", str(config), "config", "check", "--online"]
        done = await ran(*command, *words)
        assert lab.sign_in.secret not in done.out + done.err
        assert "lab~Secret.Value" not in done.out + done.err
        return done


@pytest.mark.parametrize(
    ("change", "code", "step", "state", "says"),
    [
        pytest.param(lambda lab: None, 0, "", "", "1 rows of the last hour", id="all is well"),
        pytest.param(lambda lab: setattr(lab.sign_in, "secret_expired", True), 1, "token", "missing", "secret has expired", id="secret expired"),
        pytest.param(lambda lab: setattr(lab.sign_in, "client_id", "x"), 1, "token", "missing", "check client_id", id="another application"),
        pytest.param(lambda lab: setattr(lab.quirks, "service_principal", False), 1, "service principal", "missing", "New-MgServicePrincipal", id="service principal"),
        pytest.param(lambda lab: setattr(lab.quirks, "consent", False), 1, "permission", "missing", "admin consent", id="permission"),
        pytest.param(lambda lab: setattr(lab.quirks, "limit", 0), 7, "first page", "later", "100 requests in 5 minutes", id="429"),
        pytest.param(lambda lab: lab.quirks.fails.append(503), 7, "first page", "later", "HTTP 503", id="503"),
        pytest.param(lambda lab: setattr(lab.quirks, "broken", "html"), 7, "first page", "later", "no JSON", id="a proxy's page"),
        pytest.param(lambda lab: setattr(lab.quirks, "skew", -7 * MINUTE), 1, "first page", "missing", "ahead of Microsoft's", id="our clock"),
    ],
)  # fmt: skip
async def test_the_step_that_is_missing_is_named(
    tmp_path: Path, change: Callable[[GraphLab], object], code: int, step: str, state: str, says: str
) -> None:
    done = await checked(tmp_path, change, "--json")
    assert done.code == code, done.err
    (told,) = done.objects()
    walked = told["online"]
    assert [one["step"] for one in walked] == STEPS
    before = STEPS.index(step) if step else len(STEPS)
    assert [one["state"] for one in walked[:before]] == ["ok"] * before
    assert [one["state"] for one in walked[before:]][:1] == ([state] if step else [])
    assert all(one["state"] == "not tried" for one in walked[before + 1 :])
    assert says in str(walked[min(before, 5)])


@pytest.mark.parametrize(
    ("more", "code", "step", "says"),
    [
        ('client_secret_file = "nowhere"', 2, "files", "No such file"),
        ('login = "https://login.resubmit.invalid"', 7, "network", "login.resubmit.invalid has no address"),
        ('login = "http://127.0.0.1:1"', 7, "network", "127.0.0.1"),
        ('ca_file = "config.toml"', 2, "files", "ca_file can't be used"),
    ],
)
async def test_what_is_wrong_here_is_named(
    tmp_path: Path, more: str, code: int, step: str, says: str
) -> None:
    done = await checked(tmp_path, lambda lab: None, "--json", more=more)
    assert done.code == code, done.out + done.err
    (told,) = done.objects()
    (bad,) = [one for one in told["online"] if one["state"] not in ("ok", "not tried")]
    assert bad["step"] == step
    assert says in bad["text"]


async def test_it_is_told_to_people_a_step_a_line(tmp_path: Path) -> None:
    done = await checked(tmp_path, lambda lab: setattr(lab.quirks, "consent", False))
    lines = done.out.splitlines()
    assert lines[0].endswith(": valid")
    assert lines[1] == "message trace of contoso.invalid:"
    assert lines[2] == "  ok: files: client_secret_file can be used"
    assert any(line.startswith("  missing: permission: ") for line in lines)
    assert all(len(line) <= 80 for line in lines[1:])


async def test_without_a_table_there_is_nothing_to_ask(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("")
    command = [sys.executable, "-m", "resubmit", "--config", str(tmp_path / "c.toml"), "config"]
    done = await ran(*command, "check", "--online")
    assert done.code == 0
    assert "no [evidence.graph]" in done.err
    assert (await ran(*command, "show", "--online")).code == 2


async def test_the_secret_is_not_in_config_show(tmp_path: Path) -> None:
    done = await checked(tmp_path, lambda lab: None)
    assert done.code == 0
    shown = await ran(
        sys.executable, "-m", "resubmit", "--config", str(tmp_path / "config.toml"), "config", "show"
    )
    assert "client_secret_file" in shown.out
    assert "lab~Secret.Value" not in shown.out
