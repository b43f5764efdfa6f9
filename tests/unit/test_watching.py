"""Hints from the system: they come, and the watch comes back whatever happens to the folder."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resubmit.watching import Watcher

POLLS = [None, 50]


@contextmanager
def watching(path: Path, poll: int | None) -> Iterator[tuple[Watcher, threading.Event]]:
    woken = threading.Event()
    watcher = Watcher([path], woken.set, {path: poll} if poll else {}, check=50)
    watcher.start()
    try:
        yield watcher, woken
    finally:
        watcher.stop()


def until(watcher: Watcher, path: Path, *, there: bool = True) -> None:
    """No event exists for a watch that was begun: ask until it is so."""
    deadline = time.monotonic() + 10
    while (path in watcher.watched()) is not there:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("poll", POLLS)
def test_a_new_file_wakes(tmp_path: Path, poll: int | None) -> None:
    with watching(tmp_path, poll) as (watcher, woken):
        until(watcher, tmp_path)
        assert woken.wait(10)  # the watch began: something may be there already
        woken.clear()
        (tmp_path / "a.csv").write_text("x")
        assert woken.wait(10)


@pytest.mark.parametrize("poll", POLLS)
def test_a_folder_missing_at_the_start_is_watched_once_it_is_there(tmp_path: Path, poll: int | None) -> None:
    root = tmp_path / "traces"
    with watching(root, poll) as (watcher, woken):
        assert not woken.wait(0.2)
        root.mkdir()
        assert woken.wait(10)
        until(watcher, root)


@pytest.mark.parametrize("poll", POLLS)
def test_a_folder_removed_and_made_anew_is_watched_again(tmp_path: Path, poll: int | None) -> None:
    root = tmp_path / "traces"
    root.mkdir()
    with watching(root, poll) as (watcher, woken):
        until(watcher, root)
        shutil.rmtree(root)
        until(watcher, root, there=False)
        root.mkdir()
        until(watcher, root)
        woken.clear()
        (root / "a.csv").write_text("x")
        assert woken.wait(10)


def test_reading_a_file_does_not_wake(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")
    with watching(tmp_path, None) as (watcher, woken):
        until(watcher, tmp_path)
        assert woken.wait(10)
        woken.clear()
        (tmp_path / "a.csv").read_text()
        assert not woken.wait(0.3)


def test_a_wake_that_fails_does_not_end_the_watch(tmp_path: Path) -> None:
    calls = threading.Semaphore(0)

    def wake() -> None:
        calls.release()
        raise RuntimeError("Event loop is closed")

    watcher = Watcher([tmp_path], wake, check=50)
    watcher.start()
    try:
        assert calls.acquire(timeout=10)
        until(watcher, tmp_path)
        (tmp_path / "a").write_text("x")
        assert calls.acquire(timeout=10)
        (tmp_path / "b").write_text("x")
        assert calls.acquire(timeout=10)
        assert watcher.watched() == [tmp_path]
    finally:
        watcher.stop()


def test_an_observer_that_died_is_replaced(tmp_path: Path) -> None:
    with watching(tmp_path, None) as (watcher, woken):
        until(watcher, tmp_path)
        before = watcher._watches[0]._observer
        before.stop()
        before.join()
        deadline = time.monotonic() + 10
        while watcher._watches[0]._observer in (before, None):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        woken.clear()
        (tmp_path / "a").write_text("x")
        assert woken.wait(10)


def test_stopping_ends_every_thread_and_may_be_done_twice(tmp_path: Path) -> None:
    before = threading.active_count()
    with watching(tmp_path, None) as (watcher, _):
        until(watcher, tmp_path)
        watcher.start()
        watcher.stop()
    assert threading.active_count() == before
    assert watcher.watched() == []
