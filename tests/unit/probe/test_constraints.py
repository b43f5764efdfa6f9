"""What the CAs of a chain may do: to issue, how deep, for whom; and of several ways up the one that holds."""

from __future__ import annotations

import functools
import ipaddress
import random
from collections.abc import Sequence

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from resubmit.model.moment import from_datetime
from resubmit.model.tls import Severity
from resubmit.probe import chain, revocation
from resubmit.probe.names import names_of
from resubmit.probe.path import ways
from resubmit.probe.roots import Roots
from tests.helpers import certs, lists

NOW = from_datetime(certs.now())
ROOT = certs.root()
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")


def flaws(sent: Sequence[certs.Made], *roots: certs.Made, public: bool = False) -> list[tuple[str, str]]:
    taken = Roots("the list", tuple(r.certificate for r in roots or (ROOT,)), is_public=public)
    found = chain.flaws([one.certificate for one in sent], taken, NOW, accepted=False)
    return [(f.code, f.where) for f in found]


def usage(**allowed: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})


def dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name) for name in names]


def held(permitted: list[x509.GeneralName] | None, excluded: list[x509.GeneralName] | None) -> certs.Made:
    more = [(x509.NameConstraints(permitted, excluded), True)]
    return certs.intermediate(ROOT, "Held CA", more=more)


NAMES: list[tuple[str, list[x509.GeneralName] | None, list[x509.GeneralName] | None, list[str], bool]] = [
    ("below the permitted", dns("test.invalid"), None, ["mail.test.invalid"], True),
    ("the permitted itself", dns("test.invalid"), None, ["test.invalid"], True),
    ("with a dot in front", dns(".test.invalid"), None, ["mail.test.invalid"], True),
    ("not within labels", dns("test.invalid"), None, ["mailtest.invalid"], False),
    ("one of two names outside", dns("test.invalid"), None, ["mail.test.invalid", "other.invalid"], False),
    ("in another case", dns("TEST.invalid"), None, ["mail.test.INVALID"], True),
    ("excluded", None, dns("test.invalid"), ["mail.test.invalid"], False),
    ("excluded elsewhere", None, dns("other.invalid"), ["mail.test.invalid"], True),
    ("excluded within the permitted", dns("invalid"), dns("mail.test.invalid"), ["mail.test.invalid"], False),
    ("a wildcard that stands for the excluded", None, dns("mail.test.invalid"), ["*.test.invalid"], False),
    ("a wildcard within the permitted", dns("test.invalid"), None, ["*.test.invalid"], True),
    ("a wildcard wider than the permitted", dns("mail.test.invalid"), None, ["*.test.invalid"], False),
    ("of another kind only", [x509.RFC822Name("test.invalid")], None, ["mail.test.invalid"], True),
]


@pytest.mark.parametrize(
    ("permitted", "excluded", "names", "ok"), [c[1:] for c in NAMES], ids=[c[0] for c in NAMES]
)
def test_name_constraints(
    permitted: list[x509.GeneralName] | None,
    excluded: list[x509.GeneralName] | None,
    names: list[str],
    ok: bool,
) -> None:
    middle = held(permitted, excluded)
    expected = [] if ok else [("untrusted_issuer", "intermediate")]
    assert flaws([certs.leaf(middle, dns=names), middle]) == expected


@pytest.mark.parametrize(("address", "ok"), [("192.0.2.7", True), ("198.51.100.7", False), ("::1", False)])
def test_name_constraints_on_addresses(address: str, ok: bool) -> None:
    middle = held([x509.IPAddress(ipaddress.ip_network("192.0.2.0/24"))], None)
    expected = [] if ok else [("untrusted_issuer", "intermediate")]
    assert flaws([certs.leaf(middle, addresses=[address]), middle]) == expected


def test_name_constraints_on_subjects_hold_for_cas_too() -> None:
    organisation = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Test")])
    middle = held([x509.DirectoryName(organisation)], None)
    within = certs.leaf(middle, organisation="test ")
    assert flaws([within, middle]) == []
    lower = certs.intermediate(middle, "Lower CA", organisation="Fabrikam")
    leaf = certs.leaf(lower, organisation="Test")
    assert flaws([leaf, lower, middle]) == [("untrusted_issuer", "intermediate")]


def test_a_common_name_is_held_to_constraints_where_there_is_no_san() -> None:
    middle = held(dns("other.invalid"), None)
    assert flaws([certs.leaf(middle, has_san=False), middle]) == [("untrusted_issuer", "intermediate")]


def test_more_names_and_constraints_than_anybody_compares_are_refused() -> None:
    middle = held(dns(*(f"a{n}.invalid" for n in range(400))), None)
    leaf = certs.leaf(middle, dns=[f"a{n}.invalid" for n in range(400)])
    assert flaws([leaf, middle]) == [("untrusted_issuer", "intermediate")]


