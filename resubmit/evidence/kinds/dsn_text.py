"""A report in words: whom it names, why, and where the returned message begins.

Nearly half of what really comes back has no machine-readable part. What programs write is data
(dsn_dialects.toml): lines that name a recipient, lines before the returned message, words for a delay.
The reason is what stands behind a recipient up to the next one, else the replies of a transcript.

Promises: any text gives a notice, perhaps without recipients; never raises; linear but for short lines.
Source: formats.md section 7.2.
Limits: a report that names its recipient in no way known here gives none.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from resubmit.evidence.kinds.dsn_dialects import Line, is_returned_line, named_by, status_in_words
from resubmit.meaning.classify import layers, meaning_of
from resubmit.model.evidence import Cause, Status

_MOST_LINES = 20_000
_LONGEST_LINE = 2_000
_MOST = 10_000
"""Recipients in words."""
_REASON_LINES = 40
_REASON = 2_000
_SECTION = re.compile(r"[ \t>|]{0,80}(?:-{3}|={5}|_{5}|\*{5}).*")
_REPLY = re.compile(
    r"(?:^|[\s:<>'\"(\[;=,-])(?P<reply>[45]\d\d[ -](?:#?[45]\.\d{1,3}\.\d{1,3}\b|[^\d\s]).*)"
    r"|\b(?P<bare>[45]\.\d\.\d{1,3}[ :-].*)"
)
_HEADER = re.compile(
    r"(?:received|return-path|delivered-to|message-id|dkim-signature|x-received|x-originating-ip|mime-version"
    r"|arc-seal|x-google-[\w-]+|domainkey-signature|authentication-results|envelope-to|x-[\w-]+"
    r"|from|to|date|subject)[ \t]*:",
    re.IGNORECASE,
)
_SURE_HEADER = re.compile(
    r"(?:received[ \t]*:.{0,40}\b(?:from|by)\b|received[ \t]*: \(|return-path[ \t]*:|dkim-signature[ \t]*:"
    r"|(?:x-received|message-id|arc-seal|x-originating-ip|x-google-smtp-source)[ \t]*:)",
    re.IGNORECASE,
)
_ORIGINAL = re.compile(r"\((?:ultimately )?(?:generated|expanded) from:? <?([^<>()\s]+)>?\)", re.IGNORECASE)
_QUOTED_MAIL = re.compile(
    r"\W{0,4}(?:Sent|Gesendet|Envoyé|Enviado|Inviato|Verzonden|送信日時)\s{0,2}:", re.IGNORECASE
)
"""What Outlook writes above a mail that somebody forwards: that is the report, not what came back."""
_COMMAND = re.compile(
    r"\W*(?:>>>|sent <<<|in:|c:)\s*(?P<verb>[A-Z]{4}[^:<]*)(?::?\s*<(?P<address>[^<>]*)>)?", re.I
)
_ANSWER = re.compile(r"\W*?(?:<<<|<--|received >>>|out:|s:)\s*(?P<reply>[45]\d\d[ -].*)", re.IGNORECASE)
_WRAPPED = re.compile(r"^(?:\((?=reason: .*\)$)|(?=reason: ))reason: (?P<reason>.*?)\)?$", re.IGNORECASE)
_HAS_CODE = re.compile(r"[45]\d\d[ -]")
_NOT_TOLD = re.compile(
    r"\b(?:contact|from|sender|reply-to|return-path|sent by|help|support|forward this|write to|e-?mail us"
    r"|mail from|envelope-from|on behalf of|assistance|cc|message-id|in-reply-to"
    r"|send (?:an? )?(?:e-?)?mail)\b[^@]{0,60}$",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Told:
    """One recipient of a notice: the address as written, the reason, the address before an alias.

    weak: it was named in passing. beside: the reason stands on the address's line or the next: it surely is
    one. remote: who gave it, where that is told apart.
    """

    address: str
    text: str = ""
    original: str = ""
    weak: bool = False
    beside: bool = False
    remote: str = ""


@dataclass(slots=True)
class Notice:
    """What a text says: its recipients, the status of all of them (None: not said), the returned message
    that stands in it ("" for none), the text without that, and what of it stands before the recipients."""

    told: list[Told] = field(default_factory=list)
    status: Status | None = None
    returned: str = ""
    text: str = ""
    preface: str = ""


def notice_of(text: str, subject: str = "") -> Notice:
    """What a text part says. subject: the mail's own, decoded."""
    lines = [line[:_LONGEST_LINE] for line in text.split("\n", _MOST_LINES)[:_MOST_LINES]]
    end, begins = _end(lines)
    notice = Notice(returned="\n".join(lines[begins:]), text="\n".join(lines[:end]))
    notice.status = status_in_words(subject, notice.text)
    notice.told, first = _told(lines[:end])
    notice.preface = " ".join(" ".join(lines[:first]).split())[:4_096]
    return notice


