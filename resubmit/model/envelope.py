"""The envelope: reverse-path, recipients and their ESMTP parameters, kept word for word.

Source: RFC 5321 §4.1.2 (paths), RFC 3461 §4 (DSN parameters), RFC 6531 §3.4 (SMTPUTF8).
Limits: addresses are text (UTF-8 on the wire when SMTPUTF8 was asked); a path that is not UTF-8 is
refused at intake.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EnvelopeRecipient:
    """One forward-path as the client gave it, without brackets, and its parameters verbatim
    (`NOTIFY=SUCCESS,FAILURE`, `ORCPT=rfc822;a+2Bb@x`)."""

    address: str
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Envelope:
    """One mail transaction's envelope. `sender` is the reverse-path without brackets, "" when null;
    `parameters` those of MAIL, verbatim (`BODY=8BITMIME`, `SIZE=…`, `RET=HDRS`, `ENVID=…`, `SMTPUTF8`)."""

    sender: str
    parameters: tuple[str, ...]
    recipients: tuple[EnvelopeRecipient, ...]


def domain_of(address: str) -> str:
    """The domain behind the last @, lower case, without a trailing dot; "" where there is none."""
    _, at, domain = address.rpartition("@")
    return domain.lower().rstrip(".") if at else ""


def address_key(address: str) -> str:
    """An address as it is compared: no brackets or blanks, lower case.

    The local part is folded too: Exchange and every trace treat it so, though RFC 5321 §2.4 would not.
    """
    return address.strip().removeprefix("<").removesuffix(">").strip().lower()


def parameter(parameters: tuple[str, ...], name: str) -> str | None:
    """The value of an ESMTP parameter (name in any case), "" when it has none, None when it is absent."""
    for word in parameters:
        key, _, value = word.partition("=")
        if key.upper() == name:
            return value
    return None


def once(recipients: tuple[EnvelopeRecipient, ...]) -> tuple[EnvelopeRecipient, ...]:
    """The recipients without exact repetitions, the first of each kept: one mailbox gets one copy."""
    first: dict[str, EnvelopeRecipient] = {}
    for recipient in recipients:
        first.setdefault(recipient.address, recipient)
    return tuple(first.values())
