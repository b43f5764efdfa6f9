"""Which bytes of a log are still to be read, whatever a rotation did to it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from resubmit.evidence import follow
from resubmit.evidence.follow import Found, Mark, Piece, Piecewise, Plan, look, plan
from resubmit.model.evidence import Evidence, Source, Status
from resubmit.model.moment import DAY, HOUR, MINUTE

NOW = 1_795_500_000_000
MARK = Mark(1, 10, "h", 100, 500, 1_000)
FILE = Found("mail.log", 1, 10, 800, 2_000, "h")


class Reader:
    """Follows a log as the flow does: look, plan, read, mark."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mark: Mark | None = None
        self.lost = False

    def read(self, most: int = 10) -> list[bytes]:
        seen = look(self.path, self.mark)
        steps = plan(self.mark, seen.current, seen.others)
        self.lost = steps.lost
        lines: list[bytes] = []
        for piece in steps.pieces:
            reader = Piecewise(piece)
            while batch := reader.take(most):
                lines += [line for _, line in batch]
            self.mark = follow.parse_mark(follow.mark_text(reader.mark()))
            reader.close()
        return lines


def add(path: Path, *lines: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)


def text(lines: list[bytes]) -> list[str]:
    return [line.decode().rstrip("\n") for line in lines]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "mail.log"


class TestPlan:
    def test_a_log_never_read_is_read_from_its_start(self) -> None:
        assert plan(None, FILE, ()) == Plan((Piece("mail.log", 0, ended=False),))

    def test_a_log_that_is_not_there_yet_is_nothing_to_read(self) -> None:
        assert plan(None, None, ()) == Plan(())

    def test_what_was_added_is_read(self) -> None:
        assert plan(MARK, FILE, ()) == Plan((Piece("mail.log", 500, ended=False),))

    def test_the_rest_of_a_renamed_file_comes_before_the_new_one(self) -> None:
        old = replace(FILE, name="mail.log.1")
        new = Found("mail.log", 1, 11, 50, 3_000, "n")
        steps = plan(MARK, new, (old,))
        assert steps.pieces == (Piece("mail.log.1", 500, ended=True), Piece("mail.log", 0, ended=False))

    def test_a_new_file_that_is_still_empty_leaves_the_old_one_open(self) -> None:
        old = replace(FILE, name="mail.log.1")
        assert plan(MARK, Found("mail.log", 1, 11, 0, 3_000, "e"), (old,)).pieces == (
            Piece("mail.log.1", 500, ended=False),
        )

    def test_a_packed_copy_beside_its_original_is_read_once(self) -> None:
        old = replace(FILE, name="mail.log.1")
        packed = Found("mail.log.1.gz", 1, 12, 90, 2_000, "h", packed=True)
        names = [piece.name for piece in plan(MARK, None, (packed, old)).pieces]
        assert names == ["mail.log.1"]

    def test_files_between_are_read_whole_and_the_oldest_first(self) -> None:
        old = Found("mail.log.3.gz", 1, 12, 90, 2_000, "h", packed=True)
        between = Found("mail.log.2.gz", 1, 13, 90, 3_000, "b", packed=True)
        newer = Found("mail.log.1", 1, 14, 90, 4_000, "c")
        older = Found("mail.log.4.gz", 1, 15, 90, 1_500, "a", packed=True)
        steps = plan(MARK, Found("mail.log", 1, 16, 90, 5_000, "d"), (newer, older, old, between))
        assert [(p.name, p.start) for p in steps.pieces] == [
            ("mail.log.3.gz", 500),
            ("mail.log.2.gz", 0),
            ("mail.log.1", 0),
            ("mail.log", 0),
        ]
        assert not steps.lost

    def test_a_file_that_is_gone_is_told_of(self) -> None:
        steps = plan(MARK, Found("mail.log", 1, 11, 50, 3_000, "n"), ())
        assert steps == Plan((Piece("mail.log", 0, ended=False),), lost=True)

    def test_a_log_emptied_without_a_copy_is_read_anew_and_told_of(self) -> None:
        steps = plan(MARK, replace(FILE, size=40, head="x"), ())
        assert steps == Plan((Piece("mail.log", 0, ended=False),), lost=True)

    def test_another_file_with_the_same_inode_is_not_taken_for_it(self) -> None:
        other = replace(FILE, size=9_000, head="another")
        assert plan(MARK, other, ()).pieces[0].start == 0


