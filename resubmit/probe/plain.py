"""A verdict as the object of `probe --json`: its fields are a contract, only ever added to."""

from __future__ import annotations

from typing import Any

from resubmit.meaning.advice import far
from resubmit.model.moment import DAY, rfc3339
from resubmit.model.tls import AddressVerdict, Finding, Verdict


def verdict_plain(verdict: Verdict) -> dict[str, Any]:
    """The object, ready for json.dumps. Top-level `findings` are the codes of all that is not `info`."""
    return {
        "target": verdict.target,
        "verdict": verdict.health.value,
        "checked_at": rfc3339(verdict.checked_at),
        "level": verdict.level,
        "addresses": [_address(one) for one in verdict.addresses],
        "findings": list(verdict.codes()),
        "details": [_finding(one) for one in verdict.findings],
        "reached": verdict.reached,
        "roots": verdict.roots,
    }


def _address(one: AddressVerdict) -> dict[str, Any]:
    return {
        "address": one.address,
        "verdict": one.health.value,
        "findings": [_finding(found) for found in one.findings],
        "tls": {"version": one.tls_version, "cipher": one.tls_cipher},
        "certificates": [
            {
                "subject": c.subject,
                "issuer": c.issuer,
                "sans": list(c.sans),
                "not_before": rfc3339(c.not_before),
                "not_after": rfc3339(c.not_after),
                "sha256": c.sha256,
            }
            for c in one.certificates
        ],
        "banner": one.banner,
        "ehlo": one.ehlo,
    }


def _finding(one: Finding) -> dict[str, str]:
    """`details` hold these for what belongs to no single address. exchange_online: what it says when it meets
    the same, "" where that is not published."""
    return {
        "code": one.code,
        "severity": one.severity.value,
        "where": one.where,
        "text": one.text,
        "advice": one.advice,
        "exchange_online": far(one.code, one.where),
    }


def days_left(verdict: Verdict) -> int | None:
    """Whole days until the first certificate expires, negative when one has; None: none was seen."""
    ends = [c.not_after for one in verdict.addresses for c in one.certificates]
    return (min(ends) - verdict.checked_at) // DAY if ends else None
