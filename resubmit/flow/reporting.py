"""Reports about a destination's servers go to the journal, once each, where its gate finds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from resubmit import logbook
from resubmit.clock import Clock
from resubmit.evidence import reports
from resubmit.evidence.matching import DestinationOf
from resubmit.journal.door import Journal
from resubmit.model.evidence import Evidence

log = structlog.get_logger()


async def report(
    journal: Journal,
    clock: Clock,
    evidence: Sequence[Evidence],
    endpoints: Mapping[str, frozenset[str]],
    destination_of: DestinationOf,
) -> list[str]:
    """Keep what is about no mail; for each what became of it: matched (a destination of ours), unmatched
    or known. `endpoints` as in Observe."""
    now = clock.now()
    named = [reports.concerns(item, endpoints, destination_of) for item in evidence]
    rows = [
        [reports.row_of(item, name, now) for name in names or [""]]
        for item, names in zip(evidence, named, strict=True)
    ]
    news = iter(await journal.reported([row for each in rows for row in each]))
    answers = []
    for each, names in zip(rows, named, strict=True):
        is_new = [row for row in each if next(news)]
        for row in is_new:
            if row.is_fault:
                log.warning(
                    logbook.EVIDENCE_REPORTED, destination=row.destination, remote=row.remote, text=row.text
                )
        answers.append("known" if not is_new else "matched" if names else "unmatched")
    return answers
