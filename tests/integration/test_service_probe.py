"""`resubmit probe` as a command, against a server with more than one thing wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from resubmit.lab.smtpd import Script, ScriptedServer
from tests.helpers import certs
from tests.helpers.service import Done, ran

WANTED = "mail.contoso.invalid"


async def probed(server: ScriptedServer, root: Path) -> Done:
    words = ("probe", f"127.0.0.1:{server.port}", "--name", WANTED, "--ca-file", str(root), "--json")
    nowhere = {"RESUBMIT_CONFIG": str(root.with_name("no-config.toml"))}
    return await ran(sys.executable, "-m", "resubmit", *words, env=nowhere)


@pytest.fixture
def root(tmp_path: Path) -> tuple[certs.Made, Path]:
    made = certs.root()
    path = tmp_path / "root.pem"
    path.write_bytes(made.pem)
    return made, path


async def test_expired_for_another_name_and_without_its_intermediate_are_three_findings(
    root: tuple[certs.Made, Path],
) -> None:
    authority = certs.intermediate(root[0])
    leaf = certs.leaf(
        authority, common="old.contoso.invalid", dns=("old.contoso.invalid",), starts=-9 * certs.DAY,
        ends=-2 * certs.DAY,
    )  # fmt: skip
    async with ScriptedServer(Script(name=WANTED), tls=certs.server_context([leaf])) as server:
        done = await probed(server, root[1])
        assert done.code == 1, done.err
        assert server.offered == [], "a probe sends no mail"
    (verdict,) = done.objects()
    assert verdict["verdict"] == "faulty"
    assert sorted(verdict["findings"]) == ["certificate_expired", "chain_incomplete", "name_mismatch"]
    (address,) = verdict["addresses"]
    faults = [one for one in address["findings"] if one["severity"] == "fault"]
    assert {one["code"] for one in faults} == set(verdict["findings"])
    assert all(one["advice"] for one in faults)
    assert address["certificates"][0]["sans"] == ["old.contoso.invalid"]


async def test_each_that_is_mended_is_one_finding_less(root: tuple[certs.Made, Path]) -> None:
    authority = certs.intermediate(root[0])
    expired = certs.leaf(authority, common=WANTED, dns=(WANTED,), starts=-9 * certs.DAY, ends=-2 * certs.DAY)
    good = certs.leaf(authority, common=WANTED, dns=(WANTED,))
    found = []
    for chain in ([expired], [expired, authority], [good, authority]):
        async with ScriptedServer(Script(name=WANTED), tls=certs.server_context(chain)) as server:
            done = await probed(server, root[1])
            found.append((done.code, sorted(done.objects()[0]["findings"])))
    assert found == [(1, ["certificate_expired", "chain_incomplete"]), (1, ["certificate_expired"]), (0, [])]
