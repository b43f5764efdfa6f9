"""A text cut into the replies that are nested in it, and the codes they begin with.

    450 4.4.317 Cannot connect to remote server [Message=451 5.7.3 STARTTLS is required to send mail]
    host mx.example[192.0.2.1] said: 550-5.1.1 no such user 550 5.1.1 here (in reply to RCPT TO command)
    [{LED=450 4.4.316 Connection refused [Message=Socket error code 10061]};{MSG=};{FQDN=…};{IP=…};{LRT=…}]
    #< #5.1.1 smtp;550 5.1.1 RESOLVER.ADR.RecipNotFound; not found> #SMTP#

Promises: total and deterministic on any text; case, white space and folding make no difference; addresses,
server stamps and the names of hosts are left out, for what is called `spam@…` says nothing about spam.

Source: microsoft.md 3.3, 4 and 6; formats.md 1.3, 7; RFC 5321 §4.2.1 (lines of a reply); RFC 3463 §2.
Limits: a text without a code is one layer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST = 8_192
"""Characters of a text that are looked at: more is not a reply."""

_ENHANCED = r"[245]\.\d{1,3}\.\d{1,3}(?!\.?\d)"
_STAMP = re.compile(r"\s*\[[^\[\]\s]{1,255} \d{4}-\d\d-\d\dt[\d:.]+z(?: [0-9a-f]{8,})?\]?", re.IGNORECASE)
_NOISE = re.compile(
    r"\s*\[(?:LastAttempted(?:ServerName|IP)|SmtpSecurity)=[^\]\[]*\]?"
    r"|\.?\s*OutboundProxyTarget(?:IP|HostName): \S*|\}?;? ?\{(?:MSG=\}|(?:FQDN|IP|LRT)=[^{}]*(?:\}\]?|$))",
    re.IGNORECASE,
)
_BLOCK = re.compile(r"^\s*(?:reason:\s*)?[\[{\s]*(?:LRT=[^{}]*\};\s*\{)?LED\s*=\s*", re.IGNORECASE)
_FRONT = re.compile(
    r"^(?:[\s\"'<>#\[{(*]+|smtp\s*;\s*|x-[\w-]{1,40}\s*;\s*|diagnostic-code:\s*"
    r"|(?:smtp )?(?:error|reply|status|code)\b:?\s*(?=[\"'#]*[245]\d\d[ -]))+",
    re.IGNORECASE,
)
_INNER = re.compile(
    rf"(?<![\d.\w:\[])(?=[245]\d\d[ -]#?{_ENHANCED})"  # a code with its enhanced code, anywhere
    r"|(?:(?<=[;\"'(=#|])|(?<=[:>] )|(?<=[:;=] [\"'<])|(?<=rror )|(?<=code )|(?<=tatus )|(?<=reply ))"
    r"(?=[245]\d\d(?:[ -]\D|$))"
    r"|\[Message=|(?<=\()(?=Socket error)|(?<= -> )|(?<=\{MSG=)(?=[^}\s])",
    re.IGNORECASE,
)
_HEAD = re.compile(
    rf"(?P<code>[245]\d\d)(?:[ -]+[(\[]?#?(?P<enhanced>{_ENHANCED})[)\]]?)?(?!\d)|#?(?P<bare>{_ENHANCED})"
)
_TAIL = re.compile(rf"\(#(?P<enhanced>{_ENHANCED})\)")
"""qmail's way: `Sorry, no mailbox here by that name. (#5.1.1)`."""
_CONTINUED = re.compile(rf"(?<!\S)(?P<code>[245]\d\d)-(?:#?(?P<enhanced>{_ENHANCED}) ?)?")
_ADDRESS = re.compile(r"[^\s<>@\"'():;,]{1,64}@[\w.-]{1,255}")
_HOST = re.compile(
    r"(?:[\w-]{1,63}(?:\.[\w-]{1,63}){1,10}|unknown|localhost)\.?\[[0-9a-f.:]{2,45}\](?::\d{1,5})?",
    re.IGNORECASE,
)
_QUOTES = str.maketrans({"’": "'", "‘": "'", "`": "'", "´": "'", "“": '"', "”": '"', "\xa0": " "})


