"""What is put on top of a message, and which ESMTP parameters go with it to a given next hop.

Promises: pure. The stored bytes are never changed: a trace field goes on top, nothing else. A parameter
goes on only where the hop offers its extension; an address is sent byte for byte or not at all.

Choices where the RFCs leave one:
- NOTIFY: SUCCESS is dropped from attempt 2 on, so that a second copy does not say "delivered" twice. What
  remains of a NOTIFY that asked for SUCCESS alone is NEVER: leaving NOTIFY out would mean FAILURE
  (RFC 3461 §4.1), which that sender did not ask for.
- ORCPT: added as `rfc822;` + xtext of the recipient when the sender gave none and the hop has DSN
  (RFC 3461 §5.2.1 (b) allows it): reports then name the address the sender used, however often it is
  rewritten behind the hop. Not for addresses outside ASCII, which have another type (RFC 6533 §3). Whoever
  redirects a recipient gives it the original's ORCPT.
- ENVID: ours (`<journal id>.<n>`) only where the sender gave none and the hop has DSN.

Source: RFC 5321 §4.4 (trace), RFC 1870, RFC 6152, RFC 6531 §3.4, RFC 3461 §4 and §5.2; design, section 4.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from email.utils import format_datetime
from functools import lru_cache

from resubmit.model.envelope import parameter
from resubmit.model.ids import attempt_key
from resubmit.model.moment import SECOND, Ms, to_datetime

NEEDS_SMTPUTF8 = "5.6.7 needs SMTPUTF8, which the next hop does not offer; not sent, and never converted"
"""The text of a recipient that is not offered, because its mail can't go on as it is."""
TOO_LARGE = "552 5.3.4 message is larger than the next hop takes"
"""How the text of a message above the hop's SIZE begins."""
BAD_ADDRESS = "501 5.1.3 address can't be sent in an SMTP command"
"""How the text of an address with control characters, or brackets outside quotes, begins."""
BODY_UNREADABLE = "the stored body can't be read"
"""How the text of a recipient begins whose message the journal could not give as it took it."""
BARE_NEWLINE = "550 5.6.0 stored body can't be sent"
"""How the text of a body with a lone CR or LF begins: sent, it could end early at the next hop."""

_MAC_LENGTH = 32  # hex digits, 128 bits
TRACE = re.compile(
    rb"\bid ([0-9A-HJKMNP-TV-Z]{13})\.(\d{1,5})[ \t\r\n]+\(resubmit ([0-9a-f]{%d})\)" % _MAC_LENGTH
)
"""Our own mark in a Received field: journal id, attempt number, mac."""

