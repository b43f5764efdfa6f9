"""One message offered over a session, step by step: what each recipient got.

Promises: one result for each recipient of the letter, and the step at which it was decided; the far
side's faults are results, never exceptions. A loss before the final dot is written is surely not taken
(`deferred`); only one after it is `lost`. What is sent is what was journaled, with our trace field on top;
no address is rewritten, nothing is converted; what can't go on as it is, is refused here and says so.

Source: RFC 5321 §3.3, §4.5.3.1.10 (421 and 452 to RCPT), RFC 1047 (loss after the dot), RFC 1870,
RFC 6531 §3.2; design, sections 4 and 6.3.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from resubmit.errors import ResubmitError
from resubmit.handoff import prepare, wire
from resubmit.handoff.courier import Connection, Gone, Stopped
from resubmit.handoff.letter import Letter
from resubmit.model.attempt import Handed, Offered, Result, Stage
from resubmit.model.envelope import parameter
from resubmit.model.moment import Ms
from resubmit.model.reply import Reply

SMALL = 256 * 1024
"""Up to so many octets a body is read before MAIL and written at once, dot and all."""


class Unsendable(Exception):
    """The stored bytes can't be sent as they are; raised before the final dot."""

    def __init__(self, result: Result, text: str) -> None:
        super().__init__(text)
        self.result = result
        self.text = text


async def offer(connection: Connection, letter: Letter) -> Handed:
    """Offer a letter over a session. Gone when the session was closed before anything was sent."""
    transaction = _Transaction(connection, letter)
    body = letter.open_body()
    try:
        await transaction.run(body)
    except BaseException:
        connection.close()
        raise
    finally:
        if (aclose := getattr(body, "aclose", None)) is not None:
            await aclose()
        connection.used += 1
    return transaction.handed()


def stopped(letter: Letter, stop: Stopped, *, unreachable: bool = False) -> Handed:
    """What a letter's recipients got when no session could be had: all deferred, whatever was replied.

    A 5xx before MAIL is about the route, not about this mail; it was never offered.
    """
    return Handed(
        tuple(
            Offered(n, Result.DEFERRED, stop.stage, stop.reply, stop.text) for n, _, _ in letter.recipients
        ),
        remote=stop.remote,
        unreachable=unreachable,
        tls_below=stop.tls_below,
    )


