"""An incident's report as one HTML page: no script, no picture, nothing fetched; it prints, and it can be
mailed. Everything from mail is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .2rem .8rem .2rem 0; }
th { border-bottom: 1px solid; } td { border-bottom: 1px solid #ddd; overflow-wrap: anywhere; }
td.n, th.n { text-align: right; } .bad { color: #a00; font-weight: bold; } .good { color: #060; }
@media (prefers-color-scheme: dark) { body { background: #111; color: #eee; } td { border-color: #333; }
  .bad { color: #f88; } .good { color: #8d8; } a { color: #9cf; } }
"""
COUNTS = {
    "stuck": "recipients caught",
    "recovered": "delivered, by evidence",
    "failed": "given up: refused, filtered or cancelled",
    "unproven": "taken by the next hop, nothing heard since",
    "unknown": "still open",
    "duplicates": "delivered twice",
}
_BAD = frozenset({"failed", "unknown", "duplicates"})


def incident_page(
    report: Mapping[str, Any], recipients: Iterable[Mapping[str, Any]], made_at: str | None
) -> Iterator[str]:
    """The page, line by line. `report`: the object of `incidents report --json`; `recipients`: those of
    `replay --dry-run`'s sample (a recipient's object with its message's id); `made_at`: RFC 3339."""
    place = f"destination {report['destination']}" if report["destination"] else f"route {report['route']}"
    title = f"Incident {report['id']}: {report['cause']} at {place}"
    yield "<!doctype html>"
    yield f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{_STYLE}</style></head><body>"
    yield f"<h1>{escape(title)}</h1>"
    yield f"<p>{escape(str(report['state']))}; as of {_time(made_at)}</p>"
    yield from _table(
        ("", ""),
        [
            ("fault seen from", _time(report["fault_from"])),
            ("fault seen until", _time(report["fault_to"]) if report["fault_to"] else "now"),
            ("opened", _time(report["opened_at"])),
            ("mended", _time(report["fixed_at"]) if report["fixed_at"] else "not yet"),
            ("closed", _time(report["closed_at"]) if report["closed_at"] else "not yet"),
        ],
    )
    yield "<h2>What became of the mail</h2>"
    yield "<table>"
    for name, meaning in COUNTS.items():
        count = report[name]
        kind = " bad" if name in _BAD and count else " good" if name == "recovered" and count else ""
        yield f'<tr><td>{name}</td><td class="n{kind}">{count}</td><td>{meaning}</td></tr>'
    yield "</table>"
    if report["false_ndrs"]:
        yield "<h2>Senders who will get a bounce for mail that went again</h2>"
        yield "<p>It comes from a copy that the far side still tries; the mail itself has gone again.</p>"
        yield from _table(
            ("sender", "recipients", "until"),
            [(escape(f["sender"]), str(f["recipients"]), _time(f["at"])) for f in report["false_ndrs"]],
        )
    yield "<h2>Recipients</h2>"
    yield from _table(
        ("message", "recipient", "state", "cause", "since", "attempts", "last reply"),
        (
            (
                escape(r["id"]),
                escape(r["address"]),
                escape(r["state"]),
                escape(r["cause"] or ""),
                _time(r["since"]),
                str(r["attempts"]),
                escape(r["last_reply"] or ""),
            )
            for r in recipients
        ),
    )
    yield "</body></html>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Cells are HTML already."""
    yield "<table>"
    if any(heads):
        yield "<tr>" + "".join(f"<th>{escape(head)}</th>" for head in heads) + "</tr>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
    yield "</table>"


def _time(at: str | None) -> str:
    """RFC 3339 for programs, without its fraction for people."""
    if not at:
        return ""
    return f'<time datetime="{escape(at)}">{escape(at[:19].replace("T", " "))} UTC</time>'
