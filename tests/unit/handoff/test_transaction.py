"""A letter over a session: what each recipient got, for every way the far side may behave."""

from __future__ import annotations

import asyncio

import pytest

from resubmit.handoff import prepare
from resubmit.handoff.pool import Pool
from resubmit.model.attempt import Handed, Result, Stage
from tests.helpers.relay import Cut, Mail, Script, ScriptedServer
from tests.unit.handoff.post import BODY, HEAD, letter, route, script, until

BIG = b"Subject: big\r\n\r\n" + b"0123456789abcdef0123456789abcdef\r\n" * 60_000  # 2 MB: comes in blocks


def stages(handed: Handed) -> list[tuple[str, str]]:
    return [(offered.result.value, offered.stage.value) for offered in handed.results]


async def test_what_was_journaled_arrives_with_the_trace_field_on_top(
    pool: Pool, hop: ScriptedServer
) -> None:
    handed = await pool.hand(route(hop.port), letter())
    assert stages(handed) == [("accepted", "dot")]
    [mail] = hop.mails
    assert mail.data == HEAD + BODY
    assert (mail.sender, [address for address, _ in mail.recipients]) == (
        "app@app.invalid",
        ["anna@contoso.invalid"],
    )
    assert mail.helo == "us.invalid"
    assert handed.dot_at is not None
    assert handed.remote == f"[127.0.0.1]:{hop.port}"


@pytest.mark.parametrize(
    ("step", "stage", "unreachable"),
    [
        ("connect", Stage.GREETING, True),
        ("greeting", Stage.GREETING, True),
        ("ehlo", Stage.EHLO, False),
        ("mail", Stage.MAIL, False),
        ("rcpt", Stage.RCPT, False),
        ("before_354", Stage.DATA, False),
    ],
)
@pytest.mark.parametrize("way", ["cut", "hang"])
async def test_a_loss_before_the_data_is_surely_not_taken(
    pool: Pool, hop: ScriptedServer, way: str, step: str, stage: Stage, unreachable: bool
) -> None:
    hop.script = script(**{way: step})
    handed = await pool.hand(route(hop.port, timeout="300ms"), letter())
    assert stages(handed) == [("deferred", stage.value)]
    assert handed.unreachable is unreachable
    assert handed.dot_at is None
    expected = "timed out" if way == "hang" else "lost"
    assert expected in handed.results[0].text or "reset" in handed.results[0].text
    assert hop.mails == []


@pytest.mark.parametrize("way", ["cut", "hang"])
async def test_a_loss_in_the_body_is_surely_not_taken(pool: Pool, hop: ScriptedServer, way: str) -> None:
    hop.script = script(**{way: "in_body", "after": 70_000})
    handed = await pool.hand(route(hop.port, timeout="300ms", data_timeout="300ms"), letter(BIG * 8))
    # A server that hangs reads on in silence here, so our dot does get out: then nobody knows.
    expected = [("deferred", "body")] if way == "cut" else [("lost", "dot")]
    assert stages(handed) == expected
    assert (handed.dot_at is None) is (way == "cut")


