"""Microsoft Graph's message trace and its sign-in, with their quirks.

    an `or` in a filter is taken and ignored: the last value of a property wins, everything is ANDed
    both bounds of the time or an error; at most 10 days; not older than 90; not in the future
    pages newest first, their links opaque; a limit of requests in 5 minutes, answered 429 with Retry-After
    rows and statuses come late; long reasons are cut in the middle and the suffix is glued on
    faults on order: no service principal, no consent, an expired secret, 5xx, broken pages, a clock apart

It shares no code with the client it is for. `trace` is the look-alike's own, so both tell the same.

Source: microsoft.md section 1; RFC 9112 as far as a client of one host needs it.
Limits: one tenant, one application; details draw on the same limit as lists.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email.utils
import json
import re
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from resubmit.clock import Clock
from resubmit.lab.entra import SignIn, unb64
from resubmit.lab.trace import Row, Step, Trace
from resubmit.model.moment import DAY, MINUTE, SECOND, Ms, parse_rfc3339, to_datetime

TRACE_APP = "8bd644d1-64a1-4d4b-ae52-2e0cbf64e373"
_LIST = "/v1.0/admin/exchange/tracing/messageTraces"
_DETAILS = re.compile(
    re.escape(_LIST) + r"/([^/]+)/getDetailsByRecipient\(recipientAddress='((?:[^']|'')*)'\)"
)
_TERM = re.compile(r"(\w+)\s+(ge|le|gt|lt|eq|ne)\s+('(?:[^']|'')*'|\S+)|(\w+)\((\w+),\s*'((?:[^']|'')*)'\)")
_SPAN = 5 * MINUTE
_LONGEST = 10 * DAY
_STATUS = {
    "Delivered": "delivered",
    "Pending": "pending",
    "Failed": "failed",
    "Expanded": "expanded",
    "GettingStatus": "gettingStatus",
}
_EVENTS = {"SEND": "Send external", "DELIVER": "Deliver", "EXPAND": "Expand DL"}


@dataclass(slots=True)
class Quirks:
    """What goes wrong, to be set while it runs. fails: statuses that the next requests get. broken: what is
    wrong with pages: `circle`, `elsewhere` (a link to another host), `cut`, `html`, `no_value`."""

    service_principal: bool = True
    consent: bool = True
    fails: list[int] = field(default_factory=list)
    retry_after: str | None = None
    skew: Ms = 0
    broken: str = ""
    lag: Ms = 0
    late: dict[str, Ms] = field(default_factory=dict)
    """by network message id: so much later than `lag`"""
    limit: int = 100
    page: int = 5_000
    cut_details: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and what it was answered."""

    method: str
    target: str
    status: int
    at: Ms

    @property
    def is_list(self) -> bool:
        return urlsplit(self.target).path == _LIST

    @property
    def is_details(self) -> bool:
        return "getDetailsByRecipient" in self.target


