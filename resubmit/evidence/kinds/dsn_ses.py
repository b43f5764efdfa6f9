"""Amazon SES's notifications as JSON: bare, inside SNS's envelope or EventBridge's, or in the mail SNS sends.

    {"notificationType":"Bounce","bounce":{"bouncedRecipients":[{"emailAddress":…,"status":…}]},"mail":{…}}
    {"Type":"Notification","Message":"{\\"eventType\\":\\"DeliveryDelay\\",…}"}

SES's delivery is that the recipient's server took the mail: passed on. It rewrites the Message-ID; its own id
is what its 250 told us, so it stands as the queue id.

Promises: any text gives items, perhaps none; never raises.
Source: Amazon SES Developer Guide, "Amazon SNS notification contents" and "Contents of event data".
Limits: what stands behind LIMIT characters is not read; Click, Open, Send and the like say nothing of a fate.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from resubmit.evidence.base import RAW_LIMIT, Item, Reading
from resubmit.evidence.kinds.dsn_about import remote_of
from resubmit.evidence.kinds.dsn_codes import chosen, has_expired, meaning_for
from resubmit.evidence.kinds.dsn_fields import status_of, untyped
from resubmit.evidence.kinds.dsn_returned import original_of
from resubmit.evidence.kinds.dsn_text import replies_of, success_of
from resubmit.evidence.mime import Part
from resubmit.evidence.stamps import Culture
from resubmit.model.evidence import Evidence, Holder, Source, Status
from resubmit.model.moment import Ms

LIMIT = 32 << 20
_NOTIFICATION = re.compile(r'\\?"(?:notificationType|eventType)\\?"\s*:\s*\\?"[A-Za-z ]{3,30}\\?"')
_MAIL = re.compile(r'\\?"(?:mail|bounce|delivery|deliveryDelay)\\?"\s*:\s*\\?\{')
_DECODER = json.JSONDecoder(strict=False)  # SNS's mails break lines inside strings
_OPENS = re.compile(r"[{\[]")
_MOST = 100_000
_MOST_BROKEN = 100
_EVENTS = {
    "bounce": ("bounce", "bouncedRecipients", Status.FAILED),
    "delivery": ("delivery", "recipients", Status.RELAYED),
    "deliverydelay": ("deliveryDelay", "delayedRecipients", Status.DEFERRED),
    "reject": ("reject", "", Status.FAILED),
}
_SAYS_NOTHING = {"send", "open", "click", "subscription", "renderingfailure", "rendering failure"}


def is_notification(text: str) -> bool:
    """Whether such a notification stands in a text."""
    return _NOTIFICATION.search(text) is not None and _MAIL.search(text) is not None


def items_of_json(text: str, reading: Reading) -> Iterator[Item]:
    """What each notification in a text says of each recipient."""
    number = 0
    for value in _values(text[:LIMIT]):
        for event in _events(value, 0):
            number += 1
            yield from _of_event(event, number, reading)


def _values(text: str) -> Iterator[Any]:
    """The JSON values in a text, whatever stands between them."""
    at = failed = 0
    for _ in range(_MOST):
        found = _OPENS.search(text, at)
        if found is None or failed > _MOST_BROKEN:
            return
        try:
            value, at = _DECODER.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            failed += 1
            at = text.find("\n", found.start()) + 1
            if not at:
                return
        else:
            yield value


def _events(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    if depth > 4:
        return
    if isinstance(value, list):
        for one in value:
            yield from _events(one, depth + 1)
    elif isinstance(value, dict):
        if isinstance(value.get("mail"), dict):
            yield value
        elif isinstance(value.get("detail"), dict):
            yield from _events(value["detail"], depth + 1)
        elif isinstance(value.get("Records"), list):
            yield from _events([r.get("Sns") for r in value["Records"] if isinstance(r, dict)], depth + 1)
        elif isinstance(value.get("Message"), str):
            for inner in _values(value["Message"][:LIMIT]):
                yield from _events(inner, depth + 1)


def _of_event(event: dict[str, Any], number: int, reading: Reading) -> Iterator[Item]:
    kind = _text(event.get("notificationType") or event.get("eventType")).lower()
    place = f"notification {number}"
    raw = json.dumps(event, ensure_ascii=False)[:RAW_LIMIT]
    if kind not in _EVENTS:
        reason = "this is a complaint of a reader about a mail that reached him"
        if kind != "complaint":
            reason = f"a notification of the kind {kind[:40]!r} says nothing of a delivery"
        if kind not in _SAYS_NOTHING:
            yield reading.unreadable(place, reason, raw)
        return
    name, list_of, status = _EVENTS[kind]
    said = _dict(event.get(name))
    recipients = _list(said.get(list_of)) if list_of else _list(event["mail"].get("destination"))
    for count, recipient in enumerate(recipients, 1):
        one = recipient if isinstance(recipient, dict) else {"emailAddress": recipient}
        if _text(one.get("emailAddress")):
            yield _evidence(event["mail"], said, one, status, f"{place}, recipient {count}", raw, reading)


def _evidence(
    mail: dict[str, Any],
    said: dict[str, Any],
    one: dict[str, Any],
    status: Status,
    place: str,
    raw: str,
    reading: Reading,
) -> Evidence:
    common = _dict(mail.get("commonHeaders"))
    fields = [_dict(field) for field in _list(mail.get("headers"))]
    header = Part(tuple((_text(f.get("name")).lower(), _text(f.get("value"))) for f in fields), "text/plain")
    original = original_of(header)
    text = untyped(_text(one.get("diagnosticCode"))) or _text(said.get("smtpResponse") or said.get("reason"))
    text = " ".join(text.split())[:4_096]
    stated = status_of(_text(one.get("status")))
    meaning = None
    if status is Status.RELAYED:
        code, enhanced = success_of(text)
    else:
        replies = replies_of(text)
        code = next((code for code, _ in replies if code), None)
        enhanced = chosen(stated, [enhanced for _, enhanced in replies if enhanced])
        meaning = meaning_for(text, code, enhanced, status)
        if status is Status.FAILED and has_expired(text, enhanced, meaning):
            status = Status.EXPIRED
    message_id = original.message_id or _text(common.get("messageId"))
    return Evidence(
        source=Source.DSN,
        status=status,
        recipient=_text(one.get("emailAddress")),
        observed_at=_time(said.get("timestamp")) or _time(mail.get("timestamp")),
        received_at=_time(mail.get("timestamp")),
        message_id=message_id,
        envelope_id=original.attempt,
        queue_id=_text(mail.get("messageId")),
        sender=_text(mail.get("source")),
        subject=_text(common.get("subject")) or original.subject,
        code=code,
        enhanced_code=enhanced,
        text=text,
        remote=remote_of("", text) or remote_of(untyped(_text(said.get("reportingMTA"))), ""),
        holder={Status.RELAYED: Holder.FAR, Status.DEFERRED: None}.get(status, Holder.NOBODY),
        meaning=meaning,
        file=reading.name,
        place=place,
        raw=raw,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _time(value: Any) -> Ms | None:
    try:
        return Culture().parse(_text(value))
    except ValueError:
        return None
