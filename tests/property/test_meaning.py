"""Whatever a server says, it means something, always the same, and never TLS without a sign of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resubmit.meaning.classify import codes, is_expiry, layers, meaning_of
from resubmit.meaning.layers import bare
from resubmit.meaning.table import known, signs
from resubmit.model.evidence import Cause, Meaning, Mend

EXAMPLES = sorted({example for sign in signs() for example in sign.examples})
TLS_WORDS = sorted(
    {
        phrase.text
        for sign in signs()
        if sign.known.cause is Cause.TLS and not sign.enhanced and not sign.reply
        for phrase in sign.says
        if phrase.is_plain and phrase.text.isascii()
    }
)
ANYTHING = st.one_of(st.text(max_size=300), st.text("45012.-[]{}()<>=:; \n\t\"'#abLEDMSG", max_size=300))
NOISE = (
    "the mail was put off for reasons of state in town 550 451 4.9.9 5.9.9 250 [x] (y) -> Message= today "
    "certificates keys clouds session secure lock trust"
)
WORDS = st.lists(st.sampled_from(re.split(" ", NOISE)), max_size=30).map(" ".join)


@given(ANYTHING, st.sampled_from([None, 450, 550]), st.text(max_size=8), st.sampled_from(["", "rcpt", "tls"]))
@settings(max_examples=200, deadline=None)
def test_any_text_means_something_and_the_same_again(
    text: str, code: int | None, enhanced: str, where: str
) -> None:
    meaning = meaning_of(text, code=code, enhanced=enhanced, where=where)

    assert meaning == meaning_of(text, code=code, enhanced=enhanced, where=where)
    assert meaning.advice
    assert meaning.sign in ("", *known())
    assert layers(text)
    assert codes(text)[0] is None or 200 <= (codes(text)[0] or 0) <= 599
    assert is_expiry(text) in (True, False)


@given(WORDS)
@settings(max_examples=200, deadline=None)
def test_a_text_without_a_sign_of_tls_is_never_tls(text: str) -> None:
    assert meaning_of(text).cause is not Cause.TLS


@given(st.text(max_size=200), st.sampled_from(["450 ", "550 ", "421 4.0.0 ", "554 5.0.0 ", ""]))
@settings(max_examples=200, deadline=None)
def test_what_is_tls_names_it(text: str, front: str) -> None:
    """Random text: only a phrase of the table or a registered code makes it TLS."""
    meaning = meaning_of(front + text)
    if meaning.cause is Cause.TLS:
        assert re.search(r"tls|ssl|cert|x?509|dane|sts|crl|0x8009|\d\.[47]\.\d|523|538", bare(text))


def folded(text: str, cuts: list[int]) -> str:
    """The text with line ends and tabs at some of its blanks."""
    words = text.split(" ")
    return "".join(w + ("\r\n\t" if i in cuts else " ") for i, w in enumerate(words)).strip()


@given(
    st.sampled_from(EXAMPLES),
    st.lists(st.integers(0, 40), max_size=6),
    st.sampled_from([str.upper, str.lower, str.swapcase, str]),
)
@settings(max_examples=200, deadline=None)
def test_case_white_space_and_folding_make_no_difference(
    example: str, cuts: list[int], change: type[str]
) -> None:
    told = meaning_of(example)
    changed = change(example) if example.isascii() else example

    assert meaning_of(folded(changed, cuts)) == told
    assert meaning_of(f"  {changed}\n") == told


@given(st.sampled_from(EXAMPLES), st.integers(1, 400))
@settings(max_examples=200, deadline=None)
def test_a_text_cut_off_anywhere_still_means_something(example: str, length: int) -> None:
    assert meaning_of(example[:length]).advice


@pytest.mark.parametrize(
    "wrapped", ["450 4.4.317 Cannot {} [Message={}]", "450 4.7.0 X '451 4.4.0 Y: \"{1}\"'"]
)
def test_the_innermost_text_decides(wrapped: str) -> None:
    for word in TLS_WORDS:
        inner = f"454 4.7.0 {word}"
        assert meaning_of(wrapped.format("connect", inner)).cause is Cause.TLS, word


@given(st.sampled_from(EXAMPLES))
@settings(max_examples=100, deadline=None)
def test_a_4xx_never_settles(example: str) -> None:
    code, _ = codes(example)
    meaning: Meaning = meaning_of(example)
    if code is not None and code < 500 and len(layers(example)) == 1:
        assert meaning.mend is not Mend.NEVER


@pytest.mark.parametrize("char", ["a", "(", "<", "550 ", "[Message=", "550-5.1.1 ", "a@", ". ", "not "])
def test_a_long_text_is_read_in_time(char: str) -> None:
    meaning_of(char * (50_000 // len(char)))  # the test's own limit of time is the assertion
