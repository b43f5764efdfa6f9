"""ESMTP parameters of MAIL and RCPT: checked strictly, kept word for word.

What is let in here must be taken by the next hop as it stands, so a value that breaks its RFC is answered
501 5.5.4 at once, where its sender can still mend it; a parameter nobody offered gets 555 5.5.4.
Source: RFC 5321 §4.1.2 (form), RFC 1870 (SIZE), RFC 6152 (BODY), RFC 6531 (SMTPUTF8), RFC 3461 §4
(RET, ENVID, NOTIFY, ORCPT), RFC 6533 §3 (ORCPT=utf-8;…).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from resubmit.errors import Refused

_WORD = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*+)(?:=([!-<>-~\x80-\U0010FFFF]++))?")
_XTEXT = r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})"
_ENVID = re.compile(rf"{_XTEXT}+")
_UNPRINTABLE = re.compile(r"\+(?:[01][0-9A-F]|7F|[89A-F][0-9A-F])")
_ORCPT = re.compile(rf"(?P<type>[A-Za-z0-9-]+);{_XTEXT}+")
# RFC 6533 §3: utf-8-addr-xtext and, where the transaction asked SMTPUTF8, utf-8-addr-unitext. `+HH` is not
# in that grammar, but some write it and it harms nobody.
_ORCPT_UTF8 = re.compile(
    r"(?i:utf-8);(?:[!-*,-<>-\[\]-~\x80-\U0010FFFF]|\\x\{[0-9A-F]{2,6}\}|\+[0-9A-F]{2})+"
)
_NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})
ENVID_LIMIT = 100  # RFC 3461 §4.4
ORCPT_LIMIT = 500  # RFC 3461 §4.2


@dataclass(frozen=True, slots=True)
class MailParameters:
    """Those of MAIL: `words` verbatim and in order; `size` as declared, None when it was not."""

    words: tuple[str, ...] = ()
    size: int | None = None
    smtputf8: bool = False


_NONE = MailParameters()


def read_mail(text: str) -> MailParameters:
    """What stands behind the path of MAIL. Raises Refused 501 or 555 with 5.5.4."""
    if not text:
        return _NONE
    size: int | None = None
    smtputf8 = False
    words = _words(text)
    for _, key, value in words:
        if key == "SIZE":
            if value is None or not re.fullmatch("[0-9]{1,20}", value):
                raise _bad(key)
            size = int(value)
        elif key == "BODY":
            if value is not None and value.upper() == "BINARYMIME":
                raise Refused(555, "5.5.4", "BODY=BINARYMIME is not offered")
            if value is None or value.upper() not in ("7BIT", "8BITMIME"):
                raise _bad(key)
        elif key == "SMTPUTF8":
            if value is not None:
                raise _bad(key)
            smtputf8 = True
        elif key == "RET":
            if value is None or value.upper() not in ("FULL", "HDRS"):
                raise _bad(key)
        elif key == "ENVID":
            if (
                value is None
                or len(value) > ENVID_LIMIT
                or not _ENVID.fullmatch(value)
                or _UNPRINTABLE.search(value)
            ):
                raise _bad(key)
        else:
            raise _unknown(key)
    return MailParameters(tuple(word for word, _, _ in words), size, smtputf8)


def read_recipient(text: str, smtputf8: bool) -> tuple[str, ...]:
    """What stands behind the path of RCPT, verbatim and in order. Raises Refused 501 or 555 with 5.5.4."""
    if not text:
        return ()
    words = _words(text)
    for _, key, value in words:
        if key == "NOTIFY":
            asked = (value or "").upper()
            if asked != "NEVER" and not _NOTIFY.issuperset(asked.split(",")):
                raise _bad(key)
        elif key == "ORCPT":
            if value is None or not _is_orcpt(value, smtputf8):
                raise _bad(key)
        else:
            raise _unknown(key)
    return tuple(word for word, _, _ in words)


def _is_orcpt(value: str, smtputf8: bool) -> bool:
    if len(value.encode()) > ORCPT_LIMIT or not (smtputf8 or value.isascii()):
        return False
    if value[:6].lower() == "utf-8;":
        return bool(_ORCPT_UTF8.fullmatch(value))
    return bool(_ORCPT.fullmatch(value))


def _words(text: str) -> list[tuple[str, str, str | None]]:
    """(word as written, keyword in upper case, value or None), each keyword once."""
    if text[0] != " ":
        raise Refused(501, "5.5.4", "a blank must stand between address and parameters")
    words: list[tuple[str, str, str | None]] = []
    seen: set[str] = set()
    for word in text.split(" "):
        if not word:
            continue
        found = _WORD.fullmatch(word)
        if not found:
            raise Refused(501, "5.5.4", "bad parameter syntax")
        key = found[1].upper()
        if key in seen:
            raise Refused(501, "5.5.4", f"{key} given twice")
        seen.add(key)
        words.append((word, key, found[2]))
    return words


def _bad(key: str) -> Refused:
    return Refused(501, "5.5.4", f"bad {key} parameter")


def _unknown(key: str) -> Refused:
    return Refused(555, "5.5.4", f"parameter {key[:40]} is not recognized")
