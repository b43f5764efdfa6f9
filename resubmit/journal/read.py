"""Reading the journal for commands and pages: read-only, beside a running service or without one.

Promises: a connection made here can't write and can't checkpoint; every figure is at the caller's `now`;
nothing heavy is imported (`list` has to start in milliseconds). The values are in readers/answers.py.

Raises JournalUnreadable for a journal that is missing, damaged, newer than this program or not ours to read.
"""

from __future__ import annotations

from resubmit.journal.readers.answers import (
    AuditView,
    DestinationView,
    FalseNdr,
    Figures,
    GateView,
    Group,
    IncidentView,
    JobView,
    MessageView,
    Overview,
    RecipientView,
    Replayable,
    Size,
    Step,
    UnreadableView,
)
from resubmit.journal.readers.envelopes import EnvelopeView, envelope
from resubmit.journal.readers.figures import metrics
from resubmit.journal.readers.messages import (
    GROUPINGS,
    SORTS,
    body,
    grouped,
    load_messages,
    message,
    message_ids,
    messages,
    recipients,
    recipients_of,
)
from resubmit.journal.readers.overview import (
    audit,
    destination_routes,
    false_ndrs,
    gates,
    incident,
    incidents,
    job,
    jobs,
    overview,
    size,
    unreadable,
)
from resubmit.journal.readers.reading import connect, reading, reply_text
from resubmit.journal.readers.replayable import replayable
from resubmit.journal.readers.soundness import backup, verify
from resubmit.journal.readers.timeline import timeline

__all__ = [
    "GROUPINGS",
    "SORTS",
    "AuditView",
    "DestinationView",
    "EnvelopeView",
    "FalseNdr",
    "Figures",
    "GateView",
    "Group",
    "IncidentView",
    "JobView",
    "MessageView",
    "Overview",
    "RecipientView",
    "Replayable",
    "Size",
    "Step",
    "UnreadableView",
    "audit",
    "backup",
    "body",
    "connect",
    "destination_routes",
    "envelope",
    "false_ndrs",
    "gates",
    "grouped",
    "incident",
    "incidents",
    "job",
    "jobs",
    "load_messages",
    "message",
    "message_ids",
    "messages",
    "metrics",
    "overview",
    "reading",
    "recipients",
    "recipients_of",
    "replayable",
    "reply_text",
    "size",
    "timeline",
    "unreadable",
    "verify",
]
