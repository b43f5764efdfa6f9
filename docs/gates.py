"""Draws docs/gates.md from the table in resubmit/recovery/judgement.py."""

from __future__ import annotations

from resubmit.recovery import flapping, judgement, nodes, sight
from resubmit.recovery.judgement import TABLE
from resubmit.recovery.turn import CLOSED, OPEN, TESTING

HEAD = f"""<!-- Written by docs/generate.py from resubmit/recovery/judgement.py; change that. -->
# What opens and closes a destination's gate

A destination's gate stops resubmission only; mail is handed off and retried as long as its route's gate is
open. It is `open`, `closed`, or `testing`: the fault is believed to be gone, and a canary is to prove it.
In each state the first row that holds decides, and its reasons are shown by `resubmit status`, in the log
(`gate.turned`) and with the incident. What no row names (a full mailbox, an NDR, news of mail that was
taken before the fix, a delivery to a cloud mailbox) moves nothing.

- A look that could tell nothing (our resolver, our clock, our way to a CRL) neither counts nor resets; after
  {sight.UNKNOWN_FOR // 60_000} minutes of it the canary decides.
- Flapping begins with {flapping.BEGINS} changes in the last {flapping.LAST} looks and ends with fewer than
  {flapping.GOES_ON}.
- {judgement.FAULTY_LOOKS} faulty looks in a row close an open gate, never a single one.
- A faulty node that was met by turns with others is believed gone after {nodes.ABSENT_FROM} connections
  without it.
- Where the probe and the evidence differ, evidence wins against health and never against a fault in sight:
  a fresh deferral shuts the gate behind a healthy probe; a delivery does not open it before a faulty one,
  but a person is told (`gate.doubted`), and may go through with `replay --force`.
"""

TITLES = {OPEN: "While it is open", CLOSED: "While it is closed", TESTING: "While it is testing"}


def page() -> str:
    """The page."""
    lines = [HEAD]
    for state, title in TITLES.items():
        lines += [f"## {title}", "", "| what is the case | then |", "|-|-|"]
        for row in TABLE:
            if row.state == state:
                then = "stays" if row.to == state else f"**{row.to}**"
                lines.append(f"| {row.case} | {then} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"
