"""What is read off a header block, what is added on top, and that nothing else changes."""

from __future__ import annotations

import pytest

from resubmit.intake.heading import HEADER_LIMIT, HeadingReader, Supplement, decode_words

ADDED = Supplement("<new@mx.test>", "Tue, 24 Nov 2026 12:00:00 +0000")
ID_LINE = b"Message-ID: <new@mx.test>\r\n"
DATE_LINE = b"Date: Tue, 24 Nov 2026 12:00:00 +0000\r\n"
MAC = "0123456789abcdef" * 2


def read(octets: bytes, piece: int = 0) -> tuple[HeadingReader, bytes]:
    reader = HeadingReader(lambda: ADDED)
    kept = b""
    for at in range(0, len(octets), piece or max(1, len(octets))):
        kept += reader.feed(octets[at : at + (piece or len(octets))])
    return reader, kept + reader.finish()


COMPLETE = b"Message-ID: <1@x>\r\nDate: today\r\nSubject: hello\r\n\r\nbody\r\nMessage-ID: <2@x>\r\n"


@pytest.mark.parametrize("piece", [0, 1, 5])
def test_a_complete_message_goes_on_as_it_is(piece: int) -> None:
    reader, kept = read(COMPLETE, piece)
    assert kept == COMPLETE
    heading = reader.heading
    assert (heading.message_id, heading.date, heading.subject) == ("<1@x>", "today", "hello")


@pytest.mark.parametrize("piece", [0, 1, 5])
@pytest.mark.parametrize(
    ("octets", "top"),
    [
        (b"Subject: x\r\n\r\nbody\r\n", ID_LINE + DATE_LINE),
        (b"Date: y\r\n\r\nbody\r\n", ID_LINE),
        (b"MESSAGE-ID : <1@x>\r\n\r\n", DATE_LINE),
        (b"\r\nonly a body\r\n", ID_LINE + DATE_LINE),
        (b"\r\n", ID_LINE + DATE_LINE),
        (b"", ID_LINE + DATE_LINE + b"\r\n"),
        (b"no field at all\r\n", ID_LINE + DATE_LINE + b"\r\n"),
        (b"no field at all\r\n\r\nDate: y\r\n", ID_LINE + DATE_LINE + b"\r\n"),
        (b"Subject: no empty line\r\n", ID_LINE + DATE_LINE),
        (b"Subject: x\r\nno field\r\nDate: y\r\n\r\n", ID_LINE + DATE_LINE),
        (b"From me Mon Jan  1 00:00:00 2026\r\nSubject: x\r\n\r\n", ID_LINE + DATE_LINE),
        (b" folded from the start\r\n\r\n", ID_LINE + DATE_LINE + b"\r\n"),
        (b"X: y", ID_LINE + DATE_LINE + b"\r\n"),
    ],
)
def test_what_is_missing_is_added_on_top(octets: bytes, top: bytes, piece: int) -> None:
    reader, kept = read(octets, piece)
    assert kept == top + octets
    assert reader.heading.message_id == ("<new@mx.test>" if ID_LINE in top else "<1@x>")
    assert reader.heading.date == (ADDED.date if DATE_LINE in top else "y")


def test_the_first_message_id_wins() -> None:
    reader, _ = read(b"Message-ID: <1@x>\r\nMessage-ID: <2@x>\r\nDate: y\r\n\r\n")
    assert reader.heading.message_id == "<1@x>"


