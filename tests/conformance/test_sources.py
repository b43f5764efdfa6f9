"""What every kind of evidence source promises, asked of each that is in the union."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from resubmit.evidence import kinds
from resubmit.evidence.base import Item, Reading
from resubmit.evidence.digest import digest_of
from resubmit.evidence.kinds import KINDS, kind
from resubmit.evidence.reader import read_stream
from resubmit.model.evidence import Evidence, Source, Unreadable
from tests.golden_pairs import pairs

NOW = 1_795_500_000_000
FILES = [(name, path) for name in KINDS for path in pairs(name)]


def read(path: Path, name: str = "file") -> list[Item]:
    return list(read_stream(io.BytesIO(path.read_bytes()), name, now=NOW))


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_one_module_with_its_source(name: str) -> None:
    assert isinstance(kind(name).SOURCE, Source)


def test_every_module_that_reads_is_in_the_union() -> None:
    folder = Path(kinds.__file__).parent
    readers = {p.stem for p in folder.glob("*.py") if "\ndef sniff(" in p.read_text("utf-8")}
    assert readers == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_has_golden_pairs(name: str) -> None:
    assert len(pairs(name)) >= 5


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "data", [b"", b"\0" * 4096, b"\xff\xfe", b"%PDF-1.7\n\x80\x81", b"\n" * 100, b"PK\3\4" * 50]
)
def test_a_kind_does_not_take_what_is_not_its(name: str, data: bytes) -> None:
    assert not kind(name).sniff(data, "trace.csv")
    assert [i for i in kind(name).read(io.BytesIO(data), Reading("f")) if isinstance(i, Evidence)] == []


@pytest.mark.parametrize(("name", "path"), FILES, ids=[f"{n}-{p.stem}" for n, p in FILES])
class TestEachFile:
    def test_exactly_its_kind_knows_it(self, name: str, path: Path) -> None:
        data = path.read_bytes()
        head = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)[:65536]
        assert [other for other in KINDS if kind(other).sniff(head, "x")] == [name]

    def test_reading_again_gives_the_same(self, name: str, path: Path) -> None:
        assert read(path) == read(path)

    def test_items_carry_file_place_and_source_text(self, name: str, path: Path) -> None:
        for item in read(path, "given name"):
            assert item.file == "given name"
            assert item.place
            assert item.raw or isinstance(item, Unreadable)
            if isinstance(item, Evidence):
                assert item.source is kind(name).SOURCE

    def test_the_name_of_the_file_changes_nothing(self, name: str, path: Path) -> None:
        digests = [[digest_of(i) for i in read(path, n) if isinstance(i, Evidence)] for n in ("a", "b.log")]
        assert digests[0] == digests[1]

    def test_packed_it_is_the_same(self, name: str, path: Path) -> None:
        packed = list(read_stream(io.BytesIO(gzip.compress(path.read_bytes())), "file", now=NOW))
        if path.read_bytes()[:2] != b"\x1f\x8b":
            assert packed == read(path)

    def test_the_stream_stays_open(self, name: str, path: Path) -> None:
        stream = io.BytesIO(path.read_bytes())
        list(read_stream(stream, "file", now=NOW))
        assert not stream.closed
