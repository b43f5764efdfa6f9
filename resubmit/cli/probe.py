"""`probe`: the TLS doctor. A report that fits a screen, faults first, each with what to do."""

from __future__ import annotations

import argparse
import asyncio
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from resubmit.cli.commands import Command
from resubmit.cli.output import Output, json_text, when
from resubmit.cli.reading import add_output, now_ms, output_of
from resubmit.cli.table import clean
from resubmit.clock import SystemClock
from resubmit.configfile import find_config
from resubmit.errors import ResubmitError, UsageError
from resubmit.model.hostport import host_port
from resubmit.model.moment import DAY
from resubmit.model.tls import AddressVerdict, Endpoint, Finding, Health, Severity, Verdict
from resubmit.probe import roots
from resubmit.probe.look import look
from resubmit.probe.plain import verdict_plain

if TYPE_CHECKING:
    from resubmit.config import Config

_UNREACHED = 7
_WORST_FIRST = [Health.FAULTY, Health.UNKNOWN, Health.HEALTHY]
_ORDER = [Severity.FAULT, Severity.UNKNOWN, Severity.WARNING, Severity.INFO]


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
    codes: list[int] = []
    for name, endpoint in _endpoints(args):
        chosen = replace(
            endpoint,
            level=args.level or endpoint.level,
            tls_domain=args.name if args.name is not None else endpoint.tls_domain,
            ca_file=args.ca_file or endpoint.ca_file,
        )
        roots.load(
            chosen.ca_file, now_ms()
        )  # UsageError for one that can't be read; look would only say unknown
        verdict = asyncio.run(
            look(
                chosen,
                clock=SystemClock(),
                timeout=round(args.timeout * 1000),
                ehlo_name=socket.gethostname(),
            )
        )
        if out.as_json:
            out.line(json_text(verdict_plain(verdict)))
        else:
            if codes:
                out.line()
            _show(name, chosen, verdict, out)
        codes.append(exit_code(verdict))
    return max(codes)


def exit_code(verdict: Verdict) -> int:
    """0 healthy, 1 faulty, 7 unreachable or unknown."""
    if not verdict.reached or verdict.health is Health.UNKNOWN:
        return _UNREACHED
    return 0 if verdict.health is Health.HEALTHY else 1


def _endpoints(args: argparse.Namespace) -> list[tuple[str, Endpoint]]:
    """What to look at: destinations of the config by name, else a host that is typed."""
    config = _config(args)
    known = destination_endpoints(config) if config else {}
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


def _show(name: str, endpoint: Endpoint, verdict: Verdict, out: Output) -> None:
    target = f"{endpoint.host}:{endpoint.port}"
    label = target if name in (target, endpoint.host) else f"{name} ({target})"
    out.line(f"{clean(label)}: {verdict.health.upper()}")
    wants = {
        "none": "an SMTP dialogue, no TLS asked for",
        "opportunistic": "an SMTP dialogue, with TLS where it can be had",
        "encrypt": "TLS, any certificate",
        "certificate": "a trusted certificate",
        "domain": f"a trusted certificate for {endpoint.tls_domain or endpoint.host}",
    }[verdict.level]
    out.text(f"level {verdict.level}: {wants}; looked at {when(verdict.checked_at)}", "  ")
    _findings(verdict.findings, out, "  ")
    for one in sorted(verdict.addresses, key=lambda a: _WORST_FIRST.index(a.health)):
        _address(one, verdict, out)


def _address(one: AddressVerdict, verdict: Verdict, out: Output) -> None:
    out.line()
    tls = f", {one.tls_version} {one.tls_cipher}".rstrip() if one.tls_version else ", no TLS"
    out.line(clean(f"{one.address}: {one.health}{tls}"))
    _findings(one.findings, out, "  ")
    if one.certificates:
        leaf = one.certificates[0]
        left = (leaf.not_after - verdict.checked_at) / DAY
        ends = f"ends in {left:.0f} days" if left >= 0 else f"ended {-left:.0f} days ago"
        out.text(f"certificate {leaf.subject}, from {leaf.issuer}, {ends}", "  ")
        if leaf.sans:
            names = list(leaf.sans[:6])
            out.text(f"names: {', '.join(names)}" + (" …" if len(leaf.sans) > len(names) else ""), "  ")


def _findings(findings: tuple[Finding, ...], out: Output, indent: str) -> None:
    for one in sorted(findings, key=lambda f: _ORDER.index(f.severity)):
        where = f" ({one.where})" if one.where else ""
        out.text(f"{one.severity}: {one.code}{where}: {one.text}", indent)
        if one.advice and one.severity is not Severity.INFO:
            out.text(f"→ {one.advice}", indent + "  ")


COMMANDS = {
    "probe": Command(
        _add,
        _run,
        "The TLS doctor: connects, says EHLO and STARTTLS, and judges the certificate as the connector\n"
        "would; every address of the name. No mail. Exit 0 healthy, 1 faulty, 7 unreachable or unknown.",
        {
            "resubmit probe": "every destination of the config",
            "resubmit probe hybrid": "a destination",
            "resubmit probe mail.contoso.com --name '*.contoso.com'": "any host, as that connector would",
            "resubmit probe 192.0.2.1:25 --level certificate --json": "",
        },
    ),
}
