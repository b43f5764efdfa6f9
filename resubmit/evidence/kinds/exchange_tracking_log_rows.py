"""One row of a message tracking log → what it says of each recipient.

Source: formats.md section 2 (events, lists); design, section 3 rules 6 and 7.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

from resubmit.evidence.base import Item, Reading
from resubmit.evidence.kinds import exchange_tracking_log_words as words
from resubmit.evidence.kinds.exchange_tracking_log_table import Mail, Mails
from resubmit.evidence.kinds.trace_rows import address, network_id, outcome
from resubmit.evidence.led import Reason, parse_reason
from resubmit.evidence.stamps import Culture
from resubmit.meaning.classify import codes, meaning_of
from resubmit.model.evidence import Evidence, Holder, Source, Status
from resubmit.model.message import message_id_of
from resubmit.model.moment import Ms

_QUARANTINED = re.compile(r"quarantined? this message|quarantine mailbox|sent to quarantine", re.IGNORECASE)
_EXPANDED = re.compile(r"GRP\.Expanded|list expanded", re.IGNORECASE)
_HOLDERS = {
    Status.DELIVERED: Holder.FAR,
    Status.RELAYED: Holder.FAR,
    Status.FAILED: Holder.NOBODY,
    Status.EXPIRED: Holder.NOBODY,
    Status.FILTERED: Holder.NOBODY,
}
_Said: TypeAlias = dict[str, object]
"""The fields of an item so far."""
_SETTLED = (Status.DELIVERED, Status.FAILED, Status.EXPIRED, Status.FILTERED, Status.EXPANDED, Status.RELAYED)


class Rows:
    """Reads rows with what earlier ones told of their mails. culture: how their times are printed; the log's
    own are UTC. needs_time: a row without one is none."""

    def __init__(
        self, reading: Reading, mails: Mails, culture: Culture | None = None, *, needs_time: bool = True
    ) -> None:
        self._reading = reading
        self._mails = mails
        self._culture = culture or Culture()
        self._needs_time = needs_time

    def read(self, cells: Mapping[str, str], place: str, raw: str) -> list[Item]:
        """What a row says; nothing where it only tells of the mail's way inside."""
        cells = {name: cell.strip() for name, cell in cells.items()}
        event = cells.get("event-id", "").upper()
        kind = words.kind_of(event)
        at: Ms | None = None
        try:
            at = self._culture.parse(cells.get("date-time", ""))
        except ValueError as error:
            if self._needs_time:
                return [self._reading.unreadable(place, str(error), raw)]
        if not event:
            return [self._reading.unreadable(place, "the row names no event", raw)]
        if kind == "silent":
            return []
        base = self._base(cells, at, place, raw)
        ids = (str(base[name]) for name in ("network_message_id", "message_id", "queue_id"))
        mail = self._mails.of(*ids)
        took = at is not None and kind == "taken" and event == "RECEIVE"
        if took and (mail.taken_at is None or at < mail.taken_at):  # type: ignore[operator]
            mail.taken_at = at
        base["received_at"] = self._received(cells, mail)
        people = [address(one) for one in words.addresses(cells.get("recipient-address", ""))]
        return [self._told(item, mail) for item in self._of(kind, event, cells, people, mail, base)]

    def _base(self, cells: Mapping[str, str], at: Ms | None, place: str, raw: str) -> _Said:
        sender = cells.get("return-path", "") or cells.get("sender-address", "")
        size = cells.get("total-bytes", "")
        return {
            "source": Source.EXCHANGE_TRACKING_LOG,
            "status": Status.NONE,
            "observed_at": at,
            "message_id": message_id_of(cells.get("message-id", "")),
            "network_message_id": network_id(cells.get("network-message-id", "")),
            "queue_id": cells.get("internal-message-id", "")[:64],
            "sender": "" if sender == "<>" else address(sender),
            "subject": " ".join(cells.get("message-subject", "").split()),
            "size": int(size) if size.isascii() and size.isdigit() and len(size) < 16 else None,
            "file": self._reading.name,
            "place": place,
            "raw": raw,
        }

    def _received(self, cells: Mapping[str, str], mail: Mail) -> Ms | None:
        """When this server took the mail: its RECEIVE, else the time with which message-info begins."""
        if mail.taken_at is not None:
            return mail.taken_at
        try:
            mail.taken_at = self._culture.parse(words.stamp_in(cells.get("message-info", "")), utc=True)
        except ValueError:
            return None
        return mail.taken_at

    def _of(
        self,
        kind: str,
        event: str,
        cells: Mapping[str, str],
        people: list[str],
        mail: Mail,
        base: _Said,
    ) -> list[_Said]:
        related = [address(one) for one in words.addresses(cells.get("related-recipient-address", ""))]
        if kind == "expanded":
            return _expansion(people, related, mail, base)
        if not people:
            if kind in ("taken", "moved", ""):
                return []
            # It is about the mail as a whole: all that have no end yet.
            people = list(mail.open.values()) or [""]
        listed = words.statuses(cells.get("recipient-status", ""), len(people))
        items = []
        for number, (recipient, status) in enumerate(zip(people, listed, strict=True)):
            if kind in ("taken", "moved"):
                mail.expect(recipient)
            elif kind == "rewritten" and related:
                before = related[number] if len(related) == len(people) else related[0]
                mail.rewritten(before, recipient)
            items.append(_fate(kind, event, cells, base | {"recipient": recipient}, status))
        return items

    def _told(self, said: _Said, mail: Mail) -> Evidence:
        """An item with what earlier rows told of its recipient, and with who has the mail now."""
        recipient, status = str(said.get("recipient", "")), said["status"]
        key = recipient.lower()
        said["original_recipient"] = mail.origins.get(key, "")
        said.setdefault("group", mail.groups.get(key, ""))
        if status in _SETTLED:
            mail.settle(recipient)
        if self._reading.position == "before":
            # What a server in front of us did is over once we have the mail.
            said |= {"status": Status.NONE, "received_at": None, "meaning": None}
        else:
            keeper = Holder.FAR if self._reading.position == "behind" else Holder.RELAY
            said["holder"] = _HOLDERS.get(status, keeper)  # type: ignore[call-overload]
        return Evidence(**said)  # type: ignore[arg-type]


