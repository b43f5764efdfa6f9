"""What must have changed before a healthy look is believed (design 4, *something changed*). Pure.

Per address: leaf certificate and its end, whether STARTTLS was offered, the EHLO name, the step that failed.
The text is the same for the same addresses in any order, and two looks that saw the same have the same text.
"""

from __future__ import annotations

from dataclasses import dataclass

from resubmit.model.moment import rfc3339
from resubmit.model.tls import AddressVerdict, Severity, Verdict

_NO_STARTTLS = {"starttls_missing", "firewall_mangled_keyword", "smtp_only", "starttls_withheld"}


def of(verdict: Verdict) -> str:
    """One line an address, sorted; without an address what kept us from having one."""
    lines = sorted(_line(one) for one in verdict.addresses)
    top = sorted({f.code for f in verdict.findings if f.severity in (Severity.FAULT, Severity.UNKNOWN)})
    return "\n".join([*lines, *(f"stops={code}" for code in top)])


@dataclass(frozen=True, slots=True)
class Leaf:
    """The certificate an address showed: SHA-256 in hex, and its end as RFC 3339."""

    sha256: str
    until: str


@dataclass(frozen=True, slots=True)
class Node:
    """What answered at an address. offered: STARTTLS, `yes`, `no` or `-`; stops: the faulty step, or `-`."""

    ehlo: str
    leaf: Leaf | None
    offered: str
    stops: str


def leaves(text: str) -> dict[str, Leaf]:
    """The certificate of each address in a fingerprint; addresses that showed none are left out."""
    return {address: node.leaf for address, node in nodes(text).items() if node.leaf is not None}


def nodes(text: str) -> dict[str, Node]:
    """What answered at each address of a fingerprint; an EHLO name that was not seen is `-`."""
    found = {}
    for line in text.splitlines():
        address, *words = line.split(" ")
        said = dict(word.split("=", 1) for word in words if "=" in word)
        shown = said.get("leaf", "-")
        leaf = Leaf(shown, said.get("until", "-")) if shown != "-" else None
        if words:
            offered, stops = said.get("starttls", "-"), said.get("stops", "-")
            found[address] = Node(said.get("ehlo", "-"), leaf, offered, stops)
    return found


def _line(one: AddressVerdict) -> str:
    leaf = one.certificates[0] if one.certificates else None
    faults = [f for f in one.findings if f.severity in (Severity.FAULT, Severity.UNKNOWN)]
    if _NO_STARTTLS & {f.code for f in one.findings}:
        offered = "no"
    else:
        offered = "yes" if one.tls_version or leaf or any(f.where in _AFTER_OFFER for f in faults) else "-"
    return " ".join(
        [
            one.address,
            f"leaf={leaf.sha256 if leaf else '-'}",
            f"until={rfc3339(leaf.not_after) if leaf else '-'}",
            f"starttls={offered}",
            f"ehlo={one.ehlo or '-'}",
            f"stops={faults[0].where if faults else '-'}",
        ]
    )


_AFTER_OFFER = {"starttls", "handshake", "tls_ehlo", "mail", "rcpt"}
