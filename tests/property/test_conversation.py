"""A conversation overheard gives each recipient its own reply, however it is pipelined; never an error."""

from __future__ import annotations

import json
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from resubmit.evidence.conversation import Conversation, Told

CODES = st.sampled_from([250, 250, 251, 450, 452, 550, 554])
MAILS = st.lists(
    st.tuples(
        st.sampled_from([250, 250, 250, 451, 530]),  # to MAIL
        st.lists(CODES, min_size=1, max_size=5),  # to each RCPT
        st.sampled_from([354, 354, 451, 554]),  # to DATA
        st.sampled_from([250, 250, 452, 554, None]),  # to the data; None: the connection is lost
        st.booleans(),  # BDAT
    ),
    min_size=1,
    max_size=4,
)


def spoken(
    mails: list[tuple[int, list[int], int, int | None, bool]], piped: bool
) -> Iterator[tuple[str, str]]:
    """Commands and replies in the order of a log, and what is to come of it, as (">" | "<" | "=", text)."""
    yield "<", "220 mx.contoso.com ESMTP"
    yield ">", "EHLO a"
    yield "<", "250 mx.contoso.com"
    for n, (mail, codes, data, last, chunked) in enumerate(mails):
        people = [f"{n}.{i}@contoso.com" for i in range(len(codes))]
        group = [(f"MAIL FROM:<s{n}@contoso.com>", f"{mail} mail")]
        if mail >= 400:
            group += [(f"RCPT TO:<{p}>", "503 no mail") for p in people]
            results = [f"{p} refused {mail}" for p in people]
            taken: list[str] = []
        else:
            group += [(f"RCPT TO:<{p}>", f"{c} rcpt") for p, c in zip(people, codes, strict=True)]
            results = [f"{p} refused {c}" for p, c in zip(people, codes, strict=True) if c >= 400]
            taken = [p for p, c in zip(people, codes, strict=True) if c < 400]
        if chunked:
            answer = 503 if not taken else last
            group.append(("BDAT 10 LAST", f"{answer} last" if answer else ""))
        else:
            data = data if taken else 503
            group.append(("DATA", f"{data} data"))
            answer = data if data != 354 else last
        if piped:
            yield from ((">", command) for command, _ in group)
            yield from (("<", reply) for _, reply in group if reply)
        else:
            for command, reply in group:
                yield ">", command
                if reply:
                    yield "<", reply
        if not chunked and data == 354 and last:
            yield "<", f"{last} last"
        how = "cut None" if answer is None else f"{'taken' if answer < 400 else 'refused'} {answer}"
        yield "=", "\n".join([*results, *(f"{p} {how}" for p in taken)])
        if answer is None:
            return


@given(MAILS, st.booleans(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_each_recipient_has_its_own_reply(
    mails: list[tuple[int, list[int], int, int | None, bool]], piped: bool, broken: bool
) -> None:
    talk, told, expected = Conversation(), list[Told](), list[str]()
    for way, text in spoken(mails, piped):
        if way == "=":
            expected += text.split("\n") if text else []
            continue
        told += talk.command(text) if way == ">" else talk.reply(text)
        if broken:  # begun anew from what it remembers, as after a restart
            again = Conversation()
            again.restore(json.loads(json.dumps(talk.plain())))
            talk = again
    told += talk.closed("closed")
    assert sorted(f"{t.recipient} {t.how} {t.code}" for t in told) == sorted(expected)


SPEECH = st.one_of(
    st.sampled_from(
        [
            "220 x",
            "250 ok",
            "250-a",
            "354 go",
            "221 bye",
            "421 later",
            "550 no",
            "334 x",
            "250 2.1.0 Sender OK",
        ]
    ),
    st.sampled_from(
        ["EHLO a", "STARTTLS", "AUTH LOGIN", "dXNlcg==", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "BDAT 1"]
    ),
    st.sampled_from(["BDAT 1 LAST", "RSET", "QUIT", "XPROXYTO a", "X-ANONYMOUSTLS", "", "250", "999 x"]),
    st.text(max_size=20),
)


@given(
    st.lists(st.tuples(st.sampled_from(["command", "reply", "closed"]), SPEECH), max_size=40), st.booleans()
)
@settings(max_examples=200, deadline=None)
def test_anything_may_be_said(speech: list[tuple[str, str]], whole: bool) -> None:
    talk = Conversation(whole=whole)
    for way, text in speech:
        for told in getattr(talk, way)(text):
            assert told.how in ("taken", "refused", "cut", "session")
    again = Conversation(whole=whole)
    again.restore(json.loads(json.dumps(talk.plain())))
    assert again.plain() == talk.plain()
    assert again.closed("x") == talk.closed("x")
