"""The cause table: what is known (causes/*.toml) and the texts and codes it is known by (signs/*.toml).

Data, read once, on the first question. SIGNS is the order in which files are asked; within a file the
order of its lines, the most specific first. A sign without a text is asked only when no text fits.

Source: each line of the data names its own. Limits: classify.py says how layers and signs go together.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from resubmit.meaning.phrases import Phrase
from resubmit.model.evidence import Cause, Mend

SIGNS = (
    "our_own",
    "exchange_online_sending",
    "exchange_online_taking",
    "exchange_server",
    "iis",
    "tls",
    "postfix",
    "sendmail",
    "exim",
    "qmail",
    "google",
    "yahoo",
    "amazon",
    "gateways",
    "providers",
    "general",
    "localised",
    "wrappings",
    "exchange_online_codes",
    "iana",
    "rest",
)
"""The files, by where the texts come from; the first sign that fits decides."""

LAST = ("wrappings", "rest")
"""What these say is said of a reply as a whole (`Message expired`) or of its first digits: only where
nothing more is known of what is inside."""


@dataclass(frozen=True, slots=True)
class Known:
    """One thing that can be wrong. `scope` may be `hop` or `client`: see causes/README.md.

    what: what it means, in a sentence. advice: what to do, in a sentence.
    """

    id: str
    cause: Cause
    scope: str
    mend: Mend
    what: str
    advice: str


@dataclass(frozen=True, slots=True)
class Codes:
    """A span of enhanced codes: of a class ("45" for both) and a subject ("" for any), the detail from low to
    high."""

    kind: str
    subject: str
    low: int
    high: int

    def fits(self, enhanced: str) -> bool:
        """Whether an enhanced code lies in it."""
        kind, subject, detail = enhanced.split(".")
        return kind in self.kind and self.subject in ("", subject) and self.low <= int(detail) <= self.high


@dataclass(frozen=True, slots=True)
class Sign:
    """One line of signs/*.toml. `says`: any of these in the text; none: the codes alone are the sign.
    `enhanced`, `reply`: as written; `place`: file and number."""

    known: Known
    file: str
    place: str
    says: tuple[Phrase, ...]
    enhanced: tuple[str, ...]
    reply: tuple[str, ...]
    source: str
    examples: tuple[str, ...]

    def fits_codes(self, reply: str, enhanced: str) -> bool:
        """Whether a reply code and an enhanced code ("" for none) are what it asks for."""
        if self.reply and not any(_alike(reply, asked) for asked in self.reply):
            return False
        if not self.enhanced:
            return True
        return bool(enhanced) and any(_span(asked).fits(enhanced) for asked in self.enhanced)


def _alike(reply: str, asked: str) -> bool:
    return len(reply) == len(asked) and all(b in ("x", a) for a, b in zip(reply, asked, strict=True))


@cache
def _span(text: str) -> Codes:
    """`4.4.317`, `x.1.1`, `5.7.606-649`, `5.7.*`, `x.*.0`."""
    kind, subject, detail = text.split(".")
    low, _, high = detail.partition("-")
    anything = detail == "*"
    return Codes(
        "45" if kind == "x" else kind,
        "" if subject == "*" else subject,
        0 if anything else int(low),
        999 if anything else int(high or low),
    )


@cache
def known() -> dict[str, Known]:
    """Everything that can be wrong, by its id, cause by cause."""
    rows: dict[str, Known] = {}
    for cause in Cause:
        for name, row in _read(f"causes/{cause.value}.toml").items():
            rows[name] = Known(name, cause, row["scope"], Mend(row["mend"]), row["what"], row["advice"])
    return rows


@cache
def signs() -> tuple[Sign, ...]:
    """Every sign, in the order in which they are asked."""
    return tuple(sign for file in SIGNS for sign in _signs(file))


def _signs(file: str) -> Iterator[Sign]:
    every = known()
    for number, row in enumerate(_read(f"signs/{file}.toml")["sign"], 1):
        yield Sign(
            every[row["is"]],
            file,
            f"{file}:{number}",
            tuple(map(Phrase, _list(row.get("says")))),
            _list(row.get("enhanced")),
            _list(row.get("reply")),
            row["source"],
            _list(row["example"]),
        )


def _list(value: str | list[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _read(path: str) -> dict[str, Any]:
    return tomllib.loads(resources.files("resubmit.meaning").joinpath(path).read_text("utf-8"))


def by_text(text: str, reply: str, enhanced: str, *, last: bool) -> Sign | None:
    """The first sign whose text stands in this one (in lower case) and whose codes fit: of the wrappings
    (last), or of all others."""
    every = signs()
    for number, phrase in _candidates(text):
        sign = every[number]
        if (sign.file in LAST) is last and sign.fits_codes(reply, enhanced) and phrase.stands_in(text):
            return sign
    return None


@lru_cache(maxsize=256)
def _candidates(text: str) -> tuple[tuple[int, Phrase], ...]:
    """The phrases of which a literal part stands in the text, in the order of their signs."""
    index, found = _index(), set()
    for needle, phrases in index.get("", ()):
        if needle in text:
            found.update(phrases)
    for at in range(len(text) - _GRAM + 1):
        for needle, phrases in index.get(text[at : at + _GRAM], ()):
            if text.startswith(needle, at):
                found.update(phrases)
    return tuple(sorted(found, key=lambda one: one[0]))


_GRAM = 3
"""Letters by which needles are looked up; the few shorter ones (of Chinese) are looked for one by one."""


@cache
def _index() -> dict[str, list[tuple[str, list[tuple[int, Phrase]]]]]:
    """Every needle with its phrases, by the needle's first letters, the short ones under ""."""
    needles: dict[str, list[tuple[int, Phrase]]] = {}
    for number, sign in enumerate(signs()):
        for phrase in sign.says:
            for needle in phrase.needles:
                needles.setdefault(needle, []).append((number, phrase))
    index: dict[str, list[tuple[str, list[tuple[int, Phrase]]]]] = {}
    for needle, phrases in needles.items():
        first = needle[:_GRAM] if len(needle) >= _GRAM else ""
        index.setdefault(first, []).append((needle, phrases))
    return index


@lru_cache(maxsize=1024)
def of_codes(file: str, reply: str, enhanced: str) -> Sign | None:
    """The first sign of a file that such codes alone are."""
    return next(
        (
            sign
            for sign in signs()
            if sign.file == file and not sign.says and sign.fits_codes(reply, enhanced)
        ),
        None,
    )


@cache
def files_of_codes() -> tuple[str, ...]:
    """The files that have signs without a text, in order."""
    return tuple(dict.fromkeys(sign.file for sign in signs() if not sign.says))
