"""`import` names the files, and says what became of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Desk
from tests.unit.cli.test_ask import Service, service

__all__ = ["service"]


def answer(file: Path, **values: object) -> dict[str, object]:
    plain: dict[str, object] = {
        "file": str(file), "id": None, "sender": "a@b.com", "recipients": ["ann@contoso.com"], "refused": {},
        "known": False, "error": None,
    }  # fmt: skip
    return plain | values


def test_a_maildir_and_a_folder_are_their_files(desk: Desk, service: Service) -> None:
    for name in (
        "box/new/2",
        "box/cur/1:2,S",
        "box/tmp/3",
        "mails/b.eml",
        "mails/a.EML",
        "mails/.x.eml",
        "mails/n.txt",
    ):
        (desk.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (desk.folder / name).touch()
    service.lines = [{"result": []}]

    desk.ask(
        "import", str(desk.folder / "box"), str(desk.folder / "mails"), "--to", "ann@contoso.com", "--headers"
    )

    (request,) = service.requests
    names = [str(Path(f).relative_to(desk.folder)) for f in request["options"]["files"]]
    assert names == ["box/new/2", "box/cur/1:2,S", "mails/a.EML", "mails/b.eml"]
    assert request["options"]["to"] == ["ann@contoso.com"]
    assert request["options"]["headers"] is True
    assert "sender" not in request["options"]


@pytest.mark.parametrize(
    ("values", "code", "said"),
    [
        ({"id": "1N3QK5Z8G4000"}, 0, "1 of 1 messages journaled"),
        ({"known": True}, 0, "0 of 1 messages journaled, 1 brought before and left alone"),
        ({"error": "no envelope in it"}, 1, "0 of 1 messages journaled"),
        ({"id": "1N3QK5Z8G4000", "refused": {"x@y.com": "no destination"}}, 5, "1 of 1 messages journaled"),
    ],
)
def test_it_says_what_became_of_each(
    desk: Desk, service: Service, values: dict[str, object], code: int, said: str
) -> None:
    file = desk.folder / "a.eml"
    file.touch()
    service.lines = [{"result": [answer(file, **values)]}]

    told = desk.ask("import", str(file))

    assert told.code == code
    assert told.out.splitlines()[-1] == said
    assert ("no " in told.err) == ("no " in str(values))
    assert desk.ask("import", str(file), "--json").json["known"] == values.get("known", False)


def test_what_is_not_there_is_told_before_anything_is_asked(desk: Desk, service: Service) -> None:
    (desk.folder / "empty").mkdir()

    assert desk.ask("import", str(desk.folder / "none")).code == 2
    assert desk.ask("import", str(desk.folder / "empty")).code == 0
    assert desk.ask("import", str(desk.folder / "empty"), "--fail-empty").code == 3
    assert desk.ask("import", str(desk.folder), "--to", "nobody").code == 2
    assert not service.requests