def test_a_chain_longer_than_its_ca_allows() -> None:
    top = certs.root("Shallow Root", key="shallow", path_length=0)
    assert flaws([certs.leaf(top)], top) == []
    middle = certs.intermediate(top)
    assert flaws([certs.leaf(middle), middle], top) == [("issuer_not_ca", "root")]
    short = certs.intermediate(ROOT, "Short CA", path_length=0)
    lower = certs.intermediate(short, "Lower CA")
    assert flaws([certs.leaf(lower), lower, short]) == [("issuer_not_ca", "intermediate")]


def test_a_ca_that_issued_itself_anew_does_not_count_for_the_length() -> None:
    short = certs.intermediate(ROOT, "Short CA", path_length=0)
    again = certs.make(certs.Order("Short CA", "Test", is_ca=True, key="its new key"), short)
    assert flaws([certs.leaf(again), again, short]) == []


def test_a_ca_whose_key_may_not_sign_certificates() -> None:
    middle = certs.intermediate(ROOT, more=[(usage(crl_sign=True), True)])
    assert flaws([certs.leaf(middle), middle]) == [("issuer_not_ca", "intermediate")]


def test_what_must_be_understood_and_is_not() -> None:
    leaf = certs.leaf(ROOT, more=[(UNKNOWN, True)])
    assert flaws([leaf]) == [("untrusted_issuer", "leaf")]
    assert flaws([certs.leaf(ROOT, more=[(UNKNOWN, False)])]) == []
    middle = certs.intermediate(ROOT, more=[(UNKNOWN, True)])
    assert flaws([certs.leaf(middle), middle]) == [("untrusted_issuer", "intermediate")]


def test_what_openssl_took_is_still_held_to_what_others_refuse() -> None:
    """OpenSSL lets a wildcard pass that stands for an excluded name; others do not (CVE-2025-61727)."""
    middle = held(None, dns("mail.test.invalid"))
    sent = [certs.leaf(middle, dns=["*.test.invalid"]).certificate, middle.certificate]
    found = chain.flaws(sent, Roots("the list", (ROOT.certificate,)), NOW, accepted=True)
    assert [(f.code, f.where, f.severity) for f in found] == [("untrusted_issuer", "intermediate", None)]


def test_what_only_we_can_not_read_is_no_fault() -> None:
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.30"), b"\x30\x03\x02\x01\x00")
    middle = certs.intermediate(ROOT, "Odd CA", more=[(odd, False)])
    sent = [certs.leaf(middle).certificate, middle.certificate]
    for accepted in (False, True):
        found = chain.flaws(sent, Roots("the list", (ROOT.certificate,)), NOW, accepted=accepted)
        codes = [(f.code, f.where, f.severity is Severity.WARNING) for f in found]
        assert ("untrusted_issuer", "intermediate", accepted) in codes


def test_usages_of_leaf_and_intermediate() -> None:
    only_certs = [(usage(key_cert_sign=True), True)]
    assert flaws([certs.leaf(ROOT, more=only_certs)]) == [("wrong_usage", "leaf")]
    mail = [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)]
    middle = certs.intermediate(ROOT, more=mail)
    assert flaws([certs.leaf(middle), middle]) == [("wrong_usage", "intermediate")]
    assert flaws([certs.leaf(ROOT, usage=None)]) == []
    assert flaws([certs.leaf(ROOT, usage=ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)]) == []


def test_a_weak_root_is_named_in_a_ca_file_and_not_in_the_public_list() -> None:
    weak = certs.root("Weak Root", key="rsa1024 root")
    assert flaws([certs.leaf(weak)], weak) == [("weak_key", "root")]
    assert flaws([certs.leaf(weak)], weak, public=True) == []


def cross_signed() -> tuple[certs.Made, certs.Made, certs.Made, certs.Made]:
    """A leaf; its CA as an old root signed it and as a new root did; the old root."""
    old = certs.root("Old Root", key="old root")
    by_old = certs.intermediate(old, "Crossed CA", key="crossed", ends=certs.DAY * 40)
    by_new = certs.intermediate(ROOT, "Crossed CA", key="crossed")
    return certs.leaf(by_new), by_old, by_new, old


def test_of_two_cross_signed_ways_the_one_that_holds_is_judged() -> None:
    leaf, by_old, by_new, old = cross_signed()
    assert flaws([leaf, by_old, by_new]) == []
    assert flaws([leaf, by_old, by_new], old) == []
    gone = certs.intermediate(old, "Crossed CA", key="crossed", starts=certs.DAY * -9, ends=-certs.DAY)
    assert flaws([leaf, gone, by_new], old, ROOT) == []
    assert flaws([leaf, gone], old, ROOT) == [("certificate_expired", "intermediate")]


