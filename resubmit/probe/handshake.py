"""What a TLS handshake says that did not stand, or stood on what Exchange Online may not have. Pure.

Source: RFC 8446 §6.2 (alerts: handshake_failure is "unable to negotiate an acceptable set of security
parameters"), RFC 5246 §7.2.2; OpenSSL's error reasons; Microsoft's list of suites (offers.py).
Limits: a server that hangs up without an alert over its own ciphers, whatever is offered, looks like one
that hangs up for no reason (Python's asyncio and some Schannel set-ups do so).
"""

from __future__ import annotations

from resubmit.model.moment import span_text
from resubmit.model.tls import Severity
from resubmit.probe import offers
from resubmit.probe.named import Named, because, fault
from resubmit.probe.seen import AddressSeen, Handshake, How, Seen, Step, Stop, clean

_ALERT = 0x15
_OLD = ("SSLv3", "TLSv1", "TLSv1.1")
_TOO_OLD = {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "VERSION_TOO_LOW"}
_NOTHING_IN_COMMON = {"HANDSHAKE_FAILURE", "INSUFFICIENT_SECURITY"}
_TOO_SHORT = {"DH_KEY_TOO_SMALL": "its Diffie-Hellman key is too short"}


def failed(one: AddressSeen, seen: Seen) -> Named | None:
    """Why a handshake did not stand; None where it did, or where the certificates' findings say why."""
    handshake, stop = one.handshake, one.stop
    if handshake is None or handshake.done or stop is None or stop.step is not Step.HANDSHAKE:
        return None
    if handshake.verify_code is not None:
        return None
    if offers.is_plain_text(handshake):
        what = "plain text" if handshake.opening.isascii() else "something else"
        text = f"after the 220 to STARTTLS came {what} instead of TLS: {clean(handshake.opening, 40)!r}"
        return fault("plaintext_after_starttls", Step.HANDSHAKE, text)
    if handshake.certificate_requested:
        return client_certificate(Step.HANDSHAKE, "and ended the handshake without one")
    if stop.how is How.TIMEOUT:
        far = "said nothing" if not handshake.opening else "did not finish"
        text = f"the server {far} in the TLS handshake within {span_text(seen.timeout)}"
        return fault("handshake_timeout", Step.HANDSHAKE, text)
    return _by_second(one, handshake, stop) or _by_itself(handshake, stop)


def _by_second(one: AddressSeen, first: Handshake, stop: Stop) -> Named | None:
    """What a second handshake tells that offered everything; None where it failed too."""
    second = one.anything.handshake if one.anything else None
    if second is None or not second.done:
        return None
    at = Step.HANDSHAKE
    came_to = f"{second.protocol} with {second.cipher}"
    if second.protocol in _OLD:
        text = f"the server speaks no TLS of version 1.2 or later; what it has comes to {came_to}"
        return fault("protocol_too_old", at, text)
    if first.reason in _TOO_SHORT:
        return fault("ciphers_too_weak", at, f"{_TOO_SHORT[first.reason]}; it would come to {came_to}")
    if second.cipher not in _usual():
        if offers.is_weak(second.cipher):
            text = (
                f"the server has only ciphers that are no longer used; offered everything, it takes {came_to}"
            )
            return fault("ciphers_too_weak", at, text)
        text = f"the server has no cipher that we or Exchange Online have: offered all, it takes {came_to}"
        return fault("no_shared_cipher", at, text)
    text = f"the TLS handshake failed ({_words(first, stop)}), and a second one came to {came_to}"
    return fault("handshake_failed", at, text)


def _by_itself(handshake: Handshake, stop: Stop) -> Named:
    """What the first handshake says where the second said nothing."""
    at = Step.HANDSHAKE
    if stop.how is How.CLOSED and not handshake.opening:
        text = f"the server answered 220 to STARTTLS and closed the connection{because(stop)}"
        return fault("closed_after_starttls", at, text)
    if "PROTOCOL_VERSION" in handshake.alerts or handshake.reason in _TOO_OLD:
        return fault("protocol_too_old", at, "the server speaks no TLS of version 1.2 or later")
    if handshake.opening[:1] == bytes([_ALERT]) and _NOTHING_IN_COMMON & set(handshake.alerts):
        text = f"the server finds nothing it could use in what we offer (alert {', '.join(handshake.alerts)})"
        return fault("no_shared_cipher", at, text)
    return fault("handshake_failed", at, f"the TLS handshake failed: {_words(handshake, stop)}")


def undocumented(one: AddressSeen) -> Named | None:
    """A warning where the handshake stands and the suites Exchange Online documents would not have done."""
    first, other = one.handshake, one.documented
    if first is None or not first.done or other is None:
        return None
    second = other.handshake
    if second is not None and (second.done or second.chain):
        return None  # an RSA certificate and one of these suites are there
    was_refused = second is not None and other.stop is not None and other.stop.how in (How.TLS, How.CLOSED)
    if first.chain and not offers.has_rsa_key(first.chain[0]):
        text = "the server's certificate is no RSA one, and the ciphers Exchange Online documents are all RSA"
        if not was_refused:
            text += "; whether it has an RSA one too could not be seen"
        return Named("ecdsa_only", Severity.WARNING, "leaf", text)
    if not was_refused:
        return None
    code = "ciphers_too_weak" if offers.is_weak(first.cipher) else "no_shared_cipher"
    text = f"the server takes none of the ciphers Exchange Online documents (with us it is {first.cipher})"
    return Named(code, Severity.WARNING, Step.HANDSHAKE.value, text)


def client_certificate(where: Step, end: str) -> Named:
    """A certificate of ours is demanded: nothing to be judged from here."""
    text = (
        f"the server asks for a client certificate {end}; Exchange Online shows one, "
        "so this can't be judged from here"
    )
    return Named("client_certificate_required", Severity.UNKNOWN, where.value, text)


def _usual() -> frozenset[str]:
    return offers.names(offers.Offer.USUAL)


def _words(handshake: Handshake, stop: Stop) -> str:
    alerts = f", alert {', '.join(handshake.alerts)}" if handshake.alerts else ""
    words = {How.CLOSED: "the server closed the connection in the middle"}.get(stop.how, stop.detail)
    return clean(f"{words or stop.how.value}{alerts}")
