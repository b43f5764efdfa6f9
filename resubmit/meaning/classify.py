"""What a reply, deferral or code means: cause, whom it concerns, what ends it, what to do.

The table is `signs.toml`: data, loaded and compiled once, on the first question. A text is cut into
layers, since Exchange wraps replies in replies (`450 4.4.317 … [Message=451 5.7.3 STARTTLS is …]`): the
innermost layer that a sign fits decides; codes without a text are asked last. What no sign fits is
`other`, never `tls` by guess: transient waits, permanent needs a person.

Source: microsoft.md sections 3.3 and 4; RFC 3463 and the IANA registry of enhanced status codes.
Limits: English texts; a translated one is known by its code only.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import resources

from resubmit.model.evidence import Cause, Meaning, Mend, Scope

_STAMP = re.compile(r"\s*\[[^\[\]\s]+ \d{4}-\d\d-\d\dT[\d:.]+Z(?: [0-9A-Fa-f]{8,})?\]?")
_NOISE = re.compile(r"\s*\[(?:LastAttempted(?:ServerName|IP)|SmtpSecurity)=[^\]\[]*\]?")
_INNER = re.compile(
    r"(?<![\d.\w:\[])[245]\d\d[ -](?:[245]\.\d{1,3}\.\d{1,3}(?!\.?\d)|(?=\D))"
    r"|\[Message=|(?<=\()(?=Socket error)|(?<= -> )"
)
_HEAD = re.compile(r"\s*(?P<code>[245]\d\d)(?:[ -]+(?P<enhanced>[245]\.\d{1,3}\.\d{1,3})(?!\.?\d))?(?!\d)")
_BARE_ENHANCED = re.compile(r"\s*#?(?P<enhanced>[245]\.\d{1,3}\.\d{1,3})(?!\.?\d)")
_EXPIRY = re.compile(r"message (?:has )?expired|QUEUE\.Expired|delivery time expired", re.IGNORECASE)
_EXPIRY_CODE = re.compile(r"5\.4\.(?:7|30\d|31[2-8])|5\.7\.32[0-5]|5\.4\.8")
_LONGEST = 8_192
"""Characters of a text that are looked at: more is not a reply."""

_STAGES = {
    "lookup": Cause.CONNECTION,
    "connect": Cause.CONNECTION,
    "greeting": Cause.CONNECTION,
    "starttls": Cause.TLS,
    "tls": Cause.TLS,
}
"""What a step of our own conversation failed at, where its text says nothing known: these are not guesses."""


@dataclass(frozen=True, slots=True)
class Sign:
    """One line of signs.toml, compiled. `scope` may be `hop` or `client`: see the head of that file."""

    id: str
    text: re.Pattern[str] | None
    enhanced: re.Pattern[str] | None
    code: re.Pattern[str] | None
    cause: Cause
    scope: str
    mend: Mend
    advice: str
    source: str
    generic: bool
    examples: tuple[str, ...]

    def fits(self, layer: Layer) -> bool:
        """Whether everything it asks for is in the layer."""
        if self.enhanced is not None and not self.enhanced.fullmatch(layer.enhanced):
            return False
        if self.code is not None and not self.code.fullmatch(layer.code):
            return False
        return self.text is None or self.text.search(layer.text) is not None


@dataclass(frozen=True, slots=True)
class Layer:
    """A reply inside a reply, without what is nested in it; code and enhanced code "" where it has none."""

    text: str
    code: str = ""
    enhanced: str = ""


@cache
def signs() -> tuple[Sign, ...]:
    """The table, in its order."""
    data = tomllib.loads(resources.files("resubmit.meaning").joinpath("signs.toml").read_text("utf-8"))
    return tuple(_sign(row) for row in data["sign"])


@cache
def _split_signs() -> tuple[tuple[Sign, ...], tuple[Sign, ...]]:
    return tuple(s for s in signs() if not s.generic), tuple(s for s in signs() if s.generic)


def _sign(row: dict[str, object]) -> Sign:
    def pattern(key: str) -> re.Pattern[str] | None:
        value = row.get(key)
        return re.compile(str(value), re.IGNORECASE) if value else None

    examples = row.get("example", [])
    assert isinstance(examples, list)
    return Sign(
        id=str(row["id"]),
        text=pattern("text"),
        enhanced=pattern("enhanced"),
        code=pattern("code"),
        cause=Cause(str(row["cause"])),
        scope=str(row["scope"]),
        mend=Mend(str(row["mend"])),
        advice=str(row["advice"]),
        source=str(row["source"]),
        generic=bool(row.get("generic", False)),
        examples=tuple(str(example) for example in examples),
    )


def meaning_of(text: str, *, code: int | None = None, enhanced: str = "", where: str = "") -> Meaning:
    """What a reply or a failure's text means; `sign` is "" and cause `other` where nobody knows.

    text: with or without its code in front. code, enhanced: used where the text has none. where: the step
    (model.attempt.Stage) of our own conversation it was met at, "" when somebody else reports it: then
    what is wrong between two ends is the destination's, not our route's. Never raises.
    """
    shown = _NOISE.sub("", _STAMP.sub("", " ".join(text[:_LONGEST].split())))
    return _meaning(shown, code, enhanced, where)


@lru_cache(maxsize=4096)
def _meaning(text: str, code: int | None, enhanced: str, where: str) -> Meaning:
    found = layers(text, code, enhanced)
    specific, generic = _split_signs()
    for layer in reversed(found):
        for sign in specific:
            if sign.fits(layer):
                return _resolved(sign, where)
    outer = found[0]
    if where in _STAGES and not outer.code:
        return _of_stage(where)
    for sign in generic:
        if sign.fits(outer):
            # A 4xx is what its first digit says, whatever the enhanced code behind it (451 5.7.3).
            meaning = _resolved(sign, where)
            return replace(meaning, mend=Mend.TIME) if _waits(outer, meaning) else meaning
    return _unknown(outer)


def _waits(layer: Layer, meaning: Meaning) -> bool:
    return layer.code.startswith("4") and meaning.mend in (Mend.PERSON, Mend.NEVER)


def _resolved(sign: Sign, where: str) -> Meaning:
    if sign.scope == "hop":
        scope = Scope.ROUTE if where else Scope.DESTINATION
    elif sign.scope == "client":
        scope = Scope.ROUTE if where else Scope.MESSAGE
    else:
        scope = Scope(sign.scope)
    return Meaning(sign.cause, scope, sign.mend, sign.advice, sign.id)


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


def layers(text: str, code: int | None = None, enhanced: str = "") -> list[Layer]:
    """The replies in a text, the outermost first, each without what is nested in it. At least one.

    A nested one starts at `[Message=`, ` -> `, `(Socket error`, or at a reply code in the middle.
    """
    starts = [0]
    for found in _INNER.finditer(text):
        start = found.end() if found[0].startswith("[M") else found.start()
        if start > starts[-1] and text[starts[-1] : start].strip(" \"'([->"):
            starts.append(start)
        elif start > starts[-1]:
            starts[-1] = start
    pieces = [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]
    found_layers = [_layer(piece) for piece in pieces]
    outer = found_layers[0]
    found_layers[0] = Layer(outer.text, outer.code or str(code or ""), outer.enhanced or enhanced)
    return found_layers


def _layer(piece: str) -> Layer:
    head = _HEAD.match(piece)
    if head:
        return Layer(piece, head["code"], head["enhanced"] or "")
    bare = _BARE_ENHANCED.match(piece)
    return Layer(piece, "", bare["enhanced"] if bare else "")


def codes(text: str) -> tuple[int | None, str]:
    """The reply code and enhanced code a text starts with: (450, "4.4.317"); None and "" where missing."""
    layer = _layer(" ".join(text[:200].split()))
    return (int(layer.code) if layer.code else None), layer.enhanced


def is_expiry(text: str, *, enhanced: str = "") -> bool:
    """Whether a permanent failure is a giving-up after the time in the queue (`550 5.4.317 Message expired,
    …`): the mail was never refused, so what held it can be mended."""
    code, own = codes(text)
    if code is not None and code < 500:
        return False
    return bool(_EXPIRY.search(text) or _EXPIRY_CODE.fullmatch(own or enhanced))
