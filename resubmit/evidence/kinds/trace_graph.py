"""Message traces of Exchange Online as JSON: what Graph answers, and what PowerShell makes of the same.

    rows       /admin/exchange/tracing/messageTraces: an object a message and recipient
    details    …/getDetailsByRecipient(…): an object an event; who it is about stands around it, if anywhere
    errors     Graph's error object: unreadable, with its text

Read are a page as it came, pages in an array or one a line, rows alone, rows with their events inside, the
answers of a $batch, ConvertTo-Json of Get-Mg…Trace and Get-MessageTrace[Detail][V2], the former reporting web
service's answers, and what log collectors make of any of these, as long as the row is an object of its own.

Promises: names are found without case; memory does not grow with the file.

Source: microsoft.md sections 1.2, 1.3 and 3.
Limits: what a row's stamp says is when the mail was received, taken for the status's own time too; events
without a recipient belong to whoever that message went to, if it was one.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO
from urllib.parse import unquote

from resubmit.evidence.base import RAW_LIMIT, Item, Reading
from resubmit.evidence.csvrows import encoding_of, encoding_of_head
from resubmit.evidence.jsonrows import BadPart, Record, records
from resubmit.evidence.kinds import trace_rows, trace_words
from resubmit.evidence.stamps import Culture
from resubmit.model.evidence import Source
from resubmit.model.moment import Ms, rfc3339

SOURCE = Source.TRACE_GRAPH

_CONTEXT = re.compile(
    r'"@odata\.context"\s*:\s*"[^"]*(?:tracing/messageTraces|exchangeMessageTrace)', re.IGNORECASE
)
_KEY = re.compile(r'"([A-Za-z@.]{2,40})"\s*:')
_ERROR = re.compile(r'"error"\s*:\s*\{.{0,2000}?"(?:innerError|request-id)"', re.IGNORECASE | re.DOTALL)
_ROW_KEYS = {"recipientaddress", "senderaddress", "status"}
_DETAIL_KEYS = {"event", "messageid"}
_OF_RECIPIENT = re.compile(r"recipientAddress='((?:[^']|'')*)'", re.IGNORECASE)
_DOTNET_DATE = re.compile(r"\\?/Date\((-?\d{1,15})(?:[+-]\d{4})?\)\\?/")
_MOST_TAKEN = 50_000
"""Messages whose time of receipt is kept to be told to their events."""
_MOST_FORMS = 200


def sniff(head: bytes, name: str) -> bool:
    """Whether it is JSON with the names of a trace."""
    text = head.decode(encoding_of_head(head), errors="replace").lstrip("\ufeff \t\r\n\0")
    if text[:1] not in ("{", "["):
        return False
    if _CONTEXT.search(text) or (text.startswith("{") and _ERROR.search(text[:4000])):
        return True
    keys = {key.lower() for key in _KEY.findall(text)}
    return keys >= _ROW_KEYS or (keys >= _DETAIL_KEYS and bool(keys & {"detail", "description"}))


def read(stream: BinaryIO, reading: Reading) -> Iterator[Item]:
    """Every row's and event's evidence, in the file's order; what is neither, with its place."""
    reader = Reader(reading)
    seen = False
    for part in records(stream, encoding_of(stream)):
        for item in reader.items(part):
            seen = True
            yield item
    if not seen and not reader.pages:
        yield reading.unreadable("record 1", "no row of a message trace in it")