class _Transaction:
    def __init__(self, connection: Connection, letter: Letter) -> None:
        self.connection = connection
        self.letter = letter
        self.results: dict[int, Offered] = {}
        self.remote = connection.remote
        self.tls = connection.tls
        self.dot_at: Ms | None = None
        self.next_key: str | None = None
        self.lacks_dsn = False

    def handed(self) -> Handed:
        """The results, in the letter's order."""
        return Handed(
            tuple(self.results[n] for n, _, _ in self.letter.recipients),
            dot_at=self.dot_at,
            next_key=self.next_key,
            remote=self.remote,
            tls=self.tls,
            lacks_dsn=self.lacks_dsn,
        )

    async def run(self, body: AsyncIterator[bytes]) -> None:
        """Every recipient has a result afterwards. Gone as `offer`."""
        letter, hop = self.letter, self.connection.hop
        size = len(letter.head) + letter.size
        if hop.size and size > hop.size:
            self._rest(
                Result.REFUSED, Stage.MAIL, text=f"{prepare.TOO_LARGE} ({size} > {hop.size}); not sent"
            )
            return
        try:
            start, ended = await self._start(body)
            going = self._going(start)
            if not going:
                return
            await self._mail(size, start, going)
            accepted = await self._rcpt(going)
            if accepted:
                await self._data(accepted, start, ended, body)
            else:
                await self._reset()
        except Stopped as stop:
            self._rest(Result.DEFERRED, stop.stage, stop.reply, stop.text)
        except Unsendable as error:
            self.connection.close()
            self._rest(error.result, Stage.BODY, text=error.text)

    async def _start(self, body: AsyncIterator[bytes]) -> tuple[bytes, bool]:
        """The beginning of the body, and whether that is all of it."""
        blocks: list[bytes] = []
        held = 0
        while held <= SMALL:
            block = await _next(body)
            if block is None:
                return b"".join(blocks), True
            blocks.append(block)
            held += len(block)
        return b"".join(blocks), False

    def _going(self, start: bytes) -> list[tuple[int, bytes, list[bytes]]]:
        """The recipients to be named: number, path, options. The others are refused here."""
        letter, hop = self.letter, self.connection.hop
        everyone = not hop.smtputf8 and prepare.needs_utf8(letter.sender, letter.parameters, start)
        going: list[tuple[int, bytes, list[bytes]]] = []
        for n, address, parameters in letter.recipients:
            if everyone or (not hop.smtputf8 and not address.isascii()):
                self._set(n, Result.REFUSED, Stage.MAIL, text=prepare.NEEDS_SMTPUTF8)
                continue
            try:
                options = prepare.rcpt_options(address, parameters, hop, no=letter.no)
                going.append((n, prepare.path_octets(address), options))
            except ValueError as error:
                self._set(n, Result.REFUSED, Stage.RCPT, text=f"{prepare.BAD_ADDRESS}: {error}")
        return going

    async def _mail(self, size: int, start: bytes, going: list[tuple[int, bytes, list[bytes]]]) -> None:
        letter, connection = self.letter, self.connection
        utf8 = connection.hop.smtputf8 and (
            parameter(letter.parameters, "SMTPUTF8") is not None
            or prepare.needs_utf8(letter.sender, letter.parameters, start)
            or any(not path.isascii() for _, path, _ in going)
        )
        try:
            path = prepare.path_octets(letter.sender)
            options = prepare.mail_options(
                letter.parameters, connection.hop, size=size, key=letter.key, utf8=utf8
            )
        except ValueError as error:
            self._rest(Result.REFUSED, Stage.MAIL, text=f"{prepare.BAD_ADDRESS}: {error}")
            going.clear()
            return
        try:
            reply = await connection.say(Stage.MAIL, b"MAIL", b"FROM:<" + path + b">", *options)
        except Stopped as stop:
            if connection.used and (stop.reply is not None or stop.lost):
                raise Gone from stop
            raise
        if not reply.positive:
            self._answered(Stage.MAIL, reply)
            going.clear()

    async def _rcpt(self, going: list[tuple[int, bytes, list[bytes]]]) -> list[int]:
        accepted: list[int] = []
        for n, path, options in going:
            reply = await self.connection.say(Stage.RCPT, b"RCPT", b"TO:<" + path + b">", *options)
            if reply.positive:
                accepted.append(n)
            else:
                self._set(n, _result(reply), Stage.RCPT, reply)
        return accepted

    async def _data(self, accepted: list[int], start: bytes, ended: bool, body: AsyncIterator[bytes]) -> None:
        connection, letter = self.connection, self.letter
        stuffer = wire.Stuffer()
        first = _stuffed(stuffer, letter.head) + _stuffed(stuffer, start)
        if ended:
            first += _last(stuffer) + wire.DOT
            _check_size(len(start), letter.size)
        reply = await connection.say(Stage.DATA, b"DATA")
        if reply.code != 354:
            self._answered(Stage.DATA, reply)
            if reply.positive or not (reply.transient or reply.permanent):
                connection.close()
            else:
                await self._reset()
            return
        if ended:
            sent = await connection.send_whole(first)
        else:
            async with aclosing(_blocks(stuffer, first, len(start), letter.size, body)) as blocks:
                sent = await connection.send_blocks(blocks)
        self.dot_at = sent.dot_at
        stage = Stage.BODY if sent.dot_at is None else Stage.DOT
        if sent.reply is None:
            self._rest(Result.DEFERRED if sent.dot_at is None else Result.LOST, stage, text=sent.text)
        elif sent.dot_at is None and sent.reply.positive:
            # A yes to half a message: whatever was taken there, it was not this one.
            text = f"{self.remote}: answered {sent.reply.line()} before the end of the data"
            self._rest(Result.DEFERRED, stage, text=text)
        else:
            self._rest(_result(sent.reply), stage, sent.reply, connection.note)
            if sent.reply.positive:
                self._taken(accepted, sent.reply)

    def _taken(self, accepted: list[int], reply: Reply) -> None:
        self.next_key = wire.next_key(reply.text)
        if not self.connection.hop.dsn:
            taken = set(accepted)
            self.lacks_dsn = any(
                prepare.asks_success(parameters, self.letter.no)
                for n, _, parameters in self.letter.recipients
                if n in taken
            )

    async def _reset(self) -> None:
        """The transaction is forgotten over there; a session that can't do that is not used again."""
        try:
            reply = await self.connection.say(Stage.RCPT, b"RSET")
        except Stopped:
            return  # closed; every result is known already
        if not reply.positive:
            self.connection.close()

    def _answered(self, stage: Stage, reply: Reply) -> None:
        """A no to MAIL or DATA, for everyone without a result."""
        if reply.transient or reply.permanent:
            self._rest(_result(reply), stage, reply)
        else:
            self.connection.close()
            text = f"{self.remote}: answered {reply.line()} to {stage.value.upper()}"
            self._rest(Result.DEFERRED, stage, text=text)

    def _set(self, n: int, result: Result, stage: Stage, reply: Reply | None = None, text: str = "") -> None:
        self.results[n] = Offered(n, result, stage, reply, text)

    def _rest(self, result: Result, stage: Stage, reply: Reply | None = None, text: str = "") -> None:
        """The same result for everyone who has none yet."""
        for n, _, _ in self.letter.recipients:
            if n not in self.results:
                self._set(n, result, stage, reply, text)


