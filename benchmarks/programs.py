"""The programs that are measured and their peers, each with folders and ports of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
START = 15.0
"""Seconds a server may take to listen."""

CONFIG = """\
[journal]
path = "journal"
[intake.smtp]
listen = ["127.0.0.1:{listen}"]
[[route]]
name = "next"
host = "127.0.0.1"
port = {next_hop}
tls = "none"
final = true
[[destination]]
name = "hybrid"
domains = ["contoso.com"]
handoff = "next"
resubmit = "next"
[web]
listen = ""
[log]
level = "warning"
"""

MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
myhostname = postfix.example.org
mydestination =
relay_domains = contoso.com
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [127.0.0.1]:{next_hop}
relay_transport = smtp:[127.0.0.1]:{next_hop}
smtpd_relay_restrictions = permit_mynetworks, reject
alias_maps =
alias_database =
"""

MASTER = """\
127.0.0.1:{listen} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
"""


class Skipped(Exception):
    """A step that can't be measured here; its text says why."""


def program(name: str) -> str:
    """Where a peer is; Skipped when it is not installed."""
    found = shutil.which(name, path=PATH)
    if found is None:
        raise Skipped(f"{name} is not installed")
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, name: str) -> None:
    """Return once the port is open; Skipped when it stays closed."""
    end = time.monotonic() + START
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise Skipped(f"{name} did not listen within {START:.0f} s")


@contextlib.contextmanager
def running(words: list[str], folder: Path, port: int) -> Iterator[None]:
    """A server process while the block runs; its output goes to a file in the folder."""
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(words, cwd=folder, stdout=output, stderr=output)
        try:
            wait_for(port, Path(words[0]).name)
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def service(folder: Path, next_hop: int) -> Iterator[int]:
    """`resubmit serve` in a new folder, its route to that port; yields its own port."""
    folder.mkdir()
    port = free_port()
    (folder / "config.toml").write_text(CONFIG.format(listen=port, next_hop=next_hop))
    with running([str(Path(sys.executable).with_name("resubmit")), "serve"], folder, port):
        yield port


@contextlib.contextmanager
def sink(folder: Path) -> Iterator[int]:
    """An smtp-sink, which keeps nothing; yields its port."""
    folder.mkdir()
    port = free_port()
    user = ["-u", "nobody"] if os.geteuid() == 0 else []  # it refuses to run as root
    with running([program("smtp-sink"), *user, f"127.0.0.1:{port}", "1000"], folder, port):
        yield port


@contextlib.contextmanager
def postfix(folder: Path, next_hop: int) -> Iterator[int]:
    """A Postfix with config, queue and port of its own; yields the port. Needs root, as Postfix does."""
    command = program("postfix")
    try:
        owner = pwd.getpwnam("postfix").pw_uid
    except KeyError:
        raise Skipped("there is no user postfix") from None
    port = free_port()
    for name in ("config", "queue", "data"):
        (folder / name).mkdir(parents=True)
    try:
        shutil.chown(folder / "data", owner)
    except PermissionError:
        raise Skipped("a Postfix of its own needs root") from None
    folder.parent.chmod(0o755)  # its daemons run as another user and read their config here
    (folder / "config/main.cf").write_text(MAIN.format(folder=folder, next_hop=next_hop))
    (folder / "config/master.cf").write_text(MASTER.format(listen=port))
    control = [command, "-c", str(folder / "config")]
    try:
        started = subprocess.run([*control, "start"], capture_output=True, text=True, timeout=30, check=False)
        if started.returncode:
            raise Skipped(f"postfix did not start: {started.stderr.strip()[-200:]}")
        wait_for(port, "postfix")
        yield port
    finally:
        subprocess.run([*control, "stop"], capture_output=True, timeout=30, check=False)


def send(port: int, messages: int, *, keep: bool, limit: float) -> float:
    """Seconds smtp-source takes for so many messages of 4 KiB from 20 sessions; `keep`: one connection
    carries many. Skipped when it takes longer than `limit` or is refused."""
    words = [program("smtp-source"), *(["-d"] if keep else []), "-s", "20", "-m", str(messages), "-l", "4096"]
    words += ["-f", "app@example.org", "-t", "ann@contoso.com", f"127.0.0.1:{port}"]
    start = time.perf_counter()
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        raise Skipped(f"smtp-source was not done within {limit:.0f} s") from None
    if done.returncode:
        raise Skipped(f"smtp-source failed: {done.stderr.strip()[-200:]}")
    return time.perf_counter() - start
