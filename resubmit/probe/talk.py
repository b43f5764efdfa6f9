"""What the SMTP conversation and the handshake of one address say, certificates aside. Pure.

Source: RFC 5321 §3.1, §4.2, RFC 3207, RFC 8446 §6; Microsoft's words for blocked senders (5.7.606-649,
5.7.511, 5.7.513); Cisco's ESMTP inspection (banner masked with asterisks, keywords with X).
"""

from __future__ import annotations

import re
from dataclasses import replace

from resubmit.model.moment import span_text
from resubmit.model.tls import Severity
from resubmit.probe.handshake import client_certificate, failed, undocumented
from resubmit.probe.named import Named, because, fault
from resubmit.probe.seen import (
    NULL_SENDER,
    AddressSeen,
    Answer,
    How,
    Seen,
    Step,
    Stop,
    clean,
    keywords,
)

_BLOCKED = re.compile(
    r"5\.7\.(60[6-9]|6[1-4]\d|511|513)\b|\bblock(ed|ing)?\b|\b(block|black|deny)-?list|\bbanned\b"
    r"|\b(is|are|been|currently) listed\b|\blist(ed|ing) (at|in|by|on)\b|\breputation\b|spamhaus"
    r"|\bd?nsbl\b|\brbl\b|unsolicited mail",
    re.IGNORECASE,
)
_BLOCKED_FOR_SURE = re.compile(
    r"5\.7\.(60[6-9]|6[1-4]\d|511|513)\b|\bbanned\b|\breputation\b|spamhaus|\bd?nsbl\b|\brbl\b"
    r"|\b(ip|host|client|address|connection|network)\b[^.;]{0,60}\b(block|listed|black-?list|deny-?list)"
    r"|\b(block|black|deny)-?list|\bblock(ed|ing)?\b[^.;]{0,30}\b(ip|host|client|network)\b",
    re.IGNORECASE,
)
"""Where it may be about sender or recipient as well ("mailbox is blocked")."""
_SENDER = re.compile(r"\bsender\b|<>", re.IGNORECASE)
_DEMANDS_TLS = re.compile(r"\bSTARTTLS\b|\bTLS\b.{0,30}\brequire|\brequire.{0,30}\bTLS\b", re.IGNORECASE)
_ECHOED = re.compile(r"(?<![\w*])X{4,}[A-Z]?(?!\w)")
"""A server's answer to a command of ours that a firewall overwrote with X."""
_MASKED = re.compile(rb"\*{4,}")
_MANGLED = re.compile(r"X{4,}[A-Z]?")
_STARTTLS_LENGTH = len("STARTTLS")


def read(one: AddressSeen, seen: Seen) -> list[Named]:
    """The findings of the conversation; none when it went through to its end."""
    found = list(filter(None, [_masked(one, seen)]))
    if (ended := _to_ehlo(one, seen)) is not None:
        return [*found, ended]
    found += filter(None, [_rewritten(one)])
    level = seen.endpoint.level
    if level == "none":
        return [*found, *_in_clear(one, seen)]
    tls = _offer(one, seen) or failed(one, seen)
    if tls is None:
        return [*found, *filter(None, [undocumented(one), _after_tls(one, seen)])]
    if _is_forced(level):
        hides = _is_masked(one) and tls.code == "starttls_withheld"  # what is demanded and not seen was taken
        return found if hides else [*found, tls]
    found.append(replace(tls, severity=Severity.WARNING))
    if one.clear is None:
        return [*found, *_in_clear(one, seen)]
    return [*found, *read(one.clear, replace(seen, endpoint=replace(seen.endpoint, level="none")))]


def _is_forced(level: str) -> bool:
    return level not in ("none", "opportunistic")


def _is_masked(one: AddressSeen) -> bool:
    greeting = one.answer(Step.GREETING)
    return greeting is not None and any(_MASKED.search(line) for line in greeting.lines)


