"""A config is taken whole or refused with everything that is wrong in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from resubmit.config import LATER, Tables, load
from resubmit.errors import ConfigError, UsageError

ROOT = Path(__file__).parents[3]

CONTRACT = """
[journal]
path = "journal"                      # folder for database, bodies, lock and socket
# intake_floor, attempt_floor, reserve

[intake.smtp]
listen = ["127.0.0.1:2525"]           # [] switches it off
allow = ["127.0.0.0/8", "::1/128"]    # networks that may relay
max_message_size = "35MiB"
# tls_certificate, tls_key, connection limits

[[route]]
name = "eop"
host = "contoso-com.mail.protection.outlook.com"
port = 25
tls = "verified"                      # none | opportunistic | required | verified
final = false                         # true: a 250 on this route is a delivery

[[destination]]
name = "hybrid"
domains = ["contoso.com", "*.contoso.com"]   # "*" is the rest
handoff = "eop"                       # route of the first attempt
resubmit = "eop"                      # route of a resubmission
exchange = true                       # the far side drops duplicates by Message-ID and date
expires_after = "24h"
far_retry = "60m"                     # how long the far side may take to try again by itself
probe = "mail.contoso.com:25"         # whose TLS decides; none: the route's host
probe_level = "domain"                # encrypt | certificate | domain
probe_name = "*.contoso.com"          # the connector's TlsDomain

[[evidence.folder]]
path = "traces"                       # any file explain understands; files stay where they are

[[evidence.log]]
kind = "postfix_log"
path = "/var/log/mail.log"
position = "beside"                   # before us | beside us | behind us, on the mail's way

[evidence.graph]
tenant = "…"
client_id = "…"
client_secret_file = "…"              # or certificate_file
endpoint = "https://graph.microsoft.com/v1.0"

[recovery]
mode = "automatic"                    # automatic | manual | observe
stuck_after = "15m"
deadline_margin = "2h"
watch_interval = "5m"                 # while all is well
probe_interval = "20s"                # while a gate is not open
healthy_probes = 3
settle = "10m"
trace_lag = "15m"                     # how late a trace tells
trace_stale = "1h"                    # older coverage is no coverage
canary = 1                            # then five times as many, and again, then the drain
rate = "300/m"                        # "unlimited" for none
max_attempts = 5
in_doubt_wait = "10m"
give_up_after = "5d"                  # what we hold ourselves
suspect = "ask"                       # ask | resubmit: accepted in a fault window, no trace to tell
expired = "resubmit"                  # resubmit | ask: the sender has had an NDR

[retention]
delivered = "7d"
settled = "30d"
unproven = "30d"

[web]
listen = "127.0.0.1:8025"             # "" switches it off; /metrics, /healthz and /readyz live here

[log]
format = "auto"                       # auto | json | console
level = "info"
"""
"""The config of design 6.2, word for word but for a comment."""

SMALL = """
[[route]]
name = "eop"
host = "mx.example.com"
[[destination]]
name = "hybrid"
domains = ["example.com"]
handoff = "eop"
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    file.write_text(text, encoding="utf-8")
    return file


def problems(folder: Path, text: str) -> list[str]:
    file = written(folder, text)
    with pytest.raises(ConfigError) as raised:
        load(file)
    assert all(line.startswith(f"{file}: ") for line in raised.value.problems)
    return [line.removeprefix(f"{file}: ") for line in raised.value.problems]


def test_the_contracts_config_is_valid_as_it_stands(tmp_path: Path) -> None:
    config = load(written(tmp_path, CONTRACT))

    assert config.route_named("eop").host == "contoso-com.mail.protection.outlook.com"
    assert config.recovery.settle == 600_000
    graph = ["client_secret_file", "tenant", "client_id"]
    assert [w.split(": ")[1] for w in config.warnings] == [f"evidence.graph.{key}" for key in graph]


def test_the_example_config_is_valid_and_warns_of_nothing() -> None:
    assert load(ROOT / "config.example.toml").warnings == ()


def test_the_example_config_names_every_key_but_those_of_later_tables() -> None:
    text = (ROOT / "config.example.toml").read_text()
    for name, field in Tables.model_fields.items():
        tables = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for table in tables:
            for key in getattr(table, "model_fields", {}):
                if name in ("intake", "evidence") or f"{name}.{key}" in LATER:
                    continue
                assert f"{key} = " in text, f"{name}.{key}"


