"""Evidence that is about servers and about no mail: a TLS report's failures, a session that failed before any
mail. Which of our destinations it speaks of, and whether it is about the present.

Pure. By the server it names, where that is a destination's endpoint; else by the domain, unless the server
is known to be somebody else's: reports on a domain whose mail comes in through Exchange Online tell of
Microsoft's servers, not of the hybrid one behind them.

Source: design, section 4 (*a fault is evidenced: … a TLS report*); RFC 8460.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from resubmit.evidence.digest import digest_of
from resubmit.evidence.matching import DestinationOf
from resubmit.journal.verbs import ReportRow
from resubmit.model.evidence import Evidence, Scope, Status
from resubmit.model.moment import DAY, Ms

COUNTS_FOR: Ms = 2 * DAY
"""Reports come once a day about the day before; one of an older day says nothing of the present."""

_MICROSOFTS = (".mail.protection.outlook.com", ".mx.microsoft", ".olc.protection.outlook.com")


_HOSTS = re.compile(r"[\w.:-]+")


def is_report(evidence: Evidence) -> bool:
    """Whether it is about no mail at all, but about a domain or a server: a session that came to no mail."""
    if evidence.recipient or evidence.message_id or evidence.queue_id or evidence.network_message_id:
        return False
    return bool(evidence.domain) or (bool(evidence.remote) and _is_fault(evidence))


def _is_fault(evidence: Evidence) -> bool:
    """Whether a whole server is at fault by it."""
    meaning = evidence.meaning
    scopes = (Scope.DESTINATION, Scope.ROUTE)
    return evidence.status is Status.DEFERRED and meaning is not None and meaning.scope in scopes


def concerns(
    evidence: Evidence, endpoints: Mapping[str, Collection[str]], destination_of: DestinationOf
) -> list[str]:
    """The destinations whose servers it is about, by name. endpoints: each destination's endpoint names and
    addresses, lower case."""
    server = evidence.remote.lower().rstrip(".")
    hosts = {host.rstrip(".:") for host in _HOSTS.findall(server)}
    named = sorted(name for name, ends in endpoints.items() if hosts.intersection(ends))
    if named or not evidence.domain:
        return named
    home = destination_of(f"postmaster@{evidence.domain}")
    if home is None or home.rest:
        return []
    if server.endswith(_MICROSOFTS) and not any(
        end.endswith(_MICROSOFTS) for end in endpoints.get(home.name, ())
    ):
        return []
    return [home.name]


def row_of(evidence: Evidence, destination: str, now: Ms) -> ReportRow:
    """The report as the journal keeps it, for one destination ("" for none of ours)."""
    until = evidence.observed_at if evidence.observed_at is not None else now
    since = evidence.received_at if evidence.received_at is not None else until
    is_fault = _is_fault(evidence) and until >= now - COUNTS_FOR
    return ReportRow(
        digest=digest_of(evidence),
        destination=destination,
        is_fault=bool(destination) and is_fault,
        since=min(since, now),
        until=min(until, now),
        read_at=now,
        cause=evidence.meaning.cause if evidence.meaning else None,
        text=evidence.text,
        remote=evidence.remote,
        file=evidence.file,
        place=evidence.place,
    )
