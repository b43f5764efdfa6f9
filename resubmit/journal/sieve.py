"""Which keys the journal surely does not hold: most rows of a trace are about other people's mail.

Promises: a key that the journal holds always passes; of those it does not hold about one in seventy does.
Memory: 2 to 4 octets a message and kind of key.
Limits: keys are compared as hashed by this process, so that nothing of it is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from resubmit.journal.connection import sqlite3

_BITS_A_KEY = 16
_LEAST_BITS = 1 << 20

_DAY_KEYS = {
    "message": "select key from message where day = ? and key <> ''",
    "binding": "select network_message_id from binding where day = ?",
    "offer": "select next_key from offer where day = ? and next_key is not null",
}

_SIZE = "select count(*), coalesce(max(id), 0) from message"

_NEW_MESSAGES = "select id, key from message where id > ? order by id"


class Sieve:
    """A Bloom filter of two bits a key (Bloom, CACM 13/7, 1970). `keys`: how many are expected."""

    def __init__(self, keys: int) -> None:
        bits = max(1 << (keys * _BITS_A_KEY).bit_length(), _LEAST_BITS)
        self._bits = bytearray(bits >> 3)
        self._mask = bits - 1
        self._left = bits // _BITS_A_KEY

    @property
    def is_full(self) -> bool:
        """Whether it holds more than it has room for, and lets too much pass."""
        return self._left < 0

    def add(self, keys: Iterable[str]) -> None:
        """These pass from now on."""
        bits, mask = self._bits, self._mask
        for key in keys:
            mixed = hash(key)
            one, two = mixed & mask, (mixed >> 32) & mask
            bits[one >> 3] |= 1 << (one & 7)
            bits[two >> 3] |= 1 << (two & 7)
            self._left -= 1

    def passes(self, key: str) -> bool:
        """False: it was never added."""
        mixed = hash(key)
        one, two = mixed & self._mask, (mixed >> 32) & self._mask
        return bool(self._bits[one >> 3] >> (one & 7) & self._bits[two >> 3] >> (two & 7) & 1)


def begin(connection: sqlite3.Connection) -> Sieves:
    """Empty sieves with room for the journal as it is, and as many again."""
    messages, newest = connection.execute(_SIZE).fetchone()
    return Sieves(messages, newest)


def _forms(keys: Iterable[str]) -> Iterator[str]:
    """Ids as they are, and Exchange's `<InternalId>@<host>` as its logs have it too."""
    for key in keys:
        yield key
        number, at, _ = key.partition("@")
        if at:
            yield number


class Sieves:
    """Message-ID keys, bound network message ids and next hops' ids of a journal.

    `told`: ids that a write not yet seen here has bound or got, by table; put there by any thread.
    """

    def __init__(self, messages: int, newest: int) -> None:
        self.told: deque[tuple[str, str]] = deque()
        self.is_ready = False
        self._newest = newest
        self._of = {table: Sieve(2 * messages) for table in _DAY_KEYS}

    @property
    def is_full(self) -> bool:
        return any(sieve.is_full for sieve in self._of.values())

    def load(self, connection: sqlite3.Connection, table: str, day: int) -> None:
        """What one day of a table holds."""
        keys = (key for (key,) in connection.execute(_DAY_KEYS[table], (day,)))
        self._of[table].add(_forms(keys) if table == "offer" else keys)

    def keep_up(self, connection: sqlite3.Connection) -> None:
        """What has come since the last time."""
        while self.told:
            table, key = self.told.popleft()
            self._of[table].add(_forms([key]))
        for message, key in connection.execute(_NEW_MESSAGES, (self._newest,)):
            self._newest = message
            self._of["message"].add((key,))

    def passes(self, table: str, key: str) -> bool:
        """False: no row of that table has the key."""
        return self._of[table].passes(key)
