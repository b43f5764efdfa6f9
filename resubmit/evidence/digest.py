"""What makes a piece of evidence the same one: a digest over what it says, not over where it stood.

The same row in another file, in another order of columns, or in another form of CSV that tells as much has
the same digest; a row whose status has changed has another.
"""

from __future__ import annotations

import hashlib

from resubmit.model.envelope import address_key
from resubmit.model.evidence import Evidence, Source, Status
from resubmit.model.message import message_key
from resubmit.model.moment import SECOND

_LAST_SECOND = 0xFFFFFFFF  # in 2106

_TRACES = {Source.TRACE_CSV, Source.TRACE_GRAPH}


def digest_of(evidence: Evidence) -> bytes:
    """16 bytes: when it was, so that stored digests lie in the order of time, and a hash over all of it.

    Times count in whole seconds: forms print them with and without fractions."""
    # Not the time of receipt beside it: a detail row learns that from its neighbours in the file.
    at = evidence.received_at if evidence.observed_at is None else evidence.observed_at
    second = None if at is None else at // SECOND
    key = message_key(evidence.message_id)
    parts = [
        "trace" if evidence.source in _TRACES else evidence.source.value,
        key,
        evidence.network_message_id.lower(),
        evidence.envelope_id,
        evidence.queue_id,
        address_key(evidence.recipient),
        evidence.status.value,
        "" if second is None else str(second),
        str(evidence.code or ""),
        evidence.enhanced_code,
        evidence.text,
    ]
    if evidence.status is Status.RELAYED:
        # To whom decides whether it was delivered (design rule 7): a form that names no host says less.
        parts.append(evidence.remote.lower())
    if not key:
        parts += [address_key(evidence.sender), evidence.subject]
    texts = [part.encode("utf-8", "surrogatepass") for part in parts]
    # Their lengths too, so that no two lists of parts run together.
    octets = b"".join([len(text).to_bytes(4, "big") + text for text in texts])
    ordered = min(max(second or 0, 0), _LAST_SECOND).to_bytes(4, "big")
    return ordered + hashlib.blake2b(octets, digest_size=12).digest()
