"""Messages into the journal, and their bytes out of it.

Promises: a message, its recipients and its small body are one transaction; ids grow in the order of
journaling, whatever the clock does.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from resubmit.errors import JournalError
from resubmit.journal import moves, notices
from resubmit.journal.codec import clean, day_of, read_words, words
from resubmit.journal.connection import sqlite3
from resubmit.journal.verbs import Arrival, ArrivingRecipient, DueMessage, Move, Moved, Stale
from resubmit.model.envelope import address_key
from resubmit.model.evidence import Holder
from resubmit.model.ids import id_text
from resubmit.model.message import Body, message_key
from resubmit.model.moment import Ms
from resubmit.model.recipient import Event, RecipientKey, State

_MESSAGE = """
insert into message (id, received_at, day, key, message_id, sender, parameters, subject, intake, peer, helo,
    protocol, size, digest, body_file)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_BODY = "insert into body (message, octets) values (?, ?)"

_RECIPIENT = """
insert into recipient (message, n, address, parameters, destination, route, state, since, holder, deadline,
    due_at, attempt, derived_from, again_of)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_ELSEWHERE_OFFER = """
insert into offer (message, no, route, kind, begun_at, dot_at, ended_at, day, remote)
values (?, 1, ?, 'handoff', ?, ?, ?, ?, '')
"""

_ATTEMPT_TAKEN = """
insert into attempt (message, n, no, offer, ended_at, event, accepted)
values (?, ?, ?, ?, ?, ?, 1)
"""

_DERIVED = """
update recipient
set state = ?, holder = ?, deadline = ?, due_at = null, attempt = ?
where message = ? and n = ?
"""

_BOUNCES = """
update recipient
set deadline = ?
where message = ? and n = ?
"""

_DERIVED_ATTEMPT = """
insert into attempt (message, n, no, offer, ended_at, event, accepted, stage)
select message, ?, no, offer, coalesce(ended_at, (select begun_at from offer o where o.id = offer)), event,
    accepted, stage
from attempt
where message = ? and n = ? and no = ?
"""

_NEXT_N = """
select max(n) + 1
from recipient
where message = ?
"""

_NUMBERS_USED = "select address, attempt from recipient where message = ?"

_RECIPIENTS = """
select n, address
from recipient
where message = ?
order by n
"""

_PARAMETERS = "select parameters from recipient where message = ? and n = ?"

_STILL_GOING = """
select address
from recipient
where message = ? and state not in ('cancelled', 'failed')
"""

_FIND_BODY = """
select size, digest, body_file, body_kept, octets
from message
left join body on body.message = message.id
where id = ?
"""

_FIND_MESSAGE = """
select received_at, sender, parameters, message_id, intake, peer, helo, protocol, size, digest, body_file
from message
where id = ?
"""

_LAST_ID = "select coalesce(max(id), 0) from message"


def last_id(connection: sqlite3.Connection) -> int:
    """The newest message's id, 0 in an empty journal."""
    (last,) = connection.execute(_LAST_ID).fetchone()
    return int(last)


def record(connection: sqlite3.Connection, message: int, arrival: Arrival) -> int:
    """The message with this id stands in the journal with all its recipients; returns the id."""
    body, at = arrival.body, arrival.received_at
    message_id = clean(arrival.message_id)
    names = (clean(arrival.sender), words(arrival.parameters), clean(arrival.subject))
    way = (arrival.intake, arrival.peer, clean(arrival.helo), arrival.protocol)
    key = message_key(message_id)
    connection.execute(
        _MESSAGE, (message, at, day_of(at), key, message_id, *names, *way, body.size, body.digest, body.file)
    )
    if body.octets is not None:
        connection.execute(_BODY, (message, body.octets))
    for n, recipient in enumerate(arrival.recipients):
        _insert(connection, message, n, recipient, at)
        if recipient.state is not State.JOURNALED:
            _taken_elsewhere(connection, message, n, recipient, at, arrival.intake)
    if arrival.tells:
        notices.forget(connection, list(arrival.tells), at, f"told by {id_text(message)}")
    return message


def _insert(
    connection: sqlite3.Connection,
    message: int,
    n: int,
    recipient: ArrivingRecipient,
    at: Ms,
    attempt: int | None = None,
) -> None:
    if attempt is None:
        attempt = 0 if recipient.state is State.JOURNALED else 1
    where = (recipient.destination, recipient.route, recipient.state)
    times = (recipient.holder, recipient.deadline, recipient.due_at)
    origin = (recipient.derived_from, recipient.again_of)
    parameters = words(recipient.parameters)
    connection.execute(
        _RECIPIENT,
        (message, n, clean(recipient.address), parameters, *where, at, *times, attempt, *origin),
    )


def _taken_elsewhere(
    connection: sqlite3.Connection, message: int, n: int, recipient: ArrivingRecipient, at: Ms, intake: str
) -> None:
    """Attempt 1 is somebody else's: an intake saw them take it."""
    offer = connection.execute(_ELSEWHERE_OFFER, (message, recipient.route, at, at, at, day_of(at))).lastrowid
    connection.execute(_ATTEMPT_TAKEN, (message, n, 1, offer, at, Event.TAKEN_ELSEWHERE))
    born = moves.Row(State.JOURNALED, None, 1, at, None, None, None, recipient.holder, None, None, 0, None, 0)
    moves.tell(
        connection, message, n, at, Event.TAKEN_ELSEWHERE, born, recipient.state, f"seen by intake {intake}"
    )


