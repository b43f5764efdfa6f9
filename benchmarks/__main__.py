"""`python -m benchmarks [MESSAGES]` prints what the service and its commands take beside their peers."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import evidence, mail, reading
from benchmarks.programs import Skipped

JOURNAL = 100_000
"""Messages in the journal that the commands read."""

ROWS = 100_000
"""Rows of the trace that is read into as many messages; `benchmarks.evidence` takes a million."""


def commands(folder: Path) -> None:
    """Whole processes, against an interpreter that does nothing."""
    place = folder / "commands"
    reading.make(place / "journal", JOURNAL, JOURNAL // 100)
    (place / "config.toml").touch()
    bare = reading.milliseconds([sys.executable, "-c", "pass"], place)
    print(f"commands, median of {reading.RUNS} processes: python3 -c pass {bare:.0f} ms")
    program = str(Path(sys.executable).with_name("resubmit"))
    for words in ("--version", "list --stuck --limit 50"):
        taken = reading.milliseconds([program, *words.split(" ")], place)
        print(f"  resubmit {words}: {taken:.0f} ms, ratio {taken / bare:.1f}")


def main() -> int:
    """The exit code; a step that can't be measured is skipped with its reason."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{messages} messages of 4 KiB from 20 sessions; {os.cpu_count()} cores, load {load}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps: tuple[tuple[str, Callable[[], None]], ...] = (
            ("intake, a connection each", lambda: mail.intake(folder, messages, keep=False)),
            ("intake, one connection for many", lambda: mail.intake(folder, messages, keep=True)),
            ("handoff", lambda: mail.handoff(folder, messages)),
            ("commands", lambda: commands(folder)),
            ("evidence", lambda: evidence.measure(folder / "evidence", ROWS, JOURNAL)),
        )
        for step, run in steps:
            try:
                run()
            except Skipped as reason:
                print(f"{step} skipped: {reason}")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
