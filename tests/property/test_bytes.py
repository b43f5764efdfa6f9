"""Octets through the courier: whatever goes in comes out the same, but for the trace field on top."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resubmit.clock import SystemClock
from resubmit.handoff import transaction
from resubmit.handoff.pool import Pool
from resubmit.handoff.wire import BareNewline, Stuffer
from resubmit.model.attempt import Result
from tests.helpers.relay import ScriptedServer
from tests.unit.handoff.post import HEAD, letter, route

LINES = st.lists(
    st.one_of(
        st.binary(max_size=40).map(lambda octets: octets.replace(b"\r", b"").replace(b"\n", b"")),
        st.sampled_from(
            [b"", b".", b"..", b"...", b".\x00", b"\xff" * 3, b"x" * 5000, b"." * 999, b" .", b"QUIT"]
        ),
    ),
    max_size=12,
)
BODIES = LINES.map(lambda lines: b"".join(line + b"\r\n" for line in lines))
BORDERS = st.lists(st.integers(0, 5000), max_size=8)


def cut(octets: bytes, borders: list[int]) -> list[bytes]:
    """The octets in chunks, empty ones included."""
    places = sorted(min(place, len(octets)) for place in borders)
    return [octets[a:b] for a, b in zip([0, *places], [*places, len(octets)], strict=True)]


def received(wire: bytes) -> bytes:
    """What a receiver of RFC 5321 §4.5.2 keeps of a data phase: until the first lone dot, dots unstuffed."""
    kept: list[bytes] = []
    for line in wire.split(b"\r\n"):
        if line == b".":
            return b"".join(line + b"\r\n" for line in kept)
        kept.append(line.removeprefix(b"."))
    raise AssertionError("the data has no end")


@given(body=BODIES, borders=BORDERS)
@example(body=b".\r\n.\r\n", borders=[1, 2, 3, 4])
@example(body=b"", borders=[])
def test_stuffed_and_unstuffed_is_what_went_in(body: bytes, borders: list[int]) -> None:
    stuffer = Stuffer()
    wire = b"".join(stuffer.feed(chunk) for chunk in cut(body, borders)) + stuffer.end() + b".\r\n"
    assert received(wire) == body


@given(body=BODIES, borders=BORDERS)
def test_a_last_line_without_its_end_gets_one(body: bytes, borders: list[int]) -> None:
    stuffer = Stuffer()
    octets = body + b"end"
    wire = b"".join(stuffer.feed(chunk) for chunk in cut(octets, borders)) + stuffer.end() + b".\r\n"
    assert received(wire) == octets + b"\r\n"


@given(octets=st.text("\r\n.a", max_size=12).map(str.encode), borders=BORDERS)
def test_a_lone_cr_or_lf_is_seen_wherever_the_chunks_end(octets: bytes, borders: list[int]) -> None:
    bare = octets.replace(b"\r\n", b"")
    stuffer = Stuffer()
    try:
        wire = b"".join(stuffer.feed(chunk) for chunk in cut(octets, borders)) + stuffer.end() + b".\r\n"
    except BareNewline:
        assert b"\r" in bare or b"\n" in bare
    else:
        assert b"\r" not in bare
        assert b"\n" not in bare
        assert received(wire).removesuffix(b"\r\n") == octets.removesuffix(b"\r\n")


@pytest.mark.parametrize("small", [transaction.SMALL, 0], ids=["whole", "blocks"])
def test_what_goes_in_comes_out_over_a_real_connection(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "SMALL", small)
    runner = asyncio.Runner()
    hop = ScriptedServer()
    pool = Pool(SystemClock())
    runner.run(hop.start())

    @settings(max_examples=60, deadline=None)
    @given(body=BODIES, block=st.integers(1, 7000))
    @example(body=b"", block=1)
    @example(body=b".\r\n", block=1)
    @example(body=b"\xff\x00\x80\r\n" * 3, block=2)
    def through(body: bytes, block: int) -> None:
        handed = runner.run(pool.hand(route(hop.port), letter(body, block=block)))
        assert handed.results[0].result is Result.ACCEPTED
        assert hop.mails.pop().data == HEAD + body

    try:
        through()
    finally:
        runner.run(pool.close())
        runner.run(hop.stop())
        runner.close()
