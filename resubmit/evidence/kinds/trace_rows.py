"""One row of a message trace → what it says of each recipient.

Source: microsoft.md sections 2.2 (`##` lists), 2.3 (parallel lists), 3.1 (statuses), 3.2 (events).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from resubmit.evidence.kinds import trace_words
from resubmit.evidence.led import Reason, parse_reason
from resubmit.evidence.stamps import Culture
from resubmit.meaning.classify import codes, is_expiry, meaning_of
from resubmit.model.evidence import Evidence, Holder, Source, Status, Unreadable
from resubmit.model.message import message_id_of, message_key
from resubmit.model.moment import Ms

_HEX = re.compile(r"[0-9a-f]{32}")
_BROKEN = re.compile(r'"?[^<>"]*<([^<>"@]+)"?(@[^<>"]+)>?"?|[^<]*<([^<>]+@[^<>]+)>')
_EVENTS_AFTER_MARK = re.compile(r"[A-Za-z][A-Za-z ,._-]*")
_SENT_TO = re.compile(r"sent to (\S+?)(?: at (\S+?))?(?: using |\.?$|,)", re.IGNORECASE)
_MEP = re.compile(r'<MEP\s+Name="(\w+)"\s+\w+="([^"]*)"', re.IGNORECASE)
_FATES = ("delivered", "expanded", "failed", "judged", "passed_on", "deferred", "taken")
"""Which of a recipient's events decides: the one nearest its end."""
_HOLDERS = {Status.FAILED: Holder.NOBODY, Status.EXPIRED: Holder.NOBODY}


@dataclass(frozen=True, slots=True)
class UnknownWord:
    """A status word not known here; the row's evidence comes all the same and says nothing."""

    word: str


_Found: TypeAlias = Evidence | Unreadable | UnknownWord


def network_id(text: str) -> str:
    """A network message id as it is compared: GUIDs in lower case with hyphens, "" for none."""
    bare = text.strip().strip("{}").lower()
    plain = bare.replace("-", "")
    if _HEX.fullmatch(plain):
        if not plain.strip("0"):
            return ""
        return f"{plain[:8]}-{plain[8:12]}-{plain[12:16]}-{plain[16:20]}-{plain[20:]}"
    return bare if "-" in bare else ""


def address(text: str) -> str:
    """A recipient as the mail had it: Exchange breaks `Name <a@b>` into `"Name<a"@b`."""
    text = text.strip()
    if "<" in text:
        found = _BROKEN.fullmatch(text)
        if found:
            return (found[3] or f"{found[1]}{found[2]}").strip()
    return text


def outcome(status: Status, reason: Reason) -> tuple[Status, dict[str, object]]:
    """A deferral's or failure's status with the fields its reason gives."""
    if not reason.text:
        return status, {}
    code, enhanced = codes(reason.text)
    if status is Status.FAILED and is_expiry(reason.text):
        status = Status.EXPIRED
    said: dict[str, object] = {"text": reason.text, "code": code, "enhanced_code": enhanced}
    if status in (Status.DEFERRED, Status.FAILED, Status.EXPIRED):
        said["meaning"] = meaning_of(reason.text)
    return status, said


