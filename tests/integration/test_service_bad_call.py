"""Twenty clients in one commit, one of which can't be stored: the other nineteen hear 250."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

from structlog.testing import capture_logs

from resubmit.clock import SystemClock
from resubmit.intake.base import Received
from resubmit.intake.kinds.smtp import SmtpListener
from resubmit.intake.settings import SmtpIntake
from resubmit.journal.door import Journal
from resubmit.lab.client import Answer, Client
from resubmit.model.ids import id_text
from tests.helpers.journals import arrival, recipient
from tests.helpers.service import mail

CLIENTS = 20
BAD = "7@app.invalid"


async def test_one_bad_call_among_twenty_leaves_nineteen_their_250(tmp_path: Path) -> None:
    held, free = threading.Event(), threading.Event()
    free.set()

    def hold(point: str) -> None:
        if point == "before_begin" and not free.is_set():
            held.set()
            free.wait(30)

    journal = await Journal.open(tmp_path / "journal", clock=SystemClock(), faults=hold)
    waiting = 0
    all_wait = asyncio.Event()

    async def accept(received: Received) -> str:
        nonlocal waiting
        waiting += 1
        if waiting == CLIENTS:
            # In the loop's next turn: by then the last one waits in the journal too.
            asyncio.get_running_loop().call_soon(all_wait.set)
        one = arrival(
            recipient("anna@x.invalid", due_at=0), message_id=received.heading.message_id, body=received.body
        )
        if one.message_id == f"<{BAD}>":
            # Its second recipient breaks a law of the schema, after the message and the first were written.
            one = replace(one, recipients=(*one.recipients, recipient("otto@x.invalid", destination=None)))
        return id_text(await journal.record(one))

    listener = SmtpListener(
        SmtpIntake.model_validate({"listen": ["127.0.0.1:0"]}),
        new_spool=journal.new_spool,
        vet=lambda address: None,
        room=lambda: None,
        clock=SystemClock(),
    )
    await listener.bind()
    running = asyncio.create_task(listener.run(accept))

    async def told(number: int) -> Answer:
        client = await Client.connect(*listener.addresses[0][:2], name="app.invalid")
        _, said = await client.send("app@app.invalid", ["anna@x.invalid"], mail(f"{number}@app.invalid"))
        await client.quit()
        assert said is not None
        return said

    try:
        with capture_logs():
            free.clear()
            first = asyncio.create_task(journal.key())
            assert await asyncio.to_thread(held.wait, 30)
            clients = [asyncio.create_task(told(number)) for number in range(CLIENTS)]
            await asyncio.wait_for(all_wait.wait(), 30)
            before = journal.stats.commits
            free.set()
            await first
            answers = await asyncio.gather(*clients)
        codes = [answer.code for answer in answers]
        assert codes == [451 if f"{n}@app.invalid" == BAD else 250 for n in range(CLIENTS)]
        assert journal.stats.commits - before == 2, "the first alone, and the nineteen together"
        due = await journal.due("eop", SystemClock().now(), 100)
        assert {f"<{n}@app.invalid>" for n in range(CLIENTS)} - {one.message_id for one in due} == {
            f"<{BAD}>"
        }
    finally:
        free.set()
        await listener.stop(2000)
        await running
        await journal.close()