def returned_in(text: str) -> str:
    """The returned message that stands in a text, from its header on; "" when there is none."""
    lines = text.split("\n", _MOST_LINES)[:_MOST_LINES]
    return "\n".join(lines[_end(lines)[1] :])


def _end(lines: list[str]) -> tuple[int, int]:
    """The line at which a notice ends, and the one at which the returned message begins."""
    for number, line in enumerate(lines):
        if is_returned_line(line) and not any(
            _QUOTED_MAIL.match(near) for near in lines[number + 1 : number + 7]
        ):
            begins = number + 1
            while begins < len(lines) and (not lines[begins].strip() or _SECTION.fullmatch(lines[begins])):
                begins += 1
            return number, begins
        if _SURE_HEADER.match(line.lstrip("> \t") if line.startswith(">") else line) and _is_header(
            lines, number
        ):
            return number, number
    return len(lines), len(lines)


def _is_header(lines: list[str], at: int) -> bool:
    """Whether a header block begins here: most of the next lines are fields or folded."""
    near = [line.lstrip("> ") if line.startswith(">") else line for line in lines[at : at + 6]]
    fitting = sum(1 for line in near if _HEADER.match(line) or line[:1] in (" ", "\t"))
    return fitting >= min(3, len(near)) and (at == 0 or not lines[at - 1].strip() or fitting >= 4)


def _told(lines: list[str]) -> tuple[list[Told], int]:
    """The recipients, with their reasons; the number of the line that names the first."""
    found: list[tuple[int, Told, Line]] = []
    for number, line in enumerate(lines):
        if "@" not in line and ":" not in line:
            continue
        named = _named(line, lines, number)
        if named is not None and found and _goes_on(line, lines, number, found[-1][1], named[1]):
            continue
        if named is not None:
            found.append((number, *named))
            if len(found) >= _MOST:
                break
    strong = [entry for entry in found if not entry[1].weak]
    chosen = strong or found
    answers = _answers(lines)
    by_address: dict[str, Told] = {}
    for place, (number, told, line_of) in enumerate(chosen):
        if line_of.is_original:
            continue
        following = [entry for entry in chosen[place + 1 : place + 3] if not entry[2].is_original]
        until = following[0][0] if following else len(lines)
        if told.text and (not line_of.whole or not is_telling(told.text)):
            told.text = _continued(told.text, lines, number + 1, until)
        elif not told.text and not line_of.weak:
            skipped = {entry[0] for entry in chosen[place + 1 : place + 3] if entry[2].is_original}
            told.text = _reason(lines, number + 1, until, skipped)
            told.beside = number + 1 < until and bool(lines[number + 1].strip())
        key = told.address.lower()
        if key in answers and not _has_reply(told.text):
            told.text = answers[key]
        behind = " ".join(lines[number + 1 : number + 4])
        if original := _ORIGINAL.search(behind):
            told.original = original[1]
        if place + 1 < len(chosen) and chosen[place + 1][2].is_original:
            told.original = chosen[place + 1][1].address
        known = by_address.get(key)
        if known is None:
            by_address[key] = told
        elif not known.text or (_has_reply(told.text) and not _has_reply(known.text)):
            known.text = told.text
    told_all = list(by_address.values())
    _fill(told_all, lines, answers)
    return told_all, chosen[0][0] if chosen else 0


