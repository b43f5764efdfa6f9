"""Any bytes give evidence or an unreadable item with its place: never another error."""

from __future__ import annotations

import gzip
import io
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resubmit.evidence.base import Item, Reading
from resubmit.evidence.digest import digest_of
from resubmit.evidence.kinds import KINDS, kind
from resubmit.evidence.reader import read_stream, sniff
from resubmit.meaning.classify import meaning_of
from resubmit.model.evidence import Evidence, Unreadable

GOLDEN = sorted((Path(__file__).parent.parent / "golden").glob("*/*.in"))
NOW = 1_795_500_000_000


def read(data: bytes) -> list[Item]:
    return list(read_stream(io.BytesIO(data), "file", now=NOW))


def check(items: list[Item]) -> None:
    for item in items:
        assert isinstance(item, Evidence | Unreadable)
        assert item.file == "file"
        if isinstance(item, Evidence):
            assert item.place and item.raw
            assert len(digest_of(item)) == 16
        else:
            assert item.reason


@given(st.binary(max_size=2_000))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_read(data: bytes) -> None:
    check(read(data))


@given(st.sampled_from(KINDS), st.binary(max_size=2_000))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_read_by_each_kind(name: str, data: bytes) -> None:
    check(list(kind(name).read(io.BytesIO(data), Reading("file"))))


@given(st.binary(max_size=500))
@settings(max_examples=100, deadline=None)
def test_any_bytes_packed_are_read(data: bytes) -> None:
    check(read(gzip.compress(data)))
    check(read(b"\x1f\x8b" + data))


CELL = st.text(st.sampled_from('ab@<>#;,"\r\n\t {}[]=:/.-0123456789AMP\x00ü\ufeff'), max_size=24)
HEADERS = [
    b"Date,Sender,Recipient,Subject,Status,Message ID\r\n",
    b"origin_timestamp_utc,sender_address,recipient_status,message_subject,message_id,network_message_id\r\n",
    b"date_time_utc,event_id,message_id,network_message_id,recipient_address,recipient_status\r\n",
    b"MessageTraceId,MessageId,Date,Event,Detail,Data\r\n",
]


@given(st.sampled_from(HEADERS), st.lists(st.lists(CELL, min_size=6, max_size=6), max_size=8), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_cells_under_a_header_are_read(header: bytes, rows: list[list[str]], quoted: bool) -> None:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if quoted else text

    body = "\r\n".join(",".join(cell(text) for text in row) for row in rows)
    check(read(header + body.encode("utf-8", "surrogatepass")))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_cut_anywhere_are_read(path: Path) -> None:
    data = path.read_bytes()
    step = max(1, len(data) // 40)
    for end in range(0, len(data), step):
        check(read(data[:end]))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
@given(data=st.data())
@settings(max_examples=6, deadline=None)
def test_golden_files_with_bytes_changed_are_read(path: Path, data: st.DataObject) -> None:
    octets = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 12))):
        place = data.draw(st.integers(0, len(octets) - 1))
        octets[place] = data.draw(st.sampled_from(b'",;\t\r\n#{}[]\x00\xff<>@A9'))
    check(read(bytes(octets)))


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_has_a_meaning(text: str) -> None:
    assert meaning_of(text).advice


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_read_in_pieces_are_the_same(path: Path) -> None:
    class Dribble(io.RawIOBase):
        """A pipe that gives a byte at a time."""

        def __init__(self, data: bytes) -> None:
            self._data = iter(data)

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            return bytes(islice(self._data, 1))

    data = path.read_bytes()
    assert list(read_stream(Dribble(data), "file", now=NOW)) == read(data)  # type: ignore[arg-type]


def test_each_golden_file_is_sniffed_as_its_kind() -> None:
    wrong = {p.name: found for p in GOLDEN if (found := sniff(_plain(p)[:65536], p.name)) != p.parent.name}
    assert wrong == {}


def _plain(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
