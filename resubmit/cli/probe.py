"""`probe`: the TLS doctor. Looks once, or until all is well; what it shows is in probe_report.py."""

from __future__ import annotations

import argparse
import asyncio
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from resubmit.cli.commands import Command
from resubmit.cli.output import Output, json_text
from resubmit.cli.probe_report import news, overview, show
from resubmit.cli.reading import add_output, now_ms, output_of
from resubmit.clock import SystemClock
from resubmit.configfile import find_config
from resubmit.errors import ResubmitError, UsageError
from resubmit.model.hostport import host_port
from resubmit.model.tls import Endpoint, Health, Verdict
from resubmit.probe import roots
from resubmit.probe.look import look
from resubmit.probe.plain import verdict_plain
from resubmit.probe.published import SystemDns

if TYPE_CHECKING:
    from resubmit.config import Config

_UNREACHED = 7


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", metavar="DESTINATION|HOST[:PORT]", nargs="?", help="left out: every destination"
    )
    parser.add_argument("--name", metavar="N", help="the connector's TlsDomain, like *.contoso.com")
    parser.add_argument("--level", choices=("encrypt", "certificate", "domain"), help="how strictly (domain)")
    parser.add_argument("--ca-file", metavar="F", help="PEM roots instead of the public ones")
    parser.add_argument(
        "--timeout", metavar="S", type=_seconds, default=30.0, help="seconds for the look (30)"
    )
    parser.add_argument(
        "--all", action="store_true", help="every destination, every route, and our own listener"
    )
    parser.add_argument(
        "--watch",
        metavar="S",
        type=_seconds,
        nargs="?",
        const=20.0,
        help="look every S seconds (20) until healthy; says what is new",
    )
    add_output(parser)


def _seconds(text: str) -> float:
    """A number of seconds, for argparse, with or without its unit."""
    try:
        return float(text.removesuffix("s"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None


def _run(args: argparse.Namespace) -> int:
    out = output_of(args)
    if not 0 < args.timeout <= 3600:
        raise UsageError(f"--timeout {args.timeout:g}: seconds, more than 0 and at most 3600")
    if args.watch is not None and not 1 <= args.watch <= 3600:
        raise UsageError(f"--watch {args.watch:g}: seconds, from 1 to 3600")
    if args.all and args.target:
        raise UsageError("--all takes no target", hint="leave out either")
    targets = [(name, _chosen(endpoint, args)) for name, endpoint in _endpoints(args)]
    for _, endpoint in targets:
        # UsageError for one that can't be read; a look would only say unknown.
        roots.load(endpoint.ca_file, now_ms())
    if args.watch is not None:
        return asyncio.run(_watched(targets, args, out))
    looks = [(name, endpoint, verdict) for (name, endpoint), verdict in asyncio.run(_looked(targets, args))]
    if out.as_json:
        for _, _, verdict in looks:
            out.line(json_text(verdict_plain(verdict)))
    elif len(looks) == 1:
        show(*looks[0], out)
    else:
        overview(looks, out)
    return max(exit_code(verdict) for _, _, verdict in looks)


async def _looked(
    targets: list[tuple[str, Endpoint]], args: argparse.Namespace
) -> list[tuple[tuple[str, Endpoint], Verdict]]:
    """Every target, side by side."""
    looks = (
        look(
            endpoint,
            clock=SystemClock(),
            timeout=round(args.timeout * 1000),
            ehlo_name=socket.gethostname(),
            dns=SystemDns(),
        )
        for _, endpoint in targets
    )
    return list(zip(targets, await asyncio.gather(*looks), strict=True))


async def _watched(targets: list[tuple[str, Endpoint]], args: argparse.Namespace, out: Output) -> int:
    """Looks until every target is healthy; says what is new, and nothing while nothing changes."""
    told: dict[str, object] = {}
    while True:
        looks = await _looked(targets, args)
        for (name, _), verdict in looks:
            leaves = tuple(c.sha256 for one in verdict.addresses for c in one.certificates[:1])
            seen = (verdict.health, verdict.codes(), leaves)
            if told.get(name) != seen:
                told[name] = seen
                out.line(
                    json_text(verdict_plain(verdict)) if out.as_json else news(name, verdict), flush=True
                )
        if all(verdict.health is Health.HEALTHY for _, verdict in looks):
            return 0
        await asyncio.sleep(args.watch)


def _chosen(endpoint: Endpoint, args: argparse.Namespace) -> Endpoint:
    """The endpoint with what the command line says otherwise."""
    return replace(
        endpoint,
        level=args.level or endpoint.level,
        tls_domain=args.name if args.name is not None else endpoint.tls_domain,
        ca_file=args.ca_file or endpoint.ca_file,
        revocation=endpoint.revocation or args.level is not None,
    )


def exit_code(verdict: Verdict) -> int:
    """0 healthy, 1 faulty, 7 unreachable or unknown."""
    if not verdict.reached or verdict.health is Health.UNKNOWN:
        return _UNREACHED
    return 0 if verdict.health is Health.HEALTHY else 1


def _endpoints(args: argparse.Namespace) -> list[tuple[str, Endpoint]]:
    """What to look at: destinations of the config by name, else a host that is typed."""
    config = _config(args)
    known = destination_endpoints(config) if config else {}
    if config and args.all:
        known |= {f"route {route.name}": config.endpoint_of_route(route) for route in config.route}
        if own := config.endpoint_of_listener():
            known["our listener"] = own
    if args.target is None:
        if not known:
            raise UsageError(
                "the config has no destination", hint="name a host: resubmit probe mail.contoso.com"
            )
        return list(known.items())
    if args.target in known:
        return [(args.target, known[args.target])]
    try:
        host, port = host_port(args.target, 25)
    except ValueError as error:
        raise UsageError(f"{args.target!r} is no destination of the config and not {error}") from None
    if port == 0 or not host:
        raise UsageError(f"{args.target!r}: a host and a port from 1 up")
    return [(args.target, Endpoint(host=host, port=port))]


def _config(args: argparse.Namespace) -> Config | None:
    """The config, where one is needed or there; a host can be looked at without, or with a wrong one."""
    from resubmit.config import load

    try:
        return load(find_config(args.config))
    except ResubmitError:
        if args.config or args.target is None:
            raise
        return None


def destination_endpoints(config: Config) -> dict[str, Endpoint]:
    """What decides about each destination, by its name: its `probe`, else the resubmission route's host."""
    return {d.name: config.endpoint_of(d) for d in config.destination}


COMMANDS = {
    "probe": Command(
        _add,
        _run,
        "The TLS doctor: connects, says EHLO and STARTTLS, and judges the certificate as the connector\n"
        "would; every address of the name. No mail. Exit 0 healthy, 1 faulty, 7 unreachable or unknown.",
        {
            "resubmit probe": "every destination of the config",
            "resubmit probe hybrid": "a destination",
            "resubmit probe hybrid --watch": "on the night: until it is healthy",
            "resubmit probe --all": "the routes and our own listener too: what ends next",
            "resubmit probe mail.contoso.com --name '*.contoso.com'": "any host, as that connector would",
            "resubmit probe 192.0.2.1:25 --level certificate --json": "",
        },
    ),
}
