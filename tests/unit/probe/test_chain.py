"""All that is wrong with a chain, by the time that is passed in and the roots that are given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from resubmit.model.moment import DAY, HOUR, SECOND, Ms, from_datetime
from resubmit.probe import chain
from resubmit.probe.roots import Roots
from tests.helpers import certs

GOLDEN = Path(__file__).parents[2] / "golden" / "chains"
ROOT = certs.root()
MIDDLE = certs.intermediate(ROOT)
LEAF = certs.leaf(MIDDLE)
NOW = from_datetime(certs.now())
BEGUN = from_datetime(LEAF.certificate.not_valid_before_utc)
OVER = from_datetime(LEAF.certificate.not_valid_after_utc)


def flaws(
    sent: Sequence[certs.Made],
    roots: Sequence[certs.Made] = (ROOT,),
    *,
    now: Ms = NOW,
    accepted: bool = False,
    is_public: bool = False,
    limits: dict[str, Ms] | None = None,
) -> list[tuple[str, str]]:
    given = Roots("the list", tuple(r.certificate for r in roots), is_public=is_public, limits=limits or {})
    found = chain.flaws([one.certificate for one in sent], given, now, accepted=accepted)
    return [(f.code, f.where) for f in found]


def test_a_good_chain_has_no_flaws() -> None:
    assert flaws([LEAF, MIDDLE]) == []
    assert flaws([LEAF, MIDDLE, ROOT]) == []


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (BEGUN - 1, [("certificate_not_yet_valid", "leaf")]),
        (BEGUN, []),
        (OVER - 30 * DAY, []),
        (OVER - 30 * DAY + 1, [("expiring_soon", "leaf")]),
        (OVER, [("expiring_soon", "leaf")]),
        (OVER + SECOND - 1, [("expiring_soon", "leaf")]),
        (OVER + SECOND, [("certificate_expired", "leaf")]),
    ],
    ids=[
        "before",
        "begun",
        "30 days",
        "less",
        "last second",
        "its end",
        "over",
    ],  # else one of them is a time
)
def test_dates_are_judged_by_the_clock_that_is_given(at: Ms, expected: list[tuple[str, str]]) -> None:
    middle = certs.intermediate(ROOT, starts=timedelta(days=-2))
    early = certs.make(
        certs.Order("Test Root", "Test", is_ca=True, starts=timedelta(days=-2), ends=timedelta(3650))
    )
    assert flaws([LEAF, middle], [early], now=at) == expected


def test_the_dates_of_every_link_are_read() -> None:
    middle = certs.intermediate(ROOT, ends=timedelta(days=9))
    assert flaws([certs.leaf(middle), middle]) == [("expiring_soon", "intermediate")]
    dying = certs.make(
        certs.Order("Test Root", "Test", is_ca=True, ends=timedelta(days=-1), starts=timedelta(-9))
    )
    assert flaws([LEAF, MIDDLE], [dying]) == [("certificate_expired", "root")]


def test_a_trusted_self_signed_certificate_is_trusted() -> None:
    own = certs.leaf(None)
    assert flaws([own]) == [("self_signed", "leaf")]
    assert flaws([own], [own]) == []


def test_a_root_in_another_edition_is_the_same_root() -> None:
    """Renewed with the same key, and sent along."""
    edition = certs.make(certs.Order("Test Root", "Test", is_ca=True, ends=timedelta(days=100)))
    assert flaws([LEAF, MIDDLE, edition]) == []


def test_of_two_roots_with_one_name_the_signer_counts() -> None:
    namesake = certs.root(key="namesake")
    assert flaws([LEAF, MIDDLE], [namesake, ROOT]) == []
    assert flaws([LEAF, MIDDLE], [namesake]) == [("untrusted_issuer", "root")]


def test_an_intermediate_from_the_roots_completes_the_chain_as_openssl_does() -> None:
    assert flaws([LEAF], [ROOT, MIDDLE]) == []


PUBLIC = "2.23.140.1.2.2"


def test_with_the_public_roots_a_public_leaf_lacks_its_intermediate() -> None:
    leaf = certs.leaf(MIDDLE, policy=PUBLIC)
    assert flaws([leaf], is_public=True) == [("chain_incomplete", "leaf")]


def test_with_the_public_roots_a_leaf_without_public_marks_is_of_a_private_ca() -> None:
    assert flaws([LEAF], is_public=True) == [("untrusted_issuer", "leaf")]


def test_with_the_public_roots_a_second_intermediate_can_be_the_one_that_lacks() -> None:
    upper = certs.intermediate(ROOT, "Upper CA")
    lower = certs.intermediate(upper, "Lower CA")
    assert flaws([certs.leaf(lower, policy=PUBLIC), lower], is_public=True) == [
        ("chain_incomplete", "intermediate")
    ]
    assert flaws([certs.leaf(lower), lower], is_public=True) == [("untrusted_issuer", "root")]


def test_what_openssl_took_is_not_called_untrusted() -> None:
    other = certs.root("Other Root", key="other")
    assert flaws([LEAF, MIDDLE], [other]) == [("untrusted_issuer", "root")]
    assert flaws([LEAF, MIDDLE], [other], accepted=True) == []


def test_microsofts_end_date_of_a_root_is_kept() -> None:
    ended = {chain.sha256_of(ROOT.certificate): BEGUN - HOUR}
    assert flaws([LEAF, MIDDLE], limits=ended, accepted=True) == [("untrusted_issuer", "root")]
    later = {chain.sha256_of(ROOT.certificate): BEGUN + HOUR}
    assert flaws([LEAF, MIDDLE], limits=later, accepted=True) == []


def test_a_sha1_signature_is_weak_and_its_issuer_known() -> None:
    """cryptography neither makes nor verifies SHA-1 signatures: the issuer is known by name and key id."""
    pems = re.findall(
        rb"-----BEGIN.+?-----END CERTIFICATE-----", (GOLDEN / "sha1_leaf_and_root.pem").read_bytes(), re.S
    )
    leaf, root = (x509.load_pem_x509_certificate(pem) for pem in pems)
    begun = from_datetime(leaf.not_valid_before_utc) + DAY
    found = chain.flaws([leaf], Roots("the list", (root,)), begun, accepted=False)
    assert [(f.code, f.where) for f in found] == [("weak_signature", "leaf")]


@pytest.mark.parametrize("first", [b"", b"\x30\x03\x02\x01\x00", LEAF.der[:-5]])
def test_a_leaf_that_can_not_be_read_is_no_chain(first: bytes) -> None:
    assert chain.read([first, MIDDLE.der]) == []


def test_a_name_that_is_none_makes_a_leaf_that_can_not_be_read() -> None:
    """A BIT STRING where a text belongs (cryptography: TypeError)."""
    kind = LEAF.der.index(b"mail.test.invalid") - 2
    assert LEAF.der[kind] == 0x0C, "UTF8String"
    odd = LEAF.der[:kind] + b"\x03" + LEAF.der[kind + 1 :]
    assert chain.read([odd]) == []


def test_a_damaged_link_further_up_is_as_if_it_was_not_sent() -> None:
    assert len(chain.read([LEAF.der, b"damaged", MIDDLE.der])) == 2


def test_a_certificate_is_described_as_it_stands() -> None:
    made = chain.described(LEAF.certificate)
    assert (made.subject, made.issuer) == ("CN=mail.test.invalid", "CN=Test Issuing CA,O=Test")
    assert made.sans == ("mail.test.invalid",)
    assert (made.not_before, made.not_after) == (BEGUN, OVER)
    assert (made.sha256, made.der) == (chain.sha256_of(LEAF.certificate), LEAF.der)
