"""Journals and nouns for tests, a builder a noun: what a test does not say is filled in plausibly.

`Shelf` writes rows into a journal of its own by plain SQL, past the writer: for reading commands, views and
pages, which must show any state the schema allows. What the writer does is tested with the writer.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from resubmit.journal.connection import open_writer
from resubmit.journal.migrations import VERSION, schema
from resubmit.model.ids import IdMaker
from resubmit.model.message import message_key
from resubmit.model.moment import DAY, HOUR, MINUTE, Ms, parse_rfc3339

NOW: Ms = parse_rfc3339("2026-11-24T12:00:00Z")
"""When the tests' journals are read."""

_EVIDENCE_TEXTS = (
    *("recipient", "original_recipient", "group_address", "key", "message_id", "network_message_id"),
    *(
        "envelope_id",
        "queue_id",
        "sender",
        "subject",
        "enhanced",
        "text",
        "remote",
        "file",
        "place",
        "raw",
        "why",
    ),
)


class Shelf:
    """A journal's folder with rows as told. Close before reading with another connection is not needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._conn = open_writer(folder)
        self._conn.executescript(schema())
        self._conn.execute(f"pragma user_version = {VERSION}")
        self._ids = IdMaker()
        self._offers = 0

    def close(self) -> None:
        self._conn.close()

    def run(self, sql: str, *params: object) -> int:
        """One statement; its last row id."""
        with closing(self._conn.execute(sql, params)) as cursor:
            return int(cursor.lastrowid or 0)

    def insert(self, table: str, **values: object) -> int:
        names = ", ".join(values)
        return self.run(
            f"insert into {table} ({names}) values ({', '.join('?' * len(values))})", *values.values()
        )

    def message(
        self,
        *recipients: dict[str, Any],
        at: Ms = NOW - HOUR,
        body: bytes = b"Subject: a letter\r\n\r\nGood day\r\n",
        **values: Any,
    ) -> int:
        """A message with its recipients (`recipient()` makes them; one plain one when none is given)."""
        number = self._ids.next(at)
        values = {
            "message_id": f"<{number}@example.org>",
            "sender": "app@example.org",
            "parameters": "[]",
            "subject": "a letter",
            "intake": "smtp",
            "peer": "192.0.2.7",
            "helo": "app.example.org",
            "protocol": "ESMTP",
            "size": len(body),
            "digest": b"",
            **values,
        }
        values.setdefault("key", message_key(values["message_id"]))
        self.insert("message", id=number, received_at=at, day=at // DAY, **values)
        if values.get("body_file") is None:
            self.insert("body", message=number, octets=body)
        for n, given in enumerate(recipients or (recipient(),)):
            self.insert("recipient", message=number, n=n, **{"since": at, **given})
        return number

    def attempt(
        self,
        message: int,
        n: int = 0,
        *,
        no: int = 1,
        at: Ms = NOW - HOUR,
        kind: str = "handoff",
        event: str = "reply_accepted",
        code: int = 250,
        reply: str = "250 2.0.0 OK",
        **values: Any,
    ) -> int:
        """An attempt that ended a second after it began. Returns its offer."""
        self._offers += 1
        self.insert(
            "offer", id=self._offers, message=message, no=no, route="eop", kind=kind, begun_at=at,
            ended_at=at + 1000, dot_at=at + 900, day=at // DAY, remote="mx.example.net [198.51.100.1]",
        )  # fmt: skip
        self.insert(
            "attempt", message=message, n=n, no=no, offer=self._offers, ended_at=at + 1000, event=event,
            accepted=int(event == "reply_accepted"), stage="dot", code=code, reply=reply, **values,
        )  # fmt: skip
        return self._offers

    def moved(
        self, message: int, n: int, seq: int, event: str, from_: str, to: str, *, at: Ms, **values: Any
    ) -> None:
        """A line of history."""
        values = {"why": "as told", "attempt": 1, **values}
        self.insert(
            "history",
            message=message,
            n=n,
            seq=seq,
            at=at,
            event=event,
            from_state=from_,
            to_state=to,
            **values,
        )

    def evidence(
        self, message: int | None = None, n: int | None = None, *, at: Ms = NOW, **values: Any
    ) -> int:
        """A piece of evidence, of a recipient when one is named."""
        filled = {
            **dict.fromkeys(_EVIDENCE_TEXTS, ""),
            "source": "trace_csv",
            "status": "deferred",
            "match": "matched" if message is not None else "unmatched",
            "observed_at": at,
            "read_at": at,
            **values,
        }
        digest = json.dumps(filled, default=str).encode() + str((message, n)).encode()
        return self.insert("evidence", digest=digest, day=at // DAY, message=message, n=n, **filled)

    def destination(self, name: str = "hybrid", **values: Any) -> None:
        filled = {
            "stuck_after": 15 * MINUTE,
            "deadline_margin": 2 * HOUR,
            "expires_after": 24 * HOUR,
            "trace_stale": HOUR,
            "route": "eop",
            "resubmit_route": "eop",
            **values,
        }
        self.insert("destination", name=name, **filled)

    def gate(self, name: str, state: str = "closed", **values: Any) -> None:
        filled = {
            "version": 1,
            "since": NOW - HOUR,
            "reasons": '["certificate_expired"]',
            "data": "{}",
            **values,
        }
        self.insert("gate", name=name, state=state, **filled)

    def look(self, target: str = "destination:hybrid", health: str = "faulty", **values: Any) -> int:
        filled = {
            "at": NOW - MINUTE,
            "codes": '["certificate_expired"]',
            "fingerprint": "",
            "verdict": "{}",
            **values,
        }
        return self.insert("look", target=target, health=health, **filled)

    def incident(self, *members: tuple[int, int], state: str = "open", **values: Any) -> int:
        filled = {
            "destination": "hybrid",
            "route": "eop",
            "cause": "tls",
            "opened_at": NOW - 2 * HOUR,
            "fault_from": NOW - 2 * HOUR,
            "closed_at": NOW if state == "closed" else None,
            **values,
        }
        number = self.insert("incident", state=state, **filled)
        for message, n in members:
            self.insert("incident_recipient", incident=number, message=message, n=n, joined_at=NOW - HOUR)
        return number

    def job(self, *items: tuple[int, int, str], state: str = "waiting", **values: Any) -> int:
        filled = {
            "asked_at": NOW - MINUTE,
            "asked_by": "pat",
            "reason": "certificate renewed",
            "filter": '{"destination": ["hybrid"]}',
            "options": "{}",
            "destination": "hybrid",
            "gate": "destination:hybrid",
            **values,
        }
        number = self.insert("job", state=state, **filled)
        for message, n, item in items:
            self.insert("job_item", job=number, message=message, n=n, state=item)
        return number


def recipient(address: str = "ann@contoso.com", state: str = "journaled", **values: Any) -> dict[str, Any]:
    """A recipient's row: `deferred` ones come with the cause tls, a deadline and an attempt."""
    filled: dict[str, Any] = {
        "address": address,
        "parameters": "[]",
        "destination": "hybrid",
        "route": "eop",
        "state": state,
        "holder": "us" if state in ("journaled", "sending", "retrying") else "far",
    }
    if state in ("deferred", "pending", "accepted", "expired"):
        filled |= {"attempt": 1, "deadline": NOW + 20 * HOUR}
    if state == "deferred":
        filled |= {"cause": "tls", "scope": "destination", "mend": "gate"}
    if state == "journaled":
        filled["due_at"] = NOW
    if state == "held":
        filled["below"] = "deferred"
    return filled | values