_UNSENDABLE = re.compile(rb"[\x00-\x1f\x7f]")
_UNFIT = re.compile(r"[^!-~]|[()<>;\\\"]")
_NO_ADDRESS = re.compile(r"[^0-9a-fA-F:.]")
_NO_XTEXT = re.compile(r"[^!-~]|[+=]")
_NEEDS_QUOTES = re.compile(rb"[<> \"]")
_OUTSIDE_QUOTES = re.compile(rb'"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True, slots=True)
class Hop:
    """What a next hop offered in its answer to EHLO. `size`: its limit in octets, 0 for none known."""

    dsn: bool = False
    eightbit: bool = False
    smtputf8: bool = False
    sizes: bool = False
    size: int = 0


def hop_of(extensions: dict[str, str]) -> Hop:
    """Read the keywords of an EHLO answer (lower case, with their parameters)."""
    limit = extensions.get("size", "").split()
    return Hop(
        dsn="dsn" in extensions,
        eightbit="8bitmime" in extensions,
        smtputf8="smtputf8" in extensions,
        sizes="size" in extensions,
        size=int(limit[0]) if limit and limit[0].isdigit() else 0,
    )


# ── trace ─────────────────────────────────────────────────────────────────────────────────────────


def trace_mac(key: bytes, message: int, no: int) -> str:
    """What proves that a trace field is ours: 128 bits of HMAC-SHA-256 over id and number, in hex."""
    return hmac.digest(key, attempt_key(message, no).encode(), "sha256").hex()[:_MAC_LENGTH]


def verify_trace(key: bytes, message: int, no: int, mac: str) -> bool:
    """Whether a trace field with this id, number and mac was made with the journal's own key."""
    return hmac.compare_digest(trace_mac(key, message, no).encode(), mac.lower().encode("utf-8", "replace"))


def trace_field(
    *, key: bytes, message: int, no: int, by: str, helo: str, peer: str, protocol: str, received_at: Ms
) -> bytes:
    """Our Received field for one attempt, with its last CRLF.

    It says where the mail came from (`helo`, `peer`: an address), under which name we took it (`by`), and
    carries `id <journal id>.<n> (resubmit <mac>)`, by which it is known when it comes back.
    """
    source = f"from {_word(helo) or 'unknown'} ({_literal(peer)})" if peer or helo else "from local"
    return (
        f"Received: {source}\r\n"
        f"\tby {_word(by) or 'localhost'} with {_word(protocol) or 'SMTP'}\r\n"
        f"\tid {attempt_key(message, no)} (resubmit {trace_mac(key, message, no)});\r\n"
        f"\t{_date(received_at // SECOND)}\r\n"
    ).encode("ascii")


@lru_cache(maxsize=64)
def _date(second: int) -> str:
    """RFC 5322 §3.3, of a second since 1970."""
    return format_datetime(to_datetime(second * SECOND))


def _word(text: str) -> str:
    """What a client called itself, fit for a trace field: printable ASCII, no blanks, comments or `;`."""
    return _UNFIT.sub("", text)[:255]


def _literal(peer: str) -> str:
    address = _NO_ADDRESS.sub("", peer)
    return f"[IPv6:{address}]" if address.count(":") > 1 else f"[{address or 'unknown'}]"


# ── commands ──────────────────────────────────────────────────────────────────────────────────────


def path_octets(address: str) -> bytes:
    """A path as it goes on the wire, between its brackets. ValueError when it can't be sent as it is.

    Nothing is rewritten: what would need quoting, or would end the path before its bracket, is refused.
    """
    try:
        octets = address.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("it is not valid UTF-8") from None
    if _UNSENDABLE.search(octets):
        raise ValueError("it holds control characters")
    if _NEEDS_QUOTES.search(_OUTSIDE_QUOTES.sub(b"", octets)):
        raise ValueError("it holds brackets, blanks or quotes outside a quoted string")
    return octets


def mail_options(parameters: tuple[str, ...], hop: Hop, *, size: int, key: str, utf8: bool) -> list[bytes]:
    """The parameters of MAIL. `size`: octets as sent; `key`: our attempt's name; `utf8`: SMTPUTF8 is needed.

    RET, ENVID and BODY go on as given; SIZE is counted anew, our trace field makes it larger.
    """
    out: list[str] = []
    if hop.sizes:
        out.append(f"SIZE={size}")
    body = (parameter(parameters, "BODY") or "").upper()
    if hop.eightbit and body in ("7BIT", "8BITMIME"):
        out.append(f"BODY={body}")
    if utf8:
        out.append("SMTPUTF8")
    if hop.dsn:
        out += [word for word in parameters if _name(word) in ("RET", "ENVID")]
        if parameter(parameters, "ENVID") is None:
            out.append(f"ENVID={key}")
    return [_option(word) for word in out]


def rcpt_options(address: str, parameters: tuple[str, ...], hop: Hop, *, no: int) -> list[bytes]:
    """The parameters of RCPT for attempt `no`: NOTIFY and ORCPT, only for a hop with DSN."""
    if not hop.dsn:
        return []
    out: list[str] = []
    notify = parameter(parameters, "NOTIFY")
    if notify is not None:
        kept = notify_for(notify, no)
        out.append(f"NOTIFY={kept}")
    orcpt = [word for word in parameters if _name(word) == "ORCPT"]
    if orcpt:
        out += orcpt
    elif address.isascii():
        out.append(f"ORCPT=rfc822;{xtext(address)}")
    return [_option(word) for word in out]


def notify_for(notify: str, no: int) -> str:
    """A NOTIFY value as it goes with attempt `no`: word for word on the first, without SUCCESS after it."""
    if no < 2:
        return notify
    words = [word for word in notify.split(",") if word.strip().upper() != "SUCCESS"]
    return ",".join(words) or "NEVER"


def asks_success(parameters: tuple[str, ...], no: int) -> bool:
    """Whether the sender of this recipient is still to hear of success with attempt `no`."""
    notify = notify_for(parameter(parameters, "NOTIFY") or "NEVER", no)
    return "SUCCESS" in (word.strip().upper() for word in notify.split(","))


def xtext(text: str) -> str:
    """RFC 3461 §4: printable ASCII but `+` and `=` as it is, others as `+HH`."""
    return _NO_XTEXT.sub(lambda found: f"+{ord(found[0]):02X}", text)


def header_is_utf8(start: bytes) -> bool:
    """Whether the header block at the start of a message holds anything but ASCII (RFC 6532)."""
    return not start.partition(b"\r\n\r\n")[0].isascii()


def needs_utf8(sender: str, parameters: tuple[str, ...], start: bytes) -> bool:
    """Whether a message needs SMTPUTF8 whoever it is for: asked for by its sender, and really used.

    Some clients ask for it whenever it is offered; a message whose reverse-path and header are ASCII is no
    internationalised message (RFC 6531 §3.2), and may go to a hop without.
    """
    if not sender.isascii():
        return True
    return parameter(parameters, "SMTPUTF8") is not None and header_is_utf8(start)


def _name(word: str) -> str:
    return word.partition("=")[0].upper()


def _option(word: str) -> bytes:
    octets = word.encode("utf-8", "surrogateescape")
    if _UNSENDABLE.search(octets) or b" " in octets:
        raise ValueError(f"parameter {word!r} holds blanks or control characters")
    return octets
