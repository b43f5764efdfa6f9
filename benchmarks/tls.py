"""`python -m benchmarks.tls`: one bench of misbehaving servers, seen by our probe and by three other tools.

Writes the table of docs/tls-tools.md. A tool that is not installed has a dash in its column. What a tool says
is cut down to the line with which it names a fault; "no fault" means that it ended well and named none.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import socket
import ssl
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from resubmit.clock import SystemClock
from resubmit.model.tls import Endpoint, Severity
from resubmit.probe.look import look
from tests.helpers import certs
from tests.helpers.odd_tls import CUT, HANG, Manners, serving

NAME = "mail.test.invalid"
PAGE = Path(__file__).parents[1] / "docs" / "tls-tools.md"
LIMIT = 12.0
DAY = certs.DAY
SIGNS = (
    x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    ),
    True,
)
"""What a CA's certificate has to say of itself (RFC 5280 §4.2.1.3)."""
ROOT = certs.root(more=[SIGNS])
MIDDLE = certs.intermediate(ROOT, more=[SIGNS])


@dataclass(frozen=True)
class Case:
    """A server, what is wrong with it in words, and how it is made."""

    wrong: str
    made: Callable[[], Manners]


def _sent(*chain: certs.Made, seclevel: int = 2, ciphers: str = "") -> Callable[[], Manners]:
    return lambda: Manners(certs.server_context(chain, seclevel=seclevel, ciphers=ciphers))


def _old_tls() -> Manners:
    context = certs.server_context([certs.leaf(MIDDLE), MIDDLE], seclevel=0)
    with warnings.catch_warnings(action="ignore"):  # that is the point
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    return Manners(context)


def _wants_client() -> Manners:
    context = certs.server_context([certs.leaf(MIDDLE), MIDDLE])
    context.verify_mode = ssl.CERT_REQUIRED
    return Manners(context)


def cases() -> list[Case]:
    """Every server of the table, in the order an administrator would mend them."""
    good = certs.leaf(MIDDLE)
    private = certs.root("Private Root", "Private", more=[SIGNS])
    between = certs.intermediate(private, "Private CA", more=[SIGNS])
    upper = certs.intermediate(ROOT, "Upper CA", more=[SIGNS])
    lower = certs.intermediate(upper, "Lower CA", more=[SIGNS])
    no_starttls = b"250-mail.test.invalid hello\r\n250 SIZE 1000\r\n"
    masked = b"220 ****************************************\r\n"
    mangled = b"250-mail.test.invalid hello\r\n250-SIZE 1000\r\n250 XXXXXXXA\r\n"
    two = certs.leaf(
        certs.intermediate(ROOT, "Unsent CA", more=[SIGNS]),
        dns=["other.test.invalid"],
        ends=-DAY,
        starts=-90 * DAY,
    )
    return [
        Case("nothing", _sent(good, MIDDLE)),
        Case("a greeting that never comes", lambda: Manners(greeting=HANG)),
        Case("hangs up before its greeting", lambda: Manners(greeting=CUT)),
        Case("refuses as listed", lambda: Manners(greeting=b"554 5.7.1 192.0.2.1 is listed at zen\r\n")),
        Case("no STARTTLS", lambda: Manners(ehlo=no_starttls)),
        Case("a firewall masks the banner", lambda: Manners(greeting=masked, ehlo=no_starttls)),
        Case("a firewall overwrites the keyword", lambda: Manners(ehlo=mangled)),
        Case("EHLO unknown", lambda: Manners(ehlo=b"500 unrecognized\r\n")),
        Case("STARTTLS refused", lambda: Manners(starttls=b"454 4.7.0 TLS not available\r\n")),
        Case("hangs up after STARTTLS", lambda: Manners(after_hello=CUT)),
        Case("clear text after STARTTLS", lambda: Manners(after_hello=b"220 hello again\r\n")),
        Case("TLS 1.1 at most", _old_tls),
        Case("a client certificate demanded", _wants_client),
        Case("expired", _sent(certs.leaf(MIDDLE, starts=-90 * DAY, ends=-DAY), MIDDLE)),
        Case("not yet valid", _sent(certs.leaf(MIDDLE, starts=2 * DAY), MIDDLE)),
        Case("ends in a week", _sent(certs.leaf(MIDDLE, ends=7 * DAY), MIDDLE)),
        Case("self-signed", _sent(certs.leaf(None))),
        Case("a private CA", _sent(certs.leaf(between), between)),
        Case("the intermediate not sent", _sent(good)),
        Case("the chain in the wrong order", _sent(certs.leaf(lower), upper, lower)),
        Case("for another name", _sent(certs.leaf(MIDDLE, dns=["other.test.invalid"]), MIDDLE)),
        Case("the name in the CN only", _sent(certs.leaf(MIDDLE, has_san=False), MIDDLE)),
        Case("a key of 1024 bits", _sent(certs.leaf(MIDDLE, key="rsa1024"), MIDDLE, seclevel=0)),
        Case("made for clients", _sent(certs.leaf(MIDDLE, usage=ExtendedKeyUsageOID.CLIENT_AUTH), MIDDLE)),
        Case("expired, another name, no intermediate", _sent(two)),
        Case("EHLO refused after TLS", lambda: Manners(_context(good), tls_ehlo=b"550 no\r\n")),
        Case("the sender refused after TLS", lambda: Manners(_context(good), mail=b"550 5.7.1 no\r\n")),
    ]


def _context(good: certs.Made) -> ssl.SSLContext:
    return certs.server_context([good, MIDDLE])


