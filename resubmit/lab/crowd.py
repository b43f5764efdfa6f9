"""The demo's mail: who writes to whom, how it is sent, and what must have arrived where in the end.

What should have arrived is worked out from the tenant alone, and what has is counted at the mailboxes, so
that the journal is not its own judge.

Source: names under `.invalid` only (RFC 2606).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import format_datetime

from resubmit.clock import Clock
from resubmit.lab.client import Broken, Client
from resubmit.lab.mailbox import Mailboxes
from resubmit.lab.tenant import Kind, Tenant
from resubmit.model.envelope import address_key, domain_of
from resubmit.model.moment import to_datetime

HYBRID = tuple(
    f"{name}@{domain}"
    for domain in ("contoso.invalid", "fabrikam.invalid")
    for name in ("anna", "otto", "mia", "jonas", "ines", "paul")
)
CLOUD = ("cleo@contoso.invalid", "carl@contoso.invalid", "cora@fabrikam.invalid")
GROUPS = {
    "sales@contoso.invalid": ("anna@contoso.invalid", "mia@contoso.invalid", "cleo@contoso.invalid"),
    "board@fabrikam.invalid": ("ines@fabrikam.invalid", "paul@fabrikam.invalid"),
}
PARTNER = ("pat@partner.invalid", "quinn@partner.invalid")
SENDERS = ("invoices@app.invalid", "scanner@office.invalid", "alerts@monitoring.invalid")
SUBJECTS = (
    "Invoice",
    "Scan from the second floor",
    "Disk almost full on db",
    "Order",
    "Minutes of the meeting",
)


def tenant() -> Tenant:
    """The demo's directory: two accepted domains, mailboxes on both sides, two groups."""
    return Tenant.of(("contoso.invalid", "fabrikam.invalid"), cloud=CLOUD, hybrid=HYBRID, groups=GROUPS)


@dataclass(frozen=True, slots=True)
class Letter:
    """One mail to send."""

    message_id: str
    sender: str
    recipients: tuple[str, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Count:
    """What the mailboxes hold of some (mailbox, Message-ID) pairs.

    `arrived` pairs have at least one copy, `missing` none, `twice` more than one (`extra` counts those).
    """

    pairs: int
    arrived: int
    missing: tuple[tuple[str, str], ...]
    twice: tuple[tuple[str, str], ...]
    extra: int


def stuck_to_be(number: int) -> tuple[str, ...]:
    """The recipients of the number-th mail of the incident; each has at least one hybrid mailbox."""
    one = HYBRID[number % len(HYBRID)]
    two = HYBRID[(number * 5 + 7) % len(HYBRID)]
    match number % 8:
        case 0:
            return one, "sales@contoso.invalid"
        case 1:
            return one, two, CLOUD[number % len(CLOUD)]
        case 2:
            return one, PARTNER[number % len(PARTNER)]
        case 3:
            return ("board@fabrikam.invalid", CLOUD[number % len(CLOUD)])
        case 4:
            return one, two
        case _:
            return (one,)


def not_stuck(number: int) -> tuple[str, ...]:
    """The recipients of mail that needs no hybrid server: cloud mailboxes and the partner."""
    return (CLOUD[number % len(CLOUD)],) if number % 3 else (CLOUD[0], PARTNER[number % len(PARTNER)])


def write(name: str, number: int, recipients: Sequence[str], clock: Clock) -> Letter:
    """A mail with a Message-ID of its own, `<name>-<number>`."""
    message_id = f"<{name}-{number:04d}.demo@app.invalid>"
    sender = SENDERS[number % len(SENDERS)]
    to = ",\r\n ".join(dict.fromkeys(recipients))
    data = (
        f"From: {sender}\r\nTo: {to}\r\nDate: {format_datetime(to_datetime(clock.now()))}\r\n"
        f"Message-ID: {message_id}\r\nSubject: {SUBJECTS[number % len(SUBJECTS)]} {1000 + number}\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 8bit\r\n\r\n"
        f"Grüße aus dem Lab, Nr. {number}.\r\n.\r\n.. a line of dots above\r\n" + "x" * (number % 70) + "\r\n"
    )
    return Letter(message_id, sender, tuple(dict.fromkeys(recipients)), data.encode())


async def send(
    letters: Iterable[Letter], port: int, *, connections: int = 5, host: str = "127.0.0.1"
) -> list[Letter]:
    """Those that were answered 250 for all their recipients; each connection sends one after another."""
    waiting = list(reversed(list(letters)))
    taken: list[Letter] = []

    async def sender(number: int) -> None:
        client = await Client.connect(host, port, name=f"app{number}.invalid")
        try:
            while waiting:
                letter = waiting.pop()
                replies, dot = await client.send(
                    letter.sender, letter.recipients, letter.data, parameters="BODY=8BITMIME"
                )
                if dot is not None and dot.good and all(answer.good for answer in replies.values()):
                    taken.append(letter)
        finally:
            await client.quit()

    results = await asyncio.gather(*(sender(n) for n in range(connections)), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, Broken):
            raise result
    return taken


def expected(letters: Iterable[Letter], directory: Tenant) -> list[tuple[str, str]]:
    """Every (mailbox, Message-ID) that must have a copy, each once, groups opened."""
    pairs: dict[tuple[str, str], None] = {}
    for letter in letters:
        outside = [address_key(a) for a in letter.recipients if domain_of(a) not in directory.domains]
        for mailbox in (*sorted(directory.mailboxes(letter.recipients)), *outside):
            pairs.setdefault((mailbox, letter.message_id))
    return list(pairs)


def at_hybrid(pairs: Iterable[tuple[str, str]], directory: Tenant) -> list[tuple[str, str]]:
    """Those of the pairs whose mailbox is on the hybrid server."""
    return [pair for pair in pairs if directory.kind(pair[0]) is Kind.HYBRID]


def count(pairs: Iterable[tuple[str, str]], mailboxes: Mailboxes) -> Count:
    """What of the pairs has arrived, and how often."""
    found = {pair: mailboxes.count(*pair) for pair in pairs}
    return Count(
        len(found),
        sum(1 for copies in found.values() if copies),
        tuple(pair for pair, copies in found.items() if not copies),
        tuple(pair for pair, copies in found.items() if copies > 1),
        sum(copies - 1 for copies in found.values() if copies > 1),
    )