def _masked(one: AddressSeen, seen: Seen) -> Named | None:
    """The banner of asterisks: a warning, and where STARTTLS is missing the likely reason for that."""
    greeting, ehlo = one.answer(Step.GREETING), one.answer(Step.EHLO)
    if greeting is None or not _is_masked(one):
        return None
    text = f"the banner is masked by a firewall: {greeting.text()}"
    is_taken = ehlo is not None and ehlo.positive and "STARTTLS" not in keywords(ehlo)
    if is_taken and _is_forced(seen.endpoint.level):
        text = f"{text}; no STARTTLS comes through it"
        return fault("firewall_masked_banner", Step.GREETING, text)
    return Named("firewall_masked_banner", Severity.WARNING, Step.GREETING.value, text)


def _rewritten(one: AddressSeen) -> Named | None:
    """Keywords overwritten beside a STARTTLS that came through."""
    offered = keywords(one.answer(Step.EHLO))
    mangled = [word for word in offered if _MANGLED.fullmatch(word)]
    if not mangled or "STARTTLS" not in offered:
        return None
    text = (
        f"a firewall overwrites keywords in the EHLO reply ({', '.join(mangled[:5])}); STARTTLS comes through"
    )
    return Named("firewall_mangled_keyword", Severity.WARNING, Step.EHLO.value, text)


def _to_ehlo(one: AddressSeen, seen: Seen) -> Named | None:
    stop, within = one.stop, span_text(seen.timeout)
    place = f"{one.address} port {seen.endpoint.port}"
    if stop and stop.step is Step.CONNECT:
        return _connect(stop, place, within)
    if stop and stop.step in (Step.GREETING, Step.EHLO, Step.HELO):
        return _silence(stop, place, within, seen)
    greeting, ehlo, helo = one.answer(Step.GREETING), one.answer(Step.EHLO), one.answer(Step.HELO)
    if greeting and greeting.code != 220:
        if _is_blocked(greeting):
            return fault("blocklisted", Step.GREETING, _turned_away(greeting))
        return fault(
            "greeting_refused", Step.GREETING, f"the server greets with {greeting.text()}, not with 220"
        )
    if ehlo and not ehlo.positive:
        if _ECHOED.search(ehlo.text()):
            text = f"a firewall overwrote our EHLO on its way; the server answers {ehlo.text()}"
            return fault("firewall_mangled_keyword", Step.EHLO, text)
        if _is_blocked(ehlo) or (helo and _is_blocked(helo)):
            return fault("blocklisted", Step.EHLO, _turned_away(ehlo))
        if helo and helo.positive:
            return fault("smtp_only", Step.EHLO, f"EHLO was refused ({ehlo.text()}) and HELO taken: no ESMTP")
        return fault("ehlo_refused", Step.EHLO, f"EHLO was refused: {ehlo.text()}")
    return None


def _offer(one: AddressSeen, seen: Seen) -> Named | None:
    """STARTTLS, from its keyword to its answer."""
    ehlo = one.answer(Step.EHLO)
    if ehlo and "STARTTLS" not in keywords(ehlo):
        return _no_starttls(one, ehlo)
    return _starttls(one, f"{one.address} port {seen.endpoint.port}", span_text(seen.timeout))


def _connect(stop: Stop, place: str, within: str) -> Named:
    match stop.how:
        case How.REFUSED:
            return fault("connect_refused", Step.CONNECT, f"{place} refuses the connection ({stop.detail})")
        case How.OWN:
            text = f"this machine has no way to {place} ({stop.detail})"
            return Named("connect_timeout", Severity.UNKNOWN, "own_network", text)
        case How.UNREACHABLE:
            return fault("connect_timeout", Step.CONNECT, f"{place} can't be reached ({stop.detail})")
        case _:
            return fault("connect_timeout", Step.CONNECT, f"{place} did not answer within {within}")


