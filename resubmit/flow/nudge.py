"""The relay beside us is told to try again when a destination's gate opens (design, section 3 rule 7).

What it holds is never resubmitted by us; without this it goes when the relay's own time comes.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterable
from functools import partial

import structlog

from resubmit import logbook
from resubmit.flow.wake import Wake
from resubmit.journal.door import Journal
from resubmit.recovery import relay

log = structlog.get_logger()

_LIMIT = 30
"""Seconds a command may take."""
_SHOWN = 300
"""Characters of what a failed command said that the log repeats."""


class Nudge:
    """Runs the config's commands, programs with words that no shell reads. `wake`: a gate turned."""

    def __init__(self, journal: Journal, commands: Iterable[list[str]]) -> None:
        self._journal = journal
        self._commands = [list(words) for words in commands if words]
        self.wake = Wake()

    async def run(self) -> None:
        """Until cancelled."""
        before = relay.states(await self._journal.gates())
        while True:
            await self.wake.wait(None)
            now = relay.states(await self._journal.gates())
            opened, before = relay.opened(before, now), now
            if opened:
                await asyncio.gather(*(self._tell(words, opened) for words in self._commands))

    async def _tell(self, words: list[str], opened: tuple[str, ...]) -> None:
        problem = await asyncio.get_running_loop().run_in_executor(None, partial(_run, words))
        if problem:
            log.warning(logbook.RELAY_NOT_TOLD, command=words, destinations=opened, reason=problem)
        else:
            log.info(logbook.RELAY_TOLD, command=words, destinations=opened)


def _run(words: list[str]) -> str:
    """Run a command; why it failed, "" when it did not. Blocking; never raises for the command."""
    try:
        done = subprocess.run(  # noqa: S603  # the operator's own command, from the config
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it took longer than {_LIMIT} s"
    except (OSError, ValueError) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    said = " ".join((done.stderr or done.stdout).decode("utf-8", "replace").split())
    return f"exit {done.returncode}: {said[:_SHOWN]}" if said else f"exit {done.returncode}"
