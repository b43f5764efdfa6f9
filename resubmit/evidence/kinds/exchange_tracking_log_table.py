"""What a message tracking log tells of a mail in earlier rows, kept for its later ones.

When the server took the mail, whom it is for, which address was made of which, which group a member is of.
Plain and bounded: the mail not heard of for the longest time goes.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from resubmit.evidence.loglines import newest
from resubmit.model.moment import Ms

MEMORY_LIMIT = 256 * 1024
_MOST_MAILS = 20_000
_MOST_PEOPLE = 1_000
"""Addresses kept of one mail."""
_MOST_IN_ALL = 200_000


@dataclass(slots=True)
class Mail:
    """One mail. open: recipients with no end yet, as written, by lower case; origins: the address before, by
    the new one; groups: the group, by its member."""

    taken_at: Ms | None = None
    open: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)

    def expect(self, address: str) -> None:
        """A recipient whose fate is to come."""
        _keep(self.open, address, address)

    @property
    def people(self) -> int:
        """How many addresses it holds."""
        return len(self.open) + len(self.origins) + len(self.groups)

    def settle(self, address: str) -> None:
        """A recipient's end."""
        self.open.pop(address.lower(), None)

    def rewritten(self, before: str, address: str) -> None:
        """An address that another was made of."""
        if before.lower() != address.lower():
            _keep(self.origins, address, self.origins.get(before.lower(), before))
            self.settle(before)
            self.expect(address)

    def member(self, group: str, address: str) -> None:
        """A member of a group."""
        _keep(self.groups, address, group)
        self.expect(address)


def _keep(where: dict[str, str], key: str, value: str) -> None:
    if len(where) < _MOST_PEOPLE or key.lower() in where:
        where[key.lower()] = value


class Mails:
    """The mails heard of lately, by the best id they have."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Mail] = OrderedDict()
        self._people = 0
        self._last: tuple[Mail, int] = (Mail(), 0)

    def of(self, network: str, message_id: str, internal: str) -> Mail:
        """The mail of these ids, begun where it is not known; a new one each time where it has none."""
        key = (network or message_id.lower() or internal)[:400]
        if not key:
            return Mail()
        before, people = self._last
        self._people += before.people - people
        if network and key not in self._known and message_id and message_id.lower()[:400] in self._known:
            # Told of before by a version that has no network ids.
            self._known[key] = self._known.pop(message_id.lower()[:400])
        mail = self._known.setdefault(key, Mail())
        self._known.move_to_end(key)
        while len(self._known) > 1 and (len(self._known) > _MOST_MAILS or self._people > _MOST_IN_ALL):
            self._people -= self._known.popitem(last=False)[1].people
        self._last = mail, mail.people
        return mail

    def plain(self, room: int) -> list[list[object]]:
        """The newest mails as plain values that take at most `room` characters as JSON."""
        mails = reversed(self._known.items())
        return newest(([key, m.taken_at, m.open, m.origins, m.groups] for key, m in mails), room)

    def restore(self, plain: object) -> None:
        """What `plain` gave; anything else is forgotten."""
        for one in plain if isinstance(plain, list) else []:
            match one:
                case [str(key), taken, dict(waiting), dict(origins), dict(groups)]:
                    at = taken if isinstance(taken, int) else None
                    mail = Mail(at, _texts(waiting), _texts(origins), _texts(groups))
                    self._known[key] = mail
                    self._people += mail.people


def _texts(plain: dict[object, object]) -> dict[str, str]:
    return {k: v for k, v in plain.items() if isinstance(k, str) and isinstance(v, str)}
