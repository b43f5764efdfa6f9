"""The demo as people run it: a command, its exit code, what it prints and what it leaves."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.service import needs, ran

pytestmark = pytest.mark.timeout(110)


@asynccontextmanager
async def demo(*words: str, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """`resubmit demo …` with its temporary files below `folder`; killed if the test fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "resubmit",
        "demo",
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder), "RESUBMIT_CONFIG": "/does/not/exist"},
        limit=1 << 20,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.communicate(), 20)


async def heard(stream: asyncio.StreamReader | None, wanted: str) -> re.Match[str]:
    """The first line that has what is wanted."""
    assert stream is not None
    said = []
    while line := (await stream.readline()).decode():
        said.append(line)
        if found := re.search(wanted, line):
            return found
    raise AssertionError(f"{wanted!r} was never said:\n{''.join(said)}")


def left_behind(folder: Path) -> list[str]:
    """Files below the folder, and processes that name it."""
    out = [str(path) for path in folder.iterdir()]
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(folder) in words:
            out.append(words)
    return out


async def test_the_demo_recovers_every_stuck_mail_once_within_a_minute(tmp_path: Path) -> None:
    started = asyncio.get_running_loop().time()
    async with demo("--json", folder=tmp_path) as process:
        out, told = await process.communicate()
    took = asyncio.get_running_loop().time() - started
    report: dict[str, Any] = json.loads(out)
    assert report["missing"] == [], told.decode()
    assert process.returncode == 0
    assert report["mails_stuck"] == 250
    assert report["journaled"] == 302
    assert report["recovered"] == report["stuck"] > 250
    assert (report["failed"], report["unknown"], report["duplicates"]) == (0, 0, 0)
    assert 0 < report["seconds_from_fix_to_last_delivery"] < 45
    assert report["delivered_meanwhile"] > 100
    assert report["left_by_exchange_online"] > 0, "the look-alike must not have mended itself"
    assert report["incident"]["stuck"] == report["incident"]["recovered"] == report["stuck"]
    assert took < 60
    assert left_behind(tmp_path) == []


async def test_the_narration_is_for_a_person(tmp_path: Path) -> None:
    async with demo(folder=tmp_path) as process:
        out, err = await process.communicate()
    text = out.decode()
    assert process.returncode == 0, text + err.decode()
    steps = re.findall(r"(?m)^(\d)\. ", text)
    assert steps == [str(n + 1) for n in range(len(steps))]
    assert len(steps) >= 8
    for wanted in ("$ resubmit list --stuck", "certificate_expired", "$ resubmit status", "duplicates 0"):
        assert wanted in text
    assert "Traceback" not in text
    # A path is one word, and stays whole however long it is.
    whole = [line for line in text.splitlines() if max(map(len, line.split()), default=0) <= 60]
    assert max(len(line) for line in whole) <= 82


@pytest.mark.parametrize("step", ["It takes mail at", r"^4\. "])
async def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path, step: str) -> None:
    async with demo(folder=tmp_path) as process:
        await heard(process.stdout, step)
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), 15)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert left_behind(tmp_path) == []


async def test_somebody_elses_mail_in_a_demo_left_running_is_counted_apart(tmp_path: Path) -> None:
    async with demo("--json", "--keep", folder=tmp_path) as process:
        found = await heard(process.stderr, r"takes mail at 127\.0\.0\.1:(\d+)")
        await heard(process.stderr, r"^4\. ")
        swaks = await ran(
            *(needs("swaks"), "--server", "127.0.0.1", "--port", found[1], "--helo", "else.invalid"),
            *("--from", "me@else.invalid", "--to", "cleo@contoso.invalid", "--header", "Subject: hello"),
        )
        assert swaks.code == 0, swaks.out
        assert re.search(r"250 2\.0\.0 \S+ journaled", swaks.out)
        assert process.stdout is not None
        report = json.loads(await process.stdout.readline())
        assert report["other_mail"] == 1
        assert report["journaled"] == 302
        assert (report["duplicates"], report["unknown"], report["missing"]) == (0, 0, [])
        await heard(process.stderr, "left running")
        assert process.returncode is None
        (folder,) = tmp_path.glob("resubmit-demo-*")
        assert (folder / "config.toml").exists()
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), 15)
    assert process.returncode == 0
    assert left_behind(tmp_path) == []
