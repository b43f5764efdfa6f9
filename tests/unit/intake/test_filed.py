"""A message in a file: whose it is and for whom, and its bytes as mail has them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resubmit.errors import Refused
from resubmit.intake.filed import Given, lines, read
from resubmit.model.envelope import EnvelopeRecipient

REPLAY = (
    b"X-Sender: <app@example.org> BODY=7bit RET=HDRS ENVID=12345ABCD auth=<x>\r\n"
    b"X-Receiver: <ann@contoso.com> NOTIFY=NEVER ORcpt=mary@contoso.com\r\n"
    b"X-Receiver: <bob@contoso.com>\r\n"
    b"X-CreatedBy: MSExchange15\r\n"
    b"Subject: x\r\nX-Receiver: <evil@x.com>\r\nTo: nobody@x.com\r\n\r\nhello\r\n"
)


def test_a_replay_file_brings_its_envelope_and_the_message_without_it() -> None:
    found = read(REPLAY, Given())

    assert found.envelope.sender == "app@example.org"
    assert found.envelope.parameters == ("BODY=7BIT", "RET=HDRS", "ENVID=12345ABCD")
    assert found.envelope.recipients == (
        EnvelopeRecipient("ann@contoso.com", ("NOTIFY=NEVER", "ORCPT=rfc822;mary@contoso.com")),
        EnvelopeRecipient("bob@contoso.com"),
    )
    assert REPLAY[found.skip :].startswith(b"Subject: x\r\nX-Receiver: <evil@x.com>")


def test_a_pickup_file_of_an_application_has_bare_addresses() -> None:
    found = read(
        b"x-sender: a@b.com\nx-receiver: c@d.com\nx-receiver: C@D.com\nFrom: z@z.com\n\nhi\n", Given()
    )

    assert found.envelope.sender == "a@b.com"
    assert [r.address for r in found.envelope.recipients] == ["c@d.com"]


def test_what_is_given_is_stronger_than_what_the_file_says() -> None:
    found = read(REPLAY, Given(sender="", recipients=("eve@contoso.com",)))

    assert (found.envelope.sender, found.envelope.parameters) == ("", ())
    assert [r.address for r in found.envelope.recipients] == ["eve@contoso.com"]


@pytest.mark.parametrize(
    ("head", "sender", "recipients"),
    [
        (
            b"Return-Path: <a@b.com>\r\nDelivered-To: ann@contoso.com\r\nTo: list@x.com\r\n\r\n",
            "a@b.com",
            ["ann@contoso.com"],
        ),
        (
            b"From: A <a@b.com>\r\nTo: Ann <ann@contoso.com>,\r\n bob@contoso.com\r\n"
            b"Cc: eve@x.com\r\nBcc: s@x.com\r\n\r\n",
            "a@b.com",
            ["ann@contoso.com", "bob@contoso.com", "eve@x.com"],
        ),
        (
            b"From x Tue Nov 24\nReturn-Path: <>\nTo: ann@contoso.com\n\nTo: body@x.com\n",
            "",
            ["ann@contoso.com"],
        ),
    ],
)
def test_the_header_is_believed_only_where_that_is_asked_for(
    head: bytes, sender: str, recipients: list[str]
) -> None:
    found = read(head, Given(headers=True))

    assert found.envelope.sender == sender
    assert [r.address for r in found.envelope.recipients] == recipients
    with pytest.raises(Refused, match="no envelope in it"):
        read(head, Given())


@pytest.mark.parametrize(
    "head",
    [
        b"X-Sender: <a@b>\r\nX-Sender: <c@d>\r\nX-Receiver: <e@f>\r\n\r\n",
        b"X-Sender: <a@b>\r\n\r\n",
        b"X-Sender: <a@b>\r\nX-Receiver: <not an address>\r\n\r\n",
        b"X-Receiver: <a@b> <c@d>\r\nX-Sender: <a b>\r\n\r\n",
        b"",
        b"\x00\xff",
    ],
)
def test_what_is_no_envelope_is_refused(head: bytes) -> None:
    with pytest.raises(Refused):
        read(head, Given())


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_give_an_envelope_or_a_refusal(head: bytes, headers: bool) -> None:
    try:
        found = read(head, Given(headers=headers))
    except Refused:
        return
    assert found.envelope.recipients


@given(
    st.lists(st.sampled_from([b"a", b"\r\n", b"\n", b"\r", b"\x80", b"."])).map(b"".join),
    st.lists(st.integers(0, 60), max_size=4),
)
def test_every_line_ends_in_crlf_however_the_octets_were_cut(octets: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(octets), *(cut % (len(octets) + 1) for cut in cuts)})
    pieces = [octets[a:b] for a, b in pairwise(places)]

    kept = b"".join(lines(iter(pieces), 1000))

    plain = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    wanted = plain.replace(b"\n", b"\r\n")
    assert kept == (wanted if wanted.endswith(b"\r\n") or not wanted else wanted + b"\r\n")


def test_a_message_above_the_limit_is_refused() -> None:
    with pytest.raises(Refused, match="larger"):
        list(lines(iter([b"x" * 60, b"x" * 60]), 100))
