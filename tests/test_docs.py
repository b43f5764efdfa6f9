"""The pages are in step with the code, and what they tell people to type and to read is there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from docs import generate, states
from resubmit import logbook
from resubmit.cli.main import find, parser_for
from resubmit.config import load
from resubmit.meaning import advice
from resubmit.meaning.table import known, signs
from resubmit.model.evidence import Cause
from resubmit.model.recipient import Event, State
from resubmit.probe.findings import ORDER

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
ANNOUNCED = re.compile(r"^(?:    |\$ )\.?(?:[\w./-]*/)?resubmit (.+)$", re.MULTILINE)


def test_the_generated_pages_are_in_step() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.generate", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr


def test_a_page_out_of_step_is_shown_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate.main([], tmp_path) == 0
    assert generate.main(["--check"], tmp_path) == 0
    old = (tmp_path / "states.md").read_text().replace("| `held` | no |", "| `held` | yes |")
    (tmp_path / "states.md").write_text(old)

    assert generate.main(["--check"], tmp_path) == 1

    assert "-| `held` | yes |" in capsys.readouterr().err
    assert (tmp_path / "states.md").read_text() == old


def test_every_state_event_and_log_line_has_its_words() -> None:
    page = (ROOT / "docs/states.md").read_text()
    events = [value for name, value in vars(logbook).items() if name.isupper()]

    assert set(states.MEANING) == set(Event)
    assert all(f"| `{state}` | " in page for state in State)
    assert all(f"| `{event}` | " in (ROOT / "docs/logbook.md").read_text() for event in events)


def test_every_known_cause_stands_in_its_page_with_what_to_do_and_every_example() -> None:
    page = (ROOT / "docs/causes.md").read_text()
    links = set(re.findall(r"\(#(\w+)\)", page))

    assert all(
        f"### {one.id}\n\n{one.what}\n\n**What to do.** {one.advice}\n" in page for one in known().values()
    )
    assert all(" ".join(e.split())[:100] in page for sign in signs() if sign.says for e in sign.examples)
    assert links <= set(known())
    assert all(f"## `{cause}`" in page for cause in Cause)


def test_every_finding_stands_in_its_page() -> None:
    page = (ROOT / "docs/findings.md").read_text()

    assert all(f"| `{code}` | " in page for code in ORDER)
    assert all(row.advice.replace("|", "\\|") in page for row in advice.rows().values())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    targets = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    missing = [t for t in targets if t and "://" not in t and not (page.parent / t).exists()]

    assert not missing


def test_a_short_config_of_the_readme_holds(tmp_path: Path) -> None:
    (found,) = re.findall(r"```toml\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "config.toml").write_text(found)

    assert load(tmp_path / "config.toml").destination


def typed() -> list[str]:
    """Every command line of ours that a page tells people to type."""
    pages = [page for page in PAGES if page.name not in generate.PAGES]
    lines = [line for page in pages for line in ANNOUNCED.findall(page.read_text())]
    return sorted({line.partition(" | ")[0].partition("  #")[0].strip() for line in lines})


def test_what_people_are_told_to_type_is_understood() -> None:
    commands = typed()

    assert len(commands) >= 12
    for line in commands:
        name, *words = shlex.split(line)
        parser_for(name, find(name)).parse_args(words)  # exits, and so fails, where it is not understood
