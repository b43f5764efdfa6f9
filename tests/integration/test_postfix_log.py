"""A real Postfix beside us: what its log says of our mail is read as it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resubmit.clock import SystemClock
from resubmit.lab.certs import Authority
from resubmit.lab.client import Client
from resubmit.lab.smtpd import Script, ScriptedServer
from resubmit.model.moment import DAY
from tests.helpers.postfix import Postfix, postfix
from tests.helpers.service import QUICK, Service, free_port, mail, route, until

pytestmark = pytest.mark.timeout(110)

# Nothing is resubmitted by itself: only the log speaks.
CALM = QUICK.replace("[recovery]", '[recovery]\nmode = "manual"')
STANDS = "select address, state, holder, cause from recipient order by address"


def tables(relay: Postfix) -> str:
    log = f'[[evidence.log]]\nkind = "postfix_log"\npath = "{relay.log}"\nposition = "beside"\n'
    return route("relay", relay.port, final=False) + log + CALM


async def sent(service: Service, message_id: str, *to: str) -> None:
    client = await Client.connect("127.0.0.1", service.port, name="app.invalid")
    _, said = await client.send("app@app.invalid", list(to), mail(message_id))
    assert said is not None and said.good, said
    await client.quit()


async def stand(service: Service, relay: Postfix, *wanted: tuple[str, str, str, str | None]) -> None:
    """Returns when the recipients stand so."""

    async def known() -> bool:
        return service.rows(STANDS) == sorted(wanted)

    def why() -> tuple[Any, str]:
        return service.rows(STANDS), relay.log.read_text()

    await until(known, why)


async def test_a_real_postfix_holds_passes_on_and_gives_up_as_its_log_says(tmp_path: Path) -> None:
    """Over a rotation of its own making, with the reasons that stand in other lines than the outcome."""
    authority = Authority(tmp_path, SystemClock().now())
    expired = authority.expired("mx.expired.invalid", since=DAY)
    # Postfix knows TLS levels by the next hop, so each has a server of its own.
    good, plain, old = (
        ScriptedServer(Script()),
        ScriptedServer(Script()),
        ScriptedServer(Script(starttls=True), tls=expired.context()),
    )
    levels = {"expired.invalid": "secure match=mx.expired.invalid", "plain.invalid": "encrypt"}
    async with good, plain, old:
        hops = {
            "closed.invalid": free_port(),
            "expired.invalid": old.port,
            "good.invalid": good.port,
            "plain.invalid": plain.port,
        }
        async with (
            postfix(hops, levels=levels, ca=authority.root_file) as relay,
            Service(tmp_path, tables(relay)).running() as service,
        ):
            await sent(service, "<one@app.invalid>", *(f"anna@{domain}" for domain in hops))
            await stand(
                service,
                relay,
                ("anna@closed.invalid", "deferred", "relay", "connection"),
                ("anna@expired.invalid", "deferred", "relay", "tls"),
                ("anna@good.invalid", "accepted", "far", None),
                ("anna@plain.invalid", "deferred", "relay", "tls"),
            )
            texts = dict(service.rows("select recipient, text from evidence where status = 'deferred'"))
            assert texts["anna@expired.invalid"] == (
                "Server certificate not verified: certificate has expired"
            )
            assert "was not offered" in texts["anna@plain.invalid"]
            # Each statement is known to be about this mail by its Message-ID, and its queue id is the one
            # that Postfix told us when it took the mail.
            ids = service.rows(
                "select distinct e.queue_id, o.next_key, e.no, e.match from evidence e"
                " join attempt a on a.message = e.message and a.n = e.n and a.no = e.no"
                " join offer o on o.id = a.offer"
            )
            assert [(queue == next_key, no, match) for queue, next_key, no, match in ids] == [
                (True, 1, "matched")
            ]

            await relay.command("postfix", "logrotate")
            old.tls = authority.good("mx.expired.invalid").context()
            await relay.command("postqueue", "-f")
            await stand(
                service,
                relay,
                ("anna@closed.invalid", "deferred", "relay", "connection"),
                ("anna@expired.invalid", "accepted", "far", None),
                ("anna@good.invalid", "accepted", "far", None),
                ("anna@plain.invalid", "deferred", "relay", "tls"),
            )

            async def given_up() -> bool:
                # What is being delivered at that moment is skipped: Postfix is asked again.
                await relay.command("postsuper", "-e", "ALL")
                await relay.command("postqueue", "-f")
                return bool(relay.lines("status=force-expired"))

            await until(given_up, relay.log.read_text)
            await stand(
                service,
                relay,
                ("anna@closed.invalid", "expired", "nobody", "connection"),
                ("anna@expired.invalid", "accepted", "far", None),
                ("anna@good.invalid", "accepted", "far", None),
                ("anna@plain.invalid", "expired", "nobody", "tls"),
            )


async def test_a_real_postfix_is_told_to_try_again_when_the_gate_opens(tmp_path: Path) -> None:
    """By itself it would try again in an hour; what it holds is not resubmitted by us meanwhile."""
    authority = Authority(tmp_path, SystemClock().now())
    expired = authority.expired("mx.expired.invalid", since=DAY)
    old = ScriptedServer(Script(starttls=True), tls=expired.context())
    slow = "queue_run_delay = 1h\nminimal_backoff_time = 1h\nmaximal_backoff_time = 2h\n"
    async with (
        old,
        postfix(
            {"expired.invalid": old.port},
            levels={"expired.invalid": "secure match=mx.expired.invalid"},
            ca=authority.root_file,
            more=slow,
        ) as relay,
    ):
        judged = (
            f'probe = "127.0.0.1:{old.port}"\nprobe_level = "domain"\nprobe_name = "mx.expired.invalid"\n'
            f'ca_file = "{authority.root_file}"\n'
        )
        log = (
            f'[[evidence.log]]\nkind = "postfix_log"\npath = "{relay.log}"\n'
            f'flush = ["postqueue", "-c", "{relay.etc}", "-f"]\n'
        )
        tables = route("relay", relay.port, final=False, destination=judged) + log + QUICK
        async with Service(tmp_path, tables).running() as service:
            gates = "select state from gate where name = 'destination:relay'"

            async def closed() -> bool:
                return service.rows(gates) == [("closed",)]

            await until(closed, service.end_of_log)
            await sent(service, "<two@app.invalid>", "anna@expired.invalid")
            await stand(service, relay, ("anna@expired.invalid", "deferred", "relay", "tls"))
            old.tls = authority.good("mx.expired.invalid").context()
            await stand(service, relay, ("anna@expired.invalid", "accepted", "far", None))
            assert service.rows("select count(*) from attempt") == [(1,)]
            assert len(old.mails) == 1
