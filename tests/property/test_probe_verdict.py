"""Whatever was seen has a name: no look is healthy by silence, and no reader of it ever raises."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from resubmit.model.tls import Endpoint, Health
from resubmit.probe.findings import ORDER, judge
from resubmit.probe.roots import Roots
from resubmit.probe.seen import AddressSeen, Answer, Handshake, How, Seen, Step, Stop

NOW = 1_790_000_000_000
LEVELS = ["none", "opportunistic", "encrypt", "certificate", "domain"]
CODES = [220, 221, 250, 354, 421, 451, 500, 502, 530, 550, 554]
WORDS = [
    b"ok",
    b"STARTTLS",
    b"banned",
    b"XXXX",
    b"****",
    b"Tue, 24 Nov 2026 12:00:00 +0000",
    b"\xff\x1b[2J",
    b"",
]

steps = st.sampled_from(list(Step))
answers = st.builds(
    lambda step, code, words: Answer(step, code, tuple(b"%d %s" % (code, w) for w in words), 1),
    steps,
    st.sampled_from(CODES),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=3),
)
handshakes = st.builds(
    Handshake,
    done=st.booleans(),
    verified=st.booleans(),
    protocol=st.sampled_from(["", "TLSv1.1", "TLSv1.2", "TLSv1.3"]),
    cipher=st.sampled_from(["", "AES128-SHA", "ECDHE-RSA-AES128-GCM-SHA256", "TLS_AES_256_GCM_SHA384"]),
    chain=st.sampled_from([(), (b"junk",)]),
    verify_code=st.sampled_from([None, None, 20, 999]),
    reason=st.sampled_from(["", "DH_KEY_TOO_SMALL", "UNSUPPORTED_PROTOCOL"]),
    alerts=st.sampled_from([(), ("HANDSHAKE_FAILURE",), ("PROTOCOL_VERSION",), ("CERTIFICATE_REQUIRED",)]),
    certificate_requested=st.booleans(),
    opening=st.sampled_from([b"", b"\x15\x03", b"\x16\x03", b"220 "]),
)
stops = st.builds(
    Stop,
    steps,
    st.sampled_from(list(How)),
    st.sampled_from(["", "reset"]),
    st.sampled_from([b"", b"2", b"junk"]),
)


def addresses(other: st.SearchStrategy[AddressSeen | None]) -> st.SearchStrategy[AddressSeen]:
    """One address, and its other conversations."""
    return st.builds(
        AddressSeen,
        st.sampled_from(["192.0.2.1", "2001:db8::1"]),
        st.just("IPv4"),
        st.booleans(),
        st.lists(answers, max_size=6).map(tuple),
        st.sampled_from([b"", b"250 mine"]),
        st.none() | handshakes,
        st.none() | stops,
        st.just(((Step.CONNECT, 5), (Step.GREETING, 5))),
        other,
        other,
        other,
    )


looks = addresses(st.none() | addresses(st.none()))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(looks, min_size=1, max_size=3), st.sampled_from(LEVELS), st.sampled_from(["", "a@test.invalid"])
)
def test_what_was_seen_has_a_name(seen: list[AddressSeen], level: str, recipient: str) -> None:
    endpoint = Endpoint("mail.test.invalid", level=level, recipient=recipient)
    verdict = judge(Seen(endpoint, NOW, 1_000, tuple(seen)), Roots("a list", ()))
    assert set(verdict.codes()) <= set(ORDER)
    for one, judged in zip(seen, verdict.addresses, strict=True):
        assert all(f.text and f.where and f.text.isprintable() for f in judged.findings)
        if level in ("encrypt", "certificate", "domain") and judged.health is Health.HEALTHY:
            mail = one.answer(Step.MAIL)
            assert one.handshake is not None
            assert one.handshake.done
            assert mail is not None
            assert mail.positive