def _result(reply: Reply) -> Result:
    """What a reply is for a recipient; a 3xx where none belongs counts as not taken."""
    if reply.positive:
        return Result.ACCEPTED
    return Result.REFUSED if reply.permanent else Result.DEFERRED


async def _next(body: AsyncIterator[bytes]) -> bytes | None:
    """The next block, None at the end. Unsendable when the journal can't give it."""
    try:
        return await anext(body)
    except StopAsyncIteration:
        return None
    except (OSError, ResubmitError) as error:
        raise Unsendable(Result.DEFERRED, f"{prepare.BODY_UNREADABLE}: {error}") from error


async def _blocks(
    stuffer: wire.Stuffer, first: bytes, read: int, size: int, body: AsyncIterator[bytes]
) -> AsyncGenerator[bytes, None]:
    """The data as it goes out, without the final dot. Unsendable when it is not as it was journaled."""
    yield first
    while (block := await _next(body)) is not None:
        read += len(block)
        yield _stuffed(stuffer, block)
    _check_size(read, size)
    yield _last(stuffer)


def _stuffed(stuffer: wire.Stuffer, block: bytes) -> bytes:
    try:
        return stuffer.feed(block)
    except wire.BareNewline as error:
        raise Unsendable(Result.REFUSED, f"{prepare.BARE_NEWLINE}: {error}") from error


def _last(stuffer: wire.Stuffer) -> bytes:
    try:
        return stuffer.end()
    except wire.BareNewline as error:
        raise Unsendable(Result.REFUSED, f"{prepare.BARE_NEWLINE}: {error}") from error


def _check_size(read: int, size: int) -> None:
    """Half a message must never be ended with a dot: it would be taken for a whole one."""
    if read != size:
        raise Unsendable(Result.DEFERRED, f"{prepare.BODY_UNREADABLE}: {read} octets instead of {size}")
