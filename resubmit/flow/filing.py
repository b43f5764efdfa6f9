"""Statements are matched and go to the journal with what they move.

Read, decide, compare and set: a decision that was overtaken is made anew, and what is overtaken each time is
kept without an owner for the next sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from resubmit.clock import Clock
from resubmit.evidence import matching, settle
from resubmit.evidence.digest import digest_of
from resubmit.evidence.matching import Home
from resubmit.flow.wake import Wake
from resubmit.handoff.routes import Table
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Observed, UnmatchedEvidence
from resubmit.model.evidence import Evidence

_AGAIN = 3
"""How often a decision that was overtaken is made anew."""


class Filing:
    """Finds owners. `endpoints` and `told` as in Observe; `stir`: rows without an owner may find one now."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        table: Table,
        endpoints: Mapping[str, frozenset[str]],
        *,
        told: Wake,
        stir: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._table = table
        self._endpoints = endpoints
        self._told = told
        self._stir = stir

    async def file(self, evidence: list[Evidence]) -> list[str]:
        """Match and store; for each what became of it: matched, ambiguous, unmatched or known."""
        answers: list[str] = [""] * len(evidence)
        left = list(range(len(evidence)))
        digests = [digest_of(item) for item in evidence]
        for _ in range(_AGAIN):
            if not left:
                break
            candidates = await self._journal.candidates([matching.lookup_of(evidence[i]) for i in left])
            observed: list[Observed] = []
            for i, found in zip(left, candidates, strict=True):
                unowned = await self._unowned(evidence[i], len(found))
                observed.append(
                    settle.conclude(
                        evidence[i],
                        found,
                        unowned,
                        now=self._clock.now(),
                        endpoints=self._endpoints,
                        destination_of=self._home,
                        digest=digests[i],
                    )
                )
            filed = await self._journal.observe(observed, None)
            for i, one, done in zip(left, observed, filed, strict=True):
                answers[i] = "known" if done.outcome == "known" else one.match
            if any(settle.stirs(one) for one in observed):
                self._stir()
            left = [i for i, done in zip(left, filed, strict=True) if done.outcome == "stale"]
        if left:
            # Overtaken each time: kept without an owner, so that the sweep decides it in peace.
            kept = [settle.unowned(evidence[i], now=self._clock.now(), digest=digests[i]) for i in left]
            await self._journal.observe(kept, None)
            self._stir()
        return answers

    async def file_again(self, stored: list[UnmatchedEvidence]) -> None:
        items = [settle.evidence_of(each.row) for each in stored]
        candidates = await self._journal.candidates([matching.lookup_of(item) for item in items])
        observed = [
            settle.conclude_again(
                each,
                found,
                await self._unowned(item, len(found)),
                now=self._clock.now(),
                endpoints=self._endpoints,
                destination_of=self._home,
            )
            for each, item, found in zip(stored, items, candidates, strict=True)
        ]
        useful = [one for one in observed if one.moves or one.owner is not None]
        if useful:
            await self._journal.observe(useful, None)
            self._told()

    async def _unowned(self, item: Evidence, candidates: int) -> list[UnmatchedEvidence]:
        # Only where messages can't be told apart do other rows count (design rule 8).
        if candidates < 2 or not item.message_id:
            return []
        return await self._journal.unowned(matching.lookup_of(item).key, item.recipient)

    def _home(self, address: str) -> Home | None:
        destination = self._table.destination_of(address)
        if destination is None:
            return None
        route = self._table.resubmit_of(destination).name
        return Home(destination.name, route, rest="*" in destination.domains)