def _silence(stop: Stop, place: str, within: str, seen: Seen) -> Named:
    """A greeting or EHLO reply that did not come whole; its start tells SMTP from something else."""
    asked = "its greeting" if stop.step is Step.GREETING else "its answer to EHLO"
    if stop.how in (How.NOT_A_REPLY, How.TOO_MUCH) or not _may_be_reply(stop.partial):
        what = stop.detail if stop.how is How.TOO_MUCH else repr(clean(stop.partial, 80))
        return fault("not_smtp", stop.step, f"{place} does not speak SMTP: as {asked} came {what}")
    if stop.how is How.TIMEOUT:
        hint = "; a port that begins with TLS waits for the client" if seen.endpoint.port == 465 else ""
        return fault(
            "greeting_timeout",
            stop.step,
            f"{place} took the connection and gave {asked} not within {within}{hint}",
        )
    return fault("greeting_closed", stop.step, f"{place} closed the connection before {asked}{because(stop)}")


def _may_be_reply(partial: bytes) -> bool:
    return bool(re.match(rb"(?:$|[2-5]$|[2-5]\d$|[2-5]\d\d(?:$|[ \r-]))", partial))


def _no_starttls(one: AddressSeen, ehlo: Answer) -> Named:
    """Why STARTTLS is missing: a firewall, a block list, or it was never configured (RFC 5321 §2.2.1)."""
    mangled = [word for word in keywords(ehlo) if _MANGLED.fullmatch(word)]
    if mangled:
        likely = any(len(word) == _STARTTLS_LENGTH for word in mangled)
        what = "the keyword STARTTLS" if likely else "keywords"
        text = f"a firewall overwrote {what} in the EHLO reply with {', '.join(mangled[:5])}"
        return fault("firewall_mangled_keyword", Step.EHLO, text)
    mail = one.answer(Step.CLEAR_MAIL) or one.answer(Step.MAIL)
    if mail is not None and mail.code >= 400:
        if _is_blocked(mail):
            text = f"the server offers us no STARTTLS because it holds us for listed: {mail.text()}"
            return fault("starttls_withheld", Step.MAIL, text)
        if _DEMANDS_TLS.search(mail.text()):
            text = f"the server demands STARTTLS and does not offer it to us: {mail.text()}"
            return fault("starttls_withheld", Step.MAIL, text)
    offered = ", ".join(keywords(ehlo)[:20]) or "nothing"
    text = f"the server offers no STARTTLS (it offers {offered})"
    if mail is not None:
        text += f"; {NULL_SENDER} in clear is answered {mail.text()}"
    return fault("starttls_missing", Step.EHLO, clean(text))


def _starttls(one: AddressSeen, place: str, within: str) -> Named | None:
    answer, stop = one.answer(Step.STARTTLS), one.stop
    if answer and answer.code != 220:
        if _ECHOED.search(answer.text()):
            text = f"a firewall overwrote our STARTTLS on its way; the server answers {answer.text()}"
            return fault("firewall_mangled_keyword", Step.STARTTLS, text)
        if _is_blocked(answer):
            return fault("blocklisted", Step.STARTTLS, _turned_away(answer))
        return fault(
            "starttls_refused", Step.STARTTLS, f"the server offers STARTTLS and refuses it: {answer.text()}"
        )
    if stop is None or stop.step is not Step.STARTTLS:
        return None
    match stop.how:
        case How.LEFTOVER:
            text = (
                f"octets came behind the 220 to STARTTLS, before the handshake: {clean(one.leftover, 80)!r}"
            )
            return fault("starttls_injection", Step.STARTTLS, text)
        case How.TIMEOUT:
            return fault(
                "handshake_timeout", Step.STARTTLS, f"{place} did not answer STARTTLS within {within}"
            )
        case How.NOT_A_REPLY | How.TOO_MUCH:
            what = stop.detail or repr(clean(stop.partial, 80))
            return fault("not_smtp", Step.STARTTLS, f"{place} answers STARTTLS with no SMTP reply: {what}")
        case _:
            text = f"{place} closed the connection at STARTTLS{because(stop)}"
            return fault("closed_after_starttls", Step.STARTTLS, text)


