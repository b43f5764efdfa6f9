"""What a client has sent and nobody has used yet: taken by the line, or by the octet.

Promises: a command line is held up to LINE_LIMIT octets and no further, whatever is sent.
"""

from __future__ import annotations

LINE_LIMIT = 4096
"""Octets of a command line. RFC 5321 §4.5.3.1.4 asks for 512, the extensions here for about 1100."""


class Inlet:
    """A buffer of octets."""

    __slots__ = ("_at", "_buffer", "_skipping")

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0  # what of the buffer is used up
        self._skipping = False  # the rest of a line that is too long

    def __len__(self) -> int:
        return len(self._buffer) - self._at

    def feed(self, octets: bytes) -> None:
        """These come behind what is there."""
        self._buffer = self._buffer[self._at :] + octets if self._at < len(self._buffer) else octets
        self._at = 0

    def clear(self) -> None:
        """Nothing is there."""
        self._buffer, self._at, self._skipping = b"", 0, False

    def line(self) -> bytes | None:
        """The next line with its LF; b"" for one longer than LINE_LIMIT; None while it has no end."""
        end = self._buffer.find(b"\n", self._at)
        if end < 0:
            if self._skipping or len(self) > LINE_LIMIT:
                self.clear()
                self._skipping = True
            return None
        line = self._buffer[self._at : end + 1]
        self._at = end + 1
        if self._skipping or len(line) > LINE_LIMIT:
            self._skipping = False
            return b""
        return line

    def take(self, most: int | None = None) -> bytes:
        """The next octets, all of them or `most`; b"" when there are none."""
        if self._at == 0 and (most is None or most >= len(self._buffer)):
            octets, self._buffer = self._buffer, b""
            return octets
        end = len(self._buffer) if most is None else self._at + most
        octets = self._buffer[self._at : end]
        self._at += len(octets)
        return octets

    def put_back(self, octets: bytes, used: int) -> None:
        """What was just taken is there again, behind its first `used` octets; nothing may be there now."""
        self._buffer, self._at = octets, used
