"""Two rules for names: a certificate's wildcard, and a connector's TlsDomain."""

from __future__ import annotations

import pytest

from resubmit.probe.names import Match, Names, match_host, match_tls_domain, names_of, shown
from tests.helpers import certs

YES, NO, BROAD = Match.YES, Match.NO, Match.TOO_BROAD

HOSTS = [
    ("mail.contoso.com", ["mail.contoso.com"], YES),
    ("MAIL.Contoso.com.", ["mail.contoso.com"], YES),
    ("mail.contoso.com", ["MAIL.CONTOSO.COM"], YES),
    ("mail.contoso.com", ["*.contoso.com"], YES),
    ("a.mail.contoso.com", ["*.contoso.com"], NO),
    ("contoso.com", ["*.contoso.com"], NO),
    ("mail.contoso.com", ["m*.contoso.com"], NO),
    ("mail.contoso.com", ["*"], NO),
    ("mail.contoso.com", ["*.com"], NO),
    ("contoso.com", ["*.com"], BROAD),
    ("mail.test", ["*.test", "mail.test"], YES),
    ("mail.contoso.com", ["mail.contoso.org", "xmail.contoso.com"], NO),
    ("mail.contoso.com", [], NO),
    ("bücher.example", ["xn--bcher-kva.example"], YES),
    ("mail.bücher.example", ["*.xn--bcher-kva.example"], YES),
    ("192.0.2.1", ["192.0.2.1"], NO),
    ("mail..contoso.com", ["mail.contoso.com"], NO),
    ("", [""], NO),
]


@pytest.mark.parametrize(("host", "names", "match"), HOSTS)
def test_a_certificates_wildcard_is_one_left_most_label(host: str, names: list[str], match: Match) -> None:
    plain = tuple(name.lower() for name in names)
    assert match_host(host, Names(plain)) is match


@pytest.mark.parametrize(
    ("host", "match"), [("192.0.2.1", YES), ("[192.0.2.1]", YES), ("192.0.2.2", NO), ("2001:db8:0::1", YES)]
)
def test_an_address_is_matched_by_the_addresses_on_it(host: str, match: Match) -> None:
    assert match_host(host, Names((), ("192.0.2.1", "2001:db8::1"))) is match


DOMAINS = [
    ("*.contoso.com", ["mail.contoso.com"], YES),
    ("*.contoso.com", ["mail.eu.contoso.com"], YES),
    ("*.contoso.com", ["*.contoso.com"], YES),
    ("*.contoso.com", ["*.eu.contoso.com"], YES),
    ("*.contoso.com", ["contoso.com"], NO),
    ("*.contoso.com", ["mail.fabrikamcontoso.com"], NO),
    ("*.contoso.com", ["mail.contoso.com.evil.org"], NO),
    ("*.Contoso.com", ["mail.contoso.com"], YES),
    ("mail.contoso.com", ["mail.contoso.com"], YES),
    ("mail.contoso.com", ["*.contoso.com"], YES),
    ("mail.contoso.com", ["other.contoso.com"], NO),
    ("contoso.com", ["mail.contoso.com"], NO),
]


@pytest.mark.parametrize(("domain", "names", "match"), DOMAINS)
def test_a_connectors_wildcard_is_a_suffix(domain: str, names: list[str], match: Match) -> None:
    assert match_tls_domain(domain, Names(tuple(names))) is match


def test_the_common_name_counts_only_without_san() -> None:
    with_san = certs.leaf(None, common="cn.test.invalid", dns=["san.test.invalid"]).certificate
    assert names_of(with_san) == Names(("san.test.invalid",))
    without = certs.leaf(None, common="cn.test.invalid", has_san=False).certificate
    assert names_of(without) == Names(("cn.test.invalid",), is_common=True)


def test_an_address_on_a_certificate_is_read() -> None:
    both = certs.leaf(None, addresses=["192.0.2.7", "2001:db8::7"]).certificate
    assert names_of(both).all() == ("mail.test.invalid", "192.0.2.7", "2001:db8::7")


def test_many_names_fit_a_sentence() -> None:
    assert shown([]) == "no name at all"
    assert shown(["a", "b"]) == "a, b"
    assert shown([str(n) for n in range(9)]) == "0, 1, 2, 3 and 5 more"
