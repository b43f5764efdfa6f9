"""A finding before it has its advice: what the readers of a conversation hand on. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from resubmit.model.tls import Severity
from resubmit.probe.seen import Step, Stop


@dataclass(frozen=True, slots=True)
class Named:
    """A code with what was seen; `where`: the step, the certificate or the name."""

    code: str
    severity: Severity
    where: str
    text: str


def fault(code: str, where: Step, text: str) -> Named:
    return Named(code, Severity.FAULT, where.value, text)


def because(stop: Stop) -> str:
    """The system's own words in brackets, "" where it gave none."""
    return f" ({stop.detail})" if stop.detail else ""