@dataclass(frozen=True, slots=True)
class Form:
    """How a file's rows are read. utc: its time column says that it is UTC; taken: when each message of an
    event file was received, by network message id, else by Message-ID."""

    name: str
    columns: Mapping[str, int]
    culture: Culture
    utc: bool
    taken: Mapping[str, Ms]
    source: Source = Source.TRACE_CSV

    def read(self, fields: list[str], file: str, place: str, raw: str) -> Iterator[_Found]:
        """What a row with as many fields as the header says."""
        stamp = self._cell(fields, "received")
        try:
            at = self.culture.parse(stamp, utc=self.utc) if stamp else None
        except ValueError as error:
            yield Unreadable(file, place, str(error), raw)
            return
        base = self._base(fields, at, file, place, raw)
        if self.name == "summary":
            yield from self._summary(fields, base)
        elif self.name == "enhanced":
            yield from self._enhanced(fields, base)
        else:
            yield from self._event(fields, base)

    def _cell(self, fields: list[str], name: str) -> str:
        place = self.columns.get(name)
        return fields[place].strip() if place is not None else ""

    def _base(self, fields: list[str], at: Ms | None, file: str, place: str, raw: str) -> dict[str, object]:
        message_id = message_id_of(self._cell(fields, "message_id"))
        if message_id and "<" not in message_id and "@" in message_id:
            message_id = f"<{message_id}>"
        network = network_id(self._cell(fields, "network"))
        received = at
        if self.name in ("extended", "details"):
            received = self.taken.get(network or message_key(message_id))
        size = self._cell(fields, "size")
        if not size.isdecimal():
            size = re.sub(r"\D", "", size)
        return {
            "source": self.source,
            "observed_at": at,
            "received_at": received,
            "message_id": message_id,
            "network_message_id": network,
            "sender": self._sender(fields),
            "subject": " ".join(self._cell(fields, "subject").split()),
            "size": int(size) if 0 < len(size) < 16 else None,
            "holder": Holder.FAR,
            "file": file,
            "place": place,
            "raw": raw,
        }

    def _sender(self, fields: list[str]) -> str:
        sender = self._cell(fields, "return_path") or self._cell(fields, "sender")
        return "" if sender == "<>" else sender

    def _summary(self, fields: list[str], base: dict[str, object]) -> Iterator[_Found]:
        recipient = address(self._cell(fields, "recipient"))
        if not recipient:
            yield _no_recipient(base)
            return
        word = self._cell(fields, "status")
        status = trace_words.status_of(word)
        if status is None:
            yield UnknownWord(word[:80])
        text = word if trace_words.fold(word) in ("recalled", "resolved") else ""
        remote = self._cell(fields, "to_ip")
        yield _made(base, recipient=recipient, status=status or Status.NONE, remote=remote, text=text)

    def _enhanced(self, fields: list[str], base: dict[str, object]) -> Iterator[_Found]:
        cell = self._cell(fields, "recipient_status")
        if not cell:
            yield _no_recipient(base)
            return
        for number, (recipient, events) in enumerate(_split_list(cell), 1):
            if not events:
                reason = f"recipient {number} has no ## and no events"
                yield Unreadable(str(base["file"]), str(base["place"]), reason, recipient[:1000])
                continue
            kinds = {trace_words.event_kind(word) for word in events.split(",")}
            fate = next((kind for kind in _FATES if kind in kinds), "")
            status = {
                "delivered": Status.DELIVERED,
                "expanded": Status.EXPANDED,
                "failed": Status.FAILED,
                "judged": Status.FILTERED if "quarantine" in events.lower() else Status.PENDING,
                # It does not say where to. The status of the other summaries calls the same thing Delivered.
                "passed_on": Status.DELIVERED,
                "deferred": Status.DEFERRED,
                "taken": Status.PENDING,  # received, and no end to it yet
            }.get(fate, Status.NONE)
            yield _made(base, recipient=address(recipient), status=status)

    def _event(self, fields: list[str], base: dict[str, object]) -> Iterator[_Found]:
        word = self._cell(fields, "event")
        kind = trace_words.event_kind(word)
        if kind == "silent" or (not word and not self._cell(fields, "detail")):
            return
        if self.name == "details":
            recipients = [address(self._cell(fields, "recipient"))]
            reasons = [self._detail_reason(fields)]
        else:
            recipients = [
                address(part) for part in self._cell(fields, "recipient").split(";") if part.strip()
            ]
            reasons = _reasons(self._cell(fields, "recipient_status"), len(recipients))
            if not recipients:
                if kind in ("taken", ""):
                    return
                yield _no_recipient(base)
                return
        group = address(self._cell(fields, "related")) if kind == "expanded" else ""
        if group and group.lower() not in [recipient.lower() for recipient in recipients]:
            # A tracking log's EXPAND names the members; that the group was expanded is said nowhere else.
            yield _made(base, recipient=group, status=Status.EXPANDED)
        for recipient, reason in zip(recipients, reasons, strict=True):
            yield self._of_recipient(fields, base, kind, recipient, reason)

    def _of_recipient(
        self, fields: list[str], base: dict[str, object], kind: str, recipient: str, reason: Reason
    ) -> Evidence:
        related = address(self._cell(fields, "related"))
        said: dict[str, object] = {"remote": self._remote(fields, kind, reason)}
        status = {
            "delivered": Status.DELIVERED,
            "passed_on": Status.RELAYED,
            "deferred": Status.DEFERRED,
            "failed": Status.FAILED,
            "expanded": Status.EXPANDED,
        }.get(kind, Status.NONE)
        if kind in ("deferred", "failed", "dropped"):
            if kind == "dropped":
                status = _dropped(reason)
            status, more = outcome(status, reason)
            said |= more
        elif kind == "judged":
            told = f"{self._cell(fields, 'event')} {self._cell(fields, 'action')} {reason.text}"
            status = Status.FILTERED if "quarantine" in told.lower() else Status.NONE
            said["text"] = reason.text
        elif kind == "expanded" and related and related.lower() != recipient.lower():
            # A member: what became of it stands in rows of its own.
            status = Status.NONE
            said["group"] = related
        elif kind == "redirected" and related:
            said["original_recipient"] = related
        if status in _HOLDERS:
            said["holder"] = _HOLDERS[status]
        return _made(base, recipient=recipient, status=status, **said)

    def _detail_reason(self, fields: list[str]) -> Reason:
        reason = parse_reason(self._cell(fields, "detail"))
        data = self._cell(fields, "data")
        if data and (not reason.whole or not reason.text or not reason.host):
            meps = {name.lower(): html.unescape(value) for name, value in _MEP.findall(data)}
            full = parse_reason(meps.get("recipientstatus", ""))
            text = full.text if (not reason.whole or not reason.text) and full.text else reason.text
            return Reason(
                text,
                reason.host or full.host or meps.get("outboundproxytargethostname", ""),
                reason.ip or full.ip or meps.get("outboundproxytargetipaddress", ""),
                reason.whole,
            )
        return reason

    def _remote(self, fields: list[str], kind: str, reason: Reason) -> str:
        """Who answered or got the mail: `host [address]`."""
        host, ip = reason.host, reason.ip
        if kind == "passed_on" and (sent := _SENT_TO.search(reason.text)):
            host, ip = sent[1], sent[2] or ip
        if not host and not ip and self.name == "extended" and kind in ("passed_on", "deferred", "failed"):
            host, ip = self._cell(fields, "server_host"), self._cell(fields, "server_ip")
        if host and ip and host != ip:
            return f"{host} [{ip}]"
        return host or ip


