"""The cause table, line by line: every example is found by its own line, nothing in front of it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from resubmit.meaning.classify import codes, found_in, is_expiry, layers, meaning_of
from resubmit.meaning.table import SIGNS, known, signs
from resubmit.model.evidence import Cause, Mend, Scope

CASES = [(sign, example) for sign in signs() for example in sign.examples]
FOLDER = Path(__file__).parents[3] / "resubmit/meaning"


@pytest.mark.parametrize(("sign", "example"), CASES, ids=[f"{s.place}-{e[:24]}" for s, e in CASES])
def test_each_example_is_found_by_its_own_line(sign: object, example: str) -> None:
    found = found_in(example)
    assert found is not None
    assert found.sign is sign


def test_every_line_has_an_example_and_a_source() -> None:
    assert [s.place for s in signs() if not s.examples or not s.source] == []


def test_a_sign_asks_for_something() -> None:
    assert [s.place for s in signs() if not (s.says or s.enhanced or s.reply)] == []
    assert [p.text for s in signs() for p in s.says if min(map(len, p.needles)) < 2] == []


def test_everything_known_says_what_it_means_and_what_to_do_and_has_a_sign() -> None:
    assert [
        k.id for k in known().values() if not k.what.endswith(".") or not k.advice.endswith((".", ")"))
    ] == []
    assert {k.scope for k in known().values()} <= {*map(str, Scope), "hop", "client"}
    assert {s.known.id for s in signs()} == set(known())


def test_every_file_of_the_table_is_read_and_stays_readable() -> None:
    files = {path.stem: path for path in (FOLDER / "signs").glob("*.toml")}
    assert set(files) == set(SIGNS)
    assert {path.stem for path in (FOLDER / "causes").glob("*.toml")} == set(map(str, Cause))


REGISTERED = {1: 10, 2: 4, 3: 6, 4: 7, 5: 6, 6: 10, 7: 30}
REGISTRY = [f"{subject}.{detail}" for subject, last in REGISTERED.items() for detail in range(last + 1)]
"""The enumerated status codes of the IANA registry, but for X.0.0, which says nothing."""


@pytest.mark.parametrize("code", REGISTRY)
def test_every_registered_code_is_known_and_a_4xx_waits(code: str) -> None:
    permanent, transient = meaning_of(f"550 5.{code} Nanu"), meaning_of(f"450 4.{code} Nanu")
    assert permanent.sign
    assert transient.sign
    assert transient.mend in (Mend.TIME, Mend.GATE)


# microsoft.md section 4, row by row: text, cause, and what ends it
TABLE: list[tuple[str, Cause, Mend]] = [
    ("450 4.4.312 DNS query failed [Message=x]", Cause.CONNECTION, Mend.GATE),
    ("550 5.4.312 Message expired, DNS query failed", Cause.CONNECTION, Mend.GATE),
    ("450 4.4.315 Connection timed out [Message=Socket error code 10060]", Cause.CONNECTION, Mend.GATE),
    ("450 4.4.316 Connection refused [Message=Socket error code 10061]", Cause.CONNECTION, Mend.GATE),
    ("550 5.4.316 Message expired, connection refused(Socket error code 10061)", Cause.CONNECTION, Mend.GATE),
    (
        "450 4.4.317 Cannot connect to remote server [Message=CertificateExpired Expected",
        Cause.TLS,
        Mend.GATE,
    ),
    ("450 4.4.317 X [Message=SubjectMismatch Expected Subject: *.a.b]", Cause.TLS, Mend.GATE),
    ("450 4.4.317 X [Message=UntrustedRoot a]", Cause.TLS, Mend.GATE),
    ("450 4.4.317 X [Message=UnableToBuildChain a]", Cause.TLS, Mend.GATE),
    ("450 4.4.317 X [Message=EmptyCertificate a]", Cause.TLS, Mend.GATE),
    ("450 4.4.317 X [Message=Revoked a]", Cause.TLS, Mend.GATE),
    ("450 4.4.317 X [Message=451 4.4.0 TLS negotiation failed with error SocketError]", Cause.TLS, Mend.GATE),
    ("450 4.4.317 X [Message=451 5.7.3 STARTTLS is required to send mail]", Cause.TLS, Mend.GATE),
    ("450 4.4.317 X [Message=Failed to connect. Winsock error code: 995]", Cause.CONNECTION, Mend.GATE),
    (
        "550 5.4.317 Message expired, cannot connect to remote server"
        "(451 5.7.3 STARTTLS is required to send mail)",
        Cause.TLS,
        Mend.GATE,
    ),
    ("450 4.4.318 Connection was closed abruptly", Cause.CONNECTION, Mend.GATE),
    ("550 5.7.321 starttls-not-supported: Destination mail server must support TLS", Cause.TLS, Mend.GATE),
    (
        "550 5.7.322 certificate-expired: Destination mail server's certificate is expired.",
        Cause.TLS,
        Mend.GATE,
    ),
    ("451 4.7.323 tlsa-invalid: The domain failed DANE validation.", Cause.TLS, Mend.GATE),
    (
        "451 5.7.3 STARTTLS is required to send mail [PA7P264CA0250.FRAP264.PROD.OUTLOOK.COM]",
        Cause.TLS,
        Mend.GATE,
    ),
    (
        "451 4.4.397 Error communicating with target host. -> 421 4.2.1 Unable to connect",
        Cause.CONNECTION,
        Mend.GATE,
    ),
    ("550 4.4.7 QUEUE.Expired; message expired", Cause.EXPIRED, Mend.PERSON),
    ("550 5.4.300 Message expired -> 451 5.7.3 STARTTLS is required to send mail", Cause.TLS, Mend.GATE),
    ("550 5.7.64 TenantAttribution; Relay Access Denied [ATTR36]", Cause.POLICY, Mend.GATE),
    ("451 4.7.500 Server busy. Please try again later from [1.2.3.4]. (AS761)", Cause.THROTTLE, Mend.TIME),
    ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found", Cause.RECIPIENT, Mend.NEVER),
    ("554 5.2.2 mailbox full; STOREDRV.Deliver.Exception:QuotaExceededException", Cause.MAILBOX, Mend.PERSON),
    ("552 5.3.4 Message size exceeds fixed maximum message size", Cause.SIZE, Mend.NEVER),
    ("550 5.6.11 Invalid characters", Cause.CONTENT, Mend.NEVER),
    ("550 5.4.1 Recipient address rejected: Access denied. AS(201806281)", Cause.RECIPIENT, Mend.PERSON),
]


@pytest.mark.parametrize(("text", "cause", "mend"), TABLE, ids=[t[0][:48] for t in TABLE])
def test_rows_of_the_facts(text: str, cause: Cause, mend: Mend) -> None:
    meaning = meaning_of(text)
    assert (meaning.cause, meaning.mend) == (cause, mend)


def test_unknown_text_is_other_and_never_tls_by_guess() -> None:
    later = meaning_of("450 4.9.9 Nanu")
    never = meaning_of("599 Nanu TLSX certificates are nice")
    assert (later.cause, later.scope, later.mend, later.sign) == (Cause.OTHER, Scope.MESSAGE, Mend.TIME, "")
    assert (never.cause, never.scope, never.mend, never.sign) == (Cause.OTHER, Scope.MESSAGE, Mend.PERSON, "")


def test_a_fault_between_two_ends_is_the_routes_when_we_were_one_of_them() -> None:
    text = "451 5.7.3 STARTTLS is required to send mail"
    assert meaning_of(text, where="mail").scope is Scope.ROUTE
    assert meaning_of(text).scope is Scope.DESTINATION


def test_a_throttle_somebody_else_met_is_not_our_routes() -> None:
    assert meaning_of("451 4.7.500 Server busy", where="rcpt").scope is Scope.ROUTE
    assert meaning_of("451 4.7.500 Server busy").scope is Scope.MESSAGE


def test_the_step_that_failed_tells_where_the_text_does_not() -> None:
    assert meaning_of("odd", where="tls").cause is Cause.TLS
    assert meaning_of("odd", where="connect").cause is Cause.CONNECTION
    assert meaning_of("odd", where="rcpt").cause is Cause.OTHER
    assert meaning_of("550 odd", where="greeting").cause is Cause.OTHER  # a reply was read: not the network


def test_a_4xx_is_transient_whatever_enhanced_code_follows() -> None:
    assert meaning_of("450 5.1.1 Nein").mend is Mend.TIME


def test_code_and_enhanced_code_may_come_apart_from_the_text() -> None:
    assert meaning_of("Nein", code=550, enhanced="5.1.1").cause is Cause.RECIPIENT


def test_layers_are_cut_where_replies_are_nested() -> None:
    text = (
        "450 4.7.0 Proxy session setup failed on Frontend with '451 4.4.0 Primary target IP address "
        'responded with: "451 4.4.0 Security status InvalidToken." Attempted failover'
    )
    assert [(layer.code, layer.enhanced) for layer in layers(text)] == [
        ("450", "4.7.0"),
        ("451", "4.4.0"),
        ("451", "4.4.0"),
    ]


@pytest.mark.parametrize(
    ("text", "expiry"),
    [
        ("550 5.4.316 Message expired, connection refused", True),
        ("550 5.4.300 Message expired", True),
        ("550 4.4.7 QUEUE.Expired; message expired", True),
        ("550 5.7.322 certificate-expired: Destination mail server's certificate is expired.", True),
        ("400 4.4.7 Message delayed", False),
        ("450 4.4.317 Cannot establish session", False),
        ("550 5.1.1 User unknown", False),
    ],
)
def test_giving_up_is_told_from_refusal(text: str, expiry: bool) -> None:
    assert is_expiry(text) is expiry


def test_codes_at_the_start() -> None:
    assert codes("450-4.4.317 x") == (450, "4.4.317")
    assert codes("Connection refused") == (None, "")
    assert codes("4.7.5 x") == (None, "4.7.5")


def test_classifying_loads_nothing_heavy() -> None:
    code = (
        "import sys; from resubmit.meaning.classify import meaning_of; meaning_of('550 5.1.1 x');"
        "sys.exit(any(m in sys.modules for m in ('pydantic', 'structlog', 'asyncio', 'sqlite3')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def lines(name: str) -> list[tuple[str, str]]:
    """Cause and text, a line each."""
    rows = Path(__file__).with_name(name).read_text("utf-8").splitlines()
    return [(cause, text) for cause, _, text in (row.partition("\t") for row in rows)]


MICROSOFT, SERVERS = lines("microsoft.txt"), lines("servers.txt")


@pytest.mark.parametrize(("cause", "text"), MICROSOFT, ids=[text[:40] for _, text in MICROSOFT])
def test_microsofts_replies_have_their_cause(cause: str, text: str) -> None:
    """Code by code as published; alternatives and gaps stand as they do there."""
    assert meaning_of(text).cause == cause


@pytest.mark.parametrize(("cause", "text"), SERVERS, ids=[text[:40] for _, text in SERVERS])
def test_what_servers_say_in_their_own_words_has_its_cause(cause: str, text: str) -> None:
    """None of these is an example of the table: it has to know them by what they have in common."""
    assert meaning_of(text).cause == cause


def test_thousands_of_texts_are_read_in_a_second_or_so() -> None:
    texts = [f"{example} {n}" for n in range(3) for _, example in CASES]
    for text in texts[:800]:
        meaning_of(text)  # compiles what is used
    started = time.process_time()
    for text in texts:
        meaning_of(text)
    each = (time.process_time() - started) / len(texts)

    assert each < 0.001
