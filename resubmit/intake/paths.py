"""Reverse-paths and forward-paths, read strictly, kept as they were written.

Source: RFC 5321 §4.1.2 (grammar), §4.5.3.1 (sizes), Appendix C (source routes are read and dropped);
RFC 6531 §3.3 (UTF-8 in local parts and domains).
Limits: an underscore is taken in domains though the grammar has none, because hosts are called so; one
blank after the colon is taken, because old clients write it. No brackets: refused.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

from resubmit.errors import Refused

PATH_LIMIT = 256  # with its brackets (RFC 5321 §4.5.3.1.3)
DOMAIN_LIMIT = 255
LOCAL_LIMIT = 64
LABEL_LIMIT = 63  # RFC 1035 §2.3.4

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010FFFF-]++"
_LETTER = r"[A-Za-z0-9_\x80-\U0010FFFF]"
_LABEL = rf"{_LETTER}++(?:-++{_LETTER}++)*+"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*+"
_QUOTED = r'"(?:[ !#-\[\]-~\x80-\U0010FFFF]|\\[ -~])*+"'
_PATH = re.compile(
    rf" ?<(?:@(?:{_DOMAIN})(?:,@(?:{_DOMAIN}))*:)?"
    rf"(?:(?P<local>{_ATOM}(?:\.{_ATOM})*+|{_QUOTED})@(?P<domain>{_DOMAIN}|\[[!-Z^-~]+\]))>"
)
_NULL = re.compile(r" ?<>")
_POSTMASTER = re.compile(r" ?<(postmaster)>", re.IGNORECASE)


def read_path(text: str, *, sender: bool) -> tuple[str, str]:
    """The address between the brackets and what follows them.

    `text` is what stands behind `FROM:` or `TO:`. The sender may be null (""), a recipient may be the
    bare postmaster. Raises Refused: 501 with 5.1.7 for a sender, 5.1.3 for a recipient.
    """
    found = _PATH.match(text)
    if found is None:
        short = (_NULL if sender else _POSTMASTER).match(text)
        if short is None:
            raise _wrong(sender, "bad address syntax")
        return ("" if sender else short[1]), text[short.end() :]
    local, domain = found["local"], found["domain"]
    if not found[0].isascii() or len(found[0]) > LABEL_LIMIT:  # shorter ones can't break a limit
        _measure(local, domain, found[0].lstrip(" "), sender)
    if domain[0] == "[" and not _is_literal(domain[1:-1]):
        raise _wrong(sender, "bad address literal")
    return f"{local}@{domain}", text[found.end() :]


def _measure(local: str, domain: str, path: str, sender: bool) -> None:
    """Sizes are counted in octets, as they are on the wire."""
    if len(path.encode()) > PATH_LIMIT:
        raise _wrong(sender, f"path longer than {PATH_LIMIT} octets")
    if len(local.encode()) > LOCAL_LIMIT:
        raise _wrong(sender, f"local part longer than {LOCAL_LIMIT} octets")
    if len(domain.encode()) > DOMAIN_LIMIT:
        raise _wrong(sender, f"domain longer than {DOMAIN_LIMIT} octets")
    if domain[0] != "[" and any(len(label) > LABEL_LIMIT for label in domain.split(".")):
        raise _wrong(sender, f"a part of the domain is longer than {LABEL_LIMIT} octets")


def _is_literal(text: str) -> bool:
    """`192.0.2.1`, `IPv6:2001:db8::1`, or another tag with content (RFC 5321 §4.1.3)."""
    tag, colon, content = text.partition(":")
    try:
        if not colon:
            IPv4Address(text)
        elif tag.lower() == "ipv6":
            IPv6Address(content)
        else:
            return bool(content and re.fullmatch(r"[A-Za-z0-9-]*[A-Za-z0-9]", tag))
    except ValueError:
        return False
    return "%" not in text


def _wrong(sender: bool, text: str) -> Refused:
    return Refused(501, "5.1.7" if sender else "5.1.3", text)