class Reader:
    """Reads one record after the other; remembers when each message was received, and which words it has
    told of. pages: answers of Graph that were met, empty ones too."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._taken: dict[str, Ms] = {}
        self._told: set[str] = set()
        self._forms: dict[tuple[str, ...], tuple[str, trace_rows.Form]] = {}
        self.pages = 0

    def items(self, part: Record | BadPart, recipient: str = "") -> Iterator[Item]:
        """What one record says. recipient: whom its events are about, where nothing in it says so."""
        place = f"record {part.number}"
        if isinstance(part, BadPart):
            yield self._reading.unreadable(place, part.reason, part.raw)
            return
        values = part.values
        if isinstance(error := values.get("error"), dict) and "code" in error:
            said = f"{error.get('code')}: {error.get('message')}"
            yield self._reading.unreadable(place, f"Graph answered with an error: {said}", _raw(values))
            self.pages += 1
            return
        if isinstance(page := values.get("value"), list):
            self.pages += 1
            if any(not isinstance(one, dict) for one in page):
                yield self._reading.unreadable(place, "the page holds something that is no row", _raw(values))
            return  # its rows came before it
        name, form = self._form(values)
        if not name:
            self.pages += _is_page(values)
            if self._was_to_be_a_row(part):
                yield self._reading.unreadable(place, "neither a row nor an event of a trace", _raw(values))
            return
        fields = [_text(value) for value in values.values()]
        fields, form = self._with_what_stands_around(part, fields, form, recipient)
        for item in form.read(fields, self._reading.name, place, _raw(values)):
            if isinstance(item, trace_rows.UnknownWord):
                if item.word not in self._told and len(self._told) < 100:
                    self._told.add(item.word)
                    reason = f"the status {item.word!r} is not known here"
                    yield self._reading.unreadable(place, reason, _raw(values))
                continue
            yield item

    @staticmethod
    def _was_to_be_a_row(part: Record) -> bool:
        """Whether an object that is no row stands where one should: on a page, or in the file alone."""
        if not part.around:
            holds_others = any(isinstance(value, dict | list) for value in part.values.values())
            return not (holds_others or _is_page(part.values))
        on_a_page = all(name.startswith("@odata.") for page in part.around for name in page)
        return on_a_page and _looks_like_one(part.values)

    def _form(self, values: Mapping[str, Any]) -> tuple[str, trace_rows.Form]:
        """How an object with these names is read; "" for none of ours."""
        names = tuple(values)
        if names not in self._forms:
            if len(self._forms) >= _MOST_FORMS:
                self._forms.clear()
            columns = trace_words.columns(list(names))
            kind = _kind(columns)
            form = trace_rows.Form(kind, columns, Culture(self._reading.timezone), True, self._taken, SOURCE)
            self._forms[names] = kind, form
        return self._forms[names]

    def _with_what_stands_around(
        self, part: Record, fields: list[str], form: trace_rows.Form, recipient: str
    ) -> tuple[list[str], trace_rows.Form]:
        """Of an event also who it is about, and what is known of its message."""
        columns = dict(form.columns)
        if form.name == "details":
            said = _said_around(part.around)
            if not said.get("recipient") and recipient:
                said["recipient"] = recipient
            for column, value in said.items():
                if value and not _cell(fields, columns, column):
                    columns[column] = len(fields)
                    fields.append(value)
            for page in part.around:
                if isinstance(page, Mapping):
                    self._learn_of_row(page)
        key = trace_rows.network_id(_cell(fields, columns, "network"))
        stamp = _cell(fields, columns, "received")
        is_taken = (
            form.name != "details" or trace_words.event_kind(_cell(fields, columns, "event")) == "taken"
        )
        if key and stamp and is_taken:
            self._learn(key, stamp)
        return fields, replace(form, columns=columns)

    def _learn_of_row(self, values: Mapping[str, Any]) -> None:
        names = trace_words.columns(list(values))
        fields = [_text(value) for value in values.values()]
        if "event" not in names and {"network", "received"} <= names.keys():
            key = trace_rows.network_id(_cell(fields, names, "network"))
            if key:
                self._learn(key, _cell(fields, names, "received"))

    def _learn(self, key: str, stamp: str) -> None:
        if key in self._taken:
            return
        try:
            at = Culture(self._reading.timezone).parse(stamp, utc=True)
        except ValueError:
            return
        if len(self._taken) >= _MOST_TAKEN:
            del self._taken[next(iter(self._taken))]
        self._taken[key] = at


def page_items(body: bytes, reading: Reading, recipient: str = "") -> list[Item]:
    """What one answer of Graph says: rows, or the events of `recipient`. Any bytes; never raises."""
    reader = Reader(reading)
    parts = list(records(io.BytesIO(body), "utf-8"))
    if recipient:  # a message's receipt may stand behind its other events
        for part in parts:
            if isinstance(part, Record):
                list(reader.items(part, recipient))
    return [item for part in parts for item in reader.items(part, recipient)]


def _kind(columns: Mapping[str, int]) -> str:
    known = columns.keys()
    if "event" in known and known & {"message_id", "network", "detail"}:
        return "details"
    if {"recipient", "status"} <= known and known & {"sender", "message_id", "network", "received"}:
        return "summary"
    return ""


def _looks_like_one(values: Mapping[str, Any]) -> bool:
    """Whether an object inside another was to be a row: it has names that nothing else has."""
    columns = trace_words.columns(list(values))
    return len(columns.keys() & {"recipient", "sender", "event", "message_id"}) >= 2


def _is_page(values: Mapping[str, Any]) -> bool:
    """The rest of a page too large to be held, or of a request that was saved with its answers."""
    return any(name.lower().startswith("@odata.") for name in values)


def _said_around(around: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Of an event's surroundings: recipient and message, the nearest word first."""
    found: dict[str, str] = {}
    for values in around:
        columns = trace_words.columns(list(values))
        fields = [_text(value) for value in values.values()]
        for name in ("recipient", "sender", "message_id", "network", "subject", "size"):
            if name == "network" and "recipient" not in columns:
                continue  # the `id` of a $batch's answer is none
            if value := _cell(fields, columns, name):
                found.setdefault(name, value)
        for value in values.values():
            if isinstance(value, str) and (named := _OF_RECIPIENT.search(unquote(value))):
                found.setdefault("recipient", named[1].replace("''", "'"))
    return found


def _cell(fields: Sequence[str], columns: Mapping[str, int], name: str) -> str:
    place = columns.get(name)
    return fields[place].strip() if place is not None and place < len(fields) else ""


def _text(value: Any) -> str:
    """A value as a CSV's cell would hold it."""
    if isinstance(value, str):
        text: str = value.replace("\\u003c", "<").replace("\\u003e", ">")  # escaped twice
        if dotnet := _DOTNET_DATE.fullmatch(text.strip()):
            try:
                return rfc3339(int(dotnet[1])) or ""
            except OverflowError:
                return text
        return text
    if isinstance(value, dict):  # PowerShell 5.1: {"value": "/Date(…)/", "DisplayHint": 2, "DateTime": "…"}
        return _text(value.get("value")) if isinstance(value.get("value"), str) else ""
    return "" if value is None or isinstance(value, list | bool) else str(value)


def _raw(values: Mapping[str, Any]) -> str:
    try:
        return json.dumps(values, ensure_ascii=False)[:RAW_LIMIT]
    except (ValueError, RecursionError):
        return str(type(values))
