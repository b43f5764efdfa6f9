"""The only place that builds real things from a config and hands them to flow.

`serve` runs the service until it is told to stop; `foreground` carries out one request of a changing
command when no service runs. Both hold the journal's lock while they do.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

import resubmit
from resubmit import logbook
from resubmit.clock import Clock, SystemClock
from resubmit.config import Config
from resubmit.errors import ResubmitError
from resubmit.evidence.settings import Folder
from resubmit.flow.accept import Accept
from resubmit.flow.bring import Bring
from resubmit.flow.deliver import Deliver
from resubmit.flow.follow import Follow
from resubmit.flow.nudge import Nudge
from resubmit.flow.obey import Obey
from resubmit.flow.observe import Observe
from resubmit.flow.operate import orders
from resubmit.flow.recover import Recover
from resubmit.flow.service import Door, Parts, Service
from resubmit.flow.socket import RequestSocket
from resubmit.flow.tidy import Tidy
from resubmit.flow.trace import Trace
from resubmit.flow.wake import Wake
from resubmit.flow.watch import Watch
from resubmit.handoff.pool import Pool
from resubmit.handoff.routes import Table, known_recipients
from resubmit.handoff.settings import Destination
from resubmit.intake.base import Intake
from resubmit.intake.kinds.smtp import SmtpListener
from resubmit.journal import connection
from resubmit.journal.door import Journal
from resubmit.journal.verbs import Destined
from resubmit.probe.published import SystemDns
from resubmit.recovery.clockrule import ClockRule
from resubmit.watching import Watcher
from resubmit.web.server import WebServer

log = structlog.get_logger()


def serve(config: Config) -> int:
    """Run the service until SIGTERM or SIGINT; the command's exit code. Raises ResubmitError at start."""
    set_up_log(config)
    try:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(config))
    except ImportError:
        return asyncio.run(_serve(config))


def foreground(config: Config, request: dict[str, Any], progress: Callable[[dict[str, Any]], None]) -> Any:
    """Carry out one request without a service: its result. Raises ResubmitError, JournalLocked among them."""
    set_up_log(config, quiet=True)
    return asyncio.run(_foreground(config, request, progress))


async def _serve(config: Config) -> int:
    service = Service(await build(config, SystemClock()))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.stopping.set)
    web = open_web(config, service)
    if web:
        service.parts.doors.append(web)
    version = connection.sqlite_version()
    if not connection.is_sound():
        log.warning(logbook.SQLITE_UNSOUND, sqlite=version)
    for warning in config.warnings:
        log.warning(logbook.CONFIG_WARNED, warning=warning)
    log.info(
        logbook.SERVICE_STARTED,
        version=resubmit.__version__,
        sqlite=version,
        listen=config.intake.smtp.listen,
        journal=str(config.journal.path),
        routes=[f"{r.name} {r.host}:{r.port} {r.tls}" for r in config.route],
        loop=type(loop).__module__,
    )
    return 0 if await service.run() else 1


async def _foreground(
    config: Config, request: dict[str, Any], progress: Callable[[dict[str, Any]], None]
) -> Any:
    parts = await build(config, SystemClock(), intake=False)
    return await Service(parts).run_for(lambda: parts.obey.carry_out(request, progress))


async def build(
    config: Config, clock: Clock, *, intake: bool = True, inline: bool = False, watcher: bool = True
) -> Parts:
    """Everything a service needs, wired together. `inline`: the journal works in the loop's own thread;
    `watcher`: the system's hints of changed folders are used beside the rescan, and its resolver for what
    domains published of their servers."""
    journal = await Journal.open(config.journal.path, clock=clock, settings=config.journal, inline=inline)
    try:
        return await _wire(config, clock, journal, intake=intake, watcher=watcher)
    except BaseException:
        await journal.close()
        raise


