"""What has to hold at the end of every story, whatever its plot."""

from __future__ import annotations

import sqlite3

from resubmit.journal import read
from resubmit.model.filter import Filter
from tests.helpers.cast import NOBODY, REACHED, STRANGER, TEAM
from tests.helpers.world import World

_OUTCOME = {NOBODY: "failed", STRANGER: "failed", TEAM: "expanded"}
"""How an address ends; the others are delivered."""


def nothing_is_lost(world: World, connection: sqlite3.Connection) -> None:
    """What was answered 250 is in the journal as it was, and in every mailbox it was for."""
    views, _ = read.messages(connection, Filter(), world.ended_at, limit=0)
    for mail in world.sent:
        here = [view for view in views if view.message_id == mail.message_id]
        assert here, mail.message_id
        for view in here:
            assert b"".join(read.body(connection, world.folder / "journal", view.id)) == mail.data
            envelope = tuple(one.address for one in view.recipients if one.derived_from is None)
            assert envelope == mail.recipients
        for mailbox in mailboxes_of(mail.recipients):
            copies = world.mailboxes.of(mailbox, mail.message_id)
            assert copies, (mailbox, mail.message_id)
            assert all(copy.data.endswith(mail.data) for copy in copies)
            if world.plot.is_calm:
                assert len(copies) == 1, (mailbox, mail.message_id)


def nobody_else_got_any(world: World) -> None:
    meant = {(mailbox, mail.message_id) for mail in world.sent for mailbox in mailboxes_of(mail.recipients)}
    assert {(copy.recipient, copy.message_id) for copy in world.mailboxes.copies} == meant


def mailboxes_of(recipients: tuple[str, ...]) -> set[str]:
    return {mailbox for recipient in recipients for mailbox in REACHED.get(recipient, ())}


def every_recipient_is_settled_as_it_really_went(world: World, connection: sqlite3.Connection) -> None:
    for one in read.recipients(connection, Filter(), world.ended_at):
        assert one.state == _OUTCOME.get(one.address, "delivered"), one


def nothing_went_out_after_its_delivery_was_known(connection: sqlite3.Connection) -> None:
    again = connection.execute(
        "select h.message, h.n, o.begun_at - h.at from history h"
        " join attempt a on a.message = h.message and a.n = h.n join offer o on o.id = a.offer"
        " where h.to_state = 'delivered' and h.from_state != 'delivered' and o.begun_at > h.at"
    ).fetchall()
    assert again == []


def every_incident_is_counted(connection: sqlite3.Connection) -> None:
    rows = connection.execute(
        "select i.id, c.stuck, c.recovered, c.failed, c.unproven, c.unknown from incident i"
        " join incident_count c on c.incident = i.id"
    ).fetchall()
    assert any(stuck for _, stuck, *_ in rows), "the story has to have an incident"
    for number, stuck, recovered, failed, unproven, unknown in rows:
        assert (unproven, unknown) == (0, 0), number
        assert recovered + failed == stuck, number


def it_did_not_spin(world: World, connection: sqlite3.Connection) -> None:
    """So few gate and history rows that nobody can have written the same thing over and over."""
    hours = (world.ended_at - world.clock.base) / 3_600_000
    (turns,) = connection.execute("select sum(version) from gate").fetchone()
    assert turns < 200 * hours + 100, turns
