"""How long reading commands take as whole processes, over a journal of a million messages.

`python -m benchmarks.reading [MESSAGES]` makes a journal (one in a hundred is stuck), runs each command a
few times and prints the medians. Aims: `--version` below 150 ms, `list --stuck --limit 50` below 300 ms.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from resubmit.journal.connection import open_writer
from resubmit.journal.migrations import VERSION, schema
from resubmit.model.ids import IdMaker
from resubmit.model.moment import DAY, HOUR

RUNS = 7
SPREAD = 30 * DAY
"""The messages came evenly over so long."""

COMMANDS = (
    ("--version", 150),
    ("list --stuck --limit 50", 300),
    ("list --stuck --group-by cause", None),
    ("list --limit 50", None),
    ("list --message-id <7@example.org>", None),
    ("status", None),
)


def make(folder: Path, messages: int, stuck: int) -> None:
    """A journal of so many messages, the newest of them stuck with cause tls."""
    conn = open_writer(folder)
    conn.executescript(schema())
    conn.execute(f"pragma user_version = {VERSION}")
    conn.execute("pragma synchronous = off")
    now = time.time_ns() // 1_000_000
    maker = IdMaker()
    times = [now - SPREAD + i * SPREAD // messages for i in range(messages)]
    ids = [maker.next(at) for at in times]

    def heads() -> Iterator[tuple[object, ...]]:
        for i, (number, at) in enumerate(zip(ids, times, strict=True)):
            name = f"{i}@example.org"
            yield (
                number,
                at,
                at // DAY,
                name,
                f"<{name}>",
                f"app{i % 500}@example.org",
                f"letter {i}",
                b"x" * 32,
            )

    def recipients() -> Iterator[tuple[object, ...]]:
        for i, (number, at) in enumerate(zip(ids, times, strict=True)):
            state, cause = ("deferred", "tls") if i >= messages - stuck else ("delivered", None)
            yield (number, f"u{i % 5000}@contoso.com", state, at, cause, at + 24 * HOUR)

    conn.execute("begin")
    conn.executemany(
        "insert into message (id, received_at, day, key, message_id, sender, parameters, subject, intake,"
        " peer, helo, protocol, size, digest)"
        " values (?, ?, ?, ?, ?, ?, '[]', ?, 'smtp', '192.0.2.1', 'h', 'ESMTP',"
        " 4096, ?)",
        heads(),
    )
    conn.executemany(
        "insert into recipient (message, n, address, parameters, destination, route, state, since, cause,"
        " holder, deadline, attempt) values (?, 0, ?, '[]', 'hybrid', 'eop', ?, ?, ?, 'far', ?, 1)",
        recipients(),
    )
    conn.execute("commit")
    conn.execute("pragma wal_checkpoint(truncate)")
    conn.close()


def milliseconds(words: list[str], folder: Path) -> float:
    """The median time of a whole process."""
    taken = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run(words, cwd=folder, check=True, capture_output=True)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1000


def main() -> int:
    """The exit code: 1 when an aim was missed."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    missed = 0
    program = str(Path(sys.executable).with_name("resubmit"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "journal", messages, messages // 100)
        (folder / "config.toml").touch()
        print(f"{messages} messages, {messages // 100} stuck; median of {RUNS} processes")
        for command, aim in COMMANDS:
            taken = milliseconds([program, *command.split(" ")], folder)
            missed += aim is not None and taken > aim
            print(f"{taken:8.0f} ms  resubmit {command}" + (f"   (aim: {aim} ms)" if aim else ""))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
