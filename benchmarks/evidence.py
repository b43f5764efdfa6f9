"""A message trace of a million rows into a journal of a million messages, beside a plain SQLite join.

`python -m benchmarks.evidence [ROWS] [MESSAGES]` makes both, most of the rows about other people's mail, and
reads the trace by `Observe.ingest` in a process of its own, whose memory is told too. The peer puts the same
file into a table of its own and joins it with the same messages: that decides nothing and keeps no history.
"""

from __future__ import annotations

import asyncio
import csv
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from resubmit.clock import SystemClock
from resubmit.flow.observe import Observe
from resubmit.flow.wake import Wake
from resubmit.handoff.routes import Table
from resubmit.handoff.settings import Destination, Route
from resubmit.journal.connection import DATABASE, open_writer
from resubmit.journal.door import Journal
from resubmit.journal.migrations import VERSION, schema
from resubmit.journal.verbs import Destined
from resubmit.model.ids import IdMaker
from resubmit.model.moment import DAY, HOUR, MINUTE, SECOND, Ms, rfc3339

SPREAD: Ms = 10 * DAY
"""The messages and the rows lie evenly over so long: a trace covers ten days."""

OURS = 30
"""Of a hundred rows so many are about our mail."""

_HEADER = (
    '"Received","SenderAddress","RecipientAddress","Subject","Status","ToIP","FromIP","Size","MessageId",'
    '"MessageTraceId"\r\n'
)
_STATUSES = ("Delivered",) * 8 + ("Pending", "Failed")


