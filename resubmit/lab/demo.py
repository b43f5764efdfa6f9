"""`resubmit demo`: the incident this program is for, with real SMTP, real TLS and the real service.

Promises: at most a minute; exit 0 only when every stuck recipient got its mail exactly once, counted at the
lab's mailboxes; no process and no file is left behind, also after Ctrl-C. Reads no config.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from typing import TextIO

from resubmit.clock import SystemClock
from resubmit.errors import ResubmitError
from resubmit.lab.narrator import Narrator, plural
from resubmit.lab.stage import Stage
from resubmit.lab.story import Story

INTERRUPTED = 130


def run(args: argparse.Namespace) -> int:
    """The exit code of `resubmit demo [--json] [--keep]`."""
    return asyncio.run(_until_interrupted(as_json=bool(args.json), keep=bool(args.keep)))


async def _until_interrupted(*, as_json: bool, keep: bool) -> int:
    task = asyncio.ensure_future(demo(as_json=as_json, keep=keep, out=sys.stdout))
    loop = asyncio.get_running_loop()
    asked: list[int] = []

    def interrupt(number: int) -> None:
        # Once is enough: a second one must not cut the tidying short.
        if not asked:
            asked.append(number)
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows has no such handlers; asyncio.run has one
            loop.add_signal_handler(number, interrupt, number)
    try:
        return await task
    except asyncio.CancelledError:
        sys.stderr.write("\ninterrupted; everything of the demo is stopped and removed\n")
        return INTERRUPTED


async def demo(*, as_json: bool, keep: bool, out: TextIO) -> int:
    """0 when all went as it should, else 1 with what is missing.

    as_json: `out` gets the final report only, and the narration goes to stderr. keep: it goes on running
    until it is interrupted, with what to look at.
    """
    clock = SystemClock()
    narrator = Narrator(sys.stderr if as_json else out, clock)
    async with Stage(clock) as stage:
        story = Story(stage, narrator)
        problem = ""
        try:
            report = await story.run()
        except ResubmitError as error:
            # The report is owed in any case: a script that asked for it must not get nothing.
            problem = str(error)
            report = story.count()
            report.missing.insert(0, error.message)
            narrator.say(f"MISSING: {problem}")
        if as_json:
            out.write(json.dumps(report.as_json(), ensure_ascii=False) + "\n")
            out.flush()
        if keep and not problem:
            await _kept(story, narrator)
        return 0 if report.well() else 1


async def _kept(story: Story, narrator: Narrator) -> None:
    """Runs on, and tells of mail that is not the demo's own, until interrupted or the service ends."""
    stage = story.stage
    narrator.step("It is left running; Ctrl-C ends it and removes everything")
    resubmit = f"{sys.executable} -m resubmit --config {stage.config}"
    for line in (
        f"folder: {stage.folder}",
        f"health and metrics: http://127.0.0.1:{stage.web_port}/metrics",
        f"{resubmit} status",
        f"{resubmit} list",
        f"{resubmit} probe hybrid",
        f"swaks --server 127.0.0.1:{stage.intake_port} --from you@app.invalid --to anna@contoso.invalid",
    ):
        narrator.say(line)
    told = story.report.other_mail
    service = asyncio.ensure_future(stage.service.wait()) if stage.service else None
    try:
        while service is not None and not service.done():
            await asyncio.wait({service}, timeout=0.5)
            found = story.other_mail()
            if found != told:
                told = found
                narrator.say(
                    f"Not the demo's own: {plural(found, 'copy', 'copies')} in the mailboxes so far."
                )
        narrator.say("The service has ended: " + stage.end_of_log(3))
    except asyncio.CancelledError:
        return  # the end that was asked for
    finally:
        if service is not None:
            service.cancel()