async def test_a_server_that_reads_no_more_is_a_deferral_in_the_body(pool: Pool) -> None:
    stalled = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hop\r\n")
        for reply in (b"250 hop\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            await reader.readline()
            writer.write(reply)
        await stalled.wait()
        writer.transport.abort()

    server = await asyncio.start_server(stall, "127.0.0.1", 0, limit=1024)
    port = server.sockets[0].getsockname()[1]
    handed = await pool.hand(route(port, timeout="300ms"), letter(BIG * 8))
    assert stages(handed) == [("deferred", "body")]
    assert "took no more data" in handed.results[0].text
    assert handed.dot_at is None
    stalled.set()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("body", [BODY, BIG], ids=["whole", "blocks"])
@pytest.mark.parametrize("way", ["cut", "hang"])
async def test_a_loss_after_the_dot_is_lost(pool: Pool, hop: ScriptedServer, way: str, body: bytes) -> None:
    hop.script = script(**{way: "after_dot"})
    handed = await pool.hand(route(hop.port, data_timeout="300ms"), letter(body))
    assert stages(handed) == [("lost", "dot")]
    assert handed.dot_at is not None
    assert hop.mails[0].data == HEAD + body  # and indeed it was taken


@pytest.mark.parametrize("body", [BODY, BIG], ids=["whole", "blocks"])
@pytest.mark.parametrize(
    ("reply", "result"),
    [
        ("250 2.0.0 taken", Result.ACCEPTED),
        ("450 4.7.1 later", Result.DEFERRED),
        ("421 4.3.2 closing", Result.DEFERRED),
        ("554 5.6.0 never", Result.REFUSED),
    ],
)
async def test_the_reply_to_the_dot_is_everybodys(
    pool: Pool, hop: ScriptedServer, body: bytes, reply: str, result: Result
) -> None:
    hop.script = Script(dot=reply)
    handed = await pool.hand(route(hop.port), letter(body, "a@x.invalid", "b@x.invalid"))
    assert stages(handed) == [(result.value, "dot")] * 2
    assert [offered.reply.line() for offered in handed.results if offered.reply] == [reply] * 2


async def test_after_a_no_to_the_dot_the_session_is_not_used_again(pool: Pool, hop: ScriptedServer) -> None:
    """The no may have come before the end was read; then the rest is read as commands."""
    hop.script = Script(dot="554 5.6.0 never")
    await pool.hand(route(hop.port), letter())
    hop.script = Script()
    assert stages(await pool.hand(route(hop.port), letter())) == [("accepted", "dot")]
    assert hop.connections == 2


async def test_a_reply_to_the_dot_that_is_none_is_lost(pool: Pool, hop: ScriptedServer) -> None:
    hop.script = Script(dot=b"354 still listening\r\n")
    assert stages(await pool.hand(route(hop.port), letter())) == [("lost", "dot")]
    hop.script = Script(dot=b"hello?\r\n")
    assert stages(await pool.hand(route(hop.port), letter())) == [("lost", "dot")]


@pytest.mark.parametrize(
    ("reply", "expected"), [("552 5.3.4 too large", "refused"), ("452 4.3.1 no room", "deferred")]
)
async def test_an_early_no_in_the_body_ends_the_session(
    pool: Pool, hop: ScriptedServer, reply: str, expected: str
) -> None:
    hop.script = Script(early=reply, after=70_000)
    handed = await pool.hand(route(hop.port), letter(BIG * 8))
    assert stages(handed) == [(expected, "body")]
    assert handed.dot_at is None
    assert pool.connections("next") == 0
    hop.script = Script()
    assert stages(await pool.hand(route(hop.port), letter())) == [("accepted", "dot")]
    assert hop.connections == 2


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("451 4.3.0 later", ("deferred", "mail")),
        ("550 5.7.1 not you", ("refused", "mail")),
        ("421 4.3.2 closing", ("deferred", "mail")),
    ],
)
async def test_a_no_to_mail_is_everybodys(
    pool: Pool, hop: ScriptedServer, reply: str, expected: tuple[str, str]
) -> None:
    hop.script = Script(mail=reply)
    handed = await pool.hand(route(hop.port), letter(BODY, "a@x.invalid", "b@x.invalid"))
    assert stages(handed) == [expected] * 2


async def test_each_recipient_gets_its_own_reply(pool: Pool, hop: ScriptedServer) -> None:
    replies = {
        "good@x.invalid": "250 2.1.5 ok",
        "full@x.invalid": "452 4.2.2 full",
        "none@x.invalid": "550 5.1.1 no such user",
    }
    hop.script = Script(rcpt=replies.__getitem__)
    handed = await pool.hand(route(hop.port), letter(BODY, *replies))
    assert stages(handed) == [("accepted", "dot"), ("deferred", "rcpt"), ("refused", "rcpt")]
    assert [address for address, _ in hop.mails[0].recipients] == ["good@x.invalid"]


async def test_when_all_recipients_are_refused_no_data_is_sent_and_the_session_goes_on(
    pool: Pool, hop: ScriptedServer
) -> None:
    hop.script = Script(rcpt="550 5.1.1 no such user")
    handed = await pool.hand(route(hop.port), letter(BODY, "a@x.invalid", "b@x.invalid"))
    assert stages(handed) == [("refused", "rcpt")] * 2
    assert [line.split()[0] for _, line in hop.lines] == ["EHLO", "MAIL", "RCPT", "RCPT", "RSET"]
    hop.script = Script()
    assert stages(await pool.hand(route(hop.port), letter())) == [("accepted", "dot")]
    assert hop.connections == 1


