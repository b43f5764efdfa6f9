"""The closed list of log lines: every event the service can log, by name.

`step.past_tense`; `info` means a state changed, `warning` that a person may look, `error` that a person
must. A line never holds a body, a subject or a secret. docs/logbook.md is drawn from this file.
"""

from __future__ import annotations

# service
SERVICE_STARTED = "service.started"
"""The service takes mail; with the SQLite and package versions and the addresses."""
SERVICE_STOPPING = "service.stopping"
"""A signal or a fatal error asked the service to stop."""
SERVICE_STOPPED = "service.stopped"
"""Everything is written and closed."""
SERVICE_FAILED = "service.failed"
"""A loop ended with an error nobody expected; the service stops so that nothing is lost quietly."""
CONFIG_WARNED = "config.warned"
"""A table of the config is valid, and its feature is not there yet."""
SQLITE_UNSOUND = "sqlite.unsound"
"""This SQLite has the WAL-reset bug; see docs/configuration.md."""

# certificates
CERTIFICATE_NEARS_END = "certificate.nears_end"
"""A certificate on the way (or our own) ends in 30, 14, 7 or 1 day, said once each; with its end."""
CERTIFICATE_RENEWED = "certificate.renewed"
"""An address serves another certificate than at the last look, one it has not served before."""
CERTIFICATE_WENT_BACK = "certificate.went_back"
"""An address serves an older certificate again: a node behind it still has it, or the server went back."""

# requests
REQUEST_FAILED = "request.failed"
"""A command's request met an error nobody expected; the service goes on."""
REQUEST_CARRIED_OUT = "request.carried_out"
"""A person's request changed something; it is in the audit too."""

# journal
JOURNAL_OPENED = "journal.opened"
"""The journal is open for writing; with its SQLite, schema version and the orphaned files swept."""
JOURNAL_CHECKPOINT_FAILED = "journal.checkpoint_failed"
"""The write-ahead log could not be folded into the database; it is tried again, the log grows meanwhile."""
JOURNAL_DISK_FAILED = "journal.disk_failed"
"""A write or sync failed below SQLite; what the disk holds is not known, so the service stops."""
JOURNAL_RESERVE_GIVEN_UP = "journal.reserve_given_up"
"""The disk is full; the preallocated reserve was given up so that outcomes can still be written."""
JOURNAL_IMPOSSIBLE = "journal.impossible_event"
"""An event met a state in which it cannot happen: a bug; nothing was moved."""

# handoff
HANDOFF_ADDRESS_FAILED = "handoff.address_failed"
"""One address of a route's host gave no session; with what happened. Others may."""
HANDOFF_CONNECTED = "handoff.connected"
"""A new session with a next hop; with version and cipher, empty in clear."""
HANDOFF_IN_CLEAR = "handoff.went_in_clear"
"""TLS failed on a route with level opportunistic, so this session is in clear; with what failed."""

# intake
INTAKE_CERTIFICATE_LOADED = "intake.certificate_loaded"
"""The listener's certificate files changed and are in use from now on."""
INTAKE_CERTIFICATE_UNREADABLE = "intake.certificate_unreadable"
"""The listener's certificate files changed and can't be used; the certificate from before still is."""
INTAKE_CLIENT_REFUSED = "intake.client_refused"
"""A client was turned away at the greeting: outside the allowed networks, or too many connections."""
INTAKE_FAILED = "intake.failed"
"""A message could not be taken for a reason nobody expected; its client keeps it and was told 451."""
INTAKE_REFUSED = "intake.refused"
"""A sender, recipient or message was refused; with the reply's code."""
INTAKE_TLS_FAILED = "intake.tls_failed"
"""A client's TLS handshake failed; its connection is closed."""

# evidence
FOLDER_HINT_LOST = "folder.hint_lost"
"""A hint of a change in a folder reached nobody; the next rescan sees it."""
FOLDER_MISSING = "folder.missing"
"""A watched folder is not there; it is watched as soon as it is."""
FOLDER_UNWATCHED = "folder.unwatched"
"""The system gives no hints of changes in a folder; it is still looked at again and again."""
FOLDER_WATCHED = "folder.watched"
"""A folder is watched, for the first time or again."""

# flow
MAIL_JOURNALED = "mail.journaled"
"""A message is on disk with all its recipients; the client hears 250."""
ATTEMPT_ENDED = "attempt.ended"
"""An offer has its result for every recipient, and it is written."""
EVIDENCE_READ = "evidence.read"
"""A file of evidence was read to its end; with its counts."""
EVIDENCE_UNREADABLE = "evidence.unreadable"
"""An item, or a whole file, could not be read: it is set aside with its reason."""
PROBE_FINISHED = "probe.finished"
"""A destination or route was looked at; with the verdict and its findings."""
NOTICE_JOURNALED = "notice.journaled"
"""A DSN that a sender was owed is on its way."""
NOTICE_UNSENT = "notice.unsent"
"""A DSN that was owed can't be sent: no destination takes the sender's domain, or there is no sender."""
JOURNAL_PRUNED = "journal.pruned"
"""Messages went by retention."""

# recovery
CLOCK_DISTRUSTED = "clock.distrusted"
"""The wall clock jumped: nothing is resubmitted, given up or pruned until it has run evenly for a while."""
GATE_DOUBTED = "gate.doubted"
"""A gate is testing, or stays shut, for a reason that a person has to look at; nobody else can tell."""
GATE_TURNED = "gate.turned"
"""A gate is open, closed or testing now; with the reasons."""
INCIDENT_CLOSED = "incident.closed"
"""The last recipient of an incident is settled or explained; with its counts."""
INCIDENT_JOINED = "incident.joined"
"""Recipients were found to be caught in an incident."""
INCIDENT_OPENED = "incident.opened"
"""The first sign of a fault at a destination or route."""
JOB_ASKED = "job.asked"
"""Recovery asked for a job of its own: what an incident caught goes again."""
JOB_ENDED = "job.ended"
"""Every attempt of a job has its reply."""
JOB_RELEASED = "job.released"
"""Recipients of a job were made due; with the step and what the others wait for."""
RECIPIENT_MOVED_BY_TIME = "recipient.moved_by_time"
"""Time settled a recipient in doubt, gave up what we held too long, or its attempts are used up: see why."""
RECOVERY_ASKED = "recovery.asked"
"""Recovery can't decide and a person has to; with the question."""
RECOVERY_RESTLESS = "recovery.restless"
"""The rules order something new for a gate each time they are asked: a fault of ours; it is slowed down."""
