"""TLS levels: never below what the route asks for, and what was wrong is said in words."""

from __future__ import annotations

import asyncio
import socket
import ssl
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from resubmit.handoff import tls
from resubmit.handoff.pool import Pool
from resubmit.model.attempt import Handed
from tests.helpers.relay import Script, ScriptedServer
from tests.unit.handoff.post import BODY, HEAD, letter, route

CA = trustme.CA()
NOW = datetime.now(UTC)

Context = Callable[[], ssl.SSLContext]


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    CA.cert_pem.write_to_path(tmp_path / "root.pem")
    return tmp_path / "root.pem"


def shown(cert: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert.configure_cert(context)
    return context


def good() -> ssl.SSLContext:
    return shown(CA.issue_cert("localhost"))


def expired() -> ssl.SSLContext:
    return shown(
        CA.issue_cert("localhost", not_before=NOW - timedelta(days=90), not_after=NOW - timedelta(hours=1))
    )


def not_yet() -> ssl.SSLContext:
    return shown(
        CA.issue_cert("localhost", not_before=NOW + timedelta(days=1), not_after=NOW + timedelta(days=90))
    )


def other_name() -> ssl.SSLContext:
    return shown(CA.issue_cert("mail.other.invalid"))


def unknown_ca() -> ssl.SSLContext:
    return shown(trustme.CA().issue_cert("localhost"))


def no_intermediate() -> ssl.SSLContext:
    leaf = CA.create_child_ca().issue_cert("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with leaf.private_key_and_cert_chain_pem.tempfile() as pem:
        text = Path(pem).read_text()
    end = "-----END CERTIFICATE-----\n"
    with trustme.Blob((text.partition(end)[0] + end).encode()).tempfile() as pem:
        context.load_cert_chain(pem)
    return context


def old_tls() -> ssl.SSLContext:
    context = good()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # deprecated is what it is meant to be
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


async def hand(pool: Pool, hop: ScriptedServer, level: str, ca_file: Path, **values: object) -> Handed:
    to = route(hop.port, host="localhost", tls=level, ca_file=ca_file, **values)
    return await pool.hand(to, letter())


def result(handed: Handed) -> tuple[str, str]:
    [offered] = handed.results
    return offered.result.value, offered.stage.value


@pytest.mark.parametrize("level", ["opportunistic", "required", "verified"])
async def test_with_a_good_certificate_mail_goes_over_tls(
    pool: Pool, hop: ScriptedServer, ca_file: Path, level: str
) -> None:
    hop.tls = good()
    handed = await hand(pool, hop, level, ca_file)
    assert result(handed) == ("accepted", "dot")
    assert handed.tls.startswith("TLSv1.3 TLS_")
    assert hop.mails[0].tls == handed.tls
    assert hop.mails[0].data == HEAD + BODY
    assert handed.results[0].text == ""


async def test_level_none_asks_for_no_tls(pool: Pool, hop: ScriptedServer, ca_file: Path) -> None:
    hop.tls = good()
    handed = await hand(pool, hop, "none", ca_file)
    assert result(handed) == ("accepted", "dot")
    assert handed.tls == ""
    assert hop.handshakes == 0


@pytest.mark.parametrize(
    ("context", "words"),
    [
        (expired, "has expired"),
        (not_yet, "not valid yet"),
        (other_name, "not for this name"),
        (unknown_ca, "issuer is not trusted"),
        (no_intermediate, "intermediate certificate is missing"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_verified_defers_every_recipient_and_says_what_is_wrong(
    pool: Pool, hop: ScriptedServer, ca_file: Path, context: Context, words: str
) -> None:
    hop.tls = context()
    to = route(hop.port, host="localhost", tls="verified", ca_file=ca_file)
    handed = await pool.hand(to, letter(BODY, "a@x.invalid", "b@x.invalid"))
    assert [(o.result.value, o.stage.value) for o in handed.results] == [("deferred", "tls")] * 2
    assert all(words in o.text and "localhost" in o.text for o in handed.results)
    assert handed.tls_below
    assert not handed.unreachable
    assert hop.offered == []
    assert not [line for _, line in hop.lines if line.startswith("MAIL")]


@pytest.mark.parametrize(
    "context", [expired, other_name, unknown_ca, no_intermediate], ids=lambda c: c.__name__
)
async def test_required_encrypts_and_asks_for_no_name(
    pool: Pool, hop: ScriptedServer, ca_file: Path, context: Context
) -> None:
    hop.tls = context()
    handed = await hand(pool, hop, "required", ca_file)
    assert result(handed) == ("accepted", "dot")
    assert handed.tls


@pytest.mark.parametrize("level", ["required", "verified"])
@pytest.mark.parametrize(
    ("script", "stage", "words"),
    [
        (Script(starttls=False), "starttls", "not offered"),
        (Script(starttls_reply="454 4.7.0 TLS not available"), "starttls", "454"),
        (Script(cut="starttls"), "starttls", "lost"),
        (Script(cut="handshake"), "starttls", "lost"),  # the 220 and the end come at once
        (Script(hang="handshake"), "tls", "handshake"),
    ],
    ids=["missing", "454", "cut", "cut in the handshake", "silent in the handshake"],
)
async def test_never_in_clear_where_tls_is_asked_for(
    pool: Pool, hop: ScriptedServer, ca_file: Path, level: str, script: Script, stage: str, words: str
) -> None:
    hop.tls, hop.script = good(), script
    handed = await hand(pool, hop, level, ca_file, timeout="400ms")
    assert result(handed) == ("deferred", stage)
    [offered] = handed.results
    assert words in (offered.text or (offered.reply.line() if offered.reply else ""))
    assert handed.tls_below
    assert not [line for _, line in hop.lines if line.startswith("MAIL")]


async def test_421_to_starttls_says_nothing_about_tls(pool: Pool, hop: ScriptedServer, ca_file: Path) -> None:
    hop.tls, hop.script = good(), Script(starttls_reply="421 4.3.2 closing")
    handed = await hand(pool, hop, "verified", ca_file)
    assert result(handed) == ("deferred", "starttls")
    assert not handed.tls_below


async def test_required_does_not_take_tls_1_1(pool: Pool, hop: ScriptedServer, ca_file: Path) -> None:
    hop.tls = old_tls()
    handed = await hand(pool, hop, "required", ca_file)
    assert result(handed) == ("deferred", "tls")
    assert handed.tls_below


async def test_opportunistic_takes_old_tls_rather_than_none(
    pool: Pool, hop: ScriptedServer, ca_file: Path
) -> None:
    hop.tls = old_tls()
    handed = await hand(pool, hop, "opportunistic", ca_file)
    assert result(handed) == ("accepted", "dot")
    assert handed.tls.startswith("TLSv1")


async def test_opportunistic_goes_in_clear_on_a_new_connection_only_and_says_so(
    pool: Pool, hop: ScriptedServer, ca_file: Path
) -> None:
    hop.tls = good()
    hop.script = Script(starttls_reply="454 4.7.0 TLS not available")
    handed = await hand(pool, hop, "opportunistic", ca_file)
    assert result(handed) == ("accepted", "dot")
    assert handed.tls == ""
    assert handed.results[0].text.startswith("sent in clear, because TLS failed")
    assert "454" in handed.results[0].text
    assert hop.mails[0].connection == 2


async def test_opportunistic_without_starttls_says_so(pool: Pool, hop: ScriptedServer, ca_file: Path) -> None:
    handed = await hand(pool, hop, "opportunistic", ca_file)
    assert result(handed) == ("accepted", "dot")
    assert handed.results[0].text == "sent in clear: STARTTLS is not offered"


@pytest.mark.parametrize("level", ["required", "verified"])
async def test_plaintext_behind_220_is_never_read_as_a_reply(
    pool: Pool, hop: ScriptedServer, ca_file: Path, level: str
) -> None:
    """CVE-2021-38371 and kin: what stands behind the 220 came from anybody."""
    hop.tls = good()
    hop.script = Script(keywords=["DSN"], plaintext_after_starttls=b"250-evil\r\n250 SIZE 1\r\n")
    handed = await hand(pool, hop, level, ca_file)
    if handed.results[0].result.value == "accepted":
        assert "ENVID" in " ".join(hop.mails[0].parameters)  # the EHLO inside TLS counted
    else:
        assert result(handed) == ("deferred", "tls")
        assert handed.tls_below


@pytest.mark.parametrize(
    ("tls_name", "cert", "expected"),
    [
        ("mail.contoso.invalid", "mail.contoso.invalid", True),
        ("mail.contoso.invalid", "*.contoso.invalid", True),
        ("a.mail.contoso.invalid", "*.contoso.invalid", False),
        ("contoso.invalid", "*.contoso.invalid", False),
        ("*.contoso.invalid", "*.contoso.invalid", True),
        ("*.contoso.invalid", "mx1.contoso.invalid", True),
        ("*.contoso.invalid", "a.mx1.contoso.invalid", False),
        ("*.contoso.invalid", "contoso.invalid", False),
        ("*.contoso.invalid", "mail.other.invalid", False),
    ],
)
async def test_the_name_is_the_one_the_route_asks_for(
    pool: Pool, hop: ScriptedServer, ca_file: Path, tls_name: str, cert: str, expected: bool
) -> None:
    hop.tls = shown(CA.issue_cert(cert))
    handed = await hand(pool, hop, "verified", ca_file, tls_name=tls_name)
    assert (result(handed) == ("accepted", "dot")) is expected
    assert handed.tls_below is not expected


async def test_a_name_in_the_common_name_only_is_none(pool: Pool, hop: ScriptedServer, ca_file: Path) -> None:
    hop.tls = shown(CA.issue_cert("other.invalid", common_name="localhost"))
    assert result(await hand(pool, hop, "verified", ca_file)) == ("deferred", "tls")


async def test_an_address_is_verified_as_an_address(pool: Pool, hop: ScriptedServer, ca_file: Path) -> None:
    to = route(hop.port, tls="verified", ca_file=ca_file)
    hop.tls = shown(CA.issue_cert("127.0.0.1"))
    assert result(await pool.hand(to, letter())) == ("accepted", "dot")
    await pool.close()
    hop.tls = good()
    assert "not for this address" in (await pool.hand(to, letter())).results[0].text


def asking_for_a_certificate() -> ssl.SSLContext:
    context = good()
    context.verify_mode = ssl.CERT_REQUIRED
    CA.configure_trust(context)
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_wants_a_client_certificate_says_so(
    pool: Pool, ca_file: Path, version: ssl.TLSVersion
) -> None:
    """By an alert: in the handshake with TLS 1.2, instead of the next reply with TLS 1.3."""
    context = asking_for_a_certificate()
    context.maximum_version = version
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer, _ = listener.accept()
        with peer, peer.makefile("rb") as lines:
            peer.sendall(b"220 hop\r\n")
            lines.readline()
            peer.sendall(b"250-hop\r\n250 STARTTLS\r\n")
            lines.readline()
            peer.sendall(b"220 go\r\n")
            kept = peer.dup()  # closed with our EHLO unread, it would be reset before its alert arrives
            with kept:
                with suppress(ssl.SSLError), context.wrap_socket(peer, server_side=True):
                    pass
                while kept.recv(4096):
                    pass

    served = asyncio.get_running_loop().run_in_executor(None, serve)
    to = route(listener.getsockname()[1], host="localhost", tls="verified", ca_file=ca_file)
    handed = await pool.hand(to, letter())
    await served
    listener.close()
    assert result(handed) == ("deferred", "tls")
    assert "client certificate" in handed.results[0].text
    assert handed.tls_below


async def test_a_client_certificate_is_shown(
    pool: Pool, hop: ScriptedServer, ca_file: Path, tmp_path: Path
) -> None:
    hop.tls = asking_for_a_certificate()
    without = await hand(pool, hop, "verified", ca_file)
    assert result(without)[0] == "deferred"
    assert "client certificate" in without.results[0].text
    CA.issue_cert("us.invalid").private_key_and_cert_chain_pem.write_to_path(tmp_path / "us.pem")
    assert result(await hand(pool, hop, "verified", ca_file, client_certificate=tmp_path / "us.pem")) == (
        "accepted",
        "dot",
    )


async def test_a_tls_file_that_is_missing_or_damaged_defers(
    pool: Pool, hop: ScriptedServer, tmp_path: Path
) -> None:
    hop.tls = good()
    missing = await hand(pool, hop, "verified", tmp_path / "none.pem")
    assert result(missing) == ("deferred", "tls")
    assert "none.pem" in missing.results[0].text
    assert missing.tls_below
    (tmp_path / "bad.pem").write_text("nothing of the kind")
    damaged = await hand(pool, hop, "verified", tmp_path / "bad.pem")
    assert result(damaged) == ("deferred", "tls")
    assert hop.connections == 0


async def test_a_renewed_file_counts_from_the_next_connection_on(
    pool: Pool, hop: ScriptedServer, ca_file: Path
) -> None:
    other = trustme.CA()
    hop.tls = shown(other.issue_cert("localhost"))
    assert result(await hand(pool, hop, "verified", ca_file)) == ("deferred", "tls")
    other.cert_pem.write_to_path(ca_file)
    assert result(await hand(pool, hop, "verified", ca_file)) == ("accepted", "dot")


# ── AUTH ──────────────────────────────────────────────────────────────────────────────────────────


async def test_auth_is_used_over_tls(pool: Pool, hop: ScriptedServer, ca_file: Path, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret\nsecond line\n")
    hop.tls, hop.script = good(), Script(users={"us": "s3cret"})
    values = {"username": "us", "password_file": tmp_path / "password"}
    assert result(await hand(pool, hop, "verified", ca_file, **values)) == ("accepted", "dot")
    assert hop.mails[0].user == "us"


async def test_a_wrong_password_defers_all_with_the_reply(
    pool: Pool, hop: ScriptedServer, ca_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("wrong")
    hop.tls, hop.script = good(), Script(users={"us": "s3cret"})
    handed = await hand(pool, hop, "verified", ca_file, username="us", password_file=tmp_path / "password")
    assert result(handed) == ("deferred", "auth")
    assert handed.results[0].reply is not None
    assert handed.results[0].reply.code == 535


@pytest.mark.parametrize("level", ["none", "opportunistic"])
async def test_a_password_never_goes_in_clear(
    pool: Pool, hop: ScriptedServer, ca_file: Path, tmp_path: Path, level: str
) -> None:
    (tmp_path / "password").write_text("s3cret")
    hop.script = Script(users={"us": "s3cret"})
    handed = await hand(pool, hop, level, ca_file, username="us", password_file=tmp_path / "password")
    assert result(handed) == ("deferred", "auth")
    assert not [line for _, line in hop.lines if line.startswith("AUTH")]


async def test_a_password_file_that_is_missing_defers(
    pool: Pool, hop: ScriptedServer, ca_file: Path, tmp_path: Path
) -> None:
    hop.tls, hop.script = good(), Script(users={"us": "s3cret"})
    handed = await hand(pool, hop, "verified", ca_file, username="us", password_file=tmp_path / "none")
    assert result(handed) == ("deferred", "auth")


def test_the_public_roots_are_used_where_no_file_is_named() -> None:
    context = tls.context_of(route(25, tls="verified"))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not context.hostname_checks_common_name
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
