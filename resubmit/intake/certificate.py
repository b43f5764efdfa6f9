"""The listener's certificate, read again when its files change, so that a renewal needs no restart.

Source: RFC 3207; RFC 8996 (TLS 1.0 and 1.1 are gone).
Limits: while the new files don't fit together (a renewal writes them one after the other) the old pair is
used on.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import structlog

from resubmit import logbook
from resubmit.errors import UsageError

log = structlog.get_logger()


class Certificate:
    """A PEM chain and its key; without `key` the chain's file holds both."""

    def __init__(self, chain: Path, key: Path | None) -> None:
        self._chain = chain
        self._key = key
        self._seen: tuple[tuple[int, int, int], ...] = ()
        self._context: ssl.SSLContext | None = None

    def load(self) -> None:
        """The pair is usable. UsageError when it is not."""
        try:
            self._seen = self._look()
            self._context = self._read()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise UsageError(
                f"the TLS certificate {self._chain} can't be used: {error}",
                hint="tls_certificate and tls_key must be a PEM chain and its own unencrypted key",
            ) from error

    def context(self) -> ssl.SSLContext:
        """The newest usable pair, for one handshake. Reads files: not for the loop's own thread."""
        try:
            seen = self._look()
            if seen != self._seen:
                self._seen = seen
                self._context = self._read()
                log.info(logbook.INTAKE_CERTIFICATE_LOADED, path=str(self._chain))
        except (OSError, ValueError) as error:
            log.error(logbook.INTAKE_CERTIFICATE_UNREADABLE, path=str(self._chain), error=str(error))
        assert self._context is not None, "load() comes first"
        return self._context

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        files = [self._chain.stat(), *([self._key.stat()] if self._key else [])]
        return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in files)

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # An encrypted key would ask at the terminal: an empty password makes it an error instead.
        context.load_cert_chain(self._chain, self._key, password=lambda: "")
        return context
