"""Messages a second through the service, against Postfix (which is as durable) and smtp-sink (which keeps
nothing)."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.programs import Skipped, free_port, postfix, send, service, sink
from resubmit.journal import read

LIMIT = 60.0
"""Seconds a step may take."""


def intake(folder: Path, messages: int, *, keep: bool) -> None:
    """Durable intake, nobody listening at the next hop; prints rates and ratios."""
    style = "one connection for many" if keep else "a connection each"
    name = "many" if keep else "each"
    with service(folder / f"intake-{name}", free_port()) as port:
        ours = messages / send(port, messages, keep=keep, limit=LIMIT)
    print(f"intake, {style}: resubmit {ours:.0f}/s")
    try:
        with postfix(folder / f"postfix-{name}", free_port()) as port:
            theirs = messages / send(port, messages, keep=keep, limit=LIMIT)
        print(f"  postfix {theirs:.0f}/s, ratio {ours / theirs:.2f}")
    except Skipped as reason:
        print(f"  postfix skipped: {reason}")
    with sink(folder / f"sink-{name}") as port:
        theirs = messages / send(port, messages, keep=keep, limit=LIMIT)
    print(f"  smtp-sink (protocol only) {theirs:.0f}/s, ratio {ours / theirs:.3f}")


def handoff(folder: Path, messages: int) -> None:
    """From the first client's greeting to the last 250 of the next hop, against the client straight to it."""
    with sink(folder / "handoff-sink") as next_hop:
        straight = messages / send(next_hop, messages, keep=True, limit=LIMIT)
        with service(folder / "handoff", next_hop) as port:
            start = time.perf_counter()
            taken = send(port, messages, keep=True, limit=LIMIT)
            connection = read.connect(folder / "handoff/journal")
            try:
                delivered = 0
                while delivered < messages:
                    if time.perf_counter() - start > LIMIT:
                        raise Skipped(f"{delivered} of {messages} were handed over within {LIMIT:.0f} s")
                    time.sleep(0.1)
                    row = connection.execute("select count(*) from recipient where state = 'delivered'")
                    delivered = int(row.fetchone()[0])
            finally:
                connection.close()
            through = messages / (time.perf_counter() - start)
    print(f"handoff: {through:.0f}/s through resubmit (intake was done after {taken:.1f} s)")
    print(f"  smtp-source straight to smtp-sink {straight:.0f}/s, ratio {through / straight:.3f}")
