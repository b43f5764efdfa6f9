"""What `probe` shows a person: faults first, each with what to do; then what was seen, the chain drawn.

A report of one address fits a screen. Colours only on a terminal that wants them (NO_COLOR, TERM=dumb).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from resubmit.cli.output import Output, wants_colour, when
from resubmit.cli.table import Column, clean, counted
from resubmit.meaning.advice import far
from resubmit.model.moment import DAY, Ms, local_text, span_text
from resubmit.model.tls import AddressVerdict, Certificate, Endpoint, Finding, Health, Severity, Verdict
from resubmit.probe.plain import days_left

_WORST_FIRST = [Health.FAULTY, Health.UNKNOWN, Health.HEALTHY]
_ORDER = [Severity.FAULT, Severity.UNKNOWN, Severity.WARNING, Severity.INFO]
_COLOURS = {
    Health.FAULTY.value: "31;1",
    Health.UNKNOWN.value: "33",
    Health.HEALTHY.value: "32",
    Severity.FAULT.value: "31;1",
    Severity.WARNING.value: "33",
}
_WANTS = {
    "none": "an SMTP dialogue, no TLS asked for",
    "opportunistic": "an SMTP dialogue, with TLS where it can be had",
    "encrypt": "TLS, any certificate",
    "certificate": "a trusted certificate",
}
_NAMES = 6


def coloured(word: str, kind: str) -> str:
    """The word in the colour of a verdict or severity, where colours are wanted."""
    code = _COLOURS.get(kind)
    return f"\x1b[{code}m{word}\x1b[0m" if code and wants_colour() else word


def show(name: str, endpoint: Endpoint, verdict: Verdict, out: Output) -> None:
    """The whole report of one target."""
    out.line(f"{clean(label(name, endpoint))}: {coloured(verdict.health.upper(), verdict.health)}")
    wants = _WANTS.get(verdict.level, f"a trusted certificate for {endpoint.tls_domain or endpoint.host}")
    roots = PurePath(verdict.roots).name if endpoint.ca_file else verdict.roots  # a path may be long
    by = f" (by {roots})" if roots and verdict.level in ("certificate", "domain") else ""
    out.text(f"level {verdict.level}: {wants}{by}; looked at {when(verdict.checked_at)}", "  ")
    _findings(verdict.findings, out, "  ")
    for one in sorted(verdict.addresses, key=lambda a: _WORST_FIRST.index(a.health)):
        _address(one, verdict.checked_at, out)


def overview(looks: Sequence[tuple[str, Endpoint, Verdict]], out: Output) -> None:
    """Several targets: a line each, then the reports of those that are not healthy."""
    rows = []
    for name, endpoint, verdict in looks:
        codes = verdict.codes()
        left = days_left(verdict)
        rows.append(
            (
                name,
                f"{endpoint.host}:{endpoint.port}",
                verdict.health.upper(),
                "-" if left is None else str(left),
                " ".join(codes) or "-",
            )
        )
    columns = (
        Column("TARGET", 8),
        Column("WHERE", 12, cut="middle"),
        Column("VERDICT", 7),
        Column("DAYS LEFT", 9, right=True),
        Column("FINDINGS", 12),
    )
    out.table(columns, rows)
    bad = [look for look in looks if look[2].health is not Health.HEALTHY]
    for name, endpoint, verdict in bad:
        out.line()
        show(name, endpoint, verdict, out)
    if not bad:
        out.line()
        out.line(f"{counted(len(looks), 'target')}, all healthy.")


def news(name: str, verdict: Verdict) -> str:
    """A look in a line, for `--watch`: when, whom, the verdict, and why."""
    at = local_text(verdict.checked_at)
    codes = " ".join(verdict.codes())
    word = coloured(verdict.health.value, verdict.health)
    return f"{at}  {clean(name)}: {word}" + (f"  {codes}" if codes else "")


def label(name: str, endpoint: Endpoint) -> str:
    """How a target is called: its name, with where it is if that says more."""
    target = f"{endpoint.host}:{endpoint.port}"
    return target if name in (target, endpoint.host) else f"{name} ({target})"


def _address(one: AddressVerdict, now: Ms, out: Output) -> None:
    out.line()
    tls = f", {one.tls_version} {one.tls_cipher}".rstrip() if one.tls_version else ", no TLS"
    out.line(f"{clean(one.address)}: {coloured(one.health, one.health)}{clean(tls)}")
    _findings(one.findings, out, "  ")
    _chain(one.certificates, now, out)


def _findings(findings: tuple[Finding, ...], out: Output, indent: str) -> None:
    is_faulty = any(one.severity is Severity.FAULT for one in findings)
    for one in sorted(findings, key=lambda f: _ORDER.index(f.severity)):
        if one.severity is Severity.INFO and is_faulty:
            continue  # a fault is to be mended first; --json has it
        where = f" ({one.where})" if one.where else ""
        out.marked(f"{one.severity}: {one.code}{where}: {one.text}", indent, _COLOURS.get(one.severity, ""))
        if one.severity is Severity.INFO:
            continue
        if one.advice:
            out.text(f"→ {one.advice}", indent + "  ")
        if reply := far(one.code, one.where):
            out.text(f"Exchange Online says: {reply}", indent + "  ")


def _chain(certificates: tuple[Certificate, ...], now: Ms, out: Output) -> None:
    """The certificates as the server sent them, each under the one it is to vouch for."""
    for depth, one in enumerate(certificates[:_NAMES]):
        left = one.not_after - now
        days = left // DAY
        ends = f"ended {span_text(-left)} ago" if left < 0 else f"ends in {days} days"
        note = ", signed by itself" if one.subject == one.issuer else ""
        out.text(f"{_mark(depth)}{one.subject}, {ends}{note}", "  " + "  " * max(0, depth - 1))
        if not depth and one.sans:
            more = " …" if len(one.sans) > _NAMES else ""
            out.text(f"names: {', '.join(one.sans[:_NAMES])}{more}", "  ")
    if certificates and (last := certificates[-1]).subject != last.issuer:
        depth = min(len(certificates), _NAMES)
        out.text(f"{_mark(depth)}{last.issuer}, not sent", "  " + "  " * (depth - 1))
    if len(certificates) > _NAMES:
        out.text(f"… {len(certificates)} were sent", "  ")


def _mark(depth: int) -> str:
    return "└ from " if depth else "certificate "
