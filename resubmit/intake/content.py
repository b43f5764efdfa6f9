"""The octets of DATA and BDAT: where they end, and whether they may be journaled as they are.

Promises: only CRLF.CRLF ends DATA; a CR or LF that stands alone never ends a line, here or at any later
hop, because the message is refused at its true end or (`crlf`) made whole before it is kept. Nothing is
held back but the few octets that may be the start of an end.
Source: RFC 5321 §4.5.2 (dots), §2.3.8 (lines), RFC 3030 §2 (BDAT); SMTP smuggling, CVE-2023-51764 to 51766.
Limits: a line may be of any length (RFC 5321 asks to take 1000 octets at least); it is never held whole.
"""

from __future__ import annotations

from resubmit.errors import Refused

_END = b"\r\n.\r\n"
_STARTS = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")


class Sieve:
    """Counts and checks decoded octets; once something is wrong nothing more passes."""

    __slots__ = ("_limit", "_mend", "bare", "size")

    def __init__(self, limit: int, bare_newline: str) -> None:
        self._limit = limit
        self._mend = bare_newline == "crlf"
        self.size = 0
        self.bare = False

    def sift(self, octets: bytes) -> bytes:
        """What of it is to be kept. A CRLF must never be cut in two between calls."""
        lines = octets.count(b"\r\n")
        if lines != octets.count(b"\n") or lines != octets.count(b"\r"):
            if self._mend:
                octets = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
            else:
                self.bare = True
        self.size += len(octets)
        return b"" if self.bare or self.size > self._limit else octets

    @property
    def fault(self) -> Refused | None:
        """Why the message can't be taken. The newline is named first, so that the answer does not depend
        on how the octets were cut."""
        if self.bare:
            return Refused(550, "5.6.0", "a CR or LF stands alone; every line must end in CRLF")
        if self.size > self._limit:
            return too_large(self._limit)
        return None


def too_large(limit: int) -> Refused:
    """The answer to a message above the limit, by SIZE= or by counting."""
    return Refused(552, "5.3.4", f"message larger than {limit} octets")


class Dotted:
    """Reads DATA: takes dots away, finds the end."""

    __slots__ = ("_held", "_skip", "sieve")

    def __init__(self, sieve: Sieve) -> None:
        self.sieve = sieve
        self._held = b"\r\n"  # as if a line had just ended: `.` CRLF alone is an empty message
        self._skip = 2

    def take(self, octets: bytes) -> tuple[bytes, int]:
        """(what is to be kept, how many of `octets` belonged to the message or -1 for all of them and more
        to come)."""
        octets = self._held + octets
        end = octets.find(_END)
        if end >= 0:
            used = end + 5 - len(self._held)
            octets = octets[: end + 2]
        else:
            used = -1
            for start in _STARTS:
                if octets.endswith(start):
                    self._held = start
                    octets = octets[: -len(start)]
                    break
            else:
                self._held = b""
        if b"\r\n." in octets:
            octets = octets.replace(b"\r\n.", b"\r\n")
        if self._skip and octets:
            octets = octets[2:]
            self._skip = 0
        return (self.sieve.sift(octets) if octets else b""), used


class Chunked:
    """Reads BDAT: every octet counts, a last line without its end gets one."""

    __slots__ = ("_blank", "_ended", "_held", "sieve")

    def __init__(self, sieve: Sieve) -> None:
        self.sieve = sieve
        self._held = b""
        self._blank = True
        self._ended = False

    def take(self, octets: bytes, last: bool) -> bytes:
        """What is to be kept; `last`: these are the last octets of the message."""
        if self._held:
            octets = self._held + octets
            self._held = b""
        if not last and octets.endswith(b"\r"):
            octets, self._held = octets[:-1], b"\r"
        if octets:
            self._blank = False
            # A lone CR or LF at the end is the sieve's to judge: adding a CRLF there would hide nothing.
            self._ended = octets.endswith(b"\r\n") or octets[-1:] in (b"\r", b"\n")
        if last and not self._blank and not self._ended:
            octets += b"\r\n"
        return self.sieve.sift(octets) if octets else b""
