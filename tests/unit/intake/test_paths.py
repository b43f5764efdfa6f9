"""Which addresses are taken, as they were written, and which are not."""

from __future__ import annotations

import pytest

from resubmit.errors import Refused
from resubmit.intake.paths import read_path

TAKEN = {
    "<a@b>": "a@b",
    "<A.b+c@B.Example>": "A.b+c@B.Example",
    " <a@b>": "a@b",
    '<"a b"@c>': '"a b"@c',
    '<"a>b@c"@d.example>': '"a>b@c"@d.example',
    r'<"\"\\ "@d>': r'"\"\\ "@d',
    '<""@d>': '""@d',
    "<a@[192.0.2.1]>": "a@[192.0.2.1]",
    "<a@[IPv6:2001:db8::1]>": "a@[IPv6:2001:db8::1]",
    "<a@[X-net:what+ever]>": "a@[X-net:what+ever]",
    "<@relay.one,@two:u@x>": "u@x",
    "<@relay:u@x>": "u@x",
    "<o'neil/x=y{z}~|!#$%&*?^`@x>": "o'neil/x=y{z}~|!#$%&*?^`@x",
    "<u@under_score.x>": "u@under_score.x",
    "<u@xn--bcher-kva.example>": "u@xn--bcher-kva.example",
    "<jörg@bücher.example>": "jörg@bücher.example",
    "<" + "l" * 64 + "@b>": "l" * 64 + "@b",
    "<a@" + ".".join(["d" * 60] * 4) + ">": "a@" + ".".join(["d" * 60] * 4),
}
REFUSED = [
    *("a@b", "<a@b", "a@b>", "<a>", "<@b>", "<a@>", "<a@b@c>", "< a@b>", "<a@b >", "  <a@b>", "<>x"),
    *("<.a@b>", "<a.@b>", "<a..b@c>", "<a b@c>", '<"a@b>', '<"a"b@c>', "<a@-b>", "<a@b->", "<a@b..c>"),
    *("<a@b.>", "<a@.b>", "<a@[1.2.3]>", "<a@[1.2.3.256]>", "<a@[IPv6:zz]>", "<a@[IPv6:fe80::1%eth0]>"),
    *("<a@[]>", "<a@[x]y>", "<@a:>", "<@a u@x>", "<@a,b:u@x>", "<a@b\t>", "<a\x00@b>"),
    "<" + "l" * 65 + "@b>",
    "<" + "ö" * 33 + "@b>",
    "<a@" + "d" * 64 + ">",
    "<" + "l" * 64 + "@" + ".".join(["d" * 60] * 4) + ">",
]


@pytest.mark.parametrize("text", TAKEN, ids=range(len(TAKEN)))
@pytest.mark.parametrize("sender", [True, False])
def test_an_address_is_kept_as_it_was_written(text: str, sender: bool) -> None:
    assert read_path(text + " SIZE=1", sender=sender) == (TAKEN[text], " SIZE=1")


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_address_is_refused(text: str) -> None:
    if text == "<>x":
        assert read_path(text, sender=True) == ("", "x")  # the parameters refuse that
    else:
        with pytest.raises(Refused) as sender:
            read_path(text, sender=True)
        assert (sender.value.code, sender.value.enhanced) == (501, "5.1.7")
    with pytest.raises(Refused) as recipient:
        read_path(text, sender=False)
    assert (recipient.value.code, recipient.value.enhanced) == (501, "5.1.3")


def test_only_a_sender_may_be_nobody_and_only_a_recipient_the_postmaster() -> None:
    assert read_path("<>", sender=True) == ("", "")
    assert read_path("<PostMaster>", sender=False) == ("PostMaster", "")
    with pytest.raises(Refused):
        read_path("<>", sender=False)
    with pytest.raises(Refused):
        read_path("<postmaster>", sender=True)


@pytest.mark.timeout(2)
@pytest.mark.parametrize(
    "text",
    ["<" + "a." * 2000, "<a@" + "b-" * 2000, "<@" + "a,@" * 1300, '<"' + "\\a" * 2000, "<a@" + "b." * 2000],
)
def test_no_address_takes_long_to_refuse(text: str) -> None:
    for _ in range(50):
        with pytest.raises(Refused):
            read_path(text, sender=False)