def _after_tls(one: AddressSeen, seen: Seen) -> Named | None:
    handshake, stop = one.handshake, one.stop
    if handshake is None or not handshake.done:
        return None
    ehlo, mail, rcpt = (one.answer(step) for step in (Step.TLS_EHLO, Step.MAIL, Step.RCPT))
    for answer in filter(None, (ehlo, mail, rcpt)):
        if _is_blocked(answer):
            return fault("blocklisted", answer.step, _turned_away(answer))
    if ehlo and not ehlo.positive:
        return fault("ehlo_after_tls_refused", Step.TLS_EHLO, f"EHLO on TLS was refused: {ehlo.text()}")
    if mail and not mail.positive:
        return fault("sender_refused", Step.MAIL, f"{NULL_SENDER} was refused: {mail.text()}")
    if rcpt and not rcpt.positive:
        text = f"the recipient {clean(seen.endpoint.recipient)} was refused: {rcpt.text()}"
        return fault("recipient_refused", Step.RCPT, text)
    if stop is None:
        return None
    asked = {Step.TLS_EHLO: "EHLO", Step.MAIL: "MAIL", Step.RCPT: "RCPT"}.get(stop.step, stop.step.value)
    wants_certificate = handshake.certificate_requested or "CERTIFICATE_REQUIRED" in handshake.alerts
    if stop.step is Step.TLS_EHLO and wants_certificate and stop.how in (How.CLOSED, How.TLS):
        return client_certificate(stop.step, "and closes the connection without one")
    if stop.how in (How.NOT_A_REPLY, How.TOO_MUCH):
        what = stop.detail or repr(clean(stop.partial, 80))
        return fault("not_smtp", stop.step, f"on TLS the server answers {asked} with no SMTP reply: {what}")
    if stop.how is How.TIMEOUT:
        text = f"TLS stands, and the server did not answer {asked} on it within {span_text(seen.timeout)}"
        return fault("closed_after_tls", stop.step, text)
    return fault(
        "closed_after_tls", stop.step, f"TLS stands, and the server closed it at {asked}{because(stop)}"
    )


def _in_clear(one: AddressSeen, seen: Seen) -> list[Named]:
    """The dry run where no TLS is asked for, or none could be had and the level lets mail go without."""
    steps = [(Step.MAIL, "sender_refused", NULL_SENDER)]
    if seen.endpoint.recipient:
        steps.append((Step.RCPT, "recipient_refused", f"RCPT TO:<{clean(seen.endpoint.recipient)}>"))
    for step, code, asked in steps:
        answer, stop = one.answer(step), one.stop
        if answer is not None and answer.positive:
            continue
        if answer is not None and _is_blocked(answer):
            return [fault("blocklisted", step, _turned_away(answer))]
        if answer is not None:
            return [fault(code, step, f"{asked} was refused: {answer.text()}")]
        if stop is not None and stop.how is How.TIMEOUT:
            return [fault(code, step, f"no answer to {asked} within {span_text(seen.timeout)}")]
        return [fault(code, step, f"no answer to {asked}{because(stop) if stop else ''}")]
    return []


def _turned_away(answer: Answer) -> str:
    return f"the server turns us away for who we are: {answer.text()}"


def _is_blocked(answer: Answer) -> bool:
    """Whether it refuses us for our address. At MAIL and RCPT the words may be about others as well."""
    text = answer.text()
    if answer.code < 400 or not _BLOCKED.search(text):
        return False
    if answer.step is Step.RCPT or (answer.step in (Step.MAIL, Step.CLEAR_MAIL) and _SENDER.search(text)):
        return bool(_BLOCKED_FOR_SURE.search(text))
    return True
