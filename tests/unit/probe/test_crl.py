"""Whether a revocation list may be believed, and what it then says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from resubmit.model.moment import DAY, Ms, from_datetime
from resubmit.probe import aia, crl, ocsp, revocation
from resubmit.probe.crl import Listed, Word
from resubmit.probe.path import ways
from resubmit.probe.roots import Roots
from tests.helpers import certs, lists
from tests.helpers.lists import Entry

ROOT = certs.root()
MIDDLE = certs.intermediate(ROOT)
LEAF = certs.leaf(MIDDLE)
AT = certs.now()
NOW = from_datetime(AT)


def read(octets: bytes, leaf: certs.Made = LEAF, *others: certs.Made, at: Ms = NOW) -> Listed:
    basic = leaf.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    issuer = leaf.issuer or leaf
    return crl.read(
        octets,
        certificate=leaf.certificate,
        issuer=issuer.certificate,
        others=[one.certificate for one in others],
        is_ca=basic.ca,
        now=at,
    )


def scope(**given: Any) -> list[tuple[x509.ExtensionType, bool]]:
    fields: dict[str, Any] = {
        "full_name": None, "relative_name": None, "only_contains_user_certs": False,
        "only_contains_ca_certs": False, "only_some_reasons": None, "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }  # fmt: skip
    return [(x509.IssuingDistributionPoint(**{**fields, **given}), True)]


def test_the_dates_of_a_list_are_kept_to_the_second() -> None:
    octets = lists.crl(MIDDLE, begins=-certs.DAY, ends=certs.DAY, at=AT)
    assert read(octets, at=NOW - DAY).word is Word.GOOD
    assert read(octets, at=NOW - DAY - 1).word is Word.UNTRUSTED
    assert read(octets, at=NOW + DAY).word is Word.GOOD
    assert read(octets, at=NOW + DAY + 1).word is Word.EXPIRED


def test_revoked_stays_revoked_on_a_list_that_is_out_of_date() -> None:
    octets = lists.crl(MIDDLE, Entry(LEAF), ends=-timedelta(hours=1))
    assert read(octets).word is Word.REVOKED


def test_the_reason_is_told() -> None:
    entry = Entry(LEAF, [x509.CRLReason(x509.ReasonFlags.key_compromise)])
    assert "keyCompromise" in read(lists.crl(MIDDLE, entry)).why


def test_a_list_for_servers_is_none_for_cas_and_the_other_way_round() -> None:
    users = scope(only_contains_user_certs=True)
    assert read(lists.crl(MIDDLE, more=users)).word is Word.GOOD
    assert read(lists.crl(ROOT, more=users), MIDDLE).word is Word.UNTRUSTED
    cas = scope(only_contains_ca_certs=True)
    assert read(lists.crl(ROOT, more=cas), MIDDLE).word is Word.GOOD
    assert read(lists.crl(MIDDLE, more=cas)).word is Word.UNTRUSTED


def test_a_part_of_a_list_must_be_the_part_the_certificate_names() -> None:
    mine = certs.leaf(MIDDLE, more=lists.at_list("http://ca.invalid/1"))
    part = [x509.UniformResourceIdentifier("http://ca.invalid/1")]
    assert read(lists.crl(MIDDLE, more=scope(full_name=part)), mine).word is Word.GOOD
    other = [x509.UniformResourceIdentifier("http://ca.invalid/2")]
    assert read(lists.crl(MIDDLE, more=scope(full_name=other)), mine).word is Word.UNTRUSTED


def indirect(of: certs.Made, by: x509.Name) -> certs.Made:
    """A leaf whose lists somebody else signs."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier("http://ca.invalid/all")]
    point = x509.DistributionPoint(
        full_name=names, relative_name=None, reasons=None, crl_issuer=[x509.DirectoryName(by)]
    )
    return certs.leaf(of, more=[(x509.CRLDistributionPoints([point]), False)])


