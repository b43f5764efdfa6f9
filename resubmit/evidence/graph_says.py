"""What Graph and its sign-in say when they don't give what was asked: which step is missing, and what to do.

Promises: goes by HTTP status and codes; texts only tell two things of the same code apart. Nothing that was
sent to them is in what is said here.

Source: microsoft.md sections 1.1 and 1.4; Microsoft's list of AADSTS codes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from resubmit.model.moment import MINUTE, SECOND, Ms

TRACE_APP = "8bd644d1-64a1-4d4b-ae52-2e0cbf64e373"
"""Microsoft's application that answers for the message trace; the tenant needs a service principal of it."""
PERMISSION = "ExchangeMessageTrace.Read.All"
_TEXT_LIMIT = 300
_RENEWAL = "add a new client secret to the application and put its value into client_secret_file"
_NEW_PRINCIPAL = (
    f"once for the tenant, an administrator runs: New-MgServicePrincipal -AppId {TRACE_APP} (or POST "
    f'/v1.0/servicePrincipals {{"appId":"{TRACE_APP}"}}); it takes hours until it works'
)
_CONSENT = (
    f"give the application the application permission {PERMISSION} of Microsoft Graph, and admin consent"
)
_CLOCK = "set this machine's clock (NTP)"


class Step(StrEnum):
    """The steps of the set-up, in their order."""

    FILES = "files"
    NETWORK = "network"
    TOKEN = "token"  # noqa: S105 - a step, not a secret
    SERVICE_PRINCIPAL = "service principal"
    PERMISSION = "permission"
    ANSWER = "first page"


class Then(StrEnum):
    """What helps."""

    SETUP = "setup"
    """a person has to do something; asking again soon does not help"""
    RENEW = "renew"
    """another token"""
    WAIT = "wait"
    """the limit of requests is reached"""
    AGAIN = "again"
    """trying again later"""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there was no answer. text: what was seen; advice: what to do, "" where waiting is all; wait: how
    long they ask us to wait."""

    step: Step
    then: Then
    text: str
    advice: str = ""
    wait: Ms | None = None

    def __str__(self) -> str:
        return f"{self.text}; {self.advice}" if self.advice else self.text


_TOKEN = {
    7000222: ("the client secret has expired", _RENEWAL),
    7000215: ("the client secret is wrong", f"it must be the secret's value, not its id; or {_RENEWAL}"),
    7000218: ("the sign-in got no secret and no certificate", "name client_secret_file or certificate_file"),
    700016: ("the tenant knows no such application", "check client_id and tenant"),
    7000112: ("the application is disabled in the tenant", "enable it under Enterprise applications"),
    700027: (
        "the certificate is not one of the application's, or it has expired there",
        "upload the certificate (without its key) to the application: Certificates & secrets",
    ),
    700030: ("the certificate is not accepted", "upload the certificate of certificate_file again"),
    700024: ("this machine's clock differs too much from Microsoft's", _CLOCK),
    90002: ("there is no such tenant", "check tenant: its id, or one of its domains"),
    900021: ("there is no such tenant", "check tenant: its id, or one of its domains"),
    900023: ("the tenant is neither an id nor a domain", "check tenant: its id, or one of its domains"),
    50034: ("there is no such account", "check client_id and tenant"),
    53003: ("Conditional Access forbids the sign-in", "allow the application from this machine's address"),
    53000: ("Conditional Access forbids the sign-in", "allow the application from this machine's address"),
    70011: ("the scope is not known", "check endpoint: the national clouds have no message trace in Graph"),
    500011: ("the tenant knows no Microsoft Graph", "check endpoint and tenant"),
}
_TOKEN_LATER = {90033, 90055, 50196, 50058, 90012, 90015, 90024}


def of_token(status: int, body: bytes, wait: Ms | None = None) -> Problem:
    """Why the sign-in gave no token."""
    plain = _object(body)
    description = str(plain.get("error_description") or "")
    codes = [code for code in plain.get("error_codes") or [] if isinstance(code, int)]
    codes += [int(code) for code in re.findall(r"AADSTS(\d{4,8})", description)]
    for code in codes:
        if code in _TOKEN:
            text, advice = _TOKEN[code]
            return Problem(Step.TOKEN, Then.SETUP, f"no token: {text} (AADSTS{code})", advice)
    said = _short(description) or _short(str(plain.get("error") or "")) or f"HTTP {status}"
    if status == 429 or status == 408 or status >= 500 or _TOKEN_LATER & set(codes):
        return Problem(Step.TOKEN, Then.AGAIN, f"no token: the sign-in can't answer now ({said})", wait=wait)
    return Problem(Step.TOKEN, Then.SETUP, f"no token: {said}", "check [evidence.graph] and the application")


def of_answer(status: int, body: bytes, wait: Ms | None = None) -> Problem:
    """Why Graph gave no page."""
    error = _object(body).get("error")
    error = error if isinstance(error, dict) else {}
    code, message = str(error.get("code") or ""), str(error.get("message") or "")
    said = _short(f"{code}: {message}".strip(": ")) or f"HTTP {status}"
    if status == 401:
        if "service principal" in message.lower() or TRACE_APP in message:
            text = "Microsoft's message-trace application has no service principal in the tenant"
            return Problem(Step.SERVICE_PRINCIPAL, Then.SETUP, text, _NEW_PRINCIPAL)
        return Problem(
            Step.TOKEN, Then.RENEW, f"Graph does not take the token ({said})", f"if it stays so, {_CLOCK}"
        )
    if status == 403:
        text = f"the application may not read message traces ({said})"
        advice = (
            f"{_CONSENT}; if it has both: the service principal may be only hours old (wait), and some "
            "tenants ask for the directory role Global Reader, too"
        )
        return Problem(Step.PERMISSION, Then.SETUP, text, advice)
    if status == 429:
        text = "the tenant's limit of 100 requests in 5 minutes is reached"
        return Problem(Step.ANSWER, Then.WAIT, text, wait=wait)
    if status in (408, 409, 423, 425) or status >= 500:
        return Problem(Step.ANSWER, Then.AGAIN, f"Graph can't answer now: HTTP {status} ({said})", wait=wait)
    if status == 404:
        return Problem(Step.ANSWER, Then.SETUP, f"not found ({said})", "check endpoint")
    return Problem(Step.ANSWER, Then.AGAIN, f"Graph refuses the request: HTTP {status} ({said})")


def retry_wait(header: str | None, date: Ms | None, parsed: Ms | None) -> Ms | None:
    """What a Retry-After asks for: seconds, or a time (`parsed`) against the answer's own `date`."""
    if not header:
        return None
    if re.fullmatch(r"\s*\d{1,6}(\.\d+)?\s*", header):
        return min(round(float(header) * SECOND), 60 * MINUTE)
    if parsed is not None and date is not None:
        return min(max(parsed - date, 0), 60 * MINUTE)
    return None


def _object(body: bytes) -> dict[str, Any]:
    try:
        plain = json.loads(body[:65536])
    except (ValueError, RecursionError):
        return {}
    return plain if isinstance(plain, dict) else {}


def _short(text: str) -> str:
    """One line of it, without the trailing ids of the request."""
    text = re.split(r"\s*Trace ID:", " ".join(text.split()), maxsplit=1)[0]
    return text if len(text) <= _TEXT_LIMIT else text[:_TEXT_LIMIT] + "…"
