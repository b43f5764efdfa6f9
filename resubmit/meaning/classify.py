"""What a reply, deferral or code means: cause, whom it concerns, what ends it, what to do.

The table is data (table.py). A text is cut into layers, since replies are wrapped in replies
(`450 4.4.317 … [Message=451 5.7.3 STARTTLS is …]`), and asked about in this order:

1. texts, the innermost layer first, then the text as a whole;
2. before the layers around it, a `[Message=` that was cut off in the middle of a known text, when all that
   it may have been have one cause;
3. the step of our own conversation that failed, where there was no reply;
4. codes without a known text: Microsoft's, then the IANA registry's, the innermost layer first;
5. what is said of a reply as a whole (`Message expired`), then its first digits.

What no sign fits is `other`, never `tls` by guess: transient waits, permanent needs a person.

Promises: total, deterministic; blind to case, white space and folding.
Source: microsoft.md sections 3.3 and 4; RFC 3463 and the IANA registry of enhanced status codes.
Limits: of translated texts only the most common are known; others by their codes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from resubmit.meaning.layers import Layer, bare, codes, layers, layers_of
from resubmit.meaning.table import LAST, Sign, by_text, files_of_codes, of_codes, signs
from resubmit.model.evidence import Cause, Meaning, Mend, Scope

__all__ = ["Found", "Layer", "codes", "found_in", "is_expiry", "layers", "meaning_of"]

_EXPIRY = re.compile(
    r"message (?:has )?(?:expired|timed out)|QUEUE\.Expired|delivery time expired|retry time ?out exceeded"
    r"|retry time not reached for any host after a long failure|has been in the queue too long"
    r"|(?:could not be|cannot be|couldn't be) (?:delivered|sent) (?:for|within) (?:\S+ )?\d+ (?:hour|day)"
    r"|cannot send message (?:for|within) \d+|could not deliver for the last \d+|envelope expired"
    r"|delivery failed \d+ attempts|exceeded maximum delivery attempts",
    re.IGNORECASE,
)
_EXPIRY_CODE = re.compile(r"5\.4\.(?:7|30\d|31[2-8])|5\.7\.32[0-5]|5\.4\.8")
_EXPIRY_STATUS = re.compile(r"[45]\.4\.7")
_SHORTEST_CUT = 6
"""Letters of a text cut off in the middle that are enough to go by."""

_STAGES = {
    "lookup": Cause.CONNECTION,
    "connect": Cause.CONNECTION,
    "greeting": Cause.CONNECTION,
    "starttls": Cause.TLS,
    "tls": Cause.TLS,
}
"""What a step of our own conversation failed at, where its text says nothing known: these are not guesses."""


@dataclass(frozen=True, slots=True)
class Found:
    """The sign that fits, and the layer it fits."""

    sign: Sign
    layer: Layer


def meaning_of(text: str, *, code: int | None = None, enhanced: str = "", where: str = "") -> Meaning:
    """What a reply or a failure's text means; `sign` is "" and cause `other` where nobody knows.

    text: with or without its code in front. code, enhanced: used where the text has none. where: the step
    (model.attempt.Stage) of our own conversation it was met at, "" when somebody else reports it: then
    what is wrong between two ends is the destination's, not our route's. Never raises.
    """
    return _meaning(bare(text), code, enhanced, where)


def found_in(text: str, *, code: int | None = None, enhanced: str = "") -> Found | None:
    """The sign that decides what a text means when somebody else reports it; None: nobody knows."""
    shown = bare(text)
    return _found(shown, layers_of(shown, code, enhanced), where="")


@lru_cache(maxsize=4096)
def _meaning(shown: str, code: int | None, enhanced: str, where: str) -> Meaning:
    cut = layers_of(shown, code, enhanced)
    found = _found(shown, cut, where)
    if found is not None:
        return _resolved(found, where)
    if where in _STAGES and not cut[0].code:
        return _of_stage(where)
    return _unknown(next((layer for layer in cut if layer.code or layer.enhanced), cut[0]))


def _found(shown: str, cut: Sequence[Layer], where: str) -> Found | None:
    inward = cut[::-1]
    whole = [Layer(shown, cut[0].code, cut[0].enhanced)] if len(cut) > 1 else []
    found = _by_text(inward[:1], last=False) or _by_cut_text(inward[0])
    found = found or _by_text([*inward[1:], *whole], last=False)
    if found is not None or (where in _STAGES and not cut[0].code):
        return found
    first = [file for file in files_of_codes() if file not in LAST]
    found = _by_codes(inward, first) or _by_text(inward, last=True)
    return found or _by_codes(inward, LAST)


def _by_text(inward: Sequence[Layer], *, last: bool) -> Found | None:
    for layer in inward:
        if sign := by_text(layer.text, layer.code, layer.enhanced, last=last):
            return Found(sign, layer)
    return None


def _by_codes(inward: Sequence[Layer], files: Sequence[str]) -> Found | None:
    for file in files:
        for layer in inward:
            if (layer.code or layer.enhanced) and (sign := of_codes(file, layer.code, layer.enhanced)):
                return Found(sign, layer)
    return None


def _by_cut_text(layer: Layer) -> Found | None:
    start = re.sub(r"^[245]\d\d[ -](?:[245]\.\d+\.\d+ )?", "", layer.text).strip()
    if not layer.is_cut or len(start) < _SHORTEST_CUT:
        return None
    fitting = [
        sign for sign in signs() if any(p.is_plain and p.text.lower().startswith(start) for p in sign.says)
    ]
    one_cause = len({sign.known.cause for sign in fitting}) == 1
    return Found(fitting[0], layer) if one_cause else None


def _resolved(found: Found, where: str) -> Meaning:
    known = found.sign.known
    if known.scope == "hop":
        scope = Scope.ROUTE if where else Scope.DESTINATION
    elif known.scope == "client":
        scope = Scope.ROUTE if where else Scope.MESSAGE
    else:
        scope = Scope(known.scope)
    return Meaning(known.cause, scope, _mend(found), known.advice, known.id)


def _mend(found: Found) -> Mend:
    """A 4xx is what its first digit says, whatever the text or the enhanced code behind it (451 5.7.3)."""
    mend, layer = found.sign.known.mend, found.layer
    waits = layer.code.startswith("4") or (not layer.code and layer.enhanced.startswith("4"))
    settles = mend is Mend.NEVER or (mend is Mend.PERSON and not found.sign.says)
    return Mend.TIME if waits and settles else mend


def _of_stage(where: str) -> Meaning:
    if _STAGES[where] is Cause.TLS:
        advice = "TLS with the next hop fails: `resubmit probe` on the route's host says why."
    else:
        advice = "The next hop can't be reached: check its name, the network and that it runs."
    return Meaning(_STAGES[where], Scope.ROUTE, Mend.GATE, advice)


def _unknown(layer: Layer) -> Meaning:
    if layer.code.startswith("5") or (not layer.code and layer.enhanced.startswith("5")):
        return Meaning(
            Cause.OTHER, Scope.MESSAGE, Mend.PERSON, "Refused for a reason not known here: read the text."
        )
    return Meaning(
        Cause.OTHER, Scope.MESSAGE, Mend.TIME, "Put off for a reason not known here; it is tried again."
    )


def is_expiry(text: str, *, enhanced: str = "") -> bool:
    """Whether a permanent failure is a giving-up after the time in the queue (`550 5.4.317 Message expired,
    …`): the mail was never refused, so what held it can be mended."""
    code, own = codes(text)
    if code is not None and code < 500:
        return False
    status = own or enhanced
    if code is not None and _EXPIRY_STATUS.fullmatch(status):
        return True
    return bool(_EXPIRY.search(text) or _EXPIRY_CODE.fullmatch(status))