class _Wrong(Exception):
    """An error answer: status, code, message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class GraphLab:
    """Serves the sign-in and the trace at one port. `asked`: every request to Graph; `sign_in`: who may ask;
    `changed` is notified at each."""

    def __init__(
        self,
        trace: Trace,
        *,
        clock: Clock,
        tls: ssl.SSLContext | None = None,
        host: str = "localhost",
    ) -> None:
        self.trace = trace
        self.clock = clock
        self.quirks = Quirks()
        self.sign_in = SignIn(clock)
        self.asked: list[Asked] = []
        self.changed = asyncio.Condition()
        self.port = 0
        self._host = host
        self._tls = tls
        self._stamps: list[Ms] = []
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def login(self) -> str:
        """The address of the sign-in."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """The address of Graph."""
        return f"{self.login}/v1.0"

    async def start(self) -> None:
        """Answers from now on; at the same port if it did before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Answers nobody."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._open):
                writer.transport.abort()
            if self._serving:  # they end by themselves now; a cancelled one would be complained of
                await asyncio.wait(self._serving)
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> GraphLab:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # ── HTTP ────────────────────────────────────────────────────────────────────────────────────────

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass
        finally:
            self._open.discard(writer)
            with contextlib.suppress(OSError):
                writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ", 2)
        fields = {
            k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        more: dict[str, str] = {}
        try:
            if method == "POST":
                status, answer = self.sign_in.answer(target, body, self.login)
            else:
                status, answer = 200, self._answer(target, fields)
        except _Wrong as wrong:
            status, answer = wrong.status, self._error(wrong)
            if status in (429, 503):
                more["Retry-After"] = self.quirks.retry_after or str(self._wait())
        if method == "GET":
            self.asked.append(Asked(method, target, status, self.clock.now()))
        payload = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        if status == 200 and method == "GET" and self.quirks.broken == "cut":
            payload = payload[: len(payload) * 2 // 3]
        date = email.utils.format_datetime(to_datetime(self.clock.now() + self.quirks.skew), usegmt=True)
        more |= {"Date": date, "Content-Type": "application/json", "Content-Length": str(len(payload))}
        lines = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in more.items()), "", ""]
        writer.write("\r\n".join(lines).encode() + payload)
        await writer.drain()
        async with self.changed:
            self.changed.notify_all()
        return True

    def _error(self, wrong: _Wrong) -> dict[str, Any]:
        ids = {"date": _iso(self.clock.now()), "request-id": "6a3c1a54-9f0e-4f3b-8a4e-0a2c8a5d1e01"}
        return {"error": {"code": wrong.code, "message": wrong.message, "innerError": ids}}

    # ── the trace ───────────────────────────────────────────────────────────────────────────────────

    def _answer(self, target: str, fields: dict[str, str]) -> Any:
        now, quirks = self.clock.now(), self.quirks
        token = fields.get("authorization", "").removeprefix("Bearer ")
        if not self.sign_in.takes(token):
            text = "Lifetime validation failed, the token is expired."
            raise _Wrong(401, "InvalidAuthenticationToken", text)
        if quirks.fails:
            status = quirks.fails.pop(0)
            raise _Wrong(status, "ServiceUnavailable" if status >= 500 else "UnknownError", "")
        if not quirks.service_principal:
            text = (
                "Service principal-less Authentication failed: the service principal for App ID "
                f"{TRACE_APP} was not found. Please create a service principal for this app in your tenant. "
                "Provisioning may take several hours to complete."
            )
            raise _Wrong(401, "Unauthorized", text)
        if not quirks.consent:
            raise _Wrong(
                403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation."
            )
        self._stamps = [at for at in self._stamps if now - at < _SPAN]
        if len(self._stamps) >= quirks.limit:
            text = "Your recent queries have surpassed the permitted limit, please try again later."
            raise _Wrong(429, "TooManyRequests", text)
        self._stamps.append(now)
        if quirks.broken == "html":
            return b"<!DOCTYPE html><html><body>Sign in to the proxy</body></html>"
        if quirks.broken == "no_value":
            return {"@odata.context": "x"}
        parts = urlsplit(target)
        if details := _DETAILS.fullmatch(unquote(parts.path)):
            return self._details(details[1], details[2].replace("''", "'"))
        if parts.path != _LIST:
            raise _Wrong(404, "ResourceNotFound", "Resource not found for the segment.")
        return self._page({key: values[-1] for key, values in parse_qs(parts.query).items()})

    def _wait(self) -> int:
        """Seconds until a request is free again."""
        oldest = min(self._stamps, default=self.clock.now())
        return max((oldest + _SPAN - self.clock.now()) // SECOND, 1)

    def _known(self) -> list[Row]:
        """The rows as they are told of now, newest first."""
        now, quirks = self.clock.now(), self.quirks
        rows = []
        for row in self.trace.rows:
            cutoff = now - quirks.lag - quirks.late.get(row.network_id, 0)
            if row.received_at <= cutoff:
                rows.append(row.until(cutoff))
        return sorted(rows, key=lambda row: (-row.received_at, row.network_id, row.recipient))

    def _page(self, options: dict[str, str]) -> dict[str, Any]:
        top = int(options.get("$top", "1000"))
        if not 1 <= top <= 5_000:
            raise _Wrong(400, "BadRequest", "ResultSize is invalid")
        rows = self._filtered(options.get("$filter", ""))
        size = min(top, self.quirks.page)
        start = int(unb64(options["$skiptoken"]).decode()) if "$skiptoken" in options else 0
        page: dict[str, Any] = {
            "@odata.context": f"{self.endpoint}/$metadata#admin/exchange/tracing/messageTraces"
        }
        if start + size < len(rows):
            following = 0 if self.quirks.broken == "circle" and start else start + size
            host = "https://elsewhere.invalid/v1.0" if self.quirks.broken == "elsewhere" else self.endpoint
            token = base64.urlsafe_b64encode(str(following).encode()).decode().rstrip("=")
            wanted = options.get("$filter", "").replace(" ", "+").replace(":", "%3a").replace("'", "%27")
            page["@odata.nextLink"] = (
                f"{host}/admin/exchange/tracing/messageTraces?$filter={wanted}&$top={top}&$skiptoken={token}"
            )
        page["value"] = [_row(row) for row in rows[start : start + size]]
        return page

    def _filtered(self, text: str) -> list[Row]:
        now = self.clock.now() + self.quirks.skew
        terms: dict[tuple[str, str], str] = {}
        for name, operator, value, function, of, literal in _TERM.findall(text):
            if function:
                terms[of, function.lower()] = literal.replace("''", "'")
            elif operator in ("ge", "le", "eq"):
                plain = value[1:-1].replace("''", "'") if value.startswith("'") else value
                terms[name, operator] = plain  # the last one wins; `or` is not looked at
        since, until = terms.get(("receivedDateTime", "ge")), terms.get(("receivedDateTime", "le"))
        if since is None and until is None:
            first, last = now - 2 * DAY, now
        elif since is None or until is None:
            raise _Wrong(400, "BadRequest", "EndDate is required when a StartDate is entered.")
        else:
            first, last = parse_rfc3339(since), parse_rfc3339(until)
        if last - first > _LONGEST:
            text = (
                "|System.ArgumentException|The interval between StartDate and EndDate "
                "can't be longer than 10 days."
            )
            raise _Wrong(400, "BadRequest", text)
        if first < now // DAY * DAY - 90 * DAY:
            text = "Invalid StartDate value. The StartDate can't be older than 90 days from today."
            raise _Wrong(400, "BadRequest", text)
        if last > now + MINUTE:
            raise _Wrong(400, "BadRequest", "Invalid EndDate value. The EndDate can't be in the future.")
        rows = [row for row in self._known() if first <= row.received_at <= last + 999]
        for (name, operator), value in terms.items():
            if operator == "eq" and name != "receivedDateTime":
                rows = [row for row in rows if _is(str(_row(row).get(name, "")), value)]
        return rows

    def _details(self, network_id: str, recipient: str) -> dict[str, Any]:
        found = (
            row
            for row in self._known()
            if row.network_id == network_id and row.recipient.lower() == recipient.lower()
        )
        row = next(found, None)
        context = f"{self.endpoint}/$metadata#Collection(microsoft.graph.exchangeMessageTraceDetail)"
        steps = [] if row is None else row.steps
        events = [] if row is None else [_event(row, step, self.quirks.cut_details) for step in steps]
        return {"@odata.context": context, "value": events}


def _row(row: Row) -> dict[str, Any]:
    last = row.steps[-1] if row.steps else None
    return {
        "id": row.network_id,
        "senderAddress": row.sender,
        "recipientAddress": row.recipient,
        "messageId": row.message_id,
        "receivedDateTime": _iso(row.received_at),
        "subject": row.subject,
        "size": row.size,
        "fromIP": row.from_ip,
        "toIP": last.ip if last is not None and last.status == "Delivered" else "",
        "status": _STATUS.get(row.status(), row.status()),
    }


def _event(row: Row, step: Step, cut: int | None) -> dict[str, Any]:
    text = step.detail
    if cut is not None and "LED=" in text and len(text) > cut:
        text = f"{text[:cut]}. OutboundProxyTargetIP: {step.ip}. OutboundProxyTargetHostName: {step.server}"
    return {
        "id": row.network_id,
        "messageId": row.message_id,
        "dateTime": f"{to_datetime(step.at):%Y-%m-%dT%H:%M:%S}.{step.at % 1000:03d}Z",
        "event": _EVENTS.get(step.event.upper(), step.event.capitalize()),
        "action": "",
        "description": text,
        "data": "<root/>",
    }


def _is(value: str, wanted: str) -> bool:
    """`eq`; `*@domain` works for addresses, as measured."""
    if wanted.startswith("*@"):
        return value.lower().endswith(wanted[1:].lower())
    return value.lower() == wanted.lower()


def _iso(at: Ms) -> str:
    return f"{to_datetime(at):%Y-%m-%dT%H:%M:%SZ}"
