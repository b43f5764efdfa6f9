"""`config check --online`: the set-up of Graph's message trace, step by step, up to the first page."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from resubmit.cli.output import Output, when
from resubmit.clock import Clock, SystemClock
from resubmit.errors import UsageError
from resubmit.evidence import graph
from resubmit.evidence.graph import Page, Window
from resubmit.evidence.graph_client import GraphClient
from resubmit.evidence.graph_says import Problem, Step, Then
from resubmit.evidence.settings import Graph
from resubmit.model.moment import HOUR, MINUTE, SECOND, span_text

_APART = 5 * MINUTE
_OK, _MISSING, _LATER, _NOT_TRIED = "ok", "missing", "later", "not tried"
_FAILED, _USAGE, _UNREACHED = 1, 2, 7


@dataclass(frozen=True, slots=True)
class Walked:
    """A step and how it went: ok, missing, later (nobody's fault, try again), not tried."""

    step: str
    state: str
    text: str = ""
    advice: str = ""

    def to_plain(self) -> dict[str, Any]:
        """The object of `--json`."""
        return {"step": self.step, "state": self.state, "text": self.text, "advice": self.advice or None}


def check(settings: Graph, out: Output) -> tuple[int, list[dict[str, Any]]]:
    """Walk and, unless as JSON, tell: the exit code (0 all is well, 1 a step is missing, 2 a file is, 7
    nobody answered), and an object a step."""
    walked, code = asyncio.run(_walk(settings, SystemClock()))
    if not out.as_json:
        out.line(f"message trace of {settings.tenant}:")
        for one in walked:
            out.text(f"{one.state}: {one.step}" + (f": {one.text}" if one.text else ""), "  ")
            if one.advice:
                out.text(f"→ {one.advice}", "    ")
    return code, [one.to_plain() for one in walked]


async def _walk(settings: Graph, clock: Clock) -> tuple[list[Walked], int]:
    client = GraphClient(settings, clock)
    try:
        problem, done = await _until_first_page(settings, clock, client)
    finally:
        await client.close()
    order = list(Step)
    reached = len(order) if problem is None else order.index(problem.step)
    said = {one.step: one for one in done}
    walked = [said.get(step, Walked(step, _OK)) for step in order[:reached]]
    if problem is not None:
        state = _MISSING if problem.then in (Then.SETUP, Then.RENEW) else _LATER
        walked.append(Walked(problem.step, state, problem.text, problem.advice))
        walked += [Walked(step, _NOT_TRIED) for step in order[reached + 1 :]]
    return walked, _code(problem)


async def _until_first_page(
    settings: Graph, clock: Clock, client: GraphClient
) -> tuple[Problem | None, list[Walked]]:
    """What stood in the way, and what can be said of steps that went well."""
    done: list[Walked] = []
    try:
        client.credentials()
    except UsageError as error:
        return Problem(Step.FILES, Then.SETUP, error.message, error.hint), done
    which = "client_secret_file" if settings.client_secret_file else "certificate_file"
    hosts = sorted({urlsplit(url).hostname or "" for url in (settings.login, settings.endpoint)})
    for host in hosts:
        if (problem := await _looked_up(host)) is not None:
            return problem, [Walked(Step.FILES, _OK, f"{which} can be used")]
    done.append(Walked(Step.FILES, _OK, f"{which} can be used"))
    problem = await client.sign_in()
    if problem is not None:
        return problem, done
    done += [Walked(Step.NETWORK, _OK, " and ".join(hosts)), Walked(Step.TOKEN, _OK, "signed in")]
    now = clock.now()
    url = graph.list_url(
        settings.endpoint, Window(now - HOUR, now // SECOND * SECOND, False), settings.from_ip
    )
    answer = await client.get(url)
    apart = answer.at - answer.date if answer.date is not None else 0
    if abs(apart) >= _APART:
        way = "ahead of" if apart > 0 else "behind"
        text = f"this machine's clock is {span_text(abs(apart))} {way} Microsoft's"
        advice = "set it (NTP): nothing is resubmitted while they differ by five minutes"
        return Problem(Step.ANSWER, Then.SETUP, text, advice), done
    if answer.problem is not None:
        return answer.problem, done
    page = graph.page_of(answer.body, url, frozenset())
    if isinstance(page, Problem):
        return page, done
    done.append(Walked(Step.ANSWER, _OK, _rows_text(page)))
    return None, done


def _rows_text(page: Page) -> str:
    newest = max((row.received_at for row in page.rows if row.received_at is not None), default=None)
    if newest is None:
        return "answered; no mail within the last hour"
    more = " and more" if page.following else ""
    return f"{len(page.rows)} rows{more} of the last hour, the newest of {when(newest)}"


async def _looked_up(host: str) -> Problem | None:
    if "https" in getproxies():
        return None  # the proxy looks names up
    try:
        await asyncio.get_running_loop().getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    except OSError as error:
        text = f"{host} has no address here: {error.strerror or error}"
        return Problem(Step.NETWORK, Then.AGAIN, text, "check DNS, and the names in endpoint and login")
    return None


def _code(problem: Problem | None) -> int:
    if problem is None:
        return 0
    if problem.step is Step.FILES:
        return _USAGE
    return (
        _FAILED
        if problem.then in (Then.SETUP, Then.RENEW) and problem.step is not Step.NETWORK
        else _UNREACHED
    )
