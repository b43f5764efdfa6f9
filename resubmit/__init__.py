"""resubmit: gets back the mail that Exchange Online leaves behind.

The rooms, in the order of the mail:

    intake    1  bytes in: a message is taken, and answered 250 only when it is on disk
    journal   2  memory: messages, recipients, attempts, evidence, gates, jobs; the only SQL
    handoff   3  to the next hop, by route, with the route's TLS level and never less
    evidence  4  what the world says happened, and whose it is
    probe     5  is TLS well again, as the connector would see it
    recovery  6  may it go again, and how fast

`model` holds the nouns, `meaning` what replies and codes mean. `flow` threads the rooms: it waits,
orders and writes. `app` builds the real things; `view`, `cli` and `web` show them; `lab` plays the world.
"""

from __future__ import annotations

__version__ = "0.1.0"