async def _wire(config: Config, clock: Clock, journal: Journal, *, intake: bool, watcher: bool) -> Parts:
    name = config.intake.smtp.hostname or socket.getfqdn()
    recovery = config.recovery
    table = Table(config.route, config.destination, _known(config.destination))
    key = await journal.key()
    await journal.mirror([_destined(config, d) for d in config.destination])
    clock_rule = ClockRule(clock)
    told = Wake()

    reports = config.intake.reports.addresses if config.intake.reports else []
    accept = Accept(journal, clock, table, give_up_after=recovery.give_up_after, key=key, reports=reports)
    listener = SmtpListener(
        config.intake.smtp,
        new_spool=journal.new_spool,
        vet=accept.vet,
        clock=clock,
        room=accept.room,
    )
    intakes: list[Intake] = [listener] if intake and config.intake.smtp.listen else []
    deliver = Deliver(
        journal,
        clock,
        table,
        Pool(clock, ehlo_name=name),
        by=name,
        key=key,
        give_up_after=recovery.give_up_after,
        told=told,
    )
    ends = {d.name: config.endpoint_of(d) for d in config.destination}
    targets = {f"destination:{name}": end for name, end in ends.items()}
    targets |= {f"route:{r.name}": config.endpoint_of_route(r) for r in config.route}
    if intake and (own := config.endpoint_of_listener()):
        targets["listener:smtp"] = own
    dns = SystemDns() if watcher else None
    watch = Watch(journal, clock, targets, recovery, ehlo_name=name, seen=told, dns=dns)
    nudge = Nudge(journal, [log.flush for log in config.evidence.log])
    turned: list[Callable[[], None]] = [deliver.wake, watch.wake, nudge.wake]
    recover = Recover(journal, clock, recovery, table, clock_rule, told=told, turned=turned)
    endpoints = {name: frozenset({end.host.lower()}) for name, end in ends.items()}
    folders = list(config.evidence.folder)
    if reports:
        folders.append(Folder(path=journal.reports_folder, still="0s"))  # type: ignore[arg-type]
    observe = Observe(journal, clock, table, folders, endpoints, told=told)
    accept.on_report = observe.wake
    follow = Follow(journal, clock, observe.filing, config.evidence.log, told=told)
    trace = None
    if config.evidence.graph is not None:
        graph, lag = config.evidence.graph, recovery.trace_lag
        trace = Trace(journal, clock, observe.filing, graph, clock_rule, ends, trace_lag=lag)
        turned.append(trace.wake)
    doors = _watch_folders(config, observe, follow) if watcher else []
    tidy = Tidy(
        journal, clock, table, config.retention, clock_rule, by=name, give_up_after=recovery.give_up_after
    )
    bring = Bring(journal, clock, accept, by=name, limit=config.intake.smtp.max_message_size)
    more = orders(journal, clock, table, tidy, give_up_after=recovery.give_up_after) | {"import": bring}
    obey = Obey(journal, clock, table, observe, told=told, mode=recovery.mode, more=more)

    def changed(what: str) -> None:
        if what == "due":
            deliver.wake()
        elif what not in ("attempt", "gate"):
            # New mail, and mail that went as it should, is no news to recovery; gates it turns itself.
            told()
        if what in ("job", "attempt"):
            observe.stir()

    journal.on_change = changed
    if intake:
        requests = RequestSocket(config.journal.path / "socket", obey.carry_out)
        doors.append(Door(requests.open, requests.close))
    return Parts(
        journal=journal,
        clock=clock,
        accept=accept,
        intakes=intakes,
        deliver=deliver,
        observe=observe,
        follow=follow,
        nudge=nudge,
        watch=watch,
        recover=recover,
        tidy=tidy,
        obey=obey,
        trace=trace,
        doors=doors,
    )


def _watch_folders(config: Config, observe: Observe, follow: Follow) -> list[Door]:
    """The system's hints of changed folders and logs wake the rescans."""
    folders = config.evidence.folder
    logs = [log.path if log.path.is_dir() else log.path.parent for log in config.evidence.log]
    polls = {folder.path: folder.poll for folder in folders if folder.poll}
    doors = []
    if folders:
        doors.append(_hints([folder.path for folder in folders], observe.wake, polls))
    if logs:
        doors.append(_hints(logs, follow.wake, {}))
    return doors


def _hints(paths: list[Path], wake: Wake, polls: dict[Path, int]) -> Door:
    loop = asyncio.get_running_loop()

    def hint() -> None:
        loop.call_soon_threadsafe(wake)

    watcher = Watcher(paths, hint, polls)

    async def start() -> None:
        watcher.start()

    async def stop() -> None:
        await loop.run_in_executor(None, watcher.stop)

    return Door(start, stop)


def open_web(config: Config, service: Service) -> Door | None:
    """The web listener, when the config has one."""
    if config.web is None:
        return None
    from resubmit.web.metrics import Metrics

    journal = service.parts.journal
    metrics = Metrics(config.journal.path, service.parts.clock, journal.statistics)
    server = WebServer(config.web, lambda: service.ready, metrics.render)
    return Door(server.start, server.stop)


def _known(destinations: tuple[Destination, ...]) -> dict[str, frozenset[str]]:
    return {
        d.name: known_recipients(d.recipients_file.read_text("utf-8"))
        for d in destinations
        if d.recipients_file
    }


def _destined(config: Config, destination: Destination) -> Destined:
    return Destined(
        name=destination.name,
        stuck_after=config.recovery.stuck_after,
        deadline_margin=config.recovery.deadline_margin,
        expires_after=destination.expires_after,
        trace_stale=config.recovery.trace_stale,
        route=destination.handoff,
        resubmit_route=destination.resubmit or destination.handoff,
    )


def set_up_log(config: Config, *, quiet: bool = False) -> None:
    """structlog on stderr: a console for people on a terminal, else JSON, one object a line.

    quiet: a command in the foreground has its own words for what it did; only what a person must see is said,
    as its other errors are.
    """
    level = logging.ERROR if quiet else logging.getLevelName(config.log.level.upper())
    as_json = config.log.format == "json" or (config.log.format == "auto" and not sys.stderr.isatty())
    renderer: structlog.typing.Processor = structlog.dev.ConsoleRenderer(colors=_coloured())
    if quiet:
        renderer = _in_a_line
    elif as_json:
        renderer = structlog.processors.JSONRenderer(default=str)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if as_json else structlog.stdlib.ExtraAdder(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def _coloured() -> bool:
    """On a terminal, unless whoever sits there wants none (no-color.org)."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def _in_a_line(logger: object, name: str, event: structlog.typing.EventDict) -> str:
    """`resubmit: mail.refused: route=eop`: no traceback, no object, for who typed a command."""
    told = {
        k: v for k, v in event.items() if k not in ("event", "level", "timestamp", "exc_info", "exception")
    }
    words = " ".join(f"{key}={value}" for key, value in told.items())
    return f"resubmit: {event['event']}" + (f": {words}" if words else "")


__all__ = ["ResubmitError", "build", "foreground", "open_web", "serve", "set_up_log"]