def _named(line: str, lines: list[str], number: int) -> tuple[Told, Line] | None:
    shown = line.lstrip(" \t>").rstrip()
    for line_of in named_by():
        match = line_of.pattern.match(shown)
        if match is None:
            continue
        address = (
            match["address"].strip("'\"<>").rstrip(".,;:") if "@" in match["address"] else match["address"]
        )
        before = shown[: match.start("address")]
        if _NOT_TOLD.search(before) or address.lower().startswith(("http:", "https:", "mailto:")):
            return None
        if line_of.only_behind and not line_of.only_behind.search(
            " ".join(lines[max(0, number - 12) : number])
        ):
            continue
        if line_of.bare and number and _NOT_TOLD.search(lines[number - 1].strip() + " "):
            return None
        if "@" not in address and not _is_local(line, address):
            continue
        reason = match.groupdict().get("reason") or ""
        if line_of.whole and not _HAS_CODE.match(reason):
            reason = _asked(lines, number) or shown
        return Told(address, reason.strip(" \t:-"), weak=line_of.weak, beside=bool(reason.strip())), line_of
    return None


def _asked(lines: list[str], number: int) -> str:
    """What the server had answered, where Sendmail says but `554 <x>... Remote protocol error`."""
    if not _HAS_CODE.match(lines[number].strip()):
        return ""
    before = lines[number - 1].strip() if number else ""
    if lines[number].rstrip().endswith("Service unavailable") and is_telling(before):
        return f"{before}; {lines[number].strip()}"  # what a local mailer had printed
    for line in reversed(lines[max(0, number - 4) : number]):
        if answer := _ANSWER.match(line):
            return answer["reply"]
        if _HAS_CODE.match(line.strip()):
            break
    return ""


def _is_local(line: str, address: str) -> bool:
    """Whether `<name>:` is a recipient without a domain, and not a tag or a heading."""
    return line.startswith("<") and len(address) <= 64 and "/" not in address


def _goes_on(line: str, lines: list[str], number: int, last: Told, line_of: Line) -> bool:
    """Whether a line that names a recipient is but the next of a reason, as Postfix folds it."""
    folded = line[:3].isspace() and bool(lines[number - 1].strip())
    return folded and last.beside and bool(last.text) and not line_of.bare


def _reason(lines: list[str], begins: int, until: int, skipped: Collection[int] = ()) -> str:
    """The text behind a recipient: its paragraph, or the one further on that has a reply."""
    paragraphs: list[list[str]] = [[]]
    for number, line in enumerate(lines[begins : min(until, begins + _REASON_LINES)], begins):
        if _SECTION.fullmatch(line):
            if paragraphs != [[]]:
                break
            continue
        if number in skipped:
            continue
        clean = _ORIGINAL.sub("", line).strip().lstrip("> |")
        if clean:
            paragraphs[-1].append(clean)
        elif paragraphs[-1]:
            paragraphs.append([])
    texts = [_WRAPPED.sub(r"\g<reason>", " ".join(paragraph)) for paragraph in paragraphs if paragraph]
    best = next((text for text in texts if _has_reply(text)), "")
    if not best and texts:
        best = next((text for text in texts if is_telling(text)), " ".join(texts[:3]))
    return best[:_REASON]


def _continued(text: str, lines: list[str], begins: int, until: int) -> str:
    """A reason that goes on behind its own line, as Postfix folds it."""
    for line in lines[begins : min(until, begins + _REASON_LINES)]:
        if not line.strip() or _SECTION.fullmatch(line) or _COMMAND.match(line):
            break
        text += " " + line.strip().lstrip("> |")
    return text[:_REASON]


def is_telling(text: str) -> bool:
    """Whether a text has a reply or is known to mean something."""
    return _has_reply(text) or meaning_of(text).cause is not Cause.OTHER


def _has_reply(text: str) -> bool:
    return _REPLY.search(text) is not None


