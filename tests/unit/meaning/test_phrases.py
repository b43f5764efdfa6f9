"""The language of the table: what a phrase finds, and what it does not."""

from __future__ import annotations

import pytest

from resubmit.meaning.phrases import Phrase


@pytest.mark.parametrize(
    ("phrase", "text", "found"),
    [
        ("mailbox (is |)full", "550 mailbox full", True),
        ("mailbox (is |)full", "550 the mailbox is full.", True),
        ("mailbox (is |)full", "550 mailbox is nearly full", False),
        ("exceeded … quota", "exceeded quota", True),
        ("exceeded … quota", "exceeded the disk quota", True),
        ("exceeded … quota", "exceeded" + " x" * 40 + " quota", False),
        ("greylist*", "greylisted: come again", True),
        ("greylist*", "ungreylisted", False),
        ("SPF", "nspfx", False),
        ("SPF", "spf-check", True),
        ("AS(7555", "as(7555) no", True),
        ("over(| |-)quota", "overquota", True),
        ("a (b (c|d)|e) f", "a b d f", True),
        ("a (b (c|d)|e) f", "a e f", True),
        ("a (b (c|d)|e) f", "a b f", False),
        ("x|y", "x", False),
        ("(virus|spam)*", "spamming", True),
        ("[Message=", "x [message=y", True),
        ("邮箱已满", "550 邮箱已满", True),
    ],
)
def test_what_a_phrase_finds(phrase: str, text: str, found: bool) -> None:
    one = Phrase(phrase)

    assert one.stands_in(text) is found
    assert not found or any(needle in text for needle in one.needles)


def test_the_needles_are_the_rarest_part_that_every_text_has() -> None:
    assert Phrase("mailbox (is |)full").needles == ("mailbox",)
    assert Phrase("no (TLS|STARTTLS)").needles == ("tls", "starttls")
    assert Phrase("(a|b) … certificate").needles == ("certificate",)
