"""Files of any size and packing; CSV as people's machines break it; times in every culture."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from resubmit.evidence.csvrows import BadRow, Row, Table, encoding_of
from resubmit.evidence.digest import digest_of
from resubmit.evidence.led import parse_reason
from resubmit.evidence.reader import explain_file, read_file, read_stream, sniff
from resubmit.evidence.stamps import Culture, Survey
from resubmit.lab.trace import Row as LabRow
from resubmit.lab.trace import Step, led_block
from resubmit.lab.trace_files import EVENTS, SUMMARIES
from resubmit.model.evidence import Evidence, Status, Unreadable
from resubmit.model.moment import DAY, MINUTE, parse_rfc3339

HEADER = b'"MessageId","Received","SenderAddress","RecipientAddress","Status"\r\n'
ROW = '"<{0}@x>","2026-11-23 09:14:03","s@x","r{0}@y","Pending"\r\n'


def many(count: int) -> bytes:
    return HEADER + "".join(ROW.format(i) for i in range(count)).encode()


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for count in (20_000, 60_000):
        path = tmp_path / f"{count}.csv"
        path.write_bytes(many(count))
        tracemalloc.start()
        assert sum(1 for _ in read_file(path)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 300_000


def test_a_gzip_of_several_members_and_padding_is_one_file() -> None:
    data = gzip.compress(HEADER) + gzip.compress(ROW.format(1).encode()) + b"\0" * 512
    assert len(list(read_stream(io.BytesIO(data), "f"))) == 1


def test_a_gzip_cut_off_gives_what_came_and_says_so() -> None:
    *items, last = list(read_stream(io.BytesIO(gzip.compress(many(5_000))[:-4_000]), "f"))
    assert isinstance(last, Unreadable) and "ends in the middle" in last.reason
    assert len([i for i in items if isinstance(i, Evidence)]) > 500


def test_what_unpacks_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resubmit.evidence.reader.UNPACKED_LIMIT", 1 << 20)
    (*_, last) = read_stream(io.BytesIO(gzip.compress(many(50_000))), "f")
    assert isinstance(last, Unreadable) and "more than any trace" in last.reason


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress], ids=["bzip2", "xz"])
class TestOtherPackings:
    """As rotated logs are kept."""

    def test_several_streams_and_padding_are_one_file(self, pack: Callable[[bytes], bytes]) -> None:
        data = pack(HEADER) + pack(ROW.format(1).encode()) + b"\0" * 512
        assert len(list(read_stream(io.BytesIO(data), "f"))) == 1

    def test_cut_off_it_gives_what_came_and_says_so(self, pack: Callable[[bytes], bytes]) -> None:
        (*_, last) = read_stream(io.BytesIO(pack(many(5_000))[:-400]), "f")
        assert isinstance(last, Unreadable) and "ends in the middle" in last.reason

    def test_damaged_it_is_said_to_be(self, pack: Callable[[bytes], bytes]) -> None:
        data = bytearray(pack(many(5_000)))
        data[40:80] = bytes(40)
        (*_, last) = read_stream(io.BytesIO(bytes(data)), "f")
        assert isinstance(last, Unreadable) and "damaged" in last.reason

    def test_without_end_it_is_refused(
        self, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("resubmit.evidence.reader.UNPACKED_LIMIT", 1 << 20)
        (*_, last) = read_stream(io.BytesIO(pack(many(50_000))), "f")
        assert isinstance(last, Unreadable) and "more than any trace" in last.reason


def test_content_decides_the_kind_and_not_the_name() -> None:
    assert sniff(HEADER, "mail.log") == "trace_csv"
    assert sniff(b"550 5.1.1 x", "a.csv") == "smtp_reply"
    assert sniff(b"", "a.csv") is None
    assert sniff(b"a,b,c\n1,2,3\n", "a.csv") is None


def test_explaining_needs_nothing_heavy() -> None:
    code = (
        "import io, sys; from resubmit.evidence.reader import explain_file;"
        "list(explain_file(io.BytesIO(b'550 5.1.1 x'), 'f'));"
        "sys.exit(any(m in sys.modules for m in ('pydantic', 'structlog', 'sqlite3', 'watchdog', 'asyncio')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_explain_gives_the_items_of_a_pasted_reply() -> None:
    (item,) = explain_file(io.BytesIO(b"450 4.4.316 Connection refused"), "-")
    assert isinstance(item, Evidence) and item.status is Status.DEFERRED and item.meaning


# ── the look-alike's files ───────────────────────────────────────────────────────────────────────


def lab_row() -> LabRow:
    start = parse_rfc3339("2026-11-05T09:14:03Z")
    led = "450 4.4.317 Cannot connect to remote server [Message=CertificateExpired Expected Subject: a.]"
    block = led_block(led, "mail.contoso.invalid", "198.51.100.7", start + MINUTE)
    row = LabRow(
        "b7c1f4d2-9a6e-4c3b-8f2d-08de2a6c1b01", 1, "<a@b>", start, "s@x", "r@y", "Hi", 9, "::1", "AM0"
    )
    row.add(Step(start, "Receive", "GettingStatus", "Message received by: AM0"))
    row.add(
        Step(
            start + MINUTE,
            "Defer",
            "Pending",
            f"Reason: {block}",
            led,
            "mail.contoso.invalid",
            "198.51.100.7",
        )
    )
    return row


@pytest.mark.parametrize("form", [*SUMMARIES, *EVENTS], ids=lambda form: form.__name__)
def test_each_form_of_the_look_alike_is_read(form: object) -> None:
    row = lab_row()
    items = list(read_stream(io.BytesIO(form([row])), "f", now=row.received_at + DAY))  # type: ignore[operator]
    assert items and all(isinstance(item, Evidence) for item in items)
    last = items[-1]
    assert isinstance(last, Evidence)
    assert last.status in (Status.PENDING, Status.DEFERRED)
    assert last.received_at is not None and abs(last.received_at - row.received_at) < 1000
    assert (last.message_id, last.network_message_id) == (row.message_id, row.network_id)
    if form in EVENTS:
        assert last.meaning is not None and last.meaning.sign == "tls_certificate_expired"


def test_the_same_event_in_two_forms_has_one_digest() -> None:
    defers = [
        [i for i in read_stream(io.BytesIO(form([lab_row()])), "f") if isinstance(i, Evidence)][-1]
        for form in EVENTS
    ]
    assert digest_of(defers[0]) == digest_of(defers[1])


# ── CSV ──────────────────────────────────────────────────────────────────────────────────────────


def rows(text: str, separator: str = ",") -> list[Row | BadRow]:
    return list(Table(io.BytesIO(text.encode()), "utf-8", separator).rows())


def test_rows_have_the_number_of_their_first_line() -> None:
    found = rows('a,b\n\n"x\ny",z\nlast,one')
    assert [(r.line, r.fields) for r in found if isinstance(r, Row)] == [
        (1, ["a", "b"]),
        (3, ["x\ny", "z"]),
        (5, ["last", "one"]),
    ]


def test_a_quote_that_never_closes_costs_one_line() -> None:
    bad, *rest = rows('"open,b\n' + "c,d\n" * 3_000)
    assert isinstance(bad, BadRow) and bad.line == 1
    assert len(rest) == 3_000 and all(isinstance(r, Row) for r in rest)


def test_a_line_without_end_is_cut_and_the_next_one_read() -> None:
    found = rows("a,b\n" + "x" * (3 << 20) + "\nc,d\n")
    assert [r.line for r in found if isinstance(r, BadRow)] == [2]
    assert [r.fields for r in found if isinstance(r, Row)] == [["a", "b"], ["c", "d"]]


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"\xef\xbb\xbfDate", "utf-8-sig"),
        ("Date,ü".encode("utf-16"), "utf-16"),
        (b"\xfe\xff" + "Date".encode("utf-16-be"), "utf-16"),
        ("Date,Sender".encode("utf-16-le"), "utf-16-le"),
        ("Date,Sender".encode("utf-16-be"), "utf-16-be"),
        ("Empfänger".encode(), "utf-8"),
        ("Empfänger".encode("cp1252"), "cp1252"),
        (b"a" * 300_000 + "ä".encode("cp1252"), "cp1252"),
        (b"a" * 65_535 + "ä".encode(), "utf-8"),
        (b"", "utf-8"),
    ],
)
def test_the_encoding_is_found_out(data: bytes, encoding: str) -> None:
    assert encoding_of(io.BytesIO(data)) == encoding


# ── times ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "day_first", "said"),
    [
        ("2026-11-20T10:00:09.3284899Z", False, "2026-11-20T10:00:09.328Z"),
        ("2026-11-20T10:00:09+01:00", False, "2026-11-20T09:00:09.000Z"),
        ("2026-11-20 10:00", False, "2026-11-20T10:00:00.000Z"),
        ("2026-11-20", False, "2026-11-20T00:00:00.000Z"),
        ("11/9/2026 12:05:00 AM", False, "2026-11-09T00:05:00.000Z"),
        ("11/9/2026 12:05:00 PM", False, "2026-11-09T12:05:00.000Z"),
        ("9/11/2026 17:05", True, "2026-11-09T17:05:00.000Z"),
        ("09.11.2026 17:05:06", False, "2026-11-09T17:05:06.000Z"),
        ("9. 11. 2026 17:05:06", False, "2026-11-09T17:05:06.000Z"),
        ("09-11-2026 17:05:06", True, "2026-11-09T17:05:06.000Z"),
        ("2026/11/9 17:05:06", False, "2026-11-09T17:05:06.000Z"),
        ("2026/11/09 午後 5:05:06", False, "2026-11-09T17:05:06.000Z"),
        ("9/11/2026 5:05:06 p. m.", True, "2026-11-09T17:05:06.000Z"),
        ("9 Nov 2026 17:05:06 +0100", False, "2026-11-09T16:05:06.000Z"),
        ("Mon, 9 Nov 2026 17:05:06 GMT", False, "2026-11-09T17:05:06.000Z"),
        ("Nov 9, 2026 5:05 PM", False, "2026-11-09T17:05:00.000Z"),
    ],
)
def test_a_stamp_is_read(text: str, day_first: bool, said: str) -> None:
    assert Culture(UTC, day_first).parse(text) == parse_rfc3339(said)


@pytest.mark.parametrize(
    "text", ["", "soon", "31/31/2026", "2026-13-01", "1/1/0001", "9" * 500, "1.1.2026 25:00"]
)
def test_what_is_no_stamp_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time|not a time of mail"):
        Culture().parse(text)


def test_a_zone_is_the_settings_unless_the_stamp_or_its_column_says_one() -> None:
    berlin = Culture(ZoneInfo("Europe/Berlin"), True)
    assert berlin.parse("09.11.2026 17:00") == parse_rfc3339("2026-11-09T16:00:00Z")
    assert berlin.parse("09.11.2026 17:00", utc=True) == parse_rfc3339("2026-11-09T17:00:00Z")
    assert berlin.parse("2026-11-09T17:00:00Z") == parse_rfc3339("2026-11-09T17:00:00Z")


def survey(*stamps: str, near: tuple[str, ...] = (), now: str | None = None) -> bool:
    found = Survey(UTC)
    for stamp in stamps:
        found.add(stamp)
    times = tuple(parse_rfc3339(text) for text in near)
    return found.decide(times, parse_rfc3339(now) if now else None).day_first


def test_a_value_above_12_decides_for_the_whole_file() -> None:
    assert survey("05/11/2026 09:00", "13/11/2026 09:00", near=("2026-05-11T09:00:00Z",)) is True
    assert survey("05/11/2026 09:00", "05/13/2026 09:00", near=("2026-11-05T09:00:00Z",)) is False


def test_the_future_decides_before_our_attempts_do() -> None:
    near = ("2026-12-11T09:00:00Z",)
    assert survey("12/11/2026 09:00", near=near, now="2026-11-24T00:00:00Z") is True


def test_our_attempts_decide_before_the_order_does() -> None:
    """A file split or shuffled must be read as the whole one was."""
    stamps = ("01/10/2026 09:00", "02/10/2026 09:00", "03/10/2026 09:00")
    assert survey(*stamps, near=("2026-10-01T09:00:00Z", "2026-10-02T09:00:00Z")) is True
    assert survey(*stamps, near=("2026-01-10T09:00:00Z", "2026-02-10T09:00:00Z")) is False


def test_the_order_of_rows_decides_where_nothing_else_does() -> None:
    assert survey("11/01/2026 09:00", "12/01/2026 09:00", "01/02/2026 09:00") is True
    assert survey("01/11/2026 09:00", "01/12/2026 09:00", "02/01/2026 09:00") is False


def test_with_nothing_to_go_by_it_is_as_exchange_prints_it() -> None:
    assert survey("05/06/2026 09:00") is False
    assert survey("2026-05-06 09:00") is False
    assert survey() is False


# ── reasons ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("detail", "text", "host", "ip"),
    [
        ("550 5.1.1 x", "550 5.1.1 x", "", ""),
        ("Reason: [{LED=450 a};{MSG=};{FQDN=h};{IP=1};{LRT=t}]", "450 a", "h", "1"),
        ("{LED=4 [LastAttemptedIP=1.2.3.4:25]};{MSG=", "4 [LastAttemptedIP=1.2.3.4:25]", "", "1.2.3.4"),
        ("[{LED=450 a}]", "450 a", "", ""),
        ("[{LED=450 a", "450 a", "", ""),
        ("[{LED=450 a};{MS", "450 a", "", ""),
        ("{[{LED=450 a};{MSG=};{FQDN=h};{IP=};{LRT=}]}", "450 a", "h", ""),
        ("[{LED=450 {x}; y};{MSG=}]", "450 {x}; y", "", ""),
        ("[{LED=450 a};{MSG=};{Last attempted server name=h}]", "450 a", "h", ""),
        ("{LED=4 a. OutboundProxyTargetIP: 9.9.9.9. OutboundProxyTargetHostName: h", "4 a", "h", "9.9.9.9"),
        ("", "", "", ""),
    ],
)  # fmt: skip
def test_a_reason_is_found_whole_cut_or_bare(detail: str, text: str, host: str, ip: str) -> None:
    reason = parse_reason(detail)
    assert (reason.text, reason.host, reason.ip) == (text, host, ip)
