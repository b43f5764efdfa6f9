"""The main story, many times over, in a simulated world: faults come from the seed, promises hold in each.

RESUBMIT_SEEDS says how many seeds are played; 7 when it is not set.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from resubmit.clock import SystemClock
from resubmit.journal import read
from resubmit.model.filter import Filter
from resubmit.model.recipient import SETTLED
from tests.helpers.world import World

SEEDS = range(int(os.environ.get("RESUBMIT_SEEDS", "7")))
EXPLAINED = {"accepted", "in_doubt", "retrying"}


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


def played(folder: Path, seed: int, *, base: int, cuts: float) -> World:
    folder.mkdir(exist_ok=True)
    return World(folder, seed, base, cuts, crashes=(0, 1, 2)[seed % 3]).play()


@pytest.mark.parametrize("seed", SEEDS)
def test_no_mail_is_lost_and_none_is_sent_again_once_it_is_known_delivered(tmp_path: Path, seed: int) -> None:
    world = played(tmp_path, seed, base=SystemClock().now(), cuts=0.3)
    assert len(world.sent) == 20
    assert world.crashed == world.crashes
    assert world.held_up, "the story has to have an incident"
    assert world.closed, "the incident has to end"
    with closing(read.connect(tmp_path / "journal")) as connection:
        every_250_is_journaled(world, connection)
        every_recipient_is_settled_or_explained(world, connection)
        nothing_went_out_after_its_delivery_was_known(connection)
    for mail in world.sent:
        for recipient in mail.recipients:
            assert world.mailboxes.count(recipient, mail.message_id) >= 1, (recipient, mail.message_id)
            for copy in world.mailboxes.of(recipient, mail.message_id):
                assert copy.data.endswith(mail.data)


def every_250_is_journaled(world: World, connection: sqlite3.Connection) -> None:
    views, _ = read.messages(connection, Filter(), world.ended_at, limit=0)
    for mail in world.sent:
        here = [view for view in views if view.message_id == mail.message_id]
        assert here, mail.message_id
        for view in here:
            assert b"".join(read.body(connection, world.folder / "journal", view.id)) == mail.data
            assert tuple(one.address for one in view.recipients) == mail.recipients


def every_recipient_is_settled_or_explained(world: World, connection: sqlite3.Connection) -> None:
    for one in read.recipients(connection, Filter(), world.ended_at):
        if one.state in SETTLED:
            assert one.state == "delivered", one
        else:
            assert one.state in EXPLAINED, one
            assert one.last_reply or one.cause, one


def nothing_went_out_after_its_delivery_was_known(connection: sqlite3.Connection) -> None:
    again = connection.execute(
        "select h.message, h.n, o.begun_at - h.at from history h"
        " join attempt a on a.message = h.message and a.n = h.n join offer o on o.id = a.offer"
        " where h.to_state = 'delivered' and h.from_state != 'delivered' and o.begun_at > h.at"
    ).fetchall()
    assert again == []


def test_the_same_seed_is_the_same_story(tmp_path: Path) -> None:
    """Without cuts: they count octets, and TLS signatures differ in length from run to run."""
    base = SystemClock().now()
    first, second = (played(tmp_path / name, 4, base=base, cuts=0.0) for name in ("one", "two"))
    assert first.crashed == 1
    arrivals = [
        [(copy.recipient, copy.message_id, copy.where) for copy in world.mailboxes.copies]
        for world in (first, second)
    ]
    assert len(arrivals[0]) >= 20
    assert arrivals[0] == arrivals[1]
