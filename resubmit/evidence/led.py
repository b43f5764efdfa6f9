"""The reason of a deferral or failure as Exchange prints it: the LED block, whole, cut off, or bare.

    Reason: [{LED=450 4.4.317 … [Message=…]};{MSG=};{FQDN=host};{IP=addr};{LRT=when}]. Outbound…

Promises: the reply inside is found in every order and state of it; never raises.

Source: microsoft.md section 3.3, with its five traps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SUFFIX = re.compile(
    r"\.?\s*OutboundProxyTargetIP:\s*(?P<ip>[^\s]*?)\.?\s+OutboundProxyTargetHostName:\s*(?P<host>[^\s\"]*)"
)
_SUFFIX_CUT = re.compile(r"\.?\s*OutboundProxyTarget(?:IP|HostName):.*$", re.DOTALL)
_LED = re.compile(r"\{\s*LED\s*=", re.IGNORECASE)
_NEXT_KEY = re.compile(r"\}\s*;\s*\{\s*(?:MSG|FQDN|IP|LRT|LED|Last attempted [a-z ]+)\s*=", re.IGNORECASE)
_KEY = re.compile(r"\{\s*(FQDN|IP)\s*=([^{}]*)\}", re.IGNORECASE)
_ATTEMPTED = re.compile(r"\[LastAttempted(ServerName|IP)=([^\]\[]*)")
_LAST_TRIED = re.compile(r"\{\s*Last attempted server name\s*=([^{}]*)\}", re.IGNORECASE)
_BRACKETED = re.compile(r"^\[[\s{]*$")


@dataclass(frozen=True, slots=True)
class Reason:
    """What a detail says. text: the reply, with its code where it has one; host, ip: who answered it or
    was tried, "" where not said; whole: it was not cut off."""

    text: str
    host: str = ""
    ip: str = ""
    whole: bool = True


def parse_reason(detail: str) -> Reason:
    """The reason in a detail, a status column or a queue's last error."""
    suffix = _SUFFIX.search(detail)
    body = detail[: suffix.start()] if suffix else _SUFFIX_CUT.sub("", detail)
    body = re.sub(r"^\s*Reason:\s*", "", body)
    opened = _LED.search(body)
    whole = True
    if opened:
        rest = body[opened.end() :]
        ended = _NEXT_KEY.search(rest)
        if ended:
            text = rest[: ended.start()]
        elif re.search(r"\}\s*\]?\s*\}?\s*$", rest):
            text = re.sub(r"\}\s*\]?\s*\}?\s*$", "", rest)
        else:
            # Cut by the service, somewhere: perhaps in the middle of the block's own end.
            text, whole = re.sub(r"\}\s*;?\s*(?:\{[A-Z]{0,4}=?[^{}]{0,4})?$", "", rest), False
    else:
        text = re.sub(r"^[\[{\s]+|[\]}\s]+$", "", body) if _BRACKETED.match(body[:2]) else body
    keys = {key.upper(): value.strip() for key, value in _KEY.findall(body)}
    if last := _LAST_TRIED.search(body):
        keys.setdefault("FQDN", last[1].strip())
    tried = dict(_ATTEMPTED.findall(text))
    return Reason(
        " ".join(text.split()),
        (suffix["host"].rstrip(".") if suffix else "") or tried.get("ServerName", "") or keys.get("FQDN", ""),
        (suffix["ip"] if suffix else "") or _address(tried.get("IP", "")) or keys.get("IP", ""),
        whole,
    )


def _address(endpoint: str) -> str:
    """The address of `198.51.100.7:25` or `2001:db8::7` or `[2001:db8::7]:25`."""
    if endpoint.count(":") == 1:
        return endpoint.partition(":")[0]
    return endpoint.strip("[]")
