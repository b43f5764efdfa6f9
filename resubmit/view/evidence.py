"""What `explain` says of a piece of evidence, as an object."""

from __future__ import annotations

from typing import Any

from resubmit.model.evidence import Evidence, Unreadable
from resubmit.model.moment import rfc3339


def evidence_object(evidence: Evidence) -> dict[str, Any]:
    """An object of `explain --json`; what the source does not say is null."""
    meaning = evidence.meaning
    return {
        "file": evidence.file or None,
        "source": evidence.source.value,
        "observed_at": rfc3339(evidence.observed_at),
        "message_id": evidence.message_id or None,
        "network_message_id": evidence.network_message_id or None,
        "envelope_id": evidence.envelope_id or None,
        "queue_id": evidence.queue_id or None,
        "sender": evidence.sender or None,
        "recipient": evidence.recipient or None,
        "original_recipient": evidence.original_recipient or None,
        "status": evidence.status.value,
        "cause": meaning.cause.value if meaning else None,
        "code": evidence.code,
        "enhanced_code": evidence.enhanced_code or None,
        "text": evidence.text or None,
        "remote": evidence.remote or None,
        "holder": evidence.holder.value if evidence.holder else None,
        "advice": (meaning.advice or None) if meaning else None,
        "domain": evidence.domain or None,
        "place": evidence.place or None,
        "sign": (meaning.sign or None) if meaning else None,
        "scope": meaning.scope.value if meaning else None,
        "mend": meaning.mend.value if meaning else None,
    }


def unreadable_object(item: Unreadable) -> dict[str, Any]:
    """What could not be read, and why."""
    return {"file": item.file, "place": item.place, "reason": item.reason}
