"""Whatever is in a mail, reading it ends with items; and what RFC 3464 can say is read as it was said."""

from __future__ import annotations

import io
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resubmit.evidence.base import Item, Reading
from resubmit.evidence.kinds import dsn
from resubmit.evidence.mime import parsed
from resubmit.model.evidence import Evidence, Status, Unreadable


def read(data: bytes) -> list[Item]:
    return list(dsn.read(io.BytesIO(data), Reading("file", now=1_795_500_000_000)))


PIECES = st.sampled_from(
    [
        b"From: MAILER-DAEMON@mx.example\n",
        b"Subject: Undelivered Mail\n",
        b"X-Failed-Recipients: a@b.example, c\n",
        b"Content-Type: multipart/report; boundary=b\n",
        b"Content-Type: multipart/mixed; boundary=\n",
        b"Content-Type: message/rfc822\n",
        b"Content-Type: message/delivery-status\n",
        b"Content-Type: text/html\n",
        b"Content-Transfer-Encoding: base64\n",
        b"Content-Transfer-Encoding: quoted-printable\n",
        b"\n",
        b"--b\n",
        b"--b--\n",
        b"Final-Recipient: rfc822;<a@b.example\n",
        b"Final-Recipient: utf-8;\\x{110000}@b\n",
        b"Original-Recipient: x\n",
        b"Action: failed\nStatus: 5.\n",
        b"Diagnostic-Code: smtp; 550 5.1.1\n",
        b"Arrival-Date: Tue, 99 Nov 2026 99:99:99 +9999\n",
        b"<a@b.example>: host x[1.2.3.4] said: 550-x\n",
        b"  a@b.example\n    (generated from c@d.example)\n",
        b"Server at H (1.2.3.4) returned '550 5.1.1 x\n",
        b"#550 5.2.2 x ##rfc822;\n",
        b">>> RCPT TO:<a@b.example>\n<<< 550\n",
        b"--- Below this line is a copy of the message.\n",
        b"Received: from x by y; now\nMessage-ID: <1@x>\nReturn-Path: <>\n",
        b"=?utf-8?B?////?=\n",
        b"\xff\xfe\x00",
        b"From x Tue Nov 24 08:00:00 2026\n",
    ]
)


@given(st.lists(PIECES, max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_pieces_of_reports_are_read(pieces: list[bytes]) -> None:
    for item in read(b"".join(pieces)):
        assert isinstance(item, Evidence | Unreadable)
        assert item.place or isinstance(item, Unreadable)


@given(st.binary(max_size=3000))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_a_mail_of_some_sort(data: bytes) -> None:
    parsed(data)
    read(b"From: MAILER-DAEMON@x\nSubject: failure notice\n" + data)


LOCAL = st.text("abcxyz0123456789.+-_", min_size=1, max_size=20).filter(
    lambda s: "+2B" not in s and "+3D" not in s
)
ENTRY = st.tuples(
    st.builds(lambda local, host: f"x{local}@{host}.example", LOCAL, st.text("abc", min_size=1, max_size=8)),
    st.sampled_from(["failed", "delayed", "delivered", "relayed", "expanded"]),
    st.sampled_from(["5.1.1", "5.7.1", "4.4.1", "4.2.2", "2.1.5"]),
)
SAID = {
    "failed": Status.FAILED,
    "delayed": Status.DEFERRED,
    "delivered": Status.DELIVERED,
    "relayed": Status.RELAYED,
    "expanded": Status.EXPANDED,
}


@given(
    st.lists(ENTRY, min_size=1, max_size=8, unique_by=lambda e: e[0]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", " ", "\t"]),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_what_a_report_says_is_read_as_it_was_said(
    entries: list[tuple[str, str, str]], end: str, blank: str, gaps: bool, upper: bool
) -> None:
    lines = ["Reporting-MTA: dns; mx.example"]
    for address, action, status in entries:
        lines += [""] if gaps else []
        kind = "RFC822" if upper else "rfc822"
        lines += [f"Final-Recipient{blank}:{blank}{kind};{blank}{address}", f"Action:{blank}{action}"]
        lines += [f"Status: {status}"]
    mail = ["From: MAILER-DAEMON@mx.example", "Content-Type: multipart/report; boundary=b", "", "--b"]
    mail += ["Content-Type: message/delivery-status", "", *lines, "--b--", ""]
    items = read(end.join(mail).encode())
    found = [(i.recipient, i.status, i.enhanced_code) for i in items if isinstance(i, Evidence)]
    assert found == [(address, SAID[action], status) for address, action, status in entries]


WORST = [
    "a@" * 900,
    "to for address user " * 90,
    "a: " * 500 + "x@y.zz",
    '"' * 1900,
    "<" * 1900 + "@",
    " " * 1900 + "@",
    "*" * 1900,
    "- " * 900 + "message",
    "fail to <x@y.example> could not be " * 50,
    "=?utf-8?Q?" * 190,
    "5.1.1 " * 300,
]


@pytest.mark.parametrize("line", WORST, ids=lambda line: line[:8])
def test_no_line_takes_longer_than_its_length(line: str) -> None:
    """A third of a megabyte of the worst lines known: each was slow once, or is of the form that is."""
    head = "From: MAILER-DAEMON@x.example\nSubject: failure notice\n\nThe following addresses failed:\n\n"
    began = time.perf_counter()
    read((head + (line + "\n") * (300_000 // len(line))).encode())
    assert time.perf_counter() - began < 20
