"""An SMTP conversation overheard in a log: who was taken, who was refused, and where it broke off.

Commands and replies go in as the log has them, also pipelined; out comes what they tell of each recipient.

Promises: never raises; memory is bounded; a transaction's recipients are told of once.

Source: RFC 5321 §4, RFC 2920 (replies come in the order of the commands), RFC 3030 (BDAT).
Limits: a log begun in the middle of a conversation tells only of what was asked after that.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

_MOST_HELD = 200
"""Lines of one reply."""
_MOST_PENDING = 2_000
_MOST_RECIPIENTS = 2_000
_REPLY = re.compile(r"\s*([2-5]\d\d)(?:([ -])(.*))?$", re.DOTALL)
_OF_MAIL = re.compile(r"250[ -]2\.1\.0 .*\bsender\b", re.IGNORECASE)
_PATH = re.compile(
    r"(?:FROM|TO)\s*:\s*(?:<((?:\"[^\"]*\"|[^<>\"])*)>|(\S*))\s*(.*)$", re.IGNORECASE | re.DOTALL
)
_AUTH = ("AUTH", "X-EXPS")
_PROXY = "XPROXY"
_ALONE = ("EHLO", "HELO", "STARTTLS", "X-ANONYMOUSTLS", "BODY")
"""After these a client waits for the answer (RFC 2920 §3.1): another command means that the log lacks it."""
_VERBS = frozenset(
    ["EHLO", "HELO", "STARTTLS", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "QUIT", "NOOP", "VRFY", "HELP"]
)


@dataclass(frozen=True, slots=True)
class Told:
    """What the conversation tells. how: `taken`, `refused`, `cut` (no answer came), or `session` (no mail
    was begun, and why). recipient: "" where it concerns the mail or session as a whole. stage: the step."""

    how: str
    stage: str
    text: str
    code: int | None = None
    recipient: str = ""
    original: str = ""


@dataclass(slots=True)
class Transaction:
    """One mail: its envelope so far, and who was accepted and still has no end."""

    sender: str = ""
    envelope_id: str = ""
    size: int | None = None
    asked: int = 0
    accepted: dict[str, str] = field(default_factory=dict)
    refusal: tuple[int, str] | None = None
    over: bool = False


@dataclass(slots=True)
class _Asked:
    """A command whose reply is to come."""

    verb: str
    address: str = ""
    original: str = ""
    of: Transaction | None = None


class Conversation:
    """One session. whole: a reply `250-…` goes on in the next lines; else only first lines are in the log."""

    def __init__(self, *, whole: bool = True) -> None:
        self.mail = Transaction(over=True)
        """The latest transaction."""
        self.mails = 0
        self.host = ""
        """The name in the greeting."""
        self.offered = ""
        """The reply to EHLO."""
        self.secured = False
        self.said_hello = False
        self.is_inside = False
        """It is spoken between Exchange servers of one organisation."""
        self._whole = whole
        self._asked: deque[_Asked] = deque()
        self._greeted = False
        self._handshake = False
        self._held: list[str] = []
        self._last = ""

    def command(self, text: str) -> list[Told]:
        """A command was sent."""
        told = self._flush()
        words = text.split(None, 1)
        verb = words[0].upper() if words else ""
        if self._handshake:
            self._handshake, self.secured = False, True
        self._greeted = True
        self._last = verb
        if self._asked and self._asked[-1].verb in _AUTH and verb not in _VERBS:
            return told  # what is said within AUTH has no answer of its own
        if self._asked and self._asked[-1].verb in _ALONE:
            self._pass_to(None)
        asked = _Asked(verb, of=self.mail)
        if verb == "MAIL":
            told += self._begin(text)
            asked.of = self.mail
        elif verb == "RCPT":
            if self.mail.over and not self.mails:  # the log begins behind its MAIL
                self.mail, self.mails = Transaction(), 1
                asked.of = self.mail
            asked.address, rest = _path(text)
            asked.original = _original(rest)
            self.mail.asked += 1
        elif verb == "BDAT":
            asked.verb = "LAST" if text.upper().rstrip().endswith("LAST") else "BDAT"
        elif verb in ("RSET", "QUIT"):
            told += self._unasked()
            self.mail.over = True
        elif verb in ("EHLO", "HELO"):
            self.said_hello = True
        elif verb == "X-ANONYMOUSTLS" or verb.startswith(_PROXY):
            self.is_inside = verb == "X-ANONYMOUSTLS"  # the front end passes on what the far side answers
        if len(self._asked) < _MOST_PENDING:
            self._asked.append(asked)
        return told

    def reply(self, text: str) -> list[Told]:
        """A line of a reply came."""
        found = _REPLY.match(text)
        if found is None:
            if 0 < len(self._held) < _MOST_HELD:
                self._held.append(text.strip())
            return []
        told: list[Told] = []
        if self._held and not self._held[0].startswith(found[1]):
            told += self._flush()
        if found[2] == "-" and self._whole:
            if len(self._held) < _MOST_HELD:
                self._held.append(text.strip())
            return told
        lines, self._held = [*self._held, text.strip()], []
        return told + self._answer(int(found[1]), _joined(lines))

    def end(self) -> list[Told]:
        """The log ends here: a refusal is told that waited for the recipients it is about."""
        return [*self._flush(), *self._unasked()]

    def closed(self, text: str) -> list[Told]:
        """The connection was closed; `text` says how it is to be called."""
        told = self._flush()
        if self.mails:
            told += self._unasked()
            mail = self.mail
            if not mail.over:
                waiting = next((a.verb for a in self._asked if a.verb not in ("QUIT", "RSET")), self._last)
                stage = {"BODY": "body", "LAST": "body"}.get(waiting, waiting.lower())
                people = dict(mail.accepted)
                people |= {a.address: a.original for a in self._asked if a.verb == "RCPT" and a.of is mail}
                code, said = mail.refusal or (None, text)
                how = "cut" if mail.refusal is None else "refused"
                told += [Told(how, stage, said, code, one, first) for one, first in people.items()]
        elif self._handshake:
            told.append(Told("session", "tls", f"TLS negotiation failed: {text}"))
        elif not self._greeted:
            told.append(Told("session", "greeting", f"{text} before the greeting"))
        self._asked.clear()
        self.mail.over, self._handshake = True, False
        return told

    @property
    def awaited(self) -> str:
        """The command whose reply is to come next, `BODY` for the data; "" for none."""
        return self._asked[0].verb if self._asked else ""

    @property
    def awaited_address(self) -> str:
        """The recipient whose reply is to come next, "" for none."""
        return self._asked[0].address if self._asked else ""

    @property
    def in_handshake(self) -> bool:
        """STARTTLS was answered 220, and nothing was said since."""
        return self._handshake

    @property
    def is_plain_end(self) -> bool:
        """Whether the client left without a mail, having been offered no STARTTLS: it demands TLS."""
        told = self.offered and not self.secured and not self.mails
        return bool(told) and "STARTTLS" not in self.offered.upper() and self._last == "QUIT"

    def _begin(self, text: str) -> list[Told]:
        told = self._unasked()
        sender, rest = _path(text)
        size = re.search(r"\bSIZE=(\d{1,15})\b", rest, re.IGNORECASE)
        envid = re.search(r"\bENVID=(\S{1,100})", rest, re.IGNORECASE)
        self.mail = Transaction(sender, envid[1] if envid else "", int(size[1]) if size else None)
        self.mails += 1
        return told

    def _unasked(self) -> list[Told]:
        """A refusal at MAIL after which no recipient was asked for: it is about all of them."""
        mail = self.mail
        if mail.over or mail.refusal is None or mail.asked:
            return []
        mail.over = True
        return [Told("refused", "mail", mail.refusal[1], mail.refusal[0])]

    def _flush(self) -> list[Told]:
        if not self._held:
            return []
        lines, self._held = self._held, []
        return self._answer(int(lines[0][:3]), _joined(lines))

    def _answer(self, code: int, text: str) -> list[Told]:
        if not self._asked:
            return self._unprompted(code, text)
        if _OF_MAIL.match(text) and not any(asked.verb == "MAIL" for asked in self._asked):
            return []  # to a MAIL that came before the log begins
        self._pass_to(_belongs(code, text))
        asked = self._asked.popleft()
        mail = asked.of or self.mail
        bad = code >= 400
        match asked.verb:
            case "MAIL":
                if bad:
                    mail.refusal = code, text
                if code == 421 and not mail.asked:  # the connection ends: no recipient will come
                    return self._unasked() if mail is self.mail else []
            case "RCPT":
                return self._recipient(asked, mail, code, text)
            case "DATA" | "BDAT" if bad:
                return self._all(mail, "refused", "data", code, text)
            case "DATA" if code == 354:
                self._asked.appendleft(_Asked("BODY", of=mail))
            case "BODY" | "LAST" | "DATA":
                return self._all(mail, "refused" if bad else "taken", "body", code, text)
            case "STARTTLS" | "X-ANONYMOUSTLS":
                self._handshake = not bad
                if bad:
                    return [Told("session", "starttls", text, code)]
            case "EHLO" | "HELO":
                self.said_hello = not bad
                if not bad and asked.verb == "EHLO":
                    self.offered = text[:4_000]
                elif bad and (asked.verb == "HELO" or code // 100 == 4):
                    return [
                        Told("session", "ehlo", text, code)
                    ]  # EHLO refused for good is asked again as HELO
            case "RSET" | "QUIT":
                pass
            case _:
                if code == 334 and asked.verb in _AUTH:
                    self._asked.appendleft(asked)
                elif bad and not self.mails and (asked.verb in _AUTH or asked.verb.startswith(_PROXY)):
                    # Exchange's transport service hands out through its front end: who answered, and how.
                    return [Told("session", "auth" if asked.verb in _AUTH else "proxy", text, code)]
        return []

    def _pass_to(self, verbs: tuple[str, ...] | None) -> None:
        """Leave out commands whose answers the log lacks, up to the first of these, if there is one; None:
        all. A recipient among them was accepted, for the conversation went on."""
        if verbs is not None and not any(asked.verb in verbs for asked in self._asked):
            return
        while self._asked and (verbs is None or self._asked[0].verb not in verbs):
            asked = self._asked.popleft()
            if asked.verb == "RCPT" and asked.of is not None:
                self._recipient(asked, asked.of, 250, "")

    def _unprompted(self, code: int, text: str) -> list[Told]:
        first, self._greeted = not self._greeted, True
        if first and code == 220:
            name = re.match(r"220[ -]\s*([\w.-]+\.[\w.-]+)", text)
            self.host = name[1].rstrip(".") if name else ""
        if code >= 400 and not self.mails:
            return [Told("session", "greeting" if first else "", text, code)]
        if code == 421 and not self.mail.over:
            return self._all(self.mail, "refused", "data", code, text)
        return []

    def _recipient(self, asked: _Asked, mail: Transaction, code: int, text: str) -> list[Told]:
        if mail.refusal is not None:
            code, text = mail.refusal
            return [Told("refused", "mail", text, code, asked.address, asked.original)]
        if code >= 400:
            return [Told("refused", "rcpt", text, code, asked.address, asked.original)]
        if len(mail.accepted) < _MOST_RECIPIENTS:
            mail.accepted[asked.address] = asked.original
        return []

    def _all(self, mail: Transaction, how: str, stage: str, code: int, text: str) -> list[Told]:
        people, mail.accepted, mail.over = mail.accepted, {}, True
        if not people and mail.refusal is not None and not mail.asked:
            code, text = mail.refusal
            return [Told("refused", "mail", text, code)]
        return [Told(how, stage, text, code, one, original) for one, original in people.items()]

    def plain(self) -> dict[str, object]:
        """What it knows, as plain values."""
        return {
            "mail": asdict(self.mail),
            "mails": self.mails,
            "host": self.host,
            "offered": self.offered,
            "secured": self.secured,
            "said_hello": self.said_hello,
            "is_inside": self.is_inside,
            "asked": [[a.verb, a.address, a.original, a.of is self.mail] for a in self._asked],
            "greeted": self._greeted,
            "handshake": self._handshake,
            "held": self._held,
            "last": self._last,
        }

    def restore(self, plain: object) -> None:
        """What `plain` gave; anything else is forgotten."""
        if not isinstance(plain, dict):
            return
        self.mail = _transaction(plain.get("mail"))
        self.mails = plain["mails"] if isinstance(plain.get("mails"), int) else 0
        self.host, self.offered, self._last = (_text(plain.get(k)) for k in ("host", "offered", "last"))
        self.is_inside = plain.get("is_inside") is True
        self.secured, self._greeted = plain.get("secured") is True, plain.get("greeted") is True
        self._handshake, self.said_hello = plain.get("handshake") is True, plain.get("said_hello") is True
        held = [line for line in _list(plain.get("held")) if isinstance(line, str)][:_MOST_HELD]
        # Only a reply is held, though what goes on in it may be any text.
        self._held = held if held and _REPLY.match(held[0]) else []
        for one in _list(plain.get("asked")):
            match one:
                case [str(verb), str(address), str(original), bool(latest)]:
                    of = self.mail if latest else Transaction(over=True)
                    self._asked.append(_Asked(verb, address, original, of))


def _belongs(code: int, text: str) -> tuple[str, ...]:
    """The commands that only can have such an answer."""
    if code == 221:
        return ("QUIT",)
    if code == 354:
        return ("DATA",)
    if code == 250 and re.match(r"250 2\.6\.0 |250 .*\bqueued\b", text, re.IGNORECASE):
        return ("BODY", "LAST", "DATA")
    return ()


def _transaction(plain: object) -> Transaction:
    match plain:
        case {
            "sender": str(sender),
            "envelope_id": str(envelope_id),
            "size": size,
            "asked": int(asked),
            "accepted": dict(accepted),
            "refusal": refusal,
            "over": bool(over),
        }:
            told = None
            match refusal:
                case [int(code), str(text)]:
                    told = code, text
            people = {k: v for k, v in accepted.items() if isinstance(k, str) and isinstance(v, str)}
            return Transaction(
                sender, envelope_id, size if isinstance(size, int) else None, asked, people, told, over
            )
    return Transaction(over=True)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _joined(lines: Iterable[str]) -> str:
    """The lines of a reply on one, as they came: `550-5.7.1 a 550 5.7.1 b`."""
    return " ".join(" ".join(lines).split())[:8_000]


def _path(text: str) -> tuple[str, str]:
    """The address of a MAIL or RCPT command, and its parameters."""
    found = _PATH.search(text[:4_000])
    if found is None:
        return "", ""
    address = found[1] if found[1] is not None else found[2] or ""
    # A source route means the address behind it (RFC 5321 §3.3).
    return re.sub(r"^@[^:]*:", "", address.strip()), found[3] or ""


def _original(parameters: str) -> str:
    """The address in ORCPT, decoded; "" for none."""
    found = re.search(r"\bORCPT=[\w-]+;(\S+)", parameters, re.IGNORECASE)
    if not found:
        return ""
    return re.sub(r"\+([0-9A-F]{2})", lambda m: chr(int(m[1], 16)), found[1])
