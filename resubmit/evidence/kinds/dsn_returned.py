"""The message that came back: what in its header tells which of ours it was.

It comes whole, as its header alone, inside the report's text, cut off, or not at all. Our own Received
field in it names the attempt (`id <journal id>.<n>`), Exchange's fields the network message id.

Promises: any part or text gives an Original, perhaps an empty one; never raises.
Source: design section 3 rule 2; formats.md section 7.1; microsoft.md section 6.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from resubmit.evidence.mime import Part, header_of, words
from resubmit.model.ids import ATTEMPT_KEY
from resubmit.model.message import message_id_of

_NETWORK = (
    "x-ms-exchange-organization-network-message-id",
    "x-ms-exchange-crosstenant-network-message-id",
    "x-ms-office365-filtering-correlation-id",
)
_GUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_OURS = re.compile(rf"\bid\s+({ATTEMPT_KEY.pattern})\s*\(resubmit ", re.IGNORECASE)
_OURS_BARE = re.compile(rf"\bid\s+({ATTEMPT_KEY.pattern})")
_ADDRESS = re.compile(r"[^\s<>\"(),;:\[\]]{1,128}@[^\s<>\"(),;:\[\]]{1,255}")
_MOST_TO = 100


@dataclass(frozen=True, slots=True)
class Original:
    """What is known of the mail a report is about. attempt: our own `<journal id>.<n>`. received: when
    the last server that added a field took it, as written. recipients: those of To and Cc, which are not the
    envelope's but may be all there is."""

    message_id: str = ""
    network_message_id: str = ""
    attempt: str = ""
    sender: str = ""
    subject: str = ""
    received: str = ""
    recipients: tuple[str, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether anything was found that tells which mail it was."""
        return bool(self.message_id or self.network_message_id or self.attempt or self.sender)


def original_of(part: Part) -> Original:
    """What a returned message's header says."""
    network = next((m[0] for name in _NETWORK if (m := _GUID.search(part.first(name)))), "")
    attempt = ""
    # The field nearest to the top is the last hop that was ours: a resubmission's comes above the first's.
    for value in part.all("received"):
        if found := _OURS.search(value) or _OURS_BARE.search(value):
            attempt = found[1].upper()
            break
    envelope = part.first("return-path") or part.first("x-envelope-from") or part.first("x-postfix-sender")
    sender = _ADDRESS.search(envelope) or _ADDRESS.search(part.first("from"))
    recipients: list[str] = []
    for name in ("x-envelope-to", "envelope-to", "to", "cc"):
        for value in part.all(name):
            recipients += [found for found in _ADDRESS.findall(value[:8192]) if found not in recipients]
    message_id = part.first("message-id")
    return Original(
        message_id=message_id_of(message_id) if message_id else "",
        network_message_id=network.lower(),
        attempt=attempt,
        sender=sender[0] if sender else "",
        received=part.first("received").rpartition(";")[2].strip(),
        subject=words(part.first("subject"))[:1000],
        recipients=tuple(recipients[:_MOST_TO]),
    )


def original_in(text: str) -> Original:
    """The same of a header that stands in a report's text, quoted with `>` or not."""
    lines = text.split("\n", 2_000)[:2_000]
    if lines and lines[0].startswith(">"):
        lines = [re.sub(r"^> ?", "", line) for line in lines]
    fields, _ = header_of("\n".join(lines).lstrip("\n").encode("utf-8", "replace"), wrapped=True)
    return original_of(Part(fields, "text/rfc822-headers")) if fields else Original()


def is_header(part: Part) -> bool:
    """Whether a part is a message's header though nothing announces it: it has lost its own."""
    if part.kind != "text/plain" or part.parts:
        return False
    if part.has("message-id") and (part.has("received") or part.has("from")):
        return True
    head = part.content[:4096]
    fields, _ = header_of(head)
    names = {name for name, _ in fields}
    return len(names & {"received", "message-id", "from", "to", "subject", "date", "return-path"}) >= 4
