"""Messages as other programs read them: an mbox is read back, a Replay file holds its envelope."""

from __future__ import annotations

import mailbox
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from resubmit.view.files import mbox, replay_head
from tests.helpers.factory import NOW

BODIES = st.lists(
    st.sampled_from(
        [b"From ", b">From ", b"\r\n", b"Subject: x\r\n", b"\n", b"\r", b"a", b"\x80\xff", b".\r\n"]
    )
).map(b"".join)


def pieces(octets: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(octets) + 1) for cut in cuts), len(octets)]
    return [octets[a:b] for a, b in pairwise(places)]


@given(BODIES, st.lists(st.integers(0, 100), max_size=4))
def test_every_line_comes_back_however_the_pieces_were_cut(body: bytes, cuts: list[int]) -> None:
    first, *lines = b"".join(mbox(pieces(body, cuts), "ann@contoso.com", NOW)).split(b"\n")

    assert first == b"From ann@contoso.com Tue Nov 24 12:00:00 2026"
    assert not any(line.startswith(b"From ") for line in lines)
    back = b"\n".join(line[1:] if line.lstrip(b">").startswith(b"From ") else line for line in lines)
    plain = body.replace(b"\r\n", b"\n")
    assert back == plain + (b"\n" if plain.endswith(b"\n") or not plain else b"\n\n")


def test_another_program_finds_the_same_messages(tmp_path: Path) -> None:
    one = b"Subject: one\r\n\r\nFrom here on\r\n"
    two = b"Subject: two\r\n\r\nno line end"
    (tmp_path / "box").write_bytes(b"".join([*mbox([one], "", NOW), *mbox([two], "b c@d\n", NOW)]))

    box = mailbox.mbox(str(tmp_path / "box"))
    found = [m["subject"] for m in box]
    box.close()

    assert found == ["one", "two"]
    assert (tmp_path / "box").read_bytes().startswith(b"From MAILER-DAEMON Tue")


def test_a_replay_file_has_the_envelope_on_top_and_ends_it_before_the_message() -> None:
    head = replay_head(
        "app@example.org",
        ("SIZE=99", "BODY=8BITMIME", "RET=HDRS", "ENVID=a+2Bb"),
        [("ann@contoso.com", ("NOTIFY=NEVER", "ORCPT=rfc822;mary@contoso.com")), ("bob@contoso.com", ())],
        "1N3QK5Z8G4000",
        NOW,
    )

    assert head.decode().split("\r\n") == [
        "X-Sender: <app@example.org> BODY=8BITMIME RET=HDRS ENVID=a+2Bb",
        "X-Receiver: <ann@contoso.com> NOTIFY=NEVER ORcpt=mary@contoso.com",
        "X-Receiver: <bob@contoso.com>",
        "X-CreatedBy: resubmit",
        "Received: by resubmit with LOCAL id 1N3QK5Z8G4000;",
        "\tTue, 24 Nov 2026 12:00:00 +0000",
        "",
    ]


def test_an_address_can_not_add_a_recipient() -> None:
    head = replay_head("", (), [("a@b\r\nX-Receiver: <evil@x>", ())], "1N3QK5Z8G4000", NOW)

    assert head.count(b"\r\nX-Receiver:") == 1