async def test_421_at_rcpt_defers_whoever_was_not_refused_before(pool: Pool, hop: ScriptedServer) -> None:
    replies = iter(["250 ok", "550 5.1.1 no such user", "421 4.7.0 too many errors"])
    hop.script = Script(rcpt=lambda address: next(replies))
    handed = await pool.hand(route(hop.port), letter(BODY, *(f"{c}@x.invalid" for c in "abcd")))
    assert stages(handed) == [
        ("deferred", "rcpt"),
        ("refused", "rcpt"),
        ("deferred", "rcpt"),
        ("deferred", "rcpt"),
    ]
    assert hop.offered == []


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("451 4.3.0 later", "deferred"),
        ("554 5.5.1 no valid recipients", "refused"),
        ("250 what", "deferred"),
        ("399 what", "deferred"),
        ("421 4.3.2 closing", "deferred"),
    ],
)
async def test_data_that_is_not_let_in(pool: Pool, hop: ScriptedServer, reply: str, expected: str) -> None:
    hop.script = Script(data=reply)
    handed = await pool.hand(route(hop.port), letter())
    assert stages(handed) == [(expected, "data")]
    assert handed.dot_at is None
    hop.script = Script()
    assert stages(await pool.hand(route(hop.port), letter())) == [("accepted", "dot")]


async def test_replies_in_single_octets_and_a_flood_of_greetings_are_read(
    pool: Pool, hop: ScriptedServer
) -> None:
    hop.script = Script(one_byte_writes=True, banner_flood=50)
    assert stages(await pool.hand(route(hop.port), letter())) == [("accepted", "dot")]


@pytest.mark.parametrize("greeting", ["554 5.7.1 blocked", "421 4.3.2 too many connections"])
async def test_a_no_in_the_greeting_is_deferred_with_its_words(
    pool: Pool, hop: ScriptedServer, greeting: str
) -> None:
    hop.script = Script(greeting=greeting)
    handed = await pool.hand(route(hop.port), letter())
    assert stages(handed) == [("deferred", "greeting")]
    assert handed.results[0].reply is not None
    assert handed.results[0].reply.line() == greeting
    assert handed.unreachable


async def test_two_replies_to_one_command_end_the_session(pool: Pool, hop: ScriptedServer) -> None:
    hop.script = Script(mail=b"250 ok\r\n250 and again\r\n")
    handed = await pool.hand(route(hop.port), letter())
    assert stages(handed) == [("deferred", "rcpt")]
    assert "unasked" in handed.results[0].text


async def test_a_second_reply_behind_354_is_not_taken_for_the_answer_to_the_dot(
    pool: Pool, hop: ScriptedServer
) -> None:
    hop.script = Script(data=b"354 go\r\n250 taken already\r\n")
    handed = await pool.hand(route(hop.port), letter())
    assert stages(handed) == [("deferred", "body")]
    assert handed.dot_at is None


async def test_reply_texts_are_fit_for_a_database(pool: Pool, hop: ScriptedServer) -> None:
    hop.script = Script(dot=b"250 2.0.0 \xff\xfe\x00 \x1b[31mred\r\n")
    [offered] = (await pool.hand(route(hop.port), letter())).results
    assert offered.reply is not None
    offered.reply.text.encode("utf-8")
    assert "\x00" not in offered.reply.text
    assert "\x1b" not in offered.reply.text


async def test_helo_serves_where_ehlo_is_unknown(pool: Pool, hop: ScriptedServer) -> None:
    hop.script = Script(ehlo="502 5.5.1 what")
    handed = await pool.hand(route(hop.port), letter())
    assert stages(handed) == [("deferred", "ehlo")]  # the lab's script answers HELO the same way
    assert [line.split()[0] for _, line in hop.lines] == ["EHLO", "HELO"]


# ── what is not sent ──────────────────────────────────────────────────────────────────────────────


