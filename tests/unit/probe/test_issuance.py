"""Certificate policies: nobody asks for one but a CA of the chain, and then all below it must keep to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from resubmit.model.moment import from_datetime
from resubmit.probe import chain, issuance
from resubmit.probe.roots import Roots
from tests.helpers import certs

NOW = from_datetime(certs.now())
ROOT = certs.root()
ONE, TWO, ANY = "1.3.6.1.4.1.55555.1", "1.3.6.1.4.1.55555.2", issuance.ANY
More = Sequence[tuple[x509.ExtensionType, bool]]


def kept(*sent: certs.Made) -> bool:
    roots = Roots("the list", (ROOT.certificate,))
    found = chain.flaws([one.certificate for one in sent], roots, NOW, accepted=True)
    assert {f.code for f in found} <= {"untrusted_issuer"}
    return not found


def demands(skip: int | None = 0, mappings: int | None = None) -> More:
    return [(x509.PolicyConstraints(skip, mappings), True)]


def policies(*oids: str) -> More:
    named = [x509.PolicyInformation(x509.ObjectIdentifier(oid), None) for oid in oids]
    return [(x509.CertificatePolicies(named), False)] if named else []


def mapping(*pairs: tuple[str, str]) -> More:
    """The extension cryptography can't make: a SEQUENCE of pairs of object identifiers."""

    def oid(text: str) -> bytes:
        octets = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier(text), None)])
        return octets.public_bytes()[4:]  # SEQUENCE { SEQUENCE { OID } }: two headers of two octets each

    def sequence(content: bytes) -> bytes:
        return bytes([0x30, len(content)]) + content

    content = sequence(b"".join(sequence(oid(a) + oid(b)) for a, b in pairs))
    return [(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.33"), content), True)]


def ca(parent: certs.Made = ROOT, common: str = "Demanding CA", *more: More) -> certs.Made:
    return certs.intermediate(parent, common, more=[one for some in more for one in some])


def leaf(parent: certs.Made, *oids: str) -> certs.Made:
    return certs.leaf(parent, more=policies(*oids))


def test_without_a_demand_policies_do_not_matter() -> None:
    middle = ca(ROOT, "CA", policies(ONE))
    assert kept(leaf(middle), middle)
    assert kept(leaf(middle, TWO), middle)


CASES: list[tuple[str, list[str], list[str], bool]] = [
    ("the same", [ONE], [ONE], True),
    ("none on the leaf", [ONE], [], False),
    ("none on the CA", [], [ONE], False),
    ("another", [ONE], [TWO], False),
    ("one of two", [ONE, TWO], [TWO], True),
    ("any on the CA", [ANY], [ONE], True),
    ("any on the leaf", [ONE], [ANY], True),
]


@pytest.mark.parametrize(("above", "below", "ok"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_demand_is_kept_or_not(above: list[str], below: list[str], ok: bool) -> None:
    middle = ca(ROOT, "Demanding CA", demands(), policies(*above))
    assert kept(leaf(middle, *below), middle) is ok


@pytest.mark.parametrize(("skip", "ok"), [(0, False), (2, False), (3, True)])
def test_a_demand_may_begin_further_down(skip: int, ok: bool) -> None:
    upper = ca(ROOT, "Upper CA", demands(skip), policies(ONE))
    lower = ca(upper, "Lower CA", policies(ONE))
    assert kept(leaf(lower), lower, upper) is ok


def test_any_policy_can_be_forbidden() -> None:
    strict: More = [(x509.InhibitAnyPolicy(0), True)]
    middle = ca(ROOT, "Strict CA", demands(), policies(ONE), strict)
    assert not kept(leaf(middle, ANY), middle)
    assert kept(leaf(middle, ONE), middle)


def test_a_ca_may_call_a_policy_by_another_name() -> None:
    middle = ca(ROOT, "Mapping CA", demands(), policies(ONE), mapping((ONE, TWO)))
    assert kept(leaf(middle, TWO), middle)
    assert not kept(leaf(middle, ONE), middle), "it is called TWO from here on"
    forbidden = ca(ROOT, "No Mapping CA", demands(0, 0), policies(ONE))
    lower = ca(forbidden, "Lower CA", policies(ONE), mapping((ONE, TWO)))
    assert not kept(leaf(lower, TWO), lower, forbidden)
    with_any = ca(ROOT, "Any CA", policies(ONE), mapping((ONE, ANY)))
    assert not kept(leaf(with_any, ONE), with_any), "any policy can't be mapped"


@given(st.binary(max_size=60))
def test_mappings_of_any_octets_never_raise(octets: bytes) -> None:
    odd: More = [(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.33"), octets), False)]
    middle = ca(ROOT, "Odd CA", odd)
    _: Any = kept(leaf(middle), middle)
