"""Other people's clients against the listener, on both loops; and what twenty large messages cost."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.service import needs
from tests.unit.intake.listening import listening

MIB = 1024 * 1024


def on_loop(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    if name == "asyncio":
        asyncio.run(work())
        return
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        if os.environ.get("CI") == "true":
            pytest.fail("uvloop is not installed")
        pytest.skip("uvloop is not installed")
    uvloop.run(work())


LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


async def told(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    text = out.decode(errors="replace")
    assert process.returncode == 0, text
    return text


@LOOPS
def test_swaks_hands_over_a_message_to_several(loop: str, tmp_path: Path) -> None:
    swaks = needs("swaks")

    async def work() -> None:
        async with listening(tmp_path) as house:
            said = await told(
                *(
                    swaks,
                    "--server",
                    f"127.0.0.1:{house.port}",
                    "--from",
                    "app@x.test",
                    "--helo",
                    "client.test",
                ),
                *(
                    "--to",
                    "a@b.test,c@d.test",
                    "--header",
                    "Subject: from swaks",
                    "--body",
                    "hello\n.\n..\nend",
                ),
            )
            assert "250 2.0.0 01ABCDEFGHJKM journaled" in said
            (received,) = house.received
            assert [r.address for r in received.envelope.recipients] == ["a@b.test", "c@d.test"]
            assert received.heading.subject == "from swaks"
            assert b"\r\nhello\r\n.\r\n..\r\nend\r\n" in await house.octets()

    on_loop(loop, work)


@LOOPS
@pytest.mark.parametrize("kept", [True, False], ids=["connections kept", "a connection a message"])
def test_smtp_source_hands_over_all_its_messages(loop: str, kept: bool, tmp_path: Path) -> None:
    source = needs("smtp-source")

    async def work() -> None:
        async with listening(tmp_path) as house:
            await told(
                *(
                    source,
                    "-s",
                    "20",
                    "-m",
                    "1000",
                    "-l",
                    "4096",
                    "-r",
                    "3",
                    "-f",
                    "a@b.test",
                    "-t",
                    "c@d.test",
                ),
                *(["-d"] if kept else []),
                f"127.0.0.1:{house.port}",
            )
            assert len(house.received) == 1000
            assert {len(received.envelope.recipients) for received in house.received} == {3}
            assert {received.body.size for received in house.received} <= set(range(4096, 4500))

    on_loop(loop, work)


SERVER = """
import asyncio, sys
from pathlib import Path
from tests.unit.intake.listening import listening

async def main():
    async with listening(Path(sys.argv[1])) as house:
        print(house.port, flush=True)
        while len(house.received) < 20:
            await asyncio.sleep(0.05)
        print(sum(received.body.size for received in house.received), flush=True)
        print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0], flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


async def pour(port: int, size: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await reader.readline()
        writer.write(b"HELO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n")
        for _ in range(4):
            await reader.readline()
        block = (b"0123456789" * 7 + b"\r\n") * 1000
        writer.write(b"Message-ID: <1@x>\r\nDate: d\r\n\r\n")
        for _ in range(size // len(block)):
            writer.write(block)
            await writer.drain()
        writer.write(b".\r\n")
        return await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
async def test_twenty_messages_of_thirty_megabytes_at_once_stay_below_200_mb(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVER, str(tmp_path)), stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        port = int(await asyncio.wait_for(process.stdout.readline(), 30))
        replies = await asyncio.gather(*(pour(port, 30_000_000) for _ in range(20)))
        assert all(reply.startswith(b"250 ") for reply in replies), replies
        assert int(await process.stdout.readline()) > 20 * 29_900_000
        peak_kib = int(await process.stdout.readline())
        assert peak_kib * 1024 < 200 * MIB, f"{peak_kib} KiB"
    finally:
        process.stdin.close()
        await process.wait()
