"""docs/configuration.md says what the settings say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_page_is_what_the_settings_would_write() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr


def test_every_key_has_a_meaning() -> None:
    rows = [r for r in (ROOT / "docs/configuration.md").read_text().splitlines() if r.startswith("| `")]

    assert len(rows) > 60
    assert all(row.split(" | ")[-1].strip(" |") for row in rows)
