"""ESMTP parameters the transcripts do not name."""

from __future__ import annotations

import pytest

from resubmit.errors import Refused
from resubmit.intake.parameters import read_mail, read_recipient


@pytest.mark.parametrize(
    ("text", "smtputf8"),
    [
        ("NOTIFY=SUCCESS", False),
        ("notify=failure,delay,success", False),
        ("ORCPT=rfc822;a@b", False),
        ("ORCPT=rfc822;" + "a" * 493, False),
        ("ORCPT=x400;+2F", False),
        ("ORCPT=utf-8;a\\x{FC}b@c", False),
        ("ORCPT=utf-8;jörg@c", True),
    ],
)
def test_a_recipients_parameter_is_kept(text: str, smtputf8: bool) -> None:
    assert read_recipient(" " + text, smtputf8) == (text,)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("NOTIFY=SOMETIMES", 501),
        ("NOTIFY=SUCCESS,", 501),
        ("NOTIFY=NEVER NOTIFY=NEVER", 501),
        ("ORCPT=;x", 501),
        ("ORCPT=rfc822;", 501),
        ("ORCPT=rfc822;a+4", 501),
        ("ORCPT=rfc822;" + "a" * 494, 501),
        ("ORCPT=rfc822;jörg@c", 501),
        ("ORCPT=utf-8;a\\b", 501),
        ("SIZE=5", 555),
        ("=x", 501),
        ("-X=1", 501),
        ("X=", 501),
    ],
)
def test_a_recipients_parameter_is_refused(text: str, code: int) -> None:
    with pytest.raises(Refused) as refused:
        read_recipient(" " + text, False)
    assert (refused.value.code, refused.value.enhanced) == (code, "5.5.4")


def test_blanks_between_parameters_are_not_kept() -> None:
    read = read_mail("  SIZE=00012   BODY=7BIT ")
    assert read.words == ("SIZE=00012", "BODY=7BIT") and read.size == 12


@pytest.mark.parametrize(
    "text", ["SIZE=-1", "SIZE", "SIZE=" + "1" * 21, "ENVID=", "ENVID=a+07", "RET", "BODY"]
)
def test_a_senders_parameter_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        read_mail(" " + text)
    assert refused.value.code == 501