def _made(base: dict[str, object], **said: object) -> Evidence:
    status = said["status"]
    holder = {"holder": _HOLDERS[status]} if status in _HOLDERS else {}  # type: ignore[index]
    return Evidence(**(base | holder | said))  # type: ignore[arg-type]


def _no_recipient(base: dict[str, object]) -> Unreadable:
    return Unreadable(str(base["file"]), str(base["place"]), "the row names no recipient", str(base["raw"]))


def _dropped(reason: Reason) -> Status:
    """A group's own copy is dropped once it is expanded; any other drop with a refusal is a loss."""
    if "GRP.Expanded" in reason.text or "list expanded" in reason.text:
        return Status.EXPANDED
    code, _ = codes(reason.text)
    return Status.FAILED if code is not None and code >= 400 else Status.NONE


def _split_list(cell: str) -> Iterator[tuple[str, str]]:
    """`addr##Ev1, Ev2;addr##Ev3` → pairs; split at `;`, then at the last `##`: addresses hold both."""
    held = ""
    for part in cell.split(";"):
        held = f"{held};{part}" if held else part
        recipient, mark, events = held.rpartition("##")
        if mark and recipient.strip() and _EVENTS_AFTER_MARK.fullmatch(events.strip()):
            yield recipient.strip(), events.strip()
            held = ""
    if held.strip():
        yield held.strip(), ""


def _reasons(cell: str, count: int) -> list[Reason]:
    """The recipients' statuses, a parallel list; one block with `;` in it belongs to all."""
    if count == 1 or "{" not in cell:
        parts = cell.split(";") if count > 1 else [cell]
        if len(parts) == count:
            return [parse_reason(part) for part in parts]
    parts = re.split(r"(?<=[\]}])\s*;\s*(?=[\[{]+LED|\[\{|$|\d{3} )", cell)
    if len(parts) == count:
        return [parse_reason(part) for part in parts]
    return [parse_reason(cell)] * count