async def test_above_the_hops_size_nothing_is_sent(pool: Pool, hop: ScriptedServer) -> None:
    hop.script = Script(keywords=["SIZE 150"])
    handed = await pool.hand(route(hop.port), letter(BODY + b"x" * 200 + b"\r\n"))
    assert stages(handed) == [("refused", "mail")]
    assert handed.results[0].text.startswith("552 5.3.4 ")
    assert [line.split()[0] for _, line in hop.lines] == ["EHLO"]


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ({"parameters": ("SMTPUTF8",), "body": "Subject: Grüße\r\n\r\nx\r\n".encode()}, [True, True]),
        ({"parameters": ("SMTPUTF8",), "body": "Subject: x\r\n\r\nGrüße\r\n".encode()}, [False, False]),
        ({"parameters": ("SMTPUTF8",), "sender": "bücher@x.invalid"}, [True, True]),
        ({"parameters": ("SMTPUTF8",), "to": "jörg@x.invalid"}, [True, False]),
    ],
    ids=["header", "ascii header", "sender", "one recipient"],
)
async def test_what_needs_smtputf8_is_not_converted(
    pool: Pool, hop: ScriptedServer, values: dict[str, object], refused: list[bool]
) -> None:
    hop.script = Script(keywords=["8BITMIME"])
    offered = letter(
        values.get("body", BODY),  # type: ignore[arg-type]
        str(values.get("to", "a@x.invalid")),
        "b@x.invalid",
        sender=str(values.get("sender", "app@app.invalid")),
        parameters=("SMTPUTF8",),
    )
    handed = await pool.hand(route(hop.port), offered)
    assert [o.result is Result.REFUSED for o in handed.results] == refused
    assert all(o.text == prepare.NEEDS_SMTPUTF8 for o in handed.results if o.result is Result.REFUSED)
    assert all("SMTPUTF8" not in mail.parameters for mail in hop.mails)


async def test_smtputf8_goes_on_where_it_is_offered(pool: Pool, hop: ScriptedServer) -> None:
    body = "Subject: Grüße\r\n\r\nx\r\n".encode()
    await pool.hand(route(hop.port), letter(body, "jörg@x.invalid", parameters=("SMTPUTF8", "BODY=8BITMIME")))
    [mail] = hop.mails
    assert {"SMTPUTF8", "BODY=8BITMIME"} <= set(mail.parameters)
    assert mail.recipients[0][0] == "jörg@x.invalid"
    assert mail.data == HEAD + body


@pytest.mark.parametrize(
    "address",
    [
        "a@x.invalid>\r\nRCPT TO:<evil@x.invalid",
        "a@x.invalid> NOTIFY=NEVER",
        "a\x00@x.invalid",
        "<a@x.invalid",
        'a"b@x.invalid',
        "a\udc80@x.invalid",
    ],
)
async def test_an_address_that_would_break_its_command_is_refused_here(
    pool: Pool, hop: ScriptedServer, address: str
) -> None:
    handed = await pool.hand(route(hop.port), letter(BODY, address, "b@x.invalid"))
    assert stages(handed) == [("refused", "rcpt"), ("accepted", "dot")]
    assert [address for address, _ in hop.mails[0].recipients] == ["b@x.invalid"]


@pytest.mark.parametrize(
    "address",
    [
        "a,b@x.invalid",
        "a;b@x.invalid",
        "@relay.invalid:u@x.invalid",
        '"a b>"@x.invalid',
        "x@[192.0.2.1]",
        "A+b=c@X.invalid",
    ],
)
async def test_no_address_is_rewritten(pool: Pool, hop: ScriptedServer, address: str) -> None:
    await pool.hand(route(hop.port), letter(BODY, address, sender=address))
    [mail] = hop.mails
    assert (mail.sender, mail.recipients[0][0]) == (address, address)


@pytest.mark.parametrize(
    "body", [BODY + b"a\nb\r\n", BODY + b"a\rb\r\n", BODY + b"a\n.\nb\r\n", BODY + b"a\r"]
)
async def test_a_bare_newline_never_leaves(pool: Pool, hop: ScriptedServer, body: bytes) -> None:
    handed = await pool.hand(route(hop.port), letter(body))
    assert stages(handed) == [("refused", "body")]
    assert handed.results[0].text.startswith(prepare.BARE_NEWLINE)
    assert hop.offered == []
    handed = await pool.hand(route(hop.port), letter(BIG + body))
    assert stages(handed) == [("refused", "body")]
    assert hop.offered == []


