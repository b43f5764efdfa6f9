"""The lab's Graph with a trace that is written by hand, and a config table for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from resubmit.clock import Clock
from resubmit.evidence.settings import Graph
from resubmit.lab.certs import Authority
from resubmit.lab.graph import GraphLab
from resubmit.lab.trace import Row, Step, Trace
from resubmit.model.moment import Ms

CUT = (
    "Reason: [{LED=450 4.4.317 Cannot connect to remote server [Message=CertificateExpired Expected Subject: "
    "mail.contoso.com. Presented Subject: CN=mail.contoso.com. Thumbprint: 94E711DD84BC285CD2911DAC3D0C9.] "
    "[LastAttemptedServerName=mail.contoso.com] [LastAttemptedIP=198.51.100.7:25] [SmtpSecurity=-1;-1] "
    "[AM0PEPF00000001.eurprd00.prod.outlook.com 2026-11-23T09:16:13.514Z 08DE2A6C1B01F00D]};{MSG=};"
    "{FQDN=mail.contoso.com};{IP=198.51.100.7};{LRT=11/23/2026 9:16:13 AM}]"
)


def network_id(number: int) -> str:
    return f"b7c1f4d2-9a6e-4c3b-8f2d-{number:012x}"


def row(
    number: int,
    at: Ms,
    status: str = "Pending",
    *,
    recipient: str = "ann@contoso.com",
    message_id: str = "",
    deferred: bool = False,
) -> Row:
    """A row that was received at a time and has one status; `deferred`: with a Defer of TLS."""
    made = Row(
        network_id(number),
        number,
        message_id or f"<{number}@example.org>",
        at,
        "app@example.org",
        recipient,
        "a letter",
        1000,
        "203.0.113.25",
        "AM0PR00MB0001",
    )
    made.add(Step(at, "Receive", "Pending", "Message received by: am0pr00mb0001"))
    if deferred:
        made.add(Step(at + 1000, "Defer", "Pending", CUT, "450 4.4.317", "mail.contoso.com", "198.51.100.7"))
    if status != "Pending":
        made.add(Step(at + 2000, "Deliver" if status == "Delivered" else "Fail", status, "It was so."))
    return made


@asynccontextmanager
async def graph(folder: Path, clock: Clock, *rows: Row, now: Ms | None = None) -> AsyncIterator[GraphLab]:
    """The lab's Graph over TLS with these rows."""
    authority = Authority(folder / "ca", now if now is not None else clock.now())
    trace = Trace()
    trace.rows += rows
    lab = GraphLab(trace, clock=clock, tls=authority.good("localhost").context())
    (folder / "secret").write_text(lab.sign_in.secret + "\n")
    async with lab:
        yield lab


def settings(lab: GraphLab, folder: Path, **more: object) -> Graph:
    """What a config says of the lab's Graph."""
    given: dict[str, object] = {
        "tenant": lab.sign_in.tenant,
        "client_id": lab.sign_in.client_id,
        "client_secret_file": folder / "secret",
        "endpoint": lab.endpoint,
        "login": lab.login,
        "ca_file": folder / "ca" / "lab-root.pem",
        **more,
    }
    return Graph.model_validate({key: value for key, value in given.items() if value is not None})


@cache
def application() -> tuple[bytes, bytes]:
    """The application's certificate and its key, PEM."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "resubmit")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.public_bytes(Encoding.PEM), private
