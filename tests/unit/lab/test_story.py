"""The story and its count, with a stand-in for the service that recovers well, badly or not at all."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest

from resubmit.lab import demo as demo_module
from resubmit.lab import story as story_module
from resubmit.lab.client import Client
from resubmit.lab.script import Mail, Script
from resubmit.lab.smtpd import ScriptedServer
from resubmit.lab.stage import Stage, StageError
from resubmit.lab.trace import PENDING, Row
from resubmit.model.moment import Ms


class StandIn(Stage):
    """Hands on what it takes; once the certificate is mended it sends what the trace has Pending again,
    `copies` times, leaving out every `skip`-th."""

    copies = 1
    skip = 0

    async def serve(self, timeout: Ms = 0) -> None:
        self.mails: dict[str, Mail] = {}
        self.seen: list[Row] = []
        self.relay = ScriptedServer(Script(dot=self._take), port=self.intake_port)
        await self.relay.start()
        self._started.append(self.relay)

    async def _take(self, mail: Mail) -> str:
        self.mails[mail.header("Message-ID")] = mail
        for port, ours in ((self.online.port, True), (self.partner.port, False)):
            to = [address for address, _ in mail.recipients if self.tenant.accepts(address) is ours]
            if to:
                await self._hand(port, mail, to)
        return "250 2.0.0 X journaled"

    async def _hand(self, port: int, mail: Mail, to: list[str]) -> None:
        client = await Client.connect("127.0.0.1", port, name="relay.invalid")
        await client.send(mail.sender, to, b"Received: by relay.invalid\r\n" + mail.data)
        await client.quit()

    def renew(self) -> None:
        self.seen = self.online.trace.with_status(PENDING)
        super().renew()
        self.recovery = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        for number, row in enumerate(self.seen):
            if self.skip and number % self.skip == 0:
                continue
            for _ in range(self.copies):
                await self._hand(self.online.port, self.mails[row.message_id], [row.recipient])

    async def command(self, *words: str, width: int = 76) -> tuple[int, str, str]:
        return 0, f"{' '.join(words)}\n", ""

    async def ask(self, *words: str) -> list[dict[str, Any]]:
        match words[0]:
            case "list":
                return [
                    {
                        "message_id": row.message_id,
                        "recipients": [{"address": row.recipient, "stuck": True}],
                    }
                    for row in self.online.trace.with_status(PENDING)
                ]
            case "status":
                return [{"destinations": [{"name": "hybrid", "gate": "testing", "reasons": ["canary"]}]}]
            case _:
                return [{"id": 1, "destination": "hybrid", "state": "closed", "stuck": len(self.seen)}]


class Doubling(StandIn):
    copies = 2


class Forgetful(StandIn):
    skip = 100


class Dead(StandIn):
    async def serve(self, timeout: Ms = 0) -> None:
        raise StageError("the service ended with 1", hint="see above")


async def told(
    stage: type[Stage], monkeypatch: pytest.MonkeyPatch, *, as_json: bool = True
) -> tuple[int, str, dict[str, Any]]:
    monkeypatch.setattr(demo_module, "Stage", stage)
    out = io.StringIO()
    code = await demo_module.demo(as_json=as_json, keep=False, out=out)
    text = out.getvalue()
    return code, text, json.loads(text) if as_json else {}


async def test_a_story_that_ends_well(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text, report = await told(StandIn, monkeypatch)
    assert (code, report["missing"]) == (0, [])
    assert text.count("\n") == 1
    assert report["journaled"] == 302
    assert report["mails_stuck"] == 250
    assert report["stuck"] == report["recovered"] > 250
    assert (report["failed"], report["unknown"], report["duplicates"], report["other_mail"]) == (0, 0, 0, 0)
    assert report["left_by_exchange_online"] == report["stuck"]
    assert report["seconds_from_fix_to_last_delivery"] >= 0
    assert report["incident"]["stuck"] == report["stuck"]


async def test_a_service_that_sends_twice_fails_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, report = await told(Doubling, monkeypatch)
    assert code == 1
    assert report["duplicates"] > 0
    assert any("too many" in one for one in report["missing"])


async def test_a_service_that_forgets_one_fails_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story_module, "WHOLE", 12_000)
    code, _, report = await told(Forgetful, monkeypatch)
    assert code == 1
    assert report["unknown"] == report["stuck"] - report["recovered"] > 0
    assert any("have no copy" in one for one in report["missing"])


async def test_a_dead_service_is_reported_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, report = await told(Dead, monkeypatch)
    assert code == 1
    assert report["missing"][0] == "the service ended with 1"


async def test_the_narration_has_its_steps_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text, _ = await told(StandIn, monkeypatch, as_json=False)
    assert code == 0
    steps = [line.split(".")[0] for line in text.splitlines() if line[:1].isdigit()]
    assert steps == [str(n + 1) for n in range(9)]
    assert "would have been lost" in text
    assert max(len(line) for line in text.splitlines()) <= 80