def test_cas_that_signed_one_another_make_no_endless_way() -> None:
    first = certs.root("A", key="a")
    second = certs.intermediate(first, "B", key="b")
    back = certs.make(certs.Order("A", "Test", is_ca=True, key="a"), second)
    leaf = certs.leaf(second)
    assert flaws([leaf, second, back]) == [("untrusted_issuer", "root")]
    assert flaws([leaf, second, back], first) == []


def test_a_crowd_of_cas_of_one_name_is_searched_within_bounds() -> None:
    crowd = [certs.make(certs.Order("Same", is_ca=True, key=f"crowd {n}")) for n in range(6)]
    webs = [
        certs.make(certs.Order("Same", is_ca=True, key=f"crowd {n}"), one)
        for n in range(6)
        for one in crowd
        if one is not crowd[n]
    ]
    leaf = certs.leaf(crowd[0])
    taken = Roots("the list", (ROOT.certificate,))
    found = ways([leaf.certificate, *(one.certificate for one in webs)], taken)
    assert [path.anchor for path in found] == [None]


RICH = certs.leaf(
    held(dns("test.invalid"), dns("other.invalid")),
    more=[(usage(digital_signature=True), True), (UNKNOWN, False), *lists.at_list("http://ca.invalid/1")],
)


@given(st.integers(0, 1), st.integers(0, 2_000), st.integers(1, 255))
def test_certificates_with_an_octet_changed_are_judged_and_never_raise(
    which: int, place: int, change: int
) -> None:
    chain_sent = [bytearray(RICH.der), bytearray(RICH.up()[1].der)]
    chain_sent[which][place % len(chain_sent[which])] ^= change
    sent = chain.read([bytes(one) for one in chain_sent])
    if sent:
        given_roots = Roots("the list", (ROOT.certificate,))
        path, found = chain.judged(sent, given_roots, NOW, accepted=False)
        revocation.flaws(path, revocation.Gathered(), sent, NOW, is_public=True)
        names_of(sent[0])
        signed = [(one.tbs_certificate_bytes, one.signature) for one in sent]
        whole = [(one.certificate.tbs_certificate_bytes, one.certificate.signature) for one in RICH.up()]
        assert found or signed == whole


def test_names_are_compared_as_the_rfc_says() -> None:
    """Case and runs of spaces do not count (RFC 5280 §7.1)."""
    middle = certs.intermediate(
        certs.make(certs.Order("TEST  root", "test", is_ca=True, key="key of Test Root"))
    )
    assert flaws([certs.leaf(middle), middle]) == []


def test_an_intermediate_alone_in_a_ca_file_is_trusted() -> None:
    middle = certs.intermediate(ROOT)
    assert flaws([certs.leaf(middle), middle], middle) == []
    assert flaws([certs.leaf(middle)], middle) == []


CAS = ("A", "B", "C", "D")
EDGES = [(child, parent) for child in CAS for parent in (*CAS, "root") if child != parent]
SOUND, OVER, NO_CA = "sound", "over", "no ca"


def ca(name: str) -> certs.Made:
    return ROOT if name == "root" else certs.make(certs.Order(name, is_ca=True, key=f"key of CA {name}"))


@functools.cache
def crossed(child: str, parent: str, state: str) -> certs.Made:
    """The certificate of one CA as another signed it."""
    ends = -certs.DAY if state == OVER else 90 * certs.DAY
    order = certs.Order(
        child, is_ca=state != NO_CA, key=f"key of CA {child}", usage=None, starts=-9 * certs.DAY, ends=ends
    )
    return certs.make(order, ca(parent))


@given(
    st.dictionaries(st.sampled_from(EDGES), st.sampled_from([SOUND, SOUND, OVER, NO_CA]), min_size=1),
    st.randoms(use_true_random=False),
)
def test_a_chain_is_sound_exactly_where_some_way_up_is(
    web: dict[tuple[str, str], str], chance: random.Random
) -> None:
    """Whatever CAs signed one another, in whatever order they are sent."""
    reached, todo = {"A"}, ["A"]
    while todo:
        here = todo.pop()
        new = [up for (child, up), state in web.items() if (child, state) == (here, SOUND)]
        todo += [up for up in new if up not in reached]
        reached |= set(new)
    sent = [crossed(child, parent, state) for (child, parent), state in web.items()]
    chance.shuffle(sent)
    found = [code for code, _ in flaws([certs.leaf(ca("A")), *sent]) if code != "chain_misordered"]
    assert (found == []) is ("root" in reached)