def _expansion(people: list[str], related: list[str], mail: Mail, base: _Said) -> list[_Said]:
    """An EXPAND names the members, and the group as the related address; that the group was expanded is said
    nowhere else."""
    group = related[0] if related else ""
    if not group:
        return [base | {"recipient": one} for one in people]
    items = [base | {"recipient": group, "status": Status.EXPANDED}]
    for member in people:
        if member.lower() != group.lower():
            mail.member(group, member)
            items.append(base | {"recipient": member, "group": group})
    return items


def _fate(kind: str, event: str, cells: Mapping[str, str], base: _Said, listed: str) -> _Said:
    """What an event says of one recipient."""
    context = cells.get("source-context", "")
    if kind == "delivered":
        code, enhanced = codes(listed)
        text = listed if code or enhanced else ""
        status = Status.DELIVERED
    elif kind == "sent":
        text = parse_reason(listed).text or words.reply_in(context)
        code, enhanced = codes(text)
        internal = words.is_internal(cells.get("connector-id", ""))
        status = Status.NONE if internal else Status.RELAYED
    elif kind in ("deferred", "failed", "dropped", "waiting"):
        return _trouble(kind, event, cells, base, parse_reason(words.reason_in(listed, context)))
    else:
        return base
    said = {"status": status, "code": code, "enhanced_code": enhanced, "text": text}
    return base | said | {"remote": _remote(cells, Reason(""))}


def _trouble(kind: str, event: str, cells: Mapping[str, str], base: _Said, reason: Reason) -> _Said:
    """A deferral, a failure, or a mail that is gone."""
    if kind == "waiting":
        return base | {"status": Status.PENDING, "text": reason.text}
    if _EXPANDED.search(reason.text):
        # The group's own copy goes once its members have theirs.
        code, enhanced = codes(reason.text)
        return base | {
            "status": Status.EXPANDED,
            "code": code,
            "enhanced_code": enhanced,
            "text": reason.text,
        }
    agent, context = cells.get("source", "").upper() == "AGENT", cells.get("source-context", "")
    dropped = kind == "dropped" and not reason.text
    if _QUARANTINED.search(reason.text) or (dropped and agent):
        code, enhanced = codes(reason.text)
        text = reason.text or words.UNSAID["DROP"]
        return base | {"status": Status.FILTERED, "code": code, "enhanced_code": enhanced, "text": text}
    said: dict[str, object]
    by_itself = not reason.text and event not in words.UNSAID
    if not reason.text:
        # An agent's name is all its rows say: shown, but no reason.
        reason = replace(reason, text=words.UNSAID.get(event, "") or (context if agent else ""))
    status, said = outcome(Status.DEFERRED if kind == "deferred" else Status.FAILED, reason)
    if reason.text and not said.get("code") and not said.get("enhanced_code"):
        said["meaning"] = meaning_of(reason.text, code=451 if status is Status.DEFERRED else 550)
    if by_itself:
        said["meaning"] = meaning_of("", code=451 if status is Status.DEFERRED else 550)
    return base | {"status": status, "remote": _remote(cells, reason)} | said


def _remote(cells: Mapping[str, str], reason: Reason) -> str:
    """Who answered or got the mail: `host [address]`. A row without its address names this server itself."""
    host, ip = reason.host, reason.ip
    if not host and not ip and cells.get("server-ip"):
        host, ip = cells.get("server-hostname", ""), cells["server-ip"]
    if host and ip and host != ip:
        return f"{host} [{ip}]"
    return host or ip
