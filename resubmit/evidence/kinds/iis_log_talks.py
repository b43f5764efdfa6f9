"""The conversations in an IIS SMTP log: which row belongs to which, and which mail a recipient is of.

Rows carry no id of their connection. What a host answers belongs to the one conversation with it that waits;
where several do, nobody can tell, and what they say is set aside rather than given to the wrong recipient.
A mail that goes out is linked to the one that came in with the same sender and recipient, if there is one.

Limits: two conversations with one host at the same time are followed only while their rows fit one of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from resubmit.evidence.conversation import Conversation, Told
from resubmit.evidence.kinds.iis_log_rows import Line
from resubmit.evidence.loglines import newest
from resubmit.model.moment import DAY, MINUTE, SECOND, Ms

_MOST_PEERS = 2_000
_MOST_TALKS = 8
_MOST_PAIRS = 20_000
_MOST_OF_A_PAIR = 20
_MOST_RECIPIENTS = 2_000
_IDLE: Ms = 10 * MINUTE
_HANDSHAKE: Ms = 15 * SECOND
_QUEUED_FOR: Ms = 3 * DAY
_LOST = "connection closed"


@dataclass(slots=True)
class Talk:
    """One outbound conversation. unsure: a row of it may belong to another one; latest, place, raw: its last
    row's."""

    said: Conversation = field(default_factory=lambda: Conversation(whole=False))
    unsure: bool = False
    latest: Ms | None = None
    blamed: bool = False
    peer: str = ""
    place: str = ""
    raw: str = ""

    def met(self, line: Line, place: str, raw: str) -> None:
        """A row of it."""
        self.latest, self.peer, self.place, self.raw = line.at, line.peer, place, raw

    def plain(self) -> list[object]:
        """As plain values."""
        said = self.said.plain()
        return [said, self.unsure, self.latest, self.blamed, self.peer, self.place, self.raw[:500]]

    def fits(self, verb: str) -> bool:
        """Whether a command may come next in it."""
        open_mail = not self.said.mail.over
        match verb:
            case "EHLO" | "HELO":
                return not open_mail
            case "MAIL":
                return self.said.said_hello and not open_mail
            case "RCPT":
                return open_mail
            case "DATA" | "BDAT":
                return open_mail and (bool(self.said.mail.accepted) or self.said.awaited == "RCPT")
        return True


class Talks:
    """Everything a server says to the hosts it sends to."""

    def __init__(self) -> None:
        self._peers: OrderedDict[str, list[Talk]] = OrderedDict()

    def command(self, line: Line, place: str, raw: str) -> list[tuple[Talk, list[Told]]]:
        """A command to a host."""
        talks, told = self._talks(line)
        fitting = [t for t in talks if not t.said.awaited and t.fits(line.verb)]
        if not fitting:
            fitting = [t for t in talks if t.fits(line.verb)] or talks
        talk = fitting[-1] if fitting else self._begun(talks)
        if len(fitting) > 1:
            for other in fitting:
                other.unsure = True
        talk.met(line, place, raw)
        return [*told, (talk, talk.said.command(f"{line.verb} {line.words}".strip()))]

    def response(self, line: Line, place: str, raw: str) -> list[tuple[Talk, list[Told]]]:
        """A host's reply."""
        talks, told = self._talks(line)
        waiting = [t for t in talks if t.said.awaited]
        text = line.words
        if text.startswith("220") and not any(t.said.awaited == "STARTTLS" for t in waiting):
            # A greeting: a conversation begins. One that only waited for its farewell is over.
            over = ("QUIT", "RSET")
            talks[:] = [t for t in talks if t.said.awaited not in over and (t.said.awaited or _alive(t))]
            talk = self._begun(talks)
        elif len(waiting) > 1:
            lower = text.lower()
            named = [t for t in waiting if t.said.awaited_address and t.said.awaited_address.lower() in lower]
            talk = named[0] if len(named) == 1 else waiting[0]
            if len(named) != 1:
                for other in waiting:
                    other.unsure = True
        else:
            talk = waiting[0] if waiting else talks[-1] if talks else self._begun(talks)
        talk.met(line, place, raw)
        answer = (talk, talk.said.reply(text))
        if text.startswith("221") and talk in talks:
            talks.remove(talk)
        return [*told, answer]

    def end(self) -> list[tuple[Talk, list[Told]]]:
        """Handshakes after which nothing came any more, and refusals of mails that had no recipient yet."""
        return [
            (talk, talk.said.closed(_LOST) if talk.said.in_handshake else talk.said.end())
            for talks in self._peers.values()
            for talk in talks
        ]

    def _talks(self, line: Line) -> tuple[list[Talk], list[tuple[Talk, list[Told]]]]:
        """The conversations with a row's host, and what those tell that have been silent for too long."""
        key = f"{line.server} {line.peer}"
        talks = self._peers.setdefault(key, [])
        self._peers.move_to_end(key)
        if len(self._peers) > _MOST_PEERS:
            self._peers.popitem(last=False)
        told = []
        for talk in list(talks):
            limit = _HANDSHAKE if talk.said.in_handshake else _IDLE
            if line.at is not None and talk.latest is not None and line.at - talk.latest > limit:
                told.append((talk, talk.said.closed(_LOST)))
                talks.remove(talk)
        return talks, told

    def _begun(self, talks: list[Talk]) -> Talk:
        talk = Talk()
        talks.append(talk)
        if len(talks) > _MOST_TALKS:
            del talks[0]
        return talk

    def plain(self, room: int) -> list[list[object]]:
        """The conversations heard of last, as plain values that take at most `room` characters as JSON."""
        peers = reversed(self._peers.items())
        kept = newest(([key, [talk.plain() for talk in talks]] for key, talks in peers), room)
        return [one for one in kept if one[1]]

    def restore(self, plain: object) -> None:
        """What `plain` gave; anything else is forgotten."""
        for peer in plain if isinstance(plain, list) else []:
            match peer:
                case [str(key), list(talks)]:
                    restored = [talk for one in talks[:_MOST_TALKS] if (talk := _talk(one)) is not None]
                    self._peers.setdefault(key, []).extend(restored)


