"""Which code counts and what it all means, where a report says it in several places.

A report writes `5.0.0` or `4.4.7` where it knows no more; the reply it quotes, the servers' answers in
Exchange's block, or the words around it may know better.

Source: RFC 3463 §2, §3; microsoft.md section 6 (an expiry's cause stands behind it).
"""

from __future__ import annotations

import re

from resubmit.evidence.kinds.dsn_admin import Answer
from resubmit.meaning.classify import is_expiry, meaning_of
from resubmit.model.evidence import Cause, Meaning, Status

_EXPIRED_STATUS = re.compile(r"[45]\.4\.7")
_VAGUE = re.compile(r"[245]\.\d\.0")
"""Codes that name a field of trouble and no trouble (RFC 3463: x.y.0 is "other")."""
_VAGUE_SIGNS = ("", "message_delayed", "remote_error", "permanent_code", "protocol")
BAD = frozenset({Status.DEFERRED, Status.FAILED, Status.EXPIRED})


def chosen(stated: str, told: list[str]) -> str:
    """Which enhanced code counts: that of the report, or one of its reply's."""
    exact = [one for one in told if not _VAGUE.fullmatch(one) and not _EXPIRED_STATUS.fullmatch(one)]
    if not stated:
        return exact[0] if exact else (told[0] if told else "")
    if _VAGUE.fullmatch(stated) or _EXPIRED_STATUS.fullmatch(stated):
        if exact:
            return exact[-1]
        better = [one for one in told if not one.endswith(".0.0")]
        return better[0] if better and stated not in better else stated
    return stated if stated in told or not exact else exact[0]


def meant(
    text: str, enhanced: str, entries: list[Answer], said: str, status: Status, remote: str
) -> tuple[Meaning, str, str]:
    """What the diagnostic text means; where it says no more than that time ran out, the text is completed by
    what the servers answered before, or what the words say."""
    meaning = meaning_for(text, None, enhanced, status)
    if status not in BAD or not (is_vague(meaning) or is_expiry(text, enhanced=enhanced)):
        return meaning, text, remote
    flat = _key(text)
    for entry in entries:
        if _key(entry.text) in flat:
            continue
        better = meaning_of(entry.text)
        if not is_vague(better) or not text:
            return better, (f"{text}; {entry.text}" if text else entry.text), entry.remote or remote
    if said and is_vague(meaning) and _key(said) not in flat:
        better = meaning_of(said)
        if not is_vague(better):
            return better, (f"{text}; {said}" if text else said)[:4096], remote
    return meaning, text, remote


def meaning_for(text: str, code: int | None, enhanced: str, status: Status) -> Meaning:
    """What a text means in a report of a status: what failed for an unknown reason is not tried again."""
    meaning = meaning_of(text, code=code, enhanced=enhanced)
    if not meaning.sign and status is not Status.DEFERRED and code is None and not enhanced:
        return meaning_of(text, enhanced="5.0.0")
    return meaning


def is_vague(meaning: Meaning) -> bool:
    """Whether there may be a better cause elsewhere: only that it failed, or that time ran out, is said."""
    return meaning.cause is Cause.EXPIRED or meaning.sign in _VAGUE_SIGNS


def _key(text: str) -> str:
    return re.sub(r"\W+", "", text).lower()


def has_expired(text: str, enhanced: str, meaning: Meaning) -> bool:
    """Whether a failure is a giving-up after the time in the queue."""
    if is_expiry(text, enhanced=enhanced) or _EXPIRED_STATUS.fullmatch(enhanced):
        return True
    return meaning.cause is Cause.EXPIRED
