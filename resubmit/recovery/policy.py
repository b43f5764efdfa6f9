"""What the config asks of recovery for one destination or route, as plain values.

Promises: `[recovery]` and the `[[destination]]` are read here only, with what each leaves open decided:
`duplicates` goes by `exchange`, `resubmit` by `handoff`, `rate` by that of recovery. Spans are ms, `rate` is
messages a second, 0 for no limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from resubmit.model.moment import DAY, MINUTE, Ms
from resubmit.recovery.settings import Recovery

SETTLE_WITH_TRACE = 10 * MINUTE
"""The wait after a fix where a trace can tell what the far side did by itself meanwhile."""


class Destination(Protocol):
    """The part of a `[[destination]]` that recovery reads."""

    name: str
    handoff: str
    resubmit: str
    exchange: bool
    expires_after: int
    far_retry: int
    probe: str
    rate: float | None

    @property
    def duplicates(self) -> str | None: ...


class Route(Protocol):
    """The part of a `[[route]]` that recovery reads."""

    name: str
    final: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules' numbers for one destination. `avoid`: a duplicate costs more than waiting. `endpoint`:
    the host and port whose health decides, "" where none was named."""

    name: str = ""
    handoff: str = ""
    route: str = ""
    endpoint: str = ""
    final: bool = False
    avoid: bool = False
    mode: str = "automatic"
    give_up_after: Ms = 5 * DAY
    healthy_probes: int = 3
    watch_interval: Ms = 5 * MINUTE
    probe_interval: Ms = 20_000
    settle: Ms | None = None
    trace_lag: Ms = 15 * MINUTE
    trace_stale: Ms = 60 * MINUTE
    far_retry: Ms = 60 * MINUTE
    canary: int = 1
    rate: float = 5.0
    max_attempts: int = 5
    in_doubt_wait: Ms = 10 * MINUTE
    suspect: str = "ask"
    expired: str = "resubmit"
    expires_after: Ms = 24 * 60 * MINUTE
    deadline_margin: Ms = 120 * MINUTE
    stuck_after: Ms = 15 * MINUTE

    def settle_for(self, live: bool) -> Ms:
        """How long to wait after the fault is gone: what was given, else by whether a trace is live."""
        if self.settle is not None:
            return self.settle
        return SETTLE_WITH_TRACE if live else 0

    def names_endpoint(self, remote: str) -> bool:
        """Whether `remote`, as a source writes it, is this endpoint and not merely some host."""
        host, _, port = self.endpoint.rpartition(":") if ":" in self.endpoint else (self.endpoint, "", "")
        host = host.strip("[]").lower()
        if not host:
            return False
        found = re.search(rf"(?<![\w.-]){re.escape(host)}(?![\w.-])(\]?:(\d+))?", remote.lower())
        return found is not None and (found[2] is None or not port or found[2] == port)


def policy_of(recovery: Recovery, destination: Destination, route: Route | None) -> Policy:
    """The policy of one destination. `route`: the one resubmissions take, None where it is not known."""
    choice = destination.duplicates or ("accept" if destination.exchange else "avoid")
    return Policy(
        name=destination.name,
        handoff=destination.handoff,
        route=destination.resubmit or destination.handoff,
        endpoint=destination.probe,
        final=bool(route and route.final),
        avoid=choice == "avoid",
        mode=recovery.mode,
        give_up_after=recovery.give_up_after,
        healthy_probes=recovery.healthy_probes,
        watch_interval=recovery.watch_interval,
        probe_interval=recovery.probe_interval,
        settle=recovery.settle,
        trace_lag=recovery.trace_lag,
        trace_stale=recovery.trace_stale,
        far_retry=destination.far_retry,
        canary=recovery.canary,
        rate=recovery.rate if destination.rate is None else destination.rate,
        max_attempts=recovery.max_attempts,
        in_doubt_wait=recovery.in_doubt_wait,
        suspect=recovery.suspect,
        expired=recovery.expired,
        expires_after=destination.expires_after,
        deadline_margin=recovery.deadline_margin,
        stuck_after=recovery.stuck_after,
    )


def policies_of(
    recovery: Recovery, destinations: Iterable[Destination], routes: Mapping[str, Route]
) -> list[Policy]:
    """The policy of each destination, in the order of the config."""
    return [policy_of(recovery, d, routes.get(d.resubmit or d.handoff)) for d in destinations]


def policy_of_routes(recovery: Recovery) -> Policy:
    """What holds for every route, and for what belongs to no destination in particular."""
    return Policy(
        mode=recovery.mode,
        rate=recovery.rate,
        watch_interval=recovery.watch_interval,
        probe_interval=recovery.probe_interval,
        trace_lag=recovery.trace_lag,
        trace_stale=recovery.trace_stale,
        in_doubt_wait=recovery.in_doubt_wait,
        stuck_after=recovery.stuck_after,
    )