def add_recipient(
    connection: sqlite3.Connection, message: int, recipient: ArrivingRecipient, at: Ms, why: str
) -> int:
    """One more recipient of a message that is there (a redirect, or the same one again); returns its n.

    Its attempts go on from the numbers that its address had: so `<journal id>.<n>` and an address name one
    attempt, however many rows the address has.
    """
    (n,) = connection.execute(_NEXT_N, (message,)).fetchone()
    if n is None:
        raise JournalError("there is no such message")
    wanted = address_key(recipient.address)
    used = connection.execute(_NUMBERS_USED, (message,)).fetchall()
    last = max((number for address, number in used if address_key(address) == wanted), default=0)
    _insert(connection, message, n, recipient, at, last)
    event = "derived" if recipient.derived_from is not None and recipient.again_of is None else "added"
    row = moves.find(connection, message, n)
    assert row is not None
    moves.tell(connection, message, n, at, event, row, row.state, why)
    return int(n)


def redirect(connection: sqlite3.Connection, move: Move, to: ArrivingRecipient) -> Moved | Stale:
    """The recipient is cancelled and `to` stands beside it, in one transaction: never both, never none.

    Its RCPT parameters go along: ORCPT is kept when an address is changed on the way (RFC 3461). Where
    the message goes to that address already, nobody is added. The caller saw that the bytes are still kept.
    """
    done = moves.apply(connection, move)
    if isinstance(done, Stale) or done.from_ is done.to:
        return done
    wanted = address_key(to.address)
    open_now = connection.execute(_STILL_GOING, (move.message,)).fetchall()
    if not any(address_key(address) == wanted for (address,) in open_now):
        (parameters,) = connection.execute(_PARAMETERS, (move.message, move.n)).fetchone()
        added = replace(to, parameters=read_words(parameters), again_of=move.n)
        add_recipient(
            connection, move.message, added, move.at, f"redirected from recipient {move.n}: {move.why}"
        )
    return done


def derive(
    connection: sqlite3.Connection, group: RecipientKey, no: int | None, recipient: ArrivingRecipient, at: Ms
) -> int | None:
    """A group's member becomes a recipient, once per message and address; None when it is one already.

    It is in the hands of whoever has the group's mail, by the same attempt: so that evidence about it finds
    its way. Cancelled when the group was.
    """
    wanted = address_key(recipient.address)
    for _, address in recipients_of(connection, group.message):
        if address_key(address) == wanted:
            return None
    parent = moves.find(connection, group.message, group.n)
    if parent is None:
        raise JournalError("there is no such group")
    n = add_recipient(connection, group.message, recipient, at, f"a member of recipient {group.n}")
    state = State.CANCELLED if parent.state is State.CANCELLED else State.ACCEPTED
    ours = parent.holder == Holder.US
    holder = Holder.FAR if ours else Holder(parent.holder)
    if no is not None:
        connection.execute(_DERIVED_ATTEMPT, (n, group.message, group.n, no))
    connection.execute(_DERIVED, (state, holder, None, no or 0, group.message, n))
    if state is State.ACCEPTED:  # the expansion took the group's own deadline with it
        until = None if ours else parent.deadline
        until = moves.far_deadline(connection, group.message, n) if until is None else until
        connection.execute(_BOUNCES, (until, group.message, n))
    return n


def recipients_of(connection: sqlite3.Connection, message: int) -> list[tuple[int, str]]:
    """Number and address of each recipient, derived ones too."""
    return [(n, address) for n, address in connection.execute(_RECIPIENTS, (message,))]


def body(connection: sqlite3.Connection, message: int) -> Body:
    """The message's bytes or the name of their file. Raises JournalError when they are gone or never were."""
    found = connection.execute(_FIND_BODY, (message,)).fetchone()
    if found is None:
        raise JournalError("there is no such message")
    size, digest, file, kept, octets = found
    if not kept:
        raise JournalError("the message's body was pruned")
    return Body(size, digest, octets, file)


def message(connection: sqlite3.Connection, identity: int) -> DueMessage | None:
    """The message as it is handed out, without its recipients and bytes; None when there is none."""
    found = connection.execute(_FIND_MESSAGE, (identity,)).fetchone()
    return None if found is None else message_of(identity, found)


def message_of(identity: int, found: tuple[object, ...]) -> DueMessage:
    """The columns received_at, sender, parameters, message_id, intake, peer, helo, protocol, size, digest,
    body_file as a message without recipients; its body without octets."""
    received_at, sender, parameters, message_id, intake, peer, helo, protocol, size, digest, file = found
    return DueMessage(
        message=identity,
        received_at=received_at,  # type: ignore[arg-type]
        sender=str(sender),
        parameters=read_words(str(parameters)),
        message_id=str(message_id),
        intake=str(intake),
        peer=str(peer),
        helo=str(helo),
        protocol=str(protocol),
        body=Body(size, digest, None, file),  # type: ignore[arg-type]
        recipients=(),
    )


_HEADER_LIMIT = 64 * 1024


def header(connection: sqlite3.Connection, identity: int, bodies: Path) -> bytes:
    """The message's header block, without the empty line; b"" when its body is gone. At most 64 KiB."""
    found = connection.execute(_FIND_BODY, (identity,)).fetchone()
    if found is None or not found[3]:
        return b""
    if found[2] is None:
        head = bytes(found[4][:_HEADER_LIMIT])
    else:
        try:
            with (bodies / found[2]).open("rb") as file:
                head = file.read(_HEADER_LIMIT)
        except OSError:
            return b""
    return head.partition(b"\r\n\r\n")[0] + b"\r\n"
