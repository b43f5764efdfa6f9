"""A Postfix of its own: a private instance on 127.0.0.1 that logs into a file.

It runs as people run it, by `postfix start` with its own folders, and so needs root.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.service import free_port, needs, ran

_MAIN = """\
compatibility_level = 3.6
queue_directory = {base}/queue
data_directory = {base}/data
maillog_file = {base}/mail.log
maillog_file_prefixes = {base}
mail_owner = postfix
setgid_group = postdrop
myhostname = relay.example.com
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
smtp_tls_loglevel = 1
smtp_tls_CAfile = {ca}
smtp_connect_timeout = 5s
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 1s
smtp_destination_concurrency_failed_cohort_limit = 0
transport_maps = inline:{{ {hops} }}
smtp_tls_policy_maps = inline:{{ {levels} }}
{more}
"""
_SERVICES = (
    "pickup unix n - n 60 1 pickup",
    "cleanup unix n - n - 0 cleanup",
    "qmgr unix n - n 300 1 qmgr",
    "tlsmgr unix - - n 1000? 1 tlsmgr",
    "rewrite unix - - n - - trivial-rewrite",
    "bounce unix - - n - 0 bounce",
    "defer unix - - n - 0 bounce",
    "trace unix - - n - 0 bounce",
    "proxymap unix - - n - - proxymap",
    "smtp unix - - n - - smtp",
    "showq unix n - n - - showq",
    "error unix - - n - - error",
    "retry unix - - n - - error",
    "flush unix n - n 1000? 0 flush",
    "discard unix - - n - - discard",
    "anvil unix - - n - 1 anvil",
    "scache unix - - n - 1 scache",
    "postlog unix-dgram n - n - 1 postlogd",
)


@dataclass(frozen=True)
class Postfix:
    """A running instance. `port`: where it takes mail; `etc`: its configuration folder; `log`: its log."""

    port: int
    etc: Path
    log: Path

    async def command(self, *words: str) -> None:
        """One of its own commands, `postqueue -f` and the like, with its configuration."""
        done = await ran(words[0], "-c", str(self.etc), *words[1:])
        assert done.code == 0, done.err

    def lines(self, *words: str) -> list[str]:
        """The lines of its log with all of these words."""
        return [line for line in self.log.read_text().splitlines() if all(word in line for word in words)]


@asynccontextmanager
async def postfix(
    hops: Mapping[str, int],
    *,
    levels: Mapping[str, str] | None = None,
    ca: Path | None = None,
    more: str = "",
) -> AsyncIterator[Postfix]:
    """A Postfix that hands mail for each domain to a port of this machine. levels: the TLS level for a domain
    (`encrypt`, `secure match=…`); more: further lines of main.cf. Skips where it can't be run."""
    needs("postfix")
    if os.geteuid() != 0:
        pytest.skip("postfix is started by root only")
    # Not under pytest's folder: the mail system's own user may not enter there.
    base = Path(tempfile.mkdtemp(prefix="postfix-"))
    base.chmod(0o755)
    etc, port = base / "etc", free_port()
    for folder in ("etc", "queue", "data"):
        (base / folder).mkdir()
    shutil.chown(base / "data", "postfix", "postfix")
    ways = {domain: f"[127.0.0.1]:{number}" for domain, number in hops.items()}
    (etc / "main.cf").write_text(
        _MAIN.format(
            base=base,
            ca=ca or "",
            hops=", ".join(f"{{ {domain} = smtp:{way} }}" for domain, way in ways.items()),
            levels=", ".join(f"{{ {ways[domain]} = {level} }}" for domain, level in (levels or {}).items()),
            more=more,
        )
    )
    smtpd = f"127.0.0.1:{port} inet n - n - - smtpd"
    (etc / "master.cf").write_text("\n".join((smtpd, *_SERVICES)) + "\n")
    one = Postfix(port, etc, base / "mail.log")
    try:
        await one.command("postfix", "start")
        yield one
    finally:
        await ran("postfix", "-c", str(etc), "stop")
        shutil.rmtree(base, ignore_errors=True)