class TestFiles:
    def test_lines_are_given_once_and_in_order(self, log: Path) -> None:
        reader = Reader(log)
        add(log, *(f"line {n}" for n in range(25)))
        assert text(reader.read()) == [f"line {n}" for n in range(25)]
        assert reader.read() == []
        add(log, "more")
        assert text(reader.read()) == ["more"]

    def test_half_a_line_waits_for_its_end(self, log: Path) -> None:
        reader = Reader(log)
        log.write_text("whole\nhal")
        assert text(reader.read()) == ["whole"]
        assert reader.read() == []
        with log.open("a") as file:
            file.write("f\n")
        assert text(reader.read()) == ["half"]

    def test_the_last_line_of_a_rotated_file_may_lack_its_end(self, log: Path, tmp_path: Path) -> None:
        reader = Reader(log)
        log.write_text("whole\nhalf")
        reader.read()
        log.rename(tmp_path / "mail.log.1")
        log.write_text("new\n")
        assert text(reader.read()) == ["half", "new"]

    def test_a_file_that_was_read_to_its_end_and_renamed_is_not_read_again(
        self, log: Path, tmp_path: Path
    ) -> None:
        reader = Reader(log)
        add(log, "one")
        reader.read()
        log.rename(tmp_path / "mail.log-20261124")
        assert reader.read() == []
        add(log, "two")
        assert text(reader.read()) == ["two"]
        assert not reader.lost

    def test_a_log_that_was_copied_and_emptied_loses_nothing(self, log: Path, tmp_path: Path) -> None:
        reader = Reader(log)
        add(log, "one")
        reader.read()
        add(log, "two")
        shutil.copy2(log, tmp_path / "mail.log.1")
        os.truncate(log, 0)
        add(log, "three")
        assert text(reader.read()) == ["two", "three"]

    @pytest.mark.parametrize(
        ("ending", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)]
    )
    def test_the_rest_is_read_from_a_packed_file(
        self, log: Path, tmp_path: Path, ending: str, pack: Callable[[bytes], bytes]
    ) -> None:
        reader = Reader(log)
        add(log, *(f"a line that is read before {n}" for n in range(100)))
        reader.read()
        add(log, "left over")
        (tmp_path / f"mail.log.1{ending}").write_bytes(pack(log.read_bytes()))
        log.unlink()
        add(log, "new")
        assert text(reader.read()) == ["left over", "new"]
        assert not reader.lost

    def test_two_rotations_while_nobody_read_lose_nothing(self, log: Path, tmp_path: Path) -> None:
        reader = Reader(log)
        add(log, "one")
        reader.read()
        add(log, "two")
        (tmp_path / "mail.log.2.gz").write_bytes(gzip.compress(log.read_bytes()))
        os.utime(tmp_path / "mail.log.2.gz", ns=(log.stat().st_mtime_ns, log.stat().st_mtime_ns))
        log.unlink()
        add(tmp_path / "mail.log.1", "three")
        add(log, "four")
        assert text(reader.read()) == ["two", "three", "four"]

    def test_other_logs_beside_it_are_left_alone(self, log: Path, tmp_path: Path) -> None:
        reader = Reader(log)
        add(log, "one")
        reader.read()
        for name in ("mail.err", "mail.warn", "mail.log.swp", "mailman.log", "mail.log.d.1x"):
            add(tmp_path / name, "not ours")
        log.unlink()
        add(log, "two")
        assert text(reader.read()) == ["two"]
        assert reader.lost

    def test_a_rotation_by_date_before_the_extension_is_found(self, log: Path, tmp_path: Path) -> None:
        reader = Reader(log)
        add(log, "one")
        reader.read()
        add(log, "two")
        log.rename(tmp_path / "mail-20261124.log")
        add(log, "three")
        assert text(reader.read()) == ["two", "three"]

    def test_the_zeros_of_an_emptied_log_that_is_written_on_are_no_line(self, log: Path) -> None:
        log.write_bytes(b"\0" * 5_000 + b"a line\n")
        assert text(Reader(log).read()) == ["a line"]

    def test_a_line_without_end_does_not_fill_the_memory(self, log: Path) -> None:
        log.write_bytes(b"x" * (3 << 20) + b"\nnext\n")
        lines = Reader(log).read()
        assert [len(line) for line in lines[:2]] == [1 << 20, 1 << 20]
        assert lines[-1] == b"next\n"

    def test_a_damaged_packed_file_is_no_error(self, log: Path, tmp_path: Path) -> None:
        reader = Reader(log)
        add(log, "one")
        reader.read()
        (tmp_path / "mail.log.1.gz").write_bytes(gzip.compress(b"one\ntwo\n" * 1000)[:20])
        log.unlink()
        add(log, "three")
        assert text(reader.read()) == ["three"]


