"""Draws docs/causes.md from the cause table: resubmit/meaning/causes/ and signs/."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from resubmit.meaning.table import Known, Sign, known, signs
from resubmit.model.evidence import Cause

HEAD = """<!-- Written by docs/generate.py from resubmit/meaning/causes/ and signs/; change those. -->
# What a reply means, and what to do

Every refusal and deferral that a next hop, a trace, a report or a log shows is looked up in one table.
This is the table: look for the code or for a few words of the text with your browser's search, or ask:

    echo '450 4.7.320 Certificate validation failed' | resubmit explain -

- Replies are often wrapped in replies (`450 4.4.317 … [Message=451 5.7.3 STARTTLS is required …]`).
  The innermost one that is known decides, so a mail that expired says why it was held up.
- A text counts for more than a code, for codes are used for many things.
  The codes below decide only where the text is not known.
- A 4xx is tried again whatever its text says.
- What is not known is `other`: a 4xx waits, a 5xx needs a person, and nothing is resubmitted by itself.

The cause decides what happens.
`tls` and `connection` faults of a destination close its gate, and their mail goes again by itself once the
fault is gone; everything else that is stuck is shown, and a person replays it.
"""

CAUSES: dict[Cause, str] = {
    Cause.TLS: "TLS does not come about: certificate, STARTTLS or handshake.",
    Cause.CONNECTION: "The server can't be reached.",
    Cause.THROTTLE: "The far side wants less, or later.",
    Cause.BLOCKLIST: "The sending address or the sender is blocked.",
    Cause.POLICY: "A rule of the far side: connectors, relaying, logins, SPF and DMARC, permissions.",
    Cause.RECIPIENT: "The address is wrong.",
    Cause.MAILBOX: "The address is right, and its mailbox takes nothing.",
    Cause.SIZE: "The mail is too large.",
    Cause.CONTENT: "The content is refused.",
    Cause.EXPIRED: "Given up after its time in a queue, without a word of what held it.",
    Cause.OTHER: "Servers in trouble, loops, greylisting, and what nobody knows.",
}

SCOPES = {
    "hop": "the route when we met it ourselves, the destination when the far side did",
    "client": "the route when we met it ourselves, else this mail",
    "recipient": "this recipient",
    "message": "this mail",
    "route": "the route",
    "destination": "the destination",
}

MENDS = {
    "gate": "when the fault is gone",
    "time": "by waiting",
    "person": "when somebody acts",
    "never": "never: it fails",
}

_SHOWN = 170
"""Characters of an example: enough to be found by."""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_by_code(), *_by_cause()])


def _by_code() -> Iterator[str]:
    yield "## Codes whose text is not known\n\nAsked in this order; the first that fits decides.\n"
    yield "| code | it means | cause |\n|-|-|-|"
    for sign in signs():
        if not sign.says:
            link = f"[{sign.known.what.rstrip('.')}](#{sign.known.id})"
            yield f"| {_codes(sign)} | {link} | `{sign.known.cause}` |"
    yield ""


def _codes(sign: Sign) -> str:
    """The codes a sign asks for, for people: `4.4.317`, `4.7.1 5.7.1`, any `5.7.*`."""
    both = [text for code in sign.enhanced for text in _spelled(code)]
    return " ".join(f"`{code}`" for code in (*sign.reply, *both))


def _spelled(code: str) -> Sequence[str]:
    return (f"4{code[1:]}", f"5{code[1:]}") if code.startswith("x") else (code,)


def _by_cause() -> Iterator[str]:
    for cause, words in CAUSES.items():
        yield f"## `{cause}`\n\n{words}\n"
        for one in known().values():
            if one.cause is cause:
                yield from _section(one, [sign for sign in signs() if sign.known is one])


def _section(one: Known, its: Sequence[Sign]) -> Iterator[str]:
    yield f"### {one.id}\n"
    yield f"{one.what}\n"
    yield f"**What to do.** {one.advice}\n"
    yield f"It concerns {SCOPES[one.scope]}; it ends {MENDS[one.mend]}.\n"
    for sign in its:
        if sign.says:
            yield from (f"- {_quoted(example)}" for example in sign.examples)
            yield f"  ({sign.source})"
    alone = [f"{_codes(sign)} ({sign.source})" for sign in its if not sign.says]
    if alone:
        yield f"- by the code alone: {'; '.join(alone)}"
    yield ""


def _quoted(example: str) -> str:
    text = " ".join(example.split())
    text = text if len(text) <= _SHOWN else text[:_SHOWN].rstrip() + " …"
    return f"`` {text} ``" if "`" in text else f"`{text}`"
