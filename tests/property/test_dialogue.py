"""The dialogue under any octets, and any body through it."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from resubmit.intake.dialogue import Terms
from resubmit.intake.heading import HeadingReader, Supplement, decode_words
from tests.unit.intake.talk import Talk, stuffed

START = b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
WORDS = st.sampled_from(
    [
        *(
            START,
            b"DATA\r\n",
            b"\r\n.\r\n",
            b".\r\n",
            b"..\r\n",
            b"RSET\r\n",
            b"BDAT 5\r\n",
            b"BDAT 3 LAST\r\n",
        ),
        *(b"hello", b"\r", b"\n", b"\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<nobody@d>\r\n", b"NOOP\r\n", b"."),
        *(b"EHLO y\r\n", b"BDAT 0 LAST\r\n", b"BDAT 99999999999\r\n", b"x" * 5000, b"\x00", b"\xff"),
        b"MAIL FROM:<\xc3\xa4@b> SMTPUTF8 SIZE=5\r\n",
        b'RCPT TO:<"a b"@[1.2.3.4]> NOTIFY=NEVER ORCPT=rfc822;x+20\r\n',
    ]
)
SESSIONS = st.lists(st.one_of(WORDS, WORDS, st.binary(max_size=30)), max_size=25).map(b"".join)
CUTS = st.lists(st.integers(1, 60), max_size=60)
TERMS = st.builds(
    Terms,
    hostname=st.just("mx.test"),
    max_message_size=st.sampled_from([0, 20, 10_000]),
    max_recipients=st.just(3),
    bare_newline=st.sampled_from(["reject", "crlf"]),
)

LINES = st.lists(
    st.one_of(
        st.binary(max_size=30).map(lambda octets: octets.replace(b"\r", b"").replace(b"\n", b"")),
        st.sampled_from([b"", b".", b"..", b".x", b"\xff" * 3, b"y" * 3000, b"QUIT", b"\x00."]),
    ),
    max_size=10,
)
BODIES = LINES.map(lambda lines: b"".join(line + b"\r\n" for line in lines))


def came_out(talk: Talk) -> tuple[object, ...]:
    return talk.said, talk.bodies, talk.messages, talk.asked, talk.closed, talk.drops, b"".join(talk.chunks)


@settings(max_examples=200, deadline=None)
@given(octets=SESSIONS, cuts=CUTS, terms=TERMS)
@example(octets=START + b"BDAT 2\r\na\rBDAT 1\r\n\nBDAT 0 LAST\r\n", cuts=[], terms=Terms("mx", 20))
@example(octets=b"x" * 4095 + b"\r\nNOOP\r\n", cuts=[4095], terms=Terms("mx", 20))
def test_any_octets_give_the_same_however_they_are_cut(octets: bytes, cuts: list[int], terms: Terms) -> None:
    talks = [Talk(terms), Talk(terms), Talk(terms)]
    talks[0].send(octets)
    talks[1].send(octets, [1] * len(octets))
    talks[2].send(octets, cuts)
    assert came_out(talks[0]) == came_out(talks[1]) == came_out(talks[2])
    for line in talks[0].said.splitlines(keepends=True):
        assert line[:3].isdigit() and line[3:4] in b" -" and line.endswith(b"\r\n") and len(line) <= 512


@settings(max_examples=100, deadline=None)
@given(octets=st.lists(st.one_of(WORDS, st.just(b"STARTTLS\r\n")), max_size=12).map(b"".join), cuts=CUTS)
def test_whatever_follows_starttls_in_clear_is_carried_out_never(octets: bytes, cuts: list[int]) -> None:
    talk = Talk(Terms("mx.test", 10_000, tls=True))
    talk.send(octets, cuts)
    if talk.handshakes and not talk.said.endswith(b"ready for TLS\r\n"):
        assert talk.closed
        assert talk.said.split(b"ready for TLS\r\n")[1].startswith(b"554 5.5.1 ")


@settings(max_examples=150, deadline=None)
@given(body=BODIES, cuts=CUTS)
@example(body=b"", cuts=[1])
@example(body=b".\r\n", cuts=[1, 1, 1])
def test_any_body_comes_out_of_data_as_it_was(body: bytes, cuts: list[int]) -> None:
    talk = Talk(Terms("mx.test", 1_000_000))
    talk.send(START + b"DATA\r\n")
    assert talk.send(stuffed(body) + b"NOOP\r\n", cuts) == (
        b"250 2.0.0 01ABCDEFGHJKM journaled\r\n250 2.0.0 here\r\n"
    )
    assert talk.bodies == [body]


@settings(max_examples=150, deadline=None)
@given(body=BODIES, borders=st.lists(st.integers(0, 4000), max_size=6), cuts=CUTS, ended=st.booleans())
@example(body=b"a\r\nb\r\n", borders=[2], cuts=[], ended=True)
def test_any_body_comes_out_of_bdat_as_it_was(
    body: bytes, borders: list[int], cuts: list[int], ended: bool
) -> None:
    sent = body if ended else body.removesuffix(b"\r\n")
    places = sorted(min(place, len(sent)) for place in borders)
    chunks = [sent[a:b] for a, b in zip([0, *places], [*places, len(sent)], strict=True)]
    wire = b"".join(
        b"BDAT %d%b\r\n%b" % (len(chunk), b" LAST" if at == len(chunks) - 1 else b"", chunk)
        for at, chunk in enumerate(chunks)
    )
    talk = Talk(Terms("mx.test", 1_000_000))
    talk.send(START)
    said = talk.send(wire, cuts)
    assert said.count(b"octets received\r\n") == len(chunks) - 1 and said.endswith(b" journaled\r\n")
    # Without its last line end it gets one; an empty line that lost its end is no line.
    wanted = sent if not sent or sent.endswith(b"\r\n") else sent + b"\r\n"
    assert talk.bodies == [wanted]


@settings(max_examples=200, deadline=None)
@given(
    octets=st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from([b"Date: x\r\n", b"Message-ID: <a@b>\r\n", b"\r\n", b": ", b"Subject:", b" "]),
        ),
        max_size=12,
    ).map(b"".join),
    cuts=CUTS,
)
def test_a_header_is_read_and_only_added_to(octets: bytes, cuts: list[int]) -> None:
    readers = [HeadingReader(lambda: Supplement("<n@x>", "now")) for _ in range(2)]
    whole = readers[0].feed(octets) + readers[0].finish()
    parts, at = [], 0
    for length in [*cuts, len(octets)]:
        parts.append(readers[1].feed(octets[at : at + length]))
        at += length
    parts.append(readers[1].finish())
    assert b"".join(parts) == whole
    assert readers[0].heading == readers[1].heading
    assert whole.endswith(octets)
    assert whole[: len(whole) - len(octets)] in (
        b"",
        *(b"Message-ID: <n@x>\r\nDate: now\r\n" + end for end in (b"", b"\r\n")),
        *(b"Message-ID: <n@x>\r\n", b"Date: now\r\n"),
    )


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(max_size=60),
    charset=st.sampled_from(["utf-8", "utf-7", "idna", "zip", "iso-2022-jp", "mbcs"]),
)
def test_no_subject_makes_the_decoder_fail(text: str, charset: str) -> None:
    for word in (text, f"=?{charset}?q?{text}?=", f"=?{charset}?b?{text}?= =?{text}?q?=ff?="):
        decoded = decode_words(word)
        decoded.encode()
        assert "\n" not in decoded and "\r" not in decoded
