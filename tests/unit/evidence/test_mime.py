"""Mail taken apart: what a mail says of itself is not believed further than it is true."""

from __future__ import annotations

import io

import pytest

from resubmit.evidence.mime import LIMIT, header_of, mails, parsed, without_marks, words


def split(data: bytes) -> list[tuple[int, bytes]]:
    return list(mails(io.BytesIO(data)))


class TestMails:
    def test_a_file_is_one_mail_whatever_lines_begin_with_from(self) -> None:
        data = b"Subject: x\n\nFrom here to there 12:30\n\nFrom now on 1:1\n"
        assert split(data) == [(1, data)]

    def test_an_mbox_is_cut_at_its_from_lines(self) -> None:
        data = b"\nFrom a Tue Nov 24 08:00:00 2026\nA: 1\n\nx\n\nFrom b Tue Nov 24 09:00:00 2026\nB: 2\n\ny\n"
        assert [(line, mail.split(b"\n")[1]) for line, mail in split(data)] == [(2, b"A: 1"), (7, b"B: 2")]

    def test_a_from_line_needs_a_blank_line_before_it(self) -> None:
        data = b"From a Tue Nov 24 08:00:00 2026\nA: 1\n\nx\nFrom b Tue Nov 24 09:00:00 2026\n"
        assert len(split(data)) == 1

    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
    def test_every_end_of_line_is_one(self, end: bytes) -> None:
        assert split(b"A: 1" + end + end + b"x" + end) == [(1, b"A: 1\n\nx\n")]

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
    def test_every_encoding_becomes_utf_8(self, encoding: str) -> None:
        text = "Subject: Grüße aus Köln\n\nund mehr davon\n"
        assert split(text.encode(encoding)) == [(1, text.encode())]

    def test_a_mail_is_cut_off_at_its_limit_and_the_next_one_is_whole(self) -> None:
        first = b"From a Tue Nov 24 08:00:00 2026\n\n" + b"x" * 99 + b"\n"
        data = (
            first + (b"y" * 999 + b"\n") * (2 * LIMIT // 1000) + b"\nFrom b Tue Nov 24 09:00:00 2026\nB: 2\n"
        )
        found = split(data)
        assert len(found) == 2
        assert LIMIT <= len(found[0][1]) < LIMIT + 2000
        assert found[1][1].endswith(b"B: 2\n")

    def test_a_line_without_end_does_no_harm(self) -> None:
        assert sum(len(mail) for _, mail in split(b"A: " + b"x" * (3 << 20))) > 3 << 20


class TestHeader:
    def test_fields_are_unfolded_and_may_have_a_blank_before_their_colon(self) -> None:
        fields, rest = header_of(b"A : 1\nB: 2\n\t3\n\nbody")
        assert (fields, rest) == ((("a", "1"), ("b", "2 3")), b"body")

    def test_what_is_no_field_ends_the_header(self) -> None:
        assert header_of(b"A: 1\nHello, you\nB: 2\n") == ((("a", "1"),), b"Hello, you\nB: 2\n")

    def test_in_wrapped_text_what_is_no_field_goes_on_with_the_one_before(self) -> None:
        fields, _ = header_of(b"Received: from x (via\nHTTP); Sat\nMessage-ID: <1@x>\n", wrapped=True)
        assert fields == (("received", "from x (via HTTP); Sat"), ("message-id", "<1@x>"))

    def test_a_parameter_on_a_line_of_its_own_belongs_to_its_field(self) -> None:
        fields, _ = header_of(b'Content-Type: multipart/mixed;\nboundary="x"\n\n')
        assert fields == (("content-type", 'multipart/mixed; boundary="x"'),)


class TestParts:
    def test_a_boundary_that_is_another_than_announced_is_found(self) -> None:
        part = parsed(
            b"Content-Type: multipart/mixed; boundary=a\n\n--b\nContent-Type: text/plain\n\nx\n--b--\n"
        )
        assert [p.text().strip() for p in part.parts] == ["x"]

    def test_a_multipart_without_parts_is_text(self) -> None:
        part = parsed(b"Content-Type: multipart/mixed; boundary=a\n\nhello\n")
        assert (part.kind, part.parts, part.text()) == ("text/plain", (), "hello\n")

    def test_an_empty_field_is_there(self) -> None:
        part = parsed(b"X-MS-Exchange-Message-Is-Ndr:\nSubject: x\n\n")
        assert part.has("x-ms-exchange-message-is-ndr")
        assert not part.has("x-other")

    def test_a_mail_in_a_mail_in_a_mail_ends_somewhere(self) -> None:
        depth, part = 0, parsed(b"Content-Type: message/rfc822\n\n" * 5000)
        while part.parts:
            depth, part = depth + 1, part.parts[0]
        assert depth < 20

    def test_a_mail_is_not_made_of_a_million_parts(self) -> None:
        part = parsed(b"Content-Type: multipart/mixed; boundary=a\n\n" + b"--a\n\nx\n" * 100_000)
        assert len(part.parts) <= 200

    def test_broken_base64_stands_as_it_is_and_cut_base64_is_read(self) -> None:
        head = b"Content-Transfer-Encoding: base64\n\n"
        assert parsed(head + b"aGVsbG8gd29y").text() == "hello wor"
        assert parsed(head + b"aGVsbG8gd29ybGQ").text() == "hello world"

    @pytest.mark.parametrize(
        ("charset", "octets", "text"),
        [
            ("iso-8859-1", b"Gr\xfc\xdfe", "Grüße"),
            ("", b"Gr\xfc\xdfe", "Grüße"),
            ("us-ascii", "Grüße".encode(), "Grüße"),
            ("no-such-charset", b"abc", "abc"),
            ("hex", b"abc", "abc"),
            ("utf-8", b"a\x00b", "ab"),
            ("us-ascii", "宛先不明".encode("iso2022_jp"), "宛先不明"),
            ("unicode-1-1-utf-7", b"Gr+APwA3w-e", "Grüße"),
        ],
    )
    def test_text_is_read_by_its_charset_or_by_its_looks(
        self, charset: str, octets: bytes, text: str
    ) -> None:
        assert (
            parsed(b"Content-Type: text/plain; charset=" + charset.encode() + b"\n\n" + octets).text() == text
        )


def test_encoded_words_are_decoded_and_broken_ones_stand() -> None:
    assert words("=?utf-8?Q?a=C3=BC?= =?iso-8859-1?B?/A==?= b") == "aüü b"
    assert words("=?utf-8?B?*?= x") in ("=?utf-8?B?*?= x", " x")
    assert words("=?nowhere?Q?abc?=") == "abc"


def test_html_keeps_addresses_in_angle_brackets() -> None:
    shown = without_marks("<style>p{}</style><p>to &lt;anna@contoso.com&gt;<br>550 no</p>")
    assert "<anna@contoso.com>" in shown
    assert "p{}" not in shown
    assert shown.index("anna") < shown.index("\n550")
