"""A process that writes a journal and may be killed at any moment: `python -m tests.helpers.crash FOLDER …`.

What it was promised it prints, unbuffered, one line each: `record <id> <sha256>`, `begin <offer> <id>`, ….
A line that was printed is a promise that was kept before. `at=POINT:N` ends the process, as a crash would,
when it passes a fault point for the N-th time after the journal is open.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import structlog

from resubmit.clock import SystemClock
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Begun, Expect
from resubmit.model.recipient import Event, RecipientKey, State
from tests.helpers.journals import arrival, ended, offer, seen

CRASHED = 86
"""The exit code of a process that ended at its fault point."""


class Fuse:
    """Ends the process when a named point is passed for the N-th time; says so when it is armed."""

    def __init__(self, at: str) -> None:
        self.point, _, count = at.partition(":")
        self.left = int(count or 1)
        self.armed = False

    def __call__(self, point: str) -> None:
        if self.armed and point == self.point:
            self.left -= 1
            if self.left == 0:
                os._exit(CRASHED)


def say(*words: object) -> None:
    """A promise, on its way out before anything else happens."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def record(journal: Journal, seed: int, size: int) -> int:
    spool = journal.new_spool()
    octets = random.Random(seed).randbytes(size)
    for start in range(0, len(octets), 40_000):
        await spool.write(octets[start : start + 40_000])
    message = await journal.record(arrival(body=await spool.finish()))
    say("record", message, hashlib.sha256(octets).hexdigest())
    return message


async def load(journal: Journal, seed: int) -> None:
    """Producers that record for ever, with attempts on some of what they recorded."""

    async def produce(number: int) -> None:
        for i in range(100_000):
            size = 140_000 + i if i % 5 == 0 else 1 + i * 97 % 8_000
            message = await record(journal, seed + number * 1_000_000 + i, size)
            if i % 3 == 0:
                begun = await journal.begin(offer(message))
                assert isinstance(begun, Begun)
                say("begin", begun.offer, message)
                if i % 2 == 0:
                    await journal.end(ended(begun))
                    say("end", begun.offer, message)

    await asyncio.gather(*(produce(number) for number in range(6)))


async def story(journal: Journal, fuse: Fuse, until: str) -> None:
    """One message, step by step; the fuse is armed before the last step asked for."""

    def arm(step: str) -> bool:
        fuse.armed = step == until
        return fuse.armed

    arm("record")
    message = await record(journal, 1, 200_000 if "body" in fuse.point else 4_000)
    arm("begin")
    begun = await journal.begin(offer(message))
    assert isinstance(begun, Begun)
    say("begin", begun.offer, message)
    if arm("hand"):
        os._exit(CRASHED)  # between the intent and its end: whatever the socket did, the journal can't know
    arm("end")
    await journal.end(ended(begun))
    say("end", begun.offer, message)
    arm("observe")
    await journal.observe([seen(message, Event.SEEN_DEFERRED)])
    say("observe", message)
    arm("due")
    await journal.make_due([RecipientKey(message, 0)], 0)
    say("due", message)
    arm("again")
    begun = await journal.begin(offer(message, Expect(0, State.DEFERRED, 1), kind="resubmission"))
    assert isinstance(begun, Begun)
    say("again", begun.no)


async def main(folder: str, what: str, *options: str) -> None:
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=sys.stderr))
    fuse = Fuse(next((o.removeprefix("at=") for o in options if o.startswith("at=")), ""))
    journal = await Journal.open(Path(folder), clock=SystemClock(), faults=fuse)
    say("open")
    if what == "load":
        await load(journal, int(options[0]))
    else:
        await story(journal, fuse, what)
    await journal.close()


def run(folder: Path, *arguments: str, under: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """The process, started; its promises can be read from stdout."""
    return subprocess.Popen(
        [*under, sys.executable, "-m", "tests.helpers.crash", str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[2],
    )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
