"""Mail taken apart: a stream into mails, a mail into its header and parts, whatever state it is in.

What is sent back by programs is often no proper MIME: boundaries that are not those announced, fields
that are folded without a blank, parts without a header, bare CR as the end of a line, 8 bits without a
charset. So nothing is required and everything is bounded; the mail's own text is never an error.

Promises: any bytes give mails and parts; never raises but what the stream raises; memory does not grow
with the stream, a mail is cut off at LIMIT.

Source: RFC 5322 §2.2, RFC 2045, RFC 2046 §5.1, RFC 2047, RFC 4155 (mbox).
Limits: RFC 2231 only in its simplest form; a mail's parts behind LIMIT are not seen.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from resubmit.evidence.csvrows import encoding_of_head

LIMIT = 8 << 20
"""Bytes of one mail that are looked at: what stands behind is the returned message's own content."""

_CHUNK = 256 * 1024
_HEAD = 64 * 1024
_DEEPEST = 12
_MOST_PARTS = 200
_MOST_FIELDS = 2_000
_LONGEST_FIELD = 64 * 1024

_FIELD = re.compile(rb"([!-9;-~]{1,100})[ \t]*:(.*)", re.DOTALL)
_FROM_LINE = re.compile(rb">?From .{0,400}\d:\d")
_WORD = re.compile(r"=\?([\w.:+-]{1,60})(?:\*[\w-]*)?\?([bBqQ])\?([^?\s]*(?: [^?]*?)?)\?=")
_PARAMETER = re.compile(r';\s*([\w!#$&.+^`|~-]{1,60})(?:\*0?\*?)?\s*=\s*("(?:[^"\\]|\\.)*"?|[^;\s]*)')


@dataclass(frozen=True, slots=True)
class Part:
    """A mail or a part of one. fields: names in lower case, values unfolded; kind: `text/plain`, as
    announced or, without a word, as RFC 2045 §5.2 has it. content: without its transfer encoding, b"" where
    it has parts. parts: those of a multipart, or the one mail inside a message/rfc822."""

    fields: tuple[tuple[str, str], ...]
    kind: str
    parameters: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    parts: tuple[Part, ...] = ()

    def first(self, name: str) -> str:
        """The first field of that name, "" when there is none."""
        return next((value for known, value in self.fields if known == name), "")

    def all(self, name: str) -> list[str]:
        """Every field of that name, from the top."""
        return [value for known, value in self.fields if known == name]

    def has(self, name: str) -> bool:
        """Whether there is such a field, though it may be empty (`X-MS-Exchange-Message-Is-Ndr:`)."""
        return any(known == name for known, _ in self.fields)

    def text(self) -> str:
        """The content as text, lines ended by LF."""
        return decoded(self.content, self.parameters.get("charset", ""))


