"""Statements are matched and go to the journal with what they move.

What surely belongs to one attempt is filed at once. Everything else that may be about a message of ours is
stored first, and then decided together with all evidence of that message: so that the end does not depend
on what was read first. One filing at a time; what an attempt or a person overtook is decided anew.

Limits: a row whose Message-ID is none of ours, but whose network message id is bound only later, is not
asked again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from resubmit.clock import Clock
from resubmit.evidence import matching, reports, settle
from resubmit.evidence.digest import digest_of
from resubmit.evidence.matching import Home
from resubmit.evidence.resettle import resettle
from resubmit.flow.reporting import report
from resubmit.flow.wake import Wake
from resubmit.handoff.routes import Table
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Candidate, Cursor, UnmatchedEvidence
from resubmit.model.evidence import Evidence
from resubmit.model.message import message_key
from resubmit.model.moment import SECOND, Ms

_BATCH = 500
_OVERLAP: Ms = 60 * SECOND
"""What a sweep looks back beyond the last one: an attempt's end is stamped before it is written."""

_AGAIN = 5
"""How often messages are decided anew: each time a member was made, or something overtook the decision."""

_Group = tuple[set[str], set[int]]
"""Message-ID keys and evidence ids that are decided together."""


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
        self._one = asyncio.Lock()
        self._swept: Ms = 0
        self._waiting: set[str] = set()
        self._bound = False

    async def file(
        self, evidence: Sequence[Evidence], cursor: Cursor | None = None, whys: Counter[str] | None = None
    ) -> list[str]:
        """Match and store; for each what became of it: matched, ambiguous, unmatched or known. cursor: how
        far its source was read, written in the commit with which all of it is stored. whys: counts by which
        key the new ones were matched, or what they are ambiguous for."""
        if not evidence:
            if cursor is not None:
                await self._journal.observe([], cursor)
            return []
        if about := [item for item in evidence if reports.is_report(item)]:
            told = iter(await report(self._journal, self._clock, about, self._endpoints, self._home))
            others = [item for item in evidence if not reports.is_report(item)]
            rest = iter(await self.file(others, cursor, whys))
            self._told()
            return [next(told if reports.is_report(item) else rest) for item in evidence]
        async with self._one:
            answers = await self._file(evidence, cursor)
        if whys is not None:
            whys.update(matching.kind_of(why) for match, why in answers if match in ("matched", "ambiguous"))
        return [match for match, _ in answers]

    async def sweep(self, *, whole: bool = False) -> None:
        """Ask again for what has no owner and may have found one: of messages that had an attempt begun or
        ended since the last sweep, and rows without a Message-ID (those of about that time, unless a network
        message id was bound since). whole, and the first time: for all of it."""
        async with self._one:
            since, self._swept = self._swept, self._clock.now() - _OVERLAP
            whole = whole or not since
            keys = set(await (self._journal.unowned_of_ours() if whole else self._journal.stirred(since)))
            asked = sorted(keys | self._waiting)
            self._waiting.clear()
            for start in range(0, len(asked), _BATCH):
                await self._settle([({key}, set()) for key in asked[start : start + _BATCH]])
            bound, self._bound = self._bound, False
            after, near = 0, None if whole or bound else since
            while stored := await self._journal.unmatched(after, _BATCH, keyless=True, since=near):
                after = stored[-1].id
                await self._ask_again(stored)

    async def _file(self, evidence: Sequence[Evidence], cursor: Cursor | None) -> list[tuple[str, str]]:
        now = self._clock.now()
        candidates = await self._journal.candidates([matching.lookup_of(item) for item in evidence])
        said = {"now": now, "endpoints": self._endpoints, "destination_of": self._home}
        concluded = [
            settle.conclude(item, found, (), digest=digest_of(item), **said)  # type: ignore[arg-type]
            if found
            else settle.nobodys(item, digest=digest_of(item), **said)  # type: ignore[arg-type]
            for item, found in zip(evidence, candidates, strict=True)
        ]
        alone = settle.alone(concluded, candidates)
        sure = [i in alone or settle.is_sure(one) for i, one in enumerate(concluded)]
        observed = [
            one if sure[i] else settle.unowned(one) if candidates[i] else one
            for i, one in enumerate(concluded)
        ]
        filed = await self._journal.observe(observed, cursor)
        self._bound = self._bound or bool(alone)
        overtaken = [i for i, done in enumerate(filed) if done.outcome == "stale"]
        if overtaken:
            kept = [settle.unowned(observed[i]) for i in overtaken]
            for i, done in zip(overtaken, await self._journal.observe(kept, cursor), strict=True):
                filed[i] = done
        groups: list[_Group] = []
        for i, (found, done) in enumerate(zip(candidates, filed, strict=True)):
            new = done.outcome == "new" and (not sure[i] or i in overtaken)
            if found and (new or done.outcome == "fuller") and done.evidence is not None:
                groups.append(({message_key(c.message_id) for c in found}, {done.evidence}))
        matches = await self._settle(groups)
        return [
            matches.get(done.evidence or 0, (one.match, one.why)) if done.outcome == "new" else ("known", "")
            for one, done in zip(observed, filed, strict=True)
        ]

    async def _ask_again(self, stored: Sequence[UnmatchedEvidence]) -> None:
        lookups = [matching.lookup_of(settle.evidence_of(each.row)) for each in stored]
        found: list[list[Candidate]] = await self._journal.candidates(lookups)
        groups = [
            ({message_key(c.message_id) for c in candidates}, {each.id})
            for each, candidates in zip(stored, found, strict=True)
            if candidates
        ]
        await self._settle(groups)

    async def _settle(self, groups: Iterable[_Group]) -> dict[int, tuple[str, str]]:
        """Decide these groups, those with a key in common as one, until nothing of them changes."""
        matches: dict[int, tuple[str, str]] = {}
        left = _merged(groups)
        changed = False
        for _ in range(_AGAIN):
            if not left:
                break
            found = await self._journal.gathered([(sorted(keys), sorted(ids)) for keys, ids in left])
            all_settled = [
                resettle(
                    gathered, now=self._clock.now(), endpoints=self._endpoints, destination_of=self._home
                )
                for gathered in found
            ]
            for (keys, _), settled in zip(left, all_settled, strict=True):
                matches |= settled.matches
                if settled.waits:
                    self._waiting |= keys
            observed = [one for settled in all_settled for one in settled.observed]
            rebinds = [one for settled in all_settled for one in settled.rebinds]
            if observed or rebinds:
                await self._journal.observe(observed, None, rebinds)
                self._bound = self._bound or bool(rebinds)
                changed = True
            left = [
                group
                for group, settled in zip(left, all_settled, strict=True)
                if settled.observed or settled.rebinds
            ]
        if left:
            self._stir()
        if changed:
            self._told()
        return matches

    def _home(self, address: str) -> Home | None:
        destination = self._table.destination_of(address)
        if destination is None:
            return None
        route = self._table.resubmit_of(destination).name
        return Home(destination.name, route, rest="*" in destination.domains)


def _merged(groups: Iterable[_Group]) -> list[_Group]:
    """Groups with a key in common as one."""
    of: dict[str, _Group] = {}
    for keys, ids in groups:
        whole: _Group = (set(keys), set(ids))
        for group in {id(of[key]): of[key] for key in keys if key in of}.values():
            whole[0].update(group[0])
            whole[1].update(group[1])
        of.update(dict.fromkeys(whole[0], whole))
    return list({id(group): group for group in of.values()}.values())
