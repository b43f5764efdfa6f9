"""One HTTP answer, within fixed bounds of time, octets and redirects; on any event loop.

Promises: never raises for what the far side does; holds no more than `ceiling` octets, whatever is announced;
follows REDIRECTS at most, to the schemes that are allowed and no others: what a certificate names is
somebody else's choice, so files, LDAP and the like are never asked. No cookies, no proxies, no compression.

Source: RFC 9112 (HTTP/1.1), RFC 5280 §4.2.1.13 (lists by HTTP), RFC 6960 A.1 (OCSP by POST).
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import SplitResult, urljoin, urlsplit

from resubmit.model.moment import Ms
from resubmit.probe.seen import clean

REDIRECTS = 3
HEAD_CEILING = 32 * 1024
_PORTS = {"http": 80, "https": 443}
_BLOCK = 64 * 1024


class Trouble(StrEnum):
    """Why nothing came."""

    NO_WAY = "no_way"
    """No connection, no answer in time, or no HTTP: it may be our own firewall."""
    REFUSED = "refused"
    """HTTP answered, and not with what was asked for: 404, a redirect without end."""
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class Fetched:
    """What stands at an address. at: when it was fetched, ms UTC. octets: None with a trouble."""

    url: str
    at: Ms
    octets: bytes | None
    trouble: Trouble | None = None
    words: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked. post: the body of a POST, with its type; None for GET."""

    url: str
    ceiling: int
    post: bytes | None = None
    content_type: str = ""
    schemes: tuple[str, ...] = ("http",)
    redirects: int = REDIRECTS
    context: ssl.SSLContext | None = None


class _Failed(Exception):
    def __init__(self, trouble: Trouble, words: str) -> None:
        super().__init__(words)
        self.trouble = trouble
        self.words = words


async def fetch(ask: Ask, *, at: Ms, seconds: float) -> Fetched:
    """The answer to one question, or why there is none, within `seconds`."""
    url = ask.url
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            for _ in range(ask.redirects + 1):
                found = await _once(ask, url)
                if isinstance(found, bytes | bytearray):
                    return Fetched(ask.url, at, bytes(found))
                url = urljoin(url, found)
            raise _Failed(Trouble.REFUSED, "it redirects without end")
    except _Failed as failed:
        return Fetched(ask.url, at, None, failed.trouble, clean(failed.words, 160))
    except TimeoutError as error:
        words = error.strerror or f"no answer within {seconds:.0f} seconds"
        return Fetched(ask.url, at, None, Trouble.NO_WAY, clean(words, 160))
    except (OSError, UnicodeError, EOFError) as error:
        words = getattr(error, "strerror", None) or str(error) or "the connection was closed"
        return Fetched(ask.url, at, None, Trouble.NO_WAY, clean(words, 160))
    except (asyncio.LimitOverrunError, ValueError):
        return Fetched(ask.url, at, None, Trouble.NO_WAY, "it does not speak HTTP")


async def _once(ask: Ask, url: str) -> bytearray | str:
    """The body, or where it redirects to."""
    place = _place(url, ask.schemes)
    assert place.hostname is not None
    secure = ask.context if place.scheme == "https" else None
    reader, writer = await asyncio.open_connection(
        place.hostname, place.port or _PORTS[place.scheme], ssl=secure, limit=HEAD_CEILING
    )
    try:
        writer.write(_request(ask, place))
        status, fields = await _head(reader)
        if status in (301, 302, 303, 307, 308) and "location" in fields:
            return fields["location"]
        if status != 200:
            raise _Failed(Trouble.REFUSED, f"HTTP {status}")
        return await _body(reader, fields, ask.ceiling)
    finally:
        writer.transport.abort()


def _place(url: str, schemes: tuple[str, ...]) -> SplitResult:
    """The parts of an address that may be asked; ValueError is for those that are none."""
    if not url.isascii() or any(c <= " " or c == "\x7f" for c in url):
        raise _Failed(Trouble.REFUSED, "it is no web address")
    try:
        place = urlsplit(url)
        usable = place.scheme in schemes and place.hostname and place.username is None and place.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise _Failed(Trouble.REFUSED, f"{url[:80]} is not asked")
    return place


def _request(ask: Ask, place: SplitResult) -> bytes:
    target = (place.path or "/") + (f"?{place.query}" if place.query else "")
    host = place.netloc.rpartition("@")[2]
    lines = [f"{'GET' if ask.post is None else 'POST'} {target} HTTP/1.1", f"Host: {host}"]
    lines += ["User-Agent: resubmit-probe", "Accept: */*", "Cache-Control: no-cache", "Connection: close"]
    if ask.post is not None:
        lines += [f"Content-Type: {ask.content_type}", f"Content-Length: {len(ask.post)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii") + (ask.post or b"")


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Status and header fields of the final answer (RFC 9110 §15.2: 1xx are passed over)."""
    for _ in range(4):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.split("\r\n")
        words = lines[0].split(" ", 2)
        if not words[0].startswith("HTTP/1.") or len(words) < 2 or not words[1].isdigit():
            raise _Failed(Trouble.NO_WAY, "it does not speak HTTP")
        if not words[1].startswith("1"):
            fields = (line.partition(":") for line in lines[1:])
            return int(words[1]), {name.strip().lower(): value.strip() for name, _, value in fields}
    raise _Failed(Trouble.NO_WAY, "it does not come to an answer")


async def _body(reader: asyncio.StreamReader, fields: dict[str, str], ceiling: int) -> bytearray:
    found = bytearray()
    if "chunked" in fields.get("transfer-encoding", "").lower():
        while size := int((await reader.readuntil(b"\n")).partition(b";")[0].strip() or b"0", 16):
            await _take(reader, found, size, ceiling)
            await reader.readuntil(b"\n")
        return found
    if (length := fields.get("content-length", "")).isdigit():
        await _take(reader, found, int(length), ceiling)
        return found
    while block := await reader.read(_BLOCK):
        found += block
        if len(found) > ceiling:
            raise _too_large(ceiling)
    return found


async def _take(reader: asyncio.StreamReader, found: bytearray, size: int, ceiling: int) -> None:
    if size < 0 or len(found) + size > ceiling:
        raise _too_large(ceiling)
    while size:
        block = await reader.read(min(size, _BLOCK))
        if not block:
            raise EOFError("it was cut off in the middle")
        found += block
        size -= len(block)


def _too_large(ceiling: int) -> _Failed:
    return _Failed(Trouble.TOO_LARGE, f"it is larger than {ceiling // 1024} KiB")