def test_paths_are_relative_to_the_config_file(tmp_path: Path) -> None:
    (tmp_path / "roots.pem").touch()
    text = (
        SMALL.replace("host =", 'ca_file = "roots.pem"\nhost =') + '[[evidence.folder]]\npath = "../traces"\n'
    )

    config = load(written(tmp_path, text))

    assert config.journal.path == tmp_path / "journal"
    assert config.route[0].ca_file == tmp_path / "roots.pem"
    assert config.evidence.folder[0].path == tmp_path / "../traces"


def test_a_left_out_resubmit_route_is_that_of_the_handoff(tmp_path: Path) -> None:
    assert load(written(tmp_path, SMALL)).destination_named("hybrid").resubmit == "eop"


@pytest.mark.parametrize(("text", "on"), [("", False), ("[web]", True), ('[web]\nlisten = ""', False)])
def test_the_web_listener_is_off_when_left_out_or_emptied(tmp_path: Path, text: str, on: bool) -> None:
    assert (load(written(tmp_path, SMALL + text)).web is not None) == on


def test_five_mistakes_are_five_lines(tmp_path: Path) -> None:
    lines = problems(
        tmp_path,
        """
        [journal]
        paht = "x"
        [[route]]
        name = "eop"
        host = "mx.example.com"
        port = 70000
        tls = "yes"
        [[destination]]
        name = "hybrid"
        domains = ["example.com"]
        handoff = "eopp"
        expires_after = 24
        """,
    )

    assert lines == [
        'journal.paht: unknown key; did you mean "path"?',
        "route[0].port: 70000 is not allowed; a whole number from 1 to 65535",
        'route[0].tls: "yes" is not allowed; one of "none", "opportunistic", "required", "verified"',
        "destination[0].expires_after: 24 is not allowed; a duration is a text like 90s, 15m, 24h or 1d12h",
        'destination[0].handoff: "eopp" is no route; did you mean "eop"?',
    ]


