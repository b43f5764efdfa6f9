"""What a replay job may do now, and for whom. (design sections 4 and 6.1, `replay`)

Promises: a job waits for its gate, unless it is forced; while a gate is testing one job alone carries the
canary; no rule here ever picks a recipient that is settled, held, held by the relay or without its bytes.
A canary that was forced and failed spends the force: from then on the job waits like any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from resubmit.model.moment import Ms
from resubmit.model.recipient import RecipientKey, State
from resubmit.recovery import eligible
from resubmit.recovery.due import Due
from resubmit.recovery.facts import Coverage, Incident, Job, Standing
from resubmit.recovery.fate import RELEASED, Going
from resubmit.recovery.gate import OPEN, TESTING, Trial
from resubmit.recovery.pace import Plan, Terms, reset
from resubmit.recovery.policy import Policy
from resubmit.recovery.stage import Stage, stage_of
from resubmit.recovery.waits import Times, wait_of

BY = "recovery"
"""Who asks for the jobs nobody asked for."""
REASON = "the incident's fault is gone"
WAITING = "waiting"
RUNNING = "running"
UNFINISHED = (WAITING, RUNNING)
DONE = "done"
AT_A_TIME = 500
"""Waiting recipients of a job that are weighed in one pass, the nearest deadlines first."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a job was asked with. None: as the destination has it. `paused`: a person has stopped it; it goes
    on behind a canary, as after a shut gate."""

    canary: int | None = None
    rate: float | None = None
    route: str | None = None
    force: bool = False
    accepted: bool = False
    delivered: bool = False
    paused: bool = False


def options_of(text: str) -> Options:
    """The options in a job's JSON; what it does not name is the default."""
    plain = json.loads(text or "{}")
    return Options(
        canary=plain.get("canary"),
        rate=plain.get("rate"),
        route=plain.get("route") or None,
        force=bool(plain.get("force")),
        accepted=bool(plain.get("include_accepted") or plain.get("include_delivered")),
        delivered=bool(plain.get("include_delivered")),
        paused=bool(plain.get("paused")),
    )


@dataclass(frozen=True, slots=True)
class Sorted:
    """The waiting recipients of a job. `pool` may go now; `skip` will not any more; `used_up` have had all
    their attempts; `again` are delivered, and go once another one stands beside each; `candidates` counts
    those that may go now or later. `why`: what most of the rest wait for; `wake_at`: when the first wait is
    over."""

    pool: tuple[Standing, ...] = ()
    skip: tuple[RecipientKey, ...] = ()
    used_up: tuple[Due, ...] = ()
    again: tuple[RecipientKey, ...] = ()
    candidates: int = 0
    why: str = ""
    wake_at: Ms | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """One unfinished job with all that is known of it."""

    job: Job
    options: Options
    stage: Stage
    going: tuple[Going, ...]
    waiting: tuple[RecipientKey, ...]
    sorted: Sorted

    @property
    def automatic(self) -> bool:
        return self.job.asked_by == BY

    @property
    def forced(self) -> bool:
        return self.options.force and not self.stage.force_spent

    @property
    def unfinished(self) -> bool:
        """Whether some of its recipients have not gone, or have no reply yet."""
        gone = len(self.sorted.skip) + len(self.sorted.used_up)
        return len(self.waiting) > gone or any(g.item_state == RELEASED for g in self.going)


def work_of(
    job: Job, stage: Stage, going: Sequence[Going], waiting: tuple[RecipientKey, ...], weighed: Sorted
) -> Work:
    """A job with all that is known of it. `waiting`: all of its recipients that do, weighed or not."""
    return Work(job, options_of(job.options), stage, tuple(going), waiting, weighed)


def weigh(
    job: Job,
    waiting: Sequence[RecipientKey],
    standings: Mapping[RecipientKey, Standing],
    times: Times,
    coverage: Sequence[Coverage],
    policy: Policy,
    now: Ms,
) -> Sorted:
    """Who of a job's waiting recipients may go now, and what becomes of the others."""
    options, automatic = options_of(job.options), job.asked_by == BY
    forced = options.force and not stage_of(job.stage).force_spent
    pool: list[Standing] = []
    skip: list[RecipientKey] = []
    used_up: list[Due] = []
    again: list[RecipientKey] = []
    later: list[tuple[Ms | None, str]] = []
    for key in waiting:
        standing = standings.get(key)
        if standing is None:
            skip.append(key)
            continue
        if standing.destination != policy.name:
            later.append((None, f"waiting for {standing.destination}"))
            continue
        if options.delivered and eligible.can_go_again(standing):
            again.append(key)
            continue
        can = _ruling(standing, policy, options, automatic=automatic)
        if not can.yes:
            if eligible.can_come_later(standing, policy, automatic=automatic):
                later.append((None, can.why))
            else:
                skip.append(key)
            continue
        if automatic and (used := eligible.used_up(standing, policy)):
            used_up.append(used)
            continue
        wait = wait_of(standing, times, coverage, policy, now, forced=forced, automatic=automatic)
        if wait is None:
            pool.append(standing)
        else:
            later.append((wait.until, wait.why))
    ends = [until for until, _ in later if until is not None]
    reasons = sorted(why for _, why in later)
    return Sorted(
        pool=tuple(pool),
        skip=tuple(skip),
        used_up=tuple(used_up),
        again=tuple(again),
        candidates=len(pool) + len(again) + len(later),
        why=max(reasons, key=reasons.count, default=""),
        wake_at=min(ends, default=None),
    )