def mails(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The mails of a stream with the number of their first line: those of an mbox, else the only one.

    Line ends become LF, UTF-16 becomes UTF-8.
    """
    held: list[bytes] = []
    size, first, number = 0, 1, 0
    is_mbox = False
    blank = True
    for line in _lines(stream):
        number += 1
        if not held and not line.strip():
            first = number + 1
            continue
        starts = blank and line.startswith(b"From ") and _FROM_LINE.match(line) is not None
        if starts and not held:
            is_mbox = True
        elif starts and is_mbox:
            yield first, b"".join(held)
            held, size, first = [], 0, number
        blank = not line.strip()
        if size < LIMIT:
            held.append(line)
            size += len(line)
    if held:
        yield first, b"".join(held)


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a stream, ended by LF; a line longer than a chunk is cut into several."""
    stream.seek(0)
    head = stream.read(_HEAD)
    encoding = encoding_of_head(head) if head else "utf-8"
    decoder = codecs.getincrementaldecoder(encoding)("replace") if encoding.startswith("utf-16") else None
    only_cr = b"\r" in head and b"\n" not in head
    rest = b""
    chunk = head.removeprefix(codecs.BOM_UTF8)
    while chunk:
        if decoder is not None:
            only_cr = False
            chunk = decoder.decode(chunk).removeprefix("\ufeff").encode("utf-8", "replace")
        data = rest + chunk
        if only_cr:
            data = data.replace(b"\r", b"\n")
        *whole, rest = data.split(b"\n")
        for line in whole:
            yield line.rstrip(b"\r") + b"\n"
        if len(rest) > _CHUNK:
            yield rest + b"\n"
            rest = b""
        chunk = stream.read(_CHUNK)
    if rest:
        yield rest.rstrip(b"\r") + b"\n"


def parsed(mail: bytes) -> Part:
    """A mail (lines ended by LF or CRLF) taken apart."""
    return _Parser().part(mail.replace(b"\r\n", b"\n").lstrip(b"\n"), "text/plain", 0)


def header_of(text: bytes, *, wrapped: bool = False) -> tuple[tuple[tuple[str, str], ...], bytes]:
    """The fields at the start of a text, and what stands behind them. wrapped: its lines were broken anew,
    so that what is no field goes on with the one before."""
    fields: list[tuple[str, str]] = []
    at = 0
    if _FROM_LINE.match(text, at):
        at = text.find(b"\n", at) + 1 or len(text)
    while at < len(text):
        end = text.find(b"\n", at)
        end = len(text) if end < 0 else end
        line = text[at:end].rstrip(b"\r")
        if not line.strip():
            at = end + 1
            break
        found = None if line[:1] in (b" ", b"\t") else _FIELD.match(line)
        if found is not None:
            if len(fields) < _MOST_FIELDS:
                fields.append((found[1].decode("ascii", "replace").lower(), _unfolded(found[2])))
        elif fields and (wrapped or line[:1] in (b" ", b"\t") or fields[-1][1].endswith(";")):
            name, value = fields[-1]
            if len(value) < _LONGEST_FIELD:
                fields[-1] = name, f"{value} {_unfolded(line)}".strip()
        else:
            break
        at = end + 1
    return tuple(fields), text[at:]


def _unfolded(value: bytes) -> str:
    return decoded(value[:_LONGEST_FIELD], "").strip()


def decoded(data: bytes, charset: str) -> str:
    """Bytes as text by their charset; where it is unknown, wrong or missing, by what they look like."""
    data = data.replace(b"\r\n", b"\n")
    if b"\x1b$" in data or b"\x1b(" in data:
        charset = "iso2022_jp_ext"
    if "utf-7" in charset.lower():
        charset = "utf-7"  # IIS calls it unicode-1-1-utf-7
    for name in (charset, "utf-8"):
        if not name or name.lower() in ("us-ascii", "ascii", "unknown-8bit", "binary"):
            continue
        try:
            text = data.decode(name)
        except (LookupError, ValueError):
            continue
        if isinstance(text, str):  # a codec may be none of text (`hex`)
            return text.replace("\0", "")
    return data.decode("cp1252", "replace").replace("\0", "")


def words(text: str) -> str:
    """A field's text with its encoded words (RFC 2047) decoded."""
    joined = re.sub(r"(\?=)\s+(?==\?)", r"\1", text[:_LONGEST_FIELD])
    return _WORD.sub(_decoded_word, joined)


def _decoded_word(found: re.Match[str]) -> str:
    raw = found[3].encode("ascii", "replace")
    try:
        if found[2] in "bB":
            data = base64.b64decode(raw + b"=" * (-len(raw) % 4))
        else:
            data = quopri.decodestring(raw, header=True)
    except (binascii.Error, ValueError):
        return found[0]
    return decoded(data, found[1])


def without_marks(html: str) -> str:
    """An HTML part as lines of text, for mails that have nothing else."""
    text = re.sub(r"(?is)<(style|script|head)\b.*?(?:</\1>|$)", " ", html[:LIMIT])
    text = re.sub(r"(?i)<br\s*/?>|</?(?:p|div|tr|h\d|li|table|pre)\b[^<>]*>", "\n", text)
    text = re.sub(r"</?[A-Za-z!][A-Za-z0-9:-]*(?:\s[^<>]*)?/?>", " ", text)
    for mark, char in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#39;", "'"), ("&nbsp;", " ")):
        text = text.replace(mark, char)
    return text.replace("&amp;", "&")


class _Parser:
    """Takes one mail apart; counts its parts, so that no mail is made of a million."""

    def __init__(self) -> None:
        self._left = _MOST_PARTS

    def part(self, raw: bytes, default: str, depth: int) -> Part:
        self._left -= 1
        fields, content = header_of(raw)
        named = next((value for name, value in fields if name == "content-type"), "")
        kind, parameters = _content_type(named, default)
        encoding = next((value for name, value in fields if name == "content-transfer-encoding"), "")
        if kind.startswith("multipart/"):
            parts = self._split(content, kind, parameters, depth) if depth < _DEEPEST else ()
            if parts:
                return Part(fields, kind, parameters, b"", parts)
            return Part(fields, "text/plain", parameters, content)
        content = _transferred(content, encoding)
        if kind in ("message/rfc822", "message/global", "message/news") and depth < _DEEPEST:
            inner = (self.part(content.lstrip(b"\n"), "text/plain", depth + 1),) if self._left > 0 else ()
            return Part(fields, kind, parameters, content, inner)
        return Part(fields, kind, parameters, content)

    def _split(self, content: bytes, kind: str, parameters: dict[str, str], depth: int) -> tuple[Part, ...]:
        default = "message/rfc822" if kind == "multipart/digest" else "text/plain"
        boundary = parameters.get("boundary", "").encode("utf-8", "replace")
        pieces = _pieces(content, boundary) if boundary else []
        if not pieces:
            guessed = re.search(
                rb"(?:^|\n)--([^\n]{1,200}?)[ \t]*\n(?=content-[a-z-]+[ \t]*:)", content, re.I
            )
            pieces = _pieces(content, guessed[1]) if guessed else []
        found = []
        for piece in pieces:
            if self._left <= 0:
                break
            found.append(self.part(piece, default, depth + 1))
        return tuple(found)


def _pieces(content: bytes, boundary: bytes) -> list[bytes]:
    """What stands between the lines that begin with the boundary."""
    mark = re.compile(rb"(?:^|\n)--" + re.escape(boundary.rstrip()) + rb"(--)?[ \t]*(?=\n|$)")
    starts: list[tuple[int, int, bool]] = []
    for found in mark.finditer(content):
        starts.append((found.start(), found.end(), found[1] is not None))
        if len(starts) > _MOST_PARTS:
            break
    pieces = []
    for number, (_, begins, closes) in enumerate(starts):
        if closes:
            break
        ends = starts[number + 1][0] if number + 1 < len(starts) else len(content)
        # A part without a header has a blank line first: it is kept, so that its text is no header.
        pieces.append(content[begins + 1 : ends])
    return pieces


def _content_type(named: str, default: str) -> tuple[str, dict[str, str]]:
    kind = named.partition(";")[0].strip().lower()
    if not re.fullmatch(r"[\w.+-]+/[\w.+-]+", kind):
        kind = {"text": "text/plain", "multipart": "multipart/mixed"}.get(kind, default)
    parameters: dict[str, str] = {}
    for name, value in _PARAMETER.findall(named[:4096]):
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:].removesuffix('"'))
        parameters.setdefault(name.lower(), value)
    return kind, parameters


def _transferred(content: bytes, encoding: str) -> bytes:
    """Content without its transfer encoding; as it stands where that is broken."""
    name = encoding.strip().lower()
    if name == "quoted-printable":
        return quopri.decodestring(content)
    if name == "base64":
        clean = re.sub(rb"[^A-Za-z0-9+/]", b"", content)
        try:
            return base64.b64decode(clean[: len(clean) - (len(clean) % 4 == 1)] + b"=" * (-len(clean) % 4))
        except (binascii.Error, ValueError):
            return content
    return content
