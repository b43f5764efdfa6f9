"""Who and what there is in a simulated world: names, addresses, certificates, and the service's config."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from resubmit.clock import SystemClock
from resubmit.lab.certs import Authority, Leaf
from resubmit.lab.hybrid import HybridServer
from resubmit.model.moment import Ms

HYBRID, ONLINE = "mail.contoso.invalid", "contoso-invalid.mail.protection.invalid"
PARTNER = "mx.partner.invalid"
INTAKE_PORT, ONLINE_PORT, HYBRID_PORT, PARTNER_PORT = 2500, 2501, 2502, 2503

TEAM, NOBODY, STRANGER = "team@contoso.invalid", "nobody@contoso.invalid", "stranger@partner.invalid"
PEOPLE = {kind: [f"{kind}{n}@contoso.invalid" for n in range(4)] for kind in ("cloud", "hybrid")}
PARTNERS = [f"partner{n}@partner.invalid" for n in range(3)]
MEMBERS = ("cloud1@contoso.invalid", "hybrid2@contoso.invalid", "hybrid3@contoso.invalid")
REACHED = {**{one: (one,) for one in (*PEOPLE["cloud"], *PEOPLE["hybrid"], *PARTNERS)}, TEAM: MEMBERS}
"""Whose mailboxes are behind an address; none for those nobody knows."""
ADDRESSES = [*PEOPLE["cloud"], *PEOPLE["hybrid"], *PEOPLE["hybrid"], *PARTNERS, TEAM, NOBODY, STRANGER]

CONFIG = """\
[journal]
path = "journal"
intake_floor = "1MiB"
attempt_floor = "1MiB"
reserve = "64KiB"

[intake.smtp]
listen = ["127.0.0.1:2500"]
hostname = "relay.contoso.invalid"

[[route]]
name = "eop"
host = "127.0.0.1"
port = 2501
tls = "verified"
tls_name = "contoso-invalid.mail.protection.invalid"
ca_file = "{roots}"

[[route]]
name = "partner"
host = "127.0.0.1"
port = 2503
tls = "verified"
tls_name = "mx.partner.invalid"
ca_file = "{roots}"
final = true

[[destination]]
name = "hybrid"
domains = ["contoso.invalid"]
handoff = "eop"
probe = "127.0.0.1:2502"
probe_level = "domain"
probe_name = "mail.contoso.invalid"
ca_file = "{roots}"

[[destination]]
name = "partner"
domains = ["partner.invalid"]
handoff = "partner"
exchange = false
probe_name = "mx.partner.invalid"
ca_file = "{roots}"

[[evidence.folder]]
path = "traces"
poll = "30s"

[recovery]
probe_interval = "60s"
"""


@cache
def base() -> Ms:
    """The real time at which every world of this process begins: OpenSSL goes by the real clock."""
    return SystemClock().now()


@cache
def authority() -> Authority:
    """The certificates of all worlds; two plays of one seed differ in nothing else either."""
    return Authority(Path(tempfile.mkdtemp(prefix="world-certs-")), base())


@cache
def leaf(kind: str, name: str) -> Leaf:
    made = authority()
    if kind == "wrong_name":
        return made.wrong_name(name, "other.invalid")
    return {"good": made.good, "expired": made.expired, "self_signed": made.self_signed}[kind](name)


async def be(server: HybridServer, kind: str, name: str) -> None:
    """The server is like this from now on."""
    if kind == "refused":
        await server.stop()
        return
    server.show(None if kind == "no_starttls" else leaf(kind, name))
    if server._server is None:
        await server.start()