CASES = {
    "missing key": ("[[route]]\nname = 'a'", "route[0].host: missing; it has to be given: a text, not empty"),
    "bool as number": (
        "[recovery]\ncanary = true",
        "recovery.canary: true is not allowed; a whole number from 1 up",
    ),
    "text as bool": (
        SMALL + "exchange = 'no'",
        'destination[0].exchange: "no" is not allowed; true or false',
    ),
    "no network": (
        "[intake.smtp]\nallow = ['10.0.0.0/99']",
        'intake.smtp.allow[0]: "10.0.0.0/99" is not allowed; a network like 10.0.0.0/8 or 2001:db8::/32',
    ),
    "no port": (
        "[intake.smtp]\nlisten = ['localhost']",
        'intake.smtp.listen[0]: "localhost" is not allowed; '
        "an address like 127.0.0.1:2525, [::1]:2525 or mail.example.com:25",
    ),
    "table at the top": ("[smtp]", 'smtp: unknown key; did you mean "intake.smtp"?'),
    "one bracket": (
        "[route]\nname = 'x'",
        "route: a table is not allowed; there may be several: write [[route]]",
    ),
    "value for a table": ("journal = 5", "journal: 5 is not allowed; a table: write [journal]"),
    "text for a list": (
        SMALL.replace('["example.com"]', '"example.com"'),
        'destination[0].domains: "example.com" is not allowed; a list in [ ]',
    ),
    "name twice": (
        SMALL + "[[route]]\nname = 'eop'\nhost = 'b'",
        'route[1].name: "eop" is taken by route[0]; each needs its own',
    ),
    "domain twice": (
        SMALL + "[[destination]]\nname='b'\nhandoff='eop'\ndomains=['EXAMPLE.com']",
        'destination[1].domains[0]: "EXAMPLE.com" is listed by destination[0].domains[0] too; '
        "a domain has one destination",
    ),
    "no domain": (
        SMALL.replace('example.com"]', '@example.com"]'),
        'destination[0].domains[0]: "@example.com" is not allowed; a domain, "*.domain" (those below it) or "*"',  # noqa: E501
    ),
    "half a certificate": (
        "[intake.smtp]\ntls_key = 'config.toml'",
        "intake.smtp.tls_key: needs tls_certificate beside it",
    ),
    "no zone": (
        "[[evidence.folder]]\npath = 'x'\ntimezone = 'Mars/Base'",
        'evidence.folder[0].timezone: "Mars/Base" is not allowed; a name like Europe/Berlin',
    ),
    "floors": (
        "[journal]\nattempt_floor = '1GiB'",
        "journal.attempt_floor: is above intake_floor; outcomes need room that intake leaves",
    ),
    "a later table is checked too": (
        "[evidence.graph]\ntenant = 't'\nclient_id = 'c'\nendpont = 'x'",
        'evidence.graph.endpont: unknown key; did you mean "endpoint"?',
    ),
    "no route at all": (
        "[[destination]]\nname = 'b'\nhandoff = 'eop'\ndomains = ['*']",
        'destination[0].handoff: "eop" is no route; this file has no [[route]]',
    ),
    "rate": (
        "[recovery]\nrate = 300",
        "recovery.rate: 300 is not allowed; a rate is a text like 300/m, 5/s or 1000/h, or unlimited",
    ),
    "blank in our name": (
        "[intake.smtp]\nhostname = 'our relay'",
        'intake.smtp.hostname: "our relay" is not allowed; a host name of letters, digits, dots and hyphens',
    ),
    "line end in EHLO": (
        SMALL.replace("host =", 'ehlo_name = "a\\r\\nb"\nhost ='),
        'route[0].ehlo_name: "a\\r\\nb" is not allowed; a host name of letters, digits, dots and hyphens',
    ),
    "bracket in RCPT": (
        SMALL + "probe_recipient = '<ann@example.com>'",
        'destination[0].probe_recipient: "<ann@example.com>" is not allowed; an address like a@b.com',
    ),
    "blank in the connector's name": (
        SMALL + "probe_name = 'mail example.com'",
        'destination[0].probe_name: "mail example.com" is not allowed; a name or "*.domain"',
    ),
    "port in the host": (
        SMALL.replace('host = "', 'host = "mx:25" #'),
        'route[0].host: "mx:25" is not allowed; the port goes into port',
    ),
    "busy loop": (
        "[recovery]\nprobe_interval = '0s'",
        'recovery.probe_interval: "0s" is not allowed; a duration above zero, like 90s, 15m, 24h or 1d12h',
    ),
    "beyond the calendar": (
        "[retention]\nsettled = '99999999d'",
        'retention.settled: "99999999d" is not allowed; a duration is at most 36500d',
    ),
    "no size": (
        "[intake.smtp]\nmax_message_size = '0MiB'",
        'intake.smtp.max_message_size: "0MiB" is not allowed; no mail would be taken',
    ),
    "no path": ("[journal]\npath = ''", 'journal.path: "" is not allowed; a path, relative to this file'),
    "listening twice": (
        "[intake.smtp]\nlisten = ['127.0.0.1:2525', '127.0.0.1:2525']",
        'intake.smtp.listen[1]: "127.0.0.1:2525" is listed twice',
    ),
    "probe without a port": (
        SMALL + "probe = 'mail.example.com:0'",
        'destination[0].probe: "mail.example.com:0" is not allowed; a port from 1 up',
    ),
    "password in the clear": (
        SMALL.replace("host =", "username = 'u'\npassword_file = 'config.toml'\ntls = 'none'\nhost ="),
        'route[0].username: a password goes over TLS only; set tls to "required" or "verified"',
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_says_what_is_allowed(tmp_path: Path, case: str) -> None:
    text, expected = CASES[case]

    assert problems(tmp_path, text) == [expected]


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    lines = problems(tmp_path, SMALL.replace("host =", "ca_file = 'roots.pem'\nhost ="))

    assert lines == [f'route[0].ca_file: "roots.pem" is no file; looked for {tmp_path / "roots.pem"}']


def test_a_secret_in_the_config_is_refused_and_not_shown(tmp_path: Path) -> None:
    lines = problems(tmp_path, SMALL.replace("host =", "password = 'hunter2'\nhost ="))

    assert lines == ['route[0].password: unknown key; did you mean "password_file"?']


def test_what_is_no_toml_says_its_line(tmp_path: Path) -> None:
    assert problems(tmp_path, "[journal]\npath 5\n") == [
        "line 2, column 6: not TOML: Expected '=' after a key in a key/value pair"
    ]


def test_what_is_not_utf8_says_its_line(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b'[journal]\npath = "\xe4"\n')

    with pytest.raises(ConfigError, match="line 2: not UTF-8"):
        load(file)


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read"):
        load(tmp_path / "none.toml")


def test_loading_makes_nothing(tmp_path: Path) -> None:
    load(written(tmp_path, SMALL))

    assert [p.name for p in tmp_path.iterdir()] == ["config.toml"]


def test_a_config_without_routes_warns(tmp_path: Path) -> None:
    assert load(written(tmp_path, "")).warnings[0].endswith("every recipient gets 550 5.4.4")


@pytest.mark.parametrize(
    ("route", "destination", "expected"),
    [
        ('tls = "none"', "", ("none", "", "10.0.0.1")),
        ('tls = "opportunistic"', "", ("opportunistic", "", "10.0.0.1")),
        ('tls = "required"', "", ("encrypt", "", "10.0.0.1")),
        ('tls = "verified"\ntls_name = "smart.invalid"', "", ("domain", "smart.invalid", "10.0.0.1")),
        ("", "", ("domain", "", "10.0.0.1")),
        ('tls = "none"', 'probe_level = "certificate"', ("certificate", "", "10.0.0.1")),
        ('tls = "none"', 'probe_level = "domain"', ("domain", "", "10.0.0.1")),
        ('tls = "none"', 'probe = "mail.invalid"', ("domain", "", "mail.invalid")),
        ('tls = "none"', 'probe_name = "*.b.invalid"', ("none", "*.b.invalid", "10.0.0.1")),
        ('tls_name = "a.invalid"', 'probe_name = "*.b.invalid"', ("domain", "*.b.invalid", "10.0.0.1")),
        ('tls_name = "a.invalid"', 'probe = "mail.invalid"', ("domain", "", "mail.invalid")),
    ],
)
def test_a_probe_asks_no_more_than_the_route_unless_it_is_told(
    tmp_path: Path, route: str, destination: str, expected: tuple[str, str, str]
) -> None:
    text = f"""
[[route]]
name = "out"
host = "10.0.0.1"
{route}
[[destination]]
name = "rest"
domains = ["*"]
handoff = "out"
{destination}
"""
    config = load(written(tmp_path, text))
    found = config.endpoint_of(config.destination_named("rest"))
    assert (found.level, found.tls_domain, found.host) == expected


def test_the_probe_of_a_route_is_as_strict_as_the_route(tmp_path: Path) -> None:
    levels = {}
    for tls in ("none", "opportunistic", "required", "verified"):
        text = f'[[route]]\nname = "out"\nhost = "h.invalid"\ntls = "{tls}"\n'
        config = load(written(tmp_path, text))
        levels[tls] = config.endpoint_of_route(config.route_named("out")).level
    assert levels == {
        "none": "none", "opportunistic": "opportunistic", "required": "encrypt", "verified": "domain",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        ('["127.0.0.1:2525"]', "127.0.0.1", 2525),
        ('["0.0.0.0:25"]', "127.0.0.1", 25),
        ('[":25"]', "127.0.0.1", 25),
        ('["[::]:25"]', "::1", 25),
        ('["127.0.0.1:0", "10.0.0.1:26"]', "10.0.0.1", 26),
        ('["127.0.0.1:0"]', None, None),
        ("[]", None, None),
    ],
)
def test_our_listener_is_looked_at_where_a_client_here_meets_it(
    tmp_path: Path, listen: str, host: str | None, port: int | None
) -> None:
    for name in ("own.pem", "own.key"):
        (tmp_path / name).write_text("")
    smtp = f"[intake.smtp]\nlisten = {listen}\n"
    assert load(written(tmp_path, smtp)).endpoint_of_listener() is None, "without a certificate"
    keys = 'tls_certificate = "own.pem"\ntls_key = "own.key"\n'
    found = load(written(tmp_path, smtp + keys)).endpoint_of_listener()
    assert (found.host, found.port) == (host, port) if found else host is None


GRAPH = SMALL + "\n[evidence.graph]\ntenant = 'contoso.com'\nclient_id = 'c'\n"


def test_a_trace_that_cant_be_asked_is_a_warning_for_mail_goes_without_it(tmp_path: Path) -> None:
    (line,) = load(written(tmp_path, GRAPH)).warnings
    assert "needs client_secret_file or certificate_file" in line
    (line,) = load(written(tmp_path, GRAPH + "client_secret_file = 's'\n")).warnings
    assert f"client_secret_file: {tmp_path / 's'} is no file" in line
    (tmp_path / "s").write_text("secret")
    assert load(written(tmp_path, GRAPH + "client_secret_file = 's'\n")).warnings == ()


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("endpoint = 'http://graph.microsoft.com/v1.0'", "endpoint"),
        ("login = 'https://u:p@login.example'", "login"),
        ("login = 'ftp://login.example'", "login"),
        ("certificate_file = 'x'", "certificate_file"),
        ("from_ip = 'us'", "from_ip"),
        ("budget = 101", "budget"),
    ],
)
def test_a_secret_is_sent_to_safe_places_only(tmp_path: Path, line: str, key: str) -> None:
    (found,) = problems(tmp_path, GRAPH + f"client_secret_file = 's'\n{line}\n")
    assert found.startswith(f"evidence.graph.{key}: ")


def test_a_lab_of_this_machine_needs_no_tls(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("secret")
    text = GRAPH + "client_secret_file = 's'\nendpoint = 'http://127.0.0.1:8080/v1.0'\n"
    assert load(written(tmp_path, text)).warnings == ()