def members_to_ask_for(
    members: Sequence[Standing], taken: frozenset[RecipientKey], policy: Policy
) -> tuple[RecipientKey, ...]:
    """The members of an incident for which recovery asks for a job: those who go, and are in none."""
    return tuple(sorted(s.key for s in members if s.key not in taken and eligible.goes(s, policy).yes))


def may_ask(gate_state: str, policy: Policy) -> bool:
    """Whether recovery asks for jobs of its own now."""
    return policy.mode == "automatic" and gate_state in (OPEN, TESTING)


def carriers(works: Sequence[Work], gate_state: str, policy: Policy) -> tuple[Work, ...]:
    """The jobs that may release something now, in the order they are asked."""
    if policy.mode == "observe":
        return ()
    works = [w for w in works if not w.options.paused]
    if gate_state == OPEN:
        return tuple(sorted(works, key=_precedence))
    forced = tuple(w for w in sorted(works, key=_precedence) if w.forced)
    if gate_state == TESTING:
        able = [w for w in sorted(works, key=_precedence) if w.stage.out or w.sorted.pool or w.sorted.again]
        return tuple(dict.fromkeys(able[:1])) if not forced else forced[:1]
    return forced


def terms_of(work: Work, gate_state: str, policy: Policy, times: Times, *, steps: bool) -> Terms:
    """On what terms a job goes now."""
    options = work.options
    return Terms(
        gate_open=gate_state == OPEN or work.forced,
        steps=steps or gate_state != OPEN,
        live=times.live,
        canary=options.canary or policy.canary,
        rate=policy.rate if options.rate is None else options.rate,
        fixed_at=times.fixed_at,
    )


def trial_of(works: Sequence[Work], planned: Mapping[int, Plan], unsettled: int, to_ask: int) -> Trial:
    """How the canary stands, over all jobs of a destination. `to_ask`: recipients that get a job next."""
    proved = [p.proved_at for p in planned.values() if p.proved_at is not None]
    failed = sorted(p.failed for p in planned.values() if p.failed)
    out = sum(bool(w.stage.out) for w in works)
    return Trial(
        proved_at=max(proved, default=None),
        failed=failed[0] if failed else "",
        candidates=to_ask + out + sum(w.sorted.candidates for w in works),
        unsettled=unsettled,
    )


def inherited(stage: Stage, led: Sequence[Stage], policy: Policy, now: Ms) -> Stage:
    """The stage a job begins with: behind one of the same destination that has just proved the way."""
    if stage != Stage():
        return stage
    fresh = [s for s in led if now < s.leads_until(policy.trace_lag)]
    best = max(fresh, key=lambda s: s.leads_until(policy.trace_lag), default=None)
    return stage if best is None else Stage(best.step, proof_at=best.proof_at, passed_at=best.passed_at)


def shut(work: Work, *, failed: bool) -> Stage:
    """A job's stage behind a shut gate: the canary is next. A forced one that failed spends its force."""
    back = reset(work.stage)
    return replace(back, force_spent=True) if work.options.force and failed else back


def is_done(work: Work, gate_state: str) -> bool:
    """Whether every attempt of a job has its reply, and no gate waits for its canary."""
    if work.unfinished:
        return False
    return gate_state != TESTING or not work.stage.out


def next_state(work: Work, released: bool, carries: bool) -> str:
    """Waiting until something was released; waiting again while its gate is shut."""
    if released or (work.job.state == RUNNING and carries):
        return RUNNING
    return work.job.state if carries else WAITING


def joins(
    members: Sequence[Standing], incident: Incident, policy: Policy, *, live: bool, now: Ms
) -> tuple[RecipientKey, ...]:
    """Who is found to be caught in an incident and is not in it yet."""
    new = (s for s in members if incident.id not in s.incidents)
    return tuple(s.key for s in new if eligible.belongs(s, incident, policy, live=live, now=now).yes)


def _ruling(standing: Standing, policy: Policy, options: Options, *, automatic: bool) -> eligible.Ruling:
    if automatic:
        return eligible.goes(standing, policy)
    can = eligible.can_go(standing)
    if can.yes and standing.state is State.ACCEPTED and not options.accepted:
        return eligible.Ruling(False, "taken again since the job was asked for")
    return can


def _precedence(work: Work) -> tuple[bool, bool, int]:
    # A canary that is out comes first: there is never a second one beside it.
    return not work.stage.out, not work.automatic, work.job.id