async def ours(port: int, ca_file: str) -> str:
    """The codes of our probe, warnings in brackets."""

    async def here(host: str, port: int, **_: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    loop = asyncio.get_running_loop()
    loop.getaddrinfo = here  # type: ignore[method-assign,assignment]
    try:
        verdict = await look(
            Endpoint(NAME, port, ca_file=ca_file),
            clock=SystemClock(),
            timeout=5_000,
            ehlo_name="probe.test.invalid",
        )
    finally:
        del loop.getaddrinfo
    found = [f for one in verdict.addresses for f in one.findings] + list(verdict.findings)
    grave = dict.fromkeys(f.code for f in found if f.severity in (Severity.FAULT, Severity.UNKNOWN))
    light = dict.fromkeys(f.code for f in found if f.severity is Severity.WARNING and f.code not in grave)
    return " ".join([*grave, *(f"({code})" for code in light)]) or "no fault"


async def _said(*words: str) -> str | None:
    """What a program says until it ends; None where it is not installed."""
    program = shutil.which(words[0], path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        return None
    process = await asyncio.create_subprocess_exec(
        program,
        *words[1:],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), LIMIT)
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"(said nothing for {LIMIT:.0f} s)"
    return out.decode("utf-8", "replace")


async def posttls_finger(port: int, ca_file: str) -> str:
    """At the level `secure`, with the same root."""
    # Its way to a port of this machine by name: the name is checked, the address is connected to.
    said = await _said(
        "posttls-finger", "-c", "-l", "secure", "-F", ca_file, "-T", "5", f"[127.0.0.1]:{port}", NAME
    )
    if said is None:
        return "-"
    lines = [re.sub(r"^posttls-finger: ", "", line) for line in said.splitlines()]
    for sign in (
        "verification failed",
        "Server certificate",
        "STARTTLS",
        "handshake",
        "lost connection",
        "refused",
    ):
        for line in lines:
            if sign.lower() in line.lower() and not line.startswith(("> ", "< ")):
                return _short(line)
    if any("Verified TLS connection" in line for line in lines):
        return "no fault"
    return _short(lines[-1]) if lines else "nothing"


async def openssl(port: int, ca_file: str) -> str:
    """`s_client -starttls smtp`, verifying chain and name."""
    said = await _said(
        "openssl", "s_client", "-starttls", "smtp", "-connect", f"127.0.0.1:{port}", "-servername", NAME,
        "-CAfile", ca_file, "-verify_hostname", NAME, "-crlf",
    )  # fmt: skip
    if said is None:
        return "-"
    if "error:0A" not in said and "Verification: OK" in said and "no peer certificate available" not in said:
        return "no fault"
    codes = re.findall(r"Verify return code: (\d+ \([^)]*\))", said)
    bad = [code for code in codes if not code.startswith("0 ")]
    errors = re.findall(r"verify error:num=\d+:([^\n]*)", said)
    if bad or errors:
        return _short("; ".join(dict.fromkeys([*errors, *(b.split("(")[1].rstrip(")") for b in bad)])))
    for line in said.splitlines():
        if "STARTTLS" in line.upper() or "error" in line.lower() or "no peer certificate" in line:
            return _short(re.sub(r"^[0-9A-F]+:", "", line))
    return "no fault" if codes else "nothing"


async def sslyze(port: int, ca_file: str) -> str:
    """Its certificate and version checks."""
    said = await _said(
        "sslyze", "--starttls", "smtp", "--certinfo", "--certinfo_ca_file", ca_file, "--sni", NAME,
        "--tlsv1_2", "--tlsv1_3", f"127.0.0.1:{port}",
    )  # fmt: skip
    if said is None:
        return "-"
    for line in said.splitlines():
        if "=> ERROR:" in line:
            return _short(line.partition("ERROR: ")[2])
        if "Supplied CA file" in line and "FAILED" in line:
            return _short(line.partition("Trusted: ")[2])
        if "Received Chain Order" in line and "OK" not in line:
            return _short(line.partition(":")[2])
    return "no fault"


def _short(line: str) -> str:
    line = re.sub(r"127\.0\.0\.1(\[127\.0\.0\.1\])?(:\d+)?", "HOST", " ".join(line.split()))
    return line if len(line) <= 110 else line[:109] + "…"


TOOLS = (
    ("resubmit probe", ours),
    ("posttls-finger", posttls_finger),
    ("openssl s_client", openssl),
    ("sslyze", sslyze),
)


async def rows(ca_file: str) -> list[list[str]]:
    """Each case with what each tool says."""
    found = []
    for case in cases():
        async with serving(case.made()) as port:
            found.append([case.wrong, *[await tool(port, ca_file) for _, tool in TOOLS]])
        print(" | ".join(found[-1]), flush=True)
    return found


def page(found: list[list[str]]) -> str:
    """The page with the table."""
    lines = [
        "<!-- Written by `make bench-tls`; run it to write it anew. -->",
        "# What other tools see",
        "",
        "The same misbehaving servers, seen by `resubmit probe` and by tools that an administrator may have.",
        "Each is asked as strictly as it can be: chain and name against the same root.",
        "In our column what only warns stands in brackets; a dash means that the tool was not installed.",
        "",
        "| wrong with the server | " + " | ".join(name for name, _ in TOOLS) + " |",
        "|-" * (len(TOOLS) + 1) + "|",
    ]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in found]
    return "\n".join(lines) + "\n"


def main() -> int:
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # servers that hang up are what is wanted here
    with tempfile.TemporaryDirectory() as folder:
        ca_file = Path(folder) / "root.pem"
        ca_file.write_bytes(ROOT.pem)
        PAGE.write_text(page(asyncio.run(rows(str(ca_file)))), encoding="utf-8")
    print(f"written: {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
