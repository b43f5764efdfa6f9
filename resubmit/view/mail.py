"""Messages, recipients, groups and timelines as `list` and `show` give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resubmit.journal.read import Group, MessageView, RecipientView, Step
from resubmit.model.ids import id_text
from resubmit.model.moment import rfc3339

Plain = dict[str, Any]


def message_object(message: MessageView) -> Plain:
    """An object of `list --json`. `stuck`: any of its recipients is; `deadline`: the nearest of theirs."""
    deadlines = [r.deadline for r in message.recipients if r.deadline is not None]
    return {
        "id": id_text(message.id),
        "message_id": message.message_id,
        "received_at": rfc3339(message.received_at),
        "sender": message.sender,
        "subject": message.subject,
        "size": message.size,
        "intake": message.intake,
        "stuck": any(r.stuck for r in message.recipients),
        "deadline": rfc3339(min(deadlines, default=None)),
        "recipients": [recipient_object(r) for r in message.recipients],
    }


def recipient_object(recipient: RecipientView) -> Plain:
    """A recipient within a message's object."""
    return {
        "address": recipient.address,
        "state": recipient.state,
        "cause": recipient.cause,
        "since": rfc3339(recipient.since),
        "deadline": rfc3339(recipient.deadline),
        "destination": recipient.destination,
        "attempts": recipient.attempts,
        "last_reply": recipient.last_reply or None,
        "stuck": recipient.stuck,
        "derived_from": recipient.derived_from,
        "again_of": recipient.again_of,
    }


def shown_object(message: MessageView, steps: Sequence[Step], headers: Sequence[tuple[str, str]]) -> Plain:
    """The object of `show --json`: a message's with `headers` (name and value pairs in their order) and
    each recipient's `timeline`."""
    whole = message_object(message)
    whole["headers"] = [list(pair) for pair in headers]
    for recipient, plain in zip(message.recipients, whole["recipients"], strict=True):
        plain["timeline"] = [step_object(step) for step in steps if step.n == recipient.n]
    return whole


def step_object(step: Step) -> Plain:
    """A line of a timeline. `from` is null at the birth; where nothing moved `to` equals it."""
    return {
        "at": rfc3339(step.at),
        "event": step.event,
        "from": step.from_,
        "to": step.to,
        "attempt": step.attempt,
        "why": step.why,
    }


def group_object(by: str, group: Group) -> Plain:
    """An object of `list --group-by --json`: the value under the grouping's own name, and its counts."""
    return {
        by: group.value,
        "recipients": group.recipients,
        "messages": group.messages,
        "oldest": rfc3339(group.oldest),
        "next_deadline": rfc3339(group.next_deadline),
    }


def headers_of(head: bytes) -> list[tuple[str, str]]:
    """The fields of a header block, unfolded, in their order; ends at the first empty line.

    Values are as found (encoded words stay), bytes that are no UTF-8 replaced. Source: RFC 5322 §2.2.
    """
    fields: list[tuple[str, str]] = []
    for line in head.split(b"\n"):
        text = line.rstrip(b"\r").decode("utf-8", "replace")
        if not text:
            break
        if text[0] in " \t":
            if fields:
                name, value = fields[-1]
                fields[-1] = (name, f"{value} {text.strip()}".strip())
        elif ":" in text:
            name, _, value = text.partition(":")
            fields.append((name.strip(), value.strip()))
    return fields


def replay_sample(recipient: RecipientView) -> Plain:
    """One of the recipients that `replay --dry-run` shows of those it would take."""
    return {"id": id_text(recipient.message), **recipient_object(recipient)}