def test_an_indirect_list_counts_for_those_that_name_its_issuer() -> None:
    signer = certs.intermediate(ROOT, "List CA")
    leaf = indirect(MIDDLE, signer.certificate.subject)
    more = scope(indirect_crl=True)
    mine = [x509.CertificateIssuer([x509.DirectoryName(MIDDLE.certificate.subject)])]
    theirs = [x509.CertificateIssuer([x509.DirectoryName(ROOT.certificate.subject)])]
    assert read(lists.crl(signer, more=more), leaf, signer).word is Word.GOOD
    assert read(lists.crl(signer, Entry(leaf, mine), more=more), leaf, signer).word is Word.REVOKED
    assert read(lists.crl(signer, Entry(leaf, theirs), more=more), leaf, signer).word is Word.GOOD
    assert read(lists.crl(signer, more=more), LEAF, signer).word is Word.UNTRUSTED, "it names nobody"
    assert read(lists.crl(signer), leaf, signer).word is Word.UNTRUSTED, "the list is not for others"
    assert read(lists.crl(signer, more=more), leaf).word is Word.UNTRUSTED, "nobody knows that CA"
    assert read(lists.crl(MIDDLE), leaf, signer).word is Word.UNTRUSTED, "its own CA is not whom it names"


def test_a_key_that_may_not_sign_lists_signs_none() -> None:
    usage = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
    middle = certs.intermediate(ROOT, "No Lists CA", more=[(usage, True)])
    assert read(lists.crl(middle), certs.leaf(middle)).word is Word.UNTRUSTED


def test_only_a_ca_of_the_way_or_whom_it_named_signs_lists() -> None:
    """A certificate sent beside the chain, with the CA's name and its own key, is no issuer of lists."""
    stranger = certs.make(certs.Order("Test Issuing CA", "Test", is_ca=True, key="a stranger's"))
    renewed = certs.make(certs.Order("Test Issuing CA", "Test", is_ca=True, key="its list key"), MIDDLE)
    sent = [one.certificate for one in (LEAF, MIDDLE, stranger, renewed)]
    roots = Roots("the list", (ROOT.certificate,))
    (path,) = ways(sent, roots)
    found = revocation.signers(path, sent, roots)
    assert renewed.certificate in found
    assert stranger.certificate not in found


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"", "is empty"),
        (b"  <!DOCTYPE html>", "is a web page"),
        (b"-----BEGIN X509 CRL-----\n", "is in PEM"),
        (b"\x30\x80", "is no revocation list"),
        (LEAF.der, "is no revocation list"),
    ],
)
def test_what_is_no_list_is_told_as_what_it_is(octets: bytes, words: str) -> None:
    listed = read(octets)
    assert listed.word is Word.UNREADABLE
    assert words in listed.why


SOUND = lists.crl(MIDDLE, Entry(LEAF))
TOLD = lists.ocsp_answer(LEAF, MIDDLE)


@given(st.integers(0, len(SOUND) - 1), st.integers(1, 255))
def test_one_octet_changed_in_a_list_never_makes_it_good(place: int, change: int) -> None:
    octets = bytearray(SOUND)
    octets[place] ^= change
    assert read(bytes(octets)).word is not Word.GOOD


@given(st.binary(max_size=200) | st.integers(0, len(SOUND)).map(lambda n: SOUND[:n]))
def test_any_octets_are_a_word(octets: bytes) -> None:
    assert octets == SOUND or read(octets).word is Word.UNREADABLE
    told = ocsp.read(octets, certificate=LEAF.certificate, issuer=MIDDLE.certificate, now=NOW)
    assert told.standing is ocsp.Standing.NONE
    assert aia.read(octets) == []


@given(st.integers(0, len(TOLD) - 1), st.integers(1, 255))
def test_one_octet_changed_in_an_answer_never_says_good_of_another(place: int, change: int) -> None:
    octets = bytearray(TOLD)
    octets[place] ^= change
    told = ocsp.read(bytes(octets), certificate=LEAF.certificate, issuer=MIDDLE.certificate, now=NOW)
    assert told.standing in (ocsp.Standing.NONE, ocsp.Standing.GOOD)
    other = certs.leaf(MIDDLE)
    told = ocsp.read(bytes(octets), certificate=other.certificate, issuer=MIDDLE.certificate, now=NOW)
    assert told.standing is ocsp.Standing.NONE


def test_a_bundle_of_certificates_is_read() -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

    bundle = pkcs7.serialize_certificates([MIDDLE.certificate, ROOT.certificate], Encoding.DER)
    assert set(aia.read(bundle)) == {MIDDLE.certificate, ROOT.certificate}
    assert aia.read(MIDDLE.pem) == [MIDDLE.certificate]