class TestProblems:
    def test_a_missing_log_says_so(self, log: Path) -> None:
        assert look(log, None).problem == "it is not there; it is read as soon as it is"

    def test_a_folder_in_its_place_says_so(self, log: Path) -> None:
        log.mkdir()
        assert "can't be read" in look(log, None).problem

    def test_no_permission_says_which_group_may_read_it(
        self, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add(log, "one")
        log.chmod(0o640)

        def denied(path: Path) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(follow, "open_log", denied)
        problem = look(log, None).problem
        assert problem.startswith("no permission to read it: add the service's user to the group ")
        log.chmod(0o600)
        assert look(log, None).problem.endswith(f"(setfacl -m u:resubmit:r {log})")


@pytest.mark.parametrize("text", ["", "null", "[]", "{", '{"offset": 1}', '{"a": 1}'])
def test_a_cursor_that_is_no_mark_begins_anew(text: str) -> None:
    assert follow.parse_mark(text) is None


def test_what_was_refused_at_the_door_is_not_kept() -> None:
    refused = Evidence(Source.POSTFIX_LOG, Status.FAILED, recipient="a@example.com")
    assert not follow.may_match(refused)
    assert follow.may_match(replace(refused, queue_id="A0A252203A8"))
    assert follow.may_match(replace(refused, source=Source.EXCHANGE_SMTP_LOG))


@pytest.mark.parametrize(
    ("off", "said"),
    [
        (0, ""),
        (20_000, ""),
        (7 * MINUTE, ""),
        (HOUR, "its stamps are 1h behind"),
        (-HOUR - 5_000, "its stamps are 1h ahead of"),
        (5 * HOUR + 45 * MINUTE, "its stamps are 5h 45m behind"),
        (3 * DAY, ""),
    ],
)
def test_a_log_of_another_zone_is_noticed(off: int, said: str) -> None:
    found = follow.off_clock(NOW, (NOW + off) * 1_000_000)
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_of_a_folder_the_files_of_the_kind_are_followed_the_oldest_first(tmp_path: Path) -> None:
    line = "Nov 24 05:27:18 mx postfix/qmgr[1]: A0A252203A8: removed"
    for n, name in enumerate(("b.log", "a.log", "other.txt", ".hidden", "old.log")):
        add(tmp_path / name, "nothing of it" if name == "other.txt" else line)
        os.utime(tmp_path / name, ns=(0, 10**18 + n * 10**9 if name != "old.log" else 10**9))
    found = follow.paths_of(tmp_path, 10**18, "postfix_log")
    assert [path.name for path in found] == ["b.log", "a.log"]
    assert follow.paths_of(tmp_path / "missing.log", 0, "postfix_log") == [tmp_path / "missing.log"]