def _talk(plain: object) -> Talk | None:
    match plain:
        case [said, bool(u), int() | None as at, bool(blamed), str(peer), str(place), str(raw)]:
            talk = Talk(Conversation(whole=False), u, at, blamed, peer, place, raw)
            talk.said.restore(said)
            return talk
    return None


def _alive(talk: Talk) -> bool:
    """Whether an idle conversation is in the middle of a mail."""
    return not talk.said.mail.over or talk.said.in_handshake


@dataclass(slots=True)
class Coming:
    """A mail that a client is bringing. unsure: the same client brings another one at the same time."""

    sender: str
    recipients: list[str] = field(default_factory=list)
    unsure: bool = False

    def add(self, recipient: str) -> None:
        """A recipient that was accepted."""
        if len(self.recipients) < _MOST_RECIPIENTS:
            self.recipients.append(recipient)


class Comings:
    """The mails clients are bringing, by client."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, list[Coming]] = OrderedDict()

    def begin(self, client: str, sender: str) -> Coming:
        """A MAIL that was accepted."""
        mails = self._open.setdefault(client, [])
        self._open.move_to_end(client)
        if len(self._open) > _MOST_PEERS:
            self._open.popitem(last=False)
        mails.append(Coming(sender, unsure=bool(mails)))
        if len(mails) > 1:
            mails[0].unsure = True
        del mails[:-_MOST_TALKS]
        return mails[-1]

    def of(self, client: str) -> Coming | None:
        """The mail of the client's next row, None for none."""
        mails = self._open.get(client, [])
        return mails[0] if mails else None

    def end(self, client: str) -> Coming | None:
        """The mail that came, or was given up; None for none."""
        mails = self._open.get(client, [])
        return mails.pop(0) if mails else None

    def plain(self, room: int) -> list[list[object]]:
        """As plain values that take at most `room` characters as JSON, the newest first."""
        coming: Iterator[list[object]] = (
            [client, [[m.sender, m.recipients, m.unsure] for m in mails]]
            for client, mails in reversed(self._open.items())
        )
        return [one for one in newest(coming, room) if one[1]]

    def restore(self, plain: object) -> None:
        """What `plain` gave; anything else is forgotten."""
        for one in plain if isinstance(plain, list) else []:
            match one:
                case [str(client), list(mails)]:
                    for mail in mails[:_MOST_TALKS]:
                        match mail:
                            case [str(sender), list(recipients), bool(unsure)]:
                                people = [r for r in recipients if isinstance(r, str)]
                                self._open.setdefault(client, []).append(Coming(sender, people, unsure))


class Queue:
    """Mails that came in and may go out, by sender and recipient: their Message-ID and when they came."""

    def __init__(self) -> None:
        self._pairs: OrderedDict[str, list[tuple[str, Ms | None]]] = OrderedDict()

    def put(self, sender: str, recipient: str, message_id: str, at: Ms | None) -> None:
        """A mail was taken for a recipient."""
        key = _pair(sender, recipient)
        self._pairs.setdefault(key, []).append((message_id, at))
        del self._pairs[key][:-_MOST_OF_A_PAIR]
        self._pairs.move_to_end(key)
        if len(self._pairs) > _MOST_PAIRS:
            self._pairs.popitem(last=False)

    def get(self, sender: str, recipient: str, at: Ms | None, *, ended: bool) -> tuple[str, Ms | None]:
        """The one mail it can be; "" where there are several or none. ended: it has left the queue."""
        key = _pair(sender, recipient)
        mails = [m for m in self._pairs.get(key, []) if at is None or m[1] is None or at - m[1] < _QUEUED_FOR]
        if len(mails) != 1:
            return "", None
        if ended:
            del self._pairs[key]
        return mails[0]

    def plain(self, room: int) -> list[list[object]]:
        """As plain values that take at most `room` characters as JSON, the newest first."""
        waiting = reversed(self._pairs.items())
        return newest(([key, [list(mail) for mail in mails]] for key, mails in waiting), room)

    def restore(self, plain: object) -> None:
        """What `plain` gave; anything else is forgotten."""
        for one in plain if isinstance(plain, list) else []:
            match one:
                case [str(key), list(mails)]:
                    for mail in mails:
                        match mail:
                            case [str(message_id), int() | None as at]:
                                self._pairs.setdefault(key, []).append((message_id, at))


def _pair(sender: str, recipient: str) -> str:
    return f"{sender.lower()[:320]} {recipient.lower()[:320]}"
