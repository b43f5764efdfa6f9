"""Hints that something changed in a folder, from the operating system: the only user of watchdog.

Promises: a hint may be lost, doubled or late, so whoever is woken rescans; the watch itself never dies
silently: a folder that is missing, removed or made anew, and an observer whose thread died, are watched
again within a few seconds. `wake` is called from threads of its own: it has to be safe there.

Source: dependencies.md section 1, watchdog (an exception in a handler kills its thread; a root removed and
made anew is silent for ever; inotify is blind to what other hosts write).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.polling import PollingObserver

from resubmit import logbook
from resubmit.model.moment import SECOND, Ms

CHECK: Ms = 3 * SECOND
"""How often roots and observers are looked after."""

_QUIET = frozenset({"opened", "closed_no_write"})
"""Events that reading makes: waking for them would wake for our own rescan."""


class Watcher:
    """Watches folders and what is in them. `poll`: folders to be listed every so often instead of being told
    by the system: network shares. Nothing runs before `start`."""

    def __init__(
        self,
        paths: Sequence[Path],
        wake: Callable[[], None],
        poll: Mapping[Path, Ms] | None = None,
        *,
        check: Ms = CHECK,
    ) -> None:
        self._wake = wake
        self._check = check
        self._stop = threading.Event()
        self._watches = [_Watch(path, self._hint, (poll or {}).get(path)) for path in dict.fromkeys(paths)]
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Folders are watched as soon as they are there. Idempotent; never raises for a folder."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._tend, name="watching", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Nothing is watched any more, and no hint comes after this returned. Idempotent; blocks shortly."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def watched(self) -> list[Path]:
        """The folders that are watched at this moment."""
        return [watch.path for watch in self._watches if watch.is_alive()]

    def _tend(self) -> None:
        try:
            while not self._stop.is_set():
                for watch in self._watches:
                    if watch.renew():
                        self._hint()  # what appeared while nobody looked
                self._stop.wait(self._check / 1000)
        finally:
            for watch in self._watches:
                watch.close()

    def _hint(self) -> None:
        if self._stop.is_set():
            return
        try:
            self._wake()
        except Exception as error:
            # Whatever it is (a loop that has closed while we stop), a thread that died of it would be silent
            # for ever; the rescan comes anyway.
            structlog.get_logger().warning(logbook.FOLDER_HINT_LOST, reason=str(error))


class _Handler(FileSystemEventHandler):
    def __init__(self, hint: Callable[[], None]) -> None:
        self._hint = hint

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in _QUIET:
            self._hint()


class _Watch:
    """One folder and its observer, which is replaced when either went away."""

    def __init__(self, path: Path, hint: Callable[[], None], poll: Ms | None) -> None:
        self.path = path
        self._handler = _Handler(hint)
        self._poll = poll
        self._observer: Any = None
        self._root: tuple[int, int] | None = None
        self._told = False

    def is_alive(self) -> bool:
        observer = self._observer
        return observer is not None and observer.is_alive()

    def renew(self) -> bool:
        """Watch the folder if it is there and is not watched as it is; True when a watch was begun."""
        root = _identity(self.path)
        if root is not None and root == self._root and self._is_sound():
            return False
        had = self._observer is not None
        self.close()
        if root is None:
            if had or not self._told:
                structlog.get_logger().warning(logbook.FOLDER_MISSING, folder=str(self.path))
                self._told = True
            return had
        try:
            observer = Observer() if self._poll is None else PollingObserver(timeout=self._poll / 1000)
            observer.daemon = True
            observer.schedule(self._handler, str(self.path), recursive=True)
            observer.start()
        except (OSError, RuntimeError) as error:
            # No inotify watches left, or the folder went away just now: the rescan goes on without hints.
            structlog.get_logger().warning(logbook.FOLDER_UNWATCHED, folder=str(self.path), reason=str(error))
            return False
        self._observer, self._root, self._told = observer, root, False
        structlog.get_logger().info(logbook.FOLDER_WATCHED, folder=str(self.path), poll=self._poll)
        return True

    def _is_sound(self) -> bool:
        observer = self._observer
        return (
            observer is not None
            and observer.is_alive()
            and bool(observer.emitters)
            and all(emitter.is_alive() for emitter in observer.emitters)
        )

    def close(self) -> None:
        """The observer's threads have ended."""
        observer, self._observer, self._root = self._observer, None, None
        if observer is None:
            return
        observer.stop()
        if observer.ident is not None:
            observer.join()


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a folder from another one of the same name; None when it is not there."""
    try:
        about = path.stat()
    except OSError:
        return None
    return (about.st_dev, about.st_ino) if path.is_dir() else None
