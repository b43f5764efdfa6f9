"""Routing: exact before the longest wildcard before the rest."""

from __future__ import annotations

import pytest

from resubmit.handoff.routes import Table, known_recipients
from resubmit.handoff.settings import Destination
from tests.unit.handoff.post import route


def destination(name: str, *domains: str, **values: object) -> Destination:
    return Destination(name=name, domains=list(domains), handoff="next", **values)  # type: ignore[arg-type]


TABLE = Table(
    [route(25), route(26, name="back")],
    [
        destination("hybrid", "Contoso.com", "*.contoso.com", resubmit="back"),
        destination("eu", "*.eu.contoso.com"),
        destination("one", "mx.eu.contoso.com."),
        destination("late", "contoso.com"),
    ],
)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("a@contoso.com", "hybrid"),
        ("A@CONTOSO.COM", "hybrid"),
        ("a@contoso.com.", "hybrid"),
        ("a@x.contoso.com", "hybrid"),
        ("a@y.x.contoso.com", "hybrid"),
        ("a@eu.contoso.com", "hybrid"),
        ("a@x.eu.contoso.com", "eu"),
        ("a@mx.eu.contoso.com", "one"),
        ('"a@b"@contoso.com', "hybrid"),
        ("a@notcontoso.com", None),
        ("a@com", None),
        ("a@", None),
        ("postmaster", None),
        ("", None),
    ],
)
def test_an_address_ends_at_the_nearest_destination(address: str, name: str | None) -> None:
    found = TABLE.destination_of(address)
    assert (found.name if found else None) == name


def test_a_star_takes_the_rest() -> None:
    table = Table([route(25)], [destination("rest", "*"), destination("hybrid", "contoso.com")])
    assert [table.destination_of(a).name for a in ("a@contoso.com", "a@x.invalid", "a")] == [  # type: ignore[union-attr]
        "hybrid",
        "rest",
        "rest",
    ]


def test_a_resubmission_has_its_own_route_where_one_is_named() -> None:
    hybrid, eu = TABLE.destinations["hybrid"], TABLE.destinations["eu"]
    assert (TABLE.handoff_of(hybrid).name, TABLE.resubmit_of(hybrid).name) == ("next", "back")
    assert TABLE.resubmit_of(eu).name == "next"
    with pytest.raises(KeyError):
        TABLE.route("none")


def test_who_ends_nowhere_is_refused_at_rcpt() -> None:
    refused = TABLE.vet("a@x.invalid")
    assert refused is not None
    assert (refused.code, refused.enhanced) == (550, "5.4.4")
    assert TABLE.vet("a@contoso.com") is None


def test_with_a_recipients_file_others_do_not_exist() -> None:
    known = {"hybrid": known_recipients("# staff\nAnna@contoso.com\n\n<bert@contoso.com>  # bert\n")}
    table = Table([route(25)], [destination("hybrid", "contoso.com"), destination("rest", "*")], known)
    assert table.vet("anna@CONTOSO.com") is None
    assert table.vet("bert@contoso.com") is None
    assert table.vet("a@x.invalid") is None
    refused = table.vet("carl@contoso.com")
    assert refused is not None
    assert (refused.code, refused.enhanced) == (550, "5.1.1")