@dataclass(frozen=True, slots=True)
class Layer:
    """A reply inside a reply, without what is nested in it: text in lower case; code and enhanced code ""
    where it has none. `is_cut`: it is a `[Message=` that was never closed."""

    text: str
    code: str = ""
    enhanced: str = ""
    is_cut: bool = False


def layers(text: str, code: int | None = None, enhanced: str = "") -> list[Layer]:
    """The replies in a text, the outermost first. At least one.

    code, enhanced: the outermost one's, where the text itself has none.
    """
    return layers_of(bare(text), code, enhanced)


def layers_of(shown: str, code: int | None = None, enhanced: str = "") -> list[Layer]:
    """The same of a text that is `bare` already."""
    starts, messages = [0], set()
    for found in _INNER.finditer(shown):
        start = found.end()
        if start > starts[-1] and not shown[starts[-1] : start].strip(" \"'([->#:;<"):
            starts[-1] = start
        elif start > starts[-1]:
            starts.append(start)
        if found[0].startswith("["):
            messages.add(start)
    cuts = zip(starts, [*starts[1:], len(shown)], strict=True)
    found_layers = [_layer(shown[a:b], a in messages and "]" not in shown[a:]) for a, b in cuts]
    outer = found_layers[0]
    told = enhanced if re.fullmatch(_ENHANCED, enhanced) else ""
    found_layers[0] = Layer(outer.text, outer.code or str(code or ""), outer.enhanced or told, outer.is_cut)
    return found_layers


def bare(text: str) -> str:
    """A text on one line, in lower case, without the wrappings, addresses and stamps that mean nothing."""
    flat = " ".join(text[:LONGEST].translate(_QUOTES).split())
    flat = _NOISE.sub("", _STAMP.sub("", _BLOCK.sub("", flat)))
    return _HOST.sub("host", _ADDRESS.sub("@", _unfolded(flat))).lower()


def _unfolded(text: str) -> str:
    """A reply of several lines without the code that begins each line after the first."""
    first = _CONTINUED.search(text)
    if first is None:
        return text
    own = rf"(?:#?{re.escape(first['enhanced'])}(?!\.?\d))?" if first["enhanced"] else ""
    again = re.compile(rf"(?<!->) {first['code']}[ -]{own}(?!#?[245]\.\d)")
    return text[: first.end()] + again.sub(" ", text[first.end() :]).replace("  ", " ")


def _layer(piece: str, is_cut: bool) -> Layer:
    code, enhanced = _codes(piece)
    return Layer(piece, code, enhanced, is_cut)


def _codes(piece: str) -> tuple[str, str]:
    front = _FRONT.match(piece)
    head = _HEAD.match(piece, front.end() if front else 0)
    if head and head["bare"]:
        # `#5.1.1 smtp;550 5.1.1 …`: the reply behind it is a layer of its own.
        return "", head["bare"]
    code = head["code"] if head else ""
    if head and head["enhanced"]:
        return code, head["enhanced"]
    tail = _TAIL.search(piece)
    return code, tail["enhanced"] if tail else ""


def codes(text: str) -> tuple[int | None, str]:
    """The reply code and enhanced code a text starts with: (450, "4.4.317"); None and "" where missing.

    `smtp;`, `#` and the opening of a LED block in front of them are passed over; `#5.1.1 smtp;550 5.1.1 …`
    has both.
    """
    flat = _BLOCK.sub("", " ".join(text[:400].split())).lower()
    code, enhanced = _codes(flat)
    if enhanced and not code:
        behind = re.match(rf"[\s<#]*{re.escape(enhanced)}\s+smtp\s*;\s*([245]\d\d)(?!\d)", flat)
        code = behind[1] if behind else ""
    return (int(code) if code else None), enhanced