def times(messages: int, now: Ms) -> list[Ms]:
    """When each message was taken."""
    return [now - SPREAD + i * SPREAD // messages for i in range(messages)]


def make(folder: Path, messages: int, now: Ms) -> None:
    """A journal of so many messages, each handed off once and accepted."""
    connection = open_writer(folder)
    connection.executescript(schema())
    connection.execute(f"pragma user_version = {VERSION}")
    connection.execute("pragma synchronous = off")
    connection.execute("pragma foreign_keys = off")
    maker = IdMaker()
    numbers = [(maker.next(at), at) for at in times(messages, now)]

    def heads() -> Iterator[tuple[object, ...]]:
        for i, (number, at) in enumerate(numbers):
            name = f"{i:032x}@app{i % 500}.example.org"
            yield number, at, at // DAY, name, f"<{name}>", f"app{i % 500}@example.org", f"letter {i}"

    def recipients() -> Iterator[tuple[object, ...]]:
        for i, (number, at) in enumerate(numbers):
            yield number, f"u{i % 5000}@contoso.com", at + SECOND, at + SECOND + 24 * HOUR

    def offers() -> Iterator[tuple[object, ...]]:
        for i, (number, at) in enumerate(numbers, 1):
            yield i, number, at, at + SECOND, at + SECOND, (at + SECOND) // DAY, f"{i:x}.eop"

    def attempts() -> Iterator[tuple[object, ...]]:
        for i, (number, at) in enumerate(numbers, 1):
            yield number, i, at + SECOND

    connection.execute("begin")
    connection.executemany(
        "insert into message (id, received_at, day, key, message_id, sender, parameters, subject, intake,"
        " peer, helo, protocol, size, digest)"
        " values (?, ?, ?, ?, ?, ?, '[]', ?, 'smtp', '192.0.2.1', 'h', 'ESMTP', 4096, zeroblob(32))",
        heads(),
    )
    connection.executemany(
        "insert into recipient (message, n, address, parameters, destination, route, state, since, holder,"
        " deadline, attempt) values (?, 0, ?, '[]', 'hybrid', 'eop', 'accepted', ?, 'far', ?, 1)",
        recipients(),
    )
    connection.executemany(
        "insert into offer (id, message, no, route, kind, begun_at, dot_at, ended_at, day, next_key, remote)"
        " values (?, ?, 1, 'eop', 'handoff', ?, ?, ?, ?, ?, 'eop.invalid [192.0.2.25]')",
        offers(),
    )
    connection.executemany(
        "insert into attempt (message, n, no, offer, ended_at, event, accepted, stage, code, enhanced, reply)"
        " values (?, 0, 1, ?, ?, 'reply_accepted', 1, 'dot', 250, '2.6.0', '250 2.6.0 Queued mail')",
        attempts(),
    )
    connection.execute("commit")
    connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()


def write_trace(path: Path, rows: int, messages: int, now: Ms) -> int:
    """A trace of so many rows in the order of time, as Get-MessageTraceV2 prints them; how many are ours."""
    ours = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(_HEADER)
        taken = times(messages, now)
        for i in range(rows):
            which = i * messages // rows
            at = taken[which] + SECOND
            if i * 37 % 100 < OURS:
                ours += 1
                key, who = f"{which:032x}@app{which % 500}.example.org", f"u{which % 5000}@contoso.com"
                sender, subject = f"app{which % 500}@example.org", f"letter {which}"
            else:
                key, who = f"{i:036x}@mail.fabrikam.example", f"v{i % 9000}@contoso.com"
                sender, subject = f"someone{i % 700}@fabrikam.example", f"another mail, number {i}"
            network = f"{i:08x}-8f4c-4f2c-8000-{i:012x}"
            status = _STATUSES[i % len(_STATUSES)]
            file.write(
                f'"{rfc3339(at)}","{sender}","{who}","{subject}","{status}","","192.0.2.1","4096","<{key}>",'
                f'"{network}"\r\n'
            )
    return ours


async def ingest(folder: Path, trace: Path) -> dict[str, object]:
    """What reading the trace took, and what came of it."""
    clock = SystemClock()
    journal = await Journal.open(folder, clock=clock)
    try:
        route = Route(name="eop", host="eop.invalid")
        table = Table([route], [Destination(name="hybrid", domains=["contoso.com"], handoff="eop")])
        await journal.mirror([Destined("hybrid", MINUTE, HOUR, DAY, HOUR, "eop", "eop")])
        observe = Observe(journal, clock, table, [], {}, told=Wake())
        start, busy = time.perf_counter(), time.process_time()
        (answer,) = await observe.ingest([str(trace)], timezone="UTC", covers=None)
        taken = time.perf_counter() - start
        spent = time.process_time() - busy
    finally:
        await journal.close()
    return {"seconds": taken, "processor": spent, "memory": memory(), **answer}


def memory() -> int:
    """The most MiB that this process had; getrusage would count its parent's too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def join(database: Path, trace: Path, own: Path) -> tuple[float, float]:
    """Seconds, and those of the processor, that a plain program takes: the file into a table, and whose each
    row is by one join."""
    start, busy = time.perf_counter(), time.process_time()
    connection = sqlite3.connect(own, isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    connection.execute("attach ? as journal", (database.resolve().as_uri() + "?mode=ro",))
    connection.execute("create table row (at, sender, recipient, subject, status, key, network)")
    connection.execute("begin")
    with trace.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        next(lines)
        connection.executemany(
            "insert into row values (?, ?, ?, ?, ?, ?, ?)",
            ((*f[:5], f[8].strip("<>").lower(), f[9]) for f in lines),
        )
    connection.execute("commit")
    connection.execute("create index row_by_key on row (key)")
    connection.execute(
        "create table match as select r.rowid as row, m.id as message, t.n"
        " from row r join journal.message m on m.key = r.key"
        " join journal.recipient t on t.message = m.id and lower(t.address) = lower(r.recipient)"
    )
    connection.close()
    return time.perf_counter() - start, time.process_time() - busy


def measure(folder: Path, rows: int, messages: int) -> None:
    """Make both in that folder, read, join; prints what each took."""
    folder.mkdir(exist_ok=True)
    now = time.time_ns() // 1_000_000 - HOUR
    make(folder / "journal", messages, now)
    ours = write_trace(folder / "trace.csv", rows, messages, now)
    plain, plainly = join(folder / "journal" / DATABASE, folder / "trace.csv", folder / "join.db")
    words = [sys.executable, "-m", "benchmarks.evidence", "--read", str(folder)]
    output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    told = json.loads(output.splitlines()[-1])
    taken = told["seconds"]
    print(f"trace of {rows} rows, {ours} of them ours, into a journal of {messages} messages")
    print(
        f"  resubmit {taken:.1f} s, {rows / taken:.0f} rows/s, {told['processor']:.1f} s of processor time,"
        f" at most {told['memory']} MiB; {told['matched']} matched, {told['unmatched']} unmatched"
    )
    print(
        f"  plain SQLite join {plain:.1f} s, {rows / plain:.0f} rows/s, ratio {plain / taken:.3f};"
        f" {plainly:.1f} s of processor time, ratio {plainly / told['processor']:.3f}"
    )


def main() -> int:
    """The exit code."""
    if sys.argv[1:2] == ["--read"]:
        folder = Path(sys.argv[2])
        print(json.dumps(asyncio.run(ingest(folder / "journal", folder / "trace.csv"))))
        return 0
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    messages = int(sys.argv[2]) if len(sys.argv) > 2 else rows
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), rows, messages)
    return 0


if __name__ == "__main__":
    sys.exit(main())
