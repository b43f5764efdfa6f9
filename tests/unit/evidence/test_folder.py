"""A watched folder by rescans alone, and whatever people put into one."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from resubmit.evidence.folder import Entry, Folder, fingerprint, is_ignored, look, open_entry, shown_name
from resubmit.evidence.reader import read_file


def names(entries: tuple[Entry, ...]) -> list[str]:
    return [entry.name for entry in entries]


def at(name: str, size: int = 1, mtime: int = 1, problem: str = "") -> Entry:
    return Entry(name, size, mtime, problem)


def test_a_file_is_ready_once_it_stood_still() -> None:
    folder = Folder(still=1000)
    first = folder.rescan([at("a.csv")], 0)
    assert (first.ready, first.again_in) == ((), 1000)
    assert folder.rescan([at("a.csv")], 400).again_in == 600
    assert names(folder.rescan([at("a.csv")], 1000).ready) == ["a.csv"]


def test_a_file_that_still_grows_is_waited_for() -> None:
    folder = Folder(still=1000)
    for now in range(0, 5000, 500):
        assert folder.rescan([at("a.csv", size=now)], now).ready == ()
    assert names(folder.rescan([at("a.csv", size=4500)], 5500).ready) == ["a.csv"]


def test_what_was_read_is_not_ready_again_until_it_changes() -> None:
    folder = Folder(still=0)
    (entry,) = folder.rescan([at("a")], 0).ready
    folder.done(entry)
    assert folder.rescan([at("a")], 1).ready == ()
    assert names(folder.rescan([at("a", size=2)], 2).ready) == ["a"]
    assert names(folder.rescan([at("a", size=2, mtime=9)], 3).ready) == ["a"]


def test_what_changed_while_it_was_read_is_read_again() -> None:
    folder = Folder(still=0)
    (entry,) = folder.rescan([at("a")], 0).ready
    folder.rescan([at("a", size=2)], 1)
    folder.done(entry)
    assert names(folder.rescan([at("a", size=2)], 2).ready) == ["a"]


def test_a_file_not_yet_read_is_ready_at_every_rescan() -> None:
    folder = Folder(still=0)
    assert folder.rescan([at("a")], 0).ready == folder.rescan([at("a")], 1).ready != ()


def test_the_oldest_comes_first() -> None:
    scan = Folder(still=0).rescan([at("b", mtime=3), at("c", mtime=1), at("a", mtime=3)], 0)
    assert names(scan.ready) == ["c", "a", "b"]


def test_a_folder_removed_and_made_anew_is_read_anew() -> None:
    folder = Folder(still=0)
    (entry,) = folder.rescan([at("a")], 0).ready
    folder.done(entry)
    assert folder.rescan(None, 1).ready == ()
    assert names(folder.rescan([at("a")], 2).ready) == ["a"]


def test_what_is_wrong_is_told_once_and_again_when_it_changed() -> None:
    folder = Folder(still=0)
    assert names(folder.rescan([at("p", problem="it is not a file")], 0).refused) == ["p"]
    assert folder.rescan([at("p", problem="it is not a file")], 1).refused == ()
    assert names(folder.rescan([at("p", mtime=2, problem="it is not a file")], 2).refused) == ["p"]


@pytest.mark.parametrize(
    "name",
    [
        *(".hidden", "a.csv.tmp", "a.CSV.PART", "x.crdownload", "~$book.csv", "a.csv~", "sub/.x", ".git/a"),
        *("sub/.d/a.csv", "a.filepart"),
    ],
)
def test_hidden_and_unfinished_names_are_ignored(name: str) -> None:
    assert is_ignored(name)
    assert Folder(still=0).rescan([at(name)], 0).ready == ()


@pytest.mark.parametrize("name", ["a.csv", "trace", "sub/trace.txt", "tmp.csv", "a.tmp.csv"])
def test_other_names_are_not(name: str) -> None:
    assert not is_ignored(name)


# ── the real thing ───────────────────────────────────────────────────────────────────────────────


def test_a_listing_has_files_of_folders_below_and_not_the_hidden_ones(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "sub" / "deep" / "b.csv").write_text("xy")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "c.csv").write_text("x")
    listing = look(tmp_path)
    assert listing is not None
    assert sorted((e.name, e.size) for e in listing) == [("a.csv", 1), ("sub/deep/b.csv", 2)]


def test_a_folder_that_is_not_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert look(tmp_path / "missing") is None
    assert look(tmp_path / "file") is None


def test_hostile_things_are_refused_with_a_reason(tmp_path: Path) -> None:
    root = tmp_path / "traces"
    root.mkdir()
    os.mkfifo(root / "pipe")
    (tmp_path / "secret.csv").write_text("x")
    (root / "out.csv").symlink_to(tmp_path / "secret.csv")
    (root / "dangling.csv").symlink_to(root / "nowhere")
    (root / "loop.csv").symlink_to(root / "loop.csv")
    (root / "good.csv").write_text("x")
    (root / "inside.csv").symlink_to(root / "good.csv")
    (root / "folder-link").symlink_to(root)
    with (root / "huge.csv").open("wb") as huge:
        huge.truncate(9 << 30)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(root / "sock"))
    deep = root
    for _ in range(12):
        deep = deep / "d"
        deep.mkdir()
    listing = look(root)
    sock.close()
    assert listing is not None
    problems = {entry.name: entry.problem for entry in listing}
    assert {name for name, problem in problems.items() if not problem} == {"good.csv", "inside.csv"}
    assert problems["pipe"] == problems["sock"] == problems["folder-link"] == "it is not a file"
    assert problems["out.csv"] == "it is a link that leads out of the folder"
    assert "larger" in problems["huge.csv"]
    assert "can't be looked at" in problems["dangling.csv"] and problems["loop.csv"]
    assert any("too deep" in problem for problem in problems.values())


def test_an_entry_that_became_a_pipe_or_a_link_out_is_not_opened(tmp_path: Path) -> None:
    root = tmp_path / "traces"
    root.mkdir()
    (root / "a").write_text("x")
    (tmp_path / "secret").write_text("x")
    entry = at("a")
    with open_entry(root, entry) as stream:
        assert stream.read() == b"x"
    (root / "a").unlink()
    os.mkfifo(root / "a")
    with pytest.raises(OSError, match="not a file"):
        open_entry(root, entry)
    (root / "a").unlink()
    (root / "a").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="out of the folder"):
        open_entry(root, entry)


def test_copies_and_renames_have_one_fingerprint_and_a_grown_file_another(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    (tmp_path / "b").write_bytes(b"x" * 3_000_000)
    (tmp_path / "c").write_bytes(b"x" * 3_000_001)
    digests = []
    for name in "abc":
        with (tmp_path / name).open("rb") as stream:
            stream.seek(7)
            digests.append(fingerprint(stream))
            assert stream.tell() == 0
    assert digests[0] == digests[1] != digests[2]


def test_a_name_that_is_no_text_can_be_shown_and_stored(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"tr\xff.csv")).write_text("x")
    listing = look(tmp_path)
    assert listing is not None
    shown = shown_name(tmp_path, listing[0])
    assert shown.encode("utf-8") and shown.endswith(".csv")


def test_files_that_are_no_evidence_give_a_reason_each(tmp_path: Path) -> None:
    contents = {
        "empty": b"",
        "zeros": b"\0" * 100_000,
        "junk": bytes(range(256)) * 50,
        "truncated.gz": b"\x1f\x8b\x08\0\0\0\0\0\0\3abc",
        "letter.txt": b"Dear all,\n",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
        (item, *_) = read_file(tmp_path / name, name)
        assert getattr(item, "reason", ""), name
    (item,) = read_file(tmp_path / "missing")
    assert "can't be opened" in getattr(item, "reason", "")
    (item,) = read_file(tmp_path)
    assert getattr(item, "reason", "")
