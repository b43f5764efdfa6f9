"""The next hop's own ids, as products write them."""

from __future__ import annotations

import pytest

from resubmit.handoff.wire import next_key, reply_of


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("2.0.0 Ok: queued as 4bXYZ12abc", "4bXYZ12abc"),
        ("Ok: queued as 9F2E81A0C3", "9F2E81A0C3"),
        ("2.0.0 Message Queued (F52C.1) queued as 5AB.", "5AB"),
        ("2.0.0 01KAZ3NDEKTSV journaled", "01KAZ3NDEKTSV"),
        (
            "2.6.0 <1@contoso.com> [InternalId=29072633627620,"
            " Hostname=DU0P192MB2073.EURP192.PROD.OUTLOOK.COM]"
            " 9803 bytes in 0.195, 49.066 KB/sec Queued mail for delivery -> 250 2.1.5",
            "29072633627620@DU0P192MB2073.EURP192.PROD.OUTLOOK.COM",
        ),
        ("OK id=1rABcd-0001Xy-2z", "1rABcd-0001Xy-2z"),
        ("2.0.0 4AOC0aBc012345 Message accepted for delivery", "4AOC0aBc012345"),
        ("2.0.0 OK  1795521600 af79cd13be357-7b1aa2c5d6esi - gsmtp", "af79cd13be357-7b1aa2c5d6esi"),
        ("ok 1795521600 qp 12345", "12345"),
        ("2.6.0  <1@contoso.com> Queued mail for delivery", None),
        ("2.0.0 Ok", None),
        ("", None),
    ],
)
def test_the_next_hops_id(text: str, key: str | None) -> None:
    assert next_key(text) == key


def test_a_reply_is_kept_readable_and_bounded() -> None:
    reply = reply_of(550, "5.7.1 no\x00\x07\nsecond\u2028line \udcff" + "x" * 100_000)
    assert reply.text.startswith("5.7.1 no  \nsecond line ")
    assert len(reply.text) <= 4096
    reply.text.encode()
