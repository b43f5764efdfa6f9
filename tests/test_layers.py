"""Who may import whom, and which libraries have one user each.

The rooms are leaves that know only the nouns and their meaning; flow threads them; app builds them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "resubmit"
BASE = {"model", "meaning", "errors", "logbook", "clock"}
ROOM = BASE | {"settings"}
ROOMS = {"intake", "handoff", "evidence", "probe", "recovery"}

MAY: dict[str, set[str]] = {
    "model": set(),
    "errors": set(),
    "logbook": set(),
    "clock": {"model"},
    "settings": {"model"},
    "meaning": {"model"},
    **dict.fromkeys(ROOMS, ROOM),
    "journal": ROOM,
    "watching": BASE,
    "flow": BASE | ROOMS | {"journal", "watching"},
    "view": {"model", "journal"},
    "web": {"view", "journal", "model", "errors", "logbook", "clock", "settings"},
    "lab": {"model", "errors", "clock"},
    "cli": {
        "view", "journal", "model", "errors", "config", "configfile", "configproblems", "meaning",
        "evidence", "probe", "clock", "app", "lab", "settings",
    },
}  # fmt: skip
"""For each folder or module of the package, what else of the package it may import. `recovery` and
`evidence` see the journal's plain values (`journal.verbs`): they are what facts and decisions are made of."""

ALSO = {
    ("recovery", "journal.verbs"),
    ("evidence", "journal.verbs"),
}

ONLY_USER = {
    "aiosmtplib": {"handoff"},
    "watchdog": {"watching.py"},
    "sqlite_utils": {"journal"},
    "pysqlite3": {"journal"},
    "uvloop": {"app.py"},
    "prometheus_client": {"web"},
    "cryptography": {"probe", "lab", "evidence"},
    "httpx2": {"evidence"},
}

FLOW_LINES = 220


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def area(path: Path) -> str:
    """The folder of the package a module is in, or its own name at the top."""
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path: Path) -> Iterator[str]:
    """Dotted names a module imports, functions' and type-only imports included."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    mine = area(path)
    allowed = MAY.get(mine)
    if allowed is None:
        return  # app, config and the entry point may see everything they put together
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "resubmit" or len(parts) == 1 or parts[1] == "__version__":
            continue
        other = parts[1]
        if other == mine or other in allowed or (mine, ".".join(parts[1:3])) in ALSO:
            continue
        pytest.fail(f"{path.relative_to(ROOT)} imports {name}")


@pytest.mark.parametrize("library", sorted(ONLY_USER))
def test_a_library_has_one_user(library: str) -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in modules()
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users, f"{library} is not used at all"
    strangers = {
        user for user in users if not (user in ONLY_USER[library] or user.split("/")[0] in ONLY_USER[library])
    }
    assert strangers == set()


def test_only_the_journal_speaks_sql() -> None:
    speakers = {
        area(path)
        for path in modules()
        if any(name.split(".")[0] in ("sqlite3", "pysqlite3", "sqlite_utils") for name in imports(path))
    }
    assert speakers <= {"journal"}


def test_flow_files_stay_thin() -> None:
    long = {
        path.name: count
        for path in (ROOT / "flow").glob("*.py")
        if (count := len(path.read_text("utf-8").splitlines())) > FLOW_LINES
    }
    assert long == {}


def test_flow_names_no_state_cause_or_finding() -> None:
    """A decision found in flow belongs in a room: the words of decisions must not occur there."""
    from resubmit.model.evidence import Cause
    from resubmit.model.recipient import Event, State

    words = {str(word) for word in (*State, *Event, *Cause)} - {"expired", "accepted", "other", "size"}
    found = [
        f"{path.name}:{node.lineno} {node.value!r}"
        for path in (ROOT / "flow").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and node.value in words
    ]
    classes = [
        f"{path.name} {name}"
        for path in (ROOT / "flow").glob("*.py")
        for name in imports(path)
        if name.split(".")[-1] in ("State", "Event", "Cause", "Scope", "Mend")
    ]
    assert found + classes == []


def test_no_module_is_named_for_nothing() -> None:
    assert not [path for path in modules() if path.stem in ("utils", "common", "helpers", "misc")]