@pytest.mark.parametrize("body", [BODY, BIG], ids=["whole", "blocks"])
async def test_half_a_stored_body_is_never_ended_with_a_dot(
    pool: Pool, hop: ScriptedServer, body: bytes
) -> None:
    handed = await pool.hand(route(hop.port), letter(body, size=len(body) + 1))
    assert stages(handed) == [("deferred", "body")]
    assert handed.results[0].text.startswith(prepare.BODY_UNREADABLE)
    assert handed.dot_at is None
    await until(lambda: hop.open_connections == 0)
    assert hop.offered == []


async def test_a_disk_that_fails_in_the_middle_defers(pool: Pool, hop: ScriptedServer) -> None:
    whole = letter(BIG)

    async def failing():  # type: ignore[no-untyped-def]
        yield BIG[:500_000]
        raise OSError(5, "Input/output error")

    broken = type(whole)(**{f: getattr(whole, f) for f in whole.__slots__} | {"open_body": failing})
    handed = await pool.hand(route(hop.port), broken)
    assert stages(handed) == [("deferred", "body")]
    assert "Input/output error" in handed.results[0].text
    await until(lambda: hop.open_connections == 0)
    assert hop.offered == []


async def test_cancelled_in_the_middle_the_session_is_dropped(pool: Pool, hop: ScriptedServer) -> None:
    reached = asyncio.Event()

    async def wait_for_ever(mail: Mail) -> str:
        reached.set()
        await asyncio.sleep(60)
        raise Cut

    hop.script = Script(dot=wait_for_ever)
    task = asyncio.ensure_future(pool.hand(route(hop.port, data_timeout="60s"), letter()))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pool.connections("next") == 0


# ── options ───────────────────────────────────────────────────────────────────────────────────────


async def test_parameters_go_on_to_a_hop_that_offers_them(pool: Pool, hop: ScriptedServer) -> None:
    parameters = ("BODY=8BITMIME", "SIZE=1", "RET=HDRS", "ENVID=QQ314159")
    of_each = ("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Orig+2Bx@elsewhere.invalid")
    handed = await pool.hand(route(hop.port), letter(parameters=parameters, of_each=of_each))
    [mail] = hop.mails
    assert mail.parameters == (f"SIZE={len(HEAD + BODY)}", "BODY=8BITMIME", "RET=HDRS", "ENVID=QQ314159")
    assert mail.recipients[0][1] == of_each
    assert not handed.lacks_dsn


async def test_parameters_stay_behind_where_the_hop_offers_nothing(pool: Pool, hop: ScriptedServer) -> None:
    hop.script = Script(keywords=[])
    parameters = ("BODY=8BITMIME", "SIZE=1", "RET=HDRS", "ENVID=QQ314159")
    offered = letter("Ü\r\n".encode(), parameters=parameters, of_each=("NOTIFY=SUCCESS",))
    handed = await pool.hand(route(hop.port), offered)
    [mail] = hop.mails
    assert mail.parameters == ()
    assert mail.recipients[0][1] == ()
    assert mail.data == HEAD + "Ü\r\n".encode()
    assert handed.lacks_dsn


@pytest.mark.parametrize(
    ("no", "notify", "lacks"),
    [(1, "NEVER", False), (1, "FAILURE", False), (2, "SUCCESS", False), (1, "success", True)],
)
async def test_a_report_of_ours_is_due_only_where_success_was_asked_for(
    pool: Pool, hop: ScriptedServer, no: int, notify: str, lacks: bool
) -> None:
    hop.script = Script(keywords=[])
    handed = await pool.hand(route(hop.port), letter(of_each=(f"NOTIFY={notify}",), no=no))
    assert handed.lacks_dsn is lacks


async def test_no_report_is_due_for_who_was_not_taken(pool: Pool, hop: ScriptedServer) -> None:
    hop.script = Script(keywords=[], dot="554 5.6.0 never")
    assert not (await pool.hand(route(hop.port), letter(of_each=("NOTIFY=SUCCESS",)))).lacks_dsn


async def test_the_next_hops_id_is_read(pool: Pool, hop: ScriptedServer) -> None:
    hop.script = Script(dot="250 2.0.0 Ok: queued as 4bXYZ12abc")
    assert (await pool.hand(route(hop.port), letter())).next_key == "4bXYZ12abc"