@pytest.mark.parametrize(
    ("body", "message_id"),
    [
        (b"\r\n <[0e6f3b]@exch.example>", "<[0e6f3b]@exch.example>"),
        (b" <a\r\n\t@b>", "<a@b>"),
        (b" no-brackets@x", "no-brackets@x"),
        (b" <a@b> (comment)", "<a@b>"),
        (b"", ""),
        (b" <\xff\xfe@x>", "<\ufffd\ufffd@x>"),
    ],
)
def test_a_message_id_is_read_however_it_is_written(body: bytes, message_id: str) -> None:
    octets = b"Message-ID:" + body + b"\r\nDate: y\r\n\r\n"
    reader, kept = read(octets)
    assert reader.heading.message_id == message_id
    assert kept == octets  # an odd one is there, so none is added


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("plain", "plain"),
        ("=?utf-8?Q?Gr=C3=BC=C3=9Fe_an?= alle", "Grüße an alle"),
        ("=?UTF-8?B?R3LDvMOfZQ==?=", "Grüße"),
        ("=?utf-8?B?R3LD?= =?utf-8?B?vMOfZQ==?=", "Grüße"),  # a character cut in two
        ("=?utf-8?Q?a?=  =?utf-8?Q?b?=", "ab"),
        ("=?utf-8?Q?a?= b =?iso-8859-1?Q?=E4?=", "a b ä"),
        ("=?utf-8*de?Q?a?=", "a"),
        ("=?no-such?Q?=C3=BC?=", "ü"),
        ("=?undefined?Q?x?=", "x"),
        ("=?hex?B?QQ==?=", "A"),
        ("=?utf-8?B?R3L?=", "Gr"),
        ("=?utf-8?B?R?=", ""),
        ("=?utf-8?Q?=ZZ=?=", "=ZZ="),
        ("=?unicode_escape?Q?=5Cud800?=", "?"),
        ("=?utf-7?Q?+2AA-?=", None),
        ("=?utf-8?Q?a=0D=0AX:_y=00?=", "a X: y"),
        ("abc \u202egpj.exe", "abc gpj.exe"),
        ("=?utf-8?Q?unended", "=?utf-8?Q?unended"),
    ],
)
def test_a_subject_is_decoded_as_far_as_it_can_be(text: str, subject: str | None) -> None:
    decoded = decode_words(text)
    decoded.encode()
    if subject is not None:
        assert decoded == subject


def test_a_folded_subject_is_one_line_and_bounded() -> None:
    reader, _ = read(b"Subject: a\r\n\tb" + b" c" * 5000 + b"\r\n\r\n")
    assert reader.heading.subject.startswith("a b c c")
    assert len(reader.heading.subject) <= 1000


def trace(key: str = "01ABCDEFGHJKM.2", mac: str = MAC) -> bytes:
    return f"Received: from a by b (resubmit {mac}) id {key};\r\n\tdate\r\n".encode()


def test_hops_are_counted_in_the_header_only() -> None:
    reader, _ = read(b"Received: x\r\nreceived: y\r\nX-Received: z\r\n" * 3 + b"\r\nReceived: body\r\n")
    assert reader.hops == 6


def test_our_own_traces_are_found_refolded_and_in_any_order() -> None:
    refolded = (
        "Received: from x\r\n by y with ESMTP\r\n\tid 01ABCDEFGHJKN.13 for <a@b>\r\n"
        f" (resubmit\r\n {MAC}); d\r\n"
    )
    reader, _ = read(trace() + refolded.encode() + b"\r\n")
    (first, no, mac), (second, later, _) = reader.traces
    assert (no, mac, later) == (2, MAC, 13) and second == first + 1


@pytest.mark.parametrize(
    "field",
    [
        trace(mac="xyz"),
        trace(mac=MAC + "0"),
        trace(key="01ABCDEFGHJKM"),
        trace(key="01ABCDEFGHJKU.1"),
        b"X-Old: (resubmit " + MAC.encode() + b") id 01ABCDEFGHJKM.2\r\n",
        b"Received: id 01ABCDEFGHJKM.2 resubmit\r\n",
    ],
)
def test_what_only_looks_like_our_trace_is_none(field: bytes) -> None:
    assert read(field + b"\r\n")[0].traces == ()


@pytest.mark.parametrize("piece", [0, 4096])
def test_a_header_without_end_is_bounded_and_nothing_is_added(piece: int) -> None:
    octets = b"X-Long: " + b"y" * 990 + b"\r\n"
    octets *= HEADER_LIMIT // len(octets) + 3
    reader, kept = read(octets, piece)
    assert kept == octets
    reader = HeadingReader(lambda: ADDED)
    out = [reader.feed(octets[at : at + 4096]) for at in range(0, len(octets), 4096)]
    assert any(out), "it was held to its end"


@pytest.mark.parametrize("piece", [0, 1024])
def test_a_header_beyond_the_bound_is_read_up_to_it(piece: int) -> None:
    octets = (
        b"Subject: early\r\n" + b"X: " + b"y" * HEADER_LIMIT + b"\r\nMessage-ID: <late@x>\r\n\r\nbody\r\n"
    )
    reader, kept = read(octets, piece)
    assert kept == octets
    assert (reader.heading.subject, reader.heading.message_id) == ("early", "")


def test_a_long_body_without_header_gets_its_fields() -> None:
    octets = (b"just text, no colon\r\n") * (HEADER_LIMIT // 20)
    assert read(octets)[1] == ID_LINE + DATE_LINE + b"\r\n" + octets


def test_nothing_is_asked_for_that_is_not_missing() -> None:
    def never() -> Supplement:
        raise AssertionError

    reader = HeadingReader(never)
    assert reader.feed(COMPLETE) == COMPLETE