def _answers(lines: list[str]) -> dict[str, str]:
    """What a transcript's server answered to each RCPT, by address; "" for every other command."""
    answers: dict[str, str] = {}
    current: str | None = None
    for line in lines:
        if command := _COMMAND.match(line):
            rcpt = command["verb"].upper().startswith("RCPT")
            current = (command["address"] or "").lower() if rcpt else ""
        elif (answer := _ANSWER.match(line)) and current is not None:
            reply = answer["reply"].strip()
            joined = answers.get(current, "")
            if not joined or (joined[3:4] and joined.rsplit("\n", 1)[-1][3:4] == "-"):
                answers[current] = f"{joined}\n{reply}".strip()
    return {address: " ".join(text.split("\n")) for address, text in answers.items()}


def _fill(told_all: list[Told], lines: list[str], answers: dict[str, str]) -> None:
    """Gives a reason to those that have none: a reply somewhere in the text, else what it says."""
    spare = ""
    for told in told_all:
        if told.text and (_has_reply(told.text) or len(told_all) > 1):
            continue
        reply = answers.get(told.address.lower()) or answers.get("") or ""
        if not reply:
            spare = spare or _any_reply(lines)
            reply = spare
        if reply and not is_telling(told.text):
            told.text = reply
        elif reply and not _has_reply(told.text) and len(told_all) == 1:
            told.text = f"{told.text} {reply}" if reply not in told.text else told.text
        elif not told.text:
            told.text = " ".join(" ".join(lines).split())[:_REASON]


def _any_reply(lines: list[str]) -> str:
    """The first reply in a text, with what it goes on with."""
    for number, line in enumerate(lines):
        found = _REPLY.search(line)
        if found is None:
            continue
        text = found["reply"] or found["bare"]
        for more in lines[number + 1 : number + 8]:
            if not more.strip() or _SECTION.fullmatch(more) or _COMMAND.match(more):
                break
            text += " " + more.strip(" \t>|<")
        return text[:_REASON]
    return ""


_ENHANCED = re.compile(r"(?<![\d.\w-])#?([245]\.\d{1,2}\.\d{1,3})(?!\.?\d)")
_CODE = re.compile(r"(?<![\d.:\w-])([45]\d\d)(?=[ -](?:[^\d\W]|[245]\.\d\.|<|\"|'|#|\(|- ))")
_CODE_NAMED = re.compile(r"(?:code|status|error|response)\W{0,4}\b([45]\d\d)\b", re.IGNORECASE)


def replies_of(text: str) -> list[tuple[int | None, str]]:
    """The replies about trouble in a diagnostic text, the outermost first: code and enhanced code, wherever
    they stand in it; None and "" where missing."""
    found: list[tuple[int | None, str]] = []
    for layer in layers(text):
        code = int(layer.code) if layer.code[:1] in ("4", "5") else None
        enhanced = layer.enhanced if layer.enhanced[:1] in ("4", "5") else ""
        if code or enhanced:
            found.append((code, enhanced))
    known = {enhanced for _, enhanced in found}
    found += [(None, one) for one in _ENHANCED.findall(text[:8192]) if one not in known and one[0] in "45"]
    if not any(code for code, _ in found) and (named := _CODE.search(text) or _CODE_NAMED.search(text)):
        found = [(int(named[1]), enhanced) for _, enhanced in found] or [(int(named[1]), "")]
    return found


def success_of(text: str) -> tuple[int | None, str]:
    """The same of a text that says that all went well."""
    found = re.search(r"(?<![\d.])(2\d\d)(?:[ -](2\.\d\.\d{1,3}))?(?=[ -]|$)", text)
    return (int(found[1]), found[2] or "") if found else (None, "")


def telling_line(text: str) -> str:
    """The first line that is known to mean something, for what is not told beside its recipient."""
    lines = text.split("\n", 200)[:200]
    said = (line.strip() for line in lines)
    return next((line for line in said if line and line[:1] not in '"|' and is_telling(line)), "")


def any_reply(text: str) -> str:
    """The first reply in a text, with what it goes on with; "" when there is none."""
    return _any_reply(text.split("\n", _MOST_LINES)[:_MOST_LINES])
