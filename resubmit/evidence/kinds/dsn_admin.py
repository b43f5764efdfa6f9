"""Exchange's block for administrators: what each server on the way answered, in whatever language.

    anna@contoso.com
    11/24/2026 9:27:20 AM - Server at H (198.51.100.7) returned '450 4.4.317 … [Message=451 5.7.3 …]'
    #550 5.1.1 RESOLVER.ADR.ExRecipNotFound; not found ##rfc822;anna@contoso.com
    mail.contoso.com #<mail.contoso.com #5.7.1 smtp;530 5.7.1 Client was not authenticated> #SMTP#

Its titles are translated, its replies are not: so the replies are looked for, not the titles. The cause of
an expiry stands here alone, in the lines behind the first.

Promises: any text gives answers, perhaps none; never raises.
Source: microsoft.md section 6.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ADDRESS = re.compile(
    r"\s*<?([^\s<>\"(),;:]{1,128}@[^\s<>\"(),;:]{1,255})>?(?:<mailto:[^<>]*>|\(mailto:[^()]*\))?\s*$"
)
_QUOTED = re.compile(r"['’‘\"“«]\s?(?P<reply>[245]\d\d[ -].*?)['’\"”»][^'’\"”»]{0,40}$", re.DOTALL)
_OPENED = re.compile(r"['’‘\"“«]\s?[245]\d\d[ -][^'’\"”»]*$")
_PLAIN = re.compile(r"(?:Remote )?server returned:? (?P<reply>[245]\d\d[ -][245]\.\d+\.\d+ .*)$", re.I | re.S)
_HASHED = re.compile(
    r"#\s?(?P<reply>[245]\d\d [245]\.\d+\.\d+ .*?)\s*##(?:rfc822;\s*(?P<address>[^\s#]+))?", re.S
)
_HASHED_BARE = re.compile(r"^\s*#\s?(?P<reply>[245]\d\d [245]\.\d+\.\d+ .*)$", re.DOTALL)
_ANGLED = re.compile(
    r"(?P<host>[\w.-]*)\s*#?<(?P<reply>[^<>#]*#[245]\.\d+\.\d+.*)>(?:\s*#SMTP#)?\s*$", re.DOTALL
)
_HOST = re.compile(r"(?P<host>[\w-]+(?:\.[\w-]+)+)\s*\((?P<ip>[\d.:A-Fa-f]{2,45})\)")
_HOST_BARE = re.compile(r"\b(?:at|von|de|auf|bei|à|op|en|in)\s+(?P<host>[\w-]+(?:\.[\w-]+)+)")
_OPENS = re.compile(r"['’‘\"“«#<]|server returned", re.IGNORECASE)
_LINES = 3_000
_JOINED = 12
"""Lines a reply may go on over."""
_MOST = 20
"""Answers for one recipient: the newest."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One server's reply, and who gave it (`host [ip]`)."""

    text: str
    remote: str = ""


def answers_of(text: str) -> dict[str, list[Answer]]:
    """The replies told of each address (lower case), in their order: the newest first. "" for those that
    stand behind no address."""
    lines = text.split("\n", _LINES)[:_LINES]
    answers: dict[str, list[Answer]] = {}
    current = ""
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if found := _ADDRESS.fullmatch(line):
            current = found[1].lower()
            continue
        if len(line) > 16_384 or not _OPENS.search(line):
            continue
        joined = line
        while _goes_on(joined) and number < len(lines) and joined.count("\n") < _JOINED:
            if not lines[number].strip() or _ADDRESS.fullmatch(lines[number]):
                break
            joined += "\n" + lines[number]
            number += 1
        answer, address = _answer(joined)
        if answer is not None:
            told = answers.setdefault(address.lower() or current, [])
            if len(told) < _MOST:
                told.append(answer)
    return answers


def _goes_on(text: str) -> bool:
    """Whether a reply was opened and not closed."""
    if _QUOTED.search(text) or _HASHED.search(text) or _ANGLED.search(text):
        return False
    return bool(_OPENED.search(text) or _HASHED_BARE.match(text) or re.search(r"#<[^>]*$", text))


def _answer(text: str) -> tuple[Answer | None, str]:
    if found := _HASHED.search(text):
        return Answer(_flat(found["reply"]), ""), found["address"] or ""
    if found := _ANGLED.search(text):
        return Answer(_flat(found["reply"]), found["host"]), ""
    if found := _QUOTED.search(text):
        before = text[: found.start()]
        host = _HOST.search(before)
        if host:
            remote = f"{host['host']} [{host['ip']}]"
        else:
            bare = _HOST_BARE.search(before)
            remote = bare["host"] if bare else ""
        return Answer(_flat(found["reply"]), remote), ""
    if found := _PLAIN.search(text):
        return Answer(_flat(found["reply"])), ""
    if found := _HASHED_BARE.match(text):
        return Answer(_flat(found["reply"]).rstrip("# "), ""), ""
    return None, ""


def _flat(text: str) -> str:
    return " ".join(text.split())
